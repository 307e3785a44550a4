//! What producers do wrong: copies, delays, cut-off and foreign records, missing fields.

use crate::clicks::encode_avro;
use crate::json::{Field, Json, int, object, raw, text};
use crate::options::Options;
use crate::random::Random;
use crate::record::{Record, SinkError};
use crate::stream::{Base, Breakage, Encoding, Fate, Stream, ceil_ms};
use crate::system::System;

const SECOND_US: i64 = 1_000_000;
/// A schema id that no registry has given.
const UNKNOWN_SCHEMA: u32 = 99_999;

/// Ways in which a record of any topic can be broken.
const BROKEN_BYTES: [Bytes; 4] = [Bytes::CutOff, Bytes::NoUtf8, Bytes::Array, Bytes::Empty];

/// Fields that stand once in the phone app's message: the HTTP door refuses one without them as a whole.
const OF_THE_MESSAGE: [&str; 2] = ["session_id", "device_id"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    CutOff,
    NoUtf8,
    Array,
    Empty,
}

/// Turns base events into records, drawing faults as it goes.
pub(crate) struct Faults {
    random: Random,
    /// Malformed records take turns: each kind that applies comes equally often.
    next_malformed: usize,
}

impl Faults {
    pub(crate) fn new(system: System, options: &Options) -> Self {
        Self { random: Random::new(options.seed, &format!("faults/{}", system.name()), 0), next_malformed: 0 }
    }

    /// Sends a base event, with whatever goes wrong, and books it.
    ///
    /// # Errors
    /// The sink's.
    pub(crate) fn send(&mut self, base: &Base, stream: &mut Stream<'_>) -> Result<Fate, SinkError> {
        stream.advance(base.event_us)?;
        let options = stream.options;
        let prompt_ms = ceil_ms(base.event_us.max(base.sent_from_us));
        if self.random.chance(options.malformed) {
            self.send_malformed(base, prompt_ms, stream);
        }
        let lacks = self.random.chance(options.missing);
        // Avro has no record without a field.
        if lacks && !base.is_whole && base.encoding == Encoding::Json {
            return Ok(self.send_incomplete(base, prompt_ms, stream));
        }
        let delayed_us = base.event_us + self.delay(options, stream.system.grace_us());
        let sent_ms = ceil_ms(delayed_us).max(prompt_ms);
        stream.push(record(base, encode(base, &base.fields), sent_ms));
        if self.random.chance(options.duplicates) && base.is_copyable {
            let copy = self.copy(base, sent_ms, options);
            stream.books(copy.topic).duplicates += 1;
            stream.push(copy);
        }
        Ok(Fate::Lands { is_late: stream.book_landed(base.topic, base.event_us, sent_ms), without: None })
    }

    /// Sends the event without one of its fields, at once and once.
    fn send_incomplete(&mut self, base: &Base, sent_ms: i64, stream: &mut Stream<'_>) -> Fate {
        let sent: Vec<_> = base
            .shape
            .removable
            .iter()
            .filter(|(name, _)| base.fields.iter().any(|field| field.name == *name))
            .filter(|(name, _)| !stream.options.via_collect || !OF_THE_MESSAGE.contains(name))
            .collect();
        let (without, required) = *self.random.pick(&sent);
        let fields: Vec<Field> = base.fields.iter().filter(|field| field.name != without).cloned().collect();
        stream.push(record(base, object(&fields), sent_ms));
        if required {
            stream.books(base.topic).quarantine("missing_field");
            return Fate::Quarantined;
        }
        Fate::Lands { is_late: stream.book_landed(base.topic, base.event_us, sent_ms), without: Some(without) }
    }

    /// How long after its event a record is sent.
    fn delay(&mut self, options: &Options, grace_us: i64) -> i64 {
        if self.random.chance(options.late) {
            let extra_s = match self.random.below(100) {
                0..90 => self.random.between(1, 300),
                90..99 => self.random.between(300, 3_600),
                _ => self.random.between(3_600, 48 * 3_600),
            };
            return grace_us + extra_s * SECOND_US;
        }
        if self.random.chance(options.out_of_order) {
            return self.random.between(0, grace_us / 2);
        }
        0
    }

