//! Data tests on a lake: what they look at, what they keep, what they say.

use super::{World, told};
use crate::project::NodeId;
use crate::render::Relation;
use crate::run::Outcome;
use crate::test::{TestOptions, Tester};

const PROJECT: &str = "name: shop\n";

/// A seed that a test may rewrite, and a table over it in daily batches.
fn world(tests: &str, csv: &str) -> World {
    World::new(&files(tests, csv))
}

fn files<'a>(tests: &'a str, csv: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("dbt_project.yml", PROJECT),
        ("seeds/raw.csv", csv),
        (
            "seeds/raw.yml",
            "seeds: [{name: raw, config: {event_time: at, column_types: {id: bigint, at: timestamp, status: text}}}]",
        ),
        (
            "models/daily.sql",
            "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', \
             begin='2025-03-01') }} select id, at, status from {{ ref('raw') }}",
        ),
        ("models/daily.yml", tests),
    ]
}

const TESTS: &str = "
models:
  - name: daily
    columns:
      - {name: id, data_tests: [not_null, unique]}
      - {name: status, data_tests: [{accepted_values: {arguments: {values: [open, closed]}}}]}
    data_tests:
      - unique_combination_of_columns: {arguments: {combination_of_columns: [at, id]}}
      - row_count: {min_value: 1}
";

const TWO_DAYS: &str = "id,at,status\n1,2025-03-09T01:00:00Z,open\n2,2025-03-10T01:00:00Z,open\n";

