//! Least and greatest values of a file's columns: from Parquet's footer into the log, and from the log into scalars.
//!
//! Statistics may only ever be too wide. Text is cut at [`TEXT_LIMIT`] characters, and a cut maximum is rounded up, so that
//! no value of the file lies outside.
//! Source: Delta protocol, "Per-file Statistics".

use std::collections::BTreeMap;

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray, UInt64Array};
use arrow::compute::{cast, max as max_of, max_string, min as min_of, min_string};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use chrono::{DateTime, NaiveDate, TimeDelta};
use datafusion::common::ScalarValue;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ColumnStats;

/// Delta's own limit for text in statistics.
const TEXT_LIMIT: usize = 32;

/// `stats` of an add action.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatsJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    num_records: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    min_values: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    max_values: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    null_count: BTreeMap<String, Value>,
}

/// Reads the text of an add action; text that cannot be read says nothing, which is always right.
pub(crate) fn parse(text: Option<&str>) -> (Option<u64>, BTreeMap<String, ColumnStats>) {
    let Some(json) = text.and_then(|text| serde_json::from_str::<StatsJson>(text).ok()) else {
        return (None, BTreeMap::new());
    };
    let mut columns = BTreeMap::<String, ColumnStats>::new();
    for (name, value) in json.min_values {
        columns.entry(name).or_default().min = Some(value);
    }
    for (name, value) in json.max_values {
        columns.entry(name).or_default().max = Some(value);
    }
    for (name, value) in json.null_count {
        columns.entry(name).or_default().null_count = value.as_u64();
    }
    (json.num_records, columns)
}

/// The number of rows alone. Our writer and most others put it first, where it is read without the rest.
pub(crate) fn num_records(text: Option<&str>) -> Option<u64> {
    /// What is not named is skipped, not kept.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Count {
        #[serde(default)]
        num_records: Option<u64>,
    }
    let text = text?;
    let first = text.strip_prefix(r#"{"numRecords":"#).and_then(|rest| {
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        rest[end..].starts_with([',', '}']).then(|| rest[..end].parse().ok())?
    });
    first.or_else(|| serde_json::from_str::<Count>(text).ok()?.num_records)
}

/// Writes the text of an add action; `None` when nothing is known.
pub(crate) fn format(num_records: Option<u64>, columns: &BTreeMap<String, ColumnStats>) -> Option<String> {
    if num_records.is_none() && columns.is_empty() {
        return None;
    }
    let mut json = StatsJson { num_records, ..StatsJson::default() };
    for (name, stats) in columns {
        if let Some(value) = &stats.min {
            json.min_values.insert(name.clone(), value.clone());
        }
        if let Some(value) = &stats.max {
            json.max_values.insert(name.clone(), value.clone());
        }
        if let Some(value) = stats.null_count {
            json.null_count.insert(name.clone(), value.into());
        }
    }
    serde_json::to_string(&json).ok()
}

/// Collects the statistics of a file that was just written, from its footer.
pub(crate) fn from_parquet(
    schema: &Schema,
    metadata: &ParquetMetaData,
) -> Result<BTreeMap<String, ColumnStats>, ParquetError> {
    let mut columns = BTreeMap::new();
    let parquet_schema = metadata.file_metadata().schema_descr();
    for field in schema.fields().iter().filter(|field| !field.data_type().is_nested()) {
        let converter = StatisticsConverter::try_new(field.name(), schema, parquet_schema)?;
        let groups = || metadata.row_groups().iter();
        let null_count = arrow::compute::sum(&converter.row_group_null_counts(groups())?);
        let (min, max) = if has_order(field.data_type()) {
            let min = least(&converter.row_group_mins(groups())?)?;
            let max = greatest(&converter.row_group_maxes(groups())?)?;
            // One without the other would read as "no lower bound" to some readers and as "all null" to others.
            if min.is_some() && max.is_some() { (min, max) } else { (None, None) }
        } else {
            (None, None)
        };
        columns.insert(field.name().clone(), ColumnStats { min, max, null_count });
    }
    Ok(columns)
}

/// Types whose order Delta's readers and we agree on. Decimals are left out: JSON numbers would round them.
fn has_order(data_type: &DataType) -> bool {
    use DataType::{Date32, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, Utf8};
    matches!(
        data_type,
        Utf8 | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Date32 | Timestamp(TimeUnit::Microsecond, _)
    )
}

fn least(values: &ArrayRef) -> Result<Option<Value>, ArrowError> {
    // A row group without a bound bounds nothing, unless all of it is null; telling the two apart is not worth it.
    if values.is_empty() || values.null_count() == values.len() {
        return Ok(None);
    }
    Ok(match values.data_type() {
        DataType::Utf8 => min_string(values.as_string::<i32>()).map(|text| cut_down(text).into()),
        _ => number(values, Bound::Min)?,
    })
}

