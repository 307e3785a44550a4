//! Times in the forms of X3, exactly.
//!
//! | form | example | read as |
//! | --- | --- | --- |
//! | JSON number | `1741478400.5`, `1.7414784005e9` | the contract's unit; never guessed from magnitude |
//! | string of digits, optional fraction | `"1741478400.5"` | the same |
//! | ISO 8601 with offset | `2025-03-09T01:00:00.5+01:00`, `…Z`, `…+0100`, `…+01` | that instant |
//! | ISO 8601 without offset | `2025-03-09T00:00:00.5` | UTC, or the column's declared zone |
//!
//! ISO times may leave out the seconds, separate date and time by a blank (as databases export them) and the fraction by a
//! comma. Second 60 is the first second of the next minute, as POSIX counts. A date alone is no time: midnight would be a
//! guess. Of a wall clock that a zone passes twice the first passing counts; one that it skips never was, so it is refused.

use std::str::FromStr;

use chrono::{DateTime, LocalResult, TimeZone};
use chrono_tz::Tz;
use tidemill_project::clock::Micros;
use tidemill_project::contract::TimeUnit;

use super::number::{Decimal, Spelling, short_integer};

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: what every reader of the lake can show.
const RANGE_US: std::ops::RangeInclusive<Micros> = -62_135_596_800_000_000..=253_402_300_799_999_999;

const US_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
pub(super) const US_PER_DAY: i64 = SECONDS_PER_DAY * US_PER_SECOND;
pub(super) const US_PER_HOUR: i64 = 3_600 * US_PER_SECOND;

/// How a column reads its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeRule {
    /// Unit of numbers; without one a number is no time.
    pub(crate) unit: Option<TimeUnit>,
    /// Zone of ISO times without offset; UTC unless declared.
    pub(crate) zone: Option<Tz>,
}

/// One instant in the two forms that columns keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant {
    /// Microseconds since the epoch, UTC: rounded half away from zero, nanoseconds floored (X4).
    pub(crate) micros: Micros,
    /// Whole units since the epoch, floored; microseconds where the rule has no unit.
    pub(crate) units: i64,
}

/// Why a value is no usable time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeFault {
    /// In no form of X3.
    NoTime,
    /// Outside the years 1 to 9999, or beyond 64 bits in its unit.
    OutOfRange,
}

impl TimeRule {
    /// Reads a number in the rule's unit. `text` is JSON's spelling of it, or digits from a string.
    pub(crate) fn number(self, text: &[u8], spelling: Spelling) -> Result<Instant, TimeFault> {
        let unit = self.unit.ok_or(TimeFault::NoTime)?;
        if let (Some(units), Some(factor)) = (short_integer(text), us_per_unit(unit)) {
            let micros = units.checked_mul(factor).ok_or(TimeFault::OutOfRange)?;
            return Instant { micros, units }.checked();
        }
        let number = Decimal::parse(text, spelling).ok_or(TimeFault::NoTime)?;
        let units = number.scaled(0).floored();
        let micros = match unit {
            TimeUnit::Second => number.scaled(6).rounded(),
            TimeUnit::Millisecond => number.scaled(3).rounded(),
            TimeUnit::Microsecond => number.scaled(0).rounded(),
            TimeUnit::Nanosecond => number.scaled(-3).floored(),
        };
        Instant { micros: narrow(micros)?, units: narrow(units)? }.checked()
    }

    /// Reads a string: digits, or ISO 8601.
    pub(crate) fn text(self, text: &str) -> Result<Instant, TimeFault> {
        let text = text.as_bytes();
        // `2025-…` parses as digits up to the first hyphen only, so the two forms cannot be confused.
        if short_integer(text).is_some() || Decimal::parse(text, Spelling::Digits).is_some() {
            return self.number(text, Spelling::Digits);
        }
        let clock = IsoTime::parse(text).ok_or(TimeFault::NoTime)?;
        let seconds = clock.utc_seconds(self.zone).ok_or(TimeFault::NoTime)?;
        clock.instant(seconds, self.unit).and_then(Instant::checked)
    }
}

impl Instant {
    fn checked(self) -> Result<Self, TimeFault> {
        if RANGE_US.contains(&self.micros) { Ok(self) } else { Err(TimeFault::OutOfRange) }
    }
}

/// Reads a calendar day, `2025-03-09`, as days since 1970-01-01.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let (days, rest) = iso_date(text.as_bytes())?;
    if rest.is_empty() { i32::try_from(days).ok() } else { None }
}

/// Says whether `name` is a zone of the IANA data base, in its exact spelling.
pub(crate) fn is_zone(name: &str) -> bool {
    zone(name).is_some()
}

/// A zone of the IANA data base.
pub(crate) fn zone(name: &str) -> Option<Tz> {
    Tz::from_str(name).ok()
}

fn us_per_unit(unit: TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => Some(US_PER_SECOND),
        TimeUnit::Millisecond => Some(1_000),
        TimeUnit::Microsecond => Some(1),
        TimeUnit::Nanosecond => None,
    }
}

