//! What happened to an input since a version, told by its log alone: no Parquet file is opened.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value as Json;
use tidemill_lake::metadata::{Act, CommitNote};
use tidemill_lake::{DataFile, LiveFileRef, LogCommit, Table};
use tidemill_project::TableVersion;

use super::range::{RangeSet, TimeRange};
use crate::project::BatchSize;

/// The partition column of stored microbatch models.
pub const BATCH_COLUMN: &str = "_batch";

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

/// How to learn from a file's log entry which event times it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeLayout {
    /// The column of event time, a timestamp or a date.
    pub column: String,
    /// Width of `_batch`, for microbatch models.
    pub batch_size: Option<BatchSize>,
    /// Whether `event_date` and `event_hour` cut the same event time: so in raw tables of a contract.
    pub dated: bool,
}

/// The event times of something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    /// These.
    Ranges(RangeSet),
    /// The log does not say: any.
    All,
}

/// What happened to an input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum InputChange {
    /// No row changed.
    Unchanged,
    /// Rows came, went or changed.
    Changed {
        /// Where.
        touched: Touched,
        /// New files.
        added: Vec<DataFile>,
        /// Files that went away; what is not vacuumed yet can still be read.
        removed: Vec<DataFile>,
    },
    /// It is another table than the one that was read, or a build gave it other columns.
    Recreated,
    /// Log clean-up has removed a version that had not been looked at.
    VersionGone,
}

/// Tells what happened to `input` in `(from, its version]`.
///
/// `seen_id` is Delta's id of the table that was read then. Commits with `dataChange = false` are not changes.
pub(crate) async fn changes_since(
    input: &Table,
    from: TableVersion,
    seen_id: Option<&str>,
    layout: Option<&TimeLayout>,
) -> tidemill_lake::Result<InputChange> {
    if seen_id.is_some_and(|seen| seen != input.table_id()) || from > input.version() {
        return Ok(InputChange::Recreated);
    }
    if from == input.version() {
        return Ok(InputChange::Unchanged);
    }
    match input.commits(Some(from), input.version()).await {
        // A raw table that learns a column keeps its rows; a model that changes its columns has none in common with before.
        Ok(commits) if commits.iter().any(is_reshaped) => Ok(InputChange::Recreated),
        Ok(commits) => Ok(summarise(&commits, layout)),
        Err(error) if error.is_version_gone() => Ok(InputChange::VersionGone),
        Err(error) => Err(error),
    }
}

fn is_reshaped(commit: &LogCommit) -> bool {
    commit.changes_schema && commit.note.as_ref().is_some_and(|note| matches!(note.act, Act::Transform(_)))
}

fn summarise(commits: &[LogCommit], layout: Option<&TimeLayout>) -> InputChange {
    let changing: Vec<&LogCommit> = commits.iter().filter(|commit| commit.data_change).collect();
    let mut added: Vec<&DataFile> = changing.iter().flat_map(|commit| &commit.add).collect();
    let mut removed: Vec<&DataFile> = changing.iter().flat_map(|commit| &commit.remove).collect();
    // A file that came and went again was never seen.
    let came: HashSet<&str> = added.iter().map(|file| file.path.as_str()).collect();
    let went: HashSet<&str> = removed.iter().map(|file| file.path.as_str()).collect();
    added.retain(|file| !went.contains(file.path.as_str()));
    removed.retain(|file| !came.contains(file.path.as_str()));
    if added.is_empty() && removed.is_empty() {
        return InputChange::Unchanged;
    }
    let touched = match layout {
        Some(layout) => touched_in(&changing, layout),
        None => Touched::All,
    };
    let owned = |files: Vec<&DataFile>| files.into_iter().cloned().collect();
    InputChange::Changed { touched, added: owned(added), removed: owned(removed) }
}

