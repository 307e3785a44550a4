//! Which parts of which models are stale, and why: computed from Delta logs, never guessed, and without opening a data file.
//!
//! A model's own last commit says which versions of its inputs it was computed from. The commits since then say which files
//! came and went; partition values and statistics say which event times they hold; the model's context says which of its
//! batches read those. Nothing else decides.
//!
//! Models that stand on other models are planned when those are done, by the same function: only then is it known which of
//! their batches really changed.

mod changes;
mod cost;
mod file;
mod fingerprint;
mod inputs;
mod planner;
mod range;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tidemill_lake::DataFile;
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

pub use changes::BATCH_COLUMN;
pub(crate) use changes::{Touched, touched_by};
pub use cost::Reads;
pub use file::{PLAN_FORMAT, PlanFile, PlannedFor};
pub(crate) use inputs::{Leaf, event_time_of, identifier_of, is_stored, schema_of, table_of};
pub(crate) use planner::{Pinned, Planned, Planner, last_transform};
pub use range::{RangeSet, Reach, TimeRange};
pub(crate) use windows::named;

use crate::project::{BatchWindow, Storage};

/// What a plan is made for.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Rebuild all that is selected.
    pub full_refresh: bool,
    /// The run's clock; the lake's clock unless given. W never exceeds it.
    pub as_of_us: Option<Micros>,
    /// Rebuild exactly the batches of `[event_time_start, event_time_end)` of microbatch models, whatever their inputs say.
    /// What else is stale stays so.
    pub event_time: Option<TimeRange>,
    /// W by source, in place of what the lake's commits say.
    pub watermarks: Option<BTreeMap<SourceName, Micros>>,
    /// Model -> names of batches: of these microbatch models exactly those are built (`retry` of failed batches, see
    /// [`crate::run::NodeReport::failed_batches`]). What else is stale in them stays so.
    pub batches: BTreeMap<String, Vec<String>>,
    /// Nothing is built that this plan does not say.
    pub exactly: Option<Arc<PlanFile>>,
}

/// What a build would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// The run's clock, microseconds UTC.
    pub as_of_us: Micros,
    /// What it was made for.
    pub planned_for: PlannedFor,
    /// Models in the order in which they are built.
    pub models: Vec<ModelPlan>,
}

impl Plan {
    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.iter().all(|model| matches!(model.action, Action::Skip | Action::Inline) && model.after.is_empty())
    }
}

/// What is to be done with one model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelPlan {
    /// The model.
    pub model: String,
    /// How it is kept.
    pub storage: Storage,
    /// What will be done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// What will be read, as far as the log tells.
    pub reads: Reads,
    /// What changed in the SQL, when that is the reason.
    pub sql_change: Option<SqlChange>,
    /// Why the whole is computed although only parts of the inputs changed.
    pub whole_because: Option<String>,
    /// Table path -> version that will be read.
    pub inputs: BTreeMap<String, u64>,
    /// Upstream models that will be built first and may make more of this one stale.
    pub after: Vec<String>,
}

impl ModelPlan {
    /// Whether the model shows all that its inputs hold, as far as is known now.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        matches!(self.action, Action::Skip | Action::Inline | Action::Record) && self.after.is_empty()
    }
}

/// What is done with a model.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing is stored: readers run the SQL.
    Inline,
    /// Nothing to do.
    Skip,
    /// No row can change; the versions of the inputs are noted.
    Record,
    /// The whole table is computed and replaced.
    Whole,
    /// These batches are computed and replaced.
    Batches {
        /// Ascending.
        batches: Vec<PlannedBatch>,
        /// Whether batches that are not listed go away.
        all: bool,
    },
    /// The rows of new files are added.
    Append {
        /// Table path of the input.
        input: String,
        /// Its new files.
        #[serde(serialize_with = "serialize_paths")]
        files: Vec<DataFile>,
    },
    /// Rows are computed again for the keys that changed rows of the inputs touch.
    Keys {
        /// How the inputs changed.
        changes: Vec<InputDelta>,
        /// Rows of these event times are touched as well: W passed their due times.
        due: Option<TimeRange>,
    },
    /// The incremental SQL runs; its rows take the place of those with the same key.
    Upsert,
}

