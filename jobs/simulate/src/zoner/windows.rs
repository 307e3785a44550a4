//! Windows in which something was expected of a person, and whether it happened: SYSTEMS Z15, default rules.

use super::Event;
use crate::time::{DAY_US, HOUR_US, SECOND_US, date, local_day, wall_clock};

const GRACE_US: i64 = 900 * SECOND_US;
/// A person without an event in this time before a window is not judged.
const ACTIVE_US: i64 = 72 * HOUR_US;

/// What is expected each day, on the wall clock: minutes from a local day's midnight, the end excluded.
struct Rule {
    event_type: &'static str,
    activity: &'static str,
    start_minute: i64,
    end_minute: i64,
    recommendation: &'static str,
}

const RULES: [Rule; 3] = [
    Rule {
        event_type: "missed_morning_light",
        activity: "light_exposure",
        start_minute: 6 * 60,
        end_minute: 10 * 60,
        recommendation: "evening_light_adjustment",
    },
    Rule {
        event_type: "missed_nap",
        activity: "sleep",
        start_minute: 12 * 60,
        end_minute: 15 * 60,
        recommendation: "earlier_bedtime",
    },
    Rule {
        event_type: "missed_sleep",
        activity: "sleep",
        start_minute: 19 * 60,
        end_minute: 25 * 60,
        recommendation: "shift_plan",
    },
];

/// A window that is due.
#[derive(Clone, Debug)]
pub(super) struct KeyEvent {
    pub(super) event_type: &'static str,
    pub(super) start_us: i64,
    pub(super) end_us: i64,
    pub(super) local_date: i64,
    pub(super) tz: &'static str,
    pub(super) is_met: bool,
    pub(super) due_us: i64,
    pub(super) recommendation: &'static str,
}

/// A time in one zone: `[from, to)`.
struct Segment {
    from_us: i64,
    to_us: i64,
    tz: &'static str,
}

/// The windows of a person that are due at a watermark. Events are in order.
pub(super) fn key_events(events: &[Event], sends_zone: bool, watermark_us: i64) -> Vec<KeyEvent> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Vec::new() };
    let mut found = Vec::new();
    for segment in segments(events, sends_zone) {
        let from_us = segment.from_us.max(first.us) - DAY_US;
        let to_us = segment.to_us.min(last.us + ACTIVE_US) + DAY_US;
        for day in local_day(from_us, segment.tz, 0)..=local_day(to_us, segment.tz, 0) {
            found.extend(RULES.iter().filter_map(|rule| judge(rule, day, &segment, events, watermark_us)));
        }
    }
    found
}

fn judge(rule: &Rule, day: i64, segment: &Segment, events: &[Event], watermark_us: i64) -> Option<KeyEvent> {
    let start_us = wall_clock(date(day), rule.start_minute, segment.tz);
    let end_us = wall_clock(date(day), rule.end_minute, segment.tz);
    let due_us = end_us + GRACE_US;
    let is_inside = segment.from_us <= start_us && end_us <= segment.to_us;
    let is_active = !between(events, start_us - ACTIVE_US, start_us).is_empty();
    (is_inside && is_active && due_us <= watermark_us).then(|| KeyEvent {
        event_type: rule.event_type,
        start_us,
        end_us,
        local_date: day,
        tz: segment.tz,
        is_met: between(events, start_us, end_us)
            .iter()
            .any(|event| event.activity == rule.activity && event.is_activity()),
        due_us,
        recommendation: rule.recommendation,
    })
}

/// Events of `[from, to)`.
fn between(events: &[Event], from_us: i64, to_us: i64) -> &[Event] {
    let start = events.partition_point(|event| event.us < from_us);
    let end = events.partition_point(|event| event.us < to_us);
    &events[start..end.max(start)]
}

/// The person's zone history as events tell it; before the first of them, and without any, the default zone.
fn segments(events: &[Event], sends_zone: bool) -> Vec<Segment> {
    let mut segments = vec![Segment { from_us: i64::MIN, to_us: i64::MAX, tz: "UTC" }];
    for event in events.iter().filter(|_| sends_zone) {
        let current = segments.last_mut().expect("there is one from the start");
        if current.tz != event.tz {
            current.to_us = event.us;
            segments.push(Segment { from_us: event.us, to_us: i64::MAX, tz: event.tz });
        }
    }
    segments
}
