//! Functions that SQL may call beyond DataFusion's own.
//!
//! | function | gives |
//! | --- | --- |
//! | [`local_ts(ts, tz)`](local) | wall clock of an instant in a zone, timestamp without zone |
//! | [`night_of(ts, tz[, cutoff])`](local) | date of the night that holds an instant; cutoff `12:00` |
//! | [`local_to_utc(local, tz)`](local) | instant of a wall clock; gaps move forward, of repeated hours the first |
//! | [`union_seconds(start, end)`](intervals) | aggregate: seconds covered by half-open intervals, decimal(18, 6) |
//! | [`count_by(text)`](counts) | aggregate: JSON object text -> number of rows, keys sorted |
//! | [`sum_counts(json)`](counts) | aggregate: adds such objects key by key |
//! | [`arg_max(value, by)`](extremes), `arg_min` | aggregate: the value of the row with the greatest or least `by` |
//! | [`json_get(json, path…)`](text), `json_get_text` | part of a JSON text, as JSON or as text |
//! | [`regexp_substr(text, pattern[, group])`](regexp) | the first part that matches, or its group |
//! | [`sha256_hex(text)`](text) | SHA-256, 64 lower-case hex digits |
//! | [`dateadd(unit, count, at)`](dates) | calendar arithmetic; a date stays a date when whole days are added |
//! | [`datediff(unit, from, to)`](dates) | borders of the unit between two times |
//! | [`coalesce`](coalesce) | DataFusion's own, which reads a text beside dates as a date |
//! | [`date_trunc`](truncate) | DataFusion's own, with a shorter way through UTC |
//! | [`abs`, `sqrt`, `ln`, …](ordered) | DataFusion's own, which can be sorted by |
//!
//! All are deterministic: the same rows in any order and any partition give the same result.

mod coalesce;
mod counts;
mod dates;
mod extremes;
mod intervals;
mod local;
mod ordered;
mod regexp;
mod text;
mod truncate;

#[cfg(test)]
mod tests;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::cast::as_string_array;
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use datafusion::logical_expr::{AggregateUDF, ColumnarValue, ScalarUDF};
use datafusion::prelude::SessionContext;

/// Registers all functions of this module in a session; doing it twice is harmless.
pub fn register_all(ctx: &SessionContext) {
    for function in scalar_functions() {
        ctx.register_udf(function);
    }
    for function in aggregate_functions() {
        ctx.register_udaf(function);
    }
}

/// The scalar functions, for engines that are not a session: Ballista's registries.
#[must_use]
pub fn scalar_functions() -> Vec<ScalarUDF> {
    let own = [
        ScalarUDF::from(local::LocalTs::default()),
        ScalarUDF::from(local::NightOf::default()),
        ScalarUDF::from(local::LocalToUtc::default()),
        ScalarUDF::from(dates::DateAdd::default()),
        ScalarUDF::from(dates::DateDiff::default()),
        ScalarUDF::from(text::JsonGet::as_json()),
        ScalarUDF::from(text::JsonGet::as_text()),
        ScalarUDF::from(text::Sha256Hex::default()),
        ScalarUDF::from(regexp::RegexpSubstr::default()),
        ScalarUDF::from(coalesce::Coalesce::default()),
        ScalarUDF::from(truncate::DateTrunc::default()),
    ];
    own.into_iter().chain(ordered::functions()).collect()
}

/// The aggregate functions.
#[must_use]
pub fn aggregate_functions() -> Vec<AggregateUDF> {
    vec![
        AggregateUDF::from(intervals::UnionSeconds::default()),
        AggregateUDF::from(counts::CountBy::rows()),
        AggregateUDF::from(counts::CountBy::objects()),
        AggregateUDF::from(extremes::ArgExtreme::max()),
        AggregateUDF::from(extremes::ArgExtreme::min()),
    ]
}

/// The type of the lake's instants.
fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of a wall clock.
fn wall_clock_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// Coerces an argument to `wanted` when it is a time at all; texts only when they are literals that SQL reads as times.
fn coerce_time(function: &str, given: &DataType, wanted: DataType) -> Result<DataType> {
    match given {
        DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Null
        | DataType::Utf8
        | DataType::Utf8View
        | DataType::LargeUtf8 => Ok(wanted),
        other => plan_err!("argument is no timestamp, function=`{function}`, type=`{other}`"),
    }
}

/// Coerces an argument to text.
fn coerce_text(function: &str, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => Ok(DataType::Utf8),
        DataType::Dictionary(_, value) => coerce_text(function, value),
        other => plan_err!("argument is no text, function=`{function}`, type=`{other}`"),
    }
}

fn wrong_count<T>(function: &str, wanted: &str, found: usize) -> Result<T> {
    plan_err!("wrong number of arguments, function=`{function}`, wanted=`{wanted}`, found=`{found}`")
}

/// The arguments as arrays of one length.
fn to_arrays(args: &[ColumnarValue], num_rows: usize) -> Result<Vec<ArrayRef>> {
    args.iter().map(|arg| arg.to_array(num_rows)).collect()
}

fn texts(array: &ArrayRef) -> Result<&StringArray> {
    as_string_array(array)
}

/// An execution error of ours: lower case, variables last.
fn failed<T>(message: impl std::fmt::Display) -> Result<T> {
    exec_err!("{message}")
}

fn bug(message: &str) -> DataFusionError {
    DataFusionError::Internal(message.to_owned())
}
