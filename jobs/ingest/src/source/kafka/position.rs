//! Where a partition is read from: where the lake stands, unless Kafka no longer has that offset.

use std::collections::HashMap;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tidemill_project::config::{OnGap, StartOffsets};
use tidemill_project::{Offset, TopicPartition};
use tracing::{info, warn};

use super::context::{self, Context};
use super::{Active, Event, Poller, REQUEST, Stop};
use crate::error::Cause;
use crate::source::{LakeOffsets, Positioned};
use crate::{Error, Mode};

/// Where a span begins, before anybody was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    from: Offset,
    start: Offset,
    restarted: bool,
}

/// Decides where to begin, by what the lake says and what Kafka has (`[low, high)`).
///
/// | lake | Kafka has | begins at |
/// | --- | --- | --- |
/// | nothing | anything | `first` |
/// | `next` | `low <= next <= high` | `next` |
/// | `next` | `next < low`: expired | `low`, the offsets between are a gap |
/// | `next` | `next > high`: re-created, or cut by an unclean election | `low`, in a new log |
fn begin(
    partition: &TopicPartition,
    lake: Option<Offset>,
    (low, high): (Offset, Offset),
    first: Offset,
    on_gap: OnGap,
) -> Result<Begin, Error> {
    let Some(next) = lake else { return Ok(Begin { from: first, start: first, restarted: false }) };
    if (low..=high).contains(&next) {
        return Ok(Begin { from: next, start: next, restarted: false });
    }
    let partition = partition.clone();
    match on_gap {
        OnGap::Stop if next < low => Err(Cause::Expired { partition, next, log_start: low }.into()),
        OnGap::Stop => Err(Cause::Ahead { partition, next, log_end: high }.into()),
        OnGap::Skip if next < low => Ok(Begin { from: next, start: low, restarted: false }),
        OnGap::Skip => Ok(Begin { from: low, start: low, restarted: true }),
    }
}

impl Poller {
    /// Begins a span for each of `partitions`. `is_held` says that the consumer has them already: then it seeks.
    pub(super) fn position(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partitions: Vec<TopicPartition>,
        lake: &LakeOffsets,
        is_held: bool,
    ) -> Result<(), Stop> {
        let mut list = TopicPartitionList::new();
        let mut spans = Vec::new();
        for partition in partitions {
            let ends = self.watermarks(consumer, &partition)?;
            let base = lake.get(&partition).copied().flatten();
            let first = if base.is_none() { self.first_offset(consumer, &partition, ends)? } else { ends.0 };
            match begin(&partition, base, ends, first, self.plan.on_gap) {
                Ok(Begin { from, start, restarted }) => {
                    if start > from || restarted {
                        warn!(%partition, next_offset = %base.unwrap_or(from), log_start = %start, "skipping a gap");
                    }
                    let offset = rdkafka::Offset::Offset(start.0);
                    list.add_partition_offset(&partition.topic.0, partition.partition, offset)
                        .map_err(|source| self.kafka_cause("position a partition", source))?;
                    self.next_slot += 1;
                    let slot = self.next_slot;
                    spans.push((Positioned { slot, partition, base, from, start, restarted }, ends.1));
                }
                Err(error) => {
                    warn!(%partition, %error, "partition is stopped");
                    if is_held {
                        context::unassign(consumer, std::slice::from_ref(&partition))
                            .map_err(|source| self.kafka_cause("give a partition back", source))?;
                    }
                    self.active.remove(&partition);
                    self.targets.remove(&partition);
                    self.send(consumer, Event::Stopped { error })?;
                }
            }
        }
        if is_held {
            self.seek(consumer, list)?;
        } else {
            context::assign(consumer, &list).map_err(|source| self.kafka_cause("take partitions", source))?;
        }
        for (span, high) in spans {
            info!(source = %self.plan.name, partition = %span.partition, offset = %span.start, "reading");
            self.begin_span(consumer, span, high)?;
        }
        Ok(())
    }

    fn begin_span(&mut self, consumer: &BaseConsumer<Context>, span: Positioned, high: Offset) -> Result<(), Stop> {
        let (slot, partition, start) = (span.slot, span.partition.clone(), span.start);
        let end = (self.plan.mode == Mode::Drain).then(|| match self.targets.get(&partition) {
            Some((_, target)) if !span.restarted => *target,
            _ => high,
        });
        let active = Active { slot, next: start, end, is_finished: false, is_idle: false };
        self.active.insert(partition.clone(), active);
        self.send(consumer, Event::Positioned(span))?;
        if end.is_some_and(|end| start >= end) {
            self.finish(consumer, &partition)?;
        }
        Ok(())
    }

