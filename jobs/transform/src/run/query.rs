//! Queries of analysts, with errors that say what to do.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, SessionContext};
use tidemill_lake::store_fault_within;
use tidemill_project::error::nearest;
use tidemill_project::{Diagnostic, ErrorKind};

use super::BuildError;
use crate::sql::trouble;

/// A query that did not work.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The SQL itself is at fault.
    #[error("failed to plan the query: {message}{}", place(*.at))]
    Sql {
        /// What is wrong.
        message: String,
        /// The way out, when there is one to see.
        hint: Option<String>,
        /// Line and column in the SQL, from 1.
        at: Option<(usize, usize)>,
    },
    /// What it reads, or a row.
    #[error("failed to {act} the query")]
    Failed {
        /// `plan` or `run`.
        act: &'static str,
        /// The engine's error.
        source: Box<DataFusionError>,
    },
}

fn place(at: Option<(usize, usize)>) -> String {
    at.map(|(line, column)| format!(", line {line}, column {column}")).unwrap_or_default()
}

impl QueryError {
    fn planning(session: &SessionContext, source: DataFusionError) -> Self {
        let failed = Self::Failed { act: "plan", source: Box::new(source) };
        if failed.of_a_table().is_some() || failed.of_the_store().is_some() {
            return failed;
        }
        let Self::Failed { source, .. } = &failed else { return failed };
        let found = trouble(source);
        let hint = found.hint.or_else(|| {
            let known = tables(session);
            nearest(found.table.as_deref()?, known.iter().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?"))
                .or_else(|| Some("`show tables` lists what there is".to_owned()))
        });
        Self::Sql { message: found.message, hint, at: found.at }
    }

    fn source(&self) -> Option<&DataFusionError> {
        match self {
            Self::Sql { .. } => None,
            Self::Failed { source, .. } => Some(source),
        }
    }

    fn of_the_store(&self) -> Option<ErrorKind> {
        store_fault_within(self.source()?)
    }

    /// What went wrong with a table of the project that the query names: it was not built yet, or does not plan.
    fn of_a_table(&self) -> Option<&BuildError> {
        let mut at: Option<&(dyn std::error::Error + 'static)> = Some(self.source()?);
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
        of_a_table().or_else(|| self.of_the_store()).unwrap_or(ErrorKind::Invalid)
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Sql { hint, .. } => hint.clone(),
            Self::Failed { .. } => self.of_a_table().and_then(Diagnostic::hint),
        }
    }
}

/// The tables that a query can name: bare where they stand in the default schema, else with their schema.
fn tables(session: &SessionContext) -> Vec<String> {
    let Some(catalog) = session.catalog("datafusion") else { return Vec::new() };
    let mut found = Vec::new();
    for schema in catalog.schema_names() {
        let names = catalog.schema(&schema).map(|tables| tables.table_names()).unwrap_or_default();
        found.extend(names.into_iter().map(|name| if schema == "public" { name } else { format!("{schema}.{name}") }));
    }
    found
}

/// Rows of a plan; at least one batch comes back, empty when there is no row, for its columns.
pub(crate) async fn collect(frame: DataFrame) -> Result<Vec<RecordBatch>, DataFusionError> {
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let mut batches = frame.collect().await?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}

/// Runs one statement and collects its rows; at least one batch comes back, empty when there is no row, for its columns.
///
/// # Errors
/// Of kind `Unavailable` when the store did not answer, `Invalid` for a query that cannot work.
pub async fn query(session: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    let frame = crate::sql::plan(session, sql).await.map_err(|error| QueryError::planning(session, error))?;
    collect(frame).await.map_err(|source| QueryError::Failed { act: "run", source: Box::new(source) })
}