fn narrow(value: Option<i128>) -> Result<i64, TimeFault> {
    value.and_then(|value| i64::try_from(value).ok()).ok_or(TimeFault::OutOfRange)
}

/// The parts of an ISO time.
struct IsoTime<'a> {
    /// Seconds since the epoch as if the clock stood in UTC.
    wall_seconds: i64,
    /// Digits behind the point.
    fraction: &'a [u8],
    /// Seconds east of UTC; `None` when the text does not say.
    offset: Option<i64>,
    /// 1 for second 60.
    leap: i64,
}

impl<'a> IsoTime<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (days, rest) = iso_date(text)?;
        let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
        let (hour, rest) = two_digits(rest, 23)?;
        let (minute, rest) = two_digits(rest.strip_prefix(b":")?, 59)?;
        let (mut second, mut fraction, mut rest) = (0, &rest[..0], rest);
        if let Some(after) = rest.strip_prefix(b":") {
            (second, rest) = two_digits(after, 60)?;
            if let [b'.' | b',', after @ ..] = rest {
                let end = after.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(after.len());
                if end == 0 {
                    return None;
                }
                (fraction, rest) = after.split_at(end);
            }
        }
        let leap = i64::from(second == 60);
        let wall_seconds = days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second - leap;
        Some(Self { wall_seconds, fraction, offset: iso_offset(rest)?, leap })
    }

    fn utc_seconds(&self, zone: Option<Tz>) -> Option<i64> {
        let seconds = match (self.offset, zone) {
            (Some(offset), _) => self.wall_seconds - offset,
            (None, None) => self.wall_seconds,
            (None, Some(zone)) => {
                let wall = DateTime::from_timestamp(self.wall_seconds, 0)?.naive_utc();
                match zone.from_local_datetime(&wall) {
                    LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant.timestamp(),
                    LocalResult::None => return None,
                }
            }
        };
        Some(seconds + self.leap)
    }

    fn instant(&self, seconds: i64, unit: Option<TimeUnit>) -> Result<Instant, TimeFault> {
        let base = i128::from(seconds);
        if self.fraction.is_empty() {
            let units = match unit {
                Some(TimeUnit::Second) => base,
                Some(TimeUnit::Millisecond) => base * 1_000,
                Some(TimeUnit::Microsecond) | None => base * 1_000_000,
                Some(TimeUnit::Nanosecond) => base * 1_000_000_000,
            };
            return Ok(Instant { micros: narrow(Some(base * 1_000_000))?, units: narrow(Some(units))? });
        }
        let fraction = Decimal::fraction(self.fraction);
        let micros_part =
            if seconds < 0 { fraction.scaled(6).rounded_half_down() } else { fraction.scaled(6).rounded() };
        let micros = micros_part.map(|part| base * 1_000_000 + part);
        let units = match unit {
            Some(TimeUnit::Second) => Some(base),
            Some(TimeUnit::Millisecond) => fraction.scaled(3).floored().map(|part| base * 1_000 + part),
            Some(TimeUnit::Microsecond) | None => fraction.scaled(6).floored().map(|part| base * 1_000_000 + part),
            Some(TimeUnit::Nanosecond) => fraction.scaled(9).floored().map(|part| base * 1_000_000_000 + part),
        };
        Ok(Instant { micros: narrow(micros)?, units: narrow(units)? })
    }
}

/// Reads `YYYY-MM-DD` at the start of `text`: days since the epoch, and what follows.
fn iso_date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (century, rest) = two_digits(text, 99)?;
    let (year, rest) = two_digits(rest, 99)?;
    let (month, rest) = two_digits(rest.strip_prefix(b"-")?, 12)?;
    let (day, rest) = two_digits(rest.strip_prefix(b"-")?, 31)?;
    let year = century * 100 + year;
    if year == 0 || month == 0 || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    Some((days_since_epoch(year, month, day), rest))
}

