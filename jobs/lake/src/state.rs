//! What a table is at one version: live files, progress, schema, in memory.
//!
//! A state is built once from a checkpoint and the entries after it, then moved forward by entries alone, whether they come
//! from the log or are our own: both take the same road through [`State::apply`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::datatypes::{FieldRef, SchemaRef};
use serde_json::Value;
use tidemill_project::TableVersion;

use crate::actions::{Line, Metadata, Protocol, Remove};
use crate::error::Cause;
use crate::live::LiveFile;
use crate::metadata::CommitNote;
use crate::{DataFile, LogCommit, Result, TableId, schema};

/// Notes that are kept in memory, newest last. A search for an older one reads the log.
const KEPT_NOTES: usize = 128;

/// A commit with as many files, added or removed, is worth a checkpoint of its own.
const LARGE_COMMIT_FILES: usize = 500;

/// One log entry, read once and shared by whoever needs it.
#[derive(Debug, Default)]
pub(crate) struct LogEntry {
    pub(crate) version: u64,
    pub(crate) timestamp_ms: i64,
    pub(crate) commit_info: Value,
    pub(crate) note: Option<CommitNote>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) txns: BTreeMap<String, i64>,
    pub(crate) adds: Vec<Arc<LiveFile>>,
    pub(crate) removes: Vec<Remove>,
    pub(crate) data_change: bool,
}

impl LogEntry {
    /// Reads an entry. `stored_ms` stands in for the commit's time when its writer did not say.
    pub(crate) fn parse(version: u64, stored_ms: i64, bytes: &[u8]) -> serde_json::Result<Self> {
        let mut lines = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            if !line.trim_ascii().is_empty() {
                lines.push(serde_json::from_slice::<Line>(line)?);
            }
        }
        Ok(Self::from_lines(version, stored_ms, lines))
    }

    pub(crate) fn from_lines(version: u64, stored_ms: i64, lines: Vec<Line>) -> Self {
        let mut entry = Self { version, timestamp_ms: stored_ms, ..Self::default() };
        for line in lines {
            if let Some(info) = line.commit_info {
                let time = info.get("inCommitTimestamp").or_else(|| info.get("timestamp"));
                entry.timestamp_ms = time.and_then(Value::as_i64).unwrap_or(stored_ms);
                // A note of a future form is no note: nothing may be concluded from half of it.
                entry.note = info.get("tidemill").and_then(|note| serde_json::from_value(note.clone()).ok());
                entry.commit_info = info;
            }
            if let Some(add) = line.add {
                entry.data_change |= add.data_change;
                entry.adds.push(Arc::new(LiveFile::from_add(add)));
            }
            if let Some(remove) = line.remove {
                entry.data_change |= remove.data_change;
                entry.removes.push(remove);
            }
            if let Some(txn) = line.txn {
                entry.txns.insert(txn.app_id, txn.version);
            }
            entry.protocol = line.protocol.or(entry.protocol);
            entry.metadata = line.meta_data.or(entry.metadata);
        }
        entry
    }

    /// The entry as other rooms see it.
    pub(crate) fn into_commit(self) -> LogCommit {
        let operation = self.commit_info.get("operation").and_then(Value::as_str).unwrap_or_default().to_owned();
        LogCommit {
            version: TableVersion(self.version),
            timestamp_ms: self.timestamp_ms,
            operation,
            note: self.note,
            add: self.adds.iter().map(|file| file.data_file().clone()).collect(),
            remove: self.removes.into_iter().map(removed_file).collect(),
            txns: self.txns,
            data_change: self.data_change,
            changes_schema: self.metadata.is_some() || self.protocol.is_some(),
            commit_info: self.commit_info,
        }
    }
}

fn removed_file(remove: Remove) -> DataFile {
    let tags = remove.tags.unwrap_or_default();
    DataFile {
        path: remove.path,
        size: remove.size.unwrap_or_default(),
        modified_ms: remove.deletion_timestamp.unwrap_or_default(),
        partition_values: remove.partition_values.unwrap_or_default(),
        num_records: None,
        stats: BTreeMap::new(),
        tags: tags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
    }
}

/// Live files by path.
pub(crate) type Files = BTreeMap<Arc<str>, Arc<LiveFile>>;

