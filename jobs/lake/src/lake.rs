//! The door to a store full of tables.

use tidemill_project::TableVersion;
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings};

use crate::{Result, Table, TableId, TableSpec};

/// A lake, or a local warehouse: Delta tables under one URL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lake {
    _private: (),
}

impl Lake {
    /// Connects to the store; a local folder is created. No request is sent to a remote store yet.
    pub fn connect(settings: &LakeSettings, maintenance: &MaintenanceSettings, clock: Clock) -> Result<Self> {
        let _ = (settings, maintenance, clock);
        unimplemented!()
    }

    /// The clock that stamps commits.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        unimplemented!()
    }

    /// The absolute URL of a table.
    #[must_use]
    pub fn url_of(&self, id: &TableId) -> url::Url {
        let _ = id;
        unimplemented!()
    }

    /// Opens a table at its newest version; `None` when it does not exist.
    pub async fn open(&self, id: &TableId) -> Result<Option<Table>> {
        let _ = id;
        unimplemented!()
    }

    /// Opens a table as it was at `version`.
    pub async fn open_at(&self, id: &TableId, version: TableVersion) -> Result<Table> {
        let _ = (id, version);
        unimplemented!()
    }

    /// Opens a table, or creates it (version 0). When it exists, columns of `spec` that it lacks are an error of kind
    /// `Invalid` (code TM0203); the caller decides about [`Table::add_columns`].
    pub async fn open_or_create(&self, spec: &TableSpec, run_id: &str) -> Result<Table> {
        let _ = (spec, run_id);
        unimplemented!()
    }

    /// All tables under the root, sorted.
    pub async fn list(&self) -> Result<Vec<TableId>> {
        unimplemented!()
    }

    /// Removes a table with all its files (models that were dropped, tables that change their partitioning).
    pub async fn drop_table(&self, id: &TableId) -> Result<()> {
        let _ = id;
        unimplemented!()
    }
}