/// The event times of rows that commits changed: as the commit tells them, else as the files that came and went do.
fn touched_in(commits: &[&LogCommit], layout: &TimeLayout) -> Touched {
    let mut ranges = Vec::new();
    for commit in commits {
        if let Some(CommitNote { act: Act::Transform(note), .. }) = &commit.note
            && let Some(told) = note.touched.as_ref().filter(|told| told.column == layout.column)
        {
            ranges.extend(told.ranges.iter().map(|(start_us, end_us)| TimeRange::new(*start_us, *end_us)));
            continue;
        }
        match touched_by(commit.add.iter().chain(&commit.remove), layout) {
            Touched::Ranges(held) => ranges.extend(held.ranges().iter().copied()),
            Touched::All => return Touched::All,
        }
    }
    Touched::Ranges(RangeSet::new(ranges))
}

/// The event times that some files hold.
pub(crate) fn touched_by<'a>(files: impl IntoIterator<Item = &'a DataFile>, layout: &TimeLayout) -> Touched {
    let mut ranges = Vec::new();
    for file in files {
        match event_times_of(file, layout) {
            FileTimes::None => {}
            FileTimes::Within(range) => ranges.push(range),
            FileTimes::Unknown => return Touched::All,
        }
    }
    Touched::Ranges(RangeSet::new(ranges))
}

enum FileTimes {
    /// No row has an event time.
    None,
    Within(TimeRange),
    Unknown,
}

/// Statistics are sharper than partition values, which hold for files whose statistics the log left out.
fn event_times_of(file: &DataFile, layout: &TimeLayout) -> FileTimes {
    if file.num_records == Some(0) {
        return FileTimes::None;
    }
    let stats = file.stats.get(&layout.column);
    let measured = stats.and_then(|stats| {
        let min = parse_stat(stats.min.as_ref()?)?;
        let max = parse_stat(stats.max.as_ref()?)?;
        Some(TimeRange::new(min.first_us, max.last_us.saturating_add(1)))
    });
    if let (None, Some(stats), Some(num_records)) = (measured, stats, file.num_records)
        && stats.null_count == Some(num_records)
    {
        return FileTimes::None;
    }
    let partition_value = |column: &str| file.partition_values.get(column)?.as_deref();
    match (measured, partition_range(partition_value, layout)) {
        (Some(measured), Some(partition)) => FileTimes::Within(measured.intersection(partition)),
        (Some(range), None) | (None, Some(range)) => FileTimes::Within(range),
        (None, None) => FileTimes::Unknown,
    }
}

/// Whether a live file may hold a row with an event time in one of `ranges`. Statistics are read only of files whose partition
/// leaves it open: a table has a file for every hour, and a batch asks for one of them.
pub(crate) fn may_hold(file: LiveFileRef<'_>, layout: &TimeLayout, ranges: &RangeSet) -> bool {
    if partition_range(|column| file.partition_value(column), layout).is_some_and(|range| !ranges.intersects(range)) {
        return false;
    }
    match event_times_of(file.as_data_file(), layout) {
        FileTimes::None => false,
        FileTimes::Within(range) => !range.is_empty() && ranges.intersects(range),
        FileTimes::Unknown => true,
    }
}

/// Whether a live file's partition alone says between which event times its rows lie.
pub(crate) fn is_placed(file: LiveFileRef<'_>, layout: &TimeLayout) -> bool {
    partition_range(|column| file.partition_value(column), layout).is_some()
}

fn partition_range<'a>(value: impl Fn(&str) -> Option<&'a str>, layout: &TimeLayout) -> Option<TimeRange> {
    if let Some(size) = layout.batch_size {
        let window = size.parse_name(value(BATCH_COLUMN)?)?;
        return Some(TimeRange::new(window.start_us, window.end_us));
    }
    if !layout.dated {
        return None;
    }
    let day_us = midnight_us(value("event_date")?)?;
    match value("event_hour").and_then(|hour| hour.parse::<i64>().ok()) {
        Some(hour) => Some(TimeRange::new(day_us + hour * HOUR_US, day_us + (hour + 1) * HOUR_US)),
        None => Some(TimeRange::new(day_us, day_us + DAY_US)),
    }
}

