//! The door to a store full of tables.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings};
use tidemill_project::{SourceName, TableVersion};

use crate::error::Cause;
use crate::memory::Memory;
use crate::store::{Store, TableStore};
use crate::{Result, Table, TableId, TableSpec, foreign, replay, schema};

/// Folders that are looked into at once.
const CHECKS: usize = 16;

/// A lake, or a local warehouse: Delta tables under one URL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lake {
    store: Store,
    maintenance: Arc<MaintenanceSettings>,
    clock: Clock,
    /// Only where [`Lake::remembering`] asked for it.
    memory: Option<Memory>,
}

impl Lake {
    /// Connects to the store; a local folder is created. No request is sent to a remote store yet.
    ///
    /// Schemes: `file`, `s3`, `gs`, `az` (and Azure's other names), `memory` (gone with the last clone).
    ///
    /// # Errors
    /// [`tidemill_project::ErrorKind::Configuration`] for an address or an option that is not known.
    pub fn connect(settings: &LakeSettings, maintenance: &MaintenanceSettings, clock: Clock) -> Result<Self> {
        Ok(Self { store: Store::connect(settings)?, maintenance: Arc::new(maintenance.clone()), clock, memory: None })
    }

    /// Stands on a store that is there already, for wrappers that inject faults. `root` is the root of the bucket or file
    /// system of `url`.
    ///
    /// # Errors
    /// [`tidemill_project::ErrorKind::Configuration`] for an address that is no path.
    pub fn over(
        root: Arc<dyn ObjectStore>,
        url: &url::Url,
        maintenance: &MaintenanceSettings,
        clock: Clock,
    ) -> Result<Self> {
        Ok(Self { store: Store::over(url, root)?, maintenance: Arc::new(maintenance.clone()), clock, memory: None })
    }

    /// The same lake for a process that opens tables more than once: a table that it has opened before costs what was committed
    /// since. Clones share the memory.
    #[must_use]
    pub fn remembering(self) -> Self {
        Self { memory: Some(Memory::default()), ..self }
    }

    /// The clock that stamps commits.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How tables are cared for.
    #[must_use]
    pub fn maintenance(&self) -> &MaintenanceSettings {
        &self.maintenance
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The absolute URL of a table, with a trailing slash.
    #[must_use]
    pub fn url_of(&self, id: &TableId) -> url::Url {
        TableStore::new(&self.store, id).url()
    }

    /// Opens a table at its newest version; `None` when it does not exist.
    ///
    /// Costs the newest checkpoint and the entries after it, whatever the table's age; less where [`Lake::remembering`] has an
    /// earlier state.
    ///
    /// # Errors
    /// The store's faults, and a log that cannot be read.
    pub async fn open(&self, id: &TableId) -> Result<Option<Table>> {
        let Some(memory) = &self.memory else { return self.open_version(id, None).await };
        let place = TableStore::new(&self.store, id);
        let opened = match memory.recall(&place).await? {
            Some(state) if schema::unreadable_feature(&state.protocol, &state.metadata).is_none() => {
                Some(Table::new(self.clone(), place, state, false, None))
            }
            Some(_) | None => self.open_version(id, None).await?,
        };
        if let Some(table) = opened.as_ref().filter(|table| table.foreign.is_none()) {
            memory.keep(id, &table.state);
        }
        Ok(opened)
    }

    /// Opens a table as it was at `version`. It can be read, not committed to.
    ///
    /// # Errors
    /// [`crate::Error::is_version_gone`] when log clean-up has removed the version, [`crate::Error::is_missing`] when there is
    /// no table.
    pub async fn open_at(&self, id: &TableId, version: TableVersion) -> Result<Table> {
        match self.open_version(id, Some(version.0)).await? {
            Some(table) => Ok(table),
            None => Err(Cause::Missing { table: id.clone() }.into()),
        }
    }

    async fn open_version(&self, id: &TableId, version: Option<u64>) -> Result<Option<Table>> {
        let place = TableStore::new(&self.store, id);
        let state = match replay::load(&place, version).await {
            Ok(None) => return Ok(None),
            Ok(Some(state)) if schema::unreadable_feature(&state.protocol, &state.metadata).is_none() => state,
            Ok(Some(_)) => return foreign::open(self, place, version).await.map(Some),
            Err(error) if error.is_feature() => return foreign::open(self, place, version).await.map(Some),
            Err(error) => return Err(error),
        };
        Ok(Some(Table::new(self.clone(), place, state, version.is_some(), None)))
    }

    /// Opens a table, or creates it (version 0). When it exists, columns of `spec` that it lacks are an error of kind
    /// `Invalid` (code TM0203); the caller decides about [`Table::add_columns`].
    ///
    /// Two that create the same table at once both end with it open.
    ///
    /// # Errors
    /// Code TM0203, with what differs; the store's faults.
    pub async fn open_or_create(&self, spec: &TableSpec, run_id: &str) -> Result<Table> {
        let table = match self.open(&spec.id).await? {
            Some(table) => table,
            None => Table::create(self, spec, run_id).await?,
        };
        let found = table.schema();
        let mut difference = schema::difference(&spec.schema, &found);
        if difference.is_none() && table.partition_columns() != spec.partition_columns {
            let (declared, found) = (spec.partition_columns.join(", "), table.partition_columns().join(", "));
            difference = Some(format!("partitioned by `{found}` instead of `{declared}`"));
        }
        match difference {
            Some(difference) => Err(Cause::Schema { table: spec.id.clone(), difference }.into()),
            None => Ok(table),
        }
    }

    /// All tables under the root, sorted. Costs a listing of a few levels of folders and one request per table.
    ///
    /// Folders `raw`, `models` and `ops` are the lake's; any other is a database of a warehouse.
    ///
    /// # Errors
    /// The store's faults.
    pub async fn list(&self) -> Result<Vec<TableId>> {
        let mut candidates = Vec::new();
        for top in self.folders("").await? {
            let middles = if top == "ops" { vec![top.clone()] } else { self.folders_below(&top).await? };
            for middle in middles {
                candidates.extend(self.folders_below(&middle).await?.iter().filter_map(|path| table_at(path)));
            }
        }
        let check = |id: TableId| async move { self.has_log(&id).await.map(|is_table| (is_table, id)) };
        let checked: Vec<(bool, TableId)> = stream::iter(candidates).map(check).buffered(CHECKS).try_collect().await?;
        let mut tables: Vec<_> = checked.into_iter().filter_map(|(is_table, id)| is_table.then_some(id)).collect();
        tables.sort();
        Ok(tables)
    }

    /// Whether a folder holds a log. Some stores go on listing folders whose last object was deleted.
    async fn has_log(&self, id: &TableId) -> Result<bool> {
        let place = TableStore::new(&self.store, id);
        let folder = place.log_folder();
        match place.object_store().list(Some(&folder)).next().await {
            None | Some(Err(object_store::Error::NotFound { .. })) => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(source)) => Err(place.fault("list", &folder, source).into()),
        }
    }

