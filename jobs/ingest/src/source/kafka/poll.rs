//! From librdkafka into chunks, and chunks on their way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tidemill_project::{Offset, TopicPartition};
use tracing::{debug, warn};

use super::context::Context;
use super::{Active, CHUNK_BYTES, CHUNK_PAUSE, CHUNK_RECORDS, PATIENCE, POLL, Poller, Stop};
use crate::error::{Cause, is_permanent};
use crate::source::Event;
use crate::source::chunk::Chunk;
use crate::source::witness::last_record;

/// Stands for a header whose name is not UTF-8.
const UNREADABLE_HEADER: &str = "\u{fffd}";

impl Poller {
    /// Polls until a chunk is full or nothing more is there.
    pub(super) fn poll(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let mut wait = POLL;
        let mut finished = Vec::new();
        let has_room = |chunk: &Chunk| chunk.len() < CHUNK_RECORDS && chunk.num_bytes() < CHUNK_BYTES;
        // Once a log turns out to be another one, its end says nothing about the one that the lake has read.
        while has_room(&self.chunk) && !self.has_impostor && !self.is_over() {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    if let Some(partition) = self.take(&message) {
                        finished.push(partition);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    self.flush(consumer)?;
                    finished.extend(self.reach_end(consumer, number)?);
                }
                Some(Err(error)) => self.judge(consumer, error)?,
            }
            wait = CHUNK_PAUSE;
        }
        self.flush(consumer)?;
        for partition in finished {
            self.finish(consumer, &partition);
        }
        if std::mem::take(&mut self.has_impostor) {
            self.replace_impostors(consumer)?;
        }
        Ok(())
    }

    /// Takes a record in. Returns its partition when a drain has come to the partition's end with it.
    pub(super) fn take(&mut self, message: &BorrowedMessage<'_>) -> Option<TopicPartition> {
        let handle = message.topic_ptr() as usize;
        if !matches!(&self.memo, Some((known, number, _)) if *known == handle && *number == message.partition()) {
            let partition = TopicPartition::new(message.topic(), message.partition());
            self.memo = Some((handle, message.partition(), partition));
        }
        let (_, _, partition) = self.memo.as_ref()?;
        let active = self.active.get_mut(partition)?;
        let offset = Offset(message.offset());
        active.is_idle = false;
        if active.is_impostor {
            return None;
        }
        let timestamp_us = message.timestamp().to_millis().map(|millis| millis.saturating_mul(1000));
        let (value, key) = (message.payload(), message.key());
        if let Some(witness) = active.witness.take() {
            // A record behind the witness means that the witness is gone, which proves nothing.
            if witness.offset == offset.0 && last_record(offset.0, timestamp_us, key, value) != witness {
                active.is_impostor = true;
                self.has_impostor = true;
                return None;
            }
        }
        // Beyond the end of a drain lies the next run's work; below `next` lies what was read before the partition was
        // positioned anew.
        if offset < active.next || active.end.is_some_and(|end| offset >= end) {
            return (active.end.is_some_and(|end| offset >= end) && !active.is_finished).then(|| partition.clone());
        }
        active.next = Offset(offset.0 + 1);
        match copy_headers(message) {
            None => self.chunk.push(active.slot, offset.0, timestamp_us, value, key, std::iter::empty()),
            Some(headers) => {
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
                self.chunk.push(active.slot, offset.0, timestamp_us, value, key, headers);
            }
        }
        self.num_records += 1;
        self.silence = None;
        active.end.is_some_and(|end| active.next >= end).then(|| partition.clone())
    }

    /// Hands the open chunk over.
    pub(super) fn flush(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Chunk::with_capacity(CHUNK_RECORDS, CHUNK_BYTES));
        self.send(consumer, Event::Chunk(chunk))
    }

    /// Hands an event over. While the lake's side is slow the partitions are paused and the consumer is polled idly.
    pub(super) fn send(&mut self, consumer: &BaseConsumer<Context>, event: Event) -> Result<(), Stop> {
        let events = self.events.clone();
        let reserve =
            |patience| self.runtime.block_on(async { tokio::time::timeout(patience, events.reserve()).await });
        if let Ok(permit) = reserve(PATIENCE) {
            permit.map_err(|_| Stop::NobodyListens)?.send(event);
            return Ok(());
        }
        debug!(source = %self.plan.name, "lake is slow, partitions are paused");
        let assignment = consumer.assignment().unwrap_or_default();
        if let Err(error) = consumer.pause(&assignment) {
            debug!(%error, "failed to pause");
        }
        let permit = loop {
            // Whatever still comes was read before the pause; it waits in the next chunk.
            while let Some(Ok(message)) = consumer.poll(Duration::ZERO) {
                self.take(&message);
            }
            let wait = Duration::from_millis(100);
            if let Ok(permit) = self.runtime.block_on(async { tokio::time::timeout(wait, events.reserve()).await }) {
                break permit;
            }
        };
        permit.map_err(|_| Stop::NobodyListens)?.send(event);
        let unfinished = self.list(|active| !active.is_finished);
        if let Err(error) = consumer.resume(&unfinished) {
            debug!(%error, "failed to resume");
        }
        Ok(())
    }

    pub(super) fn list(&self, wanted: impl Fn(&Active) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, _) in self.active.iter().filter(|(_, active)| wanted(active)) {
            list.add_partition(&partition.topic.0, partition.partition);
        }
        list
    }

    /// What librdkafka reports instead of a record.
    pub(super) fn judge(&mut self, consumer: &BaseConsumer<Context>, error: KafkaError) -> Result<(), Stop> {
        let Some(code) = error.rdkafka_error_code() else {
            warn!(source = %self.plan.name, %error, "kafka reports a fault");
            return Ok(());
        };
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) || is_permanent(code) {
            return Err(Cause::Kafka { act: "read", source_name: self.plan.name.clone(), source: error }.into());
        }
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => self.reposition_all(consumer),
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => {
                debug!(source = %self.plan.name, %error, "a subscribed topic does not exist");
                Ok(())
            }
            _ => {
                warn!(source = %self.plan.name, %error, "kafka does not answer, librdkafka tries again");
                Ok(())
            }
        }
    }
}

/// Copies the headers out. `None` when there are none.
///
/// rdkafka panics over a header whose name is not UTF-8, which any producer can send: a thread that dies over it would die
/// again at each start. Such a header is out of reach and leaves [`UNREADABLE_HEADER`] in its place; all others are kept.
fn copy_headers(message: &BorrowedMessage<'_>) -> Option<Vec<(String, Option<Vec<u8>>)>> {
    let headers = message.headers()?;
    let copy = |index| {
        let header = || headers.try_get(index).map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
        let unreadable = |_| Some((UNREADABLE_HEADER.to_owned(), None));
        catch_unwind(AssertUnwindSafe(header)).unwrap_or_else(unreadable)
    };
    Some((0..headers.count()).filter_map(copy).collect())
}