/// The files in which one input differs from what was read last.
#[derive(Clone, Debug, Serialize)]
pub struct InputDelta {
    /// Path of the input's table.
    pub table: String,
    /// New files.
    #[serde(serialize_with = "serialize_paths")]
    pub added: Vec<DataFile>,
    /// Files that went away.
    #[serde(serialize_with = "serialize_paths")]
    pub removed: Vec<DataFile>,
}

/// How a model's SQL differs from that of the table's last build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SqlChange {
    /// Columns were added; every row and every other column is as before.
    NonBreaking {
        /// The new columns.
        added: Vec<String>,
    },
    /// Rows may be others, or these columns are computed differently or gone; none when it cannot be told.
    Breaking {
        /// The columns.
        columns: Vec<String>,
    },
}

impl std::fmt::Display for SqlChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NonBreaking { added } if added.is_empty() => write!(f, "non-breaking"),
            Self::NonBreaking { added } => write!(f, "non-breaking, adds {}", added.join(", ")),
            Self::Breaking { columns } if columns.is_empty() => write!(f, "breaking"),
            Self::Breaking { columns } => write!(f, "breaking, changes {}", columns.join(", ")),
        }
    }
}

fn serialize_paths<S: serde::Serializer>(files: &[DataFile], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(files.iter().map(|file| &file.path))
}

/// One batch of a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PlannedBatch {
    /// Its value in the partition column `_batch`.
    pub name: String,
    /// Its event times.
    pub window: BatchWindow,
}

/// Why a model is (not) built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is a view.
    Inline,
    /// It shows what its inputs hold.
    UpToDate,
    /// There is no table, or none that we built.
    NeverBuilt,
    /// `--full-refresh`, or `full_refresh: true`.
    FullRefresh,
    /// A range was asked for.
    Requested,
    /// Its compiled SQL is another, or that of a view under it, or the engine's functions are.
    SqlChanged,
    /// Its configuration is another.
    ConfigChanged,
    /// Its columns are others.
    SchemaChanged,
    /// Rows of inputs came, went or changed.
    NewData {
        /// Names of the inputs.
        inputs: Vec<String>,
    },
    /// An upstream model was rebuilt as a whole.
    UpstreamRebuilt {
        /// The model.
        upstream: String,
    },
    /// An input is another table than the one that was read.
    InputRecreated {
        /// Name of the input.
        input: String,
    },
    /// Log clean-up was faster: what changed in an input cannot be told.
    VersionGone {
        /// Name of the input.
        input: String,
    },
    /// Batches failed in an earlier build.
    BatchesFailed,
    /// The watermark passed due times.
    WatermarkMoved {
        /// W of the last build.
        from_us: Option<Micros>,
        /// W now.
        to_us: Option<Micros>,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline => write!(f, "view"),
            Self::UpToDate => write!(f, "up to date"),
            Self::NeverBuilt => write!(f, "never built"),
            Self::FullRefresh => write!(f, "full refresh"),
            Self::Requested => write!(f, "asked for"),
            Self::SqlChanged => write!(f, "SQL changed"),
            Self::ConfigChanged => write!(f, "configuration changed"),
            Self::SchemaChanged => write!(f, "columns changed"),
            Self::NewData { inputs } => write!(f, "new data in {}", inputs.join(", ")),
            Self::UpstreamRebuilt { upstream } => write!(f, "upstream {upstream} was rebuilt"),
            Self::InputRecreated { input } => write!(f, "input {input} is another table"),
            Self::VersionGone { input } => write!(f, "log of input {input} was cleaned up"),
            Self::BatchesFailed => write!(f, "batches failed before"),
            Self::WatermarkMoved { .. } => write!(f, "watermark moved"),
        }
    }
}