    /// The folders in a folder under the root, as paths under the root.
    async fn folders_below(&self, relative: &str) -> Result<Vec<String>> {
        Ok(self.folders(relative).await?.into_iter().map(|name| format!("{relative}/{name}")).collect())
    }

    /// The names of the folders in a folder under the root.
    async fn folders(&self, relative: &str) -> Result<Vec<String>> {
        let mut prefix = self.store.base().clone();
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            prefix = prefix.join(part);
        }
        let listed = match self.store.root().list_with_delimiter(Some(&prefix)).await {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(source) => return Err(Cause::Store { url: self.store.url().to_string(), source }.into()),
        };
        Ok(listed.common_prefixes.iter().filter_map(|path| path.filename()).map(str::to_owned).collect())
    }

    /// Removes a table with all its files (models that were dropped, tables that change their partitioning). Idempotent.
    ///
    /// The log goes first, and in it what an opening looks at first: at any moment there is a whole table or none, and a call
    /// that was cut short is completed by the next one.
    ///
    /// # Errors
    /// The store's faults.
    pub async fn drop_table(&self, id: &TableId) -> Result<()> {
        let place = TableStore::new(&self.store, id);
        let listed = place.list(&place.folder()).await?;
        let log = place.log_folder();
        let (log, data): (Vec<_>, Vec<_>) =
            listed.into_iter().map(|object| object.location).partition(|path| path.prefix_matches(&log));
        let (hint, log): (Vec<_>, Vec<_>) =
            log.into_iter().partition(|path| path.filename().is_some_and(|name| name == "_last_checkpoint"));
        let (checkpoints, mut entries): (Vec<_>, Vec<_>) =
            log.into_iter().partition(|path| path.filename().is_some_and(|name| name.contains(".checkpoint.")));
        entries.sort();
        for paths in [hint, checkpoints, entries, data] {
            place.delete(paths).await?;
        }
        Ok(())
    }
}

/// The table that a folder would be by its path under the root.
fn table_at(path: &str) -> Option<TableId> {
    let parts = path.split('/').collect::<Vec<_>>();
    Some(match parts.as_slice() {
        ["ops", name] => TableId::Ops((*name).to_owned()),
        ["raw", source, table] => TableId::Raw(SourceName::new(*source, *table)),
        ["models", schema, name] => TableId::model(*schema, *name),
        [database, schema, table] => TableId::Warehouse {
            database: (*database).to_owned(),
            schema: (*schema).to_owned(),
            table: (*table).to_owned(),
        },
        _ => return None,
    })
}
