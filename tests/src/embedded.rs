//! A broker inside the test's own process: librdkafka's mock cluster, the one that `tidemill demo` uses.

use anyhow::Result;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::topics::{Record, Topics};

/// A broker that ends with this value.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedBroker").field("bootstrap", &self.bootstrap()).finish_non_exhaustive()
    }
}

impl EmbeddedBroker {
    /// Starts a broker with topics of so many partitions.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self> {
        let broker = Self { cluster: MockCluster::new(1)? };
        for (topic, partitions) in topics {
            broker.cluster.create_topic(topic, *partitions, 1)?;
        }
        Ok(broker)
    }

    /// Where it listens.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Sends records and waits for them.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn deliver<'a>(&self, topic: &str, records: impl IntoIterator<Item = &'a Record>) -> Result<()> {
        Topics::connect(&self.bootstrap())?.producer()?.deliver(topic, records)
    }
}
