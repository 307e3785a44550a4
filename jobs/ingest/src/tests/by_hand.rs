//! Every guarantee of the commit protocol, with batches made by hand.

use futures::TryStreamExt;
use tidemill_lake::TableId;
use tidemill_lake::metadata::{Act, CommitNote, IngestNote, PartitionBooks};
use tidemill_project::{Offset, SourceName, TopicPartition};
use tokio_util::sync::CancellationToken;

use super::support::{MIDNIGHT_S, Process, assert_closed, contract, event, keys, later_column, memory_lake, settings};
use crate::commit::Verdict;
use crate::quarantine::{Filter, Replay, ReplayOutcome, list, replay, show};
use crate::reconcile::reconcile;

fn p(number: i32) -> TopicPartition {
    TopicPartition::new("events", number)
}

async fn newest_note(lake: &tidemill_lake::Lake) -> IngestNote {
    let table = lake.open(&TableId::Raw(SourceName::new("shop", "events"))).await.unwrap().unwrap();
    let (_, note) = table.last_note(|note| matches!(note.act, Act::Ingest(_))).await.unwrap().unwrap();
    let Act::Ingest(note) = note.act else { unreachable!("the filter lets nothing else through") };
    note
}

#[tokio::test]
async fn copies_are_dropped_wherever_they_come_from() {
    for budget in [64 << 20, 0] {
        let lake = memory_lake();
        let (a, b, c) = (event("a", 1), event("b", 2), event("c", 3));
        let mut process = Process::with_budget(&lake, &contract(), budget).await;
        let more = TopicPartition::new("more", 3);
        for partition in [&p(0), &p(1), &more] {
            process.take(partition).await;
        }
        // Inside a batch, across partitions and topics.
        process.land(&[(&p(0), 0, Some(&a)), (&p(0), 1, Some(&a)), (&p(1), 0, Some(&a)), (&more, 0, Some(&a))]).await;
        // Across batches.
        process.land(&[(&p(0), 2, Some(&b)), (&p(0), 3, Some(&a))]).await;
        // Across restarts.
        let mut process = Process::with_budget(&lake, &contract(), budget).await;
        assert_eq!(process.take(&p(0)).await, 4);
        process.land(&[(&p(0), 4, Some(&b)), (&p(0), 5, Some(&c))]).await;

        assert_eq!(keys(&lake).await, ["a", "b", "c"]);
        let proof = assert_closed(&lake).await;
        assert_eq!((proof.landed(), proof.partitions.iter().map(|of| of.duplicates).sum::<u64>()), (3, 5));
    }
}

/// GZ1 with the contract as it is shipped: a mixed topic and a topic of its own, one event.
#[tokio::test]
async fn gz1_duplicate_mixed_and_separate_topics() {
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dbt-like-models");
    let vars = tidemill_project::contract::Vars::load(&models, &std::collections::BTreeMap::new()).unwrap();
    let contracts = tidemill_project::contract::load_dir(&models, &vars).unwrap();
    let zoner = contracts.get(&SourceName::new("zoner", "user_activity")).unwrap();
    let lake = memory_lake();
    let mut process = Process::start(&lake, zoner).await;
    let (mixed, own) = (TopicPartition::new("user_activity", 0), TopicPartition::new("sleep", 3));
    process.take_at(&mixed, None, Offset(10), Offset(10), false);
    process.take_at(&own, None, Offset(7), Offset(7), false);
    let sent = r#"{"user_id":123,"activity":"sleep","timestamp":1741478400.5}"#;
    let bare = r#"{"user_id":123,"timestamp":1741478400.5}"#;
    process.land(&[(&mixed, 10, Some(sent)), (&mixed, 11, Some(sent)), (&own, 7, Some(bare))]).await;

    let table = lake.open(&TableId::Raw(zoner.name.clone())).await.unwrap().unwrap();
    let columns = ["activity", "_key"].map(str::to_owned).to_vec();
    let rows: Vec<_> = table.read_files(table.files(), Some(columns)).try_collect().await.unwrap();
    let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
    insta::assert_snapshot!(text, @r"
    +----------+----------------------------------+
    | activity | _key                             |
    +----------+----------------------------------+
    | sleep    | 30584ef560fbe32a840d728b09cee6f1 |
    +----------+----------------------------------+
    ");
    let proof = reconcile(&lake, &zoner.name, true).await.unwrap();
    assert_eq!(proof.faults, Vec::<String>::new());
    assert_eq!(proof.partitions.iter().map(|of| of.duplicates).collect::<Vec<_>>(), [1, 1]);
}

/// X8: the same key on another day is another row, for the unique test to find.
#[tokio::test]
async fn a_key_that_comes_back_with_another_day_lands_twice() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    let (today, yesterday) = (event("a", 1), event("a", -1));
    process.land(&[(&p(0), 0, Some(&today)), (&p(0), 1, Some(&yesterday))]).await;
    assert_eq!(keys(&lake).await, ["a", "a"]);
}

