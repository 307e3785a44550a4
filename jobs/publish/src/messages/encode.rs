//! Rows as JSON objects under text keys. Source of the form: SYSTEMS.md X27.
//!
//! Times are `2025-03-09T12:00:00.000000Z`, dates `2025-03-09`, integers and decimals exact numbers, a float that is no number
//! null, columns that hold JSON are part of the object, nested columns become arrays and objects.

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    UInt64Type,
};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder};

use crate::diff::{Shape, columns_of};
use crate::error::Cause;
use crate::request::{ALERT_ID, row_pattern};
use crate::{Emit, Error, Publication, Result};

const INSTANT: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The record's key, or Redis' key.
    pub(crate) key: String,
    /// JSON; `None` says that the row is gone.
    pub(crate) value: Option<Vec<u8>>,
}

/// Turns rows of one publication into messages.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    fields: Vec<Field>,
    key: Vec<Segment>,
    alert_id: Option<Vec<Segment>>,
    /// Whether a key names one row, so that its end can be told.
    tells_ends: bool,
}

#[derive(Clone, Debug)]
struct Field {
    column: usize,
    /// `"name":`
    prefix: Vec<u8>,
    is_json: bool,
}

#[derive(Clone, Debug)]
enum Segment {
    Text(String),
    Column(usize),
}

impl Encoder {
    /// Prepares for rows of `shape`.
    ///
    /// # Errors
    /// Kind `Configuration` for a key pattern that names a column that is not there.
    pub(crate) fn new(publication: &Publication, shape: &Shape) -> Result<Self> {
        let messages = publication.as_messages();
        let num_fields = shape.schema.fields().len() - shape.hidden;
        let fields: Vec<Field> = (0..num_fields)
            .map(|column| {
                let name = serde_json::Value::String(shape.schema.field(column).name().clone());
                Field { column, prefix: format!("{name}:").into_bytes(), is_json: shape.json.contains(&column) }
            })
            .collect();
        let pattern = messages.key_pattern(&publication.unique_key);
        let has_own_id = shape.schema.fields()[..num_fields].iter().any(|field| field.name() == ALERT_ID);
        let alert_id = (messages.emit == Emit::Alert && !has_own_id)
            .then(|| segments(&row_pattern(&publication.unique_key), publication, shape))
            .transpose()?;
        let named: Vec<&str> = columns_of(&pattern).collect();
        Ok(Self {
            fields,
            key: segments(&pattern, publication, shape)?,
            alert_id,
            tells_ends: publication.unique_key.iter().all(|column| named.contains(&column.as_str())),
        })
    }

    /// Whether a key names one row. Only then a row that is gone is told of.
    pub(crate) fn tells_ends(&self) -> bool {
        self.tells_ends
    }

    /// The rows as messages, or, with `is_end`, as the news that they are gone.
    pub(crate) fn encode(&self, rows: &RecordBatch, is_end: bool, publication: &Publication) -> Result<Vec<Message>> {
        let columns = rows.columns().iter().map(plain).collect::<Result<Vec<_>, _>>();
        let columns = columns.map_err(Error::arrow(publication))?;
        Ok((0..rows.num_rows())
            .map(|row| Message {
                key: text_of(&self.key, &columns, row),
                value: (!is_end).then(|| self.object(&columns, row)),
            })
            .collect())
    }

    fn object(&self, columns: &[Plain], row: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 * self.fields.len());
        out.push(b'{');
        if let Some(id) = &self.alert_id {
            out.extend_from_slice(b"\"alert_id\":");
            push_text(&mut out, &text_of(id, columns, row));
        }
        for field in &self.fields {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(&field.prefix);
            columns[field.column].push_json(&mut out, row, field.is_json);
        }
        out.push(b'}');
        out
    }
}

fn segments(pattern: &str, publication: &Publication, shape: &Shape) -> Result<Vec<Segment>> {
    let mut found = Vec::new();
    let mut rest = pattern;
    while let Some((text, tail)) = rest.split_once('{') {
        let Some((column, tail)) = tail.split_once('}') else { break };
        let Some(index) = shape.model_columns.iter().position(|known| known == column) else {
            let (model, column) = (publication.model_name.clone(), column.to_owned());
            return Err(Error::new(Cause::NoColumn { model, column }).at(&publication.location));
        };
        if !text.is_empty() {
            found.push(Segment::Text(text.to_owned()));
        }
        found.push(Segment::Column(index));
        rest = tail;
    }
    if !rest.is_empty() {
        found.push(Segment::Text(rest.to_owned()));
    }
    Ok(found)
}

fn text_of(segments: &[Segment], columns: &[Plain], row: usize) -> String {
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Text(part) => text.push_str(part),
            Segment::Column(column) => columns[*column].push_text(&mut text, row),
        }
    }
    text
}

