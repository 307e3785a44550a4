//! Turns chunks of records into decoded batches, on a thread of its own.
//!
//! Decoding costs as much as reading and half as much as writing, so it runs beside both: while one batch is being
//! committed the next one is being decoded and the one after it is being read. That keeps exactness, because batches reach
//! the lake one after the other, in the order of reading, and each is judged against the lake only then.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tidemill_lake::metadata::LastRecord;
use tidemill_project::clock::{Clock, Micros, Stopwatch};
use tidemill_project::contract::Contract;
use tidemill_project::{Offset, SourceName, TopicPartition};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::decode::{Decoded, Decoder, Pushed, Record, Rejection};
use crate::error::Cause;
use crate::registry::Schemas;
use crate::source::chunk::{Chunk, HeadersRef, OwnedRecord};
use crate::source::kafka::TopicRules;
use crate::source::witness::last_record;
use crate::source::{Event, Positioned, Slot};
use crate::{Error, Result};

/// Rows that a first batch makes room for; later ones take the size of the one before.
const CAPACITY: usize = 4_096;

/// When a batch closes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
}

/// Where some of a batch's records came from, and what is accounted for beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) key: OriginKey,
    /// Offsets or records `[from, to)`.
    pub(crate) from: i64,
    /// See `from`.
    pub(crate) to: i64,
    /// Records with a value.
    pub(crate) records: u64,
    pub(crate) tombstones: u64,
    pub(crate) skipped: u64,
    /// Part of `skipped`.
    pub(crate) gap: u64,
    /// The last record of a Kafka partition's span.
    pub(crate) last: Option<LastRecord>,
}

/// What keeps an origin's progress in the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginKey {
    /// A span of a Kafka partition.
    Partition { slot: Slot, partition: TopicPartition },
    /// A file; `base` is what the lake said when it was opened.
    File { path: String, content: String, is_complete: bool, base: Option<i64> },
    /// Entries of the quarantine. They need no progress: a second replay meets the keys that the first one landed.
    Replay,
}

/// A record that goes to quarantine.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Index into [`Batch::origins`].
    pub(crate) origin: u32,
    pub(crate) rejection: Rejection,
    pub(crate) record: OwnedRecord,
}

/// Decoded records, ready for the lake.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) decoded: Decoded,
    /// Index into `origins`, by record that was pushed.
    pub(crate) origin_of: Vec<u32>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) refused: Vec<Refused>,
    /// Partitions that were seen fully read, up to which offset and when.
    pub(crate) drained: Vec<(Slot, Offset, Micros)>,
    pub(crate) num_bytes: usize,
    /// Runs since the first record.
    pub(crate) opened: Stopwatch,
}

/// What reaches the lake's side, in order.
#[derive(Debug)]
pub(crate) enum Staged {
    Batch(Box<Batch>),
    /// Any event but records.
    Event(Box<Event>),
}

/// A span as far as this stage knows it.
#[derive(Debug)]
struct Span {
    partition: TopicPartition,
    rule: Option<usize>,
    next: i64,
    /// Its entry in the open batch.
    entry: Option<Entry>,
    /// Even an empty span is worth a commit: it pins where the partition was first read.
    is_pinned: bool,
    /// The last record that was taken, by which the log is known again.
    last: Option<LastRecord>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    from: i64,
    records: u64,
    tombstones: u64,
    skipped: u64,
    gap: u64,
}

/// The stage's state: a decoder with an open batch.
pub(crate) struct Batcher {
    name: SourceName,
    limits: Limits,
    clock: Clock,
    decoder: Decoder,
    /// Of sources whose records name their writer's schema.
    schemas: Option<Schemas>,
    rules: TopicRules,
    /// First starts are pinned by a commit of their own unless they begin at the earliest offset anyway.
    pins: bool,
    spans: BTreeMap<Slot, Span>,
    drained: HashMap<Slot, (Offset, Micros)>,
    /// Slot of every record that was pushed.
    pushed: Vec<Slot>,
    /// The records that the decoder has turned away, copied before their chunk goes: hardly any, as a rule.
    refused: Vec<OwnedRecord>,
    num_bytes: usize,
    opened: Option<Stopwatch>,
}

impl Batcher {
    pub(crate) fn new(
        contract: &Contract,
        limits: Limits,
        clock: Clock,
        pins: bool,
        schemas: Option<Schemas>,
    ) -> Result<Self> {
        let contract_error = |source| Cause::Contract { source_name: contract.name.clone(), source };
        let mut decoder = Decoder::new(contract).map_err(contract_error)?;
        decoder.begin(CAPACITY);
        Ok(Self {
            name: contract.name.clone(),
            limits,
            clock,
            decoder,
            schemas,
            rules: TopicRules::new(&contract.name, &contract.topics)?,
            pins,
            spans: BTreeMap::new(),
            drained: HashMap::new(),
            pushed: Vec::new(),
            refused: Vec::new(),
            num_bytes: 0,
            opened: None,
        })
    }

