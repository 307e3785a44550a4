//! The books: every offset has exactly one outcome, and every commit says so.
//!
//! A [`Standing`] is what the newest commit of a raw table says about all its partitions. It is read from the table's log at
//! start, moved forward by every commit, ours or another process's, and written whole into the next one. Because a commit is
//! a compare-and-swap on the version that the standing was taken from, no two processes can both count from the same one.

use std::collections::BTreeMap;

use tidemill_lake::metadata::{Act, FileBooks, IngestNote, OtherTotals, PartitionBooks, PartitionTotals};
use tidemill_lake::{LogCommit, Table};
use tidemill_project::clock::Micros;
use tidemill_project::{SourceName, TopicPartition};

use crate::error::Cause;
use crate::{Error, Result};

/// W needs no further commits once it lies this far behind the newest event: every window that any model has is closed by
/// then. The longest is the context of a night (14 h either way) with grace and due times, far below.
const WATERMARK_HORIZON_US: Micros = 4 * 24 * 3600 * 1_000_000;
/// The least advance of W that is worth a commit of its own.
const WATERMARK_STEP_US: Micros = 1_000_000;
/// The greatest advance of W that is withheld while a source idles: a minute.
const WATERMARK_MAX_STEP_US: Micros = 60_000_000;

/// Where all partitions of a source stand, as its raw table's newest commit tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionTotals>,
    pub(crate) files: OtherTotals,
    pub(crate) replays: OtherTotals,
    /// W as recorded; never goes back (X12).
    pub(crate) watermark_us: Option<Micros>,
}

impl Standing {
    /// Reads the standing from the newest commit of ingest.
    pub(crate) async fn load(table: &Table) -> Result<Self, tidemill_lake::Error> {
        let newest = table.last_note(|note| matches!(note.act, Act::Ingest(_))).await?;
        let mut standing = Self::default();
        if let Some((_, note)) = newest
            && let Act::Ingest(note) = note.act
        {
            standing.take(&note);
        }
        Ok(standing)
    }

    /// Moves over commits, oldest first.
    pub(crate) fn absorb(&mut self, commits: &[LogCommit]) {
        for commit in commits {
            if let Some(Act::Ingest(note)) = commit.note.as_ref().map(|note| &note.act) {
                self.take(note);
            }
        }
    }

    fn take(&mut self, note: &IngestNote) {
        self.partitions = note
            .totals
            .iter()
            .map(|totals| (TopicPartition::new(totals.topic.clone(), totals.partition), totals.clone()))
            .collect();
        self.files = note.file_totals;
        self.replays = note.replay_totals;
        self.watermark_us = note.watermark_us.max(self.watermark_us);
    }

    /// Adds one commit's books; `files` by their sum.
    pub(crate) fn add(&mut self, partitions: &[PartitionBooks], files: OtherTotals, replays: OtherTotals) {
        for books in partitions {
            let of = TopicPartition::new(books.topic.clone(), books.partition);
            let totals = self.partitions.entry(of).or_insert_with(|| PartitionTotals {
                topic: books.topic.clone(),
                partition: books.partition,
                from: books.from,
                ..PartitionTotals::default()
            });
            if totals.offsets == 0 {
                totals.from = books.from;
            }
            totals.to = books.to;
            if books.last.is_some() || books.restarted_from.is_some() {
                totals.last.clone_from(&books.last);
            }
            totals.offsets += u64::try_from(books.to - books.from).unwrap_or_default();
            totals.landed += books.landed;
            totals.duplicates += books.duplicates;
            totals.quarantined += books.quarantined;
            totals.tombstones += books.tombstones;
            totals.skipped += books.skipped;
            totals.max_event_at_us = totals.max_event_at_us.max(books.max_event_at_us);
            totals.drained_at_us = totals.drained_at_us.max(books.drained_at_us);
        }
        add_others(&mut self.files, files);
        add_others(&mut self.replays, replays);
    }

    /// Notes that a partition was seen fully read. One that the lake has never heard of comes into the books with nothing.
    pub(crate) fn drain(&mut self, partition: &TopicPartition, next: i64, at_us: Micros) {
        let totals = self.partitions.entry(partition.clone()).or_insert_with(|| PartitionTotals {
            topic: partition.topic.0.clone(),
            partition: partition.partition,
            from: next,
            to: next,
            ..PartitionTotals::default()
        });
        totals.drained_at_us = totals.drained_at_us.max(Some(at_us));
    }

