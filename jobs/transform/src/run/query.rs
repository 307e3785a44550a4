//! Queries of analysts, with errors that say what to do.

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use tidemill_lake::store_fault_within;
use tidemill_project::{Diagnostic, ErrorKind};

use super::BuildError;

/// A query that did not work.
#[derive(Debug, thiserror::Error)]
#[error("failed to {act} the query")]
pub struct QueryError {
    act: &'static str,
    source: Box<DataFusionError>,
}

impl QueryError {
    fn new(act: &'static str) -> impl FnOnce(DataFusionError) -> Self {
        move |source| Self { act, source: Box::new(source) }
    }

    /// What went wrong with a table of the project that the query names: it was not built yet, or does not plan.
    fn of_a_table(&self) -> Option<&BuildError> {
        let mut at: Option<&(dyn std::error::Error + 'static)> = Some(self.source.as_ref());
        while let Some(error) = at {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            at = error.source();
        }
        None
    }
}

impl Diagnostic for QueryError {
    fn kind(&self) -> ErrorKind {
        let of_a_table = || match self.of_a_table()?.kind() {
            // A query is no part of the project's configuration, whatever it stumbles over.
            ErrorKind::Configuration => None,
            kind => Some(kind),
        };
        of_a_table().or_else(|| store_fault_within(self.source.as_ref())).unwrap_or(ErrorKind::Invalid)
    }

    fn hint(&self) -> Option<String> {
        self.of_a_table().and_then(Diagnostic::hint)
    }
}

/// Runs one statement and collects its rows; at least one batch comes back, empty when there is no row, for its columns.
///
/// # Errors
/// Of kind `Unavailable` when the store did not answer, `Invalid` for a query that cannot work.
pub async fn query(session: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    let frame = crate::sql::plan(session, sql).await.map_err(QueryError::new("plan"))?;
    let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
    let mut batches = frame.collect().await.map_err(QueryError::new("run"))?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}