    /// One more record with the same key, half of the time with other bytes.
    fn copy(&mut self, base: &Base, sent_ms: i64, options: &Options) -> Record {
        let after_ms = match self.random.below(100) {
            0..80 => self.random.between(1, 1_000),
            80..99 => self.random.between(1_000, 3_600_000),
            _ => self.random.between(3_600_000, 24 * 3_600_000),
        };
        let mut base = base.clone();
        if self.random.chance(0.5) && base.encoding == Encoding::Json {
            base.fields.reverse();
            base.fields.push(int("attempt", 2));
        }
        // Which of two copies in different places lands depends on who reads: they carry the same timestamp, so that truth
        // does not.
        if options.cross_topic && base.key.is_some() && crate::zoner::move_topic(&mut base) {
            return record(&base, object(&base.fields), sent_ms);
        }
        if options.cross_partition && base.key.is_none() {
            base.partition = (base.partition + 1) % i32::try_from(options.num_partitions(System::Logins)).unwrap_or(1);
            return record(&base, object(&base.fields), sent_ms);
        }
        record(&base, encode(&base, &base.fields), sent_ms + after_ms)
    }

    fn send_malformed(&mut self, base: &Base, sent_ms: i64, stream: &mut Stream<'_>) {
        // An empty line of a file is no record.
        let bytes = match stream.options {
            Options { via_collect: true, .. } => &[],
            Options { stamped: false, .. } => &BROKEN_BYTES[..3],
            _ => &BROKEN_BYTES[..],
        };
        let turn = self.next_malformed;
        self.next_malformed += 1;
        let (value, class) = match base.encoding {
            Encoding::Avro { .. } => broken_avro(base, turn % 3),
            Encoding::Json => {
                let turn = turn % (bytes.len() + base.shape.breakages.len());
                match bytes.get(turn) {
                    Some(kind) => broken_bytes(base, *kind),
                    None => broken_field(base, base.shape.breakages[turn - bytes.len()]),
                }
            }
        };
        stream.push(record(base, value, sent_ms));
        stream.books(base.topic).quarantine(class);
    }
}

fn broken_bytes(base: &Base, kind: Bytes) -> (Vec<u8>, &'static str) {
    match kind {
        Bytes::CutOff => {
            let mut whole = object(&base.fields);
            whole.truncate(whole.len() / 2);
            (whole, "malformed")
        }
        Bytes::NoUtf8 => {
            let mut whole = object(&[text("note", "?")]);
            whole.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xff);
            (whole, "malformed")
        }
        Bytes::Array => (b"[]".to_vec(), "malformed"),
        Bytes::Empty => (Vec::new(), "empty_value"),
    }
}

fn broken_field(base: &Base, breakage: Breakage) -> (Vec<u8>, &'static str) {
    let (name, value, class) = match breakage {
        Breakage::Value(name, value, class) => (name, Json::Raw(value.into()), class),
        Breakage::Unit(divisor) => (base.shape.time, Json::Int(base.event_us / divisor), "event_time_out_of_range"),
    };
    let mut fields: Vec<Field> = base.fields.iter().filter(|field| field.name != name).cloned().collect();
    fields.push(match value {
        Json::Raw(value) => raw(name, value),
        value => Field { name, value },
    });
    (object(&fields), class)
}

fn broken_avro(base: &Base, turn: usize) -> (Vec<u8>, &'static str) {
    let mut value = encode(base, &base.fields);
    match turn {
        0 => {
            value.truncate(value.len() / 2);
            (value, "malformed")
        }
        1 => {
            value[1..5].copy_from_slice(&UNKNOWN_SCHEMA.to_be_bytes());
            (value, "unknown_schema")
        }
        _ => (Vec::new(), "empty_value"),
    }
}

/// The bytes of an event's fields.
pub(crate) fn encode(base: &Base, fields: &[Field]) -> Vec<u8> {
    match base.encoding {
        Encoding::Json => object(fields),
        Encoding::Avro { schema, id } => encode_avro(fields, schema, id),
    }
}

fn record(base: &Base, value: Vec<u8>, sent_ms: i64) -> Record {
    Record { topic: base.topic, partition: base.partition, key: base.key.clone(), value, sent_ms, is_aborted: false }
}
