//! Topics and what is written into them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message as _, Offset, TopicPartitionList};

const LIMIT: Duration = Duration::from_mins(1);

/// A record to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Partition; `None` lets the client choose.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the epoch; `None` is the time of sending.
    pub timestamp_ms: Option<i64>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// A record with a value only.
    #[must_use]
    pub fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// Sets the partition.
    #[must_use]
    pub fn to_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// A cluster's topics.
pub struct Topics {
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl Topics {
    /// Connects lazily: an address where nobody listens is noticed at the first call.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn connect(bootstrap: &str) -> Result<Self> {
        let admin = ClientConfig::new().set("bootstrap.servers", bootstrap).set("log_level", "0").create()?;
        Ok(Self { bootstrap: bootstrap.to_owned(), admin })
    }

    /// Brokers in the cluster's metadata.
    ///
    /// # Errors
    /// When nobody answers within two seconds.
    pub fn num_brokers(&self) -> Result<usize> {
        let metadata = self.admin.inner().fetch_metadata(None, Duration::from_secs(2))?;
        Ok(metadata.brokers().len())
    }

    /// Names of all topics.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn names(&self) -> Result<BTreeSet<String>> {
        let metadata = self.admin.inner().fetch_metadata(None, LIMIT)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// Creates a topic; it can be written to when this returns.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let results = block_on(self.admin.create_topics([&topic], &options()))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("failed to create the topic {topic}: {code}"))?;
        }
        crate::wait::until("the topic's leaders", LIMIT, || {
            let metadata = self.admin.inner().fetch_metadata(Some(name), LIMIT)?;
            let led = |topic: &rdkafka::metadata::MetadataTopic| {
                topic.partitions().len() == usize::try_from(partitions).unwrap_or_default()
                    && topic.partitions().iter().all(|partition| partition.leader() >= 0)
            };
            Ok(metadata.topics().iter().any(led).then_some(()))
        })
    }

    /// Grows a topic to `partitions`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn grow(&self, name: &str, partitions: usize) -> Result<()> {
        let results = block_on(self.admin.create_partitions([&NewPartitions::new(name, partitions)], &options()))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("failed to grow the topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes a topic with its data.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn delete(&self, name: &str) -> Result<()> {
        for result in block_on(self.admin.delete_topics(&[name], &options()))? {
            result.map_err(|(topic, code)| anyhow::anyhow!("failed to delete the topic {topic}: {code}"))?;
        }
        let probe = self.admin.inner();
        crate::wait::until("the topic to be gone", LIMIT, || {
            let metadata = probe.fetch_metadata(None, LIMIT)?;
            Ok(metadata.topics().iter().all(|topic| topic.name() != name).then_some(()))
        })
    }

    /// Deletes the records of a partition before `offset`: what retention does, at once.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn delete_records(&self, name: &str, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(offset))?;
        block_on(self.admin.delete_records(&list, &options()))?;
        Ok(())
    }

    /// Offsets `[low, high)` that a partition holds.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn watermarks(&self, name: &str, partition: i32) -> Result<(i64, i64)> {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create()?;
        Ok(consumer.fetch_watermarks(name, partition, LIMIT)?)
    }

    /// All records of a topic that are committed, each partition's in its order.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn read_committed(&self, name: &str) -> Result<Vec<Read>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", "tidemill-tests-reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(name), LIMIT)?;
        let mut open: BTreeSet<i32> = metadata
            .topics()
            .iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions)
            .map(rdkafka::metadata::MetadataPartition::id)
            .collect();
        let mut list = TopicPartitionList::new();
        for partition in &open {
            list.add_partition_offset(name, *partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut records = Vec::new();
        while !open.is_empty() {
            match consumer.poll(LIMIT).context("the broker does not answer")? {
                Ok(record) => {
                    let bytes = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
                    records.push(Read { key: bytes(record.key()), value: bytes(record.payload()) });
                }
                Err(KafkaError::PartitionEOF(partition)) => drop(open.remove(&partition)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(records)
    }

    /// A producer that sends each record once, in order.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn producer(&self) -> Result<TestProducer> {
        TestProducer::create(&self.bootstrap, None)
    }

    /// A producer of transactions.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub fn transactional_producer(&self, transactional_id: &str) -> Result<TestProducer> {
        let producer = TestProducer::create(&self.bootstrap, Some(transactional_id))?;
        producer.producer.init_transactions(LIMIT).context("failed to register the transactional id")?;
        Ok(producer)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT))
}

#[derive(Clone, Default)]
struct Deliveries {
    failed: Arc<AtomicU64>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// An idempotent producer, transactional where asked for.
pub struct TestProducer {
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
}

impl std::fmt::Debug for TestProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestProducer")
    }
}

impl TestProducer {
    fn create(bootstrap: &str, transactional_id: Option<&str>) -> Result<Self> {
        let deliveries = Deliveries::default();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "10485760")
            .set("linger.ms", "5")
            .set("log_level", "0");
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
        }
        Ok(Self { producer: config.create_with_context(deliveries.clone())?, deliveries })
    }

    /// Queues records; [`TestProducer::flush`] waits for them.
    ///
    /// # Errors
    /// When librdkafka refuses one.
    pub fn send<'a>(&self, topic: &str, records: impl IntoIterator<Item = &'a Record>) -> Result<()> {
        for record in records {
            let mut next = to_base_record(topic, record);
            while let Err((error, refused)) = self.producer.send(next) {
                ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "failed to send: {error}");
                self.producer.poll(Duration::from_millis(10));
                next = refused;
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Waits until the broker has acknowledged everything.
    ///
    /// # Errors
    /// When it refused a record, or time is up.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(LIMIT)?;
        let failed = self.deliveries.failed.load(Ordering::SeqCst);
        ensure!(failed == 0, "{failed} records were not delivered");
        Ok(())
    }

    /// Sends records and waits for them.
    ///
    /// # Errors
    /// See [`TestProducer::send`] and [`TestProducer::flush`].
    pub fn deliver<'a>(&self, topic: &str, records: impl IntoIterator<Item = &'a Record>) -> Result<()> {
        self.send(topic, records)?;
        self.flush()
    }

    /// Sends records in one transaction and commits or aborts it.
    ///
    /// # Errors
    /// When the coordinator refuses.
    pub fn transaction<'a>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = &'a Record>,
        commit: bool,
    ) -> Result<()> {
        self.producer.begin_transaction()?;
        self.deliver(topic, records)?;
        if commit {
            self.producer.commit_transaction(LIMIT)?;
        } else {
            self.producer.abort_transaction(LIMIT)?;
        }
        Ok(())
    }
}

fn to_base_record<'a>(topic: &'a str, record: &'a Record) -> BaseRecord<'a, [u8], [u8], ()> {
    let mut next = BaseRecord::to(topic);
    if let Some(partition) = record.partition {
        next = next.partition(partition);
    }
    if let Some(key) = &record.key {
        next = next.key(key.as_slice());
    }
    if let Some(value) = &record.value {
        next = next.payload(value.as_slice());
    }
    if let Some(timestamp_ms) = record.timestamp_ms {
        next = next.timestamp(timestamp_ms);
    }
    if !record.headers.is_empty() {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key: key.as_str(), value: Some(value.as_slice()) })
        });
        next = next.headers(headers);
    }
    next
}
