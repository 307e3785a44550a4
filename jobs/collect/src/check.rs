//! What ingest would say of a reading: the contract's rules for the flat types that readings have.
//!
//! The judgement that counts is the one at ingest, which keeps a broken record in quarantine. Here it only tells the phone's
//! owner early. The two are written apart, because the rooms may not know each other; where they differ, ingest is right.
//! `tests/tests/e2e/collect.rs` posts every kind of broken reading and compares the two.

use serde_json::Value;
use tidemill_project::clock::Micros;
use tidemill_project::config::parse_instant;
use tidemill_project::contract::{ColumnType, Contract, ContractColumn, TimeUnit};

use crate::envelope::Reading;

/// Checks a reading against its contract. `now_us` stands for the record's timestamp, which the broker has yet to give.
///
/// # Errors
/// The fault that gives the class at ingest, as `class: field and reason`: of several the first by [`CLASSES`], of one class the
/// first in the order of the columns.
pub(crate) fn check(contract: &Contract, reading: &Reading<'_>, now_us: Micros) -> Result<(), String> {
    let values: Vec<(&ContractColumn, Field<'_>)> =
        contract.columns.iter().map(|column| (column, Field::new(reading.get(field(column))))).collect();
    let missing = values
        .iter()
        .filter(|(column, value)| is_missing(column, value) && is_required(column, &values))
        .map(|(column, _)| format!("missing_field: `{}` is required", column.name));
    let wrong = values
        .iter()
        .filter(|(column, value)| !is_missing(column, value))
        .filter_map(|(column, value)| judge(contract, column, value, now_us).err());
    let rank = |fault: &String| CLASSES.iter().position(|class| fault.starts_with(class));
    missing.chain(wrong).min_by_key(rank).map_or(Ok(()), Err)
}

/// Classes of quarantine that a reading can have, in the order in which the first fault gives the class (X9).
const CLASSES: [&str; 5] = ["missing_field", "wrong_type", "bad_event_time", "event_time_out_of_range", "bad_value"];

/// A value, told apart, with its JSON text: a number that no double holds has a text all the same.
struct Field<'r> {
    value: Value,
    json: &'r str,
}

impl<'r> Field<'r> {
    fn new(json: &'r str) -> Self {
        let value = serde_json::from_str(json).unwrap_or_else(|_| {
            // The envelope was parsed, so what a value refuses is a number beyond a double.
            Value::Number(serde_json::Number::from_f64(f64::MAX).unwrap_or_else(|| 0.into()))
        });
        Self { value, json }
    }

    /// The number as a double; infinite when none holds it.
    fn double(&self) -> f64 {
        self.json.parse().unwrap_or(f64::INFINITY)
    }
}

/// The field of the record that a column reads. Readings are flat.
fn field(column: &ContractColumn) -> &str {
    column.paths.first().and_then(|path| path.first()).map_or(column.name.as_str(), String::as_str)
}

fn is_missing(column: &ContractColumn, field: &Field<'_>) -> bool {
    match &field.value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && (column.empty_is_missing || column.data_type != ColumnType::Text),
        _ => false,
    }
}

fn is_required(column: &ContractColumn, values: &[(&ContractColumn, Field<'_>)]) -> bool {
    if column.on_missing.is_some() {
        return false;
    }
    column.required
        || column
            .required_without
            .as_ref()
            .is_some_and(|name| values.iter().any(|(other, value)| other.name == *name && is_missing(other, value)))
        || column.required_when.as_ref().is_some_and(|(name, texts)| {
            values.iter().any(|(other, value)| {
                other.name == *name
                    && value.value.as_str().is_some_and(|text| texts.iter().any(|wanted| wanted == text))
            })
        })
}

fn judge(contract: &Contract, column: &ContractColumn, field: &Field<'_>, now_us: Micros) -> Result<(), String> {
    let name = &column.name;
    let Field { value, json } = field;
    if *name == contract.event_time.column {
        let Some(event_us) = event_time(column.time_unit, value, json) else {
            return Err(format!("bad_event_time: `{name}` is no time"));
        };
        let latest = now_us.saturating_add(i64::try_from(contract.max_future.as_micros()).unwrap_or(i64::MAX));
        if event_us < contract.min_event_time_us || event_us > latest {
            return Err(format!("event_time_out_of_range: `{name}` is too old, or ahead of the clock"));
        }
        return Ok(());
    }
    match (&column.data_type, value) {
        (ColumnType::Text, Value::String(text)) => {
            if column.max_bytes.is_some_and(|most| text.len() > most) {
                return Err(format!("bad_value: `{name}` is too long"));
            }
            if !column.accepted_values.is_empty() && !column.accepted_values.contains(text) {
                return Err(format!("bad_value: `{name}` is not one of {}", column.accepted_values.join(", ")));
            }
            Ok(())
        }
        (ColumnType::BigInt, Value::Number(number)) => match (number.as_i64(), field.double()) {
            (Some(_), _) => Ok(()),
            (None, double) if double.fract() != 0.0 && double.is_finite() => {
                Err(format!("wrong_type: `{name}` has a fraction"))
            }
            // 2^63: what lies between the two is exact in a double.
            (None, double) if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&double) => Ok(()),
            _ => Err(format!("bad_value: `{name}` does not fit 64 bits")),
        },
        (ColumnType::BigInt, Value::String(text)) if column.accept_text && text.parse::<i64>().is_ok() => Ok(()),
        (ColumnType::Double, Value::Number(_)) if field.double().is_finite() => Ok(()),
        (ColumnType::Double, Value::Number(_)) => Err(format!("bad_value: `{name}` is not finite")),
        (ColumnType::Double, Value::String(text))
            if column.accept_text && text.parse::<f64>().is_ok_and(f64::is_finite) =>
        {
            Ok(())
        }
        (ColumnType::Boolean, Value::Bool(_))
        | (
            ColumnType::Json
            // Readings have no columns of these types; ingest judges them.
            | ColumnType::Decimal(..)
            | ColumnType::Date
            | ColumnType::Timestamp
            | ColumnType::Struct(_)
            | ColumnType::List(_),
            _,
        ) => Ok(()),
        _ => Err(format!("wrong_type: `{name}` is {}", kind_of(value))),
    }
}

/// An event time in the forms of X3, to the precision that a range check needs.
fn event_time(unit: Option<TimeUnit>, value: &Value, json: &str) -> Option<Micros> {
    match value {
        Value::Number(_) => in_unit(unit?, json),
        Value::String(text) => {
            if text.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'-')
                && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'))
                && text.parse::<f64>().is_ok()
            {
                return in_unit(unit?, text);
            }
            // A date alone is no time.
            if text.len() <= 10 { None } else { parse_instant(text) }
        }
        _ => None,
    }
}

fn in_unit(unit: TimeUnit, text: &str) -> Option<Micros> {
    let factor = match unit {
        TimeUnit::Second => 1e6,
        TimeUnit::Millisecond => 1e3,
        TimeUnit::Microsecond => 1.0,
        TimeUnit::Nanosecond => 1e-3,
    };
    let micros = text.parse::<f64>().ok()? * factor;
    #[expect(clippy::cast_possible_truncation, reason = "saturates; what is that far off is out of range anyhow")]
    Some(micros as i64)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