#[tokio::test]
async fn a_batch_of_nothing_but_bad_records_advances() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    process.land(&[(&p(0), 0, Some("{")), (&p(0), 1, Some("")), (&p(0), 2, Some(r#"{"id":"a"}"#))]).await;

    let entries = list(&lake, &Filter::default()).await.unwrap();
    let facts: Vec<_> = entries.iter().map(|of| (of.entry.place.id(), of.entry.class.as_str())).collect();
    let expected = [("events/0/0", "malformed"), ("events/0/1", "empty_value"), ("events/0/2", "missing_field")];
    assert_eq!(facts, expected.map(|(id, class)| (id.to_owned(), class)));
    assert_eq!(entries[0].entry.payload.as_deref(), Some(&b"{"[..]));
    assert_eq!(entries[0].entry.key.as_deref(), Some(&b"k"[..]));

    let mut process = Process::start(&lake, &contract()).await;
    assert_eq!(process.take(&p(0)).await, 3);
    assert_closed(&lake).await;
}

/// GX6: 13 offsets with markers at 103, 107 and 112, a null value at 105, two copies and one malformed record.
#[tokio::test]
async fn gx6_offsets_without_a_record_are_accounted_for() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take_at(&p(0), None, Offset(100), Offset(100), false);
    let (first, second, third, fourth, fifth, sixth) =
        (event("a", 1), event("b", 2), event("c", 3), event("d", 4), event("e", 5), event("f", 6));
    let records = [
        (100, Some(first.as_str())),
        (101, Some(&second)),
        (102, Some(&first)),
        (104, Some(&third)),
        (105, None),
        (106, Some(&fourth)),
        (108, Some("malformed")),
        (109, Some(&second)),
        (110, Some(&fifth)),
        (111, Some(&sixth)),
    ]
    .map(|(offset, value)| (p(0), offset, value));
    let records: Vec<_> = records.iter().map(|(of, offset, value)| (of, *offset, *value)).collect();
    let batch = process.batch_up_to(&records, &[(&p(0), 113)]);
    process.commit(batch).await;

    let note = newest_note(&lake).await;
    let books = &note.partitions[0];
    assert_eq!((books.from, books.to), (100, 113));
    let outcomes = (books.landed, books.duplicates, books.quarantined, books.tombstones, books.skipped);
    assert_eq!(outcomes, (6, 2, 1, 1, 3));
    assert_closed(&lake).await;
}

#[tokio::test]
async fn the_loser_of_a_race_drops_what_the_winner_landed() {
    for budget in [64 << 20, 0] {
        let lake = memory_lake();
        let (mut one, mut two) = (
            Process::with_budget(&lake, &contract(), budget).await,
            Process::with_budget(&lake, &contract(), budget).await,
        );
        one.take(&p(0)).await;
        two.take(&p(1)).await;
        let (a, b, c) = (event("a", 1), event("b", 2), event("c", 3));
        // Both have resident fingerprints of the day before they race.
        one.land(&[(&p(0), 0, Some(&c))]).await;
        two.land(&[(&p(1), 0, Some(&c))]).await;
        let of_one = one.batch(&[(&p(0), 1, Some(&a)), (&p(0), 2, Some(&b))]);
        let of_two = two.batch(&[(&p(1), 1, Some(&a)), (&p(1), 2, Some(&event("d", 4)))]);
        assert_eq!(one.commit(of_one).await.verdicts, [Verdict::Landed]);
        assert_eq!(two.commit(of_two).await.verdicts, [Verdict::Landed]);
        assert_eq!(keys(&lake).await, ["a", "b", "c", "d"]);
        let proof = assert_closed(&lake).await;
        assert_eq!(proof.partitions.iter().map(|of| of.duplicates).collect::<Vec<_>>(), [0, 2]);
    }
}

#[tokio::test]
async fn a_batch_of_a_partition_that_was_taken_over_is_thrown_away() {
    let lake = memory_lake();
    let (mut owner, mut zombie) = (Process::start(&lake, &contract()).await, Process::start(&lake, &contract()).await);
    for process in [&mut owner, &mut zombie] {
        process.take(&p(0)).await;
    }
    zombie.take(&p(1)).await;
    let (a, b, c) = (event("a", 1), event("b", 2), event("c", 3));
    let first = zombie.batch(&[(&p(0), 0, Some(&a)), (&p(0), 1, Some("bad")), (&p(1), 0, Some(&b))]);
    let second = zombie.batch(&[(&p(0), 2, Some(&c))]);
    owner.land(&[(&p(0), 0, Some(&a)), (&p(0), 1, Some("bad")), (&p(0), 2, Some(&c)), (&p(0), 3, None)]).await;

    // Of the first batch only the partition that is still its own lands; the second one is not even asked about.
    let verdicts = zombie.commit(first).await.verdicts;
    assert!(matches!(&verdicts[0], Verdict::TakenOver { base: Some(4), .. }), "{verdicts:?}");
    assert_eq!(verdicts[1], Verdict::Landed);
    assert_eq!(zombie.commit(second).await.verdicts, [Verdict::Stale]);

    // Told to read on from where the lake stands, the former zombie is as good as any.
    assert_eq!(zombie.take(&p(0)).await, 4);
    zombie.land(&[(&p(0), 4, Some(&event("d", 4)))]).await;
    assert_eq!(keys(&lake).await, ["a", "b", "c", "d"]);
    assert_eq!(assert_closed(&lake).await.quarantined(), 1);
}

#[tokio::test]
async fn a_copy_whose_first_was_thrown_away_lands_itself() {
    let lake = memory_lake();
    let (mut owner, mut other) = (Process::start(&lake, &contract()).await, Process::start(&lake, &contract()).await);
    owner.take(&p(0)).await;
    other.take(&p(0)).await;
    other.take(&p(1)).await;
    let (a, b) = (event("a", 1), event("b", 2));
    let batch = other.batch(&[(&p(0), 0, Some(&a)), (&p(1), 0, Some(&a))]);
    owner.land(&[(&p(0), 0, Some(&b))]).await;
    other.commit(batch).await;
    assert_eq!(keys(&lake).await, ["a", "b"]);
    assert_closed(&lake).await;
}

#[tokio::test]
async fn a_crash_between_the_two_commits_neither_loses_nor_doubles_an_entry() {
    let lake = memory_lake();
    let mut killed = Process::start(&lake, &contract()).await;
    killed.take(&p(0)).await;
    let (a, b) = (event("a", 1), event("b", 2));
    let batch = killed.batch(&[(&p(0), 0, Some("bad")), (&p(0), 1, Some(&a)), (&p(0), 2, Some("worse"))]);
    killed.committer.commit_quarantine_only(&batch).await.unwrap();
    drop(killed);

    // The next run cuts its batches differently.
    let mut next = Process::start(&lake, &contract()).await;
    assert_eq!(next.take(&p(0)).await, 0);
    next.land(&[(&p(0), 0, Some("bad"))]).await;
    next.land(&[(&p(0), 1, Some(&a)), (&p(0), 2, Some("worse")), (&p(0), 3, Some(&b)), (&p(0), 4, Some("worst"))])
        .await;
    let payloads: Vec<_> = list(&lake, &Filter::default()).await.unwrap();
    let payloads: Vec<_> = payloads.iter().map(|of| of.entry.payload.clone().unwrap()).collect();
    assert_eq!(payloads, ["bad", "worse", "worst"]);
    assert_eq!(keys(&lake).await, ["a", "b"]);
    assert_closed(&lake).await;
}

#[tokio::test]
async fn a_skipped_gap_is_in_the_books() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    process.land(&[(&p(0), 0, Some(&event("a", 1)))]).await;
    process.take_at(&p(0), Some(Offset(1)), Offset(1), Offset(7), false);
    process.land(&[(&p(0), 7, Some(&event("b", 2)))]).await;
    let books = newest_note(&lake).await.partitions.remove(0);
    assert_eq!((books.from, books.to, books.landed, books.skipped, books.gap), (1, 8, 1, 6, 6));
    assert_closed(&lake).await;
}

#[tokio::test]
async fn a_topic_that_was_created_anew_is_read_from_its_start() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take_at(&p(0), None, Offset(1_000), Offset(1_000), false);
    process.land(&[(&p(0), 1_000, Some(&event("a", 1))), (&p(0), 1_001, Some("bad"))]).await;
    process.take_at(&p(0), Some(Offset(1_002)), Offset(0), Offset(0), true);
    process.land(&[(&p(0), 0, Some(&event("a", 1))), (&p(0), 1, Some(&event("b", 2))), (&p(0), 2, Some("bad"))]).await;
    process.land(&[(&p(0), 3, Some("bad"))]).await;
    let note = newest_note(&lake).await;
    assert_eq!((note.totals[0].to, note.totals[0].offsets), (4, 6));
    assert_eq!(keys(&lake).await, ["a", "b"]);
    assert_eq!(assert_closed(&lake).await.quarantined(), 3);
}

