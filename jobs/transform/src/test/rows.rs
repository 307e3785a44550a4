//! From rows as people write them to columns of the right type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value as Json, json};
use tidemill_project::error::nearest;
use tidemill_project::{Fault, Location};

use crate::error::codes;
use crate::project::{FixtureRow, parse_instant};
use crate::run::seed::infer;

/// What is known of the columns that rows will have.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Columns with their types.
    pub schema: SchemaRef,
    /// Whether there are no others; if there may be, rows bring them, and their values say of which type they are.
    pub is_whole: bool,
}

/// Builds the rows of `what`, in the columns of `shape`; columns that a row leaves out are null.
///
/// # Errors
/// Columns that do not exist, values that do not fit their column's type: all of them, each with its row's place.
pub(crate) fn build(rows: &[FixtureRow], shape: &Shape, what: &str) -> Result<RecordBatch, Vec<Fault>> {
    let mut fields: Vec<Field> = shape.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut faults = Vec::new();
    // By row, the column that each of its cells fills.
    let mut places: Vec<Vec<usize>> = Vec::with_capacity(rows.len());
    let num_known = fields.len();
    for row in rows {
        let mut place = Vec::with_capacity(row.cells.len());
        for (name, _) in &row.cells {
            let found = fields
                .iter()
                .position(|field| field.name() == name)
                .or_else(|| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name)));
            match found {
                Some(index) => place.push(index),
                None if !shape.is_whole => {
                    place.push(fields.len());
                    fields.push(Field::new(name, DataType::Null, true));
                }
                None => {
                    faults.push(unknown_column(name, &shape.schema, what, &row.location));
                    place.push(usize::MAX);
                }
            }
        }
        places.push(place);
    }
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter_mut().enumerate() {
        let cells: Vec<&Json> = rows
            .iter()
            .zip(&places)
            .map(|(row, place)| {
                let at = place.iter().position(|column| *column == index);
                at.map_or(&Json::Null, |at| &row.cells[at].1)
            })
            .collect();
        if index >= num_known {
            *field = Field::new(field.name(), inferred(rows, &cells), true);
        }
        match column(&cells, field) {
            Ok(array) => arrays.push(array),
            Err(wrong) => {
                for (row, value) in wrong {
                    let message = format!(
                        "value does not fit its column, column=`{}`, value=`{value}`, type=`{}`, row=`{}`, in=`{what}`",
                        field.name(),
                        field.data_type(),
                        row + 1
                    );
                    faults.push(Fault::new(message).at(rows[row].location.clone()).code(codes::FIXTURE));
                }
                arrays.push(new_null_array(field.data_type(), rows.len()));
            }
        }
        // A fixture may leave out what a table never does.
        *field = field.clone().with_nullable(true);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|error| vec![Fault::new(format!("rows do not fit together, in=`{what}`, because=`{error}`"))])
}

/// The fault of a column that is not there.
pub(crate) fn unknown_column(name: &str, schema: &Schema, what: &str, location: &Location) -> Fault {
    let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", known.join(", ")),
    };
    Fault::new(format!("no column of that name, column=`{name}`, in=`{what}`"))
        .at(location.clone())
        .code(codes::FIXTURE)
        .hint(hint)
}

/// The type that values have of themselves. Texts of CSV are looked at as those of a seed; texts in YAML were meant as texts,
/// dates and timestamps excepted, for which YAML has no words.
fn inferred(rows: &[FixtureRow], cells: &[&Json]) -> DataType {
    let present = || cells.iter().filter(|cell| !cell.is_null());
    if present().all(|cell| cell.is_boolean()) && present().next().is_some() {
        return DataType::Boolean;
    }
    if present().all(|cell| cell.is_number()) && present().next().is_some() {
        let is_whole = present().all(|cell| cell.is_i64() || cell.is_u64());
        return if is_whole { DataType::Int64 } else { DataType::Float64 };
    }
    let texts: ArrayRef = Arc::new(cells.iter().map(|cell| text_of(cell, &DataType::Utf8)).collect::<StringArray>());
    match infer(&texts) {
        found if rows.iter().any(|row| row.is_csv) || found.is_temporal() => found,
        _ => DataType::Utf8,
    }
}

