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
mod position;
mod topics;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tidemill_project::clock::{Clock, Stopwatch};
use tidemill_project::config::{KafkaSettings, OnGap, StartOffsets};
use tidemill_project::contract::TopicRule;
use tidemill_project::{Offset, SourceName, TopicPartition};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::chunk::Chunk;
use super::{Command, Event, LakeOffsets, Slot};
use crate::error::{Cause, is_permanent};
use crate::{Error, Mode, Result};
use context::{Context, Rebalance};

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
const SILENCE: Duration = Duration::from_secs(60);
/// How often idle partitions are asked whether they are still at their end (X12).
const TICK: Duration = Duration::from_secs(1);
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
    pub(crate) max_duration: Option<Duration>,
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
    let consumer: BaseConsumer<Context> = match plan.client.create_with_context(Context::default()) {
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
}

struct Poller {
    plan: KafkaPlan,
    events: Sender<Event>,
    commands: Receiver<Command>,
    runtime: tokio::runtime::Handle,
    active: HashMap<TopicPartition, Active>,
    /// First offset and end of every partition that existed at start; a drain goes up to the latter.
    targets: HashMap<TopicPartition, (Offset, Offset)>,
    /// The partition of the record before, by librdkafka's own handle: neighbours mostly share it.
    memo: Option<(usize, i32, TopicPartition)>,
    chunk: Chunk,
    next_slot: Slot,
    num_records: u64,
    is_assigned: bool,
    /// Runs while the broker does not answer.
    silence: Option<Stopwatch>,
    /// Runs since this process has read all that is its own, and since the lake was asked about the others.
    others: Option<(Stopwatch, Stopwatch)>,
    started: Stopwatch,
    tick: Stopwatch,
    last_record: Stopwatch,
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
            active: HashMap::new(),
            targets: HashMap::new(),
            memo: None,
            chunk: Chunk::default(),
            next_slot: 0,
            num_records: 0,
            is_assigned: false,
            silence: None,
            others: None,
            started: watch,
            tick: watch,
            last_record: watch,
        }
    }

    fn read(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        self.discover(consumer)?;
        loop {
            if self.plan.cancel.is_cancelled() || self.is_over() {
                return self.flush(consumer);
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
        self.plan.max_records.is_some_and(|max| self.num_records >= max)
            || self.plan.max_duration.is_some_and(|max| self.started.elapsed() >= max)
    }

    /// Polls until a chunk is full or nothing more is there.
    fn poll(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let mut wait = POLL;
        let mut finished = Vec::new();
        while self.chunk.len() < CHUNK_RECORDS && self.chunk.num_bytes() < CHUNK_BYTES && !self.is_over() {
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
            self.finish(consumer, &partition)?;
        }
        Ok(())
    }

    /// Takes a record in. Returns its partition when a drain has come to the partition's end with it.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Option<TopicPartition> {
        let handle = message.topic_ptr() as usize;
        if !matches!(&self.memo, Some((known, number, _)) if *known == handle && *number == message.partition()) {
            let partition = TopicPartition::new(message.topic(), message.partition());
            self.memo = Some((handle, message.partition(), partition));
        }
        let (_, _, partition) = self.memo.as_ref()?;
        let active = self.active.get_mut(partition)?;
        let offset = Offset(message.offset());
        active.is_idle = false;
        // Beyond the end of a drain lies the next run's work; below `next` lies what was read before the partition was
        // positioned anew.
        if offset < active.next || active.end.is_some_and(|end| offset >= end) {
            return (active.end.is_some_and(|end| offset >= end) && !active.is_finished).then(|| partition.clone());
        }
        active.next = Offset(offset.0 + 1);
        let timestamp_us = message.timestamp().to_millis().map(|millis| millis.saturating_mul(1000));
        let (value, key) = (message.payload(), message.key());
        match copy_headers(message) {
            None => self.chunk.push(active.slot, offset.0, timestamp_us, value, key, std::iter::empty()),
            Some(headers) => {
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
                self.chunk.push(active.slot, offset.0, timestamp_us, value, key, headers);
            }
        }
        self.num_records += 1;
        self.last_record = self.plan.clock.stopwatch();
        self.silence = None;
        active.end.is_some_and(|end| active.next >= end).then(|| partition.clone())
    }

    /// Hands the open chunk over.
    fn flush(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Chunk::with_capacity(CHUNK_RECORDS, CHUNK_BYTES));
        self.send(consumer, Event::Chunk(chunk))
    }

    /// Hands an event over. While the lake's side is slow the partitions are paused and the consumer is polled idly.
    fn send(&mut self, consumer: &BaseConsumer<Context>, event: Event) -> Result<(), Stop> {
        let events = self.events.clone();
        let reserve = |patience| self.runtime.block_on(async { tokio::time::timeout(patience, events.reserve()).await });
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

    fn list(&self, wanted: impl Fn(&Active) -> bool) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, _) in self.active.iter().filter(|(_, active)| wanted(active)) {
            list.add_partition(&partition.topic.0, partition.partition);
        }
        list
    }

    /// What librdkafka reports instead of a record.
    fn judge(&mut self, consumer: &BaseConsumer<Context>, error: KafkaError) -> Result<(), Stop> {
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

    /// A partition with this number has no more records for now; librdkafka does not say of which topic.
    fn reach_end(&mut self, consumer: &BaseConsumer<Context>, number: i32) -> Result<Vec<TopicPartition>, Stop> {
        let positions = consumer.position().unwrap_or_default();
        let mut advanced = Vec::new();
        let mut finished = Vec::new();
        let num_candidates = self.active.iter().filter(|(of, active)| of.partition == number && !active.is_finished).count();
        for (partition, active) in self.active.iter_mut().filter(|(of, _)| of.partition == number) {
            let position = positions
                .find_partition(&partition.topic.0, number)
                .and_then(|element| element.offset().to_raw())
                .filter(|offset| *offset >= 0);
            let mut next = active.next.max(Offset(position.unwrap_or(-1)));
            if let Some(end) = active.end {
                // The log ended at or behind `end`, and librdkafka has read it to its end: whatever lies below `end` was
                // handed over or is not for a consumer. With two candidates the message may concern the other one.
                if num_candidates == 1 && !active.is_finished {
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

    /// A drain has come to the end of a partition.
    fn finish(&mut self, consumer: &BaseConsumer<Context>, partition: &TopicPartition) -> Result<(), Stop> {
        let Some(active) = self.active.get_mut(partition) else { return Ok(()) };
        if std::mem::replace(&mut active.is_finished, true) {
            return Ok(());
        }
        let (slot, next) = (active.slot, active.next);
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic.0, partition.partition);
        if let Err(error) = consumer.pause(&list) {
            debug!(%error, "failed to pause");
        }
        let at_us = self.plan.clock.now_us();
        match consumer.fetch_watermarks(&partition.topic.0, partition.partition, REQUEST) {
            Ok((_, end)) if next >= Offset(end) => self.send(consumer, Event::Drained { slot, next, at_us })?,
            Ok(_) => {}
            Err(error) => debug!(%partition, %error, "could not ask for the end of the log"),
        }
        Ok(())
    }

    /// Asks idle partitions whether they are at their end, and a silent broker whether it is there.
    fn tick(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        let idle: Vec<TopicPartition> = self
            .active
            .iter_mut()
            .filter(|(_, active)| !active.is_finished)
            .filter_map(|(partition, active)| std::mem::replace(&mut active.is_idle, true).then(|| partition.clone()))
            .collect();
        let positions = if idle.is_empty() { TopicPartitionList::new() } else { consumer.position().unwrap_or_default() };
        for partition in idle {
            let at_us = self.plan.clock.now_us();
            match consumer.fetch_watermarks(&partition.topic.0, partition.partition, REQUEST) {
                Ok((low, end)) => {
                    self.silence = None;
                    let Some(active) = self.active.get_mut(&partition) else { continue };
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
                        self.finish(consumer, &partition)?;
                    }
                }
                Err(error) => {
                    self.suffer(error)?;
                    break;
                }
            }
        }
        self.tick = self.plan.clock.stopwatch();
        Ok(())
    }

    /// Bears a broker that does not answer: for ever when following, for [`SILENCE`] in a drain.
    fn suffer(&mut self, error: KafkaError) -> Result<(), Stop> {
        if error.rdkafka_error_code().is_some_and(is_permanent) {
            return Err(Cause::Kafka { act: "ask the broker", source_name: self.plan.name.clone(), source: error }.into());
        }
        warn!(source = %self.plan.name, %error, "broker does not answer, trying again");
        let silence = *self.silence.get_or_insert_with(|| self.plan.clock.stopwatch());
        if self.plan.mode == Mode::Drain && silence.elapsed() >= SILENCE {
            return Err(Cause::Silent { source_name: self.plan.name.clone(), source: error }.into());
        }
        Ok(())
    }

    /// Whether everything that stood at start is in the lake or on its way there.
    fn is_drained(&mut self, consumer: &BaseConsumer<Context>) -> Result<bool, Stop> {
        if !self.is_assigned || !self.active.values().all(|active| active.is_finished) {
            self.others = None;
            if !self.is_assigned && self.started.elapsed() >= SILENCE * 2 {
                let source = KafkaError::Global(RDKafkaErrorCode::TimedOutQueue);
                return Err(Cause::Silent { source_name: self.plan.name.clone(), source }.into());
            }
            return Ok(false);
        }
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
            |of: &TopicPartition| lake.get(of).copied().flatten().is_some_and(|next| next >= self.targets[of].1);
        if elsewhere.iter().all(is_there) {
            return Ok(true);
        }
        if since.elapsed() >= OTHERS {
            warn!(source = %self.plan.name, "other members of the group have not finished, this one has");
            return Ok(true);
        }
        Ok(false)
    }

    /// Asks where the lake stands, after everything that was handed over is in it.
    fn ask_lake(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partitions: Vec<TopicPartition>,
    ) -> Result<LakeOffsets, Stop> {
        self.flush(consumer)?;
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.send(consumer, Event::Assigned { partitions, reply })?;
        answer.recv().map_err(|_| Stop::NobodyListens)
    }

    /// Obeys the lake's side.
    fn obey(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Reposition { slot, base }) => {
                    let taken_over =
                        self.active.iter().find(|(_, active)| active.slot == slot).map(|(partition, _)| partition.clone());
                    if let Some(partition) = taken_over {
                        self.flush(consumer)?;
                        let lake = HashMap::from([(partition.clone(), Some(base))]);
                        self.position(consumer, vec![partition], &lake, true)?;
                    }
                }
                Ok(Command::CommitOffsets { offsets }) => self.commit_offsets(consumer, &offsets, CommitMode::Async),
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return Err(Stop::NobodyListens),
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    /// Writes group offsets. They are for lag tools: a failure is worth a line, not a run.
    fn commit_offsets(
        &self,
        consumer: &BaseConsumer<Context>,
        offsets: &HashMap<TopicPartition, Offset>,
        mode: CommitMode,
    ) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets.iter().filter(|(partition, _)| self.active.contains_key(partition)) {
            let offset = rdkafka::Offset::Offset(offset.0);
            if let Err(error) = list.add_partition_offset(&partition.topic.0, partition.partition, offset) {
                debug!(%partition, %error, "group offset is not representable");
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.commit(&list, mode)
        {
            warn!(source = %self.plan.name, %error, "failed to commit group offsets; lag tools will lag");
        }
    }

    /// Keeps the membership alive until everything is in the lake, then writes the last group offsets.
    fn say_farewell(&mut self, consumer: &BaseConsumer<Context>) {
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
                Ok(Command::Close) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    while consumer.poll(Duration::ZERO).is_some() {}
                }
            }
        }
        self.commit_offsets(consumer, &last, CommitMode::Sync);
    }

    fn rebalance(&mut self, consumer: &BaseConsumer<Context>) -> Result<(), Stop> {
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
                    self.position(consumer, partitions, &lake, false)?;
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
    fn give_up(&mut self, consumer: &BaseConsumer<Context>, partitions: &[TopicPartition]) -> Result<(), Stop> {
        self.flush(consumer)?;
        let slots: Vec<Slot> =
            partitions.iter().filter_map(|partition| self.active.remove(partition)).map(|active| active.slot).collect();
        if !slots.is_empty() {
            let (done, answer) = std::sync::mpsc::sync_channel(1);
            self.send(consumer, Event::Revoked { slots, done })?;
            // The heartbeat goes on meanwhile. Whoever gets the partitions next reads where the lake stands then.
            answer.recv().map_err(|_| Stop::NobodyListens)?;
        }
        context::unassign(consumer, partitions)
            .map_err(|source| Cause::Kafka { act: "give partitions back", source_name: self.plan.name.clone(), source })?;
        Ok(())
    }
}

/// Copies the headers out. `None` when there are none.
///
/// rdkafka panics over a header whose name is not UTF-8, which any producer can send. Such a record keeps its value and key
/// and loses its headers: a thread that dies over it would die again at each start.
fn copy_headers(message: &BorrowedMessage<'_>) -> Option<Vec<(String, Option<Vec<u8>>)>> {
    let headers = message.headers()?;
    let copy = || headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
    catch_unwind(AssertUnwindSafe(copy)).ok()
}