fn greatest(values: &ArrayRef) -> Result<Option<Value>, ArrowError> {
    if values.is_empty() || values.null_count() == values.len() {
        return Ok(None);
    }
    Ok(match values.data_type() {
        DataType::Utf8 => max_string(values.as_string::<i32>()).and_then(round_up).map(Value::from),
        _ => number(values, Bound::Max)?,
    })
}

#[derive(Clone, Copy)]
enum Bound {
    Min,
    Max,
}

fn number(values: &ArrayRef, bound: Bound) -> Result<Option<Value>, ArrowError> {
    macro_rules! pick {
        ($type:ty) => {{
            let array = values.as_primitive::<$type>();
            match bound {
                Bound::Min => min_of(array),
                Bound::Max => max_of(array),
            }
        }};
    }
    Ok(match values.data_type() {
        DataType::Int8 => pick!(Int8Type).map(Value::from),
        DataType::Int16 => pick!(Int16Type).map(Value::from),
        DataType::Int32 => pick!(Int32Type).map(Value::from),
        DataType::Int64 => pick!(Int64Type).map(Value::from),
        // JSON has no NaN and no infinity; a bound that cannot be written is none.
        DataType::Float32 => pick!(Float32Type).filter(|value| value.is_finite()).map(Value::from),
        DataType::Float64 => pick!(Float64Type).filter(|value| value.is_finite()).map(Value::from),
        DataType::Date32 => pick!(Date32Type)
            .and_then(|days| NaiveDate::default().checked_add_signed(TimeDelta::days(days.into())))
            .map(|date| date.format("%Y-%m-%d").to_string().into()),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let suffix = if zone.is_some() { "Z" } else { "" };
            pick!(TimestampMicrosecondType)
                .and_then(DateTime::from_timestamp_micros)
                .map(|at| format!("{}{suffix}", at.format("%Y-%m-%dT%H:%M:%S%.6f")).into())
        }
        other => return Err(ArrowError::NotYetImplemented(format!("statistics of {other}"))),
    })
}

/// A prefix is never greater than the whole.
fn cut_down(text: &str) -> &str {
    text.char_indices().nth(TEXT_LIMIT).map_or(text, |(end, _)| &text[..end])
}

/// The shortest text of at most [`TEXT_LIMIT`] characters that no text starting like `text` exceeds; `None` when there is
/// none. The last character that has a successor is replaced by it.
fn round_up(text: &str) -> Option<String> {
    let cut = cut_down(text);
    if cut.len() == text.len() {
        return Some(text.to_owned());
    }
    let mut chars = cut.chars().collect::<Vec<_>>();
    while let Some(last) = chars.pop() {
        // Surrogates are no characters: the successor of U+D7FF is U+E000.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// A bound of the log as a scalar of the column's type; `None` when the text cannot be read as one.
///
/// Delta writers may cut instants to milliseconds, so a greatest instant counts to the end of its millisecond.
pub(crate) fn bound(value: &Value, data_type: &DataType, is_max: bool) -> Option<ScalarValue> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let array = ScalarValue::Utf8(Some(text)).to_array().ok()?;
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let instant = cast(&array, data_type).ok()?;
            let instant = instant.as_primitive::<TimestampMicrosecondType>();
            if instant.is_null(0) {
                return None;
            }
            let value = instant.value(0);
            let value = if is_max && value % 1000 == 0 { value.saturating_add(999) } else { value };
            Some(ScalarValue::TimestampMicrosecond(Some(value), zone.clone()))
        }
        data_type if has_order(data_type) => {
            let typed = cast(&array, data_type).ok()?;
            ScalarValue::try_from_array(&typed, 0).ok().filter(|scalar| !scalar.is_null())
        }
        _ => None,
    }
}

/// A partition value of the log as a scalar of the column's type. Empty text is null, as the protocol says.
pub(crate) fn partition_scalar(value: Option<&str>, data_type: &DataType) -> Result<ScalarValue, ArrowError> {
    let Some(text) = value.filter(|text| !text.is_empty()) else {
        return ScalarValue::try_from(data_type).map_err(|source| ArrowError::CastError(source.to_string()));
    };
    let array = ScalarValue::Utf8(Some(text.to_owned()))
        .to_array()
        .map_err(|source| ArrowError::CastError(source.to_string()))?;
    let typed = cast(&array, data_type)?;
    if typed.is_null(0) {
        return Err(ArrowError::CastError(format!("`{text}` is no {data_type}")));
    }
    ScalarValue::try_from_array(&typed, 0).map_err(|source| ArrowError::CastError(source.to_string()))
}

/// Partition values of many files as a column of their type, in one go; as [`partition_scalar`] reads each of them.
pub(crate) fn partition_column<'a>(
    values: impl Iterator<Item = Option<&'a str>>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let texts: StringArray = values.map(|value| value.filter(|text| !text.is_empty())).collect();
    let typed = cast(&texts, data_type)?;
    if typed.null_count() != texts.null_count() {
        let unread = (0..texts.len()).find(|row| typed.is_null(*row) && texts.is_valid(*row));
        let text = unread.map_or("", |row| texts.value(row));
        return Err(ArrowError::CastError(format!("`{text}` is no {data_type}")));
    }
    Ok(typed)
}

