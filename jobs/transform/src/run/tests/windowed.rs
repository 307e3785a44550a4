//! Batches of which one query, planned once, gives the rows; and what they read of views.

use super::world::{DAY_US, Event, HOUR_US, START_US, World, event};
use crate::plan::{PlanOptions, TimeRange};
use crate::run::BuildOptions;

/// Rows that see those of the day before: no query may compute several days at once.
const GAPS: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='day',
          begin='2025-01-01', unique_key=['user_id', 'event_at'],
          meta={'tidemill': {'context': {'before': '24h'}}}) }}
select user_id, event_at, cast(event_at as date) as day, amount,
    cast(event_at as bigint) - lag(cast(event_at as bigint)) over (partition by user_id order by event_at) as gap
from {{ source('shop', 'events') }}";

/// The same, with the batch itself in the text.
const NAMED: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='event_at', batch_size='day',
          begin='2025-01-01') }}
select event_at, '{{ model.batch.event_time_start if model.batch else \"\" }}' as batch
from {{ source('shop', 'events') }}";

fn events(days: i64) -> Vec<Event> {
    (0..days * 5)
        .map(|index| event(&format!("e{index}"), index % 3, index, START_US + index * DAY_US / 5 + index * 7_000_001))
        .collect()
}

fn of_day(day: i64) -> BuildOptions {
    let start_us = START_US + day * DAY_US;
    let plan = PlanOptions { event_time: Some(TimeRange::new(start_us, start_us + DAY_US)), ..PlanOptions::default() };
    BuildOptions { plan, ..BuildOptions::default() }
}

#[tokio::test]
async fn batches_of_one_plan_have_the_rows_that_each_has_alone() {
    let (together, alone) = (World::new(), World::new());
    for world in [&together, &alone] {
        world.write("models/gaps.sql", GAPS);
        world.land(&events(6)).await;
    }
    let report = together.build().await;
    assert_eq!(report.node("gaps").unwrap().batches.as_ref().map(Vec::len), Some(6));
    for day in 0..6 {
        let report = alone.build_with(&of_day(day)).await;
        assert_eq!(report.node("gaps").unwrap().batches.as_ref().map(Vec::len), Some(1));
    }
    let rows = together.rows("select * from gaps").await;
    assert_eq!(rows.len(), 30);
    assert_eq!(rows, alone.rows("select * from gaps").await);
    // A gap is at most a day: whoever has a row before it within a day has one.
    let expected = "select user_id, event_at, cast(event_at as date) as day, amount,
        cast(event_at as bigint) - lag(cast(event_at as bigint)) over (partition by user_id order by event_at) as gap from shop.events";
    assert_eq!(rows, together.rows(expected).await);
}

#[tokio::test]
async fn a_template_that_names_its_batch_is_planned_for_each() {
    let world = World::new();
    world.write("models/named.sql", NAMED);
    world.land(&events(3)).await;
    world.build().await;
    let days =
        world.rows("select distinct cast(event_at as date) as day, substr(batch, 1, 10) as batch from named").await;
    assert_eq!(days, ["2025-03-09 | 2025-03-09", "2025-03-10 | 2025-03-10", "2025-03-11 | 2025-03-11"]);
}

/// Numbers an input's rows in order, which no condition on the output can be pushed through.
fn numbered(context: &str) -> String {
    format!(
        "{{{{ config(materialized='view', event_time='event_at'{context}) }}}}
         select event_at, row_number() over (order by event_at) as number from {{{{ source('shop', 'events') }}}}"
    )
}

const READER: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='event_at', batch_size='day',
          begin='2025-01-01') }}
select event_at, number from {{ ref('numbered') }}";

#[tokio::test]
async fn a_batch_reads_of_a_view_s_inputs_what_the_view_declares() {
    for (context, expected) in [
        // Nothing is said: all is read.
        ("", vec!["1", "2", "3", "4", "5", "6"]),
        // The batch itself, and that with the day before.
        (", meta={'tidemill': {'context': {'shop.events': {'before': '0s'}}}}", vec!["1", "1", "1", "2", "2", "2"]),
        (", meta={'tidemill': {'context': {'before': '24h'}}}", vec!["1", "2", "3", "3", "4", "4"]),
    ] {
        let world = World::new();
        world.write("models/numbered.sql", &numbered(context));
        world.write("models/reader.sql", READER);
        let at = |index: i64| event(&format!("e{index}"), 1, 1, START_US + index * 12 * HOUR_US);
        world.land(&(0..6).map(at).collect::<Vec<_>>()).await;
        world.build().await;
        let mut numbers = world.rows("select number from reader").await;
        numbers.sort();
        assert_eq!(numbers, expected, "context {context:?}");
        // A batch alone reads the same.
        world.land(&[event("late", 1, 1, START_US + 2 * DAY_US + HOUR_US)]).await;
        world.build().await;
        let incremental = world.rows("select * from reader").await;
        world.full_refresh().await;
        assert_eq!(world.rows("select * from reader").await, incremental, "context {context:?}");
    }
}
