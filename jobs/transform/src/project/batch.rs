//! Batches of event time: half-open windows in UTC, aligned to the calendar.

use chrono::{DateTime, Datelike, Months, NaiveDate, TimeZone, Utc};
use serde::{Deserialize, Serialize};
use tidemill_project::clock::Micros;

/// Width of a batch, dbt's `batch_size`, and two finer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSize {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A UTC day.
    Day,
    /// A calendar month, UTC.
    Month,
    /// A calendar year, UTC.
    Year,
}

/// One batch: event times `[start_us, end_us)`, microseconds UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BatchWindow {
    /// First instant.
    pub start_us: Micros,
    /// First instant after it.
    pub end_us: Micros,
}

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

impl BatchSize {
    /// The batch that holds an instant.
    #[must_use]
    pub fn window_of(self, at_us: Micros) -> BatchWindow {
        match self {
            Self::Minute => fixed(at_us, MINUTE_US),
            Self::Hour => fixed(at_us, HOUR_US),
            Self::Day => fixed(at_us, DAY_US),
            Self::Month => calendar(at_us, 1),
            Self::Year => calendar(at_us, 12),
        }
    }

    /// All batches that touch `[from_us, to_us)`, ascending; none when the range is empty.
    pub fn windows(self, from_us: Micros, to_us: Micros) -> impl Iterator<Item = BatchWindow> {
        let first = (from_us < to_us).then(|| self.window_of(from_us));
        std::iter::successors(first, move |window| (window.end_us < to_us).then(|| self.window_of(window.end_us)))
    }

    /// The batch's name in the partition column `_batch`: its start as `2025-03-09`, `2025-03-09T12` (hour) or
    /// `2025-03-09T12:34` (minute). Names sort as their batches do.
    #[must_use]
    pub fn name(self, window: BatchWindow) -> String {
        let format = match self {
            Self::Minute => "%Y-%m-%dT%H:%M",
            Self::Hour => "%Y-%m-%dT%H",
            Self::Day | Self::Month | Self::Year => "%Y-%m-%d",
        };
        instant(window.start_us).format(format).to_string()
    }

    /// The batch of a name; `None` when the name is no start of such a batch.
    #[must_use]
    pub fn parse_name(self, name: &str) -> Option<BatchWindow> {
        let padded = match self {
            Self::Minute => format!("{name}:00"),
            Self::Hour => format!("{name}:00:00"),
            Self::Day | Self::Month | Self::Year => format!("{name}T00:00:00"),
        };
        let start = chrono::NaiveDateTime::parse_from_str(&padded, "%Y-%m-%dT%H:%M:%S").ok()?;
        let start_us = start.and_utc().timestamp_micros();
        let window = self.window_of(start_us);
        (window.start_us == start_us).then_some(window)
    }
}

fn fixed(at_us: Micros, width_us: i64) -> BatchWindow {
    let start_us = at_us.div_euclid(width_us).saturating_mul(width_us);
    BatchWindow { start_us, end_us: start_us.saturating_add(width_us) }
}

fn calendar(at_us: Micros, months: u32) -> BatchWindow {
    let at = instant(at_us);
    let month = if months == 12 { 1 } else { at.month() };
    let start = NaiveDate::from_ymd_opt(at.year(), month, 1).unwrap_or(NaiveDate::MIN);
    let end = start.checked_add_months(Months::new(months)).unwrap_or(NaiveDate::MAX);
    BatchWindow { start_us: midnight_us(start), end_us: midnight_us(end) }
}

fn midnight_us(date: NaiveDate) -> Micros {
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()
}

/// Instants outside of chrono's years (±262,000) are clamped: no event has one, contracts see to that.
fn instant(at_us: Micros) -> DateTime<Utc> {
    Utc.timestamp_micros(at_us).single().unwrap_or(if at_us < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp_micros()
    }

    #[test]
    fn names_are_starts_of_batches() {
        let at = us("2025-03-09T12:34:56.5Z");
        let name = |size: BatchSize| size.name(size.window_of(at));
        assert_eq!(name(BatchSize::Minute), "2025-03-09T12:34");
        assert_eq!(name(BatchSize::Hour), "2025-03-09T12");
        assert_eq!(name(BatchSize::Day), "2025-03-09");
        assert_eq!(name(BatchSize::Month), "2025-03-01");
        assert_eq!(name(BatchSize::Year), "2025-01-01");
        assert_eq!(BatchSize::Month.parse_name("2025-03-02"), None);
    }

    #[test]
    fn a_range_that_ends_at_a_start_does_not_touch_the_next_batch() {
        let days: Vec<_> = BatchSize::Day
            .windows(us("2025-03-08T23:59:59Z"), us("2025-03-10T00:00:00Z"))
            .map(|window| BatchSize::Day.name(window))
            .collect();
        assert_eq!(days, ["2025-03-08", "2025-03-09"]);
        assert_eq!(BatchSize::Day.windows(5, 5).count(), 0);
    }

    proptest! {
        /// Every instant lies in its batch, the batch's name leads back to it, and batches leave no gap.
        #[test]
        fn batches_tile_time(at in -60_000_000_000_000_000_i64..60_000_000_000_000_000, which in 0..5_usize) {
            use BatchSize::{Day, Hour, Minute, Month, Year};
            let size = [Minute, Hour, Day, Month, Year][which];
            let window = size.window_of(at);
            prop_assert!(window.start_us <= at && at < window.end_us);
            prop_assert_eq!(size.parse_name(&size.name(window)), Some(window));
            prop_assert_eq!(size.window_of(window.end_us).start_us, window.end_us);
        }
    }
}
