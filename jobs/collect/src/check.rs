//! What ingest would say of a reading: the contract's rules for the flat types that readings have.
//!
//! The judgement that counts is the one at ingest, which keeps a broken record in quarantine. Here it only tells the phone's
//! owner early. The two are written apart, because the rooms may not know each other; where they differ, ingest is right.

use serde_json::Value;
use tidemill_project::clock::Micros;
use tidemill_project::config::parse_instant;
use tidemill_project::contract::{ColumnType, Contract, ContractColumn, TimeUnit};

use crate::envelope::Reading;

/// Checks a reading against its contract. `now_us` stands for the record's timestamp, which the broker has yet to give.
///
/// # Errors
/// The first fault, as `class: field and reason`, with the classes of quarantine.
pub(crate) fn check(contract: &Contract, reading: &Reading<'_>, now_us: Micros) -> Result<(), String> {
    let values: Vec<(&ContractColumn, Value)> = contract
        .columns
        .iter()
        .map(|column| (column, serde_json::from_str(reading.get(field(column))).unwrap_or(Value::Null)))
        .collect();
    for (column, value) in &values {
        if is_missing(column, value) && is_required(column, &values) {
            return Err(format!("missing_field: `{}` is required", column.name));
        }
    }
    for (column, value) in values.iter().filter(|(column, value)| !is_missing(column, value)) {
        judge(contract, column, value, reading.get(field(column)), now_us)?;
    }
    Ok(())
}

/// The field of the record that a column reads. Readings are flat.
fn field(column: &ContractColumn) -> &str {
    column.paths.first().and_then(|path| path.first()).map_or(column.name.as_str(), String::as_str)
}

fn is_missing(column: &ContractColumn, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && (column.empty_is_missing || column.data_type != ColumnType::Text),
        _ => false,
    }
}

fn is_required(column: &ContractColumn, values: &[(&ContractColumn, Value)]) -> bool {
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
                other.name == *name && value.as_str().is_some_and(|text| texts.iter().any(|wanted| wanted == text))
            })
        })
}

fn judge(
    contract: &Contract,
    column: &ContractColumn,
    value: &Value,
    json: &str,
    now_us: Micros,
) -> Result<(), String> {
    let name = &column.name;
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
        (ColumnType::BigInt, Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(_), _) => Ok(()),
            (None, Some(double)) if double.fract() == 0.0 && double.abs() < 9.2e18 => Ok(()),
            (None, Some(double)) if double.fract() == 0.0 => Err(format!("bad_value: `{name}` does not fit 64 bits")),
            _ => Err(format!("wrong_type: `{name}` has a fraction")),
        },
        (ColumnType::BigInt, Value::String(text)) if column.accept_text && text.parse::<i64>().is_ok() => Ok(()),
        (ColumnType::Double, Value::Number(number)) => match number.as_f64() {
            Some(double) if double.is_finite() => Ok(()),
            _ => Err(format!("bad_value: `{name}` is not finite")),
        },
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