    /// W (X12): the least watermark over all partitions that exist, never beyond the clock, never back. `None` as long as a
    /// partition has neither landed an event nor been seen fully read.
    pub(crate) fn advance_watermark<'a>(
        &mut self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
        clock_us: Micros,
    ) {
        let mut least = Some(clock_us);
        for partition in partitions {
            let of = self.partitions.get(partition).and_then(PartitionTotals::watermark_us);
            least = least.zip(of).map(|(least, of)| least.min(of));
        }
        self.watermark_us = self.watermark_us.max(least);
    }

    /// Newest event that ever landed.
    pub(crate) fn newest_event_at_us(&self) -> Option<Micros> {
        let of_partitions = self.partitions.values().filter_map(|totals| totals.max_event_at_us).max();
        of_partitions.max(self.files.max_event_at_us).max(self.replays.max_event_at_us)
    }

    /// Whether W has moved so far beyond `recorded` that a commit without rows is due: windows that close by time alone
    /// must not wait for the next event. The longer a source idles the coarser the steps, from a second to a minute, and
    /// some days behind the newest event they end: a source that has dried up must not grow its log for ever.
    pub(crate) fn is_watermark_due(&self, recorded: Option<Micros>, is_last: bool) -> bool {
        let (Some(now), Some(newest)) = (self.watermark_us, self.newest_event_at_us()) else { return false };
        let Some(recorded) = recorded else { return true };
        let step = if is_last {
            WATERMARK_STEP_US
        } else {
            ((now - newest) / 600).clamp(WATERMARK_STEP_US, WATERMARK_MAX_STEP_US)
        };
        now - recorded >= step && recorded < newest.saturating_add(WATERMARK_HORIZON_US)
    }

    /// The standing as a note carries it.
    pub(crate) fn totals(&self) -> Vec<PartitionTotals> {
        self.partitions.values().cloned().collect()
    }
}

fn add_others(totals: &mut OtherTotals, more: OtherTotals) {
    totals.records += more.records;
    totals.landed += more.landed;
    totals.duplicates += more.duplicates;
    totals.quarantined += more.quarantined;
    totals.max_event_at_us = totals.max_event_at_us.max(more.max_event_at_us);
}

/// Sums the books of a commit's files.
pub(crate) fn sum_files(files: &[FileBooks], max_event_at_us: Option<Micros>) -> OtherTotals {
    let mut sum = OtherTotals { max_event_at_us, ..OtherTotals::default() };
    for books in files {
        sum.records += u64::try_from(books.to - books.from).unwrap_or_default();
        sum.landed += books.landed;
        sum.duplicates += books.duplicates;
        sum.quarantined += books.quarantined;
    }
    sum
}

/// Rule 4 before every commit: each offset of every span has exactly one outcome (X16).
///
/// # Errors
/// Of kind `Rejected`, naming the first span that does not add up.
pub(crate) fn assert_balanced(
    name: &SourceName,
    partitions: &[PartitionBooks],
    files: &[FileBooks],
) -> Result<(), Error> {
    let unbalanced = |difference| Error::from(Cause::Books { source_name: name.clone(), difference });
    if let Some(books) = partitions.iter().find(|books| !books.balances()) {
        return Err(unbalanced(format!(
            "partition=`{}/{}`, from=`{}`, to=`{}`, landed=`{}`, duplicates=`{}`, quarantined=`{}`, tombstones=`{}`, \
             skipped=`{}`",
            books.topic,
            books.partition,
            books.from,
            books.to,
            books.landed,
            books.duplicates,
            books.quarantined,
            books.tombstones,
            books.skipped
        )));
    }
    if let Some(books) = files.iter().find(|books| !file_balances(books)) {
        return Err(unbalanced(format!(
            "path=`{}`, from=`{}`, to=`{}`, landed=`{}`, duplicates=`{}`, quarantined=`{}`",
            books.path, books.from, books.to, books.landed, books.duplicates, books.quarantined
        )));
    }
    Ok(())
}

/// A file has no offsets without a record.
pub(crate) fn file_balances(books: &FileBooks) -> bool {
    i64::try_from(books.landed + books.duplicates + books.quarantined).is_ok_and(|sum| books.to - books.from == sum)
}

/// The `txn` application of one Kafka partition.
pub(crate) fn kafka_app_id(name: &SourceName, partition: &TopicPartition) -> String {
    format!("kafka/{name}/{partition}")
}

