//! Checkpoints, compaction, log clean-up, vacuum.
//!
//! No step changes a row, and none can harm a writer or a reader beside it:
//!
//! | step | why it is safe | a crash leaves |
//! | --- | --- | --- |
//! | checkpoint | repeats what the log says | nothing, or a checkpoint that no hint names |
//! | compaction | an ordinary commit with `dataChange = false`: on a lost race the inputs must still be live, else it is dropped | files of nobody, which vacuum finds |
//! | log clean-up | only entries before a checkpoint that are older than the retention, never the newest that carries a note | a log that begins later |
//! | vacuum | only files that no version within the retention refers to and that are older than it themselves: a writer may be about to commit a young one | fewer files of nobody |

mod checkpoint;
mod clean;
mod compact;

use std::time::Duration;

#[cfg(test)]
pub(crate) use checkpoint::create as checkpoint_for_test;
pub use checkpoint::maybe_checkpoint;
#[cfg(test)]
pub(crate) use compact::run as compact_for_test;
use tidemill_project::TableVersion;

use crate::error::Cause;
use crate::{Lake, Result, Table, TableId};

/// What a round of care may do and spend.
#[derive(Clone, Debug)]
pub struct MaintainOptions {
    /// The run that commits of this round are recorded under.
    pub run_id: String,
    /// Which steps are taken.
    pub scope: Scope,
    /// No new piece of work is begun after this; one that has begun is finished.
    pub max_duration: Duration,
    /// Bytes of data files that compaction may read.
    pub max_rewrite_bytes: u64,
    /// Says what would be done and does nothing.
    pub dry_run: bool,
}

impl MaintainOptions {
    /// All steps, without limits: what `tidemill maintain` does.
    pub fn full(run_id: impl Into<String>) -> Self {
        Self {
            run_id: run_id.into(),
            scope: Scope::Full,
            max_duration: Duration::MAX,
            max_rewrite_bytes: u64::MAX,
            dry_run: false,
        }
    }

    /// What fits between two cycles of a running job: no listing, at most `max_duration` and a quarter of a gigabyte.
    pub fn light(run_id: impl Into<String>, max_duration: Duration) -> Self {
        Self { run_id: run_id.into(), scope: Scope::Light, max_duration, max_rewrite_bytes: 256 << 20, dry_run: false }
    }
}

/// Which steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Checkpoint and compaction: they need no listing, so they may run after every cycle.
    Light,
    /// Also log clean-up and vacuum, which list the table's folder.
    Full,
}

/// What a round of care did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MaintainReport {
    /// The version of the checkpoint that was made.
    pub checkpoint: Option<TableVersion>,
    /// Partitions whose files were compacted.
    pub compacted_partitions: usize,
    /// Files that compaction took away.
    pub files_removed: usize,
    /// Files that compaction put in their place.
    pub files_added: usize,
    /// Bytes of the files that compaction took away.
    pub bytes_rewritten: u64,
    /// Compactions that were thrown away because a writer replaced their inputs meanwhile.
    pub compactions_dropped: usize,
    /// Objects of the log that were deleted.
    pub log_objects_deleted: usize,
    /// Data files that were deleted.
    pub data_files_deleted: usize,
    /// Their bytes.
    pub data_bytes_deleted: u64,
    /// Whether work was left for the next round because the budget was spent.
    pub is_budget_spent: bool,
}

/// Commits between two looks at whether small files have piled up.
const COMMITS_PER_COMPACTION: u64 = 32;
/// What a compaction between two commits may take.
const COMPACTION_BUDGET: Duration = Duration::from_secs(2);

/// Keeps a table quick to open and its files few, for writers that commit now and then: a checkpoint when one is due, and every
/// [`COMMITS_PER_COMPACTION`] commits a light round of [`maintain`]. Most calls compare a few numbers.
///
/// A failure costs speed, never rows, so it is only told.
pub async fn after_commit(table: &Table, run_id: &str) {
    if let Err(error) = maybe_checkpoint(table).await {
        tracing::warn!(table = %table.id(), error = &error as &dyn std::error::Error, "checkpoint failed");
    }
    if !table.version().0.is_multiple_of(COMMITS_PER_COMPACTION) {
        return;
    }
    let options = MaintainOptions::light(run_id, COMPACTION_BUDGET);
    if let Err(error) = Box::pin(maintain(table.lake(), table.id(), &options)).await {
        tracing::warn!(table = %table.id(), error = &error as &dyn std::error::Error, "compaction failed");
    }
}

/// Takes care of one table. Idempotent: a second call finds nothing to do.
///
/// # Errors
/// [`crate::Error::is_missing`] when there is no table; the store's faults. What was done before a fault stays done.
pub async fn maintain(lake: &Lake, id: &TableId, options: &MaintainOptions) -> Result<MaintainReport> {
    let stopwatch = lake.clock().stopwatch();
    let Some(mut table) = lake.open(id).await? else {
        return Err(Cause::Missing { table: id.clone() }.into());
    };
    table.check_writable()?;
    let mut report = MaintainReport::default();
    compact::run(&mut table, options, stopwatch, &mut report).await?;
    if checkpoint::is_due(&table).await? {
        report.checkpoint = Some(table.version());
        if !options.dry_run {
            checkpoint::create(&table).await?;
        }
    }
    if options.scope == Scope::Full {
        if stopwatch.elapsed() < options.max_duration {
            clean::log(&table, options, &mut report).await?;
            clean::vacuum(&mut table, options, &mut report).await?;
        } else {
            report.is_budget_spent = true;
        }
    }
    tracing::info!(
        table = %id,
        files_removed = report.files_removed,
        files_added = report.files_added,
        log_objects_deleted = report.log_objects_deleted,
        data_files_deleted = report.data_files_deleted,
        elapsed_ms = u64::try_from(stopwatch.elapsed().as_millis()).unwrap_or(u64::MAX),
        "table maintained"
    );
    Ok(report)
}
