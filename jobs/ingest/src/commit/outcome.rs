//! What became of a batch: its books, and who is told.

use std::collections::{BTreeMap, HashMap};

use tidemill_lake::maintain::{self, MaintainOptions};
use tidemill_lake::metadata::{FileBooks, PartitionBooks};
use tidemill_project::TableVersion;
use tidemill_project::clock::Micros;

use super::{Books, COMMITS_PER_COMPACTION, COMPACTION_BUDGET, Committer, Plan, Span};
use crate::batch::{Batch, OriginKey};
use crate::dedup::Landing;
use crate::request::BatchSummary;
use crate::source::Slot;

impl Committer {
    /// Tells the log, the observer and the report.
    pub(super) fn tell(&mut self, batch: &Batch, plan: Plan, version: TableVersion) {
        let mut quarantined: BTreeMap<&'static str, u64> = BTreeMap::new();
        for refused in batch.refused.iter().filter(|refused| plan.is_alive[refused.origin as usize]) {
            *quarantined.entry(refused.rejection.class.as_str()).or_default() += 1;
        }
        for (class, count) in &quarantined {
            *self.report.quarantined.entry(class).or_default() += count;
        }
        self.report.commits += 1;
        self.report.watermark_us = self.standing.watermark_us;
        for books in &plan.books.partitions {
            merge_partition(&mut self.report.partitions, books);
        }
        for books in &plan.books.files {
            merge_file(&mut self.report.files, books);
        }
        let summary = BatchSummary {
            source: self.name.clone(),
            version,
            partitions: plan.books.partitions,
            files: plan.books.files,
            quarantined,
            bytes: batch.num_bytes as u64,
            elapsed: batch.opened.elapsed(),
            event_at_us: plan.books.event_at_us,
            watermark_us: self.standing.watermark_us,
        };
        for books in &summary.partitions {
            tracing::info!(
                source = %self.name,
                topic = books.topic,
                partition = books.partition,
                from = books.from,
                to = books.to,
                landed = books.landed,
                duplicates = books.duplicates,
                quarantined = books.quarantined,
                %version,
                "offsets committed"
            );
        }
        tracing::info!(
            source = %self.name,
            %version,
            landed = plan.landing.iter().count(),
            records = batch.origin_of.len(),
            quarantined = summary.quarantined.values().sum::<u64>(),
            elapsed_ms = u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
            "batch committed"
        );
        self.run.observer.batch_committed(&summary);
    }

    /// Keeps the table quick to open and its files few: a checkpoint when one is due, and now and then a compaction beside
    /// the commits, which it cannot harm (rule 3). A failure costs speed, never rows, so it is only told.
    pub(super) async fn care_for_table(&mut self) {
        if let Err(error) = maintain::maybe_checkpoint(&self.table).await {
            tracing::warn!(source = %self.name, error = &error as &dyn std::error::Error, "checkpoint failed");
        }
        let is_busy = self.care.as_ref().is_some_and(|care| !care.is_finished());
        if is_busy || !self.report.commits.is_multiple_of(COMMITS_PER_COMPACTION) {
            return;
        }
        let (lake, id, name) = (self.table.lake().clone(), self.table.id().clone(), self.name.clone());
        let options = MaintainOptions::light(self.run.run_id.clone(), COMPACTION_BUDGET);
        self.care = Some(tokio::spawn(async move {
            if let Err(error) = maintain::maintain(&lake, &id, &options).await {
                tracing::warn!(source = %name, error = &error as &dyn std::error::Error, "compaction failed");
            }
        }));
    }
}

/// Counts the outcomes of every origin that is alive.
pub(super) fn keep_books(batch: &Batch, is_alive: &[bool], landing: &Landing, spans: &HashMap<Slot, Span>) -> Books {
    #[derive(Clone, Default)]
    struct Count {
        rows: u64,
        landed: u64,
        late: u64,
        refused: u64,
        max_event_at_us: Option<Micros>,
    }
    let mut counts = vec![Count::default(); batch.origins.len()];
    let mut lands = vec![false; batch.decoded.rows.len()];
    for row in landing.iter() {
        lands[row as usize] = true;
    }
    let mut books = Books::default();
    for (row, lands) in batch.decoded.rows.iter().zip(lands) {
        let count = &mut counts[batch.origin_of[row.record] as usize];
        count.rows += 1;
        if lands {
            count.landed += 1;
            count.late += u64::from(row.is_late);
            count.max_event_at_us = count.max_event_at_us.max(Some(row.event_at_us));
            let (least, greatest) = books.event_at_us.unwrap_or((row.event_at_us, row.event_at_us));
            books.event_at_us = Some((least.min(row.event_at_us), greatest.max(row.event_at_us)));
        }
    }
    for refused in &batch.refused {
        counts[refused.origin as usize].refused += 1;
    }
    let alive = batch.origins.iter().zip(counts).zip(is_alive).filter(|(_, is_alive)| **is_alive);
    for ((origin, count), _) in alive {
        // Rows that did not land are copies; that every record became a row or was refused is what the identity proves.
        let duplicates = count.rows - count.landed;
        match &origin.key {
            OriginKey::Partition { slot, partition } => books.partitions.push(PartitionBooks {
                topic: partition.topic.0.clone(),
                partition: partition.partition,
                from: origin.from,
                to: origin.to,
                landed: count.landed,
                duplicates,
                quarantined: count.refused,
                tombstones: origin.tombstones,
                skipped: origin.skipped,
                gap: origin.gap,
                restarted_from: spans.get(slot).and_then(|span| span.restarted_from),
                late: count.late,
                max_event_at_us: count.max_event_at_us,
                drained_at_us: None,
                last: origin.last.clone(),
            }),
            OriginKey::File { path, content, is_complete, .. } => {
                books.files_max_event_at_us = books.files_max_event_at_us.max(count.max_event_at_us);
                books.files.push(FileBooks {
                    path: path.clone(),
                    content: content.clone(),
                    from: origin.from,
                    to: origin.to,
                    complete: *is_complete,
                    landed: count.landed,
                    duplicates,
                    quarantined: count.refused,
                });
            }
            OriginKey::Replay => {
                // A record that is refused again stays where it is: it is neither taken in nor counted twice.
                books.replays.records += count.rows;
                books.replays.landed += count.landed;
                books.replays.duplicates += duplicates;
                books.replays.max_event_at_us = books.replays.max_event_at_us.max(count.max_event_at_us);
            }
        }
    }
    books.partitions.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    books
}

fn merge_partition(all: &mut Vec<PartitionBooks>, books: &PartitionBooks) {
    let at = all.binary_search_by(|known| (&known.topic, known.partition).cmp(&(&books.topic, books.partition)));
    match at {
        Err(at) => all.insert(at, books.clone()),
        Ok(at) => {
            let known = &mut all[at];
            known.to = books.to;
            known.landed += books.landed;
            known.duplicates += books.duplicates;
            known.quarantined += books.quarantined;
            known.tombstones += books.tombstones;
            known.skipped += books.skipped;
            known.gap += books.gap;
            known.late += books.late;
            known.max_event_at_us = known.max_event_at_us.max(books.max_event_at_us);
            known.last = books.last.clone().or(known.last.take());
        }
    }
}

fn merge_file(all: &mut Vec<FileBooks>, books: &FileBooks) {
    match all.iter_mut().find(|known| known.content == books.content) {
        None => all.push(books.clone()),
        Some(known) => {
            known.to = books.to;
            known.complete = books.complete;
            known.landed += books.landed;
            known.duplicates += books.duplicates;
            known.quarantined += books.quarantined;
        }
    }
}
