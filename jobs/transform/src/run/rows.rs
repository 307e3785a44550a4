//! Rows on their way from a query into a table: types that tables hold, one order, one hash of the content.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use sha2::{Digest, Sha256};

const DAY_US: i64 = 86_400_000_000;

/// The type in which a table holds a column of a query; `None` when it cannot.
///
/// Instants are microseconds UTC, a wall clock without zone is kept as if it were UTC, unsigned integers become signed, text
/// is `Utf8`, a column that is always null is text.
pub(crate) fn stored_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 | DataType::Int64 => DataType::Int64,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Boolean
        | DataType::Float32
        | DataType::Float64 => data_type.clone(),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(precision, scale) if *scale >= 0 => DataType::Decimal128((*precision).min(38), *scale),
        DataType::Dictionary(_, values) => stored_type(values)?,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new(item.name(), stored_type(item.data_type())?, true)))
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| stored_type(field.data_type()).map(|data_type| Field::new(field.name(), data_type, true)))
                .collect::<Option<Vec<_>>>()?
                .into(),
        ),
        _ => return None,
    })
}

/// The schema in which a table holds the rows of a query, every column nullable. The error is the first column that cannot be
/// stored, with its type.
pub(crate) fn stored_schema(schema: &Schema) -> Result<SchemaRef, (String, String)> {
    let fields = schema
        .fields()
        .iter()
        .map(|field| match stored_type(field.data_type()) {
            Some(data_type) => Ok(Field::new(field.name(), data_type, true)),
            None => Err((field.name().clone(), field.data_type().to_string())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// Brings the batches of a query into the stored schema, column by column, as one batch.
///
/// A value that does not fit the stored type (an unsigned integer above 2^63) is an error, never a null.
pub(crate) fn into_stored(batches: &[RecordBatch], stored: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let converted = batches
        .iter()
        .map(|batch| {
            let columns = batch
                .columns()
                .iter()
                .zip(stored.fields())
                .map(|(column, field)| {
                    if column.data_type() == field.data_type() {
                        Ok(Arc::clone(column))
                    } else {
                        cast_with_options(column, field.data_type(), &options)
                    }
                })
                .collect::<Result<Vec<ArrayRef>, _>>()?;
            RecordBatch::try_new(Arc::clone(stored), columns)
        })
        .collect::<Result<Vec<_>, _>>()?;
    concat_batches(stored, &converted)
}

/// Rows in their one order, with the hash of their content.
#[derive(Clone, Debug)]
pub(crate) struct Canonical {
    /// Sorted by the key columns, then by all others.
    pub rows: RecordBatch,
    /// 128 bits in hex over schema and rows; equal for equal multisets of rows, whatever order they came in.
    pub content: String,
}

/// Sorts rows by `key` and then by all other columns, so that the same rows always make the same file.
pub(crate) fn canonical(rows: &RecordBatch, key: &[String]) -> Result<Canonical, ArrowError> {
    let schema = rows.schema();
    let key_indices = key.iter().filter_map(|column| schema.index_of(column).ok());
    let mut order: Vec<usize> = key_indices.collect();
    order.extend((0..schema.fields().len()).filter(|index| !order.contains(index)).collect::<Vec<_>>());
    let columns: Vec<ArrayRef> = order.iter().map(|index| Arc::clone(rows.column(*index))).collect();

    let mut hasher = Sha256::new();
    for index in &order {
        let field = schema.field(*index);
        hasher.update(format!("{}:{}\n", field.name(), field.data_type()));
    }
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    let keys = converter.convert_columns(&columns)?;
    let indices = sorted(&keys)?;
    for index in &indices {
        let row = keys.row(*index as usize);
        hasher.update((row.data().len() as u64).to_le_bytes());
        hasher.update(row.data());
    }
    let rows = take_record_batch(rows, &UInt32Array::from(indices))?;
    Ok(Canonical { rows, content: hex(&hasher.finalize()[..16]) })
}

/// The places of encoded rows in ascending order.
///
/// Rows are compared by 16 bytes that lie beside their place, behind what all of them begin with; only where these are equal are
/// the rows themselves looked up, which lie all over memory.
fn sorted(rows: &Rows) -> Result<Vec<u32>, ArrowError> {
    let num_rows = u32::try_from(rows.num_rows()).map_err(|source| ArrowError::ComputeError(source.to_string()))?;
    let row = |place: u32| rows.row(place as usize).data();
    let mut common = if num_rows > 0 { row(0).len() } else { 0 };
    for place in 1..num_rows {
        let (first, other) = (&row(0)[..common], row(place));
        if !other.starts_with(first) {
            common = first.iter().zip(other).take_while(|(left, right)| left == right).count();
        }
    }
    let mut order: Vec<(u128, u32)> = (0..num_rows).map(|place| (leading(&row(place)[common..]), place)).collect();
    order.sort_unstable_by(|left, right| left.0.cmp(&right.0).then_with(|| row(left.1).cmp(row(right.1))));
    Ok(order.into_iter().map(|(_, place)| place).collect())
}

/// The first bytes as a number of the same order; bytes that are not there count as zero.
fn leading(bytes: &[u8]) -> u128 {
    let mut first = [0; 16];
    let count = bytes.len().min(first.len());
    first[..count].copy_from_slice(&bytes[..count]);
    u128::from_be_bytes(first)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Event times of a stored column, microseconds UTC; a date is its midnight. `None` when the column is neither.
pub(crate) fn event_times(column: &ArrayRef) -> Option<Vec<Option<i64>>> {
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(column.as_primitive::<TimestampMicrosecondType>().iter().collect())
        }
        DataType::Date32 => {
            Some(column.as_primitive::<Date32Type>().iter().map(|day| day.map(|day| i64::from(day) * DAY_US)).collect())
        }
        _ => None,
    }
}

/// Whether stored rows can have their event time in a column of this type.
pub(crate) fn is_event_time_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn rows(values: &[(i64, &str)]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
        ]));
        RecordBatch::try_new(
            schema,
            vec![
                Arc::new(Int64Array::from_iter_values(values.iter().map(|(id, _)| *id))),
                Arc::new(StringArray::from_iter_values(values.iter().map(|(_, name)| *name))),
            ],
        )
        .unwrap()
    }

    #[test]
    fn the_same_rows_in_another_order_have_the_same_content() {
        let key = ["name".to_owned()];
        let one = canonical(&rows(&[(2, "b"), (1, "a"), (1, "b")]), &key).unwrap();
        let other = canonical(&rows(&[(1, "b"), (2, "b"), (1, "a")]), &key).unwrap();
        assert_eq!(one.content, other.content);
        assert_eq!(one.rows, other.rows);
        assert_eq!(one.rows, rows(&[(1, "a"), (1, "b"), (2, "b")]));
    }

    proptest! {
        /// The quick order is that of the encoded rows, also of rows that begin alike.
        #[test]
        fn rows_are_sorted_as_their_bytes_are(
            values in prop::collection::vec((0..4_i64, "(user_number_00000)?[a-c]{0,20}"), 0..60),
        ) {
            let values: Vec<(i64, &str)> = values.iter().map(|(id, name)| (*id, name.as_str())).collect();
            let rows = rows(&values);
            for indices in [[0, 1], [1, 0]] {
                let columns = indices.map(|index| Arc::clone(rows.column(index)));
                let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
                let encoded = RowConverter::new(fields).unwrap().convert_columns(&columns).unwrap();
                let places = sorted(&encoded).unwrap();
                prop_assert!(places.iter().map(|place| encoded.row(*place as usize)).is_sorted());
                prop_assert_eq!(places.iter().collect::<std::collections::BTreeSet<_>>().len(), values.len());
            }
        }
    }

    #[test]
    fn a_row_more_or_a_value_elsewhere_is_another_content() {
        let base = canonical(&rows(&[(1, "a"), (2, "b")]), &[]).unwrap().content;
        for other in [rows(&[(1, "a"), (2, "b"), (2, "b")]), rows(&[(1, "b"), (2, "a")]), rows(&[])] {
            assert_ne!(canonical(&other, &[]).unwrap().content, base);
        }
    }

    #[test]
    fn types_of_queries_become_types_of_tables() {
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert_eq!(stored_type(&nanos), Some(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))));
        assert_eq!(stored_type(&DataType::UInt64), Some(DataType::Int64));
        assert_eq!(stored_type(&DataType::Utf8View), Some(DataType::Utf8));
        assert_eq!(stored_type(&DataType::Interval(arrow::datatypes::IntervalUnit::DayTime)), None);
    }
}
