//! What is known of a person as of their newest event: SYSTEMS Z16.

use std::collections::{BTreeMap, BTreeSet};

use super::Event;
use super::sleep::Night;
use super::windows::KeyEvent;
use crate::time::DAY_US;

/// A person's row of `zoner_insights`.
pub(super) struct Insights {
    pub(super) as_of_us: i64,
    pub(super) tz: &'static str,
    pub(super) last_night: Option<i64>,
    pub(super) last_night_us: Option<i64>,
    pub(super) mean_7n_s: Option<f64>,
    pub(super) mean_previous_7n_s: Option<f64>,
    /// Activities of the last 24 hours: sleep, meals, light.
    pub(super) last_day: [u64; 3],
    /// The newest of each.
    pub(super) newest_us: [Option<i64>; 3],
    /// Sorted JSON array of distinct event types.
    pub(super) open_alerts: String,
}

const ACTIVITIES: [&str; 3] = ["sleep", "meal", "light_exposure"];

/// Sums a person up; none without an event. Events are in order.
pub(super) fn insights(events: &[Event], nights: &BTreeMap<i64, Night>, key_events: &[KeyEvent]) -> Option<Insights> {
    let newest = events.last()?;
    let slept: BTreeMap<i64, i64> = nights
        .iter()
        .filter(|(_, night)| night.interval_count > 0)
        .map(|(date, night)| (*date, night.sleep_us))
        .collect();
    let last_night = slept.keys().next_back().copied();
    let mean_before = |date: i64| mean_seconds(slept.range(date - 6..=date).map(|(_, us)| *us));
    let of =
        |activity: &'static str| events.iter().filter(move |event| event.activity == activity && event.is_activity());
    let open: BTreeSet<&str> = key_events
        .iter()
        .filter(|window| !window.is_met && window.due_us > newest.us - DAY_US)
        .map(|window| window.event_type)
        .collect();
    Some(Insights {
        as_of_us: newest.us,
        tz: newest.tz,
        last_night,
        last_night_us: last_night.and_then(|date| slept.get(&date).copied()),
        mean_7n_s: last_night.and_then(mean_before),
        mean_previous_7n_s: last_night.and_then(|date| mean_before(date - 7)),
        last_day: ACTIVITIES.map(|activity| of(activity).filter(|event| event.us > newest.us - DAY_US).count() as u64),
        newest_us: ACTIVITIES.map(|activity| of(activity).map(|event| event.us).next_back()),
        open_alerts: serde_json::json!(open).to_string(),
    })
}

fn mean_seconds(lengths_us: impl Iterator<Item = i64>) -> Option<f64> {
    let lengths: Vec<i64> = lengths_us.collect();
    #[expect(clippy::cast_precision_loss, reason = "a week has fewer than 2^53 microseconds")]
    let mean = lengths.iter().sum::<i64>() as f64 / 1e6 / lengths.len() as f64;
    (!lengths.is_empty()).then_some(mean)
}
