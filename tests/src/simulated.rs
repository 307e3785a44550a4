//! Traffic of all systems that ship, from the product's own simulator, and the truth that it knows.

use anyhow::Result;
use tidemill_project::Secret;
use tidemill_project::config::KafkaSettings;
use tidemill_simulate::{Options, Record, Sender, System, Truth, generate, interleave};

use crate::topics::Topics;

/// Records of all systems in sending order, and what tables must hold in the end.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Each with its topic, partition and timestamp.
    pub records: Vec<Record>,
    /// Books per topic and rows of marts.
    pub truth: Truth,
}

/// The systems that are on in the shipped project.
pub const SHIPPED: [System; 2] = [System::Zoner, System::Logins];

/// Makes `events` base events, shared among the systems: of them 5 % are sent twice, 5 % too late, and 1 % more are malformed.
#[must_use]
pub fn simulate(seed: u64, events: u64) -> Simulated {
    let share = events / SHIPPED.len() as u64;
    let options = Options { seed, events: share, duplicates: 0.05, late: 0.05, malformed: 0.01, ..Options::default() };
    let mut truth = Truth::default();
    let mut streams = Vec::new();
    for system in SHIPPED {
        let traffic = generate(system, &options);
        truth.merge(traffic.truth);
        streams.push(traffic.records);
    }
    Simulated { records: interleave(streams), truth }
}

/// Creates the topics of all systems under their shipped names.
///
/// # Errors
/// When the broker refuses.
pub fn create_topics(topics: &Topics) -> Result<()> {
    for (topic, partitions) in SHIPPED.iter().flat_map(|system| system.topics()) {
        topics.create(topic, *partitions, &[("message.timestamp.type", "CreateTime")])?;
    }
    Ok(())
}

/// A producer of simulated records: idempotent, in order.
///
/// # Errors
/// When librdkafka refuses the settings.
pub fn sender(bootstrap: &str) -> Result<Sender> {
    let properties = [("bootstrap.servers".to_owned(), Secret::new(bootstrap))].into();
    Ok(Sender::new(&KafkaSettings { group: "simulator".to_owned(), properties })?)
}
