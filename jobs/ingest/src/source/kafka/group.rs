//! Life in the consumer group: what comes, what goes, what is left behind for lag tools.

use std::collections::HashMap;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use tidemill_project::{Offset, TopicPartition};
use tracing::{debug, warn};

use super::context::{self, Context, Rebalance};
use super::position::Hold;
use super::{POLL, Poller, Stop};
use crate::error::Cause;
use crate::source::{Command, Event, LakeOffsets, Slot};

impl Poller {
    /// Asks where the lake stands, after everything that was handed over is in it.
    pub(super) fn ask_lake(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partitions: Vec<TopicPartition>,
    ) -> Result<LakeOffsets, Stop> {
        self.flush(consumer)?;
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.send(consumer, Event::Assigned { partitions, reply })?;
        answer.recv().map_err(|_| Stop::NobodyListens)
    }

    /// Writes group offsets. They are for lag tools: a failure is worth a line, not a run.
    pub(super) fn commit_offsets(&self, consumer: &BaseConsumer<Context>, offsets: &HashMap<TopicPartition, Offset>) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets.iter().filter(|(partition, _)| self.active.contains_key(partition)) {
            let offset = rdkafka::Offset::Offset(offset.0);
            if let Err(error) = list.add_partition_offset(&partition.topic.0, partition.partition, offset) {
                debug!(%partition, %error, "group offset is not representable");
            }
        }
        if list.count() > 0
            // Never waited for: a broker that is down must not hold a process that wants to stop. Closing the consumer sends
            // what is still under way.
            && let Err(error) = consumer.commit(&list, CommitMode::Async)
        {
            warn!(source = %self.plan.name, %error, "failed to commit group offsets; lag tools will lag");
        }
    }

    /// Keeps the membership alive until everything is in the lake, then writes the last group offsets.
    pub(super) fn say_farewell(&mut self, consumer: &BaseConsumer<Context>) {
        let everything = self.list(|_| true);
        if let Err(error) = consumer.pause(&everything) {
            debug!(%error, "failed to pause");
        }
        consumer.context().close();
        let mut last = HashMap::new();
        loop {
            match self.commands.recv_timeout(POLL) {
                Ok(Command::CommitOffsets { offsets }) => last.extend(offsets),
                Ok(Command::Reposition { .. }) => {}
                Ok(Command::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => while consumer.poll(Duration::ZERO).is_some() {},
            }
        }
        self.commit_offsets(consumer, &last);
    }

    pub(super) fn rebalance(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        while let Some(rebalance) = consumer.context().next() {
            self.others = None;
            self.memo = None;
            match rebalance {
                Rebalance::Assign(partitions) => {
                    let lake = if partitions.is_empty() {
                        LakeOffsets::new()
                    } else {
                        self.ask_lake(consumer, partitions.clone())?
                    };
                    self.position(consumer, partitions, &lake, Hold::Fresh)?;
                    self.is_assigned = true;
                }
                Rebalance::Revoke(partitions) => self.give_up(consumer, &partitions)?,
                Rebalance::Failed(error) => {
                    warn!(source = %self.plan.name, %error, "rebalance failed, librdkafka tries again");
                }
            }
        }
        Ok(())
    }

    /// Gives partitions back, after their records are in the lake.
    pub(super) fn give_up(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partitions: &[TopicPartition],
    ) -> Result<(), Stop> {
        self.flush(consumer)?;
        let slots: Vec<Slot> =
            partitions.iter().filter_map(|partition| self.active.remove(partition)).map(|active| active.slot).collect();
        if !slots.is_empty() {
            let (done, answer) = std::sync::mpsc::sync_channel(1);
            self.send(consumer, Event::Revoked { slots, done })?;
            // The heartbeat goes on meanwhile. Whoever gets the partitions next reads where the lake stands then.
            answer.recv().map_err(|_| Stop::NobodyListens)?;
        }
        context::unassign(consumer, partitions).map_err(|source| Cause::Kafka {
            act: "give partitions back",
            source_name: self.plan.name.clone(),
            source,
        })?;
        Ok(())
    }
}
