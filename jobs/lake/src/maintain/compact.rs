//! Many small files of a partition become one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt as _;
use tidemill_project::clock::Stopwatch;
use tokio::sync::mpsc;

use super::{MaintainOptions, MaintainReport};
use crate::actions::PartitionValues;
use crate::error::Cause;
use crate::live::LiveFile;
use crate::metadata::{Act, CommitNote};
use crate::write::FileEncoder;
use crate::{CommitOutcome, CommitRequest, DataFile, LEAF_TAG, Result, Table};

/// Lost races after which a compaction is left to the next round.
const MAX_RACES: usize = 50;
/// Batches on their way from the reader to the encoder.
const BATCHES_BETWEEN: usize = 4;

/// Compacts partitions, the one with most to win first, until the budget is spent.
pub(crate) async fn run(
    table: &mut Table,
    options: &MaintainOptions,
    stopwatch: Stopwatch,
    report: &mut MaintainReport,
) -> Result<()> {
    for files in plan(table) {
        let bytes: u64 = files.iter().map(|file| file.size).sum();
        let is_affordable = report.bytes_rewritten.saturating_add(bytes) <= options.max_rewrite_bytes;
        if !is_affordable || stopwatch.elapsed() >= options.max_duration {
            report.is_budget_spent = true;
            continue;
        }
        let removed = files.len();
        let added = if options.dry_run {
            let target_bytes = table.lake.maintenance().target_file_bytes.max(1);
            usize::try_from(bytes.div_ceil(target_bytes)).ok()
        } else {
            compact(table, files, &options.run_id).await?
        };
        let Some(added) = added else {
            report.compactions_dropped += 1;
            continue;
        };
        report.compacted_partitions += 1;
        report.files_removed += removed;
        report.files_added += added;
        report.bytes_rewritten += bytes;
    }
    Ok(())
}

/// The files to be compacted, partition by partition, the greatest number first.
fn plan(table: &Table) -> Vec<Vec<DataFile>> {
    let settings = table.lake.maintenance();
    let mut partitions = BTreeMap::<PartitionValues, Vec<&Arc<LiveFile>>>::new();
    let is_small = |file: &&Arc<LiveFile>| file.size < settings.target_file_bytes / 2;
    let is_leaf = |file: &&Arc<LiveFile>| file.has_tag(LEAF_TAG);
    for file in table.state.files.values().filter(|file| is_small(file) && !is_leaf(file)) {
        partitions.entry(file.partition_values()).or_default().push(file);
    }
    let mut plan: Vec<_> = partitions
        .into_values()
        .filter(|files| files.len() >= settings.compact_min_files.max(2))
        .map(|files| choose(files, settings.compact_min_files.max(2)))
        .collect();
    plan.sort_by_key(|files| std::cmp::Reverse(files.len()));
    plan
}

/// Takes the smallest files, and larger ones only while they are no larger than all before them together. A file that was
/// compacted yesterday is so rewritten when it doubles, not with every dozen of new small ones.
fn choose(mut files: Vec<&Arc<LiveFile>>, at_least: usize) -> Vec<DataFile> {
    files.sort_by_key(|file| file.size);
    let mut bytes = 0;
    let mut taken = Vec::new();
    for file in files {
        if taken.len() >= at_least && file.size > bytes {
            break;
        }
        bytes += file.size;
        taken.push(file.data_file().clone());
    }
    // Rows keep the order in which they came.
    taken.sort_by(|left, right| (left.modified_ms, &left.path).cmp(&(right.modified_ms, &right.path)));
    taken
}

/// Compacts files of one partition; the number of files that took their place, `None` when a writer was faster.
async fn compact(table: &mut Table, files: Vec<DataFile>, run_id: &str) -> Result<Option<usize>> {
    let added = rewrite(table, &files).await?;
    for _ in 0..MAX_RACES {
        if !files.iter().all(|file| table.state.files.contains_key(file.path.as_str())) {
            break;
        }
        let note = CommitNote { commit_id: table.lake.clock().new_id(), run_id: run_id.to_owned(), act: Act::Maintain };
        let request = CommitRequest {
            add: added.clone(),
            remove: files.clone(),
            txns: BTreeMap::new(),
            operation: "OPTIMIZE",
            data_change: false,
            note,
        };
        match table.commit(request).await? {
            CommitOutcome::Committed(_) => return Ok(Some(added.len())),
            CommitOutcome::Lost(_) => {}
        }
    }
    let paths = added.iter().map(|file| table.store.path(&file.path)).collect::<Result<Vec<_>>>()?;
    table.store.delete(paths).await?;
    Ok(None)
}

async fn rewrite(table: &Table, files: &[DataFile]) -> Result<Vec<DataFile>> {
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let tags = if files.iter().all(|file| file.tags == first.tags) { first.tags.clone() } else { BTreeMap::new() };
    let columns = table.state.file_fields.iter().map(|field| field.name().clone()).collect();
    let mut stream = table.read_files(files.to_vec(), Some(columns));
    let (sender, mut receiver) = mpsc::channel::<Result<RecordBatch>>(BATCHES_BETWEEN);
    let encoder = FileEncoder::new(table);
    let encoding = tokio::task::spawn_blocking(move || encoder.encode(std::iter::from_fn(|| receiver.blocking_recv())));
    while let Some(batch) = stream.next().await {
        // The encoder ends early only with an error, which it hands over below.
        if sender.send(batch).await.is_err() {
            break;
        }
    }
    drop(sender);
    let encoded = encoding
        .await
        .map_err(|source| Cause::Worker { table: table.store.id.clone(), source })?
        .map_err(|fault| fault.into_error(&table.store.id))?;
    let mut written = Vec::with_capacity(encoded.len());
    for file in encoded {
        written.push(table.store_file(file, &first.partition_values, &tags).await?);
    }
    Ok(written)
}
