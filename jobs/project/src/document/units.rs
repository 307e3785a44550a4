//! Sizes, durations and instants as people write them.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

use crate::clock::Micros;

/// Reads a duration such as `250ms`, `10 s`, `15m`, `24h`, `7d`. A bare number is refused: nobody can see its unit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" | "sec" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis_per_unit).map(Duration::from_millis)
}

/// Reads a number of bytes such as `64 MiB`, `500kB`, `4096`. `kB`, `MB`, `GB` count by 1000, `KiB`, `MiB`, `GiB` by 1024.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    if let Ok(bytes) = text.trim().parse() {
        return Some(bytes);
    }
    let (number, unit) = split_unit(text)?;
    let bytes_per_unit = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(bytes_per_unit)
}

/// Reads a date, a local time (taken as UTC) or a time with offset, as microseconds since the Unix epoch.
#[must_use]
pub fn parse_instant(text: &str) -> Option<Micros> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.timestamp_micros());
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN)))?;
    Some(local.and_utc().timestamp_micros())
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end_of_digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '_')?;
    let number = text[..end_of_digits].replace('_', "").parse().ok()?;
    Some((number, text[end_of_digits..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("15 m"), Some(Duration::from_mins(15)));
        assert_eq!(parse_duration("7d"), Some(Duration::from_hours(168)));
        for refused in ["250", "ms", "", "-1s", "1.5s", "1y", "99999999999999999999d", "18446744073709551615d"] {
            assert_eq!(parse_duration(refused), None, "{refused}");
        }
    }

    #[test]
    fn bytes_count_by_1000_or_by_1024_as_the_unit_says() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("64 MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("64MB"), Some(64_000_000));
        assert_eq!(parse_bytes("1_000 kB"), Some(1_000_000));
        for refused in ["64 M", "", "-1", "1.5 GiB", "99999999999999 GiB"] {
            assert_eq!(parse_bytes(refused), None, "{refused}");
        }
    }

    #[test]
    fn an_instant_without_offset_is_utc() {
        let start_of_2000 = 946_684_800_000_000;
        for same in ["2000-01-01", "2000-01-01T00:00:00", "2000-01-01 00:00:00", "2000-01-01T01:00:00+01:00"] {
            assert_eq!(parse_instant(same), Some(start_of_2000), "{same}");
        }
        assert_eq!(parse_instant("2000-01-01T00:00:00.25Z"), Some(start_of_2000 + 250_000));
        assert_eq!(parse_instant("yesterday"), None);
    }
}
