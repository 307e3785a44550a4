//! Incremental models: what is rebuilt, what is not, and that it never matters for the rows.

use proptest::prelude::*;

use super::world::{DAY_US, Event, HOUR_US, MINUTE_US, START_US, World, event};
use crate::plan::{Action, PlanOptions, Reason, TimeRange};
use crate::run::{BuildOptions, Outcome};

const STAGING: &str = "select _key as event_key, user_id, amount, event_at from {{ source('shop', 'events') }}";
const STAGING_YML: &str = "models: [{name: stg_events, config: {materialized: view, event_time: event_at}}]";

const PER_HOUR: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='hour_start', batch_size='hour',
          begin='2025-01-01') }}
select date_trunc('hour', event_at) as hour_start, user_id, count(*) as events, sum(amount) as amount
from {{ ref('stg_events') }} group by 1, 2";

/// Time since the user's last event within two hours, until the next within one: a window function with context both ways.
const GAPS: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='event_at', batch_size='hour',
          begin='2025-01-01', unique_key='event_key', meta={'tidemill': {'context': {'before': '2h', 'after': '1h'}}}) }}
select event_key, user_id, event_at,
    lag(event_at) over (partition by user_id order by event_at, event_key) as previous_at,
    lead(event_at) over (partition by user_id order by event_at, event_key) as next_at,
    sum(amount) over (partition by user_id order by event_at, event_key rows between 3 preceding and current row) as recent
from {{ ref('stg_events') }}";

const PER_DAY: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='event_date', batch_size='day',
          begin='2025-01-01') }}
select cast(event_at as date) as event_date, count(*) as events, count(previous_at) as linked, sum(recent) as recent,
    max(next_at) as last_next
from {{ ref('gaps') }} group by 1";

const TOTAL: &str = "
{{ config(materialized='table') }}
select count(*) as days, sum(events) as events, sum(recent) as recent from {{ ref('per_day') }}";

const LATEST: &str = "
{{ config(materialized='incremental', incremental_strategy='append') }}
select event_key, amount * 2 as doubled from {{ ref('stg_events') }}";

fn world() -> World {
    let world = World::new();
    world.write("models/stg_events.sql", STAGING);
    world.write("models/stg_events.yml", STAGING_YML);
    world.write("models/per_hour.sql", PER_HOUR);
    world.write("models/gaps.sql", GAPS);
    world.write("models/per_day.sql", PER_DAY);
    world.write("models/total.sql", TOTAL);
    world.write("models/latest.sql", LATEST);
    world
}

async fn all_rows(world: &World) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for model in ["stg_events", "per_hour", "gaps", "per_day", "total", "latest"] {
        rows.push(world.rows(&format!("select * from {model}")).await);
    }
    rows
}

fn batches(report: &crate::run::Report, model: &str) -> Vec<String> {
    report.node(model).unwrap().batches.clone().unwrap()
}

#[tokio::test]
async fn a_late_event_rebuilds_its_batch_and_what_stands_on_it() {
    let world = world();
    let events: Vec<Event> =
        (0..12).map(|index| event(&format!("e{index}"), index % 2, index, START_US + index * 4 * HOUR_US)).collect();
    world.land(&events).await;
    let report = world.build().await;
    assert_eq!(batches(&report, "per_hour").len(), 12);
    assert_eq!(batches(&report, "per_day"), ["2025-03-09", "2025-03-10"]);

    world.land(&[event("late", 0, 100, START_US + 8 * HOUR_US + MINUTE_US)]).await;
    let report = world.build().await;
    assert_eq!(batches(&report, "per_hour"), ["2025-03-09T08"]);
    assert_eq!(batches(&report, "gaps"), ["2025-03-09T08"]);
    assert_eq!(batches(&report, "per_day"), ["2025-03-09"]);
    assert_eq!(report.node("total").unwrap().reason, Some(Reason::UpstreamRebuilt { upstream: "per_day".to_owned() }));
    assert_eq!(report.node("latest").unwrap().rows_written, 1);
    let rows =
        world.rows("select events, amount from per_hour where hour_start = timestamp '2025-03-09T08:00:00'").await;
    assert_eq!(rows, ["2 | 102"]);
}

