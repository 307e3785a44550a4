//! Tables as one run sees them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_lake::{Lake, Table, TableId};

use super::BuildFault;

/// One version of each input for the whole run, so that two models that read the same source agree about it. A model that was
/// built is replaced by its new version.
#[derive(Debug)]
pub(crate) struct Snapshots {
    lake: Lake,
    tables: Mutex<HashMap<TableId, Option<Arc<Table>>>>,
}

impl Snapshots {
    pub(crate) fn new(lake: Lake) -> Self {
        Self { lake, tables: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The table as this run sees it: opened when it is first asked for. `None` when it does not exist.
    pub(crate) async fn get(&self, id: &TableId) -> Result<Option<Arc<Table>>, BuildFault> {
        let known = self.tables.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        match known {
            Some(table) => Ok(table),
            None => self.reopen(id).await,
        }
    }

    /// The table at its newest version, from now on for the whole run.
    pub(crate) async fn reopen(&self, id: &TableId) -> Result<Option<Arc<Table>>, BuildFault> {
        let table = self.open_fresh(id).await?.map(Arc::new);
        // Of two tasks that open the same table at once the first decides, so that both read one version.
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = tables.entry(id.clone()).or_insert_with(|| table.clone());
        if entry.as_ref().map(|known| known.version()) < table.as_ref().map(|opened| opened.version()) {
            entry.clone_from(&table);
        }
        Ok(entry.clone())
    }

    /// The table at its newest version, for a writer of its own.
    pub(crate) async fn open_fresh(&self, id: &TableId) -> Result<Option<Table>, BuildFault> {
        self.lake.open(id).await.map_err(BuildFault::lake(id))
    }

    /// Shows a version that was just committed to the rest of the run.
    pub(crate) fn put(&self, table: Table) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(table.id().clone(), Some(Arc::new(table)));
    }

    /// Forgets tables, so that the next look sees their newest version.
    pub(crate) fn forget<'a>(&self, ids: impl IntoIterator<Item = &'a TableId>) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            tables.remove(id);
        }
    }
}