#[tokio::test]
async fn after_a_pass_only_new_rows_are_looked_at_and_what_is_unchanged_not_at_all() {
    let world = world(TESTS, TWO_DAYS);
    world.build().await;
    insta::assert_snapshot!(told(&world.test().await), @"
    UpToDate accepted_values_daily_status__open__closed
    UpToDate not_null_daily_id
    UpToDate row_count_daily__1
    UpToDate unique_combination_of_columns_daily__at__id
    UpToDate unique_daily_id
    ");
    world.write("seeds/raw.csv", &format!("{TWO_DAYS}3,2025-03-11T01:00:00Z,closed\n"));
    insta::assert_snapshot!(told(&world.build().await), @"
    Pass 0 (new rows) accepted_values_daily_status__open__closed
    Pass 0 (new rows) not_null_daily_id
    Pass 0 row_count_daily__1
    Pass 0 (new rows) unique_combination_of_columns_daily__at__id
    Pass 0 (new rows) unique_daily_id
    ");
    insta::assert_snapshot!(told(&world.test_with(&TestOptions { full: true, ..TestOptions::default() }).await), @"
    Pass 0 accepted_values_daily_status__open__closed
    Pass 0 not_null_daily_id
    Pass 0 row_count_daily__1
    Pass 0 unique_combination_of_columns_daily__at__id
    Pass 0 unique_daily_id
    ");
}

#[tokio::test]
async fn a_copy_in_another_batch_is_found_although_only_new_rows_are_looked_at() {
    let world = world(TESTS, TWO_DAYS);
    world.build().await;
    // Key 1 lies in the batch of 9 March, which is not touched.
    world.write("seeds/raw.csv", &format!("{TWO_DAYS}1,2025-03-11T01:00:00Z,lost\n"));
    let report = world.build().await;
    insta::assert_snapshot!(told(&report), @"
    Fail 1 accepted_values_daily_status__open__closed
    Pass 0 (new rows) not_null_daily_id
    Pass 0 row_count_daily__1
    Pass 0 (new rows) unique_combination_of_columns_daily__at__id
    Fail 1 unique_daily_id
    ");
    // What failed runs again until it passes, with nothing new.
    assert_eq!(world.build().await.count(Outcome::Fail), 2);
    world.write("seeds/raw.csv", TWO_DAYS);
    let report = world.build().await;
    assert_eq!((report.count(Outcome::Fail), report.count(Outcome::Error)), (0, 0), "{}", told(&report));
}

const KEYS: &str = "
models:
  - name: daily
    config: {audit: before}
    columns:
      - {name: id, data_tests: [not_null, unique]}
    data_tests:
      - unique_combination_of_columns: {arguments: {combination_of_columns: [at, status]}}
";

#[tokio::test]
async fn neither_test_nor_audit_of_a_key_opens_a_file_that_cannot_hold_a_copy_of_a_new_row() {
    let world = World::on_disk(&files(KEYS, TWO_DAYS));
    world.build().await;
    // Whoever opened one of these files would fail.
    assert_eq!(world.lose_batch("daily", "2025-03-09"), 1);
    world.write("seeds/raw.csv", &format!("{TWO_DAYS}3,2025-03-11T01:00:00Z,open\n"));
    insta::assert_snapshot!(told(&world.build().await), @"
    Pass 0 (new rows) not_null_daily_id
    Pass 0 (new rows) unique_combination_of_columns_daily__at__status
    Pass 0 (new rows) unique_daily_id
    ");
    // A test of all rows opens it, unless the log itself says that no row is null.
    assert_eq!(world.test_with(&TestOptions { full: true, ..TestOptions::default() }).await.count(Outcome::Error), 2);
}

#[tokio::test]
async fn an_audit_that_looks_at_new_rows_finds_the_copy_of_an_old_one() {
    let world = World::new(&files(KEYS, TWO_DAYS));
    world.build().await;
    world.write("seeds/raw.csv", &format!("{TWO_DAYS}1,2025-03-11T01:00:00Z,open\n"));
    let report = world.build().await;
    let daily = report.node("daily").unwrap();
    assert_eq!((daily.outcome, daily.failures), (Outcome::Fail, Some(1)), "{:?}", daily.message);
    assert_eq!(world.rows("select id from daily").await, ["1", "2"]);
}

#[tokio::test]
async fn thresholds_limits_conditions_and_fail_calc_decide_what_a_failure_is() {
    let tests = "
models:
  - name: daily
    columns:
      - name: status
        data_tests:
          - not_null: {name: a_warns, config: {severity: warn}}
          - not_null: {name: b_warns_below, config: {warn_if: '> 1', error_if: '> 2'}}
          - not_null: {name: c_passes, config: {warn_if: '> 2', error_if: '> 2'}}
          - not_null: {name: d_between, config: {error_if: between 1 and 5}}
          - not_null: {name: e_where, config: {where: id > 1}}
          - not_null: {name: f_limit, config: {limit: 1}}
          - unique: {name: g_calc, config: {fail_calc: sum(n_records)}}
          - not_null: {name: h_off, config: {enabled: false}}
          - not_null: {name: i_flat, severity: warn, where: id = 1}
";
    let csv = "id,at,status\n1,2025-03-09T01:00:00Z,\n2,2025-03-09T01:00:00Z,\n3,2025-03-09T01:00:00Z,x\n4,2025-03-09T01:00:00Z,x\n";
    let world = world(tests, csv);
    insta::assert_snapshot!(told(&world.build().await), @"
    Warn 2 a_warns
    Warn 2 b_warns_below
    Pass 2 c_passes
    Fail 2 d_between
    Fail 1 e_where
    Fail 1 f_limit
    Fail 2 g_calc
    Warn 1 i_flat
    ");
}

#[tokio::test]
async fn failing_rows_are_kept_where_they_can_be_read_and_go_when_the_test_passes() {
    let tests = "
models:
  - name: daily
    columns: [{name: status, data_tests: [{not_null: {name: has_status, config: {store_failures: true}}}]}]
";
    let world = world(tests, "id,at,status\n1,2025-03-09T01:00:00Z,\n2,2025-03-09T01:00:00Z,x\n");
    world.build().await;
    let dir = tempfile::TempDir::new().unwrap();
    let options = TestOptions { compiled_dir: Some(dir.path().to_path_buf()), ..TestOptions::default() };
    let report = world.test_with(&options).await;
    let facts = report.node("has_status").unwrap().test.clone().unwrap();
    assert_eq!(facts.stored_in.as_deref(), Some("main_dbt_test__audit.has_status"));
    assert_eq!(facts.condition.as_deref(), Some("!= 0"));
    let path = facts.compiled_path.unwrap();
    assert!(path.ends_with("shop/models/daily.yml/has_status.sql"), "{path}");
    assert!(std::fs::read_to_string(path).unwrap().contains("where status is null"));
    assert_eq!(world.rows("select id from main_dbt_test__audit.has_status").await, ["1"]);

    world.write("seeds/raw.csv", "id,at,status\n1,2025-03-09T01:00:00Z,y\n2,2025-03-09T01:00:00Z,x\n");
    world.build().await;
    assert_eq!(world.rows("select id from main_dbt_test__audit.has_status").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_test_on_a_column_that_is_not_there_names_the_nearest() {
    let world = world("seeds: [{name: kinds, columns: [{name: statsu, data_tests: [not_null]}]}]", TWO_DAYS);
    world.write("seeds/kinds.csv", "id,status\n1,open\n");
    insta::assert_snapshot!(told(&world.build().await), @"
    Error not_null_kinds_statsu
      TM0330 models/daily.yml:1: test is on a column that is not there, column=`statsu`, in=`kinds`
        hint: did you mean `status`?
    ");
}

/// What an audit before a commit asks for.
#[tokio::test]
async fn the_tests_of_a_model_run_against_other_rows() {
    let world = world(TESTS, TWO_DAYS);
    world.build().await;
    let runner = world.runner();
    let executor = runner.executor(&crate::plan::PlanOptions::default(), "test").await.unwrap();
    let tester = Tester { sessions: executor.sessions.clone(), render: crate::run::Runner::looking(&executor) };
    let context = executor.sessions.empty();
    context
        .sql("create table waiting as select * from (values (5, 'odd'), (5, 'open')) as t(id, status)")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let relation =
        Relation { sql: "waiting".to_owned(), schema: "public".to_owned(), identifier: "waiting".to_owned() };
    let tests = tester.compile_against(&NodeId::Model("daily".to_owned()), &relation).unwrap();
    let mut found = Vec::new();
    for test in &tests {
        if test.sql.contains("at") && test.name.starts_with("unique_combination") {
            continue;
        }
        let finding = test.judge(&context).await.unwrap();
        let rows: usize =
            test.failing_rows(&context, 10).await.unwrap().iter().map(arrow::array::RecordBatch::num_rows).sum();
        found.push(format!("{} {:?} {} {rows}", test.name, finding.outcome, finding.failures));
    }
    found.sort();
    insta::assert_debug_snapshot!(found, @r#"
    [
        "accepted_values_daily_status__open__closed Fail 1 1",
        "not_null_daily_id Pass 0 0",
        "row_count_daily__1 Pass 0 0",
        "unique_daily_id Fail 1 1",
    ]
    "#);
}

#[test]
fn tests_that_are_called_wrongly_are_faults_of_the_project() {
    let tests = "
models:
  - name: daily
    columns:
      - name: status
        data_tests:
          - not_nul
          - accepted_values: {vlaues: [a]}
          - accepted_values: {name: b, arguments: {values: [a], quot: false}}
          - row_count
          - not_null: {config: {severty: warn}}
    data_tests:
      - unique
      - expression_is_true
      - relationships: {column_name: id, to: ref('raw')}
";
    insta::assert_snapshot!(world(tests, TWO_DAYS).fault(), @"
    TM0322 models/daily.yml:7:13: no generic test of that name, test=`not_nul`
      hint: did you mean `not_null`?
    TM0322 models/daily.yml:8:13: unknown argument of a test, argument=`vlaues`, test=`accepted_values`
      hint: did you mean `values`?
    TM0322 models/daily.yml:8:13: argument of a test is missing, argument=`values`, test=`accepted_values`
    TM0322 models/daily.yml:9:13: unknown argument of a test, argument=`quot`, test=`accepted_values`
      hint: did you mean `quote`?
    TM0322 models/daily.yml:10:13: test is not for columns, test=`row_count`
      hint: declare it on the model, under `data_tests:` beside `columns:`
    TM0312 models/daily.yml:11:33: unknown key, key=`severty`, in=`test config`
      hint: did you mean `severity`?
    TM0322 models/daily.yml:13:9: argument of a test is missing, argument=`column_name`, test=`unique`
      hint: declare it below a column, or name one with `column_name:`
    TM0322 models/daily.yml:14:9: argument of a test is missing, argument=`expression`, test=`expression_is_true`
    TM0322 models/daily.yml:15:9: argument of a test is missing, argument=`field`, test=`relationships`
    ");
}

#[tokio::test]
async fn a_projects_own_generic_tests_and_singular_tests_run_like_the_shipped() {
    let world = world("models: [{name: daily, columns: [{name: id, data_tests: [even, not_null]}]}]", TWO_DAYS);
    world.write("tests/generic/even.sql", "{% test even(model, column_name) %}\n{{ config(severity='warn') }}\nselect * from {{ model }} where {{ column_name }} % 2 = 1\n{% endtest %}\n");
    world.write(
        "macros/not_null.sql",
        "{% test not_null(model, column_name) %}\nselect 1 as own where 1 = 1\n{% endtest %}\n",
    );
    world.write(
        "tests/no_second.sql",
        "{{ config(error_if='> 5', tags=['daily']) }}\nselect * from {{ ref('daily') }} where id = 2",
    );
    insta::assert_snapshot!(told(&world.build().await), @"
    Warn 1 even_daily_id
    Warn 1 no_second
    Fail 1 not_null_daily_id
    ");
    let report = world.select(&["test_type:singular"], &TestOptions::default()).await;
    assert_eq!(report.nodes.len(), 1);
    let report = world.select(&["test_type:data,daily"], &TestOptions::default()).await;
    assert_eq!(report.nodes.len(), 3);
}
