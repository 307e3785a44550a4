//! Records to Kafka, acknowledged by all in-sync replicas, each written once (`acks=all`, idempotent producer).

use std::time::Duration;

use futures::future::join_all;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use tidemill_project::Topic;
use tidemill_project::config::{CollectSettings, KafkaSettings};

use crate::error::Cause;
use crate::refusal::Refusal;

/// Answers to metadata requests, for readiness.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends records and waits for their acknowledgement.
pub(crate) struct Sender {
    producer: FutureProducer,
    topic: Topic,
}

impl Sender {
    /// Makes a producer. The broker is not asked anything yet.
    pub(crate) fn new(kafka: &KafkaSettings, settings: &CollectSettings) -> Result<Self, Cause> {
        let mut config = tidemill_project::kafka::client_config(kafka);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", settings.ack_timeout.as_millis().to_string())
            // Twice the limit: room is counted before a record comes here, so librdkafka's own queue never is the tight one.
            .set(
                "queue.buffering.max.messages",
                settings.max_queued_records.saturating_mul(2).min(10_000_000).to_string(),
            );
        for (key, value) in [("linger.ms", "5"), ("compression.type", "zstd")] {
            if kafka.property(key).is_none() {
                config.set(key, value);
            }
        }
        let producer = config.create().map_err(|source| Cause::Producer { source })?;
        Ok(Self { producer, topic: Topic(settings.topic.clone()) })
    }

    /// Sends all records of a request and answers when the last one is acknowledged.
    ///
    /// # Errors
    /// 503 when any of them was not: some may have been written, so the caller sends all of them again.
    pub(crate) async fn send(&self, key: &str, values: &[String]) -> Result<(), Refusal> {
        let mut deliveries = Vec::with_capacity(values.len());
        for value in values {
            let record = FutureRecord::to(&self.topic.0).key(key).payload(value);
            match self.producer.send_result(record) {
                Ok(delivery) => deliveries.push(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    return Err(Refusal::busy("the queue to the broker is full", Duration::from_secs(1)));
                }
                Err((error, _)) => return Err(not_acknowledged(&error)),
            }
        }
        for delivery in join_all(deliveries).await {
            match delivery {
                Ok(Ok(_)) => {}
                Ok(Err((error, _))) => return Err(not_acknowledged(&error)),
                Err(_) => return Err(Refusal::unavailable("the collector is stopping")),
            }
        }
        Ok(())
    }

    /// Says whether the broker answers and has the topic. Blocks for up to two seconds.
    pub(crate) fn is_ready(&self) -> Result<(), String> {
        let metadata = self
            .producer
            .client()
            .fetch_metadata(Some(&self.topic.0), READY_TIMEOUT)
            .map_err(|error| format!("the broker does not answer: {error}"))?;
        match metadata.topics().first().map(rdkafka::metadata::MetadataTopic::error) {
            Some(None) => Ok(()),
            _ => Err(format!("the topic does not exist, topic=`{}`", self.topic)),
        }
    }

    /// The error after which the producer sends nothing any more, if there was one.
    pub(crate) fn fatal(&self) -> Option<String> {
        self.producer.client().fatal_error().map(|(code, reason)| format!("{code}: {reason}"))
    }

    /// Waits until the queue is empty, at most `timeout`. Blocks.
    pub(crate) fn flush(&self, timeout: Duration) {
        if let Err(error) = self.producer.flush(timeout) {
            // Their requests were answered 503, or not at all: nobody was promised anything.
            tracing::warn!(%error, "records were not acknowledged before the stop");
        }
    }
}

fn not_acknowledged(error: &KafkaError) -> Refusal {
    tracing::warn!(%error, "broker did not acknowledge");
    Refusal::unavailable("the broker did not acknowledge in time")
}
