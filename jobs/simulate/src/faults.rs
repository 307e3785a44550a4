//! What producers do wrong: copies, delays, cut-off and foreign records, missing fields.

use std::fmt::Write;

use crate::random::Random;
use crate::traffic::{Options, Record, System};
use crate::truth::Truth;

const SECOND_US: i64 = 1_000_000;

/// One field of a JSON object: its name and its value as JSON text.
pub(crate) type Field = (&'static str, String);

/// A base event before anything goes wrong with it.
pub(crate) struct Base {
    pub(crate) topic: &'static str,
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) event_us: i64,
    pub(crate) fields: Vec<Field>,
    /// Fields that may be left out, and whether the contract refuses the event then.
    pub(crate) removable: Vec<(&'static str, bool)>,
}

/// What became of a base event.
pub(crate) enum Fate {
    /// It lands, with this lateness, without this field.
    Lands {
        /// Microseconds between the event and its sending, never negative.
        lateness_us: i64,
        /// The field that was left out.
        without: Option<&'static str>,
    },
    /// It is quarantined.
    Quarantined,
}

/// The ways in which a record can be malformed, and the class that quarantine must give it.
const MALFORMED: [(Kind, &str); 8] = [
    (Kind::CutOff, "malformed"),
    (Kind::NoUtf8, "malformed"),
    (Kind::Array, "malformed"),
    (Kind::Empty, "empty_value"),
    (Kind::TextForNumber, "wrong_type"),
    (Kind::Yesterday, "bad_event_time"),
    (Kind::WrongUnit, "event_time_out_of_range"),
    (Kind::UnknownValue, "bad_value"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    CutOff,
    NoUtf8,
    Array,
    Empty,
    TextForNumber,
    Yesterday,
    WrongUnit,
    UnknownValue,
}

/// Turns base events into records, drawing faults as it goes.
pub(crate) struct Faults {
    random: Random,
    options: Options,
    system: System,
    grace_us: i64,
    records: Vec<Record>,
    next_malformed: usize,
}

impl Faults {
    pub(crate) fn new(system: System, options: &Options) -> Self {
        Self {
            random: Random::new(options.seed, &format!("faults/{}", system.name()), 0),
            options: options.clone(),
            system,
            grace_us: match system {
                System::Zoner => 900 * SECOND_US,
                System::Logins => 10 * SECOND_US,
            },
            records: Vec::new(),
            next_malformed: 0,
        }
    }

    pub(crate) fn into_records(self) -> Vec<Record> {
        self.records
    }

    /// Sends a base event, with whatever goes wrong, and books it.
    pub(crate) fn send(&mut self, base: &Base, truth: &mut Truth) -> Fate {
        if self.random.chance(self.options.malformed) {
            self.send_malformed(base, truth);
        }
        if self.random.chance(self.options.missing) && !base.removable.is_empty() {
            let (without, required) = self.random.pick(&base.removable);
            let fields: Vec<Field> = base.fields.iter().filter(|(name, _)| *name != without).cloned().collect();
            self.push(base, object(&fields), ceil_ms(base.event_us));
            let topic = truth.topics.entry(base.topic.to_owned()).or_default();
            if required {
                *topic.quarantined.entry("missing_field".to_owned()).or_default() += 1;
                return Fate::Quarantined;
            }
            topic.landed += 1;
            return Fate::Lands { lateness_us: ceil_ms(base.event_us) * 1000 - base.event_us, without: Some(without) };
        }
        let delay_us = self.delay();
        let sent_ms = ceil_ms(base.event_us + delay_us);
        self.push(base, object(&base.fields), sent_ms);
        if self.random.chance(self.options.duplicates) {
            self.send_copy(base, sent_ms);
            truth.topics.entry(base.topic.to_owned()).or_default().duplicates += 1;
        }
        let lateness_us = sent_ms * 1000 - base.event_us;
        let topic = truth.topics.entry(base.topic.to_owned()).or_default();
        topic.landed += 1;
        topic.late += u64::from(lateness_us > self.grace_us);
        Fate::Lands { lateness_us, without: None }
    }

    /// How long after its event a record is sent.
    fn delay(&mut self) -> i64 {
        if self.random.chance(self.options.late) {
            let extra_s = match self.random.below(100) {
                0..90 => self.random.between(1, 300),
                90..99 => self.random.between(300, 3_600),
                _ => self.random.between(3_600, 48 * 3_600),
            };
            return self.grace_us + extra_s * SECOND_US;
        }
        if self.random.chance(self.options.out_of_order) {
            return self.random.between(0, self.grace_us / 2);
        }
        0
    }

    /// One more record with the same key in the same partition, half of them with other bytes.
    fn send_copy(&mut self, base: &Base, sent_ms: i64) {
        let after_ms = match self.random.below(100) {
            0..80 => self.random.between(1, 1_000),
            80..99 => self.random.between(1_000, 3_600_000),
            _ => self.random.between(3_600_000, 24 * 3_600_000),
        };
        let value = if self.random.chance(0.5) {
            let mut fields = base.fields.clone();
            fields.reverse();
            fields.push(("attempt", "2".to_owned()));
            object(&fields)
        } else {
            object(&base.fields)
        };
        self.push(base, value, sent_ms + after_ms);
    }

    fn send_malformed(&mut self, base: &Base, truth: &mut Truth) {
        let (kind, class) = loop {
            let (kind, class) = MALFORMED[self.next_malformed % MALFORMED.len()];
            self.next_malformed += 1;
            // Logins have no closed set of values but addresses, and a text where a number belongs is legal only for time.
            if self.system == System::Logins && kind == Kind::TextForNumber {
                continue;
            }
            break (kind, class);
        };
        let value = self.malformed_value(kind, base);
        self.push(base, value, ceil_ms(base.event_us));
        *truth.topics.entry(base.topic.to_owned()).or_default().quarantined.entry(class.to_owned()).or_default() += 1;
    }

    fn malformed_value(&mut self, kind: Kind, base: &Base) -> Vec<u8> {
        let replaced = |field: &str, text: String| {
            let fields: Vec<Field> = base
                .fields
                .iter()
                .map(|(name, value)| if *name == field { (*name, text.clone()) } else { (*name, value.clone()) })
                .collect();
            object(&fields)
        };
        match kind {
            Kind::CutOff => {
                let whole = object(&base.fields);
                whole[..whole.len() / 2].to_vec()
            }
            Kind::NoUtf8 => replaced("timestamp", "\"\u{fffd}\"".to_owned())
                .into_iter()
                .map(|byte| if byte == 0xef { 0xff } else { byte })
                .collect(),
            Kind::Array => b"[]".to_vec(),
            Kind::Empty => Vec::new(),
            Kind::TextForNumber => replaced("user_id", "\"somebody\"".to_owned()),
            Kind::Yesterday => replaced("timestamp", "\"yesterday\"".to_owned()),
            Kind::WrongUnit => replaced("timestamp", (base.event_us / 1000).to_string()),
            Kind::UnknownValue => match self.system {
                System::Zoner => {
                    let mut fields: Vec<Field> =
                        base.fields.iter().filter(|(name, _)| *name != "activity").cloned().collect();
                    fields.push(("activity", "\"swim\"".to_owned()));
                    object(&fields)
                }
                System::Logins => replaced("ip", "\"300.1.1.1\"".to_owned()),
            },
        }
    }

    fn push(&mut self, base: &Base, value: Vec<u8>, sent_ms: i64) {
        self.records.push(Record {
            topic: base.topic,
            partition: base.partition,
            key: base.key.clone(),
            value,
            sent_ms,
        });
    }
}

/// The first whole millisecond not before an instant: records cannot be sent before their event.
fn ceil_ms(us: i64) -> i64 {
    us.div_euclid(1000) + i64::from(us.rem_euclid(1000) > 0)
}

/// A JSON object's text.
fn object(fields: &[Field]) -> Vec<u8> {
    let mut text = String::with_capacity(200);
    text.push('{');
    for (index, (name, value)) in fields.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}\"{name}\":{value}", if index > 0 { "," } else { "" });
    }
    text.push('}');
    text.into_bytes()
}
