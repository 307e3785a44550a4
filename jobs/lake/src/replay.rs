//! From the log to a state: the newest checkpoint, then the entries after it.
//!
//! The hint in `_last_checkpoint` names the checkpoint, and the entries after it are asked for by name until one is missing.
//! Nothing is listed, so the cost depends on live files and on entries since the checkpoint, never on the table's age. Only
//! when the hint leads nowhere is the folder listed.
//! Source: Delta protocol, "Checkpoints", "Last Checkpoint File".

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use serde::Deserialize;
use tidemill_project::TableVersion;

use crate::Result;
use crate::checkpoint::{self, CheckpointFiles};
use crate::error::Cause;
use crate::state::{LogEntry, State};
use crate::store::TableStore;

/// Entries that are asked for at once when a table is opened. They are small; over a network the round trip counts, in a
/// folder each question that has no answer.
fn open_window(table: &TableStore) -> usize {
    if table.store.is_folder() { 1 } else { 16 }
}

/// The most that are asked for at once.
const WIDEST_WINDOW: usize = 32;

#[derive(Deserialize)]
struct Hint {
    version: u64,
    #[serde(default)]
    parts: Option<u32>,
    #[serde(default, rename = "v2Checkpoint")]
    v2: Option<serde_json::Value>,
}

/// Loads the table at `target`, the newest version when `None`; `Ok(None)` when there is no table.
///
/// # Errors
/// When `target` is given and cannot be reached: `VersionGone` if it lies before the log's begin, `VersionAhead` behind its
/// end.
pub(crate) async fn load(table: &TableStore, target: Option<u64>) -> Result<Option<State>> {
    let start = match read_hint(table).await? {
        None => match first(table).await? {
            Some(state) => Some(state),
            None => listed(table, target).await?,
        },
        Some(hint) => match hinted(table, &hint, target).await? {
            Some(state) => Some(state),
            None => listed(table, target).await?,
        },
    };
    let Some(mut state) = start else { return Ok(None) };
    if target.is_none_or(|target| state.version < target) {
        for entry in entries_from(table, state.version + 1, target, open_window(table)).await? {
            state.apply(&table.id, &entry)?;
        }
    }
    match target {
        Some(target) if state.version < target => Err(Cause::VersionAhead {
            table: table.id.clone(),
            version: TableVersion(target),
            newest: TableVersion(state.version),
        }
        .into()),
        _ => Ok(Some(state)),
    }
}

/// Moves a state that was loaded earlier to the table's newest version. `None` when the entry that it ended with is not in the log
/// any more as it was: the table was made anew, or the log was cleaned beyond it.
///
/// Costs one request more than there are new entries.
pub(crate) async fn catch_up(table: &TableStore, mut known: State) -> Result<Option<State>> {
    let Some(tip) = known.tip.clone() else { return Ok(None) };
    let mut entries = entries_from(table, known.version, None, 2).await?.into_iter();
    if entries.next().is_none_or(|entry| entry.commit_info != *tip) {
        return Ok(None);
    }
    for entry in entries {
        known.apply(&table.id, &entry)?;
    }
    Ok(Some(known))
}

async fn read_hint(table: &TableStore) -> Result<Option<Hint>> {
    let path = table.log_folder().join("_last_checkpoint");
    let bytes = match table.object_store().get(&path).await {
        Ok(found) => found.bytes().await.map_err(|source| table.fault("read", &path, source))?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(table.fault("read", &path, source).into()),
    };
    // The hint is only that; one that cannot be read is passed over.
    Ok(serde_json::from_slice(&bytes).ok())
}

/// The state of the checkpoint that the hint names, when it is there and not behind the target.
async fn hinted(table: &TableStore, hint: &Hint, target: Option<u64>) -> Result<Option<State>> {
    if hint.v2.is_some() {
        return Err(Cause::Feature { table: table.id.clone(), feature: "v2Checkpoint".to_owned() }.into());
    }
    if target.is_some_and(|target| hint.version > target) {
        return Ok(None);
    }
    checkpoint::load(table, &CheckpointFiles::named(hint.version, hint.parts)).await
}

/// The state of the table's first entry: a table without a hint is young.
async fn first(table: &TableStore) -> Result<Option<State>> {
    read_entry(table, 0).await?.map(|entry| State::from_first(&table.id, &entry)).transpose()
}

