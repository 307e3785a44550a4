//! Seeded login traffic with its own truth: what the books, the raw table and the models must say in the end.
//!
//! The truth is counted here, by plain code, while the records are made; nothing of it is read back. It follows the message
//! of the shipped `logins` contract: seven fields, only `timestamp` required, the key a hash over all of them.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::json;

use crate::topics::Record;

/// The topic of the shipped contract.
pub const TOPIC: &str = "user-login";
/// Seconds up to which a login is not late.
pub const GRACE_S: u64 = 10;
/// Length of the shipped usage windows in seconds.
pub const WINDOW_S: i64 = 10;

/// What to make.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Same seed, same records.
    pub seed: u64,
    /// Distinct logins.
    pub events: u32,
    /// Partitions that the records are spread over.
    pub partitions: u32,
    /// Second of the first login, since the epoch.
    pub start_s: i64,
    /// Logins per second of event time.
    pub events_per_s: u32,
    /// Shares of `events` in per cent: copies sent once more, …
    pub duplicates: u64,
    /// … sent too late, …
    pub late: u64,
    /// … and extra records that cannot land.
    pub malformed: u64,
}

impl Plan {
    /// 5 % duplicates, 5 % late, 1 % malformed, 50 logins a second from 2025-03-08 on.
    #[must_use]
    pub fn new(seed: u64, events: u32, partitions: u32) -> Self {
        Self {
            seed,
            events,
            partitions,
            start_s: 1_741_392_000,
            events_per_s: 50,
            duplicates: 5,
            late: 5,
            malformed: 1,
        }
    }
}

/// Records in the order of sending, and what must become of them.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Each with its partition and timestamp.
    pub records: Vec<Record>,
    /// What must become of them.
    pub truth: Truth,
}

/// What must be counted in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Distinct logins.
    pub landed: i64,
    /// Copies.
    pub duplicates: i64,
    /// Records that cannot land.
    pub quarantined: i64,
    /// Logins sent later than the grace allows.
    pub late: i64,
    /// Logins per window, by its start in seconds since the epoch.
    pub windows: BTreeMap<i64, i64>,
    /// Logins per device type.
    pub devices: BTreeMap<String, i64>,
    /// Sum of the whole seconds of all timestamps: moves when one row is lost and another doubled.
    pub timestamp_sum: i64,
}

impl Truth {
    /// Records sent.
    #[must_use]
    pub fn records(&self) -> i64 {
        self.landed + self.duplicates + self.quarantined
    }
}

/// Makes the traffic.
///
/// # Panics
/// When the plan has no partition or no login a second.
#[must_use]
pub fn traffic(plan: &Plan) -> Traffic {
    let mut random = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut truth = Truth::default();
    // Sending time in milliseconds, and a number that keeps the order of records with the same one.
    let mut sent: Vec<(i64, Record)> = Vec::new();
    for number in 0..plan.events {
        let event_s = plan.start_s + i64::from(number / plan.events_per_s);
        let is_late = draw(&mut random, 100) < plan.late;
        let delay_s = if is_late { GRACE_S + 1 + draw(&mut random, 300) } else { draw(&mut random, GRACE_S / 2) };
        let timestamp_ms = (event_s + i64::try_from(delay_s).expect("a delay is minutes")) * 1000;
        let device = ["android", "iOS", "unknown"][index(&mut random, 3)];
        let record = Record {
            partition: Some(partition(&mut random, plan)),
            value: Some(login(&mut random, number, event_s, device).into_bytes()),
            timestamp_ms: Some(timestamp_ms),
            ..Record::default()
        };
        truth.landed += 1;
        truth.late += i64::from(is_late);
        truth.timestamp_sum += event_s;
        *truth.windows.entry(event_s.div_euclid(WINDOW_S) * WINDOW_S).or_default() += 1;
        *truth.devices.entry(device.to_owned()).or_default() += 1;
        if draw(&mut random, 100) < plan.duplicates {
            truth.duplicates += 1;
            // A copy keeps the first one's timestamp, so that lateness does not depend on which of them lands, and may sit in
            // another partition and far away.
            let copy = Record { partition: Some(partition(&mut random, plan)), ..record.clone() };
            let distance_ms = i64::try_from(draw(&mut random, 600_000)).expect("ten minutes");
            sent.push((timestamp_ms + distance_ms, copy));
        }
        if draw(&mut random, 100) < plan.malformed {
            truth.quarantined += 1;
            let broken = Record {
                partition: Some(partition(&mut random, plan)),
                value: Some(broken(&mut random, number, event_s)),
                timestamp_ms: Some(timestamp_ms),
                ..Record::default()
            };
            sent.push((timestamp_ms, broken));
        }
        sent.push((timestamp_ms, record));
    }
    sent.sort_by_key(|(sent_ms, _)| *sent_ms);
    Traffic { records: sent.into_iter().map(|(_, record)| record).collect(), truth }
}

fn draw(random: &mut ChaCha8Rng, below: u64) -> u64 {
    random.next_u64() % below
}

fn index(random: &mut ChaCha8Rng, below: u64) -> usize {
    usize::try_from(draw(random, below)).expect("small")
}

fn partition(random: &mut ChaCha8Rng, plan: &Plan) -> i32 {
    i32::try_from(draw(random, u64::from(plan.partitions))).expect("small")
}

/// `device_id` holds the number, so every login is distinct.
fn login(random: &mut ChaCha8Rng, number: u32, event_s: i64, device: &str) -> String {
    // Strings of digits and numbers alike, and a device that is not sent is "unknown".
    let timestamp = if draw(random, 10) == 0 { json!(event_s) } else { json!(event_s.to_string()) };
    let version = ["2.3.0", "2.4.0", "2.4.1"][index(random, 3)];
    let locale = ["CA", "MI", "RU", "FR"][index(random, 4)];
    let mut login = json!({
        "user_id": format!("9f0c2a7e-1111-4000-8000-{:012}", draw(random, 5_000)),
        "app_version": version,
        "ip": format!("203.0.113.{}", draw(random, 256)),
        "locale": locale,
        "device_id": format!("5c1d8f00-2222-4000-8000-{number:012}"),
        "timestamp": timestamp,
    });
    if device != "unknown" {
        login["device_type"] = json!(device);
    }
    login.to_string()
}

fn broken(random: &mut ChaCha8Rng, number: u32, event_s: i64) -> Vec<u8> {
    match draw(random, 6) {
        0 => format!("{{\"user_id\": \"cut-off-{number}").into_bytes(),
        1 => b"[]".to_vec(),
        2 => vec![0xff, 0xfe, b'{', b'}'],
        3 => Vec::new(),
        4 => json!({"user_id": "no-time", "device_id": number.to_string()}).to_string().into_bytes(),
        _ => json!({"user_id": 17, "timestamp": event_s}).to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_traffic() {
        let plan = Plan::new(7, 2_000, 4);
        let (first, second) = (traffic(&plan), traffic(&plan));
        assert_eq!(first.records, second.records);
        assert_eq!(first.truth, second.truth);
    }

    #[test]
    fn every_record_has_one_outcome() {
        let Traffic { records, truth } = traffic(&Plan::new(7, 2_000, 4));
        assert_eq!(i64::try_from(records.len()).expect("small"), truth.records());
        assert_eq!(truth.windows.values().sum::<i64>(), truth.landed);
        assert!(truth.duplicates > 0 && truth.quarantined > 0 && truth.late > 0);
    }
}
