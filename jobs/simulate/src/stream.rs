//! Base events in, records out, in the order of their sending times.
//!
//! Base events come in the order of their event times and nothing is sent before it happened, so that a record may leave as
//! soon as the stream has passed its sending time: what waits is what is delayed, however long the stream is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use crate::clicks::AvroSchema;
use crate::json::Field;
use crate::options::Options;
use crate::record::{Record, Sink, SinkError};
use crate::system::System;
use crate::truth::TopicTruth;

const SECOND_US: i64 = 1_000_000;

/// A base event before anything goes wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) topic: &'static str,
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    /// Event time, microseconds since the epoch, UTC.
    pub(crate) event_us: i64,
    /// Earliest sending time; before the event time it changes nothing.
    pub(crate) sent_from_us: i64,
    pub(crate) fields: Vec<Field>,
    /// How its bytes are written.
    pub(crate) encoding: Encoding,
    pub(crate) shape: &'static Shape,
    /// Whether its count is meant: no field of it is ever left out.
    pub(crate) is_whole: bool,
    /// Whether a copy can be told from it: its key is not the record's own place.
    pub(crate) is_copyable: bool,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A JSON object.
    Json,
    /// Avro in the registry's wire format, under the id that the registry gave to the schema.
    Avro { schema: AvroSchema, id: u32 },
}

/// What may go wrong with the events of a topic.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Fields that may be left out, and whether the contract refuses the event then.
    pub(crate) removable: &'static [(&'static str, bool)],
    /// Field of the event time.
    pub(crate) time: &'static str,
    /// Ways in which a record of the topic can be broken, beside those of every topic.
    pub(crate) breakages: &'static [Breakage],
}

/// A way in which one field makes a record unacceptable, and the class that quarantine must give it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Breakage {
    /// Another value, as JSON text.
    Value(&'static str, &'static str, &'static str),
    /// The event time in another unit: its microseconds divided by this.
    Unit(i64),
}

/// What became of a base event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It lands, late or not, without this field.
    Lands { is_late: bool, without: Option<&'static str> },
    /// It is quarantined.
    Quarantined,
}

/// A record that waits for its sending time.
struct Waiting {
    sent_ms: i64,
    /// Records of one millisecond leave in the order in which they were made.
    number: u64,
    record: Record,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.sent_ms, self.number).cmp(&(other.sent_ms, other.number))
    }
}

/// Where the events of one system go through.
pub(crate) struct Stream<'a> {
    pub(crate) system: System,
    pub(crate) options: &'a Options,
    books: BTreeMap<&'static str, TopicTruth>,
    /// Records that leave when the stream moves on, in order: most of them, so that these never pass through the heap.
    due: VecDeque<Waiting>,
    /// Records that leave later.
    waiting: BinaryHeap<Reverse<Waiting>>,
    next_number: u64,
    /// What was sent before this millisecond has left.
    now_ms: i64,
    /// Added to sending times: a replay comes later.
    shift_ms: i64,
    last_us: i64,
    sink: &'a mut Sink<'a>,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(system: System, options: &'a Options, shift_ms: i64, sink: &'a mut Sink<'a>) -> Self {
        Self {
            system,
            options,
            books: BTreeMap::new(),
            due: VecDeque::new(),
            waiting: BinaryHeap::new(),
            next_number: 0,
            now_ms: i64::MIN,
            shift_ms,
            last_us: options.start_us,
            sink,
        }
    }

    /// The books of a topic.
    pub(crate) fn books(&mut self, topic: &'static str) -> &mut TopicTruth {
        self.books.entry(topic).or_default()
    }

    /// Books that an event landed; says whether it is late.
    pub(crate) fn book_landed(&mut self, topic: &'static str, event_us: i64, sent_ms: i64) -> bool {
        let is_late =
            self.options.stamped && !self.options.via_collect && sent_ms * 1000 - event_us > self.system.grace_us();
        let books = self.books(topic);
        books.landed += 1;
        books.late += u64::from(is_late);
        books.min_event_us = Some(books.min_event_us.map_or(event_us, |least| least.min(event_us)));
        books.max_event_us = Some(books.max_event_us.map_or(event_us, |greatest| greatest.max(event_us)));
        self.last_us = self.last_us.max(event_us);
        is_late
    }

    /// Takes a record that leaves at its sending time.
    pub(crate) fn push(&mut self, record: Record) {
        let number = self.next_number;
        self.next_number += 1;
        let waiting = Waiting { sent_ms: record.sent_ms, number, record };
        // Nothing that is due is sent later than now, so the queue stays sorted.
        if waiting.sent_ms == self.now_ms {
            self.due.push_back(waiting);
        } else {
            self.waiting.push(Reverse(waiting));
        }
    }

    /// Lets leave what is sent before an instant: no event before it will follow.
    ///
    /// # Errors
    /// The sink's.
    pub(crate) fn advance(&mut self, to_us: i64) -> Result<(), SinkError> {
        let before_ms = ceil_ms(to_us);
        while let Some(first) = self.pop_before(before_ms) {
            self.emit(first.record)?;
        }
        self.now_ms = self.now_ms.max(before_ms);
        Ok(())
    }

    /// Takes the first record of all that are sent before a millisecond.
    fn pop_before(&mut self, before_ms: i64) -> Option<Waiting> {
        let waits_first = match (self.due.front(), self.waiting.peek()) {
            (Some(due), Some(Reverse(waiting))) => waiting < due,
            (due, _) => due.is_none(),
        };
        let first = if waits_first { self.waiting.peek().map(|Reverse(first)| first) } else { self.due.front() };
        if first?.sent_ms >= before_ms {
            return None;
        }
        if waits_first { self.waiting.pop().map(|Reverse(first)| first) } else { self.due.pop_front() }
    }

    /// The clock for which the truth holds: 48 hours after the last event that landed so far, in whole seconds.
    pub(crate) fn as_of_us(&self) -> i64 {
        (self.last_us.div_euclid(SECOND_US) + 1) * SECOND_US + 48 * 3600 * SECOND_US
    }

    /// Ends the stream: everything leaves. Returns the books.
    ///
    /// # Errors
    /// The sink's.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<&'static str, TopicTruth>, SinkError> {
        while let Some(next) = self.pop_before(i64::MAX) {
            self.emit(next.record)?;
        }
        Ok(self.books)
    }

    fn emit(&mut self, mut record: Record) -> Result<(), SinkError> {
        record.sent_ms += self.shift_ms;
        if !record.is_aborted {
            self.books(record.topic).records += 1;
        }
        (self.sink)(record)
    }
}

/// The first whole millisecond not before an instant: records cannot be sent before their event.
pub(crate) fn ceil_ms(us: i64) -> i64 {
    us.div_euclid(1000) + i64::from(us.rem_euclid(1000) > 0)
}