/// The state of the newest checkpoint that is not behind the target, found by listing; else that of the first entry.
async fn listed(table: &TableStore, target: Option<u64>) -> Result<Option<State>> {
    let listed = checkpoint::list(table).await?;
    for files in listed.iter().rev().filter(|files| target.is_none_or(|target| files.version <= target)) {
        if let Some(state) = checkpoint::load(table, files).await? {
            return Ok(Some(state));
        }
    }
    match first(table).await? {
        Some(state) => Ok(Some(state)),
        None if listed.is_empty() => Ok(None),
        None => {
            let version = TableVersion(target.unwrap_or_default());
            Err(Cause::VersionGone { table: table.id.clone(), version }.into())
        }
    }
}

/// Reads one entry; `None` when the version does not exist.
pub(crate) async fn read_entry(table: &TableStore, version: u64) -> Result<Option<LogEntry>> {
    let path = table.log_path(version);
    let found = match table.object_store().get(&path).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(table.fault("read", &path, source).into()),
    };
    let stored_ms = found.meta.last_modified.timestamp_millis();
    let bytes = found.bytes().await.map_err(|source| table.fault("read", &path, source))?;
    let entry = LogEntry::parse(version, stored_ms, &bytes).map_err(|source| Cause::LogEntry {
        table: table.id.clone(),
        version: TableVersion(version),
        source,
    })?;
    Ok(Some(entry))
}

/// Reads the entries from `from` to `to` (included) or to the log's end, oldest first.
///
/// Several are asked for at once, `window` at first. Answers end at the first version that is missing: a later one may
/// have been written after the missing one was asked for.
pub(crate) async fn entries_from(
    table: &TableStore,
    from: u64,
    to: Option<u64>,
    mut window: usize,
) -> Result<Vec<LogEntry>> {
    let mut entries = Vec::new();
    let mut next = from;
    loop {
        let end = next + window as u64;
        let end = to.map_or(end, |to| end.min(to + 1));
        let asked = usize::try_from(end - next).unwrap_or(window);
        if asked == 0 {
            return Ok(entries);
        }
        let answers: Vec<_> =
            stream::iter(next..end).map(|version| read_entry(table, version)).buffered(asked).try_collect().await?;
        let found = answers.into_iter().map_while(|entry| entry);
        let before = entries.len();
        entries.extend(found);
        if entries.len() - before < asked {
            return Ok(entries);
        }
        next = end;
        window = (window * 2).min(WIDEST_WINDOW);
    }
}

/// Reads the entries of `[start, end)` that are there, oldest first, without a gap before `end`.
pub(crate) async fn entries_back(table: &TableStore, start: u64, end: u64) -> Result<Vec<LogEntry>> {
    let asked = usize::try_from(end - start).unwrap_or(WIDEST_WINDOW);
    let answers: Vec<_> =
        stream::iter(start..end).map(|version| read_entry(table, version)).buffered(asked.max(1)).try_collect().await?;
    let mut found: Vec<_> = answers.into_iter().rev().map_while(|entry| entry).collect();
    found.reverse();
    Ok(found)
}

/// The version of the checkpoint that the hint names.
pub(crate) async fn hinted_version(table: &TableStore) -> Result<Option<u64>> {
    Ok(read_hint(table).await?.map(|hint| hint.version))
}

/// Files that are known to be removed at `version`, with the time of removal in milliseconds since the epoch.
///
/// A checkpoint forgets removals that are older than the table's `delta.deletedFileRetentionDuration`.
pub(crate) async fn removed_files(table: &TableStore, version: u64) -> Result<BTreeMap<String, i64>> {
    let (mut removed, mut next) = (BTreeMap::new(), 0);
    if let Some(hint) = read_hint(table).await?.filter(|hint| hint.version <= version)
        && let Some(found) = checkpoint::removed_files(table, &CheckpointFiles::named(hint.version, hint.parts)).await?
    {
        (removed, next) = (found, hint.version + 1);
    }
    let entries = entries_from(table, next, Some(version), open_window(table)).await?;
    let reached = entries.last().map_or(next, |entry| entry.version + 1);
    if reached <= version {
        return Err(Cause::VersionGone { table: table.id.clone(), version: TableVersion(reached) }.into());
    }
    for entry in entries {
        for add in &entry.adds {
            removed.remove(&*add.path);
        }
        for remove in entry.removes {
            removed.insert(remove.path, remove.deletion_timestamp.unwrap_or(entry.timestamp_ms));
        }
    }
    Ok(removed)
}
