//! What is there at start: topics, partitions, ends.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tidemill_project::{Offset, TopicPartition};

use super::context::Context;
use super::topics::TopicRules;
use super::{Event, Poller, REQUEST, SILENCE, Stop};
use crate::Mode;
use crate::error::{Cause, is_permanent};

impl Poller {
    /// Finds the contract's topics, notes where each partition ends now, and subscribes.
    pub(super) fn discover(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let rules = TopicRules::new(&self.plan.name, &self.plan.topics)?;
        let metadata = self.insist("list topics", || consumer.fetch_metadata(None, REQUEST))?;
        let all: Vec<(String, i32)> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| (topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
            .collect();
        let ours: Vec<(String, i32)> = all.into_iter().filter(|(topic, _)| rules.rule_of(topic).is_some()).collect();
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

        let mut ends = Vec::new();
        for (topic, num_partitions) in &ours {
            for number in 0..*num_partitions {
                let partition = TopicPartition::new(topic.clone(), number);
                let (low, high) = self.watermarks(consumer, &partition)?;
                if self.plan.mode == Mode::Drain {
                    self.targets.insert(partition.clone(), (low, high));
                }
                ends.push((partition, low, high));
            }
        }
        self.send(consumer, Event::Partitions { ends })?;

        // A drain reads what is there; following also takes up topics that come into being.
        let topics = if self.plan.mode == Mode::Drain { names } else { patterns };
        let subscription: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&subscription).map_err(|source| Cause::Kafka {
            act: "subscribe",
            source_name: self.plan.name.clone(),
            source,
        })?;
        Ok(())
    }

    /// First offset that exists and the end, which is the last stable offset: the consumer reads committed records only.
    pub(super) fn watermarks(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partition: &TopicPartition,
    ) -> Result<(Offset, Offset), Stop> {
        let (low, high) = self.insist("ask for the ends of a partition", || {
            consumer.fetch_watermarks(&partition.topic.0, partition.partition, REQUEST)
        })?;
        Ok((Offset(low), Offset(high)))
    }

    /// Repeats a request until it is answered, with a growing pause, for [`SILENCE`] at most.
    pub(super) fn insist<T>(
        &mut self,
        act: &'static str,
        request: impl Fn() -> Result<T, KafkaError>,
    ) -> Result<T, Stop> {
        let silence = self.plan.clock.stopwatch();
        let mut pause = std::time::Duration::from_millis(100);
        loop {
            let source = match request() {
                Ok(answer) => return Ok(answer),
                Err(source) => source,
            };
            let is_over = silence.elapsed() >= SILENCE || self.plan.cancel.is_cancelled();
            if is_over || source.rdkafka_error_code().is_some_and(is_permanent) {
                return Err(Cause::Kafka { act, source_name: self.plan.name.clone(), source }.into());
            }
            tracing::warn!(source = %self.plan.name, error = %source, act, "broker does not answer, trying again");
            self.runtime.block_on(self.plan.clock.sleep(pause));
            pause = (pause * 2).min(std::time::Duration::from_secs(5));
        }
    }
}
