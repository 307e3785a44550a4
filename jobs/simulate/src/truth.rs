//! What tables must hold after all traffic is processed.
//!
//! Instants are microseconds since the epoch, UTC; days are days since the epoch.

use std::collections::BTreeMap;

use serde::Serialize;

/// The truth of one system's traffic (or of several, merged).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Truth {
    /// Books per topic.
    pub topics: BTreeMap<String, TopicTruth>,
    /// Rows of zoner's models.
    pub zoner: ZonerTruth,
    /// Rows of logins' models.
    pub logins: LoginsTruth,
}

/// Books of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TopicTruth {
    /// Records sent.
    pub records: u64,
    /// Rows that land.
    pub landed: u64,
    /// Copies.
    pub duplicates: u64,
    /// Landed rows that are late.
    pub late: u64,
    /// Records in quarantine, by class.
    pub quarantined: BTreeMap<String, u64>,
}

/// Rows of zoner's models.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ZonerTruth {
    /// `zoner_activity_counts_hourly` by (user, activity, hour).
    #[serde(with = "rows")]
    pub hourly: BTreeMap<(i64, String, i64), ActivityCounts>,
    /// `zoner_activity_counts_daily` by (user, activity, local day).
    #[serde(with = "rows")]
    pub daily: BTreeMap<(i64, String, i64), ActivityCounts>,
    /// `zoner_sleep_intervals` by (user, instant of the opening event, occurrence).
    #[serde(with = "rows")]
    pub intervals: BTreeMap<(i64, i64, u32), SleepInterval>,
    /// `zoner_sleep_nightly` by (user, night).
    #[serde(with = "rows")]
    pub nightly: BTreeMap<(i64, i64), SleepNight>,
}

/// Counts of one activity in one hour or day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ActivityCounts {
    /// Every event.
    pub events: u64,
    /// Events that are no end.
    pub activities: u64,
    /// Late events.
    pub late_events: u64,
}

/// One sleep interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SleepInterval {
    /// Start; none for an orphaned end.
    pub started_us: Option<i64>,
    /// End; none for an unclosed interval.
    pub ended_us: Option<i64>,
    /// `closed`, `unclosed` or `orphan_end`.
    pub status: &'static str,
    /// Zone in force.
    pub tz: &'static str,
    /// Night, in days since the epoch.
    pub night: i64,
}

/// One night of one person.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SleepNight {
    /// Length of the union of closed intervals, in microseconds.
    pub sleep_us: i64,
    /// Closed intervals.
    pub interval_count: u64,
    /// Longest closed interval, in microseconds.
    pub longest_us: i64,
    /// Unclosed intervals.
    pub unclosed_count: u64,
    /// Orphaned ends.
    pub orphan_end_count: u64,
}

/// Rows of logins' models.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoginsTruth {
    /// `logins_usage_window` by start.
    #[serde(with = "rows")]
    pub windows: BTreeMap<i64, LoginWindow>,
    /// `logins_usage_hourly` by (hour, device type, app version, locale).
    #[serde(with = "rows")]
    pub hourly: BTreeMap<(i64, String, String, String), UsageHour>,
    /// `logins_hour_of_day` by (day, hour), in UTC.
    #[serde(with = "rows")]
    pub hour_of_day: BTreeMap<(i64, i64), HourOfDay>,
}

/// One window of logins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoginWindow {
    /// Logins.
    pub message_count: u64,
    /// Late logins.
    pub late_count: u64,
    /// Locale -> logins.
    pub locations: BTreeMap<String, u64>,
    /// Device type -> logins.
    pub devices: BTreeMap<String, u64>,
    /// App version -> logins.
    pub versions: BTreeMap<String, u64>,
}

/// Logins of one hour, device type, version and locale.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageHour {
    /// Logins.
    pub logins: u64,
    /// Late logins.
    pub late_logins: u64,
    /// Distinct users.
    pub users: std::collections::BTreeSet<String>,
    /// Distinct devices.
    pub devices: std::collections::BTreeSet<String>,
}

/// Logins of one hour of the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HourOfDay {
    /// Logins.
    pub logins: u64,
}

impl Truth {
    /// Adds another system's truth.
    pub fn merge(&mut self, other: Self) {
        self.topics.extend(other.topics);
        if self.zoner == ZonerTruth::default() {
            self.zoner = other.zoner;
        }
        if self.logins == LoginsTruth::default() {
            self.logins = other.logins;
        }
    }

    /// Sums over all topics: records, landed, duplicates, quarantined.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64, u64) {
        self.topics.values().fold((0, 0, 0, 0), |sum, topic| {
            (
                sum.0 + topic.records,
                sum.1 + topic.landed,
                sum.2 + topic.duplicates,
                sum.3 + topic.quarantined.values().sum::<u64>(),
            )
        })
    }
}

/// JSON has no maps with composite keys: rows are written as a list of `[key, row]`.
mod rows {
    use std::collections::BTreeMap;

    use serde::{Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }
}
