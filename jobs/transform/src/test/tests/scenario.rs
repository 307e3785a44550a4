//! Stories on small projects, with rows that land as they are; records are told in the shipped project's own stories.

use super::{World, told};
use crate::test::TestOptions;
use crate::{LoadOptions, load_project};

const SOURCES: &str = "
sources:
  - name: shop
    tables:
      - name: orders
        config: {meta: {tidemill: {topics: [orders], event_time: ordered_at, partition_by: day}}}
        columns:
          - {name: id, data_type: bigint}
          - {name: amount, data_type: 'numeric(18, 2)'}
          - {name: ordered_at, data_type: timestamp}
      - name: customers
";

const DAILY: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day_start', batch_size='day', begin='2025-03-01') }}
select date_trunc('day', event_at) as day_start, count(*) as orders, sum(amount) as amount, {{ var('factor', 1) }} * sum(amount) as scaled,
    {{ watermark('shop.orders') }} >= date_trunc('day', event_at) + interval '1 day' as is_final
from {{ source('shop', 'orders') }} group by date_trunc('day', event_at)
";

fn world(stories: &str) -> World {
    let world = World::new(&[
        ("dbt_project.yml", "name: shop\n"),
        ("models/_sources.yml", SOURCES),
        ("models/daily.sql", DAILY),
        (
            "models/named.sql",
            "{{ config(materialized='table') }} select c.id, c.name, r.region from {{ source('shop', 'customers') }} as c left join {{ ref('regions') }} as r on c.id = r.id",
        ),
        ("seeds/regions.csv", "id,region\n1,north\n"),
    ]);
    world.write("tests/scenarios/stories.yml", stories);
    world
}