    /// Works until the source ends or nobody listens. Blocks its thread.
    pub(crate) fn run(
        mut self,
        mut events: Receiver<Event>,
        batches: &Sender<Staged>,
        runtime: &tokio::runtime::Handle,
    ) {
        loop {
            let event = match self.opened {
                None => runtime.block_on(events.recv()),
                Some(opened) => {
                    let left = self.limits.age.saturating_sub(opened.elapsed());
                    let received = runtime.block_on(async { tokio::time::timeout(left, events.recv()).await });
                    if let Ok(event) = received {
                        event
                    } else {
                        // While the lake is busy an old batch may as well grow: fewer, larger commits catch up faster.
                        if batches.capacity() == 0 && !self.is_full() {
                            let patience = Duration::from_millis(5);
                            match runtime.block_on(async { tokio::time::timeout(patience, events.recv()).await }) {
                                Ok(event) => event,
                                Err(_) => continue,
                            }
                        } else if self.close_into(batches).is_err() {
                            return;
                        } else {
                            continue;
                        }
                    }
                }
            };
            let Some(event) = event else { return };
            let is_last = matches!(event, Event::Ended { .. });
            if self.handle(event, batches, runtime).is_err() || is_last {
                return;
            }
        }
    }

    /// Takes one event. `Err` means that nobody listens or that there is nothing more to tell.
    fn handle(&mut self, event: Event, batches: &Sender<Staged>, runtime: &tokio::runtime::Handle) -> Result<(), Gone> {
        match event {
            Event::Chunk(chunk) => {
                if let Err(error) = runtime.block_on(self.learn_schemas(&chunk)) {
                    // What was taken before is good, and need not be read again.
                    self.close_into(batches)?;
                    send(batches, Staged::Event(Box::new(Event::Ended { result: Err(error) })))?;
                    return Err(Gone);
                }
                self.take(&chunk);
                if self.is_full() {
                    self.close_into(batches)?;
                }
            }
            Event::Advanced { slot, next } => self.advance(slot, next),
            Event::Drained { slot, next, at_us } => self.drain(slot, next, at_us),
            Event::Positioned(positioned) => {
                let is_former = |span: &Span| span.partition == positioned.partition;
                if self.spans.values().any(is_former) {
                    self.close_into(batches)?;
                    self.spans.retain(|_, span| !is_former(span));
                }
                self.begin(&positioned);
                send(batches, Staged::Event(Box::new(Event::Positioned(positioned))))?;
            }
            // These wait for an answer, or end things: everything before them must be in the lake first.
            Event::Assigned { .. } | Event::Revoked { .. } | Event::Ended { .. } => {
                self.close_into(batches)?;
                if let Event::Revoked { slots, .. } = &event {
                    for slot in slots {
                        self.spans.remove(slot);
                    }
                }
                send(batches, Staged::Event(Box::new(event)))?;
            }
            Event::Stopped { .. } | Event::Warned { .. } | Event::Partitions { .. } => {
                send(batches, Staged::Event(Box::new(event)))?;
            }
        }
        Ok(())
    }

    fn open(&mut self) {
        if self.opened.is_none() {
            self.opened = Some(self.clock.stopwatch());
        }
    }

    fn is_full(&self) -> bool {
        let num_bytes = self.num_bytes.max(self.decoder.buffered_bytes());
        self.pushed.len() >= self.limits.rows || num_bytes >= self.limits.bytes
    }

    pub(crate) fn begin(&mut self, positioned: &Positioned) {
        let skipped = u64::try_from(positioned.start.0 - positioned.from.0).unwrap_or_default();
        let is_pinned = self.pins && positioned.base.is_none();
        // A log that begins anew is worth a commit as well: the lake must leave the old one's offset.
        let is_worth_a_commit = skipped > 0 || is_pinned || positioned.restarted;
        let entry =
            is_worth_a_commit.then(|| Entry { from: positioned.from.0, skipped, gap: skipped, ..Entry::default() });
        let span = Span {
            rule: self.rules.rule_of(&positioned.partition.topic.0),
            partition: positioned.partition.clone(),
            next: positioned.start.0,
            entry,
            is_pinned: is_pinned || positioned.restarted,
            last: None,
        };
        self.spans.insert(positioned.slot, span);
        if is_worth_a_commit {
            self.open();
        }
    }

    pub(crate) fn drain(&mut self, slot: Slot, next: Offset, at_us: Micros) {
        self.advance(slot, next);
        self.drained.insert(slot, (next, at_us));
        self.open();
    }

    pub(crate) fn advance(&mut self, slot: Slot, next: Offset) {
        let Some(span) = self.spans.get_mut(&slot) else { return };
        if next.0 > span.next {
            let entry = span.entry.get_or_insert(Entry { from: span.next, ..Entry::default() });
            entry.skipped += u64::try_from(next.0 - span.next).unwrap_or_default();
            span.next = next.0;
            self.open();
        }
    }