/// Bounds of many files as a column of their type, in one go; as [`bound`] reads each of them. Null where it reads none.
pub(crate) fn bounds<'a>(
    values: impl Iterator<Item = Option<&'a Value>>,
    data_type: &DataType,
    is_max: bool,
) -> Option<ArrayRef> {
    if !has_order(data_type) {
        return None;
    }
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let texts: StringArray = values.map(|value| value.and_then(text)).collect();
    let typed = cast(&texts, data_type).ok()?;
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) if is_max => {
            let to_end = |value: i64| if value % 1000 == 0 { value.saturating_add(999) } else { value };
            let ends = typed.as_primitive::<TimestampMicrosecondType>().unary::<_, TimestampMicrosecondType>(to_end);
            Some(std::sync::Arc::new(ends.with_timezone_opt(zone.clone())))
        }
        _ => Some(typed),
    }
}

/// Row counts as DataFusion's pruning wants them.
pub(crate) fn counts(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    std::sync::Arc::new(values.collect::<UInt64Array>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_maximum_is_rounded_up() {
        let long = "a".repeat(40);
        assert_eq!(cut_down(&long), "a".repeat(32));
        let up = round_up(&long).unwrap();
        assert_eq!(up, format!("{}b", "a".repeat(31)));
        assert!(up.as_str() > long.as_str());
        assert_eq!(round_up("short"), Some("short".to_owned()));
    }

    #[test]
    fn a_character_without_successor_is_carried() {
        let text = format!("{}{}tail", "x".repeat(31), char::MAX);
        assert_eq!(round_up(&text).unwrap(), format!("{}y", "x".repeat(30)));
        assert_eq!(round_up(&char::MAX.to_string().repeat(33)), None);
        let text = format!("{}\u{D7FF}tail", "x".repeat(31));
        assert!(round_up(&text).unwrap() > text);
    }

    #[test]
    fn a_greatest_instant_counts_to_the_end_of_its_millisecond() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let value = Value::from("2025-03-09T00:00:00.123Z");
        let ScalarValue::TimestampMicrosecond(Some(min), _) = bound(&value, &utc, false).unwrap() else { panic!() };
        let ScalarValue::TimestampMicrosecond(Some(max), _) = bound(&value, &utc, true).unwrap() else { panic!() };
        assert_eq!(max - min, 999);
    }

    #[test]
    fn the_number_of_rows_is_found_wherever_it_stands() {
        for text in [
            r#"{"numRecords":17}"#,
            r#"{"numRecords":17,"minValues":{"a":1}}"#,
            r#"{ "nullCount":{}, "numRecords" : 17 }"#,
        ] {
            assert_eq!((num_records(Some(text)), parse(Some(text)).0), (Some(17), Some(17)), "{text}");
        }
        for text in [
            r#"{"minValues":{"numRecords":3}}"#,
            r#"{"numRecords":null}"#,
            r#"{"numRecords":"#,
            r#"{"numRecords":1.5}"#,
            "",
        ] {
            assert_eq!((num_records(Some(text)), parse(Some(text)).0), (None, None), "{text}");
        }
        assert_eq!(num_records(None), None);
    }

    #[test]
    fn a_column_of_bounds_holds_what_each_of_them_reads_as() {
        let values = [
            Some("2025-03-09T00:00:00.123Z".into()),
            Some(Value::from(-17)),
            Some("x".into()),
            Some(true.into()),
            None,
        ];
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for data_type in [utc, DataType::Utf8, DataType::Int64, DataType::Float64, DataType::Date32] {
            for is_max in [false, true] {
                let column = bounds(values.iter().map(Option::as_ref), &data_type, is_max).unwrap();
                for (row, value) in values.iter().enumerate() {
                    let alone = value.as_ref().and_then(|value| bound(value, &data_type, is_max));
                    let there = ScalarValue::try_from_array(&column, row).unwrap();
                    assert_eq!(alone, Some(there).filter(|there| !there.is_null()), "{value:?} as {data_type}");
                }
            }
        }
        assert!(bounds(values.iter().map(Option::as_ref), &DataType::Boolean, true).is_none());
    }

    #[test]
    fn a_column_of_partition_values_holds_what_each_of_them_reads_as() {
        let texts = [Some("2025-03-09"), None, Some("")];
        let column = partition_column(texts.into_iter(), &DataType::Date32).unwrap();
        for (row, text) in texts.into_iter().enumerate() {
            let alone = partition_scalar(text, &DataType::Date32).unwrap();
            assert_eq!(alone, ScalarValue::try_from_array(&column, row).unwrap());
        }
        assert!(partition_column([Some("2025-03-09"), Some("x")].into_iter(), &DataType::Date32).is_err());
    }

    #[test]
    fn text_that_cannot_be_read_bounds_nothing() {
        assert_eq!(parse(Some("{")), (None, BTreeMap::new()));
        assert_eq!(bound(&Value::from("x"), &DataType::Int64, true), None);
    }
}
