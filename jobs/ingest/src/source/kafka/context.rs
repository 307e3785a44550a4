//! Rebalances: noted where librdkafka tells them, worked off between two polls.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};
use tidemill_project::TopicPartition;
use tracing::{debug, warn};

/// A change of the assignment.
#[derive(Debug)]
pub(super) enum Rebalance {
    /// These come to this process, in addition to what it has.
    Assign(Vec<TopicPartition>),
    /// These go away.
    Revoke(Vec<TopicPartition>),
    /// librdkafka could not.
    Failed(RDKafkaErrorCode),
}

/// Notes rebalances. The consumer's event queue hands them out as events, so nothing is assigned until the poller says so,
/// and the poller may take the time to bring the lake up to date first.
#[derive(Debug, Default)]
pub(super) struct Context {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Rebalance>,
    is_closing: bool,
    /// Up to where librdkafka has read each partition when it last found its end.
    seen_ends: HashMap<TopicPartition, i64>,
}

impl Context {
    /// The oldest change that was not worked off.
    pub(super) fn next(&self) -> Option<Rebalance> {
        self.state.lock().ok()?.pending.pop_front()
    }

    /// The offset at which librdkafka last found the end of a partition, behind transaction markers and all: its own figure,
    /// a second or two old. Told in a drain only.
    pub(super) fn seen_end(&self, partition: &TopicPartition) -> Option<i64> {
        self.state.lock().ok()?.seen_ends.get(partition).copied()
    }

    /// From now on partitions are given back at once and none is taken.
    pub(super) fn close(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.is_closing = true;
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                warn!(facility, message, "librdkafka");
            }
            _ => debug!(facility, message, "librdkafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let Ok(mut state) = self.state.lock() else { return };
        state.seen_ends.clear();
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values().filter(|partition| partition.partition >= 0) {
                // Both: the end was found, and nothing has sent the reader back since.
                let seen = partition.eof_offset.min(partition.next_offset);
                state.seen_ends.insert(TopicPartition::new(topic.topic.clone(), partition.partition), seen);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka reports a fault");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<TopicPartition> =
            list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect();
        let rebalance = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Rebalance::Revoke(partitions),
            other => Rebalance::Failed(other.into()),
        };
        let Ok(mut state) = self.state.lock() else { return };
        if !state.is_closing {
            state.pending.push_back(rebalance);
            return;
        }
        drop(state);
        let left = match &rebalance {
            Rebalance::Revoke(partitions) => unassign(consumer, partitions),
            // The group does not settle before an assignment is answered.
            Rebalance::Assign(_) => assign(consumer, &TopicPartitionList::new()),
            Rebalance::Failed(_) => consumer.unassign(),
        };
        if let Err(error) = left {
            debug!(%error, "failed to leave the group in order");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            debug!(%error, "group offsets were not committed");
        }
    }
}

/// Takes partitions, each at the offset that the list gives.
pub(super) fn assign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list),
    }
}

/// Gives partitions back; those that were never taken, because of a gap, are left out.
pub(super) fn unassign(consumer: &BaseConsumer<Context>, partitions: &[TopicPartition]) -> KafkaResult<()> {
    if !matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
        return consumer.unassign();
    }
    let held = consumer.assignment()?;
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        if held.find_partition(&partition.topic.0, partition.partition).is_some() {
            list.add_partition(&partition.topic.0, partition.partition);
        }
    }
    consumer.incremental_unassign(&list)
}