    /// Seeks; every record of the old span that is still inside librdkafka is dropped there.
    fn seek(&mut self, consumer: &BaseConsumer<Context>, list: TopicPartitionList) -> Result<(), Stop> {
        if list.count() == 0 {
            return Ok(());
        }
        let done = consumer.seek_partitions(list, REQUEST).map_err(|source| self.kafka_cause("seek", source))?;
        for element in done.elements() {
            element.error().map_err(|source| self.kafka_cause("seek", source))?;
        }
        consumer.resume(&done).map_err(|source| self.kafka_cause("resume", source))?;
        Ok(())
    }

    /// Where a partition starts that the lake has never seen.
    fn first_offset(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partition: &TopicPartition,
        (low, high): (Offset, Offset),
    ) -> Result<Offset, Stop> {
        Ok(match &self.plan.start {
            StartOffsets::Earliest => low,
            StartOffsets::Latest => self.targets.get(partition).map_or(high, |(_, end)| *end),
            StartOffsets::Offsets(offsets) => {
                offsets.get(&partition.to_string()).map_or(low, |offset| Offset(*offset).clamp(low, high))
            }
            StartOffsets::Timestamp(at_ms) => {
                let at = HashMap::from([(
                    (partition.topic.0.clone(), partition.partition),
                    rdkafka::Offset::Offset(*at_ms),
                )]);
                let answer = self.insist("look an instant up", || {
                    consumer.offsets_for_times(TopicPartitionList::from_topic_map(&at)?, REQUEST)
                })?;
                match answer.find_partition(&partition.topic.0, partition.partition).map(|element| element.offset()) {
                    Some(rdkafka::Offset::Offset(offset)) => Offset(offset).clamp(low, high),
                    _ => high,
                }
            }
        })
    }

    /// Kafka refused an offset and librdkafka does not say of which partition: all that lie outside their log are ended,
    /// brought into the lake, and begun anew, where the rules for gaps apply.
    pub(super) fn reposition_all(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        self.flush(consumer)?;
        let held: Vec<(TopicPartition, Offset)> =
            self.active.iter().map(|(partition, active)| (partition.clone(), active.next)).collect();
        let mut outside = Vec::new();
        for (partition, next) in held {
            let (low, high) = self.watermarks(consumer, &partition)?;
            if !(low..=high).contains(&next) {
                outside.push(partition);
            }
        }
        if outside.is_empty() {
            return Ok(());
        }
        // The answer comes after everything that was handed over is in the lake.
        let lake = self.ask_lake(consumer, outside.clone())?;
        self.position(consumer, outside, &lake, true)
    }

    fn kafka_cause(&self, act: &'static str, source: rdkafka::error::KafkaError) -> Cause {
        Cause::Kafka { act, source_name: self.plan.name.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(lake: Option<i64>, low: i64, high: i64, on_gap: OnGap) -> Result<(i64, i64, bool), String> {
        let partition = TopicPartition::new("sleep", 3);
        begin(&partition, lake.map(Offset), (Offset(low), Offset(high)), Offset(low), on_gap)
            .map(|begin| (begin.from.0, begin.start.0, begin.restarted))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_lake_decides_where_kafka_has_the_offset() {
        assert_eq!(decide(Some(5), 0, 10, OnGap::Stop), Ok((5, 5, false)));
        assert_eq!(decide(Some(10), 0, 10, OnGap::Stop), Ok((10, 10, false)));
        assert_eq!(decide(None, 4, 10, OnGap::Stop), Ok((4, 4, false)));
    }

    #[test]
    fn a_gap_stops_the_partition_and_names_both_offsets() {
        assert_eq!(
            decide(Some(5), 8, 10, OnGap::Stop),
            Err("offsets were deleted before they were read, partition=`sleep/3`, next_offset=`5`, log_start=`8`"
                .into())
        );
        assert_eq!(
            decide(Some(15), 8, 10, OnGap::Stop),
            Err("next offset lies behind the end of the log, was the topic re-created?, partition=`sleep/3`, \
                 next_offset=`15`, log_end=`10`"
                .into())
        );
    }

    #[test]
    fn a_skipped_gap_is_accounted_for() {
        assert_eq!(decide(Some(5), 8, 10, OnGap::Skip), Ok((5, 8, false)));
        assert_eq!(decide(Some(15), 8, 10, OnGap::Skip), Ok((8, 8, true)));
    }
}
