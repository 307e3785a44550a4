//! What is sent, and in which order.

use crate::faults::Faults;
use crate::truth::Truth;
use crate::{logins, zoner};

/// A system that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Sleep, meals and light of families.
    Zoner,
    /// Logins of an app's users.
    Logins,
}

impl System {
    /// All systems.
    pub const ALL: [Self; 2] = [Self::Zoner, Self::Logins];

    /// The system's name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zoner => "zoner",
            Self::Logins => "logins",
        }
    }

    /// Topics with their partition counts.
    #[must_use]
    pub fn topics(self) -> &'static [(&'static str, i32)] {
        match self {
            Self::Zoner => &[("user_activity", 6), ("sleep", 6), ("meals", 6), ("light_exposure", 6)],
            Self::Logins => &[("user-login", 6)],
        }
    }
}

/// How much of what is sent. Shares are drawn per base event.
#[derive(Clone, Debug)]
pub struct Options {
    /// Same seed, same bytes.
    pub seed: u64,
    /// Base events.
    pub events: u64,
    /// Virtual time of the first event, microseconds since the epoch, UTC.
    pub start_us: i64,
    /// Users (zoner).
    pub users: u64,
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 42,
            events: 10_000,
            // 2025-03-08T00:00:00Z: two days before American clocks go forward.
            start_us: 1_741_392_000_000_000,
            users: 500,
            duplicates: 0.01,
            late: 0.02,
            out_of_order: 0.05,
            malformed: 0.001,
            missing: 0.005,
        }
    }
}

/// One Kafka record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: &'static str,
    /// Partition.
    pub partition: i32,
    /// Key, where the system has one.
    pub key: Option<String>,
    /// Value.
    pub value: Vec<u8>,
    /// Virtual sending time, milliseconds since the epoch, UTC: the record's timestamp.
    pub sent_ms: i64,
}

/// Records in sending order, and what they imply.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Sorted by sending time; records of the same millisecond in the order in which they were made.
    pub records: Vec<Record>,
    /// What tables must hold after all of it is processed.
    pub truth: Truth,
}

/// Makes the traffic of one system.
#[must_use]
pub fn generate(system: System, options: &Options) -> Traffic {
    let mut faults = Faults::new(system, options);
    let mut truth = Truth::default();
    match system {
        System::Zoner => zoner::generate(options, &mut faults, &mut truth),
        System::Logins => logins::generate(options, &mut faults, &mut truth),
    }
    let mut records = faults.into_records();
    records.sort_by_key(|record| record.sent_ms);
    for record in &records {
        truth.topics.entry(record.topic.to_owned()).or_default().records += 1;
    }
    Traffic { records, truth }
}

/// Records of several systems in one order: each system's own order is kept, and all end at about the same time.
#[must_use]
pub fn interleave(traffic: Vec<Vec<Record>>) -> Vec<Record> {
    let total: usize = traffic.iter().map(Vec::len).sum();
    let lengths: Vec<usize> = traffic.iter().map(Vec::len).collect();
    let mut queues: Vec<_> = traffic.into_iter().map(Vec::into_iter).collect();
    let mut taken = vec![0_usize; queues.len()];
    let mut records = Vec::with_capacity(total);
    while records.len() < total {
        // The system that is furthest behind its share is next: taken/length is compared without division.
        let next = (0..queues.len())
            .filter(|index| taken[*index] < lengths[*index])
            .min_by(|one, other| (taken[*one] * lengths[*other]).cmp(&(taken[*other] * lengths[*one])));
        let Some(next) = next else { break };
        taken[next] += 1;
        records.extend(queues[next].next());
    }
    records
}