    /// Learns the schemas that a chunk's records were written with. Must come before [`take`](Self::take).
    pub(crate) async fn learn_schemas(&mut self, chunk: &Chunk) -> Result<()> {
        let Some(schemas) = &self.schemas else { return Ok(()) };
        schemas.teach(&mut self.decoder, chunk.iter().filter_map(|raw| raw.value)).await
    }

    pub(crate) fn take(&mut self, chunk: &Chunk) {
        self.open();
        let clock_us = self.clock.now_us();
        for raw in chunk.iter() {
            let Some(span) = self.spans.get_mut(&raw.slot) else { continue };
            let entry = span.entry.get_or_insert(Entry { from: span.next, ..Entry::default() });
            entry.skipped += u64::try_from(raw.offset - span.next).unwrap_or_default();
            span.next = raw.offset + 1;
            if raw.value.is_none() {
                entry.tombstones += 1;
                continue;
            }
            entry.records += 1;
            let headers: HeadersRef<'_> = raw.headers;
            let pushed = self.decoder.push(&Record {
                payload: raw.value,
                headers: &headers,
                topic: Some(&span.partition.topic.0),
                topic_rule: span.rule,
                partition: Some(span.partition.partition),
                offset: Some(raw.offset),
                place_in_file: None,
                timestamp_us: raw.timestamp_us,
                clock_us,
            });
            self.pushed.push(raw.slot);
            if matches!(pushed, Pushed::Rejected(_)) {
                self.refused.push(raw.to_owned_record());
            }
        }
        self.remember_last(chunk);
        self.num_bytes += chunk.num_bytes();
    }

    /// Keeps the last record of each span.
    fn remember_last(&mut self, chunk: &Chunk) {
        let mut seen: Vec<Slot> = Vec::new();
        for index in (0..chunk.len()).rev() {
            let slot = chunk.slot(index);
            if seen.last() == Some(&slot) || seen.contains(&slot) {
                continue;
            }
            seen.push(slot);
            if let Some(span) = self.spans.get_mut(&slot) {
                let raw = chunk.get(index);
                span.last = Some(last_record(raw.offset, raw.timestamp_us, raw.key, raw.value));
            }
        }
    }

    fn close_into(&mut self, batches: &Sender<Staged>) -> Result<(), Gone> {
        match self.close() {
            Ok(None) => Ok(()),
            Ok(Some(batch)) => send(batches, Staged::Batch(Box::new(batch))),
            Err(error) => {
                send(batches, Staged::Event(Box::new(Event::Ended { result: Err(error) })))?;
                Err(Gone)
            }
        }
    }

    /// Closes the open batch; `None` when there is none.
    pub(crate) fn close(&mut self) -> Result<Option<Batch>, Error> {
        let Some(opened) = self.opened.take() else { return Ok(None) };
        let mut origins = Vec::new();
        let mut number_of: HashMap<Slot, u32> = HashMap::new();
        for (slot, span) in &mut self.spans {
            let Some(entry) = span.entry.take() else { continue };
            if span.next == entry.from && !span.is_pinned {
                continue;
            }
            span.is_pinned = false;
            number_of.insert(*slot, u32::try_from(origins.len()).expect("a batch has less than 2^32 partitions"));
            origins.push(Origin {
                key: OriginKey::Partition { slot: *slot, partition: span.partition.clone() },
                from: entry.from,
                to: span.next,
                records: entry.records,
                tombstones: entry.tombstones,
                skipped: entry.skipped,
                gap: entry.gap,
                last: span.last.take(),
            });
        }
        let decoded =
            self.decoder.finish().map_err(|source| Cause::Contract { source_name: self.name.clone(), source })?;
        self.decoder.begin(self.pushed.len().max(CAPACITY));
        let origin_of = origins_of(&self.pushed, &number_of);
        let records = self.refused.drain(..);
        let refused = decoded
            .rejections
            .iter()
            .zip(records)
            .map(|(rejection, record)| Refused {
                origin: origin_of[rejection.record],
                rejection: rejection.clone(),
                record,
            })
            .collect();
        let drained = self.drained.drain().map(|(slot, (next, at_us))| (slot, next, at_us)).collect();
        self.pushed.clear();
        let num_bytes = std::mem::take(&mut self.num_bytes);
        Ok(Some(Batch { decoded, origin_of, origins, refused, drained, num_bytes, opened }))
    }
}

/// The origin of each record. Neighbours mostly share theirs.
fn origins_of(pushed: &[Slot], number_of: &HashMap<Slot, u32>) -> Vec<u32> {
    let mut origins = Vec::with_capacity(pushed.len());
    for run in pushed.chunk_by(|one, next| one == next) {
        origins.resize(origins.len() + run.len(), number_of[&run[0]]);
    }
    origins
}

/// Nobody listens any more.
struct Gone;

fn send(batches: &Sender<Staged>, staged: Staged) -> Result<(), Gone> {
    batches.blocking_send(staged).map_err(|_| Gone)
}
