//! What is sent for each of the five systems, and which word of an output topic tells of which event.

use std::fmt::Write as _;

use serde_json::Value;
use tidemill_project::clock::Micros;
use tidemill_project::config::parse_instant;

use crate::traffic::write_login;

/// A system under its traffic.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) system: &'static str,
    /// Variables that switch it on.
    pub(super) vars: &'static str,
    pub(super) select: &'static [&'static str],
    /// Events per second.
    pub(super) rate: u64,
    /// Topics that it reads.
    pub(super) inputs: &'static [&'static str],
    /// Sent before anything is measured, to the topics of their names.
    pub(super) before: fn() -> Vec<(&'static str, String)>,
    /// Writes the event of a number, at an instant; says to which of the inputs it goes.
    pub(super) event: fn(out: &mut String, number: u64, now_us: Micros) -> usize,
    pub(super) outputs: &'static [Output],
}

impl Case {
    /// The longest grace of its windows.
    pub(super) fn grace_s(&self) -> u64 {
        let of = |output: &Output| match output.expected {
            Expected::Windows { grace_s, .. } => u64::try_from(grace_s).unwrap_or_default(),
            Expected::Events { .. } => 0,
        };
        self.outputs.iter().map(of).max().unwrap_or_default()
    }
}

/// A topic that is waited for.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub(super) topic: &'static str,
    /// The id of the requirement.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What it may take for 95 of 100, in seconds.
    pub(super) limit_s: u64,
    /// Of what a message tells.
    pub(super) tells: fn(key: &str, value: &Value) -> Option<Word>,
    pub(super) expected: Expected,
}

/// What a message tells, and from when its age counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Word {
    /// Of the event of this number: from its sending.
    Event(u64),
    /// Of the window that was closed at this instant, grace included; the number tells windows of one end apart.
    Closed { at_us: Micros, of: u64 },
}

/// Which words must come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// One for each event whose number leaves a remainder of `rest` when divided by `of`.
    Events { of: u64, rest: u64 },
    /// `per_step` for each of the windows, one every so many seconds, that end while events are sent.
    Windows { every_s: i64, per_step: u64, grace_s: i64 },
}

