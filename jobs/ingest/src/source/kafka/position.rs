//! Where a partition is read from: where the lake stands, unless Kafka no longer has that offset.

use std::collections::HashMap;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tidemill_lake::metadata::LastRecord;
use tidemill_project::config::{OnGap, StartOffsets};
use tidemill_project::{Offset, TopicPartition};
use tracing::{info, warn};

use super::context::{self, Context};
use super::{Active, Event, Poller, REQUEST, Stop};
use crate::error::Cause;
use crate::source::{LakeOffset, LakeOffsets, Positioned};
use crate::{Error, Mode};

/// Where a span begins, before anybody was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begin {
    from: Offset,
    start: Offset,
    restarted: bool,
}

/// What the consumer has of partitions that are to be positioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nothing yet: they are taken.
    Fresh,
    /// It has them already: it seeks.
    Held,
    /// It has them already, and their logs are others than those that the lake has read.
    HeldOther,
}

/// Decides where to begin, by what the lake says and what Kafka has (`[low, high)`).
///
/// | lake | Kafka has | begins at |
/// | --- | --- | --- |
/// | nothing | anything | `first` |
/// | `next` | `low <= next <= high` | `next` |
/// | `next` | `next < low`: expired | `low`, the offsets between are a gap |
/// | `next` | `next > high`: re-created, or cut by an unclean election | `low`, in a new log |
/// | `next` | another record than the lake's last one (`is_other`): re-created | `low`, in a new log |
fn begin(
    partition: &TopicPartition,
    lake: Option<Offset>,
    (low, high): (Offset, Offset),
    first: Offset,
    on_gap: OnGap,
    is_other: bool,
) -> Result<Begin, Error> {
    let Some(next) = lake else { return Ok(Begin { from: first, start: first, restarted: false }) };
    if !is_other && (low..=high).contains(&next) {
        return Ok(Begin { from: next, start: next, restarted: false });
    }
    let partition = partition.clone();
    match on_gap {
        OnGap::Stop if is_other => Err(Cause::Recreated { partition, next, log_start: low, log_end: high }.into()),
        OnGap::Stop if next < low => Err(Cause::Expired { partition, next, log_start: low }.into()),
        OnGap::Stop => Err(Cause::Ahead { partition, next, log_end: high }.into()),
        OnGap::Skip if next < low && !is_other => Ok(Begin { from: next, start: low, restarted: false }),
        OnGap::Skip => Ok(Begin { from: low, start: low, restarted: true }),
    }
}

impl Poller {
    /// Begins a span for each of `partitions`.
    pub(super) fn position(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partitions: Vec<TopicPartition>,
        lake: &LakeOffsets,
        hold: Hold,
    ) -> Result<(), Stop> {
        let mut list = TopicPartitionList::new();
        let mut spans = Vec::new();
        let watermarks = self.watermarks(consumer, &partitions)?;
        for (partition, ends) in partitions.into_iter().zip(watermarks) {
            let LakeOffset { next: base, last } = lake.get(&partition).cloned().unwrap_or_default();
            let first = if base.is_none() { self.first_offset(consumer, &partition, ends)? } else { ends.0 };
            match begin(&partition, base, ends, first, self.plan.on_gap, hold == Hold::HeldOther) {
                Ok(Begin { from, start, restarted }) => {
                    if start > from || restarted {
                        warn!(%partition, next_offset = %base.unwrap_or(from), log_start = %start, "skipping a gap");
                    }
                    // Reading resumes at the lake's last record, where it is still there: see `witness`.
                    let is_witness = |last: &LastRecord| (ends.0.0..start.0).contains(&last.offset);
                    let witness = last.filter(is_witness).filter(|_| hold != Hold::HeldOther && start == from);
                    let read_from = witness.as_ref().map_or(start.0, |witness| witness.offset);
                    let offset = rdkafka::Offset::Offset(read_from);
                    list.add_partition_offset(&partition.topic.0, partition.partition, offset)
                        .map_err(|source| self.kafka_cause("position a partition", source))?;
                    self.next_slot += 1;
                    let slot = self.next_slot;
                    spans.push((Positioned { slot, partition, base, from, start, restarted }, ends.1, witness));
                }
                Err(error) => {
                    warn!(%partition, %error, "partition is stopped");
                    if hold != Hold::Fresh {
                        context::unassign(consumer, std::slice::from_ref(&partition))
                            .map_err(|source| self.kafka_cause("give a partition back", source))?;
                    }
                    self.active.remove(&partition);
                    self.targets.remove(&partition);
                    self.send(consumer, Event::Stopped { error })?;
                }
            }
        }
        if hold == Hold::Fresh {
            context::assign(consumer, &list).map_err(|source| self.kafka_cause("take partitions", source))?;
        } else {
            self.seek(consumer, list)?;
        }
        for (span, high, witness) in spans {
            info!(source = %self.plan.name, partition = %span.partition, offset = %span.start, "reading");
            self.begin_span(consumer, span, high, witness)?;
        }
        Ok(())
    }

