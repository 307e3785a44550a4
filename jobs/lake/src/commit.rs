//! The commit primitive: one log entry, written at exactly the version after the one it was computed from.
//!
//! # Error semantics
//! The put is conditional: it creates the entry or finds it taken. What the store says is not always what happened:
//!
//! | the store says | what it may be | what is done |
//! | --- | --- | --- |
//! | done | ours | the state moves on in memory |
//! | taken | another writer's entry, or our own whose answer was lost and which the client below sent twice | the entry is read: our commit id means that we won, any other that we lost |
//! | time-out, connection cut, 5xx | nothing happened, or it did | the entry is looked for; when it is not there the put is repeated, which is safe because it is conditional and carries the same id |
//! | refused | nothing happened | the error goes up |

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStore as _, PutMode, PutOptions};
use serde_json::{Value, json};
use tidemill_project::TableVersion;
use uuid::Uuid;

use crate::actions::{Add, Format, Line, Metadata, Protocol, Remove, Txn};
use crate::error::Cause;
use crate::metadata::{Act, CommitNote};
use crate::state::{LogEntry, State};
use crate::store::TableStore;
use crate::{DataFile, Lake, Result, Table, TableSpec, replay, schema, stats};

/// Puts of one commit before its outcome is called unknown; the client below has its own retries within each.
const MAX_PUTS: u32 = 5;
/// Wait before the second put; doubled for each one after it.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// What one commit changes.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Files that become live.
    pub add: Vec<DataFile>,
    /// Live files that go away.
    pub remove: Vec<DataFile>,
    /// Progress, by application id: the next offset of `kafka/<source>/<topic>/<partition>`.
    pub txns: BTreeMap<String, i64>,
    /// Delta's name of the operation: `WRITE`, `MERGE`, `OPTIMIZE`.
    pub operation: &'static str,
    /// Whether rows changed; `false` for compaction, which change detection must not see.
    pub data_change: bool,
    /// The commit's story.
    pub note: CommitNote,
}

/// How a commit ended.
#[derive(Clone, Debug)]
pub enum CommitOutcome {
    /// It is this version.
    Committed(TableVersion),
    /// Others were faster. The table has been refreshed to the newest version; these are the commits that it moved over,
    /// oldest first. Nothing of the request is visible; its data files are still there and may be committed again.
    Lost(Vec<LogCommit>),
}

/// One commit as the log tells it.
#[derive(Clone, Debug)]
pub struct LogCommit {
    /// Its version.
    pub version: TableVersion,
    /// Commit time, milliseconds since the epoch, UTC.
    pub timestamp_ms: i64,
    /// Delta's name of the operation.
    pub operation: String,
    /// Our note; `None` for commits of other writers.
    pub note: Option<CommitNote>,
    /// Files that became live.
    pub add: Vec<DataFile>,
    /// Files that went away: paths with what the log says of them.
    pub remove: Vec<DataFile>,
    /// Progress set by the commit.
    pub txns: BTreeMap<String, i64>,
    /// Whether any of its files changed rows.
    pub data_change: bool,
    /// Whether it changed schema, properties or protocol.
    pub changes_schema: bool,
    /// The raw `commitInfo`.
    pub commit_info: Value,
}

impl Table {
    /// Commits at `self.version() + 1`, or reports the loss. Never retries a lost race by itself.
    ///
    /// # Errors
    /// [`tidemill_project::ErrorKind::OutcomeUnknown`] when the store could not be asked whether the commit happened. The
    /// value still stands at its old version; [`Table::refresh`] tells later, by the note's commit id.
    pub async fn commit(&mut self, request: CommitRequest) -> Result<CommitOutcome> {
        self.check_writable()?;
        self.check_files(&request)?;
        let now_ms = self.lake.clock().now_ms();
        let mut lines = vec![commit_info(self.table_id(), now_ms, request.operation, &request.note)];
        if self.is_reshaped {
            lines.push(Line { meta_data: Some(self.state.metadata.clone()), ..Line::default() });
        }
        lines.extend(request.txns.into_iter().map(|(app_id, version)| Line {
            txn: Some(Txn { app_id, version, last_updated: Some(now_ms) }),
            ..Line::default()
        }));
        let data_change = request.data_change;
        lines.extend(
            request
                .remove
                .into_iter()
                .map(|file| Line { remove: Some(to_remove(file, data_change, now_ms)), ..Line::default() }),
        );
        lines.extend(
            request.add.into_iter().map(|file| Line { add: Some(to_add(file, data_change)), ..Line::default() }),
        );
        self.commit_lines(lines, &request.note).await
    }