/// Reads nothing, `Z`, or `±hh`, `±hhmm`, `±hh:mm` up to the end of the text: seconds east of UTC.
#[expect(clippy::option_option, reason = "outer: is it well formed; inner: is there an offset at all")]
fn iso_offset(text: &[u8]) -> Option<Option<i64>> {
    let (sign, rest) = match text {
        [] => return Some(None),
        [b'Z' | b'z'] => return Some(Some(0)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = two_digits(rest, 23)?;
    let minutes = match rest {
        [] => 0,
        _ => match two_digits(rest.strip_prefix(b":").unwrap_or(rest), 59)? {
            (minutes, []) => minutes,
            _ => return None,
        },
    };
    Some(Some(sign * (hours * 3_600 + minutes * 60)))
}

fn two_digits(text: &[u8], max: i64) -> Option<(i64, &[u8])> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
            let value = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            (value <= max).then_some((value, rest))
        }
        _ => None,
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar, also before it was made.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC_SECONDS: TimeRule = TimeRule { unit: Some(TimeUnit::Second), zone: None };

    fn rule(unit: TimeUnit) -> TimeRule {
        TimeRule { unit: Some(unit), zone: None }
    }

    #[test]
    fn all_forms_of_gx2_are_one_instant() {
        assert_eq!(
            UTC_SECONDS.number(b"1741478400.5", Spelling::Exponent).map(|i| i.micros),
            Ok(1_741_478_400_500_000)
        );
        for text in [
            "1741478400.5",
            "2025-03-09T00:00:00.5Z",
            "2025-03-09T01:00:00.5+01:00",
            "2025-03-09T00:00:00.5",
            "2025-03-08 20:00:00,500000-0400",
            "2025-03-09t02:00:00.5000000000000000+02",
        ] {
            assert_eq!(
                UTC_SECONDS.text(text),
                Ok(Instant { micros: 1_741_478_400_500_000, units: 1_741_478_400 }),
                "{text}"
            );
        }
    }

    #[test]
    fn nanoseconds_are_floored_and_kept_exactly() {
        let read = rule(TimeUnit::Nanosecond).number(b"1741521609999999999", Spelling::Exponent);
        assert_eq!(read, Ok(Instant { micros: 1_741_521_609_999_999, units: 1_741_521_609_999_999_999 }));
        let read = rule(TimeUnit::Nanosecond).text("2025-03-09T12:00:09.999999999Z");
        assert_eq!(read.map(|i| i.units), Ok(1_741_521_609_999_999_999));
    }

    #[test]
    fn seconds_are_floored_below_zero_too() {
        let read = UTC_SECONDS.number(b"-0.5", Spelling::Exponent);
        assert_eq!(read, Ok(Instant { micros: -500_000, units: -1 }));
        assert_eq!(UTC_SECONDS.text("1969-12-31T23:59:59.5Z"), Ok(Instant { micros: -500_000, units: -1 }));
    }

    #[test]
    fn a_unit_too_large_is_out_of_range_not_an_overflow() {
        for text in ["1741478400500000000", "9223372036854775807", "-9223372036854775808", "1e300", "253402300800"] {
            assert_eq!(UTC_SECONDS.number(text.as_bytes(), Spelling::Exponent), Err(TimeFault::OutOfRange), "{text}");
        }
        assert!(UTC_SECONDS.number(b"1741478400500", Spelling::Exponent).is_err());
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            " ",
            "yesterday",
            "2025-03-09",
            "2025-03-09T",
            "2025-03-09T24:00:00Z",
            "2025-02-29T00:00Z",
            "2025-13-01T00:00Z",
            "2025-03-09T00:00:00.Z",
            "2025-03-09T00:00:00Zulu",
            "2025-03-09T00:00:00+1",
            "2025-03-09T00:00:00+01:",
            "1e9",
            "20250309T000000Z",
            "12025-03-09T00:00:00Z",
            "0000-01-01T00:00Z",
            "1741478400,5",
            "+1741478400",
            "1741478400 ",
        ] {
            assert_eq!(UTC_SECONDS.text(text), Err(TimeFault::NoTime), "{text}");
        }
        let iso_only = TimeRule { unit: None, zone: None };
        assert_eq!(iso_only.number(b"1741478400", Spelling::Exponent), Err(TimeFault::NoTime));
        assert!(iso_only.text("2025-03-09T00:00Z").is_ok());
    }

    #[test]
    fn a_declared_zone_reads_wall_clocks() {
        let berlin = TimeRule { unit: None, zone: zone("Europe/Berlin") };
        assert_eq!(berlin.text("2025-03-09T01:00:00").map(|i| i.micros), Ok(1_741_478_400_000_000));
        // 02:30 is passed twice on 2025-10-26: the first passing is summer time.
        assert_eq!(berlin.text("2025-10-26T02:30:00"), berlin.text("2025-10-26T00:30:00Z"));
        // 02:30 is skipped on 2025-03-30.
        assert_eq!(berlin.text("2025-03-30T02:30:00"), Err(TimeFault::NoTime));
    }

    #[test]
    fn the_leap_second_is_the_next_minute() {
        assert_eq!(UTC_SECONDS.text("2016-12-31T23:59:60Z"), UTC_SECONDS.text("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn dates_are_days() {
        assert_eq!(parse_date("1970-01-01"), Some(0));
        assert_eq!(parse_date("2025-03-09"), Some(20_156));
        assert_eq!(parse_date("2024-02-29"), Some(19_782));
        assert_eq!(parse_date("2025-03-09T00:00"), None);
        assert_eq!(parse_date("2025-3-9"), None);
    }

    proptest::proptest! {
        #[test]
        fn iso_text_survives_the_round_trip(micros in RANGE_US) {
            let text = DateTime::from_timestamp_micros(micros).expect("in range").to_rfc3339();
            proptest::prop_assert_eq!(UTC_SECONDS.text(&text).map(|i| i.micros), Ok(micros));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", digits in "[-0-9:.TZ+ ]{0,40}") {
            let _ = UTC_SECONDS.text(&text);
            let _ = UTC_SECONDS.text(&digits);
        }
    }
}
