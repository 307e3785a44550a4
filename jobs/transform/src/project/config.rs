//! Configuration of models and tests after merging, typed.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};
use tidemill_project::SourceName;

use super::batch::BatchSize;
use super::keyed::{KeyedConfig, OnSqlChange};

fn in_order<V: Serialize, S: Serializer>(map: &IndexMap<String, V>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map)
}

/// dbt's `materialized`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Materialized {
    /// Nothing is stored; readers run the SQL.
    #[default]
    View,
    /// Rebuilt whole.
    Table,
    /// Rebuilt where the inputs changed, see [`Strategy`].
    Incremental,
    /// Never stored nor queried: a CTE of its readers.
    Ephemeral,
    /// The history of another relation's rows, dbt's `snapshot`.
    Snapshot,
}

/// How a snapshot knows a changed row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotStrategy {
    /// The row's own time of change is later than that of the row kept.
    Timestamp {
        /// The column, or an expression.
        updated_at: String,
    },
    /// One of these columns differs; `None`: any column.
    Check {
        /// The columns.
        columns: Option<Vec<String>>,
        /// The row's time of change, when it has one; else the run's clock.
        updated_at: Option<String>,
    },
}

/// What happens to the rows of a key that has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HardDeletes {
    /// Nothing.
    #[default]
    Ignore,
    /// The newest row ends.
    Invalidate,
    /// The newest row ends and one follows that says so in `dbt_is_deleted`.
    NewRecord,
}

/// What stands in a snapshot's config beside its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotConfig {
    /// How a changed row is known.
    pub strategy: SnapshotStrategy,
    /// What becomes of keys that have gone.
    pub hard_deletes: HardDeletes,
    /// SQL that stands in `dbt_valid_to` of rows that are valid now; null unless given.
    pub valid_to_current: Option<String>,
    /// Other names for `dbt_valid_from`, `dbt_valid_to`, `dbt_scd_id`, `dbt_updated_at`, `dbt_is_deleted`.
    pub column_names: BTreeMap<String, String>,
}

/// dbt's `on_schema_change`: what an incremental run does with columns that the table does not have, or no longer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// New columns are left out.
    Ignore,
    /// The build fails.
    Fail,
    /// New columns are added, and null in rows from before.
    AppendNewColumns,
    /// The same, and columns that are no longer there go.
    SyncAllColumns,
}

/// dbt's `incremental_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// New input rows give new rows.
    #[default]
    Append,
    /// Batches of event time are replaced.
    Microbatch,
    /// Latest state per `unique_key`.
    Merge,
    /// dbt's `delete+insert` over `unique_key`.
    #[serde(rename = "delete+insert")]
    DeleteInsert,
    /// dbt's `insert_overwrite` over `partition_by`.
    InsertOverwrite,
    /// Groups of mergeable aggregates.
    Aggregate,
}

/// How far beyond its batch a microbatch model reads an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// That much event time more.
    Bounded(Duration),
    /// Everything on that side.
    Unbounded,
}

impl Span {
    /// Nothing more.
    pub const NONE: Self = Self::Bounded(Duration::ZERO);
}

/// Extra event time on both sides of a batch: a batch `[start, end)` reads `[start - before, end + after)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ContextSpan {
    /// Before the batch's start.
    pub before: Span,
    /// After the batch's end.
    pub after: Span,
}

impl Default for ContextSpan {
    fn default() -> Self {
        Self { before: Span::NONE, after: Span::NONE }
    }
}

/// `context` of a microbatch model: one span for all inputs, others for inputs by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchContext {
    /// For inputs that are not named.
    pub default: ContextSpan,
    /// By input: `model`, `seed` or `source.table`.
    #[serde(serialize_with = "in_order")]
    pub inputs: IndexMap<String, ContextSpan>,
}

impl BatchContext {
    /// The span for one input, by [`super::NodeId::name`].
    #[must_use]
    pub fn of(&self, input: &str) -> ContextSpan {
        self.inputs.get(input).copied().unwrap_or(self.default)
    }
}

/// `meta.tidemill.watermark`: rows change by time alone. A batch must be computed again when W, the least watermark of the
/// sources, passes a row's due time, which lies `due_after` after an event time of the batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WatermarkRule {
    /// The sources whose least W counts; never empty.
    pub sources: Vec<SourceName>,
    /// A row of event time `t` is due when `W >= t + due_after` (`is_final`, due windows).
    pub due_after: Duration,
}

/// A sink's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// Snowflake; also the local warehouse, which holds every Snowflake table under the same name (X30).
    Snowflake,
    /// A Kafka topic.
    Kafka,
    /// Redis.
    Redis,
    /// The local warehouse alone.
    Local,
}

/// How a target table follows the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishStrategy {
    /// By `unique_key`.
    #[default]
    Merge,
    /// Whole batches.
    ReplaceBatches,
    /// Rows are added only.
    AppendOnly,
}

/// When a row may leave for a topic or Redis (X28).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// At once, and again on every change.
    #[default]
    OnChange,
    /// First when its window is closed.
    OnClose,
    /// When its window is final.
    OnFinal,
    /// Once when it appears; again when its window is closed and later, if a field changed.
    Alert,
}

