//! The broker, and topics filled as fast as it takes them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tidemill_tests::kafka::Broker;
use tidemill_tests::topics::Topics;

/// How long the broker may take to acknowledge what was sent.
const LIMIT: Duration = Duration::from_mins(5);

/// A running broker.
#[derive(Debug)]
pub(crate) struct Kafka {
    broker: Broker,
    topics: Topics,
}

impl Kafka {
    /// Starts a broker of its own, on empty data.
    pub(crate) fn start() -> Result<Self> {
        let broker = Broker::start()?;
        let topics = Topics::connect(&broker.bootstrap())?;
        Ok(Self { broker, topics })
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    /// Creates a topic with large segments, so that the backlog is read from few files.
    pub(crate) fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        self.topics.create(topic, partitions, &[])
    }

    /// Deletes a topic with its data.
    pub(crate) fn delete(&self, topic: &str) -> Result<()> {
        self.topics.delete(topic)
    }

    /// Records that a topic holds.
    pub(crate) fn count(&self, topic: &str, partitions: i32) -> Result<u64> {
        let mut count = 0;
        for partition in 0..partitions {
            let (low, high) = self.topics.watermarks(topic, partition)?;
            count += u64::try_from(high - low)?;
        }
        Ok(count)
    }

    /// Hands key and value of every record that a topic holds to `look`, partition by partition in no order.
    pub(crate) fn read(
        &self,
        topic: &str,
        partitions: i32,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let consumer = self.reader(topic, partitions)?;
        let mut left = self.count(topic, partitions)?;
        while left > 0 {
            let polled = consumer.poll(LIMIT).context("the broker gives no more records")?;
            let record = polled?;
            look(record.key().unwrap_or_default(), record.payload().unwrap_or_default())?;
            left -= 1;
        }
        Ok(())
    }

    /// A reader of committed messages that begins with the first.
    pub(crate) fn follower(&self, topic: &str, partitions: i32) -> Result<Follower> {
        Ok(Follower(self.reader(topic, partitions)?))
    }

    fn reader(&self, topic: &str, partitions: i32) -> Result<BaseConsumer> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", "bench-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("log_level", "0")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(consumer)
    }

    pub(crate) fn sender(&self, partitions: i32) -> Result<Sender> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "500000")
            .set("log_level", "0")
            .create()?;
        Ok(Sender { producer, partitions, next: 0 })
    }
}

/// Reads a topic while it grows.
pub(crate) struct Follower(BaseConsumer);

impl Follower {
    /// The next message with a value, its key as a text; `None` when none comes in time.
    pub(crate) fn next(&self, limit: Duration) -> Result<Option<(String, Value)>> {
        let Some(polled) = self.0.poll(limit) else { return Ok(None) };
        let message = polled?;
        let Some(value) = message.payload() else { return Ok(None) };
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        Ok(Some((key, serde_json::from_slice(value).context("a message is JSON")?)))
    }
}

/// Sends to the partitions of a topic in turn, a few records to each at a time, as a keyless producer does.
pub(crate) struct Sender {
    producer: BaseProducer,
    partitions: i32,
    next: u64,
}

/// Records that one partition gets before it is the next one's turn.
const STICK: u64 = 100;

impl Sender {
    /// Queues a record. Its timestamp is `timestamp_ms`, or the time of sending.
    pub(crate) fn send(&mut self, topic: &str, payload: &str, timestamp_ms: Option<i64>) -> Result<()> {
        let partition = i32::try_from(self.next / STICK % u64::try_from(self.partitions)?)?;
        self.next += 1;
        let mut record = BaseRecord::<(), str>::to(topic).payload(payload).partition(partition);
        if let Some(timestamp_ms) = timestamp_ms {
            record = record.timestamp(timestamp_ms);
        }
        while let Err((error, refused)) = self.producer.send(record) {
            ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "failed to send: {error}");
            self.producer.poll(Duration::from_millis(10));
            record = refused;
        }
        if self.next.is_multiple_of(1_000) {
            self.producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    /// Lets librdkafka tell what was delivered; to be called now and then by who sends little.
    pub(crate) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until the broker has all of it.
    pub(crate) fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(LIMIT)?)
    }
}
