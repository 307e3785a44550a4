//! Calendar arithmetic with dbt's words: `dateadd(unit, count, at)`, `datediff(unit, from, to)`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Builder, TimestampMicrosecondArray, TimestampMicrosecondBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Months, NaiveDateTime};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::{coerce_text, coerce_time, failed, texts, to_arrays, wall_clock_type, wrong_count};

const DAY_US: i64 = 86_400_000_000;

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Of so many microseconds, shorter than a day.
    Short(i64),
    /// Of so many days.
    Days(i64),
    /// Of so many months.
    Months(i64),
}

fn unit_of(word: &str) -> Result<Unit> {
    Ok(match word.to_ascii_lowercase().trim_end_matches('s') {
        "microsecond" => Unit::Short(1),
        "millisecond" => Unit::Short(1_000),
        "second" => Unit::Short(1_000_000),
        "minute" => Unit::Short(60_000_000),
        "hour" => Unit::Short(3_600_000_000),
        "day" => Unit::Days(1),
        "week" => Unit::Days(7),
        "month" => Unit::Months(1),
        "quarter" => Unit::Months(3),
        "year" => Unit::Months(12),
        "decade" => Unit::Months(120),
        _ => return failed(format!("unit of time is not known, unit=`{word}`")),
    })
}

fn wall(at_us: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(at_us).map(|at| at.naive_utc())
}

/// `None` when the result is beyond the calendar.
fn add(unit: Unit, count: i64, at_us: i64) -> Option<i64> {
    match unit {
        Unit::Short(width_us) => at_us.checked_add(width_us.checked_mul(count)?),
        Unit::Days(days) => at_us.checked_add(days.checked_mul(count)?.checked_mul(DAY_US)?),
        Unit::Months(months) => {
            let months = months.checked_mul(count)?;
            let by = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
            let at = wall(at_us)?;
            let moved = if months < 0 { at.checked_sub_months(by) } else { at.checked_add_months(by) };
            moved.map(|at| at.and_utc().timestamp_micros())
        }
    }
}

/// How many borders of the unit lie between two times. Weeks begin on Monday.
fn borders(unit: Unit, from_us: i64, to_us: i64) -> Option<i64> {
    Some(match unit {
        Unit::Short(width_us) => to_us.div_euclid(width_us) - from_us.div_euclid(width_us),
        // Day 0 was a Thursday; day 4 the first Monday.
        Unit::Days(7) => (to_us.div_euclid(DAY_US) + 3).div_euclid(7) - (from_us.div_euclid(DAY_US) + 3).div_euclid(7),
        Unit::Days(days) => to_us.div_euclid(DAY_US * days) - from_us.div_euclid(DAY_US * days),
        Unit::Months(months) => {
            let number = |at_us: i64| {
                let at = wall(at_us)?;
                Some((i64::from(at.year()) * 12 + i64::from(at.month0())).div_euclid(months))
            };
            number(to_us)? - number(from_us)?
        }
    })
}

fn micros(array: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    let plain = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    Ok(plain.as_primitive::<TimestampMicrosecondType>().clone())
}

/// `dateadd(unit, count, at)`: a date stays a date when whole days are added.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateAdd {
    signature: Signature,
}

impl Default for DateAdd {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DateAdd {
    fn name(&self) -> &'static str {
        "dateadd"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [unit, count, at] = given else { return wrong_count(self.name(), "3", given.len()) };
        if !count.is_numeric() && !matches!(count, DataType::Null | DataType::Utf8) {
            return plan_err!("argument is no number, function=`dateadd`, type=`{count}`");
        }
        let at = match at {
            DataType::Date32 | DataType::Date64 => DataType::Date32,
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            other => coerce_time(self.name(), other, wall_clock_type())?,
        };
        Ok(vec![coerce_text(self.name(), unit)?, DataType::Int64, at])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given.get(2) {
            Some(at @ DataType::Timestamp(..)) => Ok(at.clone()),
            _ => Ok(wall_clock_type()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let at = args.arg_fields.get(2).map_or(&DataType::Null, |field| field.data_type());
        let word = match args.scalar_arguments.first() {
            Some(Some(ScalarValue::Utf8(Some(word)))) => Some(unit_of(word)?),
            _ => None,
        };
        let data_type = match (at, word) {
            (DataType::Date32, Some(Unit::Days(_) | Unit::Months(_))) => DataType::Date32,
            (DataType::Timestamp(..), _) => at.clone(),
            _ => wall_clock_type(),
        };
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        let (units, counts, times) = (texts(&arrays[0])?, arrays[1].as_primitive::<Int64Type>(), micros(&arrays[2])?);
        let mut built = TimestampMicrosecondBuilder::with_capacity(times.len());
        for row in 0..times.len() {
            if units.is_null(row) || counts.is_null(row) || times.is_null(row) {
                built.append_null();
                continue;
            }
            match add(unit_of(units.value(row))?, counts.value(row), times.value(row)) {
                Some(at_us) => built.append_value(at_us),
                None => return failed("time is out of range, function=`dateadd`"),
            }
        }
        let times: ArrayRef = Arc::new(built.finish());
        Ok(ColumnarValue::Array(cast(&times, args.return_field.data_type())?))
    }
}

/// `datediff(unit, from, to)`: borders crossed, as dbt counts: from 23:59 to 00:01 is one day.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateDiff {
    signature: Signature,
}

impl Default for DateDiff {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DateDiff {
    fn name(&self) -> &'static str {
        "datediff"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [unit, from, to] = given else { return wrong_count(self.name(), "3", given.len()) };
        let time = |given: &DataType| match given {
            DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
            other => coerce_time(self.name(), other, wall_clock_type()),
        };
        Ok(vec![coerce_text(self.name(), unit)?, time(from)?, time(to)?])
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        let (units, from, to) = (texts(&arrays[0])?, micros(&arrays[1])?, micros(&arrays[2])?);
        let mut built = Int64Builder::with_capacity(from.len());
        for row in 0..from.len() {
            if units.is_null(row) || from.is_null(row) || to.is_null(row) {
                built.append_null();
                continue;
            }
            match borders(unit_of(units.value(row))?, from.value(row), to.value(row)) {
                Some(count) => built.append_value(count),
                None => return failed("time is out of range, function=`datediff`"),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(built.finish())))
    }
}