#[tokio::test]
async fn a_story_goes_through_late_rows_changes_crashes_reruns_and_rebuilds() {
    let world = world(
        "
scenario_tests:
  - name: orders_through_everything
    steps:
      - as_of: 2025-03-10T12:00:00Z
        rows:
          shop.orders:
            - {id: 1, amount: 5, ordered_at: 2025-03-09T10:00:00Z}
            - {id: 2, amount: 7.5, ordered_at: 2025-03-10T10:00:00Z}
        expect:
          daily:
            - {day_start: 2025-03-10, orders: 1, amount: 7.5, is_final: false}
            - {day_start: 2025-03-09, orders: 1, amount: '5.00', is_final: true}
      - name: late
        rows: {shop.orders: [{id: 3, amount: 1, ordered_at: 2025-03-09T23:59:59.999999Z}]}
        kill: daily
        expect:
          daily: [{day_start: 2025-03-09, orders: 2, amount: 6}, {day_start: 2025-03-10, orders: 1}]
        rerun: true
      - name: changed
        update: {shop.orders: {where: id = 1, set: {amount: 10}}}
        delete: {shop.orders: id = 2}
        kill: {after_commit: daily}
        expect: {daily: [{day_start: 2025-03-09, orders: 2, amount: 11}]}
        full_refresh: true
      - name: by the clock
        as_of: 2025-03-12
        rerun: true
        expect: {daily: [{orders: 2, is_final: true}]}
  - name: variables_and_seeds
    vars: {factor: 3}
    seeds: {regions: [{id: 2, region: south}]}
    steps:
      - rows:
          shop.orders: [{id: 1, amount: 5, ordered_at: 2025-03-09}]
          shop.customers: [{id: 1, name: ann}, {id: 2, name: ben}]
        expect:
          daily: [{scaled: 15}]
          named: [{id: 1, name: ann, region: null}, {id: 2, name: ben, region: south}]
          shop.customers: [{name: ann}, {name: ben}]
",
    );
    insta::assert_snapshot!(told(&world.test().await), @"
    Pass 0 orders_through_everything
    Pass 0 variables_and_seeds
    ");
    // The world's own lake knows nothing of it.
    assert_eq!(world.lake.list().await.unwrap(), []);
}

#[tokio::test]
async fn the_first_step_that_comes_out_otherwise_ends_the_story_and_says_how() {
    let world = world(
        "
scenario_tests:
  - name: wrong_rows
    steps:
      - rows: {shop.orders: [{id: 1, amount: 5, ordered_at: 2025-03-09T10:00:00Z}]}
        expect: {daily: [{orders: 1}]}
      - name: second
        rows: {shop.orders: [{id: 2, amount: 6, ordered_at: 2025-03-09T10:00:00Z}]}
        expect: {daily: [{day_start: 2025-03-09, orders: 2, amount: 12}]}
  - name: no_kill
    steps:
      - kill: daily
        build: false
        rows: {shop.orders: [{id: 1, amount: 5, ordered_at: 2025-03-09T10:00:00Z}]}
        expect: {daily: []}
  - name: misfit
    steps: [{rows: {shop.orders: [{id: 1, amuont: 5}]}, expect: {daily: []}}]
  - name: no_feeder
    steps: [{send: [{topic: orders, value: {id: 1}}]}]
  - name: unstable
    steps:
      - rows: {shop.orders: [{id: 1, amount: 5, ordered_at: 2025-03-09T10:00:00Z}]}
        expect: {drifting: [{orders: 1}]}
        full_refresh: true
",
    );
    // A model that is not what its inputs say: it appends to itself.
    world.write(
        "models/drifting.sql",
        "{{ config(materialized='table') }} select count(*) as orders, '{{ run_started_at }}{{ flags.FULL_REFRESH }}' as mark from {{ source('shop', 'orders') }}",
    );
    insta::assert_snapshot!(told(&world.test().await), @"
    Error misfit
      TM0331 tests/scenarios/stories.yml:17: no column of that name, column=`amuont`, in=`shop.orders`
        hint: did you mean `amount`?
    Error no_feeder
      TM0332 tests/scenarios/stories.yml:19: records need the program's ingest, which is not at hand here
    Fail 1 no_kill
      step 1 of 1, line 12: nothing was committed to `daily`, so the kill never came
    Fail 1 unstable
      step 1 of 1, line 22: `drifting` holds other rows than a full refresh makes; expected is the full refresh
      actual differs from expected:

      @@ ,orders,mark
      →  ,1     ,2030-01-01T00:00:00.000000ZTrue→2030-01-01T00:00:00.000000ZFalse
    Fail 1 wrong_rows
      step 2 of 2 (second), line 7: `daily`: actual differs from expected:

      @@ ,day_start           ,orders,amount
      →  ,2025-03-09T00:00:00Z,2     ,12.00→11.00
    ");
}

#[test]
fn stories_that_make_no_sense_are_faults_of_the_project() {
    let world = world(
        "
scenario_tests:
  - name: misspelt
    steps:
      - rows: {shop.ordres: []}
        expect: {dayly: []}
        kil: daily
      - kill: dail
        send: [{topic: orders}, {topic: orders, value: 1, raw: x}, {topic: orders, value: 1, repeat: 1000000}]
        expect_books: {landet: 1}
  - name: nothing
  - name: unknown
    models: [dialy]
    seeds: {region: []}
    steps: [{as_of: yesterday}]
",
    );
    insta::assert_snapshot!(world.fault(), @"
    TM0332 tests/scenarios/stories.yml:5:16: no source of that name, source=`shop.ordres`
      hint: did you mean `shop.orders`?
    TM0332 tests/scenarios/stories.yml:6:18: no model, seed or source of that name, name=`dayly`
      hint: did you mean `daily`?
    TM0312 tests/scenarios/stories.yml:7:9: unknown key, key=`kil`, in=`step`
      hint: did you mean `kill`?
    TM0332 tests/scenarios/stories.yml:8:15: no model, seed or source of that name, name=`dail`
      hint: did you mean `daily`?
    TM0332 tests/scenarios/stories.yml:9:16: a record has one of `value` (JSON), `raw` (its bytes as text) and `tombstone: true`
    TM0332 tests/scenarios/stories.yml:9:33: a record has one of `value` (JSON), `raw` (its bytes as text) and `tombstone: true`
    TM0332 tests/scenarios/stories.yml:9:102: a record is repeated at most 100000 times
    TM0312 tests/scenarios/stories.yml:10:24: unknown key, key=`landet`, in=`expect_books`
      hint: did you mean `landed`?
    TM0314 tests/scenarios/stories.yml:11:5: key is missing, key=`steps`, in=`nothing`
    TM0332 tests/scenarios/stories.yml:13:13: no model, seed or source of that name, name=`dialy`
      hint: did you mean `daily`?
    TM0332 tests/scenarios/stories.yml:14:13: no seed of that name, seed=`region`
      hint: did you mean `regions`?
    TM0311 tests/scenarios/stories.yml:15:21: value has the wrong type, key=`as_of`, wanted=`date or timestamp, UTC`, found=`text`
    ");
}

#[tokio::test]
async fn stories_are_told_by_test_and_never_by_a_build() {
    let world =
        world("scenario_tests: [{name: told, model: named, steps: [{rows: {shop.customers: [{id: 1, name: x}]}}]}]");
    std::fs::remove_file(world.dir.path().join("models/named.sql")).unwrap();
    world.write("models/named.sql", "{{ config(materialized='table') }} select id from {{ ref('regions') }}");
    let report = world.build().await;
    assert!(report.node("told").is_none());
    let report = world.select(&["test_type:scenario"], &TestOptions::default()).await;
    assert_eq!(told(&report), "Pass 0 told\n");
    assert_eq!(report.nodes.len(), 1);
}

#[test]
fn a_repeated_record_is_as_many_records_each_with_its_number() {
    let world = world(
        "
scenario_tests:
  - name: many
    steps:
      - send:
          - {topic: orders, repeat: 11, key: 'k{nn}', headers: {h: '{n}'}, value: {id: '{nnn}', other: '{name} {n'}}
          - {topic: orders, key: '{n}', tombstone: true}
",
    );
    let project = load_project(world.dir.path(), LoadOptions::default()).unwrap();
    let records = &project.scenario_tests[0].steps[0].send;
    assert_eq!(records.len(), 12);
    assert_eq!(records[10].key.as_deref(), Some("k10"));
    assert_eq!(records[3].key.as_deref(), Some("k03"));
    assert_eq!(records[3].headers, [("h".to_owned(), "3".to_owned())]);
    assert_eq!(records[3].value.as_deref(), Some(r#"{"id":"003","other":"{name} {n"}"#));
    assert_eq!(records[11].key.as_deref(), Some("{n}"));
}
