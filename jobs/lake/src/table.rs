//! A table at one version, with all that the next commit needs in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_project::TableVersion;

use crate::error::Cause;
use crate::metadata::CommitNote;
use crate::state::State;
use crate::store::TableStore;
use crate::{Lake, LogCommit, Result, TableId, replay, schema, stats};

/// Entries that a search for a note reads at once. The newest are in memory; the one behind them is mostly near.
const NOTE_WINDOW: u64 = 16;

/// What a table looks like when it is created.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Its place.
    pub id: TableId,
    /// All columns, partition columns included. Instants are `Timestamp(Microsecond, "UTC")`.
    pub schema: SchemaRef,
    /// Partition columns in order; they must be in `schema`.
    pub partition_columns: Vec<String>,
    /// Columns that get a Parquet bloom filter.
    pub bloom_columns: Vec<String>,
    /// What it is, for readers of the table's metadata.
    pub description: String,
}

impl TableSpec {
    /// The columns that stand in the files: all but the partition columns, in the table's order.
    #[must_use]
    pub fn file_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(schema::file_fields(&self.schema, &self.partition_columns)))
    }
}

/// A Parquet file of a table, as the log knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Path under the table's root, percent-decoded.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch, UTC.
    pub modified_ms: i64,
    /// Partition column -> value as Delta writes it; `None` is null.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Rows, when the log says.
    pub num_records: Option<u64>,
    /// Column -> least and greatest value, as Delta's statistics write them (JSON).
    pub stats: BTreeMap<String, ColumnStats>,
    /// Delta's `tags` of the file.
    pub tags: BTreeMap<String, String>,
}

/// The tag of a file that holds one range of a table's keys. Compaction leaves such files alone: joined ones would hold more
/// keys, and each change of a key would rewrite more rows.
pub const LEAF_TAG: &str = "tidemill.leaf";

impl DataFile {
    /// Least and greatest value of a column as scalars of its type, `data_type`; `None` when the log does not say both.
    ///
    /// No value of the file lies outside; the bounds themselves need not occur.
    #[must_use]
    pub fn bounds(&self, column: &str, data_type: &DataType) -> Option<(ScalarValue, ScalarValue)> {
        let stats = self.stats.get(column)?;
        let min = stats::bound(stats.min.as_ref()?, data_type, false)?;
        let max = stats::bound(stats.max.as_ref()?, data_type, true)?;
        Some((min, max))
    }
}

/// A live file of a table that is looked at in passing: where it lies is known, its statistics are still text.
#[derive(Clone, Copy, Debug)]
pub struct LiveFileRef<'a>(&'a crate::live::LiveFile);

impl<'a> LiveFileRef<'a> {
    /// Path under the table's root, percent-decoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Rows, when the log says; cheaper than asking for all statistics.
    #[must_use]
    pub fn num_records(&self) -> Option<u64> {
        self.0.num_records()
    }

    /// Value of a partition column as Delta writes it; `None` is null, and a column that the table is not partitioned by.
    #[must_use]
    pub fn partition_value(&self, column: &str) -> Option<&'a str> {
        self.0.partition_value(column)
    }

    /// The file with all that the log says of it.
    #[must_use]
    pub fn data_file(&self) -> DataFile {
        self.0.data_file().clone()
    }

    /// The same, to be looked at.
    #[must_use]
    pub fn as_data_file(&self) -> &'a DataFile {
        self.0.data_file()
    }
}

/// Least and greatest value of a column in one file, in Delta's JSON form (timestamps as ISO 8601 text).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnStats {
    /// Least value; may be rounded down.
    pub min: Option<Value>,
    /// Greatest value; may be rounded up.
    pub max: Option<Value>,
    /// Nulls.
    pub null_count: Option<u64>,
}

/// A table at one version.
///
/// All that the next commit needs is in memory: a commit writes one object and reads nothing. A clone stays at its version.
#[derive(Clone, Debug)]
pub struct Table {
    pub(crate) lake: Lake,
    pub(crate) store: TableStore,
    pub(crate) state: State,
    /// Opened at an old version: what is newer cannot be seen, so nothing may be written.
    pub(crate) pinned: bool,
    /// How delta-rs reads a table whose features we do not know.
    pub(crate) foreign: Option<Arc<dyn TableProvider>>,
    /// The metadata in `state` is that of the next commit; see [`Table::reshape`].
    pub(crate) is_reshaped: bool,
}

impl Table {
    pub(crate) fn new(
        lake: Lake,
        store: TableStore,
        state: State,
        pinned: bool,
        foreign: Option<Arc<dyn TableProvider>>,
    ) -> Self {
        Self { lake, store, state, pinned, foreign, is_reshaped: false }
    }

    /// Its place.
    #[must_use]
    pub fn id(&self) -> &TableId {
        &self.store.id
    }

    /// The lake that it was opened from.
    #[must_use]
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The version that this value shows.
    #[must_use]
    pub fn version(&self) -> TableVersion {
        TableVersion(self.state.version)
    }

    /// Delta's id of the table: another one after it was dropped and made again.
    #[must_use]
    pub fn table_id(&self) -> &str {
        &self.state.metadata.id
    }

