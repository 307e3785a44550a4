//! Arrow types as Parquet that `COPY` reads without guessing, and as columns of the warehouse.
//!
//! | Arrow | staged as | target |
//! | --- | --- | --- |
//! | integers but UInt64 | Int64 | NUMBER(38,0) |
//! | UInt64 | Decimal128(20,0): a raw one overflows | NUMBER(20,0) |
//! | decimals | Decimal128(p,s) | NUMBER(p,s) |
//! | floats | Float64 | FLOAT |
//! | instants | microseconds without zone, in UTC: a zoned one would arrive as TIMESTAMP_LTZ | TIMESTAMP_NTZ |
//! | text, Decimal256 | text; U+0000 becomes U+FFFD, because what the service makes of it is not known | VARCHAR |
//! | lists, structs, maps, columns declared as JSON | JSON text | VARIANT by `PARSE_JSON` |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::LineDelimitedWriter;

/// One column on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnType {
    /// The Arrow type of the staged Parquet column.
    pub(super) staged: DataType,
    /// The SQL type of the staging table's column.
    pub(super) staging_sql: String,
    /// The SQL type of the target's column.
    pub(super) target_sql: String,
    /// Whether the merge parses the text.
    pub(super) is_json: bool,
}

/// How a column travels; `None` when its type has no form in the warehouse.
pub(super) fn column_type(data_type: &DataType, is_json: bool) -> Option<ColumnType> {
    let plain = |staged: DataType, sql: &str| ColumnType {
        staged,
        staging_sql: sql.to_owned(),
        target_sql: sql.to_owned(),
        is_json: false,
    };
    let json = || ColumnType {
        staged: DataType::Utf8,
        staging_sql: "VARCHAR".to_owned(),
        target_sql: "VARIANT".to_owned(),
        is_json: true,
    };
    Some(match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => plain(DataType::Int64, "NUMBER(38,0)"),
        DataType::UInt64 => plain(DataType::Decimal128(20, 0), "NUMBER(20,0)"),
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) if *s >= 0 => {
            plain(DataType::Decimal128(*p, *s), &format!("NUMBER({p},{s})"))
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => plain(DataType::Float64, "FLOAT"),
        DataType::Boolean => plain(DataType::Boolean, "BOOLEAN"),
        DataType::Date32 | DataType::Date64 => plain(DataType::Date32, "DATE"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if is_json => json(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => plain(DataType::Utf8, "VARCHAR"),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            plain(DataType::Utf8, "VARCHAR")
        }
        DataType::Dictionary(_, values) => return column_type(values, is_json),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            plain(DataType::Binary, "BINARY")
        }
        DataType::Time32(_) | DataType::Time64(_) => plain(DataType::Time64(TimeUnit::Microsecond), "TIME"),
        DataType::Timestamp(..) => plain(DataType::Timestamp(TimeUnit::Microsecond, None), "TIMESTAMP_NTZ"),
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Struct(_)
        | DataType::Map(..) => json(),
        _ => return None,
    })
}

/// Turns a column into its staged form.
pub(super) fn stage(array: &ArrayRef, wanted: &ColumnType) -> Result<ArrayRef, ArrowError> {
    if array.data_type().is_nested() {
        return to_json_text(array);
    }
    let staged = match array.data_type() {
        // First to UTC, then away with the zone: the other way round the wall clock of the zone would be kept.
        DataType::Timestamp(_, Some(_)) => {
            cast(&cast(array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?, &wanted.staged)?
        }
        DataType::FixedSizeBinary(_) | DataType::BinaryView => cast(array, &DataType::Binary)?,
        known if *known == wanted.staged => Arc::clone(array),
        _ => cast(array, &wanted.staged)?,
    };
    Ok(match staged.as_string_opt::<i32>() {
        Some(texts) if texts.value_data().contains(&0) => {
            let clean = texts.iter().map(|text| text.map(|text| text.replace('\u{0}', "\u{fffd}")));
            Arc::new(clean.collect::<StringArray>())
        }
        _ => staged,
    })
}

fn to_json_text(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const OPEN: &str = r#"{"v":"#;
    let schema = Arc::new(Schema::new(vec![Field::new("v", array.data_type().clone(), true)]));
    let mut lines = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut lines);
    writer.write(&RecordBatch::try_new(schema, vec![Arc::clone(array)])?)?;
    writer.finish()?;
    let text = String::from_utf8(lines).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let mut values = StringBuilder::new();
    for line in text.lines() {
        // A null is written as an empty object.
        values.append_option(line.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix('}')));
    }
    Ok(Arc::new(values.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::Int32Type;

    use super::*;

    fn staged(array: impl Array + 'static, is_json: bool) -> (ColumnType, ArrayRef) {
        let array: ArrayRef = Arc::new(array);
        let wanted = column_type(array.data_type(), is_json).expect("the type has a form");
        let staged = stage(&array, &wanted).expect("the column can be staged");
        assert_eq!(*staged.data_type(), wanted.staged);
        (wanted, staged)
    }

    #[test]
    fn instants_lose_their_zone_and_keep_utc() {
        let zoned = TimestampNanosecondArray::from(vec![Some(1_000_000_999), None]).with_timezone("America/New_York");
        let (wanted, array) = staged(zoned, false);
        assert_eq!(wanted.target_sql, "TIMESTAMP_NTZ");
        let micros = array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        assert_eq!((micros.value(0), micros.is_null(1)), (1_000_000, true));
    }

    #[test]
    fn the_greatest_uint64_survives() {
        let (wanted, array) = staged(UInt64Array::from(vec![u64::MAX]), false);
        assert_eq!(wanted.target_sql, "NUMBER(20,0)");
        assert_eq!(array.as_primitive::<arrow::datatypes::Decimal128Type>().value(0), i128::from(u64::MAX));
    }

    #[test]
    fn nested_values_become_json_and_null_stays_null() {
        let lists = arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let (wanted, array) = staged(lists, false);
        assert!(wanted.is_json);
        assert_eq!(array.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("[1,null]"), None, Some("[]")]);
    }

    #[test]
    fn a_zero_character_is_replaced() {
        let (_, array) = staged(StringArray::from(vec!["a\u{0}b", ""]), false);
        assert_eq!(array.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a\u{fffd}b"), Some("")]);
    }

    #[test]
    fn only_declared_text_is_parsed_as_json() {
        assert!(column_type(&DataType::Utf8, true).is_some_and(|column| column.target_sql == "VARIANT"));
        assert!(column_type(&DataType::Utf8, false).is_some_and(|column| column.target_sql == "VARCHAR"));
        assert_eq!(column_type(&DataType::Duration(TimeUnit::Second), false), None);
        assert_eq!(staged(Int64Array::from(vec![1]), false).0.target_sql, "NUMBER(38,0)");
    }
}