/// Rows of an append model, and of one that counts as it appends, which no part of the rows could tell.
#[tokio::test]
async fn rows_are_appended_in_parts_only_where_each_makes_its_own() {
    let world = world();
    world.write(
        "models/numbered.sql",
        "{{ config(materialized='incremental', incremental_strategy='append') }}
         select event_key, row_number() over (order by event_key) as number from {{ ref('stg_events') }}",
    );
    for part in 0..5 {
        let events: Vec<Event> = (0..5)
            .map(|index| part * 5 + index)
            .map(|index| event(&format!("e{index:02}"), 1, index, START_US + index * HOUR_US))
            .collect();
        world.land(&events).await;
    }
    let report = world.build().await;
    assert_eq!(report.node("latest").unwrap().rows_written, 25);
    let files = world.lake.open(&tidemill_lake::TableId::model("main", "latest")).await.unwrap().unwrap().files();
    assert!(files.len() > 2, "{} files", files.len());
    let keys = world.rows("select event_key, doubled from latest order by event_key").await;
    assert_eq!((keys.len(), keys[0].as_str(), keys[24].as_str()), (25, "e00 | 0", "e24 | 48"));
    assert_eq!(world.rows("select max(number), count(*) from numbered").await, ["25 | 25"]);

    let more: Vec<Event> =
        (25..45).map(|index| event(&format!("e{index}"), 1, index, START_US + index * HOUR_US)).collect();
    world.land(&more[..10]).await;
    world.land(&more[10..]).await;
    assert_eq!(world.build().await.node("latest").unwrap().rows_written, 20);
    let before = world.rows("select * from latest").await;
    world.full_refresh().await;
    assert_eq!(world.rows("select * from latest").await, before);
}

#[tokio::test]
async fn a_run_with_nothing_new_commits_nothing() {
    let world = world();
    world
        .write("models/per_hour.yml", "models: [{name: per_hour, columns: [{name: user_id, data_tests: [not_null]}]}]");
    world.land(&[event("a", 1, 1, START_US), event("b", 1, 2, START_US + DAY_US)]).await;
    world.build().await;
    let before = world.versions().await;
    let report = world.build().await;
    assert_eq!(world.versions().await, before);
    for node in report.nodes.iter().filter(|node| node.name != "stg_events") {
        assert_eq!(node.outcome, Outcome::UpToDate, "{node:?}");
    }
    assert!(world.plan().await.is_empty());
}

#[tokio::test]
async fn equal_rows_leave_files_alone() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US), event("b", 2, 2, START_US + 5 * HOUR_US)]).await;
    world.build().await;
    let files = |model: &'static str| {
        let lake = world.lake.clone();
        async move { lake.open(&tidemill_lake::TableId::model("main", model)).await.unwrap().unwrap().files() }
    };
    let before = (files("per_hour").await, files("gaps").await, files("total").await);
    let report = world.full_refresh().await;
    assert_eq!(report.node("per_hour").unwrap().rows_written, 0);
    assert_eq!((files("per_hour").await, files("gaps").await, files("total").await), before);
}

#[tokio::test]
async fn changed_sql_rebuilds_and_comments_do_not() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US), event("b", 2, 2, START_US + DAY_US)]).await;
    world.build().await;
    world.write("models/per_hour.sql", &format!("{PER_HOUR} -- a comment"));
    assert!(world.plan().await.is_empty());

    world.write(
        "models/per_hour.sql",
        &PER_HOUR.replace("sum(amount) as amount", "sum(amount) as amount, max(amount) as most"),
    );
    let plan = world.plan().await;
    let planned = plan.models.iter().find(|model| model.model == "per_hour").unwrap();
    assert_eq!(planned.reason, Reason::SqlChanged);
    assert!(matches!(&planned.action, Action::Batches { batches, all: true } if batches.len() == 2));
    world.build().await;
    assert_eq!(world.rows("select user_id, most from per_hour").await, ["1 | 1", "2 | 2"]);
}