    /// Takes on another shape: columns, partition columns, bloom filters and description of `spec`. Nothing is written yet.
    ///
    /// From here on [`Table::write_files`] writes files of the new shape, and the next [`Table::commit`] carries the new
    /// metadata. That commit must remove every live file, because readers would look for the new columns in old files; its
    /// readers see the old shape with the old rows or the new one with the new rows, and never nothing. The table keeps its
    /// id, so its history goes on and older versions open in their own shape.
    ///
    /// # Errors
    /// `Invalid` for a column that Delta cannot hold.
    pub fn reshape(&self, spec: &TableSpec) -> Result<Self> {
        self.check_writable()?;
        let schema_string =
            schema::to_delta(&spec.schema).map_err(|source| Cause::Arrow { table: self.store.id.clone(), source })?;
        let mut metadata = Metadata { schema_string, ..self.state.metadata.clone() };
        metadata.partition_columns.clone_from(&spec.partition_columns);
        metadata.description = (!spec.description.is_empty()).then(|| spec.description.clone());
        metadata.configuration.remove(schema::BLOOM_COLUMNS);
        if !spec.bloom_columns.is_empty() {
            metadata.configuration.insert(schema::BLOOM_COLUMNS.to_owned(), spec.bloom_columns.join(","));
        }
        let mut reshaped = self.clone();
        reshaped.state.take_metadata(&self.store.id, metadata)?;
        reshaped.is_reshaped = true;
        Ok(reshaped)
    }

    /// Adds nullable columns at the end of the schema (a commit of its own, at `version + 1`). Columns that are there
    /// already with the same type are passed over; when nothing is left the table's version is returned as committed.
    ///
    /// # Errors
    /// Code TM0203 when a column is there with another type.
    pub async fn add_columns(
        &mut self,
        fields: Vec<arrow::datatypes::Field>,
        note: CommitNote,
    ) -> Result<CommitOutcome> {
        self.check_writable()?;
        let asked = arrow::datatypes::Schema::new(fields);
        let (there, missing): (Vec<_>, Vec<_>) =
            asked.fields().iter().partition(|field| self.state.schema.field_with_name(field.name()).is_ok());
        let there = arrow::datatypes::Schema::new(there.into_iter().map(std::sync::Arc::clone).collect::<Vec<_>>());
        if let Some(difference) = schema::difference(&there, &self.state.schema) {
            return Err(Cause::Schema { table: self.store.id.clone(), difference }.into());
        }
        if missing.is_empty() {
            return Ok(CommitOutcome::Committed(self.version()));
        }
        let fields = missing.into_iter().map(|field| field.as_ref().clone()).collect();
        let grown = schema::with_columns(&self.state.schema, fields);
        let schema_string =
            schema::to_delta(&grown).map_err(|source| Cause::Arrow { table: self.store.id.clone(), source })?;
        let metadata = Metadata { schema_string, ..self.state.metadata.clone() };
        let lines = vec![
            commit_info(self.table_id(), self.lake.clock().now_ms(), "ADD COLUMN", &note),
            Line { meta_data: Some(metadata), ..Line::default() },
        ];
        self.commit_lines(lines, &note).await
    }

