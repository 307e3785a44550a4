//! Sliding windows from panes, runs of windows, and rows that fall due by time alone.

use proptest::prelude::*;

use super::world::{DAY_US, Event, HOUR_US, MINUTE_US, START_US, World, event};
use crate::plan::Reason;

/// Two minutes of a user's events.
const PANES: &str = "
{{ config(materialized='incremental', incremental_strategy='aggregate', event_time='pane_start') }}
select user_id, date_bin(interval '2 minutes', event_at, to_timestamp_micros(0)) as pane_start, count(*) as events,
    sum(amount) as amount, min(amount) as least
from {{ source('shop', 'events') }} group by 1, 2";

/// Ten minutes, sliding by two: five panes each.
const WINDOWS: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='window_start', batch_size='hour',
          begin='2025-01-01', unique_key=['user_id', 'window_start'],
          meta={'tidemill': {'context': {'after': '10m', 'before': '0s'}}}) }}
with slides as (select unnest(range(0, 5)) as slide)
select panes.user_id,
    to_timestamp_micros(cast(panes.pane_start as bigint) - slides.slide * 120000000) as window_start,
    sum(panes.events) as events, sum(panes.amount) as amount, min(panes.least) as least
from {{ ref('panes') }} as panes cross join slides group by 1, 2";

/// Runs of neighbouring windows, cut at midnight.
const BOUTS: &str = "
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='bout_start', batch_size='day',
          begin='2025-01-01') }}
with marked as (
    select user_id, window_start, cast(window_start as bigint) - row_number() over (
        partition by user_id, cast(window_start as date) order by window_start) * 120000000 as run
    from {{ ref('windows') }}
)
select user_id, min(window_start) as bout_start, max(window_start) + interval '2 minutes' as bout_end, count(*) as windows
from marked group by user_id, run, cast(window_start as date)";

/// The windows, straight from the events.
const EXPECTED: &str = "
select user_id, window_start, count(*) as events, sum(amount) as amount, min(amount) as least from (
    select user_id, amount, to_timestamp_micros((cast(event_at as bigint) / 120000000 - slide) * 120000000) as window_start
    from shop.events cross join (select unnest(range(0, 5)) as slide) as slides
) as slid group by 1, 2";

fn world() -> World {
    let world = World::new();
    for (name, sql) in [("panes", PANES), ("windows", WINDOWS), ("bouts", BOUTS)] {
        world.write(&format!("models/{name}.sql"), sql);
    }
    world
}

#[tokio::test]
async fn a_new_event_recomputes_the_batches_whose_windows_hold_it() {
    let world = world();
    let events: Vec<Event> =
        (0..48).map(|index| event(&format!("e{index}"), index % 3, index, START_US + index * HOUR_US)).collect();
    world.land(&events).await;
    world.build().await;
    world.land(&[event("late", 1, 5, START_US + 5 * HOUR_US + MINUTE_US)]).await;
    let report = world.build().await;
    assert_eq!(report.node("panes").unwrap().rows_written, 1);
    assert_eq!(report.node("panes").unwrap().whole_because, None);
    let windows = report.node("windows").unwrap().batches.clone().unwrap();
    assert_eq!(windows, ["2025-03-09T04", "2025-03-09T05"]);
    assert_eq!(report.node("bouts").unwrap().batches.clone().unwrap(), ["2025-03-09"]);
}

#[tokio::test]
async fn rows_fall_due_with_no_new_event() {
    let mut world = World::new();
    world.write(
        "models/final.sql",
        "{{ config(materialized='incremental', incremental_strategy='aggregate', event_time='hour_start',
                   meta={'tidemill': {'watermark': {'sources': ['shop.events'], 'due_after': 3610}}}) }}
         select date_trunc('hour', event_at) as hour_start, count(*) as events,
             coalesce({{ watermark('shop.events') }} >= date_trunc('hour', event_at) + interval '3610 seconds', false) as is_final
         from {{ source('shop', 'events') }} group by date_trunc('hour', event_at)",
    );
    world.watermark_us = Some(START_US + HOUR_US);
    world.land(&[event("a", 1, 1, START_US), event("b", 1, 1, START_US - 30 * DAY_US)]).await;
    world.build().await;
    assert_eq!(world.rows("select is_final from final").await, ["false", "true"]);
    world.watermark_us = Some(START_US + HOUR_US + 10_000_000);
    world.land(&[]).await;
    let report = world.build().await;
    let node = report.node("final").unwrap();
    assert!(matches!(node.reason, Some(Reason::WatermarkMoved { .. })), "{node:?}");
    assert_eq!((node.rows_written, node.whole_because.clone()), (1, None));
    assert_eq!(world.rows("select is_final from final").await, ["true", "true"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Windows from panes are the windows of the events, however these arrive.
    #[test]
    fn windows_from_panes_are_those_of_the_events(
        rows in prop::collection::vec((0..3_i64, 1..9_i64, 0..52 * 60_i64), 1..60),
        cut in 0..60_usize,
    ) {
        let events: Vec<Event> = rows
            .into_iter()
            .enumerate()
            .map(|(index, (user, amount, minute))| event(&format!("k{index}"), user, amount, START_US + minute * MINUTE_US))
            .collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = world();
            let (first, second) = events.split_at(cut.min(events.len()));
            for part in [first, second] {
                world.land(part).await;
                world.build().await;
            }
            let windows = world.rows("select * from windows").await;
            prop_assert_eq!(&windows, &world.rows(EXPECTED).await);
            let bouts = world.rows("select * from bouts").await;
            world.full_refresh().await;
            prop_assert_eq!(world.rows("select * from windows").await, windows);
            prop_assert_eq!(world.rows("select * from bouts").await, bouts);
            Ok(())
        })?;
    }
}
