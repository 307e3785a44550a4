//! From the bytes of a record to a row of the raw table, or to the reason why not.
//!
//! # Guarantee
//! Every record pushed into a [`Decoder`] becomes exactly one of: a row, a [`Rejection`], a tombstone. No input panics, no
//! number passes through a double unless its column is one, no text is changed. What a row holds depends on the record and
//! the contract alone: not on its neighbours, the cut of batches or, `_extra` apart, the order of its
//! fields.
//!
//! # How
//! One pass, no second parser for the bad ones: `scan` tells the values apart and leaves them where they stand in the
//! payload (`flat` does the same, sooner, for records without escapes and nesting), `value` converts what each column resolves to into cells without an allocation, and only when all of them are
//! good does `columns` append a row. A fault is a note on a cold branch; the others are looked for all the same, so a
//! rejection names every faulty field at the cost of a good record.
//!
//! Records that name their writer's schema (Avro) need no scanner: `avro` writes their values down as JSON would have them and
//! points tokens at them, so all behind it is the same.
//!
//! # Fates that JSON leaves open
//! | input | fate |
//! | --- | --- |
//! | byte order mark at the front | skipped |
//! | a key twice in one object | the last value counts, as in PostgreSQL's jsonb, Python and JavaScript; in `_extra` too |
//! | NaN, Infinity, -Infinity | `bad_value` (a time: `bad_event_time`), though they are no JSON: Python sends them |
//! | `7.0`, `7e0` for an integer | 7: JSON has one kind of number; a fraction is `wrong_type`, beyond 64 bits `bad_value` |
//! | a lone surrogate `\ud800`, a raw control character in a string | `malformed` |
//! | `\u0000` in a string | kept |
//! | invalid UTF-8, also in a field that nobody reads | `malformed` |
//! | more than 128 levels; digits of a number before its point beyond 4,300 | `malformed` |
//! | anything but blanks behind the object | `malformed` |
//! | null for a field | as if it were absent |
//!
//! `docs/records.md` lists all cases with their tests.

mod avro;
mod columns;
mod decoder;
mod error;
mod extra;
mod fault;
mod flat;
mod json;
mod key;
mod nested;
mod number;
mod paths;
mod plan;
mod record;
mod scan;
mod time;
mod value;

#[cfg(test)]
pub(crate) mod tests;

pub use avro::{Misfit, RegisteredSchema, SchemaId, SchemaKind, check_schema};
pub use decoder::Decoder;
pub use error::{Error, Result};
pub use key::fingerprint;
pub use record::{Decoded, EventPartition, Headers, NoHeaders, Pushed, Record, Rejection, RejectionClass, Row};