/// The cells as one column; else the rows whose values do not fit.
fn column(cells: &[&Json], field: &Field) -> Result<ArrayRef, Vec<(usize, String)>> {
    let data_type = field.data_type();
    if data_type.is_nested() {
        return nested(cells, data_type);
    }
    let texts: ArrayRef = Arc::new(cells.iter().map(|cell| text_of(cell, data_type)).collect::<StringArray>());
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let array = cast_with_options(&texts, data_type, &options);
    let is_lost = |index: usize| array.as_ref().map_or(true, |array| array.is_null(index));
    let wrong: Vec<(usize, String)> = (0..cells.len())
        .filter(|index| !cells[*index].is_null() && *data_type != DataType::Null && is_lost(*index))
        .map(|index| (index, cells[index].as_str().map_or_else(|| cells[index].to_string(), ToOwned::to_owned)))
        .collect();
    match array {
        Ok(array) if wrong.is_empty() => Ok(array),
        _ if wrong.is_empty() => Ok(new_null_array(data_type, cells.len())),
        _ => Err(wrong),
    }
}

/// The text from which Arrow makes a value of the type.
fn text_of(cell: &Json, data_type: &DataType) -> Option<String> {
    Some(match cell {
        Json::Null => return None,
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "the value was found to be whole and small")]
            Some(value) if data_type.is_integer() && value.fract() == 0.0 && value.abs() < 9e15 => {
                number.as_i64().unwrap_or(value as i64).to_string()
            }
            _ => number.to_string(),
        },
        Json::String(text) => match data_type {
            // Arrow wants seconds and a full date; people leave them out.
            DataType::Timestamp(unit, _) => match parse_instant(text) {
                Some(at_us) if *unit != TimeUnit::Nanosecond || digits_after_point(text) <= 6 => {
                    let at = DateTime::from_timestamp_micros(at_us)?;
                    at.to_rfc3339_opts(SecondsFormat::Micros, true)
                }
                _ => text.clone(),
            },
            DataType::Boolean => text.trim().to_ascii_lowercase(),
            data_type if data_type.is_numeric() => text.trim().to_owned(),
            _ => text.clone(),
        },
        Json::Array(_) | Json::Object(_) => cell.to_string(),
    })
}

fn digits_after_point(text: &str) -> usize {
    let fraction = text.rsplit_once('.').map_or("", |(_, fraction)| fraction);
    fraction.chars().take_while(char::is_ascii_digit).count()
}

/// Lists and structs, by Arrow's own reader of JSON.
fn nested(cells: &[&Json], data_type: &DataType) -> Result<ArrayRef, Vec<(usize, String)>> {
    let schema = Arc::new(Schema::new(vec![Field::new("value", data_type.clone(), true)]));
    let read = |cells: &[Json]| -> Option<ArrayRef> {
        let mut decoder = arrow::json::ReaderBuilder::new(Arc::clone(&schema)).build_decoder().ok()?;
        let rows: Vec<Json> = cells.iter().map(|cell| json!({ "value": cell })).collect();
        decoder.serialize(&rows).ok()?;
        let batch = decoder.flush().ok()??;
        Some(Arc::clone(batch.column(0)))
    };
    // CSV writes them as text.
    let values: Vec<Json> = cells
        .iter()
        .map(|cell| match cell {
            Json::String(text) => serde_json::from_str(text).unwrap_or_else(|_| (*cell).clone()),
            cell => (*cell).clone(),
        })
        .collect();
    if values.is_empty() {
        return Ok(new_null_array(data_type, 0));
    }
    read(&values).ok_or_else(|| {
        values
            .iter()
            .enumerate()
            .filter(|(_, value)| read(std::slice::from_ref(value)).is_none())
            .map(|(index, value)| (index, value.to_string()))
            .collect()
    })
}
