//! Batches: the tiles of event time that a microbatch model is built in.

use chrono::{DateTime, Datelike, Duration, Months, NaiveDate, NaiveDateTime, TimeZone, Timelike, Utc};
use serde::{Serialize, Serializer};

use super::range::TimeRange;
use crate::project::BatchSize;

/// One tile of a model's event time, aligned to UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Batch {
    /// `[start, end)`.
    pub range: TimeRange,
    /// The width that cut it.
    size: BatchWidth,
}

/// The width of a batch with an order, so that a [`Batch`] can be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BatchWidth {
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

impl From<BatchSize> for BatchWidth {
    fn from(size: BatchSize) -> Self {
        match size {
            BatchSize::Minute => Self::Minute,
            BatchSize::Hour => Self::Hour,
            BatchSize::Day => Self::Day,
            BatchSize::Month => Self::Month,
            BatchSize::Year => Self::Year,
        }
    }
}

impl Batch {
    /// The batch that holds an instant. `None` outside the years that the calendar knows.
    #[must_use]
    pub fn holding(size: BatchSize, at_us: i64) -> Option<Self> {
        Self::cut(size.into(), DateTime::from_timestamp_micros(at_us)?.naive_utc())
    }

    fn cut(width: BatchWidth, at: NaiveDateTime) -> Option<Self> {
        let day = at.date().and_hms_opt(0, 0, 0)?;
        let (start, end) = match width {
            BatchWidth::Minute => {
                let start = day + Duration::hours(at.hour().into()) + Duration::minutes(at.minute().into());
                (start, start.checked_add_signed(Duration::minutes(1))?)
            }
            BatchWidth::Hour => {
                let start = day + Duration::hours(at.hour().into());
                (start, start.checked_add_signed(Duration::hours(1))?)
            }
            BatchWidth::Day => (day, day.checked_add_signed(Duration::days(1))?),
            BatchWidth::Month => {
                let start = NaiveDate::from_ymd_opt(at.year(), at.month(), 1)?.and_hms_opt(0, 0, 0)?;
                (start, start.checked_add_months(Months::new(1))?)
            }
            BatchWidth::Year => {
                let start = NaiveDate::from_ymd_opt(at.year(), 1, 1)?.and_hms_opt(0, 0, 0)?;
                (start, start.checked_add_months(Months::new(12))?)
            }
        };
        let range = TimeRange::new(Utc.from_utc_datetime(&start).timestamp_micros(), Utc.from_utc_datetime(&end).timestamp_micros());
        Some(Self { range, size: width })
    }

    /// The batch that a label names; `None` when the text is no label of that width.
    #[must_use]
    pub fn from_label(size: BatchSize, label: &str) -> Option<Self> {
        let text = match label.len() {
            10 => format!("{label}T00:00"),
            13 => format!("{label}:00"),
            _ => label.to_owned(),
        };
        let at = NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M").ok()?;
        let batch = Self::cut(size.into(), at)?;
        (batch.label() == label).then_some(batch)
    }

    /// The start as text, as the partition column `_batch` has it: `2025-03-09`, `2025-03-09T12`, `2025-03-09T12:34`.
    #[must_use]
    pub fn label(&self) -> String {
        let start = DateTime::from_timestamp_micros(self.range.start_us).expect("a batch was cut from a calendar instant");
        let format = match self.size {
            BatchWidth::Minute => "%Y-%m-%dT%H:%M",
            BatchWidth::Hour => "%Y-%m-%dT%H",
            BatchWidth::Day | BatchWidth::Month | BatchWidth::Year => "%Y-%m-%d",
        };
        start.format(format).to_string()
    }

    /// The batches that share an instant with `range`, ascending. Ask for bounded ranges only: it counts them all out.
    pub fn covering(size: BatchSize, range: TimeRange) -> impl Iterator<Item = Self> {
        let first = if range.is_empty() { None } else { Self::holding(size, range.start_us) };
        std::iter::successors(first, move |batch| Self::holding(size, batch.range.end_us))
            .take_while(move |batch| batch.range.start_us < range.end_us)
    }
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).expect("a test writes its times well").timestamp_micros()
    }

    #[test]
    fn labels_lead_back_to_their_batch() {
        let at = us("2024-02-29T23:59:59.999999Z");
        for (size, label) in [
            (BatchSize::Minute, "2024-02-29T23:59"),
            (BatchSize::Hour, "2024-02-29T23"),
            (BatchSize::Day, "2024-02-29"),
            (BatchSize::Month, "2024-02-01"),
            (BatchSize::Year, "2024-01-01"),
        ] {
            let batch = Batch::holding(size, at).expect("a calendar instant");
            assert_eq!(batch.label(), label);
            assert!(batch.range.start_us <= at && at < batch.range.end_us);
            assert_eq!(Batch::from_label(size, label), Some(batch));
        }
        assert_eq!(Batch::from_label(BatchSize::Month, "2024-02-29"), None);
        assert_eq!(Batch::from_label(BatchSize::Hour, "2024-02-29"), None);
    }

    #[test]
    fn covering_tiles_a_range_without_gap_and_without_its_end() {
        let range = TimeRange::new(us("2023-12-30T12:00:00Z"), us("2024-01-02T00:00:00Z"));
        let labels: Vec<String> = Batch::covering(BatchSize::Day, range).map(|batch| batch.label()).collect();
        assert_eq!(labels, ["2023-12-30", "2023-12-31", "2024-01-01"]);
    }
}