/// Before, the table was dropped and made again: its readers found none in between, and its history was gone.
#[tokio::test]
async fn a_model_whose_columns_change_keeps_its_table_and_its_history() {
    let world = world();
    world.write("models/reader.sql", "{{ config(materialized='table') }} select * from {{ ref('per_hour') }}");
    world.land(&[event("a", 1, 1, START_US), event("b", 2, 2, START_US + DAY_US)]).await;
    world.build().await;
    let id = tidemill_lake::TableId::model("main", "per_hour");
    let before = world.lake.open(&id).await.unwrap().unwrap();
    let rows_before = world.rows("select user_id, amount from per_hour").await;

    world
        .write("models/per_hour.sql", &PER_HOUR.replace("sum(amount) as amount", "cast(sum(amount) as text) as total"));
    world.build().await;
    let after = world.lake.open(&id).await.unwrap().unwrap();
    assert_eq!(after.table_id(), before.table_id());
    assert_eq!(after.version().0, before.version().0 + 1, "one commit brings columns and rows");
    assert!(after.schema().field_with_name("amount").is_err());
    assert_eq!(world.rows("select user_id, total from per_hour").await, rows_before);
    let old = world.lake.open_at(&id, before.version()).await.unwrap();
    assert_eq!((old.schema(), old.files()), (before.schema(), before.files()), "the past is as it was");
    // What stands on it was rebuilt from the new columns, and nothing is left to do.
    assert_eq!(world.rows("select user_id, total from reader").await, rows_before);
    assert!(world.plan().await.is_empty());
}

#[tokio::test]
async fn the_quarantine_is_an_empty_table_before_the_first_bad_record() {
    let world = world();
    assert!(world.rows("select * from ops.quarantine").await.is_empty());
    assert!(
        world.rows("select source, count(*) from ops.quarantine where class = 'malformed' group by 1").await.is_empty()
    );
    assert!(world.rows("select id from ops.quarantine_replays").await.is_empty());
}

#[tokio::test]
async fn a_view_that_changes_rebuilds_its_readers() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US)]).await;
    world.build().await;
    world.write("models/stg_events.sql", &STAGING.replace("amount, event_at", "amount * 10 as amount, event_at"));
    let report = world.build().await;
    assert_eq!(report.node("per_hour").unwrap().reason, Some(Reason::SqlChanged));
    assert_eq!(world.rows("select amount from per_hour").await, ["10"]);
}

#[tokio::test]
async fn a_requested_range_is_rebuilt_and_the_rest_stays_stale() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US)]).await;
    world.build().await;
    world.land(&[event("b", 1, 1, START_US), event("c", 1, 1, START_US + 3 * DAY_US)]).await;
    let plan = PlanOptions { event_time: Some(TimeRange::new(START_US, START_US + DAY_US)), ..PlanOptions::default() };
    let report = world.build_with(&BuildOptions { plan, ..BuildOptions::default() }).await;
    assert_eq!(batches(&report, "per_hour"), ["2025-03-09T00"]);
    let report = world.build().await;
    assert_eq!(batches(&report, "per_hour"), ["2025-03-12T00"]);
}

#[tokio::test]
async fn a_model_over_a_source_that_landed_nothing_is_empty() {
    let world = world();
    let report = world.build().await;
    assert_eq!(report.node("per_hour").unwrap().rows_written, 0);
    assert_eq!(world.rows("select count(*) from per_hour").await, ["0"]);
    world.land(&[event("a", 1, 1, START_US)]).await;
    world.build().await;
    assert_eq!(world.rows("select count(*) from per_hour").await, ["1"]);
}

#[tokio::test]
async fn a_passed_watermark_recomputes_what_fell_due() {
    let mut world = world();
    world.write(
        "models/windows.sql",
        "{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='hour_start', batch_size='hour',
                   begin='2025-01-01',
                   meta={'tidemill': {'watermark': {'sources': ['shop.events'], 'due_after': 3610}}}) }}
         select date_trunc('hour', event_at) as hour_start, count(*) as events,
             {{ watermark('shop.events') }} >= date_trunc('hour', event_at) + interval '3610 seconds' as is_final
         from {{ ref('stg_events') }} group by 1",
    );
    world.watermark_us = Some(START_US + HOUR_US);
    world.land(&[event("a", 1, 1, START_US), event("b", 1, 1, START_US - 30 * DAY_US)]).await;
    world.build().await;
    assert_eq!(world.rows("select is_final from windows order by 1").await, ["false", "true"]);

    world.watermark_us = Some(START_US + HOUR_US + 10_000_000);
    world.land(&[]).await;
    let report = world.build().await;
    assert_eq!(batches(&report, "windows"), ["2025-03-09T00"]);
    assert!(matches!(report.node("windows").unwrap().reason, Some(Reason::WatermarkMoved { .. })));
    assert_eq!(report.node("per_hour").unwrap().outcome, Outcome::UpToDate);
    assert_eq!(world.rows("select is_final from windows").await, ["true", "true"]);
}