#[tokio::test]
async fn the_watermark_is_in_every_commit_and_moves_by_itself() {
    let lake = memory_lake();
    let now_us = lake.clock().now_us();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    process.take(&p(1)).await;
    process.land(&[(&p(0), 0, Some(&event("a", 50)))]).await;
    assert_eq!(newest_note(&lake).await.watermark_us, None, "p1 was never seen");
    process.land(&[(&p(1), 0, Some(&event("b", 180)))]).await;
    assert_eq!(newest_note(&lake).await.watermark_us, Some((MIDNIGHT_S + 50) * 1_000_000));

    // Drained: W is the clock at which that was seen, in a commit without rows.
    let mut batch = process.batch(&[(&p(1), 1, Some(&event("b", 180)))]);
    batch.drained = vec![process.drained(&p(0), 1, now_us - 5_000_000), process.drained(&p(1), 2, now_us - 1_000_000)];
    process.commit(batch).await;
    assert_eq!(newest_note(&lake).await.watermark_us, Some(now_us - 5_000_000));

    // Nothing new: nothing is written, and the next process carries on with what it finds.
    let mut process = Process::start(&lake, &contract()).await;
    let version = process.committer.table().version();
    process.committer.commit_watermark(true).await.unwrap();
    assert_eq!(process.committer.table().version(), version);
}

