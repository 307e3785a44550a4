//! What can go wrong while models are planned, built and tested.

use datafusion::error::DataFusionError;
use tidemill_lake::{TableId, store_fault_within};
use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Fault, Location};

use crate::project::NodeId;

/// The room's result inside of planning, building and testing.
pub(crate) type Result<T, E = BuildFault> = std::result::Result<T, E>;

/// What went wrong while models were planned, built or tested.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BuildError(#[from] BuildFault);

impl BuildError {
    /// The fault, for callers inside of the room.
    pub(crate) fn into_fault(self) -> BuildFault {
        self.0
    }
}

impl From<crate::Error> for BuildError {
    fn from(error: crate::Error) -> Self {
        Self(BuildFault::Project(error))
    }
}

impl Diagnostic for BuildError {
    fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    fn code(&self) -> Option<ErrorCode> {
        self.0.code()
    }

    fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    fn location(&self) -> Option<&Location> {
        self.0.location()
    }

    fn faults(&self) -> &[Fault] {
        self.0.faults()
    }
}

/// What stands beside the message of a query that does not plan.
#[derive(Debug)]
pub(crate) struct SqlTold {
    pub(crate) hint: Option<String>,
    pub(crate) location: Option<Location>,
}

/// A fault of planning or building.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildFault {
    #[error(transparent)]
    Project(#[from] crate::Error),
    #[error("a seed cannot be read, seed=`{seed}`")]
    Seed { seed: String, faults: Vec<Fault> },
    #[error("failed to read a seed, path=`{path}`")]
    ReadSeed { path: String, source: std::io::Error },
    #[error("failed to use a table of the lake, table=`{table}`")]
    Lake { table: TableId, source: Box<tidemill_lake::Error> },
    #[error("SQL does not plan, in=`{node}`")]
    Plan { node: NodeId, location: Option<Location>, source: Box<DataFusionError> },
    /// What the planner says, in the user's terms.
    #[error("{message}, in=`{node}`")]
    Sql {
        node: NodeId,
        message: String,
        // Boxed: every result of the room carries the size of the largest fault.
        told: Box<SqlTold>,
    },
    /// Found before anything ran; never empty.
    #[error("{}", summary(.0))]
    Checked(Vec<Fault>),
    #[error("a hook failed, hook=`{when}`, of=`{owner}`: {why}")]
    Hook { when: String, owner: String, why: String },
    #[error("rows break the contract, model=`{model}`, constraint=`{constraint}`, rows=`{rows}`")]
    Constraint { model: String, constraint: String, rows: u64, location: Location },
    #[error("SQL failed while it ran, in=`{node}`")]
    Execute { node: NodeId, location: Option<Location>, source: Box<DataFusionError> },
    #[error("failed to shape rows, in=`{node}`")]
    Shape { node: NodeId, source: arrow::error::ArrowError },
    #[error("a column has a type that tables cannot hold, model=`{model}`, column=`{column}`, type=`{data_type}`")]
    ColumnType { model: String, column: String, data_type: String, location: Option<Location> },
    #[error("the model does not produce its event time, model=`{model}`, event_time=`{column}`, columns=`{columns}`")]
    NoEventTime { model: String, column: String, columns: String, location: Option<Location> },
    #[error("event time is neither a timestamp nor a date, model=`{model}`, event_time=`{column}`, type=`{data_type}`")]
    EventTimeType { model: String, column: String, data_type: String, location: Option<Location> },
    #[error("a microbatch model declares neither where it begins nor an input with event time, model=`{model}`")]
    NoBegin { model: String, location: Option<Location> },
    #[error("a microbatch model has no batch yet, model=`{model}`, begin=`{begin}`, now=`{now}`")]
    NoBatches { model: String, begin: String, now: String, location: Option<Location> },
    #[error("the time asked for holds no batch, model=`{model}`, asked=`{asked}`, batches=`{held}`")]
    NoBatchAsked { model: String, asked: String, held: String, location: Option<Location> },
    #[error("source table is not there and no contract lands it, source=`{source_name}`")]
    SourceMissing { source_name: String, location: Option<Location> },
    #[error("an upstream model or seed was not built yet, upstream=`{upstream}`")]
    UpstreamMissing { upstream: String },
    #[error("the model does not produce a column that its rows are kept by, model=`{model}`, column=`{column}`")]
    NoKeyColumn { model: String, column: String, location: Option<Location> },
    #[error("the flag of deletions is no boolean, model=`{model}`, deleted=`{column}`, type=`{data_type}`")]
    DeletedType { model: String, column: String, data_type: String, location: Option<Location> },
    #[error("a merge got several rows for one key, model=`{model}`, unique_key=`{key}`, rows too many=`{rows}`")]
    RepeatedKey { model: String, key: String, rows: usize, location: Option<Location> },
    #[error("the query cannot be kept as an aggregate, model=`{model}`, because=`{because}`")]
    AggregateShape { model: String, because: String, location: Option<Location> },
    #[error("the model's SQL changed and its configuration forbids to go on, model=`{model}`, change=`{change}`")]
    SqlChanged { model: String, change: String, location: Option<Location> },
    #[error("the model's columns changed and its configuration forbids to go on, model=`{model}`, columns=`{change}`")]
    ColumnsChanged { model: String, change: String, location: Option<Location> },
    #[error("the lake has moved since the plan was made, model=`{model}`")]
    PlanMoved { model: String },
    #[error("the file is no plan, path=`{path}`, because=`{because}`")]
    PlanFile { path: String, because: String },
    #[error("other builds won every race for the next version, model=`{model}`, attempts=`{attempts}`")]
    Contended { model: String, attempts: usize },
    #[error("a task that built a model ended without an answer, node=`{node}`")]
    TaskLost { node: NodeId, source: tokio::task::JoinError },
    #[error("node is not of this project, node=`{node}`")]
    UnknownNode { node: NodeId },
}

