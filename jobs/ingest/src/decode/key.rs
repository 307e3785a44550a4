//! The idempotency key of a record (X6), and its fingerprint.

use std::fmt::Write;

use chrono::{Days, NaiveDate};
use sha2::{Digest, Sha256};
use tidemill_project::contract::TimeUnit;
use xxhash_rust::xxh3::xxh3_128;

use super::fault::Problem;
use super::json;
use super::plan::{Column, Content, Plan};
use super::record::{Record, RejectionClass};
use super::scan::Token;
use super::time::TimeRule;
use super::value::{Cell, Kind, Place, Shape, Texts};

/// A key rule, compiled: columns by index.
#[derive(Debug)]
pub(crate) enum Key {
    Field(usize),
    Header(Box<str>),
    Hash(Vec<usize>),
    Coordinates,
}

/// The 128 bits by which duplicates are told apart in memory.
///
/// A key of 32 lower-case hex digits, which every derived key is (X6), *is* 128 bits: it is read as a number, without loss.
/// Any other key (a producer's id, coordinates) is hashed by XXH3. Mixing the two is safe as far as chance goes: two
/// different keys of either kind collide with probability 2^-128 per pair, 10^-18 for a partition of ten billion rows.
/// XXH3 does not resist an attacker, though: a producer that crafts its own ids could make one of *its* events look like
/// a copy of another. It could have sent the same id twice with less work, so no trust is lost by it.
#[must_use]
pub fn fingerprint(key: &str) -> u128 {
    hex_value(key.as_bytes()).unwrap_or_else(|| xxh3_128(key.as_bytes()))
}

/// Where the key of a record comes from: the first rule that yields one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Text(&'a str),
    Hash(&'a [usize]),
    Coordinates { topic: &'a str, partition: i32, offset: i64 },
}

/// Looks for the first rule that yields a key.
///
/// A field counts with its text in the payload, before renaming and defaults: a default is no identity.
pub(crate) fn source<'a>(
    plan: &'a Plan,
    resolved: &[Token],
    texts: &Texts<'a>,
    record: &Record<'a>,
) -> Result<Source<'a>, Problem> {
    for key in &plan.keys {
        match key {
            Key::Field(column) => {
                let text = match resolved[*column] {
                    Token::Number(span) | Token::Array(span) | Token::Object(span) => span.of(texts.payload),
                    Token::Bool(value) => ["false", "true"][usize::from(value)],
                    token => texts.string(token).unwrap_or_default(),
                };
                if !text.is_empty() {
                    return Ok(Source::Text(text));
                }
            }
            Key::Header(name) => match record.headers.last(name).map(std::str::from_utf8) {
                None | Some(Ok("")) => {}
                Some(Ok(text)) => return Ok(Source::Text(text)),
                Some(Err(_)) => return Err(Problem::new(RejectionClass::BadValue, "is not UTF-8")),
            },
            Key::Hash(columns) => return Ok(Source::Hash(columns)),
            Key::Coordinates => {
                if let (Some(topic), Some(partition), Some(offset)) = (record.topic, record.partition, record.offset) {
                    return Ok(Source::Coordinates { topic, partition, offset });
                }
                if let Some(place) = record.place_in_file {
                    return Ok(Source::Text(place));
                }
            }
        }
    }
    Err(Problem::new(RejectionClass::MissingField, "is missing"))
}

/// What can be a key, for messages: `event_id` or header `idempotency-key`.
pub(crate) fn describe(plan: &Plan) -> String {
    let names = plan.keys.iter().filter_map(|key| match key {
        Key::Field(column) => Some(plan.columns[*column].field.to_string()),
        Key::Header(name) => Some(format!("header {name}")),
        Key::Hash(_) => None,
        Key::Coordinates => Some("topic, partition and offset".to_owned()),
    });
    names.collect::<Vec<_>>().join("` or `")
}

/// Writes keys into buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct KeyWriter {
    canonical: String,
    pub(crate) key: String,
}

impl KeyWriter {
    /// Writes the key into `self.key` and returns its fingerprint.
    pub(crate) fn write(&mut self, source: Source<'_>, plan: &Plan, cells: &[Cell], texts: &Texts<'_>) -> u128 {
        self.key.clear();
        match source {
            Source::Text(text) => self.key.push_str(text),
            Source::Coordinates { topic, partition, offset } => {
                write!(self.key, "{topic}/{partition}/{offset}").expect("a string takes whatever is written to it");
            }
            Source::Hash(columns) => {
                self.canonicalize(columns, plan, cells, texts);
                let digest: [u8; 32] = Sha256::digest(self.canonical.as_bytes()).into();
                let (first, _) = digest.split_first_chunk::<16>().expect("SHA-256 has 32 bytes");
                push_hex(&mut self.key, first);
                return u128::from_be_bytes(*first);
            }
        }
        fingerprint(&self.key)
    }