/// A column in one of the few types that are written.
enum Plain {
    Text(ArrayRef),
    Integer(ArrayRef),
    Unsigned(ArrayRef),
    Float(ArrayRef),
    Decimal(ArrayRef),
    Boolean(ArrayRef),
    Date(ArrayRef),
    Instant(ArrayRef),
    /// JSON already.
    Json(ArrayRef),
}

fn plain(array: &ArrayRef) -> Result<Plain, ArrowError> {
    Ok(match array.data_type() {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => Plain::Integer(cast(array, &DataType::Int64)?),
        DataType::UInt64 => Plain::Unsigned(Arc::clone(array)),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Plain::Float(cast(array, &DataType::Float64)?),
        DataType::Decimal128(..) | DataType::Decimal256(..) => Plain::Decimal(Arc::clone(array)),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => {
            Plain::Decimal(cast(array, &DataType::Decimal128(*p, *s))?)
        }
        DataType::Boolean => Plain::Boolean(Arc::clone(array)),
        DataType::Date32 | DataType::Date64 => Plain::Date(cast(array, &DataType::Date32)?),
        // First to UTC, then away with the zone: the other way round the wall clock of the zone would be kept.
        DataType::Timestamp(_, Some(_)) => Plain::Instant(cast(
            &cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?,
            &DataType::Timestamp(TimeUnit::Microsecond, None),
        )?),
        DataType::Timestamp(_, None) => Plain::Instant(cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?),
        DataType::Dictionary(_, values) => return plain(&cast(array, values)?),
        data_type if data_type.is_nested() => Plain::Json(nested(array)?),
        _ => Plain::Text(cast(array, &DataType::Utf8)?),
    })
}

/// Lists, structs and maps as JSON text, times in the same form as elsewhere.
fn nested(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const OPEN: &str = r#"{"v":"#;
    let schema =
        arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("v", array.data_type().clone(), true)]);
    let mut lines = Vec::new();
    let mut writer: LineDelimitedWriter<_> = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_format("%Y-%m-%dT%H:%M:%S%.6fZ".to_owned())
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".to_owned())
        .build::<_, LineDelimited>(&mut lines);
    writer.write(&RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(array)])?)?;
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8(lines).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let values = text.lines().map(|line| line.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix('}')));
    Ok(Arc::new(values.map(|value| value.filter(|value| *value != "null")).collect::<arrow::array::StringArray>()))
}

impl Plain {
    fn array(&self) -> &ArrayRef {
        match self {
            Self::Text(array)
            | Self::Integer(array)
            | Self::Unsigned(array)
            | Self::Float(array)
            | Self::Decimal(array)
            | Self::Boolean(array)
            | Self::Date(array)
            | Self::Instant(array)
            | Self::Json(array) => array,
        }
    }

    /// Into a key; a null is empty.
    fn push_text(&self, out: &mut String, row: usize) {
        if self.array().is_null(row) {
            return;
        }
        if let Self::Text(array) = self {
            out.push_str(array.as_string::<i32>().value(row));
        } else {
            let mut bytes = Vec::new();
            self.push_json(&mut bytes, row, false);
            out.push_str(String::from_utf8_lossy(&bytes).trim_matches('"'));
        }
    }

    fn push_json(&self, out: &mut Vec<u8>, row: usize, is_json: bool) {
        if self.array().is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        let instant = |us: i64| chrono::DateTime::from_timestamp_micros(us).map(|at| at.format(INSTANT).to_string());
        let number: String = match self {
            Self::Text(array) => {
                let text = array.as_string::<i32>().value(row);
                // Text that only claims to be JSON must not break the object around it.
                if is_json && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
                    out.extend_from_slice(text.trim().as_bytes());
                } else {
                    push_text(out, text);
                }
                return;
            }
            Self::Date(array) => {
                let day = array.as_primitive::<Date32Type>().value_as_date(row);
                push_text(out, &day.map(|day| day.to_string()).unwrap_or_default());
                return;
            }
            Self::Instant(array) => {
                let at = instant(array.as_primitive::<TimestampMicrosecondType>().value(row));
                push_text(out, &at.unwrap_or_default());
                return;
            }
            Self::Json(array) => array.as_string::<i32>().value(row).to_owned(),
            Self::Integer(array) => array.as_primitive::<Int64Type>().value(row).to_string(),
            Self::Unsigned(array) => array.as_primitive::<UInt64Type>().value(row).to_string(),
            Self::Decimal(array) => match array.as_primitive_opt::<Decimal128Type>() {
                Some(decimals) => decimals.value_as_string(row),
                None => array.as_primitive::<Decimal256Type>().value_as_string(row),
            },
            Self::Boolean(array) => array.as_boolean().value(row).to_string(),
            // JSON has no word for what is no number.
            Self::Float(array) => serde_json::Value::from(array.as_primitive::<Float64Type>().value(row)).to_string(),
        };
        out.extend_from_slice(number.as_bytes());
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    write!(out, "{}", serde_json::Value::from(text)).expect("a vector takes whatever is written");
}
