//! A table at one version, with all that the next commit needs in memory.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemill_project::TableVersion;

use crate::{CommitOutcome, CommitRequest, LogCommit, PartitionedBatch, Result, TableId};

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
#[derive(Debug)]
pub struct Table {
    _private: (),
}

impl Table {
    /// Its place.
    #[must_use]
    pub fn id(&self) -> &TableId {
        unimplemented!()
    }

    /// The version that this value shows.
    #[must_use]
    pub fn version(&self) -> TableVersion {
        unimplemented!()
    }

    /// Delta's id of the table: another one after it was dropped and made again.
    #[must_use]
    pub fn table_id(&self) -> &str {
        unimplemented!()
    }

    /// All columns, partition columns included, in the table's order.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        unimplemented!()
    }

    /// Partition columns in order.
    #[must_use]
    pub fn partition_columns(&self) -> &[String] {
        unimplemented!()
    }

    /// Progress of one application, `None` when it never committed.
    #[must_use]
    pub fn txn_version(&self, app_id: &str) -> Option<i64> {
        let _ = app_id;
        unimplemented!()
    }

    /// Progress of all applications.
    #[must_use]
    pub fn txns(&self) -> &BTreeMap<String, i64> {
        unimplemented!()
    }

    /// Live files, ordered by path.
    #[must_use]
    pub fn files(&self) -> Vec<DataFile> {
        unimplemented!()
    }

    /// Live files of one partition: all of `values` must be equal.
    #[must_use]
    pub fn files_of(&self, values: &BTreeMap<String, Option<String>>) -> Vec<DataFile> {
        let _ = values;
        unimplemented!()
    }

    /// Our note of the newest commit whose note `wanted` accepts; looks back through the log, newest first.
    pub async fn last_note(
        &self,
        wanted: impl Fn(&crate::metadata::CommitNote) -> bool + Send,
    ) -> Result<Option<(TableVersion, crate::metadata::CommitNote)>> {
        let _ = wanted;
        unimplemented!()
    }

    /// Reads the commits of others since this version and moves over them. Cheap when there are none.
    pub async fn refresh(&mut self) -> Result<Vec<LogCommit>> {
        unimplemented!()
    }

    /// Reads the commits of `(from, to]`, oldest first, from the log alone. `from = None` starts at version 0.
    ///
    /// # Errors
    /// [`crate::Error::is_version_gone`] when log clean-up has removed a version of the range.
    pub async fn commits(&self, from: Option<TableVersion>, to: TableVersion) -> Result<Vec<LogCommit>> {
        let _ = (from, to);
        unimplemented!()
    }

    /// Writes Parquet files (zstd, statistics, bloom filters as the table's properties say) of one or several partitions.
    /// They belong to nobody until a commit adds them. Batches must not contain the partition columns.
    pub async fn write_files(&self, batches: Vec<PartitionedBatch>) -> Result<Vec<DataFile>> {
        let _ = batches;
        unimplemented!()
    }

    /// Commits at `self.version() + 1`, or reports the loss. Never retries a lost race by itself.
    pub async fn commit(&mut self, request: CommitRequest) -> Result<CommitOutcome> {
        let _ = request;
        unimplemented!()
    }

    /// Adds nullable columns at the end of the schema (a commit of its own, at `version + 1`).
    pub async fn add_columns(&mut self, fields: Vec<arrow::datatypes::Field>, note: crate::metadata::CommitNote) -> Result<CommitOutcome> {
        let _ = (fields, note);
        unimplemented!()
    }
}