    /// Creates the table; when another creates it at the same moment, opens theirs.
    pub(crate) async fn create(lake: &Lake, spec: &TableSpec, run_id: &str) -> Result<Self> {
        let store = TableStore::new(lake.store(), &spec.id);
        let note = CommitNote { commit_id: lake.clock().new_id(), run_id: run_id.to_owned(), act: Act::Create };
        let now_ms = lake.clock().now_ms();
        let lines = first_lines(lake, spec, &note, now_ms)?;
        match put_entry(lake, &store, 0, &lines, note.commit_id).await? {
            Put::Ours => {
                let state = State::from_first(&spec.id, &LogEntry::from_lines(0, now_ms, lines))?;
                Ok(Self::new(lake.clone(), store, state, false, None))
            }
            Put::Theirs => match lake.open(&spec.id).await? {
                Some(table) => Ok(table),
                None => Err(Cause::Missing { table: spec.id.clone() }.into()),
            },
        }
    }

    async fn commit_lines(&mut self, lines: Vec<Line>, note: &CommitNote) -> Result<CommitOutcome> {
        let version = self.state.version + 1;
        match put_entry(&self.lake, &self.store, version, &lines, note.commit_id).await? {
            Put::Ours => {
                let entry = LogEntry::from_lines(version, self.lake.clock().now_ms(), lines);
                self.state.apply(&self.store.id, &entry)?;
                self.is_reshaped = false;
                Ok(CommitOutcome::Committed(TableVersion(version)))
            }
            Put::Theirs => Ok(CommitOutcome::Lost(self.refresh().await?)),
        }
    }

    /// What every request must hold, whoever made it: what is removed is live, what is added is not, and no file of another
    /// shape than the table's stays.
    fn check_files(&self, request: &CommitRequest) -> Result<()> {
        let (table, version) = (&self.store.id, self.version());
        if let Some(file) = request.remove.iter().find(|file| !self.state.files.contains_key(file.path.as_str())) {
            return Err(Cause::NotLive { table: table.clone(), version, path: file.path.clone() }.into());
        }
        if let Some(file) = request.add.iter().find(|file| self.state.files.contains_key(file.path.as_str())) {
            return Err(Cause::AlreadyLive { table: table.clone(), version, path: file.path.clone() }.into());
        }
        if self.is_reshaped {
            let removed: HashSet<&str> = request.remove.iter().map(|file| file.path.as_str()).collect();
            if let Some(path) = self.state.files.keys().find(|path| !removed.contains(&***path)) {
                return Err(Cause::KeepsOldShape { table: table.clone(), version, path: path.to_string() }.into());
            }
        }
        Ok(())
    }
}

/// Whose entry it is that stands in the log now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Ours,
    Theirs,
}

async fn put_entry(lake: &Lake, store: &TableStore, version: u64, lines: &[Line], id: Uuid) -> Result<Put> {
    let path = store.log_path(version);
    let bytes = to_bytes(lines).map_err(|source| Cause::LogEntry {
        table: store.id.clone(),
        version: TableVersion(version),
        source,
    })?;
    let mut wait = FIRST_WAIT;
    let mut puts = 1;
    loop {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let fault = match store.object_store().put_opts(&path, bytes.clone().into(), options).await {
            Ok(_) => return Ok(Put::Ours),
            Err(source) if is_refusal(&source) => return Err(store.fault("commit", &path, source).into()),
            Err(source) => source,
        };
        tracing::debug!(table = %store.id, version, puts, error = %fault, "commit was not confirmed");
        let looked = replay::read_entry(store, version).await;
        match looked {
            Ok(Some(entry)) if entry.note.as_ref().is_some_and(|note| note.commit_id == id) => return Ok(Put::Ours),
            Ok(Some(_)) => return Ok(Put::Theirs),
            // Not there, also when the store said that it was taken: S3 answers 409 while another put is under way.
            Ok(None) | Err(_) if puts < MAX_PUTS => {}
            Ok(None) | Err(_) => {
                return Err(Cause::Outcome {
                    table: store.id.clone(),
                    version: TableVersion(version),
                    source: Box::new(fault),
                }
                .into());
            }
        }
        tracing::warn!(table = %store.id, version, puts, error = %fault, "commit is put once more");
        lake.clock().sleep(wait).await;
        wait *= 2;
        puts += 1;
    }
}

