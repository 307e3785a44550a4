//! Where partitions end: of a drain, of an idle partition, of patience.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_project::{Offset, TopicPartition};
use tracing::{debug, warn};

use super::context::Context;
use super::discover::offsets_at;
use super::{Active, OTHERS, Poller, QUIET_TICKS, REQUEST, SILENCE, Stop, TICK};
use crate::Mode;
use crate::error::{Cause, is_permanent};
use crate::source::Event;

impl Poller {
    /// A partition with this number has no more records for now; librdkafka does not say of which topic.
    pub(super) fn reach_end(
        &mut self,
        consumer: &BaseConsumer<Context>,
        number: i32,
    ) -> Result<Vec<TopicPartition>, Stop> {
        let positions = consumer.position().unwrap_or_default();
        let mut advanced = Vec::new();
        let mut finished = Vec::new();
        // Partitions of several topics share a number, and a late message may concern one that is finished.
        let is_certain = self.active.keys().filter(|of| of.partition == number).count() == 1;
        let is_concerned =
            |(of, active): &(&TopicPartition, &mut Active)| of.partition == number && !active.is_impostor;
        for (partition, active) in self.active.iter_mut().filter(is_concerned) {
            let position = positions
                .find_partition(&partition.topic.0, number)
                .and_then(|element| element.offset().to_raw())
                .filter(|offset| *offset >= 0);
            let mut next = active.next.max(Offset(position.unwrap_or(-1)));
            if let Some(end) = active.end {
                // The log ended at or behind `end`, and librdkafka has read it to its end: whatever lies below `end` was
                // handed over or is not for a consumer. Where that is not certain `tick` finds out.
                if is_certain && !active.is_finished {
                    next = next.max(end);
                }
                next = next.min(end.max(active.next));
                if next >= end && !active.is_finished {
                    finished.push(partition.clone());
                }
            }
            if next > active.next {
                active.next = next;
                advanced.push(Event::Advanced { slot: active.slot, next });
            }
        }
        for event in advanced {
            self.send(consumer, event)?;
        }
        Ok(finished)
    }

    /// A drain has come to the end of a partition. [`Poller::ask_ends`] asks later whether its log has grown meanwhile.
    pub(super) fn finish(&mut self, consumer: &BaseConsumer<Context>, partition: &TopicPartition) {
        let Some(active) = self.active.get_mut(partition) else { return };
        if std::mem::replace(&mut active.is_finished, true) {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic.0, partition.partition);
        if let Err(error) = consumer.pause(&list) {
            debug!(%error, "failed to pause");
        }
        self.unasked.push(partition.clone());
    }

    /// Asks for the ends of all partitions that a drain has finished since it was asked last, in one request: an answer stands
    /// in line behind the fetch that is under way, and asking for each partition by itself would wait for as many fetches as
    /// there are partitions.
    fn ask_ends(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let asked = std::mem::take(&mut self.unasked);
        if asked.is_empty() {
            return Ok(());
        }
        let at_us = self.plan.clock.now_us();
        let ends = match offsets_at(consumer, &asked, rdkafka::Offset::End, REQUEST) {
            Ok(ends) => ends,
            Err(error) => {
                debug!(%error, "could not ask for the ends of logs");
                return Ok(());
            }
        };
        for (partition, end) in asked.iter().zip(ends) {
            // One that was given back or begun anew meanwhile is no longer what was finished.
            let Some(active) = self.active.get(partition).filter(|active| active.is_finished) else { continue };
            let (slot, next) = (active.slot, active.next);
            if next >= end {
                self.send(consumer, Event::Drained { slot, next, at_us })?;
            }
        }
        Ok(())
    }

