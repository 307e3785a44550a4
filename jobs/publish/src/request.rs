//! What is to be published where: plain data, so that this room needs to know nothing about models.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tidemill_lake::TableId;
use tidemill_project::Location;

/// A table in the warehouse, each part as the user wrote it; Snowflake folds plain names to upper case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TargetTable {
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
}

impl fmt::Display for TargetTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.database, self.schema, self.table)
    }
}

/// Where a publication leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Target {
    /// A table of the warehouse.
    Table(TargetTable),
    /// A Kafka topic.
    Topic {
        /// Its name, before the settings rename it.
        topic: String,
    },
    /// Keys of Redis.
    Keys {
        /// What the keys look like: `zoner:insights:{user_id}`.
        keys: String,
    },
}

impl Target {
    /// The sink's name when the target is not a table: a table's depends on the settings.
    pub(crate) fn kind(&self) -> SinkKind {
        match self {
            Self::Table(_) => SinkKind::Warehouse,
            Self::Topic { .. } => SinkKind::Kafka,
            Self::Keys { .. } => SinkKind::Redis,
        }
    }
}

impl From<TargetTable> for Target {
    fn from(table: TargetTable) -> Self {
        Self::Table(table)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            Self::Topic { topic } => f.write_str(topic),
            Self::Keys { keys } => f.write_str(keys),
        }
    }
}

/// Sinks by what they can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SinkKind {
    /// Snowflake, or the local warehouse.
    Warehouse,
    /// Topics.
    Kafka,
    /// Redis.
    Redis,
}

impl SinkKind {
    /// The name of a kind that the settings have no sink for.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warehouse => "warehouse",
            Self::Kafka => "kafka",
            Self::Redis => "redis",
        }
    }
}

/// When a row may leave for a topic or for Redis. Source: SYSTEMS.md X28.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// At once, and again on every change.
    #[default]
    OnChange,
    /// First when W has reached the window's end, then on every change.
    OnClose,
    /// First when the row is final, then on every change.
    OnFinal,
    /// When the row appears; again, if a field changed since, when its window is closed and on later changes.
    Alert,
}

/// How rows become messages: records of a topic, or values in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    /// When rows leave.
    pub emit: Emit,
    /// A column, `alert_id`, or a pattern such as `{user_id}/{night_date}`; `None` = the unique key's values joined by `/`.
    pub key: Option<String>,
    /// The column that says when a row's window ends.
    pub window_end: String,
    /// Redis: how long a value lives after it was last written.
    pub ttl: Option<Duration>,
}

impl Messages {
    /// The key as a pattern over columns.
    pub(crate) fn key_pattern(&self, unique_key: &[String]) -> String {
        match self.key.as_deref() {
            Some(pattern) if pattern.contains('{') => pattern.to_owned(),
            Some(column) if column != ALERT_ID => format!("{{{column}}}"),
            _ => row_pattern(unique_key),
        }
    }
}

/// The row's key as text: what `alert_id` is.
pub(crate) fn row_pattern(unique_key: &[String]) -> String {
    unique_key.iter().map(|column| format!("{{{column}}}")).collect::<Vec<_>>().join("/")
}

/// Field that names an alert. Messages of `emit: alert` have it whether or not the model does.
pub(crate) const ALERT_ID: &str = "alert_id";

/// Column that says whether a row's window is final. It is no field of messages: becoming final sends nothing.
pub(crate) const FINAL_COLUMN: &str = "is_final";

/// How changed rows meet the rows that are already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One row per `unique_key`: upserts, and deletes of keys that left the model.
    Merge,
    /// Whole batches are replaced; for windows that are rebuilt whole and may have no key.
    ReplaceBatches,
    /// Rows are only ever added. A row that leaves the model is an error.
    AppendOnly,
}

/// One model's way into one target.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The model's table in the lake.
    pub model: TableId,
    /// The model's name, for messages.
    pub model_name: String,
    /// The target, before the settings rename its database or topic.
    pub target: Target,
    /// Columns (of the model) that name a row; may be empty for strategies other than `merge`.
    pub unique_key: Vec<String>,
    /// How rows meet.
    pub strategy: Strategy,
    /// Model column -> target column, in the target's order; `None` publishes all columns under their own names.
    pub columns: Option<Vec<(String, String)>>,
    /// Text columns (of the model) that hold JSON and become `VARIANT`, or JSON inside a message.
    pub json_columns: Vec<String>,
    /// SQL condition over the model's columns; other rows are as if they did not exist.
    pub filter: Option<String>,
    /// How rows become messages; for topics and Redis.
    pub messages: Option<Messages>,
    /// Where the publication is declared.
    pub location: Location,
}

impl Publication {
    /// The target table of a publication into a warehouse.
    ///
    /// # Panics
    /// For other targets, which never reach a warehouse: the router hands each kind of target to its own sink.
    pub(crate) fn table(&self) -> &TargetTable {
        match &self.target {
            Target::Table(table) => table,
            Target::Topic { .. } | Target::Keys { .. } => unreachable!("publish.rs hands warehouses tables only"),
        }
    }

    /// How rows become messages.
    ///
    /// # Panics
    /// For tables, which never reach a sink of messages.
    pub(crate) fn as_messages(&self) -> &Messages {
        self.messages.as_ref().expect("publish.rs refuses topics and keys without it")
    }
}

/// One call of [`crate::publish`].
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// What to publish. Targets of one Snowflake database go in one transaction.
    pub publications: Vec<Publication>,
    /// One invocation of the binary; stored with what is written.
    pub run_id: String,
    /// Compares everything with the target instead of trusting the version that it stands at.
    pub full: bool,
    /// Plans and counts, writes nothing and asks no server.
    pub dry_run: bool,
}

/// Partition column that strategy `microbatch` adds to a model's table. It is not published as a column; the local
/// warehouse keeps it as partition column, so that the cost of an apply follows the change and not the table.
pub const BATCH_COLUMN: &str = "_batch";
