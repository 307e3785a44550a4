//! The parts of a commit: data files, quarantine entries, progress, note.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use tidemill_lake::metadata::{Act, CommitNote, IngestNote};
use tidemill_lake::{DataFile, PartitionedBatch};
use tidemill_project::clock::Micros;

use super::{Books, Committer};
use crate::Result;
use crate::batch::{Batch, Origin, OriginKey, Refused};
use crate::books::{Standing, file_app_id, kafka_app_id, sum_files};
use crate::decode::Decoded;
use crate::dedup::Landing;
use crate::error::Cause;
use crate::quarantine::store::{Entry, Lot, Place};

/// Data files of one event partition, kept for another try.
pub(super) struct Written {
    rows: Vec<u32>,
    files: Vec<DataFile>,
}

impl Committer {
    /// Writes the landing rows, one file or more per event partition, and reuses what an earlier try has written.
    pub(super) async fn write(
        &mut self,
        decoded: &Decoded,
        landing: &Landing,
        written: &mut HashMap<usize, Written>,
    ) -> Result<Vec<DataFile>> {
        let now_us = self.run.clock.now_us();
        let mut fresh = Vec::new();
        for (number, rows) in landing.rows.iter().enumerate() {
            if rows.is_empty() || written.get(&number).is_some_and(|known| known.rows == *rows) {
                continue;
            }
            let batch = select(&decoded.batch, rows).map_err(|source| self.shape_error(source))?;
            let batch = Decoded::stamp(&batch, now_us)
                .map_err(|source| Cause::Contract { source_name: self.name.clone(), source })?;
            let partition_values = decoded.partitions[number].values();
            fresh.push((number, PartitionedBatch { partition_values, batches: vec![batch], tags: BTreeMap::new() }));
        }
        if !fresh.is_empty() {
            let batches: Vec<PartitionedBatch> = fresh.iter().map(|(_, batch)| batch.clone()).collect();
            let write = || self.table.write_files(batches.clone());
            let files = self.run.retry.insist(&self.name, "write data files", write).await?;
            for (number, batch) in fresh {
                let of_partition = |file: &&DataFile| file.partition_values == batch.partition_values;
                let files = files.iter().filter(of_partition).cloned().collect();
                written.insert(number, Written { rows: landing.rows[number].clone(), files });
            }
        }
        let landing_partitions = landing.rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        Ok(landing_partitions
            .filter_map(|(number, _)| written.get(&number))
            .flat_map(|known| known.files.clone())
            .collect())
    }

    /// The batch's bad records, by origin. Those of a replay are in quarantine already.
    pub(super) fn lots(&self, batch: &Batch, is_alive: &[bool]) -> Vec<Lot> {
        let quarantined_at_us = self.run.clock.now_us();
        let mut lots = Vec::new();
        for (number, origin) in batch.origins.iter().enumerate().filter(|(number, _)| is_alive[*number]) {
            let (app_id, restarted) = match &origin.key {
                OriginKey::Partition { slot, partition } => {
                    let restarted = self.spans.get(slot).is_some_and(|span| span.restarted_from.is_some());
                    (kafka_app_id(&self.name, partition), restarted)
                }
                OriginKey::File { content, .. } => (file_app_id(&self.name, content), false),
                OriginKey::Replay => continue,
            };
            let ours = batch.refused.iter().filter(|refused| refused.origin as usize == number);
            let entries = ours.map(|refused| self.entry(refused, &origin.key, quarantined_at_us)).collect();
            lots.push(Lot { app_id, from: origin.from, to: origin.to, restarted, entries });
        }
        lots
    }

    pub(super) fn entry(&self, refused: &Refused, key: &OriginKey, quarantined_at_us: Micros) -> Entry {
        let number = refused.record.offset;
        let place = match key {
            OriginKey::Partition { partition, .. } => {
                Place::Kafka { topic: partition.topic.0.clone(), partition: partition.partition, offset: number }
            }
            OriginKey::File { path, content, .. } => {
                Place::File { path: path.clone(), content: content.clone(), record: number }
            }
            OriginKey::Replay => Place::File { path: String::new(), content: String::new(), record: number },
        };
        Entry {
            source: self.name.to_string(),
            place,
            class: refused.rejection.class.as_str().to_owned(),
            message: refused.rejection.message.clone(),
            payload: refused.record.value.clone(),
            key: refused.record.key.clone(),
            headers: refused.record.headers.clone(),
            timestamp_us: refused.record.timestamp_us,
            quarantined_at_us,
        }
    }

    pub(super) fn txns(&self, origins: &[Origin], is_alive: &[bool]) -> BTreeMap<String, i64> {
        let alive = origins.iter().zip(is_alive).filter(|(_, is_alive)| **is_alive);
        alive
            .filter_map(|(origin, _)| match &origin.key {
                OriginKey::Partition { partition, .. } => Some((kafka_app_id(&self.name, partition), origin.to)),
                OriginKey::File { content, .. } => Some((file_app_id(&self.name, content), origin.to)),
                OriginKey::Replay => None,
            })
            .collect()
    }

    /// The standing after a commit with these books, and the note that says so.
    pub(super) fn note(&self, books: &Books, topic_disagreements: usize) -> (Standing, CommitNote) {
        let mut standing = self.standing.clone();
        standing.add(&books.partitions, sum_files(&books.files, books.files_max_event_at_us), books.replays);
        for (partition, (next, at_us)) in &self.drained {
            standing.drain(partition, *next, *at_us);
        }
        standing.advance_watermark(&self.partitions, self.run.clock_us());
        let mut warnings = BTreeMap::new();
        if topic_disagreements > 0 {
            warnings.insert("topic_disagreements".to_owned(), topic_disagreements as u64);
        }
        let act = Act::Ingest(IngestNote {
            source: self.name.to_string(),
            partitions: books.partitions.clone(),
            files: books.files.clone(),
            watermark_us: standing.watermark_us,
            warnings,
            totals: standing.totals(),
            file_totals: standing.files,
            replay_totals: standing.replays,
        });
        let note = CommitNote { commit_id: self.run.clock.new_id(), run_id: self.run.run_id.clone(), act };
        (standing, note)
    }
}

/// Some rows of a batch; the batch itself when it is all of them.
fn select(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch, arrow::error::ArrowError> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    take_record_batch(batch, &UInt32Array::from(rows.to_vec()))
}
