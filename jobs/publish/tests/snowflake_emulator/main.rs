//! The loader against the emulator: real SQL, real transactions, real files; a proxy loses answers, a panic is a kill.
//!
//! Needs `TIDEMILL_TEST_FAKESNOW_PYTHON`; `./tests/run` sets it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod emulator;
mod invariants;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use serde_json::json;
use tidemill_project::clock::Clock;
use tidemill_project::{Diagnostic, ErrorKind};
use tidemill_publish::{ChangeCounts, Outcome};
use tokio_util::sync::CancellationToken;

use crate::emulator::{Cut, Emulator};
use crate::support::conformance;
use crate::world::{End, World};

fn counts(inserted: u64, updated: u64, deleted: u64) -> ChangeCounts {
    ChangeCounts { inserted, updated, deleted }
}

fn pairs(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(user, minutes)| ((*user).to_owned(), *minutes)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_publication_makes_everything_and_a_repeat_sends_nothing_at_all() {
    let world = World::new().await;
    world.build("nights", &["d1", "d2"], &[("d1", Some("a"), 1), ("d2", Some("b"), 2)]).await;
    let report = world.publish(&["nights"]).await;
    assert_eq!((report.tables[0].outcome, report.tables[0].counts), (Outcome::Published, counts(2, 0, 0)));
    assert_eq!(world.rows("nights"), pairs(&[("a", 1), ("b", 2)]));
    let ledger = world.ask("SELECT SEQ, RUN_ID, TO_VERSION, FILES, ROWS_STAGED, ROWS_INSERTED, ROWS_AFTER, MAX_SEQ_AFTER, WATERMARK FROM $DB.OPS.TIDEMILL_LEDGER");
    assert_eq!(json!(ledger), json!([[1, "run-1", 1, 1, 2, 2, 2, 1, "2023-11-14 22:13:20"]]));
    world.proxy.take_requests();
    let report = world.publish(&["nights"]).await;
    assert_eq!(report.tables[0].outcome, Outcome::UpToDate);
    assert_eq!((world.proxy.take_requests(), world.recorder.statements().len()), (0, 0), "not even a login");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_key_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    world.build("nights", &["d1"], &[("d1", None, 1)]).await;
    let End::Error(error) = world.run(world.request(&["nights"]), None).await else {
        panic!("a null key was published")
    };
    assert_eq!(
        error.to_string(),
        "a key column is null in a row to publish, model=`nights`, column=`user_id`, rows=`1`"
    );
    assert_eq!(world.proxy.take_requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tables_of_a_database_change_in_one_transaction() {
    let world = World::new().await;
    world.build("nights", &["d1"], &[("d1", Some("a"), 1)]).await;
    world.build("days", &["d1"], &[("d1", Some("b"), 2)]).await;
    let report = world.publish(&["nights", "days"]).await;
    assert_eq!(report.tables.iter().map(|table| table.model.as_str()).collect::<Vec<_>>(), ["nights", "days"]);
    assert_eq!((world.rows("nights"), world.rows("days")), (pairs(&[("a", 1)]), pairs(&[("b", 2)])));
    let commits = world.recorder.statements().iter().filter(|sql| *sql == "COMMIT").count();
    assert_eq!(commits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_behind_any_statement_the_next_run_makes_it_whole() {
    let world = World::new().await;
    for step in 0_u32.. {
        let (minutes, other) = (i64::from(step) + 10, i64::from(step) + 100);
        world.build("nights", &["d1"], &[("d1", Some("a"), minutes), ("d1", Some("b"), 1)]).await;
        world.build("days", &["d1"], &[("d1", Some(if step % 2 == 0 { "even" } else { "odd" }), other)]).await;
        let end = world.run(world.request(&["nights", "days"]), Some(step.into())).await;
        world.proxy.end_transactions().await;
        world.publish(&["nights", "days"]).await;
        assert_eq!(world.rows("nights"), pairs(&[("a", minutes), ("b", 1)]), "killed behind step {step}");
        let key = if step % 2 == 0 { "even" } else { "odd" };
        assert_eq!(world.rows("days"), pairs(&[(key, other)]), "killed behind step {step}");
        let expected: Vec<i64> = (1..=i64::from(step) + 1).collect();
        assert_eq!(
            (world.ledger("nights"), world.ledger("days")),
            (expected.clone(), expected),
            "killed behind step {step}"
        );
        if !matches!(end, End::Killed) {
            assert!(step > 20, "a cycle has more steps than {step}");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_commit_is_found_out() {
    for how in [Cut::Answer, Cut::Request] {
        let world = World::new().await;
        world.build("nights", &["d1"], &[("d1", Some("a"), 1)]).await;
        world.publish(&["nights"]).await;
        world.build("nights", &["d1"], &[("d1", Some("a"), 2), ("d1", Some("b"), 3)]).await;
        world.proxy.cut_next("COMMIT", how);
        let report = world.publish(&["nights"]).await;
        assert_eq!(report.tables[0].seq, Some(2), "{how:?}");
        assert_eq!(world.rows("nights"), pairs(&[("a", 2), ("b", 3)]), "{how:?}");
        assert_eq!(world.ledger("nights"), [1, 2], "{how:?}");
        let commits = world.recorder.statements().iter().filter(|sql| *sql == "COMMIT").count();
        assert_eq!(commits, if how == Cut::Answer { 1 } else { 2 }, "a commit that happened is not sent again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_any_other_statement_changes_nothing_in_the_end() {
    for sql in ["UPDATE", "CREATE TRANSIENT", "COPY", "BEGIN", "MERGE", "INSERT"] {
        let world = World::new().await;
        world.build("nights", &["d1"], &[("d1", Some("a"), 1)]).await;
        world.publish(&["nights"]).await;
        world.build("nights", &["d1"], &[("d1", Some("a"), 2)]).await;
        world.proxy.cut_next(sql, Cut::Request);
        world.publish(&["nights"]).await;
        assert_eq!(world.rows("nights"), pairs(&[("a", 2)]), "{sql}");
        assert_eq!(world.ledger("nights"), [1, 2], "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_gone_or_wrong_costs_a_question_and_no_row() {
    let world = World::new().await;
    world.build("nights", &["d1"], &[("d1", Some("a"), 1)]).await;
    world.publish(&["nights"]).await;
    world.models.lake.drop_table(&tidemill_lake::TableId::Ops("publications".into())).await.unwrap();
    world.publish(&["nights"]).await;
    assert_eq!((world.rows("nights"), world.ledger("nights")), (pairs(&[("a", 1)]), vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_somebody_edited_is_refused_and_full_repairs_it() {
    let world = World::new().await;
    world.build("nights", &["d1"], &[("d1", Some("a"), 1), ("d1", Some("b"), 2)]).await;
    world.publish(&["nights"]).await;
    world.ask("DELETE FROM $DB.MARTS.NIGHTS WHERE USER_ID = 'a'");
    world.ask("INSERT INTO $DB.MARTS.NIGHTS (USER_ID, MINUTES) VALUES ('alien', 1), ('alien2', 1)");
    world.build("nights", &["d1"], &[("d1", Some("a"), 1), ("d1", Some("b"), 3)]).await;
    let End::Error(error) = world.run(world.request(&["nights"]), None).await else {
        panic!("the edit was not noticed")
    };
    assert_eq!((error.kind(), error.code().map(|code| code.0)), (ErrorKind::Invalid, Some(504)));
    let checked = tidemill_publish::check(
        &world.settings,
        &world.models.lake,
        &[world.publication("nights")],
        &CancellationToken::new(),
    )
    .await
    .unwrap();
    assert_eq!((checked[0].missing, checked[0].extra, checked[0].different), (1, 2, 1), "{checked:?}");
    let mut full = world.request(&["nights"]);
    full.full = true;
    world.report(full).await;
    assert_eq!(world.rows("nights"), pairs(&[("a", 1), ("b", 3)]));
    let checked = tidemill_publish::check(
        &world.settings,
        &world.models.lake,
        &[world.publication("nights")],
        &CancellationToken::new(),
    )
    .await
    .unwrap();
    assert!(checked[0].is_equal(), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_was_dropped_goes_on_counting_where_the_ledger_ended() {
    let world = World::new().await;
    world.build("nights", &["d1"], &[("d1", Some("a"), 1)]).await;
    world.publish(&["nights"]).await;
    world.ask("DROP TABLE $DB.OPS.TIDEMILL_HEAD__MARTS__NIGHTS");
    world.build("nights", &["d1"], &[("d1", Some("a"), 2)]).await;
    world.publish(&["nights"]).await;
    assert_eq!((world.rows("nights"), world.ledger("nights")), (pairs(&[("a", 2)]), vec![1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_the_model_gained_is_added_to_the_target() {
    let world = World::new().await;
    world.build("nights", &["d1"], &[("d1", Some("a"), 1)]).await;
    let mut narrow = world.request(&["nights"]);
    narrow.publications[0].columns = Some(vec![("user_id".into(), "user_id".into())]);
    world.report(narrow).await;
    world.build("nights", &["d1"], &[("d1", Some("a"), 2)]).await;
    let mut full = world.request(&["nights"]);
    full.full = true;
    world.report(full).await;
    assert_eq!(world.rows("nights"), pairs(&[("a", 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_as_it_was() {
    let world = World::new().await;
    let us = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(StringArray::from(vec!["edge", "null"]))),
        ("int", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
        (
            "money",
            Arc::new(
                Decimal128Array::from(vec![Some(-1_234_567_890_123_456), None])
                    .with_precision_and_scale(18, 4)
                    .unwrap(),
            ),
        ),
        ("real", Arc::new(Float64Array::from(vec![Some(-0.5), None]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(-719_162), None]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(us("1969-12-31T23:59:59.999999Z")), None])
                    .with_timezone("UTC"),
            ),
        ),
        ("order", Arc::new(StringArray::from(vec![Some("quote ' \" \\ ? \u{1f600} \u{202e}"), None]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(b"\x00\xff".as_slice()), None]))),
        ("tags", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
        ("extra", Arc::new(StringArray::from(vec![Some(r#"{"a": {"b": [1, "x"]}}"#), None]))),
    ];
    world
        .models
        .build_batches(
            "types",
            vec![(
                "d1".to_owned(),
                RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
                    .unwrap(),
            )],
        )
        .await;
    let mut request = world.request(&["types"]);
    request.publications[0].json_columns = vec!["extra".into()];
    world.report(request).await;
    let row = world.ask(
        "SELECT \"INT\"::VARCHAR, MONEY::VARCHAR, \"REAL\", FLAG, DAY::VARCHAR, \
         TO_VARCHAR(\"AT\"::TIMESTAMP_NTZ, 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6'), \"ORDER\", HEX_ENCODE(BYTES), TAGS[0]::VARCHAR, EXTRA:a.b[1]::VARCHAR \
         FROM $DB.MARTS.TYPES ORDER BY USER_ID",
    );
    assert_eq!(
        json!(row[0]),
        json!([
            "-9223372036854775808",
            "-123456789012.3456",
            -0.5,
            true,
            "0001-01-01",
            "1969-12-31T23:59:59.999999",
            "quote ' \" \\ ? \u{1f600} \u{202e}",
            "00FF",
            "1",
            "x",
        ])
    );
    assert!(row[1].iter().all(serde_json::Value::is_null), "{:?}", row[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_reads_the_services_clock_by_how_far_ours_is_off() {
    const HOUR_US: i64 = 3_600_000_000;
    let world = World::new().await;
    for off_us in [0, HOUR_US, -HOUR_US] {
        let (clock, _) = Clock::manual(Clock::system().now_us() + off_us, 1);
        let skew_us = world.probe(clock).await.skew_us();
        // The clock of the test stands still while the emulator's goes on.
        assert!((-off_us..-off_us + 60_000_000).contains(&skew_us), "{skew_us} where our clock is {off_us} off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_all_then_nothing() {
    conformance::sends_all_then_nothing(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_every_change() {
    conformance::follows_every_change(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_duplicate_keys_wins() {
    conformance::the_last_of_duplicate_keys_wins(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_null_keys() {
    conformance::refuses_null_keys(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compares_a_model_that_was_made_again() {
    conformance::compares_a_model_that_was_made_again(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_batches_without_a_key() {
    conformance::replaces_batches_without_a_key(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_only() {
    conformance::appends_only(&World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_a_race() {
    conformance::survives_a_race(&World::new().await).await;
}

/// When this fails, upstream has mended it: then the launcher's first repair can go.
#[test]
fn the_stock_emulator_still_fails_a_merge_inside_a_transaction() {
    let stock = Emulator::stock();
    for sql in ["CREATE TABLE T (K VARCHAR)", "BEGIN"] {
        stock.ask("STOCK", sql);
    }
    let merge = "MERGE INTO T t USING (SELECT 'a' AS K) s ON t.K = s.K WHEN NOT MATCHED THEN INSERT (K) VALUES (s.K)";
    assert!(stock.try_ask("STOCK", merge).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_publication_tells_people_what_it_cost_how_fresh_it_is_and_what_lies_in_quarantine() {
    let world = World::new().await;
    world
        .quarantine(&[
            ("logins.user_login", "wrong_type"),
            ("logins.user_login", "wrong_type"),
            ("zoner.user_activity", "malformed"),
        ])
        .await;
    for minutes in [1, 2] {
        world.build("nights", &["d1"], &[("d1", Some("a"), minutes)]).await;
        world.build("days", &["d1"], &[("d1", Some("b"), minutes)]).await;
        world.publish(&["nights", "days"]).await;
    }
    let runs = world.ask("SELECT RUN_ID, TARGETS, ROWS_STAGED, ROWS_INSERTED, ROWS_UPDATED, WAREHOUSE FROM $DB.OPS.RUNS ORDER BY COMMITTED_AT");
    assert_eq!(json!(runs), json!([["run-1", 2, 2, 2, 0, "LOAD_WH"], ["run-1", 2, 2, 0, 2, "LOAD_WH"]]));
    let fresh = world.ask("SELECT TARGET_TABLE, SEQ, WATERMARK, ROWS_AFTER FROM $DB.OPS.FRESHNESS ORDER BY 1, 2");
    assert_eq!(json!(fresh[0]), json!(["MARTS.DAYS", 1, "2023-11-14 22:13:20", 1]));
    assert_eq!(fresh.len(), 4);
    let quarantine = world.ask("SELECT SOURCE, CLASS, RECORDS FROM $DB.OPS.QUARANTINE_SUMMARY ORDER BY 1, 2");
    assert_eq!(
        json!(quarantine),
        json!([["logins.user_login", "wrong_type", 2], ["zoner.user_activity", "malformed", 1]]),
        "once per version of the quarantine"
    );
}