    /// Writes the JSON array of X6.
    fn canonicalize(&mut self, columns: &[usize], plan: &Plan, cells: &[Cell], texts: &Texts<'_>) {
        let out = &mut self.canonical;
        out.clear();
        out.push('[');
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_cell(out, &plan.columns[*column], cells[*column], texts);
        }
        out.push(']');
    }
}

/// Writes one value: texts as JSON strings (json columns as they stand), integers and decimals in decimal, times as integer
/// microseconds, or nanoseconds where the column keeps those; dates as `"2025-03-09"`, doubles in their shortest form.
fn write_cell(out: &mut String, column: &Column, cell: Cell, texts: &Texts<'_>) {
    let Content::Flat(shape) = &column.content else { return };
    match cell {
        Cell::Null | Cell::Nested(_) => out.push_str("null"),
        Cell::Text(place, span) if matches!(shape.kind, Kind::Json) => out.push_str(texts.get(place, span)),
        // A text that was read without resolving an escape holds nothing that needs one.
        Cell::Text(Place::Payload, span) => {
            out.push('"');
            out.push_str(span.of(texts.payload));
            out.push('"');
        }
        Cell::Text(place, span) => json::write_string(out, texts.get(place, span)),
        Cell::Int(value) => write_integer(out, value),
        Cell::Time(instant) if keeps_nanoseconds(shape) => write_integer(out, instant.units),
        Cell::Time(instant) => write_integer(out, instant.micros),
        Cell::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Cell::Days(days) => {
            let date = NaiveDate::default();
            let distance = Days::new(u64::from(days.unsigned_abs()));
            let date = if days < 0 { date.checked_sub_days(distance) } else { date.checked_add_days(distance) };
            write!(out, "\"{}\"", date.unwrap_or_default()).expect("a string takes whatever is written to it");
        }
        // JSON's spelling of a finite double: shortest digits that read back as the same double.
        Cell::Double(value) => out.push_str(&serde_json::Value::from(value).to_string()),
        Cell::Decimal(value) => write_decimal(out, value, shape),
    }
}

fn keeps_nanoseconds(shape: &Shape) -> bool {
    matches!(shape.kind, Kind::Time(TimeRule { unit: Some(TimeUnit::Nanosecond), .. })) && shape.keeps_units
}

fn write_decimal(out: &mut String, value: i128, shape: &Shape) {
    let scale = match shape.kind {
        Kind::Decimal { scale, .. } => usize::from(scale.unsigned_abs()),
        _ => 0,
    };
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    write!(out, "{sign}{whole}{point}{fraction}").expect("a string takes whatever is written to it");
}

fn write_integer(out: &mut String, value: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a remainder by ten is one digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&digits[at..]).expect("digits are ASCII"));
}

fn push_hex(out: &mut String, bytes: &[u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0_u8; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out.push_str(std::str::from_utf8(&hex).expect("digits are ASCII"));
}

fn hex_value(text: &[u8]) -> Option<u128> {
    if text.len() != 32 {
        return None;
    }
    let mut value = 0_u128;
    for byte in text {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(digit);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_keys_are_their_own_fingerprint() {
        assert_eq!(fingerprint("30584ef560fbe32a840d728b09cee6f1"), 0x3058_4ef5_60fb_e32a_840d_728b_09ce_e6f1);
        assert_eq!(fingerprint("30584EF560FBE32A840D728B09CEE6F1"), xxh3_128(b"30584EF560FBE32A840D728B09CEE6F1"));
        assert_eq!(fingerprint("user_activity/0/11"), xxh3_128(b"user_activity/0/11"));
    }

    #[test]
    fn integers_are_written_in_decimal() {
        for value in [0, 7, -7, 1_741_478_400_500_000, i64::MAX, i64::MIN] {
            let mut out = String::new();
            write_integer(&mut out, value);
            assert_eq!(out, value.to_string());
        }
    }

    #[test]
    fn decimals_are_written_with_their_scale() {
        let shape = Shape::plain(Kind::Decimal { precision: 18, scale: 4 });
        for (value, text) in
            [(0, "0.0000"), (5, "0.0005"), (-5, "-0.0005"), (199_900, "19.9900"), (-1_000_000, "-100.0000")]
        {
            let mut out = String::new();
            write_decimal(&mut out, value, &shape);
            assert_eq!(out, text);
        }
    }
}
