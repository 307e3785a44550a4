//! What can go wrong with tables, and what the caller can do about it.

use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, TableVersion};

use crate::TableId;

/// The room's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault of the lake.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Cause>);

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("failed to reach the store, url=`{url}`")]
    Store { url: String, source: object_store::Error },
    #[error("the store's address is not usable, url=`{url}`")]
    Address { url: String, source: object_store::Error },
    #[error("failed to {act}, table=`{table}`")]
    Delta { act: &'static str, table: TableId, source: deltalake::DeltaTableError },
    #[error("failed to {act} an object, table=`{table}`, path=`{path}`")]
    Object { act: &'static str, table: TableId, path: String, source: object_store::Error },
    #[error("failed to {act} a Parquet file, table=`{table}`, path=`{path}`")]
    Parquet { act: &'static str, table: TableId, path: String, source: parquet::errors::ParquetError },
    #[error("failed to encode rows as Parquet, table=`{table}`")]
    Encode { table: TableId, source: parquet::errors::ParquetError },
    #[error("failed to shape rows, table=`{table}`")]
    Arrow { table: TableId, source: arrow::error::ArrowError },
    #[error("failed to query, table=`{table}`")]
    Query { table: TableId, source: datafusion::error::DataFusionError },
    #[error("log entry is not readable, table=`{table}`, version=`{version}`")]
    LogEntry { table: TableId, version: TableVersion, source: serde_json::Error },
    #[error("a version of the range is gone from the log, table=`{table}`, version=`{version}`")]
    VersionGone { table: TableId, version: TableVersion },
    #[error("version is not there yet, table=`{table}`, version=`{version}`, newest=`{newest}`")]
    VersionAhead { table: TableId, version: TableVersion, newest: TableVersion },
    #[error("log has no protocol and metadata where it begins, table=`{table}`, version=`{version}`")]
    Headless { table: TableId, version: TableVersion },
    #[error("file to be removed is not live, table=`{table}`, version=`{version}`, path=`{path}`")]
    NotLive { table: TableId, version: TableVersion, path: String },
    #[error("file to be added is live already, table=`{table}`, version=`{version}`, path=`{path}`")]
    AlreadyLive { table: TableId, version: TableVersion, path: String },
    #[error(
        "commit gives the table other columns and keeps a file of the old ones, table=`{table}`, version=`{version}`, path=`{path}`"
    )]
    KeepsOldShape { table: TableId, version: TableVersion, path: String },
    #[error("table is open at an old version and cannot be written, table=`{table}`, version=`{version}`")]
    Pinned { table: TableId, version: TableVersion },
    #[error("table was dropped and made again meanwhile, table=`{table}`, version=`{version}`")]
    Replaced { table: TableId, version: TableVersion },
    #[error("worker ended before its work, table=`{table}`")]
    Worker { table: TableId, source: tokio::task::JoinError },
    #[error("table asks for a feature that this writer does not know, table=`{table}`, feature=`{feature}`")]
    Feature { table: TableId, feature: String },
    #[error("table has another schema than declared, table=`{table}`: {difference}")]
    Schema { table: TableId, difference: String },
    #[error("could not find out whether a commit happened, table=`{table}`, version=`{version}`")]
    Outcome { table: TableId, version: TableVersion, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("table does not exist, table=`{table}`")]
    Missing { table: TableId },
    #[error("condition over rows cannot be used, condition=`{condition}`")]
    Condition { condition: String, source: Box<datafusion::error::DataFusionError> },
    #[error("condition over rows yields no truth value, condition=`{condition}`, type=`{found}`")]
    NoCondition { condition: String, found: String },
}