impl BuildFault {
    /// Wraps an error of the lake with the table that was used.
    pub(crate) fn lake(table: &TableId) -> impl FnOnce(tidemill_lake::Error) -> Self + use<> {
        let table = table.clone();
        move |source| Self::Lake { table, source: Box::new(source) }
    }

    /// Wraps an error of planning SQL.
    pub(crate) fn plan(node: &NodeId, location: Option<Location>) -> impl FnOnce(DataFusionError) -> Self + use<> {
        let node = node.clone();
        move |source| Self::Plan { node, location, source: Box::new(source) }
    }

    /// Wraps an error of running SQL.
    pub(crate) fn execute(node: &NodeId, location: Option<Location>) -> impl FnOnce(DataFusionError) -> Self + use<> {
        let node = node.clone();
        move |source| Self::Execute { node, location, source: Box::new(source) }
    }

    /// Wraps an error of shaping rows.
    pub(crate) fn shape(node: &NodeId) -> impl FnOnce(arrow::error::ArrowError) -> Self + use<> {
        let node = node.clone();
        move |source| Self::Shape { node, source }
    }
}

impl Diagnostic for BuildFault {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Project(error) => error.kind(),
            Self::Lake { source, .. } => source.kind(),
            Self::Plan { source, .. } | Self::Execute { source, .. } if store_fault_within(source).is_some() => {
                store_fault_within(source).unwrap_or(ErrorKind::Unavailable)
            }
            Self::Contended { .. } | Self::PlanMoved { .. } => ErrorKind::Conflict,
            Self::TaskLost { .. } | Self::UnknownNode { .. } => ErrorKind::Bug,
            Self::Seed { .. }
            | Self::Checked(_)
            | Self::Plan { .. }
            | Self::Sql { .. }
            | Self::ColumnType { .. }
            | Self::NoEventTime { .. }
            | Self::EventTimeType { .. }
            | Self::NoBegin { .. }
            | Self::NoBatches { .. }
            | Self::NoBatchAsked { .. }
            | Self::NoKeyColumn { .. }
            | Self::DeletedType { .. }
            | Self::AggregateShape { .. }
            | Self::SqlChanged { .. }
            | Self::ColumnsChanged { .. }
            | Self::PlanFile { .. } => ErrorKind::Configuration,
            Self::ReadSeed { .. }
            | Self::Hook { .. }
            | Self::Constraint { .. }
            | Self::Execute { .. }
            | Self::Shape { .. }
            | Self::RepeatedKey { .. }
            | Self::SourceMissing { .. }
            | Self::UpstreamMissing { .. } => ErrorKind::Invalid,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Project(error) => error.code(),
            Self::Lake { source, .. } => source.code(),
            Self::Seed { .. } | Self::ReadSeed { .. } => Some(ErrorCode(358)),
            Self::Plan { .. } | Self::Sql { .. } => Some(ErrorCode(351)),
            Self::Checked(faults) => faults.first().filter(|_| faults.len() == 1).and_then(|fault| fault.code),
            Self::Hook { .. } => Some(ErrorCode(361)),
            Self::Constraint { .. } => Some(ErrorCode(360)),
            Self::Execute { .. } => Some(ErrorCode(352)),
            Self::ColumnType { .. } => Some(ErrorCode(353)),
            Self::NoEventTime { .. } | Self::EventTimeType { .. } => Some(ErrorCode(354)),
            Self::NoBegin { .. } | Self::NoBatches { .. } | Self::NoBatchAsked { .. } => Some(ErrorCode(355)),
            Self::SourceMissing { .. } => Some(ErrorCode(356)),
            Self::UpstreamMissing { .. } => Some(ErrorCode(357)),
            Self::NoKeyColumn { .. } | Self::DeletedType { .. } => Some(ErrorCode(370)),
            Self::RepeatedKey { .. } => Some(ErrorCode(371)),
            Self::AggregateShape { .. } => Some(ErrorCode(372)),
            Self::SqlChanged { .. } => Some(ErrorCode(373)),
            Self::ColumnsChanged { .. } => Some(ErrorCode(362)),
            Self::PlanMoved { .. } | Self::PlanFile { .. } => Some(ErrorCode(374)),
            Self::Shape { .. } | Self::Contended { .. } | Self::TaskLost { .. } | Self::UnknownNode { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Project(error) => error.hint(),
            Self::Lake { source, .. } => source.hint(),
            Self::Sql { told, .. } => told.hint.clone(),
            Self::Checked(faults) => faults.first().filter(|_| faults.len() == 1).and_then(|fault| fault.hint.clone()),
            Self::ColumnType { column, .. } => Some(format!("cast `{column}` to a type that can be stored")),
            Self::NoEventTime { column, .. } => {
                Some(format!("select `{column}`, or name another column in `event_time`"))
            }
            Self::EventTimeType { column, .. } => Some(format!("cast `{column}` to timestamp or date")),
            Self::NoBegin { .. } => Some("add `begin` to the model's config".to_owned()),
            Self::NoBatchAsked { .. } => {
                Some("look at `--event-time-start`, `--event-time-end` and the model's `begin`: all are UTC".to_owned())
            }
            Self::NoBatches { .. } => Some("set `begin` to when the first events happened, in UTC".to_owned()),
            Self::SourceMissing { source_name, .. } => Some(format!(
                "declare a contract for `{source_name}` and run `tidemill ingest`, or add a seed of that name"
            )),
            Self::NoKeyColumn { column, .. } => Some(format!("select `{column}`, or name other columns")),
            Self::DeletedType { column, .. } => Some(format!("make `{column}` a boolean")),
            Self::RepeatedKey { .. } => Some(
                "select one row per key, or name `event_time` or `latest_by` so that the latest is kept".to_owned(),
            ),
            Self::AggregateShape { .. } => {
                Some("select each expression of one `group by`, or use another strategy".to_owned())
            }
            Self::SqlChanged { model, .. } => {
                Some(format!("run `tidemill build --full-refresh --select {model}`, or set `on_sql_change`"))
            }
            Self::ColumnsChanged { model, .. } => Some(format!(
                "set `on_schema_change` to append_new_columns or sync_all_columns, or run `tidemill build --full-refresh --select {model}`"
            )),
            Self::PlanMoved { .. } => Some("make a new plan with `tidemill build --dry-run --format json`".to_owned()),
            Self::UpstreamMissing { upstream } => Some(format!("run `tidemill build --select +{upstream}` first")),
            _ => None,
        }
    }

    fn location(&self) -> Option<&Location> {
        match self {
            Self::Plan { location, .. }
            | Self::Execute { location, .. }
            | Self::ColumnType { location, .. }
            | Self::NoEventTime { location, .. }
            | Self::EventTimeType { location, .. }
            | Self::NoBegin { location, .. }
            | Self::NoBatches { location, .. }
            | Self::NoBatchAsked { location, .. }
            | Self::NoKeyColumn { location, .. }
            | Self::DeletedType { location, .. }
            | Self::RepeatedKey { location, .. }
            | Self::AggregateShape { location, .. }
            | Self::SqlChanged { location, .. }
            | Self::ColumnsChanged { location, .. }
            | Self::SourceMissing { location, .. } => location.as_ref(),
            Self::Sql { told, .. } => told.location.as_ref(),
            Self::Project(error) => error.location(),
            Self::Constraint { location, .. } => Some(location),
            Self::Checked(faults) => faults.first().and_then(|fault| fault.location.as_ref()),
            Self::Seed { faults, .. } => faults.first().and_then(|fault| fault.location.as_ref()),
            _ => None,
        }
    }

    fn faults(&self) -> &[Fault] {
        match self {
            Self::Project(error) => error.faults(),
            Self::Seed { faults, .. } => faults,
            Self::Checked(faults) if faults.len() > 1 => faults,
            _ => &[],
        }
    }
}

fn summary(faults: &[Fault]) -> String {
    match faults {
        [only] => only.message.clone(),
        _ => format!("{} faults were found before anything ran", faults.len()),
    }
}
