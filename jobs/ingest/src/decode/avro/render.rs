//! Avro values as JSON text: what json, struct and list columns and `_extra` are made of.
//!
//! | Avro | JSON |
//! | --- | --- |
//! | decimal | number with all its digits |
//! | timestamp | ISO 8601 text, `2025-03-09T12:00:30.123Z`; without `Z` when local |
//! | date | text, `2025-03-09` |
//! | bytes, fixed | text of the characters with their codes, as in Avro's own JSON |
//! | enum | text |
//! | map, record | object, in the order of writing |
//! | NaN and infinities | as Python writes them; no JSON, so their column is `bad_value` |

use std::fmt::Write;

use chrono::{DateTime, Datelike as _, Days, NaiveDate, Timelike as _};
use tidemill_project::contract::TimeUnit;

use super::binary::{Broken, Cursor, MAX_DEPTH, decimal_text, unscaled};
use super::resolve::{RecordStep, Step, StepId, Steps};
use crate::decode::json;

/// Writes values to a text.
#[derive(Debug)]
pub(crate) struct Renderer<'r> {
    pub(crate) steps: &'r Steps,
    pub(crate) out: &'r mut String,
    /// A number that is no JSON was written.
    pub(crate) is_not_finite: bool,
    /// A symbol was met that the reader's schema does not have, in a value that is no field.
    pub(crate) is_unknown_symbol: bool,
    /// Fields that hold such a symbol.
    pub(crate) unknown_symbols: Vec<String>,
}

impl<'r> Renderer<'r> {
    pub(crate) fn new(steps: &'r Steps, out: &'r mut String) -> Self {
        Self { steps, out, is_not_finite: false, is_unknown_symbol: false, unknown_symbols: Vec::new() }
    }

    /// Writes the value that comes next; `depth` counts the arrays, maps, records and unions around it.
    pub(crate) fn value(&mut self, cursor: &mut Cursor<'_>, step: StepId, depth: usize) -> Result<(), Broken> {
        if depth > MAX_DEPTH {
            return Err(cursor.broken("record is nested too deep"));
        }
        match self.steps.get(step) {
            Step::Null => self.out.push_str("null"),
            Step::Boolean => self.out.push_str(if cursor.boolean()? { "true" } else { "false" }),
            Step::Integer => write_integer(self.out, cursor.integer()?),
            Step::Float => self.double(f64::from(cursor.float()?)),
            Step::Double => self.double(cursor.double()?),
            Step::Bytes => write_bytes(self.out, cursor.bytes(None)?),
            Step::Fixed(size) => write_bytes(self.out, cursor.bytes(Some(*size))?),
            Step::Text => json::write_string(self.out, cursor.text()?),
            Step::Decimal { scale, fixed } => write_decimal(self.out, cursor, *scale, *fixed)?,
            Step::Date => write_date(self.out, cursor.integer()?),
            Step::Timestamp { unit, is_local } => write_timestamp(self.out, cursor.integer()?, *unit, *is_local),
            Step::Enum(symbols) => {
                let at = cursor.index()?;
                let Some(symbol) = symbols.get(at) else { return Err(cursor.broken("an enum has no such symbol")) };
                self.is_unknown_symbol |= !symbol.is_known;
                json::write_string(self.out, &symbol.text);
            }
            Step::Union(branches) => {
                let branch = branch(cursor, branches)?;
                self.value(cursor, branch, depth + 1)?;
            }
            Step::Array(items) => self.array(cursor, *items, depth)?,
            Step::Map(values) => self.map(cursor, *values, depth)?,
            Step::Record(record) => self.record(cursor, record, depth)?,
        }
        Ok(())
    }

    /// Writes a record: the writer's fields, then the defaults of those that it lacks.
    pub(crate) fn record(&mut self, cursor: &mut Cursor<'_>, record: &RecordStep, depth: usize) -> Result<(), Broken> {
        self.out.push('{');
        for (index, (name, step)) in record.fields.iter().enumerate() {
            self.key(index, name);
            self.value(cursor, *step, depth + 1)?;
            if std::mem::take(&mut self.is_unknown_symbol) {
                self.unknown_symbols.push(name.clone());
            }
        }
        for (index, (name, default)) in record.defaults.iter().enumerate() {
            self.key(record.fields.len() + index, name);
            write!(self.out, "{default}").expect("a string takes whatever is written to it");
        }
        self.out.push('}');
        Ok(())
    }

