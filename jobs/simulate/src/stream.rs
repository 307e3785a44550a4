//! Base events in, records out, in the order of their sending times.
//!
//! Base events come in the order of their event times and nothing is sent before it happened, so that a record may leave as
//! soon as the stream has passed its sending time: what waits is what is delayed, however long the stream is.

use std::collections::BTreeMap;

use crate::agenda::Agenda;
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

/// Where the events of one system go through.
pub(crate) struct Stream<'a> {
    pub(crate) system: System,
    pub(crate) options: &'a Options,
    books: BTreeMap<&'static str, TopicTruth>,
    /// Records by their sending time in milliseconds; those of one millisecond leave in the order in which they were made.
    waiting: Agenda<Record>,
    next_number: u64,
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
            waiting: Agenda::new(),
            next_number: 0,
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
        self.waiting.plan(record.sent_ms, number, record);
    }

    /// Lets leave what is sent before an instant: no event before it will follow.
    ///
    /// # Errors
    /// The sink's.
    pub(crate) fn advance(&mut self, to_us: i64) -> Result<(), SinkError> {
        self.emit_until(ceil_ms(to_us) - 1)
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
        self.emit_until(i64::MAX)?;
        Ok(self.books)
    }

    fn emit_until(&mut self, until_ms: i64) -> Result<(), SinkError> {
        while let Some((_, record)) = self.waiting.next_until(until_ms) {
            self.emit(record)?;
        }
        Ok(())
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
