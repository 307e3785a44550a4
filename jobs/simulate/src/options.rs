//! How much of what is sent.

use serde::{Deserialize, Serialize};

use crate::clicks::SchemaIds;
use crate::system::System;

/// Where zoner's events go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// All on `user_activity`.
    Mixed,
    /// Each on the topic of its activity.
    PerActivity,
    /// Two of three users the one, the third the other.
    #[default]
    Both,
}

/// Shape of zoner's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Everybody lives a day plan.
    #[default]
    DayPlan,
    /// The system's own demo producer: user 123 does something every two seconds.
    Demo,
}

/// What a stream is made of. Shares are drawn per base event; each is within 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
pub struct Options {
    /// Same seed, same bytes.
    pub seed: u64,
    /// Base events: those that would be sent if nothing ever went wrong.
    pub events: u64,
    /// Virtual time after which no base event happens, in microseconds from [`Options::start_us`]; the earlier of this and
    /// [`Options::events`] ends the stream.
    pub duration_us: Option<i64>,
    /// Base events per second of virtual time instead of the system's own number; zoner takes as many users as live at it.
    pub rate: Option<f64>,
    /// Virtual time of the first event, microseconds since the epoch, UTC.
    pub start_us: i64,
    /// Users (zoner, clicks, zentry) or devices (activity) instead of the system's own number.
    pub users: Option<u64>,
    /// Partitions of each topic instead of the system's own number.
    pub partitions: Option<i32>,
    /// Share of events of which a copy is sent.
    pub duplicates: f64,
    /// Share of events sent later than the grace.
    pub late: f64,
    /// Share of events sent up to half the grace later: not late, but out of order.
    pub out_of_order: f64,
    /// Extra records that no contract accepts.
    pub malformed: f64,
    /// Share of events that lack a field.
    pub missing: f64,
    /// All records are sent once more, this much later, in microseconds.
    pub replay_after_us: Option<i64>,
    /// Copies of zoner's events go to another topic of the contract, with the timestamp of the first.
    pub cross_topic: bool,
    /// Copies of logins go to another partition, with the timestamp of the first.
    pub cross_partition: bool,
    /// Topics of zoner.
    pub layout: Layout,
    /// Shape of zoner's traffic.
    pub profile: Profile,
    /// Share of batches of clicks that a producer sends in a transaction and aborts: extra records that nobody may read.
    pub aborted: f64,
    /// Clicks are sent as Avro under these ids of the schema registry; without, as JSON.
    pub avro: Option<SchemaIds>,
    /// Followers from which an author of zentry is a celebrity: `zentry_celebrity_threshold` of the models.
    pub celebrity_threshold: u64,
    /// Whether records carry the time at which they are sent. Those of files do not: nothing in a file is late.
    pub stamped: bool,
    /// Whether readings go through the HTTP door, which gives them the time at which they come: nobody knows beforehand what
    /// will be late, and what is broken as a whole never becomes a record.
    #[serde(default)]
    pub via_collect: bool,
    /// Rows up to which the truth keeps a mart whole; of a larger one it keeps count, sums and hash.
    pub truth_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 42,
            events: 10_000,
            duration_us: None,
            rate: None,
            // 2025-03-08T00:00:00Z: two days before American clocks go forward.
            start_us: 1_741_392_000_000_000,
            users: None,
            partitions: None,
            duplicates: 0.01,
            late: 0.02,
            out_of_order: 0.05,
            malformed: 0.001,
            missing: 0.005,
            replay_after_us: None,
            cross_topic: false,
            cross_partition: false,
            layout: Layout::Both,
            profile: Profile::DayPlan,
            aborted: 0.001,
            avro: None,
            celebrity_threshold: 100,
            stamped: true,
            via_collect: false,
            truth_rows: 10_000,
        }
    }
}

impl Options {
    /// First instant after the stream, where a duration bounds it.
    pub(crate) fn end_us(&self) -> i64 {
        self.duration_us.map_or(i64::MAX, |duration| self.start_us.saturating_add(duration))
    }

    /// Length of the slot in which one base event happens, in microseconds; at least one.
    pub(crate) fn slot_us(&self, system: System) -> i64 {
        let rate = self.rate.unwrap_or_else(|| system.default_rate()).clamp(1e-6, 1e6);
        #[expect(clippy::cast_possible_truncation, reason = "between 1 and 1e12")]
        let slot = (1e6 / rate).round() as i64;
        slot.max(1)
    }

    /// Users or devices of a system.
    pub(crate) fn num_users(&self, system: System) -> u64 {
        self.users.unwrap_or_else(|| system.default_users()).max(1)
    }

    /// Partitions of a topic of a system.
    pub(crate) fn num_partitions(&self, system: System) -> u64 {
        let partitions = self.partitions.unwrap_or_else(|| system.topics()[0].1);
        u64::try_from(partitions).unwrap_or(1).max(1)
    }

    /// Topics of a system with their partition counts.
    #[must_use]
    pub fn topics(&self, system: System) -> Vec<(&'static str, i32)> {
        system.topics().iter().map(|(topic, count)| (*topic, self.partitions.unwrap_or(*count).max(1))).collect()
    }
}
