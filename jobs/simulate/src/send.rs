//! Sends records to Kafka, each with its virtual sending time as timestamp.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use tidemill_project::config::KafkaSettings;

use crate::Record;

/// How long the broker may take to acknowledge what was sent.
const PATIENCE: Duration = Duration::from_mins(1);
/// Whose transactions are aborted; one simulator at a time works on a broker.
const ABORTING_ID: &str = "tidemill-simulate-aborted";

/// Sending failed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The producer could not be made from the settings.
    #[error("failed to make a producer")]
    Create(#[source] KafkaError),
    /// A topic could not be made.
    #[error("failed to create a topic, topic=`{topic}`")]
    CreateTopic {
        /// Topic.
        topic: String,
        /// Cause.
        source: KafkaError,
    },
    /// The broker refused a record, or did not answer.
    #[error("failed to send a record, topic=`{topic}`")]
    Send {
        /// Topic.
        topic: String,
        /// Cause.
        source: KafkaError,
    },
    /// A transaction that is meant to be aborted could not be begun or aborted.
    #[error("failed to abort a transaction")]
    Abort(#[source] KafkaError),
    /// Records were not acknowledged in time.
    #[error("failed to flush")]
    Flush(#[source] KafkaError),
}

/// An idempotent producer that keeps the order of each partition. Calls block: run it on a thread of its own.
pub struct Sender {
    config: ClientConfig,
    producer: BaseProducer,
    /// Made for the first record that nobody may read.
    aborting: Option<BaseProducer>,
    /// Whether its transaction is open.
    is_in_transaction: bool,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("is_in_transaction", &self.is_in_transaction).finish_non_exhaustive()
    }
}

impl Sender {
    /// Makes a producer.
    ///
    /// # Errors
    /// [`SendError::Create`] when librdkafka refuses the settings.
    pub fn new(settings: &KafkaSettings) -> Result<Self, SendError> {
        let mut config = tidemill_project::kafka::client_config(settings);
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        let producer = config.create().map_err(SendError::Create)?;
        Ok(Self { config, producer, aborting: None, is_in_transaction: false })
    }

    /// Sends records in order and waits until all are acknowledged.
    ///
    /// # Errors
    /// The broker refused a record or did not answer.
    pub fn send<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) -> Result<u64, SendError> {
        let mut sent = 0;
        for record in records {
            self.push(record)?;
            sent += 1;
        }
        self.flush()?;
        Ok(sent)
    }

    /// Hands a record over; it waits only while the producer's queue is full. A record that nobody may read goes through a
    /// transaction that is aborted before the next other record is sent.
    ///
    /// # Errors
    /// The broker refused a record or did not answer.
    pub fn push(&mut self, record: &Record) -> Result<(), SendError> {
        if record.is_aborted {
            return push(self.begin()?, record);
        }
        self.abort()?;
        push(&self.producer, record)
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// [`SendError::Flush`] when the broker does not answer within a minute.
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.abort()?;
        self.producer.flush(PATIENCE).map_err(SendError::Flush)
    }

    fn begin(&mut self) -> Result<&BaseProducer, SendError> {
        let aborting = if let Some(producer) = self.aborting.take() {
            producer
        } else {
            let mut config = self.config.clone();
            let producer: BaseProducer =
                config.set("transactional.id", ABORTING_ID).create().map_err(SendError::Create)?;
            producer.init_transactions(PATIENCE).map_err(SendError::Abort)?;
            producer
        };
        if !self.is_in_transaction {
            aborting.begin_transaction().map_err(SendError::Abort)?;
            self.is_in_transaction = true;
        }
        Ok(self.aborting.insert(aborting))
    }

    /// Aborts the open transaction, after its records have reached the broker: what never got there tests nobody.
    fn abort(&mut self) -> Result<(), SendError> {
        if let (true, Some(aborting)) = (self.is_in_transaction, &self.aborting) {
            aborting.flush(PATIENCE).map_err(SendError::Flush)?;
            aborting.abort_transaction(PATIENCE).map_err(SendError::Abort)?;
            self.is_in_transaction = false;
        }
        Ok(())
    }
}

fn push(producer: &BaseProducer, record: &Record) -> Result<(), SendError> {
    loop {
        let mut message = BaseRecord::<str, [u8]>::to(record.topic)
            .partition(record.partition)
            .timestamp(record.sent_ms)
            .payload(&record.value);
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(10));
            }
            Err((source, _)) => return Err(SendError::Send { topic: record.topic.to_owned(), source }),
        }
    }
}

/// Creates topics whose records keep the timestamps that their producers give; one that exists stays as it is.
///
/// # Errors
/// When the broker refuses or does not answer.
pub async fn create_topics(settings: &KafkaSettings, topics: &[(&'static str, i32)]) -> Result<(), SendError> {
    let admin: AdminClient<DefaultClientContext> =
        tidemill_project::kafka::client_config(settings).create().map_err(SendError::Create)?;
    let wanted: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|(topic, partitions)| {
            NewTopic::new(topic, *partitions, TopicReplication::Fixed(-1)).set("message.timestamp.type", "CreateTime")
        })
        .collect();
    let fault = |topic: &str, source| SendError::CreateTopic { topic: topic.to_owned(), source };
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let names = topics.iter().map(|(topic, _)| *topic).collect::<Vec<_>>().join(" ");
    let outcomes = admin.create_topics(&wanted, &options).await.map_err(|source| fault(&names, source))?;
    for outcome in outcomes {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(fault(&topic, KafkaError::AdminOp(code))),
        }
    }
    Ok(())
}
