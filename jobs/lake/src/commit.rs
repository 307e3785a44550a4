//! The commit primitive: one log entry, written at exactly the version after the one it was computed from.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_project::TableVersion;

use crate::DataFile;
use crate::metadata::CommitNote;

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