pub(super) const CASES: [Case; 5] = [
    Case {
        system: "logins",
        vars: "{logins_topics_enabled: true}",
        select: &["logins_enriched+"],
        rate: 1_000,
        inputs: &["user-login"],
        before: Vec::new,
        event: |out, number, now_us| {
            write_login(out, number, now_us / SECOND_US);
            0
        },
        outputs: &[
            Output {
                topic: "processed-logins",
                id: "L18",
                title: "enriched login",
                limit_s: 5,
                // The digits behind the last dash are the event's number.
                tells: |_, value| {
                    let number = value["device_id"].as_str()?.rsplit('-').next()?;
                    Some(Word::Event(u64::from_str_radix(number, 16).ok()?))
                },
                expected: Expected::Events { of: 1, rest: 0 },
            },
            Output {
                topic: "aggregated-usage",
                id: "L18",
                title: "window of 10 s, from its end and 10 s of grace",
                limit_s: 5,
                tells: |_, value| Some(Word::Closed { at_us: end_of(value)? + 10 * SECOND_US, of: 0 }),
                expected: Expected::Windows { every_s: 10, per_step: 1, grace_s: 10 },
            },
        ],
    },
    Case {
        system: "clicks",
        vars: "{clicks_enabled: true, clicks_topics_enabled: true}",
        select: &["+potential_bots"],
        rate: CLICKS_RATE,
        inputs: &["events.user-actions", "events.transactions", "events.system"],
        before: Vec::new,
        event: click,
        outputs: &[Output {
            topic: "alerts.potential-bots",
            id: "C26",
            title: "first alert of a bot, from its 101st click",
            limit_s: 5,
            tells: |key, _| {
                Some(Word::Event(key.strip_prefix('b')?.parse::<u64>().ok()? * CLICKS_RATE + BOT_CLICKS - 1))
            },
            expected: Expected::Events { of: CLICKS_RATE, rest: BOT_CLICKS - 1 },
        }],
    },
    Case {
        system: "activity",
        vars: "{activity_enabled: true, activity_topics_enabled: true}",
        select: &["+activity_windows"],
        rate: PHONES * 100,
        inputs: &["raw_sensor_data"],
        before: Vec::new,
        event: reading,
        outputs: &[Output {
            topic: "processed_activity",
            id: "A21",
            title: "window of 10 s, from its end and 30 s of grace",
            limit_s: 5,
            tells: |key, value| {
                let phone = key.rsplit('-').next()?.parse().ok()?;
                Some(Word::Closed { at_us: end_of(value)? + 30 * SECOND_US, of: phone })
            },
            expected: Expected::Windows { every_s: 2, per_step: PHONES, grace_s: 30 },
        }],
    },
    Case {
        system: "zentry",
        vars: "{zentry_enabled: true, zentry_topics_enabled: true}",
        select: &["+zentry_sleep_entries", "+zentry_feed_fanout"],
        rate: 50,
        inputs: &["sleep_entries", "follows"],
        before: follows,
        event: entry,
        outputs: &[
            Output {
                topic: "zentry.index.sleep_entries",
                id: "E26",
                title: "entry in the index",
                limit_s: 10,
                tells: |key, _| Some(Word::Event(key.parse().ok()?)),
                expected: Expected::Events { of: 1, rest: 0 },
            },
            Output {
                topic: "zentry.index.feeds",
                id: "E26",
                title: "entry in its readers' feeds",
                limit_s: 10,
                tells: |key, _| Some(Word::Event(key.rsplit('/').next()?.parse().ok()?)),
                expected: Expected::Events { of: 1, rest: 0 },
            },
        ],
    },
    Case {
        system: "zoner",
        vars: "{zoner_flights_enabled: true, zoner_topics_enabled: true}",
        select: &["+zoner_key_events"],
        // The burst of Z25; the design point is 20 a second.
        rate: 500,
        inputs: &["zoner.flights", "user_activity", "sleep", "meals", "light_exposure"],
        before: Vec::new,
        event: flight_or_meal,
        outputs: &[Output {
            topic: "zoner.alerts",
            id: "Z24, Z25",
            title: "alert of a delayed flight, in a burst",
            limit_s: 5,
            tells: |_, value| Some(Word::Event(value["flight_id"].as_str()?.strip_prefix('f')?.parse().ok()?)),
            expected: Expected::Events { of: FLIGHTS_OF, rest: 0 },
        }],
    },
];

const SECOND_US: i64 = 1_000_000;
/// The system's peak.
const CLICKS_RATE: u64 = 2_000;
/// One more than is allowed in a minute.
const BOT_CLICKS: u64 = 101;
const PHONES: u64 = 100;
/// One event of so many is a flight, the others are meals.
const FLIGHTS_OF: u64 = 25;
const AUTHORS: u64 = 1_000;
const FOLLOWERS: u64 = 20;

