//! Local time: instants to wall clocks and back, with the IANA data base of `chrono-tz`.
//!
//! `local_ts('2025-03-09T11:00:00Z', 'America/New_York')` is `2025-03-09 07:00:00`. Rules X21 and Z15 of the systems page.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Builder, StringArray, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::datatypes::DataType;
use chrono::{DateTime, Duration, LocalResult, NaiveDateTime, NaiveTime, Offset, TimeZone};
use chrono_tz::Tz;
use datafusion::common::Result;
use datafusion::common::cast::as_timestamp_microsecond_array;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{coerce_text, coerce_time, failed, instant_type, texts, to_arrays, wall_clock_type, wrong_count};

const DAY_US: i64 = 86_400_000_000;

/// Zones by name; neighbouring rows mostly share one, so the last is kept.
#[derive(Default)]
struct Zones {
    last: Option<(String, Tz)>,
}

impl Zones {
    fn get(&mut self, name: &str) -> Result<Tz> {
        if let Some((known, zone)) = &self.last
            && known == name
        {
            return Ok(*zone);
        }
        let Ok(zone) = name.parse::<Tz>() else {
            return failed(format!("time zone is not known, tz=`{name}`"));
        };
        self.last = Some((name.to_owned(), zone));
        Ok(zone)
    }
}

/// Microseconds of the wall clock in `zone` at an instant.
fn to_wall_us(at_us: i64, zone: Tz) -> Result<i64> {
    let Some(at) = DateTime::from_timestamp_micros(at_us) else {
        return failed(format!("timestamp is out of range, micros=`{at_us}`"));
    };
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    Ok(at_us.saturating_add(i64::from(offset) * 1_000_000))
}

/// The instant of a wall clock. One that a clock change removes moves forward by what was removed, of one that it repeats the
/// first counts.
fn to_instant_us(wall_us: i64, zone: Tz) -> Result<i64> {
    let Some(wall) = DateTime::from_timestamp_micros(wall_us).map(|at| at.naive_utc()) else {
        return failed(format!("timestamp is out of range, micros=`{wall_us}`"));
    };
    let offset_s = match zone.offset_from_local_datetime(&wall) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset.fix().local_minus_utc(),
        LocalResult::None => offset_before_gap_s(wall, zone)?,
    };
    Ok(wall_us.saturating_sub(i64::from(offset_s) * 1_000_000))
}

/// The offset in force before the gap that swallowed a wall clock. Read with it, the clock lands after the gap, as far in as it
/// lay in the gap. Gaps are multiples of a quarter of an hour and at most a day (Samoa, 2011-12-30).
fn offset_before_gap_s(wall: NaiveDateTime, zone: Tz) -> Result<i32> {
    for quarters in 1..=4 * 25 {
        let before = wall - Duration::minutes(15 * quarters);
        if let Some(offset) = zone.offset_from_local_datetime(&before).latest() {
            return Ok(offset.fix().local_minus_utc());
        }
    }
    failed(format!("wall clock does not exist, local=`{wall}`, tz=`{zone}`"))
}

/// Applies `convert` to rows where both arguments are set.
fn map_rows(
    times: &ArrayRef,
    zones: &ArrayRef,
    mut convert: impl FnMut(i64, Tz) -> Result<i64>,
) -> Result<TimestampMicrosecondArray> {
    let times = as_timestamp_microsecond_array(times)?;
    let names: &StringArray = texts(zones)?;
    let mut cache = Zones::default();
    let mut built = TimestampMicrosecondBuilder::with_capacity(times.len());
    for row in 0..times.len() {
        if times.is_null(row) || names.is_null(row) {
            built.append_null();
        } else {
            built.append_value(convert(times.value(row), cache.get(names.value(row))?)?);
        }
    }
    Ok(built.finish())
}

/// `local_ts(ts, tz)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LocalTs {
    signature: Signature,
}

impl Default for LocalTs {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for LocalTs {
    fn name(&self) -> &'static str {
        "local_ts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [ts, tz] => Ok(vec![coerce_time(self.name(), ts, instant_type())?, coerce_text(self.name(), tz)?]),
            _ => wrong_count(self.name(), "2", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(wall_clock_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(map_rows(&arrays[0], &arrays[1], to_wall_us)?)))
    }
}

/// `local_to_utc(local, tz)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LocalToUtc {
    signature: Signature,
}

impl Default for LocalToUtc {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for LocalToUtc {
    fn name(&self) -> &'static str {
        "local_to_utc"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [local, tz] => Ok(vec![coerce_time(self.name(), local, wall_clock_type())?, coerce_text(self.name(), tz)?]),
            _ => wrong_count(self.name(), "2", given.len()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(instant_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        let instants = map_rows(&arrays[0], &arrays[1], to_instant_us)?.with_timezone("UTC");
        Ok(ColumnarValue::Array(Arc::new(instants)))
    }
}

/// `night_of(ts, tz, cutoff)` = `date(local_ts(ts, tz) - cutoff)`: a night runs from one cutoff to the next and carries the date
/// of its first evening. The cutoff itself opens the new night.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct NightOf {
    signature: Signature,
}

impl Default for NightOf {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Noon: a sleep that begins in the morning belongs to the night before.
const DEFAULT_CUTOFF_US: i64 = DAY_US / 2;

fn parse_cutoff_us(text: &str) -> Result<i64> {
    let time = ["%H:%M", "%H:%M:%S%.f"].iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok());
    match time {
        Some(time) => Ok((time - NaiveTime::MIN).num_microseconds().unwrap_or_default()),
        None => failed(format!("cutoff is no time of day such as 12:00, cutoff=`{text}`")),
    }
}

impl ScalarUDFImpl for NightOf {
    fn name(&self) -> &'static str {
        "night_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (Some(ts), Some(tz), true) = (given.first(), given.get(1), given.len() <= 3) else {
            return wrong_count(self.name(), "2 or 3", given.len());
        };
        let mut wanted = vec![coerce_time(self.name(), ts, instant_type())?, coerce_text(self.name(), tz)?];
        if let Some(cutoff) = given.get(2) {
            wanted.push(coerce_text(self.name(), cutoff)?);
        }
        Ok(wanted)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = to_arrays(&args.args, args.number_rows)?;
        let walls = map_rows(&arrays[0], &arrays[1], to_wall_us)?;
        let cutoffs = arrays.get(2).map(texts).transpose()?;
        let mut last: Option<(String, i64)> = None;
        let mut built = Date32Builder::with_capacity(walls.len());
        for row in 0..walls.len() {
            if walls.is_null(row) || cutoffs.is_some_and(|cutoffs| cutoffs.is_null(row)) {
                built.append_null();
                continue;
            }
            let cutoff_us = match (cutoffs.map(|cutoffs| cutoffs.value(row)), &last) {
                (None, _) => DEFAULT_CUTOFF_US,
                (Some(text), Some((known, cutoff_us))) if known == text => *cutoff_us,
                (Some(text), _) => last.insert((text.to_owned(), parse_cutoff_us(text)?)).1,
            };
            let days = walls.value(row).saturating_sub(cutoff_us).div_euclid(DAY_US);
            match i32::try_from(days) {
                Ok(days) => built.append_value(days),
                Err(_) => return failed(format!("timestamp is out of range, micros=`{}`", walls.value(row))),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(built.finish())))
    }
}