/// Faults after which nothing can have happened and a repetition cannot help.
fn is_refusal(fault: &object_store::Error) -> bool {
    use object_store::Error::{InvalidPath, NotFound, NotImplemented, NotSupported, PermissionDenied, Unauthenticated};
    matches!(
        fault,
        NotFound { .. }
            | InvalidPath { .. }
            | NotSupported { .. }
            | NotImplemented { .. }
            | PermissionDenied { .. }
            | Unauthenticated { .. }
    )
}

fn to_bytes(lines: &[Line]) -> serde_json::Result<Bytes> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    Ok(bytes.into())
}

fn commit_info(table_id: &str, now_ms: i64, operation: &str, note: &CommitNote) -> Line {
    let info = json!({
        "timestamp": now_ms,
        "operation": operation,
        "operationParameters": {},
        "isBlindAppend": false,
        // Delta has no such field; it tells a handle that outlived its table that these are no entries of its own.
        "tableId": table_id,
        "engineInfo": concat!("tidemill/", env!("CARGO_PKG_VERSION")),
        "tidemill": note,
    });
    Line { commit_info: Some(info), ..Line::default() }
}

fn first_lines(lake: &Lake, spec: &TableSpec, note: &CommitNote, now_ms: i64) -> Result<Vec<Line>> {
    let schema_string =
        schema::to_delta(&spec.schema).map_err(|source| Cause::Arrow { table: spec.id.clone(), source })?;
    let seconds = lake.maintenance().retention.as_secs();
    let mut configuration = BTreeMap::from([
        // Checkpoints forget removed files after this; vacuum must know them for as long as it keeps them.
        ("delta.deletedFileRetentionDuration".to_owned(), format!("interval {seconds} seconds")),
        ("delta.logRetentionDuration".to_owned(), format!("interval {seconds} seconds")),
    ]);
    if !spec.bloom_columns.is_empty() {
        configuration.insert(schema::BLOOM_COLUMNS.to_owned(), spec.bloom_columns.join(","));
    }
    let table_id = lake.clock().new_id().to_string();
    let metadata = Metadata {
        id: table_id.clone(),
        name: None,
        description: (!spec.description.is_empty()).then(|| spec.description.clone()),
        format: Format::default(),
        schema_string,
        partition_columns: spec.partition_columns.clone(),
        configuration,
        created_time: Some(now_ms),
    };
    // The oldest protocol that has all we use, so that every reader is served.
    let protocol =
        Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None };
    Ok(vec![
        commit_info(&table_id, now_ms, "CREATE TABLE", note),
        Line { protocol: Some(protocol), ..Line::default() },
        Line { meta_data: Some(metadata), ..Line::default() },
    ])
}

fn to_add(file: DataFile, data_change: bool) -> Add {
    Add {
        stats: stats::format(file.num_records, &file.stats),
        path: file.path,
        partition_values: file.partition_values,
        size: file.size,
        modification_time: file.modified_ms,
        data_change,
        tags: (!file.tags.is_empty()).then(|| optional(file.tags)),
    }
}

fn to_remove(file: DataFile, data_change: bool, now_ms: i64) -> Remove {
    Remove {
        path: file.path,
        deletion_timestamp: Some(now_ms),
        data_change,
        extended_file_metadata: Some(true),
        partition_values: Some(file.partition_values),
        size: Some(file.size),
        tags: (!file.tags.is_empty()).then(|| optional(file.tags)),
    }
}

fn optional(tags: BTreeMap<String, String>) -> BTreeMap<String, Option<String>> {
    tags.into_iter().map(|(key, value)| (key, Some(value))).collect()
}
