//! Instants, days and wall clocks. Instants are microseconds since the epoch, UTC; days are days since the epoch.

use chrono::{DateTime, Datelike, Days, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

pub(crate) const SECOND_US: i64 = 1_000_000;
pub(crate) const MINUTE_US: i64 = 60 * SECOND_US;
pub(crate) const HOUR_US: i64 = 60 * MINUTE_US;
pub(crate) const DAY_US: i64 = 24 * HOUR_US;

/// A zone of the data base by its name.
pub(crate) fn zone(name: &str) -> Tz {
    name.parse().expect("the simulator uses zones of the data base")
}

/// The start of the period of a length that holds an instant; periods are aligned to the epoch.
pub(crate) fn floor(us: i64, length_us: i64) -> i64 {
    us.div_euclid(length_us) * length_us
}

/// The day of an instant on a wall clock set back by some hours: with 12, the night that it belongs to.
pub(crate) fn local_day(us: i64, tz: &str, hours_back: i64) -> i64 {
    let utc = DateTime::from_timestamp_micros(us).unwrap_or_default().naive_utc();
    let local = zone(tz).from_utc_datetime(&utc).naive_local();
    day_number((local - Duration::hours(hours_back)).date())
}

/// The number of a date.
pub(crate) fn day_number(date: NaiveDate) -> i64 {
    (date - NaiveDate::default()).num_days()
}

/// The date of a number of days since the epoch.
pub(crate) fn date(day: i64) -> NaiveDate {
    NaiveDate::default() + Duration::days(day)
}

/// A minute of a day's wall clock as an instant; past the day's end it belongs to the next.
pub(crate) fn wall_clock(day: NaiveDate, minute: i64, tz: &str) -> i64 {
    local_to_utc(day.and_time(NaiveTime::MIN) + Duration::minutes(minute), tz)
}

/// A wall clock as an instant: of two, the first; one that a clock change removes moves forward by what is missing.
pub(crate) fn local_to_utc(local: NaiveDateTime, tz: &str) -> i64 {
    let zone = zone(tz);
    if let Some(instant) = zone.from_local_datetime(&local).earliest() {
        return instant.timestamp_micros();
    }
    // Read with the offset in force before the gap, the clock shows the time moved forward by the gap's length.
    let before = (1..=26)
        .find_map(|hours| zone.from_local_datetime(&(local - Duration::hours(hours))).latest().map(|at| (at, hours)))
        .expect("no clock change removes a whole day of a zone in use");
    before.0.timestamp_micros() + before.1 * HOUR_US
}

/// Monday of a day's week.
pub(crate) fn week_start(day: i64) -> i64 {
    let date = date(day);
    day_number(date - Days::new(u64::from(date.weekday().num_days_from_monday())))
}

/// First day of a day's month.
pub(crate) fn month_start(day: i64) -> i64 {
    day_number(date(day).with_day(1).expect("every month has a first day"))
}

/// Length of the union of half-open intervals.
pub(crate) fn union_length(mut intervals: Vec<(i64, i64)>) -> i64 {
    intervals.sort_unstable();
    let mut covered_until = i64::MIN;
    let mut length = 0;
    for (start, end) in intervals {
        length += (end - start.max(covered_until)).max(0);
        covered_until = covered_until.max(end);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).expect("an instant").timestamp_micros()
    }

    #[test]
    fn a_wall_clock_that_a_change_removes_moves_forward_and_of_two_the_first_counts() {
        let day = |text: &str| text.parse::<NaiveDate>().expect("a date");
        let removed = wall_clock(day("2025-03-09"), 150, "America/New_York");
        assert_eq!(removed, us("2025-03-09T07:30:00Z"));
        let repeated = wall_clock(day("2025-11-02"), 90, "America/New_York");
        assert_eq!(repeated, us("2025-11-02T05:30:00Z"));
        assert_eq!(wall_clock(day("2025-03-10"), 25 * 60, "UTC"), us("2025-03-11T01:00:00Z"));
    }

    #[test]
    fn nights_run_from_noon_to_noon() {
        let noon = us("2025-06-02T16:00:00Z");
        assert_eq!(date(local_day(noon - 1, "America/New_York", 12)).to_string(), "2025-06-01");
        assert_eq!(date(local_day(noon, "America/New_York", 12)).to_string(), "2025-06-02");
    }

    #[test]
    fn overlaps_count_once() {
        assert_eq!(union_length(vec![(0, 10), (5, 7), (20, 25), (9, 12)]), 17);
    }
}
