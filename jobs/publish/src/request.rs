//! What is to be published where: plain data, so that this room needs to know nothing about models.

use std::fmt;

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

/// One model's way into one target table.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The model's table in the lake.
    pub model: TableId,
    /// The model's name, for messages.
    pub model_name: String,
    /// The target table, before the settings rename its database.
    pub target: TargetTable,
    /// Columns (of the model) that name a row; may be empty for strategies other than `merge`.
    pub unique_key: Vec<String>,
    /// How rows meet.
    pub strategy: Strategy,
    /// Model column -> target column, in the target's order; `None` publishes all columns under their own names.
    pub columns: Option<Vec<(String, String)>>,
    /// Text columns (of the model) that hold JSON and become `VARIANT`.
    pub json_columns: Vec<String>,
    /// Where the publication is declared.
    pub location: Location,
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