    fn begin_span(
        &mut self,
        consumer: &BaseConsumer<Context>,
        span: Positioned,
        high: Offset,
        witness: Option<LastRecord>,
    ) -> Result<(), Stop> {
        let (slot, partition, start) = (span.slot, span.partition.clone(), span.start);
        let end = (self.plan.mode == Mode::Drain).then(|| match self.targets.get(&partition) {
            Some((_, target)) if !span.restarted => *target,
            _ => high,
        });
        let active = Active {
            slot,
            next: start,
            end,
            is_finished: false,
            is_idle: false,
            quiet_ticks: 0,
            witness,
            is_impostor: false,
        };
        self.active.insert(partition.clone(), active);
        self.send(consumer, Event::Positioned(span))?;
        if end.is_some_and(|end| start >= end) {
            self.finish(consumer, &partition);
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
                let answer = self.insist("look an instant up", |timeout| {
                    consumer.offsets_for_times(TopicPartitionList::from_topic_map(&at)?, timeout)
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
        let (partitions, nexts): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        let watermarks = self.watermarks(consumer, &partitions)?;
        let of_each = partitions.into_iter().zip(nexts).zip(watermarks);
        let is_outside = |next: Offset, (low, high): (Offset, Offset)| !(low..=high).contains(&next);
        let outside: Vec<TopicPartition> =
            of_each.filter(|((_, next), ends)| is_outside(*next, *ends)).map(|((partition, _), _)| partition).collect();
        if outside.is_empty() {
            return Ok(());
        }
        // The answer comes after everything that was handed over is in the lake.
        let lake = self.ask_lake(consumer, outside.clone())?;
        self.position(consumer, outside, &lake, Hold::Held)
    }

    /// Ends the spans of partitions whose logs turned out to be others, and begins them anew by the rules for gaps.
    pub(super) fn replace_impostors(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let is_impostor = |(of, active): (&TopicPartition, &Active)| active.is_impostor.then(|| of.clone());
        let impostors: Vec<TopicPartition> = self.active.iter().filter_map(is_impostor).collect();
        if impostors.is_empty() {
            return Ok(());
        }
        let lake = self.ask_lake(consumer, impostors.clone())?;
        self.position(consumer, impostors, &lake, Hold::HeldOther)
    }

    fn kafka_cause(&self, act: &'static str, source: rdkafka::error::KafkaError) -> Cause {
        Cause::Kafka { act, source_name: self.plan.name.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(lake: Option<i64>, low: i64, high: i64, on_gap: OnGap) -> Result<(i64, i64, bool), String> {
        decide_for(lake, low, high, on_gap, false)
    }

    fn decide_for(
        lake: Option<i64>,
        low: i64,
        high: i64,
        on_gap: OnGap,
        is_other: bool,
    ) -> Result<(i64, i64, bool), String> {
        let partition = TopicPartition::new("sleep", 3);
        begin(&partition, lake.map(Offset), (Offset(low), Offset(high)), Offset(low), on_gap, is_other)
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

    #[test]
    fn another_log_is_a_gap_wherever_its_offsets_lie() {
        for next in [5, 9, 15] {
            assert_eq!(decide_for(Some(next), 8, 10, OnGap::Skip, true), Ok((8, 8, true)));
            assert_eq!(
                decide_for(Some(next), 8, 10, OnGap::Stop, true),
                Err(format!(
                    "partition holds another log than the one that was read, was the topic re-created?, \
                     partition=`sleep/3`, next_offset=`{next}`, log_start=`8`, log_end=`10`"
                ))
            );
        }
    }
}