#[tokio::test]
async fn two_builds_at_once_never_double() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US), event("b", 1, 2, START_US + HOUR_US)]).await;
    let (one, other) = tokio::join!(world.build(), world.build());
    assert!(one.failure().is_none() && other.failure().is_none());
    let increments = all_rows(&world).await;
    world.full_refresh().await;
    assert_eq!(all_rows(&world).await, increments);
    assert_eq!(world.rows("select count(*) from latest").await, ["2"]);
}

#[tokio::test]
async fn a_failing_test_skips_what_stands_on_the_model_and_is_not_forgotten() {
    let world = world();
    world.write(
        "models/per_hour.yml",
        "models: [{name: gaps, columns: [{name: event_key, data_tests: [unique, not_null]}]}]",
    );
    world.land(&[event("a", 1, 1, START_US), event("a", 1, 2, START_US + MINUTE_US)]).await;
    for _ in 0..2 {
        let report = world.try_build(&BuildOptions::default()).await;
        assert_eq!(report.failure(), Some(tidemill_project::ErrorKind::Rejected));
        assert_eq!(report.node("unique_gaps_event_key").unwrap().failures, Some(1));
        assert_eq!(report.node("per_day").unwrap().outcome, Outcome::Skipped);
        assert_eq!(report.node("total").unwrap().outcome, Outcome::Skipped);
    }
}

#[tokio::test]
async fn a_changed_column_makes_the_table_anew_and_downstream_follows() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US)]).await;
    world.build().await;
    world.write("models/per_day.sql", &PER_DAY.replace("count(*) as events", "cast(count(*) as double) as events"));
    let report = world.build().await;
    assert_eq!(report.node("per_day").unwrap().rows_written, 1);
    let upstream = Reason::UpstreamRebuilt { upstream: "per_day".to_owned() };
    assert_eq!(report.node("total").unwrap().reason, Some(upstream));
    assert_eq!(world.rows("select events from total").await, ["1.0"]);
}

#[tokio::test]
async fn a_cancelled_run_starts_nothing() {
    let world = world();
    world.land(&[event("a", 1, 1, START_US)]).await;
    let cancel = tokio_util::sync::CancellationToken::new();
    cancel.cancel();
    let observer = std::sync::Arc::new(crate::run::Silent);
    let all = crate::graph::Selection::all();
    let report = world.runner().build(&all, &BuildOptions::default(), observer, &cancel).await.unwrap();
    assert!(report.nodes.iter().all(|node| node.outcome == Outcome::Skipped), "{report:?}");
    // The ledger keeps that the models were planned; no model and no seed was begun.
    assert_eq!(world.versions().await.into_keys().collect::<Vec<_>>(), ["ops/tests", "raw/shop/events"]);
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((0..4_i64, 1..9_i64, 0..30 * 60_i64), 1..80).prop_map(|rows| {
        rows.into_iter()
            .enumerate()
            .map(|(index, (user_id, amount, minute))| {
                event(&format!("k{index}"), user_id, amount, START_US + minute * MINUTE_US)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Whatever the order in which events arrive and wherever the runs fall between them, the rows are those of a full
    /// refresh, and a run after it has nothing to do.
    #[test]
    fn increments_give_the_rows_of_a_full_refresh(events in events(), cuts in prop::collection::vec(0..80_usize, 0..4)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = world();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(events.len())).collect();
            cuts.extend([0, events.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                world.land(&events[pair[0]..pair[1]]).await;
                world.build().await;
            }
            let increments = all_rows(&world).await;
            world.full_refresh().await;
            let whole = all_rows(&world).await;
            prop_assert_eq!(increments, whole);
            let before = world.versions().await;
            world.build().await;
            prop_assert_eq!(world.versions().await, before);
            Ok(())
        })?;
    }
}