/// The first clicks of a second are those of its bot; the others belong to a crowd.
fn click(out: &mut String, number: u64, now_us: Micros) -> usize {
    let (second, place) = (number / CLICKS_RATE, number % CLICKS_RATE);
    let user = if place < BOT_CLICKS {
        format!("b{second}")
    } else {
        format!("u{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 200_000)
    };
    let _ = write!(
        out,
        r#"{{"event_id":"e{number}","user_id":"{user}","action":"click","occurred_at":{},"page":"/"}}"#,
        now_us / 1_000
    );
    0
}

fn reading(out: &mut String, number: u64, now_us: Micros) -> usize {
    let phone = number % PHONES;
    let _ = write!(
        out,
        r#"{{"message_id":{},"session_id":"s-{phone}","device_id":"phone-{phone}","sensor":"accelerometer","time":{},"x":0.{:03},"y":1.5,"z":-2.25,"values":null}}"#,
        number / 10_000,
        // Apart by their number where the clock has not moved.
        now_us * 1_000 + i64::try_from(number % 1_000).unwrap_or(0),
        number % 1_000,
    );
    0
}

fn entry(out: &mut String, number: u64, now_us: Micros) -> usize {
    let now = instant(now_us);
    let _ = write!(
        out,
        r#"{{"event":"sleep_entry_created","occurred_at":"{now}","data":{{"id":{number},"user_id":{},"sleep_duration":27000,"sleep_start_at":"{}","created_at":"{now}","updated_at":"{now}"}}}}"#,
        number % AUTHORS,
        instant(now_us - 28_800 * SECOND_US),
    );
    0
}

/// Flights are delayed by an hour and a half, no two of a person at one time.
fn flight_or_meal(out: &mut String, number: u64, now_us: Micros) -> usize {
    let (now_s, user) = (now_us / SECOND_US, number % 5_000 + 1);
    if !number.is_multiple_of(FLIGHTS_OF) {
        let _ = write!(out, r#"{{"user_id":{user},"activity":"meal","timestamp":{now_s}.{:06}}}"#, now_us % SECOND_US);
        return 1;
    }
    let scheduled = now_s + 3_600 + i64::try_from(number / 5_000).unwrap_or_default();
    let _ = write!(
        out,
        r#"{{"user_id":{user},"flight_id":"f{number}","scheduled_departure":{scheduled},"estimated_departure":{},"updated_at":{now_s}}}"#,
        scheduled + 5_400,
    );
    0
}

fn follows() -> Vec<(&'static str, String)> {
    let follow = |id: u64| {
        let (author, place) = (id / FOLLOWERS, id % FOLLOWERS);
        let reader = AUTHORS + (author * 7 + place * 31) % AUTHORS;
        let value = format!(
            r#"{{"event":"follow_created","occurred_at":"2025-04-01T00:00:00Z","data":{{"id":{id},"follower_id":{reader},"followed_id":{author},"created_at":"2025-04-01T00:00:00Z"}}}}"#
        );
        ("follows", value)
    };
    (0..AUTHORS * FOLLOWERS).map(follow).collect()
}

fn instant(us: Micros) -> String {
    let instant = chrono::DateTime::from_timestamp_micros(us).unwrap_or_default();
    instant.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// The end of a window.
fn end_of(value: &Value) -> Option<Micros> {
    parse_instant(value["window_end"].as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_json_object_of_its_own() {
        for case in CASES {
            let mut seen = std::collections::BTreeSet::new();
            for number in 0..500 {
                let mut text = String::new();
                (case.event)(&mut text, number, 1_741_521_605_000_000);
                assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
                assert!(seen.insert(text), "{} {number}", case.system);
            }
        }
    }

    #[test]
    fn words_lead_back_to_their_events() {
        let told = |system: &str, output: usize, key: &str, value: Value| {
            let case = CASES.iter().find(|case| case.system == system).unwrap();
            (case.outputs[output].tells)(key, &value)
        };
        let mut login = String::new();
        (CASES[0].event)(&mut login, 4_711, 0);
        assert_eq!(told("logins", 0, "", serde_json::from_str(&login).unwrap()), Some(Word::Event(4_711)));
        assert_eq!(told("clicks", 0, "b3", Value::Null), Some(Word::Event(6_100)));
        assert_eq!(told("zentry", 1, "1007/12", Value::Null), Some(Word::Event(12)));
        let window = serde_json::json!({"window_end": "2025-03-09T12:00:10.000000Z"});
        let closed = Word::Closed { at_us: 1_741_521_640_000_000, of: 7 };
        assert_eq!(told("activity", 0, "s-7/phone-7", window), Some(closed));
    }
}
