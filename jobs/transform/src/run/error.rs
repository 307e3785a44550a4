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
    #[error("source table is not there and no contract lands it, source=`{source_name}`")]
    SourceMissing { source_name: String, location: Option<Location> },
    #[error("an upstream model or seed was not built yet, upstream=`{upstream}`")]
    UpstreamMissing { upstream: String },
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
            Self::Contended { .. } => ErrorKind::Conflict,
            Self::TaskLost { .. } | Self::UnknownNode { .. } => ErrorKind::Bug,
            Self::Seed { .. }
            | Self::Plan { .. }
            | Self::ColumnType { .. }
            | Self::NoEventTime { .. }
            | Self::EventTimeType { .. }
            | Self::NoBegin { .. } => ErrorKind::Configuration,
            Self::ReadSeed { .. }
            | Self::Execute { .. }
            | Self::Shape { .. }
            | Self::SourceMissing { .. }
            | Self::UpstreamMissing { .. } => ErrorKind::Invalid,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Project(error) => error.code(),
            Self::Lake { source, .. } => source.code(),
            Self::Seed { .. } | Self::ReadSeed { .. } => Some(ErrorCode(358)),
            Self::Plan { .. } => Some(ErrorCode(351)),
            Self::Execute { .. } => Some(ErrorCode(352)),
            Self::ColumnType { .. } => Some(ErrorCode(353)),
            Self::NoEventTime { .. } | Self::EventTimeType { .. } => Some(ErrorCode(354)),
            Self::NoBegin { .. } => Some(ErrorCode(355)),
            Self::SourceMissing { .. } => Some(ErrorCode(356)),
            Self::UpstreamMissing { .. } => Some(ErrorCode(357)),
            Self::Shape { .. } | Self::Contended { .. } | Self::TaskLost { .. } | Self::UnknownNode { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Project(error) => error.hint(),
            Self::Lake { source, .. } => source.hint(),
            Self::ColumnType { column, .. } => Some(format!("cast `{column}` to a type that can be stored")),
            Self::NoEventTime { column, .. } => {
                Some(format!("select `{column}`, or name another column in `event_time`"))
            }
            Self::EventTimeType { column, .. } => Some(format!("cast `{column}` to timestamp or date")),
            Self::NoBegin { .. } => Some("add `begin` to the model's config".to_owned()),
            Self::SourceMissing { source_name, .. } => Some(format!(
                "declare a contract for `{source_name}` and run `tidemill ingest`, or add a seed of that name"
            )),
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
            | Self::SourceMissing { location, .. } => location.as_ref(),
            Self::Project(error) => error.location(),
            Self::Seed { faults, .. } => faults.first().and_then(|fault| fault.location.as_ref()),
            _ => None,
        }
    }

    fn faults(&self) -> &[Fault] {
        match self {
            Self::Project(error) => error.faults(),
            Self::Seed { faults, .. } => faults,
            _ => &[],
        }
    }
}
