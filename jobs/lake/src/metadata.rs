//! What a commit tells about itself: the object under `tidemill` in Delta's `commitInfo`.
//!
//! Books are balanced later from these alone, without reading data. Every object carries `kind`, `commit_id` (looked up
//! when an answer was lost) and `run_id`. Times are integer microseconds since the epoch, UTC.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A commit's story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitNote {
    /// Unique for each commit that is tried.
    pub commit_id: Uuid,
    /// One invocation of the binary.
    pub run_id: String,
    /// What was done.
    #[serde(flatten)]
    pub act: Act,
}

/// What was done by a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Act {
    /// A table came into being, or its schema grew.
    Create,
    /// Ingest into a raw table (or its quarantine).
    Ingest(IngestNote),
    /// A model was built.
    Transform(TransformNote),
    /// Rows were merged into a table of the local warehouse.
    Publish(PublishNote),
    /// Compaction and the like: no row changed.
    Maintain,
}

/// Ingest's books. `to - from = landed + duplicates + quarantined + tombstones + skipped` for every partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IngestNote {
    /// `source.table`.
    pub source: String,
    /// Kafka partitions, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionBooks>,
    /// Files that were ingested, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileBooks>,
    /// W of the source after this commit (X12), when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_us: Option<i64>,
    /// Payload `activity` and topic disagreed (Z5) and the like, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub warnings: BTreeMap<String, u64>,
    /// Where every partition of the source stands after this commit, sorted, those of other processes included. The newest
    /// note alone proves the whole history, whatever log clean-up has removed since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub totals: Vec<PartitionTotals>,
    /// Sums over everything that came from files, up to this commit.
    #[serde(default, skip_serializing_if = "OtherTotals::is_empty")]
    pub file_totals: OtherTotals,
    /// Sums over everything that was replayed from quarantine, up to this commit; part of no partition's books.
    #[serde(default, skip_serializing_if = "OtherTotals::is_empty")]
    pub replay_totals: OtherTotals,
}

/// Where one Kafka partition stands: running sums since the table's first commit, and what the watermark is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTotals {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset that was ever covered.
    pub from: i64,
    /// Next offset to read; equals the table's `txn` of the partition.
    pub to: i64,
    /// Offsets covered: `to - from` unless the topic was re-created in between.
    pub offsets: u64,
    /// Rows that landed.
    pub landed: u64,
    /// Copies of a key that had landed before.
    pub duplicates: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Records with a null value.
    pub tombstones: u64,
    /// Offsets that hold no record for a consumer, gaps included.
    pub skipped: u64,
    /// Greatest event time that ever landed from this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_event_at_us: Option<i64>,
    /// The clock at which the partition was last seen fully read (X12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_at_us: Option<i64>,
    /// The last record that was read, by which the log is known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRecord>,
}

/// A record by which a log is known again: offsets alone do not tell a topic from one that was created anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Its offset.
    pub offset: i64,
    /// XXH3-128 of its timestamp, key and value, 32 hex digits.
    pub fingerprint: String,
}

impl PartitionTotals {
    /// The identity of rule 4 over the partition's whole history.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.offsets == self.landed + self.duplicates + self.quarantined + self.tombstones + self.skipped
    }

    /// How far the partition's event time has come: the greatest landed, or the clock at which it was seen fully read.
    #[must_use]
    pub fn watermark_us(&self) -> Option<i64> {
        self.max_event_at_us.max(self.drained_at_us)
    }
}

/// Running sums over records that came by another way than a Kafka partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherTotals {
    /// Records taken in.
    pub records: u64,
    /// Rows that landed.
    pub landed: u64,
    /// Copies of a key that had landed before.
    pub duplicates: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Greatest event time that ever landed by this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_event_at_us: Option<i64>,
}

impl OtherTotals {
    /// Whether nothing ever came by this way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every record has exactly one outcome.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.records == self.landed + self.duplicates + self.quarantined
    }
}

/// Books of one Kafka partition in one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBooks {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset covered.
    pub from: i64,
    /// Next offset to read.
    pub to: i64,
    /// Rows that landed.
    pub landed: u64,
    /// Copies of a key that had landed before.
    pub duplicates: u64,
    /// Records in quarantine.
    pub quarantined: u64,
    /// Records with a null value.
    pub tombstones: u64,
    /// Offsets that hold no record for a consumer.
    pub skipped: u64,
    /// Offsets that Kafka had deleted before they were read (`--on-gap skip`); part of `skipped`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gap: u64,
    /// The topic was re-created: the offset that the lake had reached before, while `from` counts in the new log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_from: Option<i64>,
    /// Landed rows that were late (X11).
    #[serde(default)]
    pub late: u64,
    /// Greatest event time that ever landed from this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_event_at_us: Option<i64>,
    /// The clock at which the partition was last seen fully read (X12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_at_us: Option<i64>,
    /// The last record of the span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRecord>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl PartitionBooks {
    /// The identity of rule 4: every offset of the span has exactly one outcome.
    #[must_use]
    pub fn balances(&self) -> bool {
        let outcomes = self.landed + self.duplicates + self.quarantined + self.tombstones + self.skipped;
        i64::try_from(outcomes).is_ok_and(|sum| self.to - self.from == sum)
    }
}

/// Books of one file in one commit: records `[from, to)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBooks {
    /// Path as given.
    pub path: String,
    /// Hash of the content, which is the file's identity: a copy under another name adds nothing.
    pub content: String,
    /// First record covered, from 0.
    pub from: i64,
    /// Next record to read.
    pub to: i64,
    /// Whether `to` is the file's end.
    pub complete: bool,
    /// Rows that landed.
    pub landed: u64,
    /// Copies of a key that had landed before.
    pub duplicates: u64,
    /// Records in quarantine.
    pub quarantined: u64,
}

/// What a model's commit was computed from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TransformNote {
    /// Model name.
    pub model: String,
    /// Input table path -> version read.
    pub inputs: BTreeMap<String, u64>,
    /// Input table path -> Delta table id, so that a re-created input is noticed.
    pub input_ids: BTreeMap<String, String>,
    /// Fingerprint of the model: compiled SQL and configuration.
    pub model_fingerprint: String,
    /// Event-time batches that were rebuilt, by their start as text; `None` = the whole table.
    pub batches: Option<Vec<String>>,
    /// Rows written.
    pub rows_written: u64,
    /// Least W of the sources it stands on, when it depends on W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_us: Option<i64>,
    /// Batches that could not be computed: they still show older inputs than `inputs` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<String>,
    /// The state beside the table that the table's rows follow from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateNote>,
    /// The model's compiled query, column by column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryNote>,
}

/// Which version of its state table a model's table shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateNote {
    /// Delta id of the state table.
    pub table_id: String,
    /// Its version.
    pub version: u64,
}

/// Fingerprints of a compiled query, so that a later plan can say what changed in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryNote {
    /// Everything below the query's outermost list of columns.
    pub body: String,
    /// Output column -> what it is computed from, in the order of the output.
    pub columns: Vec<(String, String)>,
}

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PublishNote {
    /// Path of the model's table in the lake.
    pub table: String,
    /// Delta id of that table.
    pub table_id: String,
    /// Versions `(from, to]` sent; `None` = everything up to `to`.
    pub from: Option<u64>,
    /// See `from`.
    pub to: u64,
    /// Counts up by one with every publication of the target table and never restarts.
    pub seq: u64,
    /// Rows that were new.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that went away.
    pub deleted: u64,
    /// W of the model at `to`, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_us: Option<i64>,
}
