//! Deletes what no version within the retention needs.

use chrono::{DateTime, TimeDelta, Utc};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::{MaintainOptions, MaintainReport};
use crate::metadata::Act;
use crate::{Result, Table, checkpoint, replay};

/// Deletes log entries and checkpoints that lie before a checkpoint and are older than the retention.
///
/// Every version within the retention can still be opened. The newest note about data stays, however old it is: it says how
/// far its writer had read.
pub(super) async fn log(table: &Table, options: &MaintainOptions, report: &mut MaintainReport) -> Result<()> {
    let cutoff = cutoff(table);
    let objects = table.store.list(&table.store.log_folder()).await?;
    let entries = objects.iter().filter_map(|object| Some((version_of(&object.location)?, object)));
    let first_young =
        entries.clone().filter(|(_, object)| object.last_modified >= cutoff).map(|(version, _)| version).min();
    let mut begin = first_young.unwrap_or(table.state.version).min(table.state.version);
    if let Some((noted, _)) = table.last_note(|note| !matches!(note.act, Act::Create | Act::Maintain)).await? {
        begin = begin.min(noted.0);
    }
    let checkpoints = checkpoint::complete(objects.iter().filter_map(|object| object.location.filename()));
    let Some(begin) = checkpoints.iter().map(|files| files.version).filter(|version| *version <= begin).max() else {
        return Ok(());
    };
    let old: Vec<_> = entries
        .filter(|(version, object)| *version < begin && object.last_modified < cutoff)
        .map(|(_, object)| object.location.clone())
        .collect();
    report.log_objects_deleted = old.len();
    if !options.dry_run {
        // Oldest first: what is left of a log that was cut in the middle of this still ends at its newest version.
        let mut old = old;
        old.sort();
        table.store.delete(old).await?;
    }
    Ok(())
}

/// Deletes data files that nobody refers to.
pub(super) async fn vacuum(table: &mut Table, options: &MaintainOptions, report: &mut MaintainReport) -> Result<()> {
    let cutoff = cutoff(table);
    let objects = table.store.list(&table.store.folder()).await?;
    // The log is read after the listing: a file that was listed and committed in between is live now.
    table.refresh().await?;
    let removed = replay::removed_files(&table.store, table.state.version).await?;
    let log = table.store.log_folder();
    let is_garbage = |object: &&ObjectMeta| {
        let Some(relative) = relative_path(table, &object.location) else { return false };
        !object.location.prefix_matches(&log)
            && !is_hidden(&relative, table.partition_columns())
            && object.last_modified < cutoff
            && !table.state.files.contains_key(relative.as_str())
            && removed.get(&relative).is_none_or(|removed_ms| *removed_ms < cutoff.timestamp_millis())
    };
    let garbage: Vec<_> = objects.iter().filter(is_garbage).collect();
    report.data_files_deleted = garbage.len();
    report.data_bytes_deleted = garbage.iter().map(|object| object.size).sum();
    if !options.dry_run {
        table.store.delete(garbage.into_iter().map(|object| object.location.clone()).collect()).await?;
    }
    Ok(())
}

fn cutoff(table: &Table) -> DateTime<Utc> {
    let retention = TimeDelta::from_std(table.lake.maintenance().retention).unwrap_or(TimeDelta::MAX);
    table.lake.clock().now().checked_sub_signed(retention).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The version in an object's name, for entries and checkpoints.
fn version_of(path: &Path) -> Option<u64> {
    let (version, rest) = path.filename()?.split_once('.')?;
    if version.len() != 20 || !(rest == "json" || rest.starts_with("checkpoint.") || rest == "crc") {
        return None;
    }
    version.parse().ok()
}

fn relative_path(table: &Table, path: &Path) -> Option<String> {
    let folder = table.store.folder();
    path.as_ref().strip_prefix(folder.as_ref())?.strip_prefix('/').map(str::to_owned)
}

/// Folders that begin with `_` or `.` belong to somebody else, unless a partition column is named so.
/// Source: Delta protocol, "Data Files"; the exception is Spark's.
fn is_hidden(relative: &str, partition_columns: &[String]) -> bool {
    relative.split('/').any(|part| {
        let is_partition =
            part.split_once('=').is_some_and(|(name, _)| partition_columns.iter().any(|column| column == name));
        (part.starts_with('_') || part.starts_with('.')) && !is_partition
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_log_have_a_version() {
        let version = |name: &str| version_of(&Path::from(format!("t/_delta_log/{name}")));
        assert_eq!(version("00000000000000000007.json"), Some(7));
        assert_eq!(version("00000000000000000010.checkpoint.parquet"), Some(10));
        assert_eq!(version("_last_checkpoint"), None);
        assert_eq!(version("notes.json"), None);
    }

    #[test]
    fn a_partition_column_with_an_underscore_is_not_hidden() {
        let columns = ["_batch".to_owned()];
        assert!(!is_hidden("_batch=2025-03-09/part-1.parquet", &columns));
        assert!(is_hidden("_change_data/part-1.parquet", &columns));
        assert!(is_hidden("_batch=1/part-1.parquet", &[]));
    }
}
