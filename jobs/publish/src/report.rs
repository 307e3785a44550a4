//! What publishing tells its caller: events while it works, a report at the end.

use serde::Serialize;
use tidemill_project::TableVersion;

use crate::Target;
use crate::diff::ChangeCounts;

/// How one publication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Rows were sent, or the target moved to a newer version with the same rows.
    Published,
    /// The target stands at the model's version, or differs from it in no row.
    UpToDate,
    /// The model has no table yet.
    NotBuilt,
    /// `--dry-run`: the counts are what would be sent.
    Planned,
    /// The chosen target of the project has no such sink: nothing is sent.
    NoSink,
}

/// One publication's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PublishedTable {
    /// The model.
    pub model: String,
    /// The target under its final name.
    pub target: Target,
    /// `local`, `snowflake`, `kafka` or `redis`.
    pub sink: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Version of the model's table that the target stood at; `None` when everything was compared.
    pub from: Option<TableVersion>,
    /// Version that the target stands at now.
    pub to: Option<TableVersion>,
    /// The target's publication number.
    pub seq: Option<u64>,
    /// Rows by what happened to them.
    pub counts: ChangeCounts,
}

/// The result of [`crate::publish`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PublishReport {
    /// In the order of the request.
    pub tables: Vec<PublishedTable>,
    /// Whether the caller asked to stop before everything was done; what is in `tables` is done.
    pub cancelled: bool,
}

/// Where a target table stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedVersion {
    /// The model.
    pub model: String,
    /// The target under its final name.
    pub target: Target,
    /// `local`, `snowflake`, `kafka` or `redis`.
    pub sink: &'static str,
    /// Version of the model's table that is published; `None` when nothing was.
    pub version: Option<TableVersion>,
    /// Newest version of the model's table; `None` when it was never built.
    pub newest: Option<TableVersion>,
    /// The target's publication number.
    pub seq: Option<u64>,
    /// W of the model at `version`, microseconds since the epoch, when it has one.
    pub watermark_us: Option<i64>,
}

/// The result of comparing one target table with its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedTable {
    /// The model.
    pub model: String,
    /// The target under its final name.
    pub target: Target,
    /// `local`, `snowflake`, `kafka` or `redis`.
    pub sink: &'static str,
    /// Rows of the model, one per key.
    pub model_rows: u64,
    /// Rows of the target.
    pub target_rows: u64,
    /// Rows that the target lacks.
    pub missing: u64,
    /// Rows that the model does not have.
    pub extra: u64,
    /// Rows with the same key and other values.
    pub different: u64,
    /// A few lines that name what differs, for a person.
    pub examples: Vec<String>,
}

impl CheckedTable {
    /// Whether both hold the same rows.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.different == 0 && self.examples.is_empty()
    }
}

/// Hears what publishing does. All methods do nothing unless overridden; they are called between awaits and must be fast.
pub trait PublishObserver: Send + Sync {
    /// A publication was compared with its target and has `counts` to send.
    fn planned(&self, model: &str, target: &Target, counts: ChangeCounts) {
        let _ = (model, target, counts);
    }

    /// A publication is done.
    fn finished(&self, table: &PublishedTable) {
        let _ = table;
    }

    /// A statement is about to be sent to the warehouse. Texts hold no secrets: values travel as bindings.
    fn statement(&self, sql: &str) {
        let _ = sql;
    }

    /// A step was passed: the names of the crash points, e.g. `publish.snowflake.commit`.
    fn step(&self, name: &str) {
        let _ = name;
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl PublishObserver for Silent {}
