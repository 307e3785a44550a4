//! The rules of sending, and what is kept about it.

use std::sync::Mutex;

use serde_json::{Value, json};
use tidemill_lake::TableId;
use tidemill_project::Diagnostic as _;
use tidemill_publish::{ChangeCounts, Emit, Outcome, Publication, PublishObserver, Silent, Target};
use tokio_util::sync::CancellationToken;

use crate::rows::{messages, request_of};
use crate::world::{World, message, tombstone};

const COLUMNS: &str = "user_id TEXT, n BIGINT, window_end TS, is_final BOOLEAN";

fn publication(emit: Emit) -> Publication {
    let fields = ["user_id", "n"].map(|field| (field.to_owned(), field.to_owned()));
    Publication {
        columns: Some(fields.to_vec()),
        ..messages("counts", Target::Topic { topic: "counts".into() }, &["user_id"], emit, None)
    }
}

fn rows(all: &[(&str, u32, bool)]) -> Value {
    let rows = all.iter().map(|(user, n, is_final)| {
        json!({"user_id": user, "n": n, "window_end": "2025-03-09T12:00:00Z", "is_final": is_final})
    });
    Value::Array(rows.collect())
}

fn of(user: &str, n: u32) -> (String, Option<String>) {
    message(user, &format!(r#"{{"user_id":"{user}","n":{n}}}"#))
}

const OPEN: &str = "2025-03-09T11:00:00Z";
const CLOSED: &str = "2025-03-09T12:00:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_waits_until_it_is_final_and_is_sent_on_each_change_from_then_on() {
    let (world, counts) = (World::new(), publication(Emit::OnFinal));
    world.build("counts", COLUMNS, &rows(&[("a", 1, false), ("b", 1, true)]), CLOSED).await;
    assert_eq!(world.publish(&counts).await, [of("b", 1)]);
    world.build("counts", COLUMNS, &rows(&[("a", 2, false), ("b", 1, true)]), CLOSED).await;
    assert_eq!(world.publish(&counts).await, []);
    world.build("counts", COLUMNS, &rows(&[("a", 3, true), ("b", 2, true)]), CLOSED).await;
    assert_eq!(world.publish(&counts).await, [of("a", 3), of("b", 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_went_before_its_window_closed_was_never_there() {
    let (world, counts) = (World::new(), publication(Emit::OnClose));
    world.build("counts", COLUMNS, &rows(&[("a", 1, false), ("b", 1, false)]), OPEN).await;
    assert_eq!(world.publish(&counts).await, []);
    world.build("counts", COLUMNS, &rows(&[("b", 1, false)]), CLOSED).await;
    assert_eq!(world.publish(&counts).await, [of("b", 1)]);
    world.build("counts", COLUMNS, &rows(&[]), CLOSED).await;
    assert_eq!(world.publish(&counts).await, [tombstone("b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn w_never_goes_back_whatever_clock_a_build_was_given() {
    let (world, counts) = (World::new(), publication(Emit::OnClose));
    world.build("counts", COLUMNS, &rows(&[("a", 1, false)]), CLOSED).await;
    assert_eq!(world.publish(&counts).await, [of("a", 1)]);
    world.build("counts", COLUMNS, &rows(&[("a", 2, false)]), OPEN).await;
    assert_eq!(world.publish(&counts).await, [of("a", 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_note_the_ledger_tells_what_readers_have() {
    let (world, counts) = (World::new(), publication(Emit::OnChange));
    world.build("counts", COLUMNS, &rows(&[("a", 1, false)]), OPEN).await;
    assert_eq!(world.publish(&counts).await, [of("a", 1)]);
    world.models.lake.drop_table(&TableId::Ops("publications".into())).await.unwrap();
    assert_eq!(world.publish(&counts).await, [], "the ledger knows better");
    world.build("counts", COLUMNS, &rows(&[("a", 2, false)]), OPEN).await;
    world.models.lake.drop_table(&TableId::Ops("publications".into())).await.unwrap();
    assert_eq!(world.publish(&counts).await, [of("a", 2)]);
}

/// Dies at a step, as a process does: at that very instruction.
struct DiesAt(&'static str);

impl PublishObserver for DiesAt {
    fn step(&self, name: &str) {
        assert_ne!(name, self.0, "killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_died_before_it_sent_or_after_it_committed_leaves_nothing_to_repair() {
    for step in ["publish.kafka.after_init", "publish.kafka.after_begin", "publish.kafka.after_commit"] {
        let (world, counts) = (World::new(), publication(Emit::OnChange));
        world.build("counts", COLUMNS, &rows(&[("a", 1, false)]), OPEN).await;
        assert_eq!(world.publish(&counts).await, [of("a", 1)]);
        world.build("counts", COLUMNS, &rows(&[("a", 2, false), ("b", 1, false)]), OPEN).await;
        let (settings, lake, request) = (world.settings.clone(), world.models.lake.clone(), request_of(&counts));
        let process = tokio::spawn(async move {
            tidemill_publish::publish(&settings, &lake, request, &DiesAt(step), &CancellationToken::new()).await
        });
        let end = process.await;
        assert!(end.is_err_and(|error| error.is_panic()), "{step}");
        assert_eq!(world.publish(&counts).await, [of("a", 2), of("b", 1)], "{step}");
        assert_eq!(world.publish(&counts).await, [], "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_down_and_never_sent_is_sent() {
    // The table of sent rows is a version ahead of the ledger, as a kill between the two leaves it.
    let (world, counts) = (World::new(), publication(Emit::OnChange));
    world.build("counts", COLUMNS, &rows(&[("a", 1, false), ("gone", 1, false)]), OPEN).await;
    assert_eq!(world.publish(&counts).await.len(), 2);
    world.build("counts", COLUMNS, &rows(&[("a", 2, false)]), OPEN).await;
    let sent = world.models.lake.list().await.unwrap();
    let sent = sent.iter().find(|id| id.path().starts_with("ops/sent_kafka_counts")).unwrap();
    let before = world.models.lake.open(sent).await.unwrap().unwrap();
    let mut ahead = before.clone();
    let commit = tidemill_lake::CommitRequest {
        add: Vec::new(),
        remove: before.files(),
        txns: std::collections::BTreeMap::new(),
        operation: "MERGE",
        data_change: true,
        note: tidemill_lake::metadata::CommitNote {
            commit_id: world.models.lake.clock().new_id(),
            run_id: "killed".into(),
            act: tidemill_lake::metadata::Act::Publish(tidemill_lake::metadata::PublishNote::default()),
        },
    };
    ahead.commit(commit).await.unwrap();
    assert_eq!(world.publish(&counts).await, [of("a", 2), tombstone("gone")]);
    world.drop_model("counts").await;
    world.build("counts", COLUMNS, &rows(&[("a", 2, false), ("b", 1, false)]), OPEN).await;
    assert_eq!(world.publish(&counts).await, [of("b", 1)], "everything is compared with what was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_and_sends_nothing() {
    let (world, counts) = (World::new(), publication(Emit::OnChange));
    world.build("counts", COLUMNS, &rows(&[("a", 1, false), ("b", 1, false)]), OPEN).await;
    let mut request = request_of(&counts);
    request.dry_run = true;
    let planned = world.run(request, &Silent).await.unwrap();
    assert_eq!((planned.outcome, planned.counts), (Outcome::Planned, ChangeCounts { inserted: 2, updated: 0, deleted: 0 }));
    assert_eq!(world.publish(&counts).await.len(), 2, "nothing had been sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_a_broker_passes_over_topics_and_says_so() {
    let mut world = World::new();
    world.settings.kafka = None;
    world.build("counts", COLUMNS, &rows(&[("a", 1, false)]), OPEN).await;
    let table = world.run(request_of(&publication(Emit::OnChange)), &Silent).await.unwrap();
    assert_eq!((table.outcome, table.sink), (Outcome::NoSink, "kafka"));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_declaration_name_their_place() {
    let world = World::new();
    world.build("counts", COLUMNS, &rows(&[("a", 1, false)]), OPEN).await;
    let mut faults = Vec::new();
    let break_it: [fn(&mut Publication); 3] = [
        |publication| publication.filter = Some("nn > 1".into()),
        |publication| publication.messages.as_mut().unwrap().key = Some("{user}".into()),
        |publication| publication.messages.as_mut().unwrap().window_end = "closes_at".into(),
    ];
    for break_it in break_it {
        let mut broken = publication(Emit::OnClose);
        break_it(&mut broken);
        let error = world.run(request_of(&broken), &Silent).await.unwrap_err();
        faults.push(format!("{:?} {} {error}", error.kind(), error.location().is_some()));
    }
    insta::assert_snapshot!(faults.join("\n"), @r"
    Configuration true failed to read the condition `where`, model=`counts`, target=`counts`
    Configuration true publication names a column that the model does not have, model=`counts`, column=`user`
    Configuration true publication names a column that the model does not have, model=`counts`, column=`closes_at`
    ");
}

/// Hears the counts that are planned.
#[derive(Default)]
struct Plans(Mutex<Vec<u64>>);

impl PublishObserver for Plans {
    fn planned(&self, _model: &str, _target: &Target, counts: ChangeCounts) {
        self.0.lock().unwrap().push(counts.inserted + counts.updated + counts.deleted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_publishers_of_one_topic_send_each_change_once() {
    let (world, counts) = (World::new(), publication(Emit::OnChange));
    world.build("counts", COLUMNS, &rows(&[("a", 0, false)]), OPEN).await;
    world.publish(&counts).await;
    world.build("counts", COLUMNS, &rows(&[("a", 1, false)]), OPEN).await;
    let plans = Plans::default();
    world.run(request_of(&counts), &plans).await.unwrap();
    world.run(request_of(&counts), &plans).await.unwrap();
    assert_eq!((plans.0.lock().unwrap().as_slice(), world.seen("counts")), ([1].as_slice(), vec![of("a", 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_what_is_missing_and_what_differs() {
    let (world, counts) = (World::new(), publication(Emit::OnChange));
    let check = async || {
        let cancel = CancellationToken::new();
        let all = [counts.clone()];
        tidemill_publish::check(&world.settings, &world.models.lake, &all, &cancel).await.unwrap().remove(0)
    };
    world.build("counts", COLUMNS, &rows(&[("a", 1, false), ("b", 1, false)]), OPEN).await;
    let before = check().await;
    assert_eq!((before.model_rows, before.target_rows, before.missing), (2, 0, 2));
    world.publish(&counts).await;
    let after = check().await;
    assert!(after.is_equal(), "{after:?}");
    assert_eq!((after.model_rows, after.target_rows), (2, 2));
    world.build("counts", COLUMNS, &rows(&[("a", 5, false)]), OPEN).await;
    let behind = check().await;
    assert_eq!((behind.missing, behind.different, behind.extra), (0, 1, 1), "{behind:?}");
}
