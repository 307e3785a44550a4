//! Sleep intervals and nights of one person, by the rules of SYSTEMS Z13 and Z14.

use std::collections::BTreeMap;

use super::Event;
use crate::key;
use crate::time::{HOUR_US, local_day, union_length};

/// Longest sleep that closes an interval.
const SLEEP_MAX_US: i64 = 14 * HOUR_US;

/// One sleep interval.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    pub(super) key: String,
    pub(super) started_us: Option<i64>,
    pub(super) ended_us: Option<i64>,
    pub(super) method: Option<&'static str>,
    pub(super) status: &'static str,
    pub(super) tz: &'static str,
    pub(super) night: i64,
}

impl Interval {
    /// Both ends of a closed one.
    pub(super) fn closed(&self) -> Option<(i64, i64)> {
        (self.status == "closed").then_some(self.started_us.zip(self.ended_us)).flatten()
    }

    fn opened_us(&self) -> Option<i64> {
        self.started_us.or(self.ended_us)
    }
}

/// One night.
#[derive(Clone, Debug, Default)]
pub(super) struct Night {
    pub(super) tz: &'static str,
    pub(super) sleep_us: i64,
    pub(super) interval_count: u64,
    pub(super) longest_us: i64,
    pub(super) first_us: Option<i64>,
    pub(super) last_us: Option<i64>,
    pub(super) unclosed_count: u64,
    pub(super) orphan_end_count: u64,
}

/// The intervals of a person's events, which are in order; no two are at the same instant.
pub(super) fn intervals(user_id: i64, events: &[Event]) -> Vec<Interval> {
    let is_phased = |event: &&Event| event.activity == "sleep" && event.phase.is_some() && event.duration_us.is_none();
    let mut intervals = Vec::new();
    for (index, event) in events.iter().enumerate().filter(|(_, event)| event.activity == "sleep") {
        let within = |end_us: i64| (end_us - event.us <= SLEEP_MAX_US).then_some(end_us);
        let (started_us, ended_us, method) = match (event.duration_us, event.phase) {
            (Some(duration_us), _) => (Some(event.us), Some(event.us + duration_us), "duration"),
            (None, Some("start")) => {
                let next = events[index + 1..].iter().find(is_phased);
                let end_us = next.filter(|next| next.phase == Some("end")).and_then(|next| within(next.us));
                (Some(event.us), end_us, "pair")
            }
            (None, Some(_)) => {
                let previous = events[..index].iter().rev().find(is_phased);
                let is_paired = previous
                    .is_some_and(|previous| previous.phase == Some("start") && event.us - previous.us <= SLEEP_MAX_US);
                if is_paired {
                    continue;
                }
                (None, Some(event.us), "orphan")
            }
            (None, None) => (Some(event.us), events.get(index + 1).and_then(|next| within(next.us)), "next_event"),
        };
        let status = match (started_us, ended_us) {
            (None, _) => "orphan_end",
            (Some(_), None) => "unclosed",
            (Some(_), Some(_)) => "closed",
        };
        let phase = event.phase.map_or_else(|| "null".to_owned(), |phase| format!("\"{phase}\""));
        intervals.push(Interval {
            key: key::derived(&format!("[{user_id},\"sleep\",{},{phase}]", event.us)),
            started_us,
            ended_us,
            method: (status == "closed").then_some(method),
            status,
            tz: event.tz,
            night: local_day(event.us, event.tz, 12),
        });
    }
    intervals
}

/// Nights of a person's intervals, which are in order, by their dates in days since the epoch.
pub(super) fn nights(intervals: &[Interval]) -> BTreeMap<i64, Night> {
    let mut by_night: BTreeMap<i64, Vec<&Interval>> = BTreeMap::new();
    for interval in intervals {
        by_night.entry(interval.night).or_default().push(interval);
    }
    by_night.into_iter().map(|(date, rows)| (date, night(&rows))).collect()
}

fn night(rows: &[&Interval]) -> Night {
    let closed: Vec<(i64, i64)> = rows.iter().filter_map(|row| row.closed()).collect();
    let earliest =
        |rows: &mut dyn Iterator<Item = &&Interval>| rows.min_by_key(|row| row.opened_us()).map(|row| row.tz);
    let tz = earliest(&mut rows.iter().filter(|row| row.closed().is_some())).or_else(|| earliest(&mut rows.iter()));
    let count = |status: &str| rows.iter().filter(|row| row.status == status).count() as u64;
    Night {
        tz: tz.unwrap_or_default(),
        interval_count: closed.len() as u64,
        longest_us: closed.iter().map(|(start, end)| end - start).max().unwrap_or_default(),
        first_us: closed.iter().map(|(start, _)| *start).min(),
        last_us: closed.iter().map(|(_, end)| *end).max(),
        sleep_us: union_length(closed),
        unclosed_count: count("unclosed"),
        orphan_end_count: count("orphan_end"),
    }
}
