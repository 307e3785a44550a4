//! A topic against its model, by way of the sent rows: what should have been sent, and what is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Message as _, Offset, TopicPartitionList};
use tidemill_lake::Table;
use tidemill_project::kafka::client_config;

use super::{KafkaFault, KafkaSink, topics};
use crate::diff::{HashedMap, HashedSet};
use crate::messages::Audit;
use crate::sink::Sink;
use crate::{CheckedTable, Error, Publication, Result};

const REQUEST: Duration = Duration::from_secs(30);

/// A reader that comes to the end of partitions on purpose: that is no fault to be logged.
pub(super) struct ToTheEnd;

impl ClientContext for ToTheEnd {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "the broker reports an error");
        }
    }
}

impl ConsumerContext for ToTheEnd {}

/// What the committed records of a topic come to.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Key -> value of its newest record; keys whose newest record is a tombstone are absent. As hashes.
    pub(super) newest: HashedMap<u128>,
    /// Key and value of every record.
    pub(super) all: HashedSet,
    /// Whether retention has taken records, so that their absence says nothing.
    pub(super) forgot: bool,
}

impl KafkaSink {
    pub(super) async fn compare(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        let topic = KafkaSink::final_name(publication);
        let config = client_config(&self.cluster);
        if !topics::are_there(&config, &[&topic]).await? {
            let position = None;
            return Ok(Audit::run(publication, model, position, None, self.name()).await?.checked);
        }
        let position = self.position(publication).await?;
        let sent = self.sent.at(publication, position.as_ref()).await?.map(Arc::new);
        let mut audit = Audit::run(publication, model, position, sent, self.name()).await?;
        let held = {
            let (config, topic) = (config.clone(), topic.clone());
            let work = tokio::task::spawn_blocking(move || read_all(&config, &topic));
            work.await.map_err(Error::join("read the topic"))??
        };
        if audit.tells_ends {
            audit.checked.target_rows = held.newest.len() as u64;
            let expected = std::mem::take(&mut audit.expected);
            for (key, (value, name)) in &expected {
                match held.newest.get(key) {
                    Some(found) if found == value => {}
                    Some(_) => audit.differs(name),
                    None if held.forgot => audit.checked.target_rows += 1,
                    None => audit.misses(name),
                }
            }
            audit.checked.extra += held.newest.keys().filter(|key| !expected.contains_key(*key)).count() as u64;
        } else {
            // A key names several rows, so only this can be said: each row's message was sent.
            audit.checked.target_rows = 0;
            for (key, (value, name)) in &audit.expected_rows() {
                let whole = Audit::mix(*key, *value);
                if held.all.contains(&whole) || held.forgot {
                    audit.checked.target_rows += 1;
                } else {
                    audit.misses(name);
                }
            }
        }
        Ok(audit.checked)
    }
}

/// Reads every committed record of a topic.
fn read_all(config: &ClientConfig, topic: &str) -> Result<Held, KafkaFault> {
    let fault = |source| KafkaFault::Client { act: "read the topic", topic: topic.to_owned(), source };
    let mut config = config.clone();
    config
        .set("group.id", "tidemill-check")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        // The end of a partition is told when the broker answers: it need not wait for more first.
        .set("fetch.wait.max.ms", "20");
    let consumer: BaseConsumer<ToTheEnd> = config.create_with_context(ToTheEnd).map_err(fault)?;
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).map_err(fault)?;
    let numbers: Vec<i32> = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id))
        .collect();
    let mut held = Held::default();
    let mut place = TopicPartitionList::new();
    for number in &numbers {
        held.forgot |= consumer.fetch_watermarks(topic, *number, REQUEST).map_err(fault)?.0 > 0;
        place.add_partition_offset(topic, *number, Offset::Beginning).map_err(fault)?;
    }
    consumer.assign(&place).map_err(fault)?;
    let mut open: BTreeSet<i32> = numbers.into_iter().collect();
    while !open.is_empty() {
        match consumer.poll(REQUEST) {
            Some(Ok(record)) => {
                let key = Audit::hash(record.key().unwrap_or_default());
                match record.payload() {
                    Some(value) => {
                        let value = Audit::hash(value);
                        held.newest.insert(key, value);
                        held.all.insert(Audit::mix(key, value));
                    }
                    None => drop(held.newest.remove(&key)),
                }
            }
            Some(Err(KafkaError::PartitionEOF(number))) => drop(open.remove(&number)),
            Some(Err(error)) => return Err(fault(error)),
            None => return Err(fault(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))),
        }
    }
    Ok(held)
}
