//! Reads Kafka on a thread of its own.
//!
//! The consumer is a member of a group only to share the partitions among processes. Where a partition is read from is told
//! by the lake alone; group offsets are written after it, for lag tools, and never read. librdkafka is polled by one thread
//! from the first subscription to the last farewell, also while the lake is slow: then the partitions are paused and the
//! polls go on, so that the group does not take the process for dead.
//!
//! Offsets that hold no record for a consumer (transaction markers, aborted and compacted records) are never seen; they are
//! accounted for by the distance between the records around them, and at the end of a partition by librdkafka's position,
//! which moves over markers.

mod context;
mod discover;
mod ends;
mod group;
mod poll;
mod position;
mod topics;

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tidemill_lake::metadata::LastRecord;
use tidemill_project::clock::{Clock, Stopwatch};
use tidemill_project::config::{KafkaSettings, OnGap, StartOffsets};
use tidemill_project::contract::TopicRule;
use tidemill_project::{Offset, SourceName, TopicPartition};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::chunk::Chunk;
use super::{Command, Event, LakeOffset, Slot};
use crate::deadline::Deadline;
use crate::error::Cause;
use crate::{Error, Mode, Result};
use context::Context;
use position::Hold;

pub(crate) use topics::TopicRules;

/// A chunk closes at this many records: enough that the hand-over costs nothing per record.
const CHUNK_RECORDS: usize = 4_096;
/// … or at this many bytes, which bounds what waits in the channel.
const CHUNK_BYTES: usize = 1 << 20;
/// … or when nothing more arrived for this long.
const CHUNK_PAUSE: Duration = Duration::from_millis(2);
/// How long a poll waits: the time that a command may have to wait.
const POLL: Duration = Duration::from_millis(25);
/// How long the lake's side may be slow before the partitions are paused and polled idly; far below `max.poll.interval.ms`.
const PATIENCE: Duration = Duration::from_secs(5);
/// One request to the broker.
const REQUEST: Duration = Duration::from_secs(10);
/// After this long without any answer a drain gives up.
const SILENCE: Duration = Duration::from_mins(1);
/// How often idle partitions are asked whether they are still at their end (X12).
const TICK: Duration = Duration::from_secs(1);
/// An idle partition is judged by librdkafka's own numbers after this many ticks.
const QUIET_TICKS: u32 = 3;
/// How often librdkafka tells its numbers.
const STATISTICS_MS: &str = "1000";
/// How often following looks for topics that have come into being.
const TOPICS: Duration = Duration::from_secs(10);
/// How long a drain that has read its own partitions waits for those of other members: longer than `session.timeout.ms`, so
/// that the partitions of a member that died come back in time.
const OTHERS: Duration = Duration::from_secs(20);

/// What one consumer is to do.
#[derive(Debug)]
pub(crate) struct KafkaPlan {
    pub(crate) name: SourceName,
    pub(crate) client: ClientConfig,
    pub(crate) topics: Vec<TopicRule>,
    pub(crate) mode: Mode,
    pub(crate) start: StartOffsets,
    pub(crate) on_gap: OnGap,
    pub(crate) max_records: Option<u64>,
    pub(crate) deadline: Deadline,
    pub(crate) cancel: CancellationToken,
    pub(crate) clock: Clock,
}

/// The consumer's settings: the user's properties, then what exactness demands, which no property may undo.
pub(crate) fn client_config(settings: &KafkaSettings, memory_budget_bytes: usize) -> ClientConfig {
    let mut config = tidemill_project::kafka::client_config(settings);
    let mut default = |key: &str, value: &str| {
        if settings.property(key).is_none() {
            config.set(key, value);
        }
    };
    // A killed process holds its partitions until this is over; heartbeats run on a thread of librdkafka's own.
    default("session.timeout.ms", "10000");
    // An idle broker answers after this time; the end of a partition is noticed no sooner.
    default("fetch.wait.max.ms", "100");
    default("queued.max.messages.kbytes", &(memory_budget_bytes / 8 / 1024).max(1024).to_string());
    // How long librdkafka rests when that queue is full. The second that it rests by itself is longer than we need to empty
    // the queue: 160,000 events/s, whatever the rest of the pipeline does.
    default("fetch.queue.backoff.ms", "10");
    // A topic that comes into being while we follow is seen after this time; librdkafka's own is five minutes.
    default("topic.metadata.refresh.interval.ms", "10000");
    if settings.property("group.protocol") != Some("consumer") {
        default("partition.assignment.strategy", "cooperative-sticky");
    }
    config.set("group.id", &settings.group);
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error");
    config.set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true");
    config
}

