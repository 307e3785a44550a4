//! Sends records to Kafka, each with its virtual sending time as timestamp.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use tidemill_project::config::KafkaSettings;

use crate::Record;

/// Sending failed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The producer could not be made from the settings.
    #[error("failed to make a producer")]
    Create(#[source] rdkafka::error::KafkaError),
    /// The broker refused a record, or did not answer.
    #[error("failed to send a record, topic=`{topic}`")]
    Send {
        /// Topic.
        topic: String,
        /// Cause.
        source: rdkafka::error::KafkaError,
    },
    /// Records were not acknowledged in time.
    #[error("failed to flush")]
    Flush(#[source] rdkafka::error::KafkaError),
}

/// An idempotent producer that keeps the order of each partition. Calls block: run it on a thread of its own.
pub struct Sender(BaseProducer);

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl Sender {
    /// Makes a producer.
    ///
    /// # Errors
    /// [`SendError::Create`] when librdkafka refuses the settings.
    pub fn new(settings: &KafkaSettings) -> Result<Self, SendError> {
        tidemill_project::kafka::client_config(settings)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create()
            .map(Self)
            .map_err(SendError::Create)
    }

    /// Sends records in order and waits until all are acknowledged.
    ///
    /// # Errors
    /// The broker refused a record or did not answer.
    pub fn send<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> Result<u64, SendError> {
        let mut sent = 0;
        for record in records {
            loop {
                let mut message = BaseRecord::<str, [u8]>::to(record.topic)
                    .partition(record.partition)
                    .timestamp(record.sent_ms)
                    .payload(&record.value);
                if let Some(key) = &record.key {
                    message = message.key(key);
                }
                match self.0.send(message) {
                    Ok(()) => break,
                    Err((rdkafka::error::KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        self.0.poll(Duration::from_millis(10));
                    }
                    Err((source, _)) => return Err(SendError::Send { topic: record.topic.to_owned(), source }),
                }
            }
            sent += 1;
        }
        self.0.flush(Duration::from_mins(1)).map_err(SendError::Flush)?;
        Ok(sent)
    }
}
