//! DataFusion sessions over tables.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use tidemill_project::config::TransformSettings;

use crate::{DataFile, Result, Table};

/// Where SQL runs. Local for now: embedded DataFusion with one memory budget for all sessions.
#[derive(Clone, Debug)]
pub struct Engine {
    _private: (),
}

impl Engine {
    /// Builds the engine.
    #[must_use]
    pub fn local(settings: &TransformSettings) -> Self {
        let _ = settings;
        unimplemented!()
    }

    /// A fresh session: UTC, identifiers as PostgreSQL has them, object stores known, budget shared, spill to temporary files.
    #[must_use]
    pub fn session(&self) -> SessionContext {
        unimplemented!()
    }
}

impl Table {
    /// The table at its version as a DataFusion table: partition columns typed, files pruned by partition values and
    /// statistics.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        unimplemented!()
    }

    /// The same over some files only: the new files of an incremental run.
    pub fn provider_over(&self, files: Vec<DataFile>) -> Result<Arc<dyn TableProvider>> {
        let _ = files;
        unimplemented!()
    }
}