/// One entry of `meta.tidemill.publish`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishEntry {
    /// The sink.
    pub to: SinkKind,
    /// `DATABASE.SCHEMA.TABLE`, for warehouses.
    pub table: Option<String>,
    /// Columns of the model that identify a row; the model's `unique_key` unless given.
    pub unique_key: Vec<String>,
    /// How the target follows.
    pub strategy: PublishStrategy,
    /// Model column -> target column, in order; empty = all columns, names as the sink has them.
    #[serde(serialize_with = "in_order")]
    pub columns: IndexMap<String, String>,
    /// Model columns that hold JSON text and become the sink's JSON type.
    pub json_columns: Vec<String>,
    /// Clustering expressions of the target table.
    pub cluster_by: Vec<String>,
    /// Kafka topic.
    pub topic: Option<String>,
    /// Kafka: key column, or a pattern, `{column}` filled in, the unique key unless given; Redis: key pattern.
    pub key: Option<String>,
    /// Fields of a message -> model column, in order; empty = all columns under their own names.
    #[serde(serialize_with = "in_order")]
    pub fields: IndexMap<String, String>,
    /// When rows leave.
    pub emit: Emit,
    /// The column that says when a window ends; for `on_close`, `on_final` and `alert`.
    pub window_end: Option<String>,
    /// Redis: time to live.
    pub ttl: Option<Duration>,
    /// SQL condition over the model's columns; other rows are as if they did not exist.
    pub filter: Option<String>,
    /// Switched on.
    pub enabled: bool,
}

/// Configuration of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelConfig {
    /// dbt's `materialized`.
    pub materialized: Materialized,
    /// dbt's `incremental_strategy`; means something for incremental models only.
    pub incremental_strategy: Strategy,
    /// The column of event time (timestamp or date).
    pub event_time: Option<String>,
    /// Width of a batch.
    pub batch_size: Option<BatchSize>,
    /// Start of the first batch, microseconds UTC.
    pub begin_us: Option<i64>,
    /// Batches before a touched one that are recomputed, too.
    pub lookback: u32,
    /// Extra event time to read around a batch.
    pub context: BatchContext,
    /// Columns that identify a row.
    pub unique_key: Vec<String>,
    /// The schema; the target's unless configured.
    pub schema: Option<String>,
    /// Name of the table, when it is not the model's.
    pub alias: Option<String>,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// Part of the project at all.
    pub enabled: bool,
    /// `true` rebuilds always, `false` never, whatever the command line says.
    pub full_refresh: Option<bool>,
    /// `contract: {enforced: true}`.
    pub contract_enforced: bool,
    /// What an incremental run does when the columns change, when the model says so.
    pub on_schema_change: Option<OnSchemaChange>,
    /// Statements with Jinja that run before the model is built, in order.
    pub pre_hooks: Vec<String>,
    /// Statements with Jinja that run after the model was built, in order.
    pub post_hooks: Vec<String>,
    /// For snapshots.
    pub snapshot: Option<SnapshotConfig>,
    /// `meta`, raw.
    pub meta: Map<String, Json>,
    /// Where the model is published.
    pub publish: Vec<PublishEntry>,
    /// Rows that change by time alone.
    pub watermark: Option<WatermarkRule>,
    /// How rows are kept by key.
    pub keyed: KeyedConfig,
    /// What changed SQL comes to, when the model says so.
    pub on_sql_change: Option<OnSqlChange>,
    /// `audit: before`: the model's tests run before its rows are visible.
    pub audit_before: bool,
    /// All merged keys, raw: what `config.get()` sees.
    pub raw: Map<String, Json>,
}

impl ModelConfig {
    /// How the model is kept in fact: a view that is published must be stored, as sinks publish versions of tables. It becomes
    /// microbatch when it declares `event_time` and `batch_size`, a table otherwise; its readers see the same rows.
    #[must_use]
    pub fn storage(&self) -> Storage {
        match self.materialized {
            Materialized::Ephemeral => Storage::Ephemeral,
            Materialized::View if self.publish.is_empty() => Storage::View,
            Materialized::View if self.event_time.is_some() && self.batch_size.is_some() => {
                Storage::Incremental(Strategy::Microbatch)
            }
            Materialized::View | Materialized::Table => Storage::Table,
            Materialized::Incremental => Storage::Incremental(self.incremental_strategy),
            Materialized::Snapshot => Storage::Snapshot,
        }
    }
}

/// How a model is kept in fact, see [`ModelConfig::storage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// Inlined as a CTE.
    Ephemeral,
    /// Run by each reader.
    View,
    /// A Delta table, rebuilt whole.
    Table,
    /// A Delta table, rebuilt in parts.
    Incremental(Strategy),
    /// A Delta table that keeps what was.
    Snapshot,
}

/// What a failing test means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The run fails (exit 3).
    #[default]
    Error,
    /// It is reported.
    Warn,
}

/// Configuration of a test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestConfig {
    /// What a failure means.
    pub severity: Severity,
    /// Condition over the number of failing rows, e.g. `> 10`; `!= 0` unless given.
    pub error_if: String,
    /// The same for a warning.
    pub warn_if: String,
    /// Only rows that satisfy this SQL condition are tested.
    pub filter: Option<String>,
    /// At most so many failing rows are fetched.
    pub limit: Option<u64>,
    /// SQL that makes one number of the failing rows; their count unless given.
    pub fail_calc: Option<String>,
    /// Keep the failing rows.
    pub store_failures: bool,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// Run at all.
    pub enabled: bool,
}

impl Default for TestConfig {
    fn default() -> Self {
        Self {
            severity: Severity::Error,
            error_if: "!= 0".to_owned(),
            warn_if: "!= 0".to_owned(),
            filter: None,
            limit: None,
            fail_calc: None,
            store_failures: false,
            tags: Vec::new(),
            enabled: true,
        }
    }
}