impl Diagnostic for Error {
    fn kind(&self) -> ErrorKind {
        match self.0.as_ref() {
            Cause::Store { source, .. } | Cause::Object { source, .. } => kind_of_store(source),
            // Readers of Parquet, delta-rs and DataFusion wrap what the store says: an outage amid a file is an outage, not a
            // broken file or query.
            Cause::Parquet { source, .. } | Cause::Encode { source, .. } => {
                store_fault_within(source).unwrap_or(ErrorKind::Invalid)
            }
            Cause::Query { source, .. } => store_fault_within(source).unwrap_or(ErrorKind::Invalid),
            Cause::Arrow { source, .. } => store_fault_within(source).unwrap_or(ErrorKind::Invalid),
            Cause::Address { .. } | Cause::Condition { .. } | Cause::NoCondition { .. } => ErrorKind::Configuration,
            Cause::Outcome { .. } => ErrorKind::OutcomeUnknown,
            Cause::Replaced { .. } => ErrorKind::Conflict,
            Cause::Delta { source, .. } => store_fault_within(source).unwrap_or(ErrorKind::Invalid),
            Cause::NotLive { .. }
            | Cause::AlreadyLive { .. }
            | Cause::KeepsOldShape { .. }
            | Cause::Pinned { .. }
            | Cause::Worker { .. } => ErrorKind::Bug,
            _ => ErrorKind::Invalid,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self.0.as_ref() {
            Cause::VersionGone { .. } => Some(ErrorCode(201)),
            Cause::Feature { .. } => Some(ErrorCode(202)),
            Cause::Schema { .. } => Some(ErrorCode(203)),
            Cause::Address { .. } => Some(ErrorCode(204)),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.0.as_ref() {
            Cause::VersionGone { .. } => Some("compare by key instead: run the command with --full".to_owned()),
            Cause::Schema { table, .. } => {
                Some(format!("rebuild the table with --full-refresh, or move `{table}` away"))
            }
            _ => None,
        }
    }
}

/// Looks for a fault of a store among the causes of an error that another library made (a query engine, a file format), and
/// says what the caller can do about it; `None` when no store is to blame.
#[must_use]
pub fn store_fault_within(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(fault) = error.downcast_ref::<object_store::Error>() {
            return Some(kind_of_store(fault));
        }
        if let Some(fault) = error.downcast_ref::<Error>() {
            return Some(fault.kind());
        }
        if let Some(fault) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind as Io;
            let passes = matches!(
                fault.kind(),
                Io::TimedOut | Io::ConnectionReset | Io::ConnectionRefused | Io::ConnectionAborted | Io::BrokenPipe
            );
            return passes.then_some(ErrorKind::Unavailable);
        }
        at = error.source();
    }
    None
}

/// What is wrong with the request stays wrong; the rest may pass.
fn kind_of_store(error: &object_store::Error) -> ErrorKind {
    match error {
        object_store::Error::NotFound { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::NotSupported { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

impl Error {
    /// Whether log clean-up has removed a version that was asked for.
    #[must_use]
    pub fn is_version_gone(&self) -> bool {
        matches!(*self.0, Cause::VersionGone { .. })
    }

    /// Whether the table needs a feature that this room does not know.
    pub(crate) fn is_feature(&self) -> bool {
        matches!(*self.0, Cause::Feature { .. })
    }

    /// Whether the table does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(*self.0, Cause::Missing { .. })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::error::DataFusionError;

    use super::*;

    fn kind_of_query(source: DataFusionError) -> ErrorKind {
        Error::from(Cause::Query { table: TableId::quarantine(), source }).kind()
    }

    #[test]
    fn an_outage_amid_a_query_is_an_outage_however_deep_it_lies() {
        let outage = || object_store::Error::Generic { store: "S3", source: "503 slow down".into() };
        let in_parquet = || parquet::errors::ParquetError::External(Box::new(outage()));
        assert_eq!(kind_of_query(DataFusionError::ObjectStore(Box::new(outage()))), ErrorKind::Unavailable);
        assert_eq!(kind_of_query(DataFusionError::ParquetError(Box::new(in_parquet()))), ErrorKind::Unavailable);
        let in_arrow = arrow::error::ArrowError::ExternalError(Box::new(in_parquet()));
        let shared =
            DataFusionError::Shared(std::sync::Arc::new(DataFusionError::ArrowError(Box::new(in_arrow), None)));
        assert_eq!(kind_of_query(DataFusionError::Context("t".into(), Box::new(shared))), ErrorKind::Unavailable);
    }

    #[test]
    fn what_is_wrong_with_a_query_stays_wrong() {
        assert_eq!(kind_of_query(DataFusionError::Plan("no such column".to_owned())), ErrorKind::Invalid);
        let gone = object_store::Error::PermissionDenied { path: "p".to_owned(), source: "403".into() };
        assert_eq!(kind_of_query(DataFusionError::ObjectStore(Box::new(gone))), ErrorKind::Invalid);
        let broken = std::io::Error::from(std::io::ErrorKind::InvalidData);
        assert_eq!(kind_of_query(DataFusionError::IoError(broken)), ErrorKind::Invalid);
    }
}