/// Reads until the plan is fulfilled, the plan is cancelled or nobody listens any more. Runs on a thread of its own.
pub(crate) fn run(
    plan: KafkaPlan,
    events: Sender<Event>,
    commands: Receiver<Command>,
    runtime: tokio::runtime::Handle,
) {
    let name = plan.name.clone();
    let mut client = plan.client.clone();
    if plan.mode == Mode::Drain && client.get("statistics.interval.ms").is_none() {
        client.set("statistics.interval.ms", STATISTICS_MS);
    }
    let consumer: BaseConsumer<Context> = match client.create_with_context(Context::default()) {
        Ok(consumer) => consumer,
        Err(source) => {
            let error = Cause::Kafka { act: "create a consumer", source_name: name, source }.into();
            // Nobody listens: then nobody wants to know.
            let _ = events.blocking_send(Event::Ended { result: Err(error) });
            return;
        }
    };
    let mut poller = Poller::new(plan, events, commands, runtime);
    let result = match poller.read(&consumer) {
        Ok(()) | Err(Stop::NobodyListens) => Ok(()),
        Err(Stop::Failed(error)) => Err(error),
    };
    let _ = poller.send(&consumer, Event::Ended { result });
    poller.say_farewell(&consumer);
    consumer.context().close();
}

/// Why reading ends early.
enum Stop {
    Failed(Error),
    NobodyListens,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Cause> for Stop {
    fn from(cause: Cause) -> Self {
        Self::Failed(cause.into())
    }
}

/// A span that is being read.
#[derive(Debug)]
struct Active {
    slot: Slot,
    /// The offset after the last record that was handed over, or after what is known to hold none.
    next: Offset,
    /// Where a drain ends.
    end: Option<Offset>,
    /// The drain has come to `end`.
    is_finished: bool,
    /// Nothing came since the last tick.
    is_idle: bool,
    /// Ticks that have passed without a record.
    quiet_ticks: u32,
    /// The record that reading resumes at, to see whether it is the log that the lake has read.
    witness: Option<LastRecord>,
    /// It is another log: nothing of it counts before it has been begun anew.
    is_impostor: bool,
}

struct Poller {
    plan: KafkaPlan,
    events: Sender<Event>,
    commands: Receiver<Command>,
    runtime: tokio::runtime::Handle,
    /// Asked for each record, so by a quick hash; the names are our own contracts', no attacker chooses them.
    active: HashMap<TopicPartition, Active, DefaultHashBuilder>,
    /// First offset and end of every partition that existed at start; a drain goes up to the latter.
    targets: HashMap<TopicPartition, (Offset, Offset)>,
    /// The partition of the record before, by librdkafka's own handle: neighbours mostly share it.
    memo: Option<(usize, i32, TopicPartition)>,
    chunk: Chunk,
    next_slot: Slot,
    num_records: u64,
    is_assigned: bool,
    /// Partitions that a drain has finished, and whose ends it has not asked for since.
    unasked: Vec<TopicPartition>,
    /// Some partition's log turned out to be another one.
    has_impostor: bool,
    /// What is subscribed to, sorted.
    subscription: Vec<String>,
    /// Runs since topics were looked for.
    looked_for_topics: Stopwatch,
    /// Runs while the broker does not answer.
    silence: Option<Stopwatch>,
    /// Runs since this process has read all that is its own, and since the lake was asked about the others.
    others: Option<(Stopwatch, Stopwatch)>,
    tick: Stopwatch,
}

impl Poller {
    fn new(
        plan: KafkaPlan,
        events: Sender<Event>,
        commands: Receiver<Command>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let watch = plan.clock.stopwatch();
        Self {
            plan,
            events,
            commands,
            runtime,
            active: HashMap::default(),
            targets: HashMap::new(),
            memo: None,
            chunk: Chunk::default(),
            next_slot: 0,
            num_records: 0,
            is_assigned: false,
            unasked: Vec::new(),
            has_impostor: false,
            subscription: Vec::new(),
            looked_for_topics: watch,
            silence: None,
            others: None,
            tick: watch,
        }
    }

    fn read(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        self.discover(consumer)?;
        loop {
            if self.plan.cancel.is_cancelled() {
                return self.flush(consumer);
            }
            if self.is_over() {
                self.flush(consumer)?;
                // A run that was over before the group gave it anything to read has not done what it was asked to.
                return if self.is_assigned { Ok(()) } else { Err(self.plan.deadline.missed(&self.plan.name).into()) };
            }
            self.obey(consumer)?;
            self.rebalance(consumer)?;
            if self.plan.mode == Mode::Drain && self.is_drained(consumer)? {
                return self.flush(consumer);
            }
            self.poll(consumer)?;
            if self.tick.elapsed() >= TICK {
                self.tick(consumer)?;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.plan.max_records.is_some_and(|max| self.num_records >= max) || self.plan.deadline.is_over()
    }

    /// Obeys the lake's side.
    fn obey(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Reposition { slot, base }) => {
                    let taken_over = self
                        .active
                        .iter()
                        .find(|(_, active)| active.slot == slot)
                        .map(|(partition, _)| partition.clone());
                    if let Some(partition) = taken_over {
                        self.flush(consumer)?;
                        let lake = HashMap::from([(partition.clone(), LakeOffset { next: Some(base), last: None })]);
                        self.position(consumer, vec![partition], &lake, Hold::Held)?;
                    }
                }
                Ok(Command::CommitOffsets { offsets }) => self.commit_offsets(consumer, &offsets),
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return Err(Stop::NobodyListens),
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }
}