    /// Asks idle partitions whether they are at their end, and a silent broker whether it is there.
    pub(super) fn tick(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        self.ask_ends(consumer)?;
        let idle: Vec<TopicPartition> = self
            .active
            .iter_mut()
            .filter(|(_, active)| !active.is_finished)
            .filter_map(|(partition, active)| {
                let was_idle = std::mem::replace(&mut active.is_idle, true);
                active.quiet_ticks = if was_idle { active.quiet_ticks + 1 } else { 0 };
                was_idle.then(|| partition.clone())
            })
            .collect();
        let positions =
            if idle.is_empty() { TopicPartitionList::new() } else { consumer.position().unwrap_or_default() };
        for partition in idle {
            let at_us = self.plan.clock.now_us();
            match consumer.fetch_watermarks(&partition.topic.0, partition.partition, REQUEST) {
                Ok((low, end)) => {
                    self.silence = None;
                    let Some(active) = self.active.get_mut(&partition) else { continue };
                    // librdkafka's own numbers are a second or two old; after so long a silence they are of this span, and
                    // what they speak of was handed over.
                    let seen_end =
                        consumer.context().seen_end(&partition).filter(|_| active.quiet_ticks >= QUIET_TICKS);
                    if let Some((end, seen)) = active.end.zip(seen_end)
                        && seen >= end.0
                    {
                        active.next = active.next.max(end);
                    }
                    if let Some(position) = positions.find_partition(&partition.topic.0, partition.partition)
                        && let Some(position) = position.offset().to_raw().filter(|offset| *offset >= active.next.0)
                    {
                        // Records that were handed over moved `next` already; what is beyond them are markers.
                        active.next = Offset(active.end.map_or(position, |end| position.min(end.0)).max(active.next.0));
                    }
                    let (slot, next) = (active.slot, active.next);
                    let is_gap = !(Offset(low)..=Offset(end)).contains(&next);
                    let is_finished = active.end.is_some_and(|end| next >= end);
                    if is_gap {
                        return self.reposition_all(consumer);
                    }
                    if next >= Offset(end) {
                        self.send(consumer, Event::Drained { slot, next, at_us })?;
                    }
                    if is_finished {
                        self.send(consumer, Event::Advanced { slot, next })?;
                        self.finish(consumer, &partition);
                    }
                }
                Err(error) => {
                    self.suffer(error)?;
                    break;
                }
            }
        }
        self.look_for_topics(consumer)?;
        self.tick = self.plan.clock.stopwatch();
        Ok(())
    }

    /// Bears a broker that does not answer: for ever when following, for [`SILENCE`] in a drain.
    pub(super) fn suffer(&mut self, error: KafkaError) -> Result<(), Stop> {
        if error.rdkafka_error_code().is_some_and(is_permanent) {
            return Err(
                Cause::Kafka { act: "ask the broker", source_name: self.plan.name.clone(), source: error }.into()
            );
        }
        warn!(source = %self.plan.name, %error, "broker does not answer, trying again");
        let silence = *self.silence.get_or_insert_with(|| self.plan.clock.stopwatch());
        if self.plan.mode == Mode::Drain && silence.elapsed() >= SILENCE {
            return Err(Cause::Silent { source_name: self.plan.name.clone(), source: error }.into());
        }
        Ok(())
    }

    /// Whether everything that stood at start is in the lake or on its way there.
    pub(super) fn is_drained(&mut self, consumer: &BaseConsumer<Context>) -> Result<bool, Stop> {
        if !self.is_assigned || !self.active.values().all(|active| active.is_finished) {
            self.others = None;
            if !self.is_assigned && self.plan.deadline.elapsed() >= SILENCE * 2 {
                let source = KafkaError::Global(RDKafkaErrorCode::TimedOutQueue);
                return Err(Cause::Silent { source_name: self.plan.name.clone(), source }.into());
            }
            return Ok(false);
        }
        self.ask_ends(consumer)?;
        let is_elsewhere = |(partition, (low, end)): &(&TopicPartition, &(Offset, Offset))| {
            low < end && !self.active.contains_key(partition)
        };
        let elsewhere: Vec<TopicPartition> =
            self.targets.iter().filter(is_elsewhere).map(|(partition, _)| partition.clone()).collect();
        if elsewhere.is_empty() {
            return Ok(true);
        }
        // Other members of the group read those. They are waited for, so that a finished drain means what its caller
        // thinks; but not for long, because a partition that was stopped by a gap never gets there.
        let now = self.plan.clock.stopwatch();
        let since = match self.others {
            Some((_, asked)) if asked.elapsed() < TICK / 4 => return Ok(false),
            Some((since, _)) => since,
            None => now,
        };
        self.others = Some((since, now));
        let lake = self.ask_lake(consumer, elsewhere.clone())?;
        let is_there =
            |of: &TopicPartition| lake.get(of).and_then(|of| of.next).is_some_and(|next| next >= self.targets[of].1);
        if elsewhere.iter().all(is_there) {
            return Ok(true);
        }
        if since.elapsed() >= OTHERS {
            warn!(source = %self.plan.name, "other members of the group have not finished, this one has");
            return Ok(true);
        }
        Ok(false)
    }
}
