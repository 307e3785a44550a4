//! What is there at start: topics, partitions, ends.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tidemill_project::{Offset, TopicPartition};

use super::context::Context;
use super::topics::TopicRules;
use super::{Event, Poller, REQUEST, SILENCE, Stop, TOPICS};
use crate::Mode;
use crate::error::{Cause, is_permanent};

/// A request that begins when the run is about to end still gets an answer from a broker that is there.
const LEAST_REQUEST: Duration = Duration::from_millis(500);

/// The contract's topics, with their numbers of partitions.
fn ours(metadata: &Metadata, rules: &TopicRules) -> Vec<(String, i32)> {
    metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none() && rules.rule_of(topic.name()).is_some())
        .map(|topic| (topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
        .collect()
}

/// The offset of the beginning or the end of each partition, in their order, by one request to each broker that leads some.
///
/// librdkafka's look-up of instants takes the two for instants, as the protocol does.
/// Source: Kafka protocol, `ListOffsets`, field `timestamp`: -1 is the latest offset, -2 the earliest.
pub(super) fn offsets_at(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    place: rdkafka::Offset,
    timeout: Duration,
) -> Result<Vec<Offset>, KafkaError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for of in partitions {
        list.add_partition_offset(&of.topic.0, of.partition, place)?;
    }
    let answer = consumer.offsets_for_times(list, timeout)?;
    let offset = |of: &TopicPartition| {
        let unknown = || KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition);
        let found = answer.find_partition(&of.topic.0, of.partition).ok_or_else(unknown)?;
        found.error()?;
        // What was asked with stands there still where nothing was answered; both are below zero.
        found.offset().to_raw().filter(|offset| *offset >= 0).map(Offset).ok_or_else(unknown)
    };
    partitions.iter().map(offset).collect()
}

impl Poller {
    /// Finds the contract's topics, notes where each partition ends now, and subscribes.
    pub(super) fn discover(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let rules = TopicRules::new(&self.plan.name, &self.plan.topics)?;
        let metadata = self.insist("list topics", |timeout| consumer.fetch_metadata(None, timeout))?;
        let ours = ours(&metadata, &rules);
        let names: Vec<String> = ours.iter().map(|(topic, _)| topic.clone()).collect();
        let patterns: Vec<String> = self.plan.topics.iter().map(|rule| rule.pattern.clone()).collect();
        if ours.is_empty() {
            let topics = patterns.join(", ");
            return Err(Cause::NoTopic { source_name: self.plan.name.clone(), topics }.into());
        }
        for missing in rules.without_topic(&names) {
            let warning = format!("topic does not exist, topic=`{missing}`");
            self.send(consumer, Event::Warned { warning })?;
        }

        let numbers = |(topic, count): (String, i32)| (0..count).map(move |at| TopicPartition::new(topic.clone(), at));
        let partitions: Vec<TopicPartition> = ours.into_iter().flat_map(numbers).collect();
        let watermarks = self.watermarks(consumer, &partitions)?;
        if self.plan.mode == Mode::Drain {
            self.targets.extend(partitions.iter().cloned().zip(watermarks.iter().copied()));
        }
        let ends = partitions.into_iter().zip(watermarks).map(|(of, (low, high))| (of, low, high)).collect();
        self.send(consumer, Event::Partitions { ends })?;

        self.looked_for_topics = self.plan.clock.stopwatch();
        self.subscribe(consumer, names)
    }

    /// Subscribes to topics by their names: patterns are matched here, so that one dialect decides everywhere. A drain reads
    /// what is there; following also takes up topics that its contract names and that come into being.
    fn subscribe(&mut self, consumer: &BaseConsumer<Context>, mut names: Vec<String>) -> Result<(), Stop> {
        if self.plan.mode == Mode::Follow {
            let named = self.plan.topics.iter().map(|rule| &rule.pattern).filter(|pattern| !pattern.starts_with('^'));
            names.extend(named.cloned());
        }
        names.sort();
        names.dedup();
        let subscription: Vec<&str> = names.iter().map(String::as_str).collect();
        consumer.subscribe(&subscription).map_err(|source| Cause::Kafka {
            act: "subscribe",
            source_name: self.plan.name.clone(),
            source,
        })?;
        self.subscription = names;
        Ok(())
    }

    /// Takes up topics that match a pattern and have come into being since. A topic that is gone stays subscribed to: it may
    /// come back, and a broker that forgets its topics for a moment must not cost us our partitions.
    pub(super) fn look_for_topics(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let has_pattern = self.plan.topics.iter().any(|rule| rule.pattern.starts_with('^'));
        if self.plan.mode != Mode::Follow || !has_pattern || self.looked_for_topics.elapsed() < TOPICS {
            return Ok(());
        }
        self.looked_for_topics = self.plan.clock.stopwatch();
        let metadata = match consumer.fetch_metadata(None, REQUEST) {
            Ok(metadata) => metadata,
            Err(error) => return self.suffer(error),
        };
        let rules = TopicRules::new(&self.plan.name, &self.plan.topics)?;
        let is_new = |topic: &String| self.subscription.binary_search(topic).is_err();
        let new: Vec<String> = ours(&metadata, &rules).into_iter().map(|(topic, _)| topic).filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        tracing::info!(source = %self.plan.name, topics = new.join(", "), "topics have come into being");
        let names = self.subscription.iter().cloned().chain(new).collect();
        self.subscribe(consumer, names)
    }

    /// First offset that exists and the end, which is the last stable offset: the consumer reads committed records only. In
    /// the order of `partitions`, by two requests to each broker that leads some of them.
    pub(super) fn watermarks(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(Offset, Offset)>, Stop> {
        self.insist("ask for the ends of partitions", |timeout| {
            let low = offsets_at(consumer, partitions, rdkafka::Offset::Beginning, timeout)?;
            let high = offsets_at(consumer, partitions, rdkafka::Offset::End, timeout)?;
            Ok(low.into_iter().zip(high).collect())
        })
    }

    /// Repeats a request until it is answered, with a growing pause, for [`SILENCE`] at most and not beyond the run's end.
    pub(super) fn insist<T>(
        &mut self,
        act: &'static str,
        request: impl Fn(Duration) -> Result<T, KafkaError>,
    ) -> Result<T, Stop> {
        let silence = self.plan.clock.stopwatch();
        let mut pause = Duration::from_millis(100);
        loop {
            // A part of what is left: a short run tries again too, and says so before it ends.
            let timeout = self.plan.deadline.left().map_or(REQUEST, |left| (left / 2).clamp(LEAST_REQUEST, REQUEST));
            let source = match request(timeout) {
                Ok(answer) => return Ok(answer),
                Err(source) => source,
            };
            let is_over =
                silence.elapsed() >= SILENCE || self.plan.cancel.is_cancelled() || self.plan.deadline.is_over();
            if is_over || source.rdkafka_error_code().is_some_and(is_permanent) {
                return Err(Cause::Kafka { act, source_name: self.plan.name.clone(), source }.into());
            }
            tracing::warn!(source = %self.plan.name, error = %source, act, "broker does not answer, trying again");
            let rest = self.plan.deadline.left().map_or(pause, |left| left.min(pause));
            self.runtime.block_on(async {
                tokio::select! {
                    () = self.plan.clock.sleep(rest) => {}
                    () = self.plan.cancel.cancelled() => {}
                }
            });
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}
