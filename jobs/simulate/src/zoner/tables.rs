//! Rows of zoner's models.

use std::collections::BTreeMap;

use super::Event;
use super::insights::insights;
use super::people::Person;
use super::sleep::{Interval, Night, intervals, nights};
use super::windows::{KeyEvent, key_events};
use crate::time::{HOUR_US, floor, local_day};
use crate::truth::{Cell, Kind, Table};

/// Counts of one activity in one hour or day.
#[derive(Default)]
struct Counts {
    events: u64,
    activities: u64,
    late_events: u64,
    first_us: Option<i64>,
    last_us: Option<i64>,
}

/// Counts, kept while events are sent; the rest follows from what landed.
#[derive(Default)]
pub(super) struct Tables {
    /// By hour, user, activity.
    hourly: BTreeMap<(i64, i64, &'static str), Counts>,
    /// By local day, user, activity.
    daily: BTreeMap<(i64, i64, &'static str), Counts>,
}

impl Tables {
    pub(super) fn count(&mut self, user_id: i64, event: &Event, is_late: bool) {
        let (hour, day) = (floor(event.us, HOUR_US), local_day(event.us, event.tz, 0));
        for counts in [
            self.hourly.entry((hour, user_id, event.activity)).or_default(),
            self.daily.entry((day, user_id, event.activity)).or_default(),
        ] {
            counts.events += 1;
            counts.activities += u64::from(event.is_activity());
            counts.late_events += u64::from(is_late);
            counts.first_us = Some(counts.first_us.map_or(event.us, |first| first.min(event.us)));
            counts.last_us = Some(counts.last_us.map_or(event.us, |last| last.max(event.us)));
        }
    }

    pub(super) fn finish(self, people: Vec<Person>, watermark_us: i64, keep: usize) -> Vec<Table> {
        let mut sleep_intervals = Table::new("zoner_sleep_intervals", INTERVALS, 2, keep);
        let mut nightly = Table::new("zoner_sleep_nightly", NIGHTS, 2, keep);
        let mut expected = Table::new("zoner_key_events", KEY_EVENTS, 3, keep);
        let mut summaries = Table::new("zoner_insights", INSIGHTS, 1, keep);
        for mut person in people {
            person.landed.sort_by_key(|event| event.us);
            let intervals = intervals(person.id, &person.landed);
            let nights = nights(&intervals);
            let windows = key_events(&person.landed, person.sends_zone, watermark_us);
            for row in &intervals {
                interval_row(&mut sleep_intervals, person.id, row);
            }
            for (date, row) in &nights {
                night_row(&mut nightly, person.id, *date, row);
            }
            for row in &windows {
                key_event_row(&mut expected, person.id, row);
            }
            insights_row(&mut summaries, &person, &nights, &windows);
        }
        let hourly = counts("zoner_activity_counts_hourly", HOURLY, self.hourly, keep);
        let daily = counts("zoner_activity_counts_daily", DAILY, self.daily, keep);
        vec![hourly, daily, sleep_intervals, nightly, expected, summaries]
    }
}

const HOURLY: &[(&str, Kind)] = &[
    ("hour_start", Kind::Instant),
    ("user_id", Kind::Int),
    ("activity", Kind::Text),
    ("events", Kind::Int),
    ("activities", Kind::Int),
    ("late_events", Kind::Int),
    ("first_event_at", Kind::Instant),
    ("last_event_at", Kind::Instant),
];
const DAILY: &[(&str, Kind)] = &[
    ("local_date", Kind::Day),
    ("user_id", Kind::Int),
    ("activity", Kind::Text),
    ("events", Kind::Int),
    ("activities", Kind::Int),
    ("late_events", Kind::Int),
    ("first_event_at", Kind::Instant),
    ("last_event_at", Kind::Instant),
];

fn counts(
    model: &'static str,
    columns: &'static [(&'static str, Kind)],
    rows: BTreeMap<(i64, i64, &'static str), Counts>,
    keep: usize,
) -> Table {
    let mut table = Table::new(model, columns, 3, keep);
    for ((period, user_id, activity), row) in rows {
        table.row(&[
            Cell::Int(period),
            Cell::Int(user_id),
            activity.into(),
            row.events.into(),
            row.activities.into(),
            row.late_events.into(),
            row.first_us.into(),
            row.last_us.into(),
        ]);
    }
    table
}

const INTERVALS: &[(&str, Kind)] = &[
    ("user_id", Kind::Int),
    ("interval_key", Kind::Text),
    ("started_at", Kind::Instant),
    ("ended_at", Kind::Instant),
    ("duration_s", Kind::Seconds),
    ("method", Kind::Text),
    ("status", Kind::Text),
    ("tz", Kind::Text),
    ("night_date", Kind::Day),
];

fn interval_row(table: &mut Table, user_id: i64, row: &Interval) {
    table.row(&[
        Cell::Int(user_id),
        row.key.clone().into(),
        row.started_us.into(),
        row.ended_us.into(),
        Cell::Int(row.closed().map_or(0, |(start, end)| end - start)),
        row.method.map_or(Cell::Null, Cell::from),
        row.status.into(),
        row.tz.into(),
        Cell::Int(row.night),
    ]);
}

const NIGHTS: &[(&str, Kind)] = &[
    ("user_id", Kind::Int),
    ("night_date", Kind::Day),
    ("tz", Kind::Text),
    ("sleep_seconds", Kind::Seconds),
    ("interval_count", Kind::Int),
    ("longest_interval_s", Kind::Seconds),
    ("first_sleep_at", Kind::Instant),
    ("last_wake_at", Kind::Instant),
    ("unclosed_count", Kind::Int),
    ("orphan_end_count", Kind::Int),
];

fn night_row(table: &mut Table, user_id: i64, date: i64, row: &Night) {
    table.row(&[
        Cell::Int(user_id),
        Cell::Int(date),
        row.tz.into(),
        Cell::Int(row.sleep_us),
        row.interval_count.into(),
        Cell::Int(row.longest_us),
        row.first_us.into(),
        row.last_us.into(),
        row.unclosed_count.into(),
        row.orphan_end_count.into(),
    ]);
}

const KEY_EVENTS: &[(&str, Kind)] = &[
    ("user_id", Kind::Int),
    ("event_type", Kind::Text),
    ("window_start", Kind::Instant),
    ("window_end", Kind::Instant),
    ("local_date", Kind::Day),
    ("tz", Kind::Text),
    ("rule_source", Kind::Text),
    ("outcome", Kind::Text),
    ("due_at", Kind::Instant),
    ("recommendation", Kind::Text),
    ("flight_id", Kind::Text),
];

fn key_event_row(table: &mut Table, user_id: i64, row: &KeyEvent) {
    table.row(&[
        Cell::Int(user_id),
        row.event_type.into(),
        Cell::Int(row.start_us),
        Cell::Int(row.end_us),
        Cell::Int(row.local_date),
        row.tz.into(),
        "default".into(),
        if row.is_met { "met" } else { "missed" }.into(),
        Cell::Int(row.due_us),
        row.recommendation.into(),
        Cell::Null,
    ]);
}

const INSIGHTS: &[(&str, Kind)] = &[
    ("user_id", Kind::Int),
    ("as_of", Kind::Instant),
    ("tz", Kind::Text),
    ("last_night_date", Kind::Day),
    ("sleep_last_night_s", Kind::Seconds),
    ("sleep_events_24h", Kind::Int),
    ("meals_24h", Kind::Int),
    ("light_24h", Kind::Int),
    ("last_sleep_at", Kind::Instant),
    ("last_meal_at", Kind::Instant),
    ("last_light_at", Kind::Instant),
    ("open_alerts", Kind::Text),
    ("sleep_avg_7n_s", Kind::Double),
    ("sleep_avg_prev_7n_s", Kind::Double),
    ("sleep_change_7n_s", Kind::Double),
];

fn insights_row(table: &mut Table, person: &Person, nights: &BTreeMap<i64, Night>, windows: &[KeyEvent]) {
    let Some(row) = insights(&person.landed, nights, windows) else { return };
    let [sleeps, meals, lights] = row.last_day;
    let [last_sleep, last_meal, last_light] = row.newest_us;
    table.row(&[
        Cell::Int(person.id),
        Cell::Int(row.as_of_us),
        row.tz.into(),
        row.last_night.into(),
        row.last_night_us.into(),
        sleeps.into(),
        meals.into(),
        lights.into(),
        last_sleep.into(),
        last_meal.into(),
        last_light.into(),
        row.open_alerts.into(),
        row.mean_7n_s.into(),
        row.mean_previous_7n_s.into(),
        row.mean_7n_s.zip(row.mean_previous_7n_s).map(|(now, before)| now - before).into(),
    ]);
}