    fn array(&mut self, cursor: &mut Cursor<'_>, items: StepId, depth: usize) -> Result<(), Broken> {
        self.out.push('[');
        let mut num_items = 0;
        loop {
            let count = cursor.block()?;
            if count == 0 {
                break;
            }
            for _ in 0..count {
                if num_items > 0 {
                    self.out.push(',');
                }
                num_items += 1;
                let began_at = cursor.at();
                self.value(cursor, items, depth + 1)?;
                cursor.element_read(began_at)?;
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, cursor: &mut Cursor<'_>, values: StepId, depth: usize) -> Result<(), Broken> {
        self.out.push('{');
        let mut num_entries = 0;
        loop {
            let count = cursor.block()?;
            if count == 0 {
                break;
            }
            for _ in 0..count {
                let name = cursor.text()?;
                self.key(num_entries, name);
                num_entries += 1;
                self.value(cursor, values, depth + 1)?;
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn key(&mut self, index: usize, name: &str) {
        if index > 0 {
            self.out.push(',');
        }
        json::write_string(self.out, name);
        self.out.push(':');
    }

    fn double(&mut self, value: f64) {
        self.is_not_finite |= !value.is_finite();
        write_double(self.out, value);
    }
}

/// The branch of a union that comes next.
#[inline]
pub(crate) fn branch(cursor: &mut Cursor<'_>, branches: &[StepId]) -> Result<StepId, Broken> {
    let at = cursor.index()?;
    branches.get(at).copied().ok_or_else(|| cursor.broken("a union has no such branch"))
}

/// The shortest digits that read back as the same double.
pub(crate) fn write_double(out: &mut String, value: f64) {
    match value {
        f64::INFINITY => out.push_str("Infinity"),
        f64::NEG_INFINITY => out.push_str("-Infinity"),
        _ => write!(out, "{value:?}").expect("a string takes whatever is written to it"),
    }
}

pub(crate) fn write_integer(out: &mut String, value: i64) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Writes a decimal as a number.
pub(crate) fn write_decimal(
    out: &mut String,
    cursor: &mut Cursor<'_>,
    scale: u32,
    fixed: Option<usize>,
) -> Result<(), Broken> {
    let bytes = cursor.bytes(fixed)?;
    let Some(unscaled) = unscaled(bytes) else { return Err(cursor.broken("a decimal is longer than 128 bits")) };
    out.push_str(&decimal_text(unscaled, scale));
    Ok(())
}

/// Writes a day as ISO 8601 in quotes; one beyond the calendar as its number, which no column takes for a date.
pub(crate) fn write_date(out: &mut String, days: i64) {
    let distance = Days::new(days.unsigned_abs());
    let epoch = NaiveDate::default();
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) };
    match date {
        Some(date) => write!(out, "\"{date}\""),
        None => write!(out, "{days}"),
    }
    .expect("a string takes whatever is written to it");
}

/// Writes an instant as ISO 8601 in quotes, to the digit that its unit has; one beyond the calendar as its number.
pub(crate) fn write_timestamp(out: &mut String, value: i64, unit: TimeUnit, is_local: bool) {
    let (per_second, digits) = match unit {
        TimeUnit::Second => (1, 0),
        TimeUnit::Millisecond => (1_000, 3),
        TimeUnit::Microsecond => (1_000_000, 6),
        TimeUnit::Nanosecond => (1_000_000_000, 9),
    };
    let Some(second) = DateTime::from_timestamp(value.div_euclid(per_second), 0) else {
        return write_integer(out, value);
    };
    out.push('"');
    match u64::try_from(second.year()) {
        Ok(year @ 0..=9_999) => write_digits(out, year, 4),
        // With a sign, as ISO 8601 has years of more than four digits.
        _ => write!(out, "{}", second.format("%Y")).expect("a string takes whatever is written to it"),
    }
    let parts = [
        ('-', second.month()),
        ('-', second.day()),
        ('T', second.hour()),
        (':', second.minute()),
        (':', second.second()),
    ];
    for (sign, number) in parts {
        out.push(sign);
        write_digits(out, number.into(), 2);
    }
    if digits > 0 {
        out.push('.');
        write_digits(out, value.rem_euclid(per_second).unsigned_abs(), digits);
    }
    out.push_str(if is_local { "\"" } else { "Z\"" });
}

/// Writes the last digits of a number, at most nine; a record has a time or two, and formatting machinery costs more than the rest of it.
fn write_digits(out: &mut String, mut number: u64, digits: usize) {
    let mut text = [b'0'; 9];
    for place in text[..digits].iter_mut().rev() {
        *place += u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
    out.push_str(std::str::from_utf8(&text[..digits]).expect("digits are ASCII"));
}

/// Writes bytes as a text of the characters with their codes.
pub(crate) fn write_bytes(out: &mut String, bytes: &[u8]) {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    json::write_string(out, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_chrono_writes_them() {
        let instants = [
            0,
            1,
            -1,
            1_741_478_400_123_456,
            -62_167_219_200_000_000,
            -62_167_219_200_000_001,
            253_402_300_800_000_000,
        ];
        for value in instants.into_iter().chain((0..2_000).map(|step| step * 7_919_000_123_457 - 9_000_000_000_000_000))
        {
            let mut written = String::new();
            write_timestamp(&mut written, value, TimeUnit::Microsecond, false);
            let instant = DateTime::from_timestamp_micros(value).unwrap();
            assert_eq!(written, format!("\"{}Z\"", instant.format("%Y-%m-%dT%H:%M:%S%.6f")), "{value}");
        }
        let mut written = String::new();
        write_timestamp(&mut written, 1_741_478_405, TimeUnit::Second, true);
        write_timestamp(&mut written, i64::MAX, TimeUnit::Second, false);
        assert_eq!(written, "\"2025-03-09T00:00:05\"9223372036854775807");
    }
}