fn midnight_us(date: &str) -> Option<i64> {
    // Every file of a table is asked for its date, so the form that writers use is read without the general parser.
    let usual = match date.as_bytes() {
        [year @ .., b'-', m1, m2, b'-', d1, d2] if year.len() == 4 => number(year)
            .zip(number(&[*m1, *m2]))
            .zip(number(&[*d1, *d2]))
            .and_then(|((year, month), day)| NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)),
        _ => None,
    };
    let date = usual.or_else(|| NaiveDate::parse_from_str(date, "%Y-%m-%d").ok())?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

/// Digits and nothing else as a number.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

/// The instants that one statistic may stand for, both included.
struct StatInstants {
    first_us: i64,
    last_us: i64,
}

/// Delta writes instants as ISO 8601, many writers cut to milliseconds: such a text stands for its whole millisecond. A date
/// stands for its midnight.
fn parse_stat(value: &Json) -> Option<StatInstants> {
    let text = value.as_str()?;
    if let Some(at_us) = midnight_us(text) {
        return Some(StatInstants { first_us: at_us, last_us: at_us });
    }
    let at_us = DateTime::parse_from_rfc3339(text)
        .map(|at| at.timestamp_micros())
        .or_else(|_| {
            NaiveDateTime::parse_from_str(&text.replace(' ', "T"), "%Y-%m-%dT%H:%M:%S%.f")
                .map(|at| at.and_utc().timestamp_micros())
        })
        .ok()?;
    let is_cut = at_us.rem_euclid(1000) == 0;
    Some(StatInstants { first_us: at_us, last_us: if is_cut { at_us + 999 } else { at_us } })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use tidemill_lake::ColumnStats;

    use super::*;

    fn file(partition: &[(&str, &str)], stats: Option<(&str, &str)>) -> DataFile {
        DataFile {
            path: "part-0.parquet".to_owned(),
            size: 1,
            modified_ms: 0,
            partition_values: partition.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned()))).collect(),
            num_records: Some(3),
            stats: stats
                .map(|(min, max)| {
                    let stats = ColumnStats { min: Some(json!(min)), max: Some(json!(max)), null_count: Some(0) };
                    BTreeMap::from([("event_at".to_owned(), stats)])
                })
                .unwrap_or_default(),
            tags: BTreeMap::new(),
        }
    }

    fn us(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).expect("a test writes its times well").timestamp_micros()
    }

    fn layout(batch_size: Option<BatchSize>, dated: bool) -> TimeLayout {
        TimeLayout { column: "event_at".to_owned(), batch_size, dated }
    }

    #[test]
    fn statistics_that_were_cut_to_milliseconds_still_cover_their_rows() {
        let touched = touched_by(
            [&file(&[], Some(("2025-03-09T12:00:00.000Z", "2025-03-09T12:59:59.999Z")))],
            &layout(None, false),
        );
        let expected = TimeRange::new(us("2025-03-09T12:00:00Z"), us("2025-03-09T13:00:00Z"));
        assert_eq!(touched, Touched::Ranges(RangeSet::new([expected])));
    }

    #[test]
    fn a_file_without_statistics_is_placed_by_its_partition() {
        let hour = file(&[("event_date", "2025-03-09"), ("event_hour", "7")], None);
        let expected = TimeRange::new(us("2025-03-09T07:00:00Z"), us("2025-03-09T08:00:00Z"));
        assert_eq!(touched_by([&hour], &layout(None, true)), Touched::Ranges(RangeSet::new([expected])));
        let month = file(&[("_batch", "2025-03-01")], None);
        let expected = TimeRange::new(us("2025-03-01T00:00:00Z"), us("2025-04-01T00:00:00Z"));
        assert_eq!(
            touched_by([&month], &layout(Some(BatchSize::Month), false)),
            Touched::Ranges(RangeSet::new([expected]))
        );
    }

    #[test]
    fn a_file_that_says_nothing_may_hold_anything() {
        assert_eq!(touched_by([&file(&[], None)], &layout(None, false)), Touched::All);
    }
}