#[tokio::test]
async fn a_drain_without_records_records_the_watermark() {
    let lake = memory_lake();
    let now_us = lake.clock().now_us();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    let at_s = now_us / 1_000_000 - MIDNIGHT_S - 3_600;
    let mut batch = process.batch(&[(&p(0), 0, None)]);
    batch.drained.clear();
    process.commit(batch).await;
    let recent = format!(r#"{{"id":"a","at":{}}}"#, MIDNIGHT_S + at_s);
    // Event times up to a day ahead of the record's timestamp are plausible, so this lands as a file would.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recent.jsonl");
    std::fs::write(&path, recent).unwrap();
    let report = crate::ingest_files(
        &settings(None, ""),
        &lake,
        &contract(),
        vec![path],
        "files".to_owned(),
        std::sync::Arc::new(crate::NoObserver),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!(report.landed(), 1);

    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    let version = process.committer.table().version();
    let mut batch = process.batch(&[]);
    batch.drained = vec![process.drained(&p(0), 1, now_us - 2_000_000)];
    process.commit(batch).await;
    assert_eq!(process.committer.table().version(), version, "no record, no commit");
    process.committer.commit_watermark(true).await.unwrap();
    assert_eq!(process.committer.table().version(), version.next());
    assert_eq!(newest_note(&lake).await.watermark_us, Some(now_us - 2_000_000));
    process.committer.commit_watermark(true).await.unwrap();
    assert_eq!(process.committer.table().version(), version.next(), "W has not moved by a second");
}

#[tokio::test]
async fn books_that_do_not_balance_are_found() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    process.land(&[(&p(0), 0, Some(&event("a", 1)))]).await;

    let mut table = lake.open(&TableId::Raw(SourceName::new("shop", "events"))).await.unwrap().unwrap();
    let forged = PartitionBooks { topic: "events".into(), from: 2, to: 5, landed: 2, ..PartitionBooks::default() };
    let note = IngestNote { partitions: vec![forged], ..newest_note(&lake).await };
    let request = tidemill_lake::CommitRequest {
        add: Vec::new(),
        remove: Vec::new(),
        txns: [("kafka/shop.events/events/0".to_owned(), 5)].into(),
        operation: "WRITE",
        data_change: true,
        note: CommitNote { commit_id: lake.clock().new_id(), run_id: "forger".into(), act: Act::Ingest(note) },
    };
    table.commit(request).await.unwrap();
    let proof = reconcile(&lake, &SourceName::new("shop", "events"), false).await.unwrap();
    assert_eq!(
        proof.faults,
        [
            "span does not balance, partition=`events/0`, from=`2`, to=`5`, version=`v2`",
            "span does not follow the one before, partition=`events/0`, from=`2`, expected=`1`, version=`v2`",
            "running sums do not add up, partition=`events/0`, version=`v2`",
            "progress does not stand where the books end, partition=`events/0`, txn=`5`, to=`1`",
        ]
    );
    let error = proof.ensure_closed().unwrap_err();
    assert_eq!(tidemill_project::Diagnostic::kind(&error), tidemill_project::ErrorKind::Rejected);
}

#[tokio::test]
async fn entries_are_replayed_by_todays_contract() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    let no_time = r#"{"id":"a"}"#;
    process.land(&[(&p(0), 0, Some(no_time)), (&p(0), 1, Some("{")), (&p(0), 2, Some(&event("b", 1)))]).await;

    let settings = settings(None, "");
    let request =
        Replay { patch: Some(serde_json::json!({"at": MIDNIGHT_S})), run_id: "replay".to_owned(), ..Replay::default() };
    let cancel = CancellationToken::new();
    let dry = Replay { is_dry_run: true, ..request.clone() };
    let report = replay(&settings, &lake, &[contract()], &dry, &cancel).await.unwrap();
    assert_eq!(report.count(|outcome| *outcome == ReplayOutcome::Landed), 1);
    assert_eq!(keys(&lake).await, ["b"], "a dry run changes nothing");

    for expected in [ReplayOutcome::Landed, ReplayOutcome::Duplicate] {
        let one = Replay { filter: Filter { id: Some("events/0/0".into()), ..Filter::default() }, ..request.clone() };
        let report = replay(&settings, &lake, &[contract()], &one, &cancel).await.unwrap();
        assert_eq!(report.entries, [("events/0/0".to_owned(), expected)]);
    }
    assert_eq!(keys(&lake).await, ["a", "b"]);
    assert_eq!(show(&lake, "events/0/0").await.unwrap().replayed, Some(ReplayOutcome::Landed));

    let report = replay(&settings, &lake, &[contract()], &request, &cancel).await.unwrap();
    assert_eq!(report.entries.len(), 1, "what was replayed is left alone");
    assert!(matches!(&report.entries[0].1, ReplayOutcome::Refused { class, .. } if class == "malformed"));
    assert_eq!(list(&lake, &Filter { is_open: true, ..Filter::default() }).await.unwrap().len(), 1);
    assert_closed(&lake).await;
}

#[tokio::test]
async fn a_contract_may_learn_columns() {
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    process.take(&p(0)).await;
    process.land(&[(&p(0), 0, Some(&event("a", 1)))]).await;
    let mut later = contract();
    later.columns.push(later_column());
    let mut process = Process::start(&lake, &later).await;
    assert_eq!(process.take(&p(0)).await, 1);
    process.land(&[(&p(0), 1, Some(&event("b", 1))), (&p(0), 2, Some(&event("a", 1)))]).await;
    assert_eq!(keys(&lake).await, ["a", "b"]);
    // A process that still runs by the old contract goes on.
    let mut process = Process::start(&lake, &contract()).await;
    assert_eq!(process.take(&p(0)).await, 3);
    process.land(&[(&p(0), 3, Some(&event("c", 1)))]).await;
    assert_closed(&lake).await;
}