/// The `txn` application of one file, by the hash of its content.
pub(crate) fn file_app_id(name: &SourceName, content: &str) -> String {
    format!("file/{name}/{content}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(topic: &str, partition: i32, outcomes: [u64; 5], span: (i64, i64)) -> PartitionBooks {
        let [landed, duplicates, quarantined, tombstones, skipped] = outcomes;
        PartitionBooks {
            topic: topic.to_owned(),
            partition,
            from: span.0,
            to: span.1,
            landed,
            duplicates,
            quarantined,
            tombstones,
            skipped,
            ..PartitionBooks::default()
        }
    }

    /// GX6: 13 offsets with three markers, a null value and one malformed record among them.
    #[test]
    fn gx6_books_balance() {
        let name = SourceName::new("clicks", "events");
        let good = books("clicks", 0, [6, 2, 1, 1, 3], (100, 113));
        assert!(assert_balanced(&name, std::slice::from_ref(&good), &[]).is_ok());
        let bad = PartitionBooks { landed: 5, ..good };
        let error = assert_balanced(&name, &[bad], &[]).unwrap_err();
        assert!(error.to_string().starts_with("books do not balance, source=`clicks.events`: partition=`clicks/0`"));
    }

    /// Minutes and seconds after 12:00 on some day.
    fn at(minute: i64, second: i64) -> Micros {
        1_741_521_600_000_000 + (minute * 60 + second) * 1_000_000
    }

    /// GX4: two partitions, newest landed 12:00:50 and 12:03:00.
    #[test]
    fn gx4_watermark() {
        let (p0, p1) = (TopicPartition::new("clicks", 0), TopicPartition::new("clicks", 1));
        let partitions = [p0.clone(), p1.clone()];
        let mut standing = Standing::default();
        for (of, newest) in [(&p0, at(0, 50)), (&p1, at(3, 0))] {
            let landed = books(&of.topic.0, of.partition, [1, 0, 0, 0, 0], (0, 1));
            standing.add(
                &[PartitionBooks { max_event_at_us: Some(newest), ..landed }],
                OtherTotals::default(),
                OtherTotals::default(),
            );
        }
        let watermark = |mut standing: Standing, clock| {
            standing.advance_watermark(&partitions, clock);
            standing.watermark_us
        };
        assert_eq!(watermark(standing.clone(), at(3, 30)), Some(at(0, 50)));

        standing.drain(&p0, 1, at(3, 30));
        assert_eq!(watermark(standing.clone(), at(3, 30)), Some(at(3, 0)));
        assert_eq!(watermark(standing.clone(), at(2, 0)), Some(at(2, 0)), "never beyond --as-of");

        standing.drain(&p0, 1, at(6, 59));
        standing.drain(&p1, 1, at(7, 0));
        assert_eq!(watermark(standing.clone(), at(7, 0)), Some(at(6, 59)));

        standing.watermark_us = Some(at(6, 59));
        assert_eq!(watermark(standing, at(1, 0)), Some(at(6, 59)), "never back");
    }

    #[test]
    fn a_partition_that_was_never_seen_holds_the_watermark() {
        let mut standing = Standing::default();
        let (p0, p1) = (TopicPartition::new("sleep", 0), TopicPartition::new("sleep", 1));
        standing.drain(&p0, 0, at(1, 0));
        standing.advance_watermark([&p0, &p1], at(2, 0));
        assert_eq!(standing.watermark_us, None);
        standing.drain(&p1, 0, at(1, 30));
        standing.advance_watermark([&p0, &p1], at(2, 0));
        assert_eq!(standing.watermark_us, Some(at(1, 0)));
    }

    #[test]
    fn an_idle_source_records_its_watermark_ever_more_rarely_and_then_no_more() {
        let p0 = TopicPartition::new("sleep", 0);
        let mut standing = Standing::default();
        let landed = books("sleep", 0, [1, 0, 0, 0, 0], (0, 1));
        standing.add(
            &[PartitionBooks { max_event_at_us: Some(at(0, 0)), ..landed }],
            OtherTotals::default(),
            OtherTotals::default(),
        );
        let due = |now: Micros, recorded: Micros| {
            let mut standing = standing.clone();
            standing.drain(&p0, 1, now);
            standing.advance_watermark([&p0], now);
            standing.is_watermark_due(Some(recorded), false)
        };
        assert!(due(at(0, 1), at(0, 0)));
        assert!(!due(at(0, 1) - 1, at(0, 0)));
        assert!(!due(at(240, 20), at(240, 0)), "after four hours a step is 24 s");
        assert!(due(at(240, 30), at(240, 0)));
        let four_days = at(4 * 24 * 60, 0);
        assert!(due(four_days + 60_000_000, four_days - 1));
        assert!(!due(four_days + 120_000_000, four_days));
    }
}