    /// All columns, partition columns included, in the table's order.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.state.schema)
    }

    /// Partition columns in order.
    #[must_use]
    pub fn partition_columns(&self) -> &[String] {
        &self.state.metadata.partition_columns
    }

    /// Delta's table properties.
    #[must_use]
    pub fn properties(&self) -> &BTreeMap<String, String> {
        &self.state.metadata.configuration
    }

    /// Progress of one application, `None` when it never committed.
    #[must_use]
    pub fn txn_version(&self, app_id: &str) -> Option<i64> {
        self.state.txns.get(app_id).copied()
    }

    /// Progress of all applications.
    #[must_use]
    pub fn txns(&self) -> &BTreeMap<String, i64> {
        &self.state.txns
    }

    /// Live files, ordered by path.
    #[must_use]
    pub fn files(&self) -> Vec<DataFile> {
        self.state.files.values().map(|file| file.data_file().clone()).collect()
    }

    /// Live files, ordered by path, as cheap to walk as there are files: statistics are read of those only that ask for
    /// [`LiveFileRef::data_file`].
    pub fn live_files(&self) -> impl Iterator<Item = LiveFileRef<'_>> {
        self.state.files.values().map(|file| LiveFileRef(file))
    }

    /// The live file of a path.
    #[must_use]
    pub fn live_file(&self, path: &str) -> Option<LiveFileRef<'_>> {
        self.state.files.get(path).map(|file| LiveFileRef(file))
    }

    /// The number of live files.
    #[must_use]
    pub fn num_files(&self) -> usize {
        self.state.files.len()
    }

    /// Live files of one partition: all of `values` must be equal. Ordered by path.
    #[must_use]
    pub fn files_of(&self, values: &BTreeMap<String, Option<String>>) -> Vec<DataFile> {
        self.state.files.values().filter(|file| file.is_in(values)).map(|file| file.data_file().clone()).collect()
    }

    /// Our note of the newest commit whose note `wanted` accepts; looks back through the log, newest first.
    ///
    /// Free when it is one of the last hundred or so that this value has seen; else one small read per commit on the way.
    /// Ends without a find where log clean-up has cut the log.
    ///
    /// # Errors
    /// The store's faults, and a log that cannot be read.
    pub async fn last_note(
        &self,
        wanted: impl Fn(&CommitNote) -> bool + Send,
    ) -> Result<Option<(TableVersion, CommitNote)>> {
        for (version, note) in self.state.notes.iter().rev() {
            if wanted(note) {
                return Ok(Some((TableVersion(*version), note.clone())));
            }
        }
        let mut end = self.state.notes_from;
        while end > 0 {
            let start = end.saturating_sub(NOTE_WINDOW);
            let entries = replay::entries_back(&self.store, start, end).await?;
            let reached = entries.first().map(|entry| entry.version);
            for entry in entries.into_iter().rev() {
                if let Some(note) = entry.note.filter(|note| wanted(note)) {
                    return Ok(Some((TableVersion(entry.version), note)));
                }
            }
            if reached != Some(start) {
                break;
            }
            end = start;
        }
        Ok(None)
    }

    /// Reads the commits of others since this version and moves over them. Cheap when there are none: one request.
    ///
    /// # Errors
    /// [`tidemill_project::ErrorKind::Conflict`] when the table was dropped and made again: open it anew. That is noticed
    /// when the new log is longer than the old one was.
    pub async fn refresh(&mut self) -> Result<Vec<LogCommit>> {
        if self.pinned {
            return Ok(Vec::new());
        }
        let entries = replay::entries_from(&self.store, self.state.version + 1, None, 1).await?;
        for entry in &entries {
            self.state.apply(&self.store.id, entry)?;
            // Somebody else changed the shape meanwhile: theirs holds, and a change of ours has to be asked for again.
            self.is_reshaped &= entry.metadata.is_none();
        }
        Ok(entries.into_iter().map(crate::state::LogEntry::into_commit).collect())
    }

    /// Reads the commits of `(from, to]`, oldest first, from the log alone. `from = None` starts at version 0.
    ///
    /// # Errors
    /// [`crate::Error::is_version_gone`] when log clean-up has removed a version of the range.
    pub async fn commits(&self, from: Option<TableVersion>, to: TableVersion) -> Result<Vec<LogCommit>> {
        let start = from.map_or(0, |from| from.0 + 1);
        let entries = replay::entries_from(&self.store, start, Some(to.0), 8).await?;
        let next = entries.last().map_or(start, |entry| entry.version + 1);
        if next <= to.0 {
            return Err(Cause::VersionGone { table: self.store.id.clone(), version: TableVersion(next) }.into());
        }
        Ok(entries.into_iter().map(crate::state::LogEntry::into_commit).collect())
    }

    /// Refuses what would break the table.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match schema::unwritable_feature(&self.state.protocol, &self.state.metadata) {
            Some(feature) => Err(Cause::Feature { table: self.store.id.clone(), feature }.into()),
            None if self.pinned => Err(Cause::Pinned { table: self.store.id.clone(), version: self.version() }.into()),
            None => Ok(()),
        }
    }
}