/// A table at one version.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) protocol: Protocol,
    pub(crate) metadata: Metadata,
    pub(crate) schema: SchemaRef,
    pub(crate) file_fields: Vec<FieldRef>,
    pub(crate) bloom_columns: Vec<String>,
    /// Live files by path. Clones share them until one of the two moves on.
    pub(crate) files: Arc<Files>,
    pub(crate) txns: BTreeMap<String, i64>,
    /// The newest checkpoint that we know of, 0 when we know of none; clones share it.
    pub(crate) checkpoint: Arc<AtomicU64>,
    /// What the newest entry says of itself; `None` when that entry was not read.
    pub(crate) tip: Option<Arc<Value>>,
    /// The newest version since the loaded checkpoint whose commit touched many files; 0 when there is none.
    pub(crate) large_commit: u64,
    /// The notes of versions from `notes_from` on, oldest first.
    pub(crate) notes: Vec<(u64, CommitNote)>,
    pub(crate) notes_from: u64,
}

impl State {
    /// Builds a state from what a checkpoint or the table's first entry says.
    pub(crate) fn new(table: &TableId, version: u64, protocol: Protocol, metadata: Metadata) -> Result<Self> {
        let mut state = Self {
            version,
            protocol,
            metadata,
            schema: Arc::new(arrow::datatypes::Schema::empty()),
            file_fields: Vec::new(),
            bloom_columns: Vec::new(),
            files: Arc::default(),
            txns: BTreeMap::new(),
            checkpoint: Arc::new(AtomicU64::new(0)),
            tip: None,
            large_commit: 0,
            notes: Vec::new(),
            notes_from: version + 1,
        };
        state.derive_from_metadata(table)?;
        Ok(state)
    }

    fn derive_from_metadata(&mut self, table: &TableId) -> Result<()> {
        self.schema = schema::from_delta(&self.metadata.schema_string)
            .map_err(|source| Cause::Arrow { table: table.clone(), source })?;
        self.file_fields = schema::file_fields(&self.schema, &self.metadata.partition_columns);
        let listed = self.metadata.configuration.get(schema::BLOOM_COLUMNS).map_or("", String::as_str);
        self.bloom_columns =
            listed.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(())
    }

    /// Replaces what the table is.
    pub(crate) fn take_metadata(&mut self, table: &TableId, metadata: Metadata) -> Result<()> {
        self.metadata = metadata;
        self.derive_from_metadata(table)
    }

    /// Moves the state over the entry of the next version.
    ///
    /// # Errors
    /// An entry that says to which table it belongs is not taken for another's: the table was dropped and made again.
    pub(crate) fn apply(&mut self, table: &TableId, entry: &LogEntry) -> Result<()> {
        let owner = entry.commit_info.get("tableId").and_then(Value::as_str);
        if owner.is_some_and(|owner| owner != self.metadata.id) {
            return Err(Cause::Replaced { table: table.clone(), version: TableVersion(entry.version) }.into());
        }
        if let Some(protocol) = &entry.protocol {
            self.protocol = protocol.clone();
        }
        if let Some(metadata) = &entry.metadata {
            self.take_metadata(table, metadata.clone())?;
        }
        if !entry.removes.is_empty() || !entry.adds.is_empty() {
            let files = Arc::make_mut(&mut self.files);
            // Removals first: an entry may replace a file by one of the same name with another deletion vector.
            for remove in &entry.removes {
                files.remove(remove.path.as_str());
            }
            for add in &entry.adds {
                files.insert(Arc::clone(&add.path), Arc::clone(add));
            }
        }
        for (app_id, version) in &entry.txns {
            self.txns.insert(app_id.clone(), *version);
        }
        if let Some(note) = &entry.note {
            if self.notes.len() >= 2 * KEPT_NOTES {
                self.notes.drain(..KEPT_NOTES);
                self.notes_from = self.notes.first().map_or(entry.version, |(version, _)| *version);
            }
            self.notes.push((entry.version, note.clone()));
        }
        if entry.adds.len() + entry.removes.len() >= LARGE_COMMIT_FILES {
            self.large_commit = entry.version;
        }
        self.tip = (!entry.commit_info.is_null()).then(|| Arc::new(entry.commit_info.clone()));
        self.version = entry.version;
        Ok(())
    }

    /// The first entry of a table as its state.
    pub(crate) fn from_first(table: &TableId, entry: &LogEntry) -> Result<Self> {
        let (Some(protocol), Some(metadata)) = (&entry.protocol, &entry.metadata) else {
            return Err(Cause::Headless { table: table.clone(), version: TableVersion(entry.version) }.into());
        };
        let mut state = Self::new(table, entry.version, protocol.clone(), metadata.clone())?;
        state.notes_from = entry.version;
        state.apply(table, entry)?;
        Ok(state)
    }
}
