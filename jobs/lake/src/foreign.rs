//! Tables of other writers whose features this room does not know: delta-rs reads them, nobody here writes them.

use std::sync::Arc;

use deltalake::DeltaTable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_project::TableVersion;

use crate::actions::{Add, Metadata, Protocol};
use crate::error::Cause;
use crate::live::LiveFile;
use crate::state::{Files, State};
use crate::store::TableStore;
use crate::{Lake, Result, Table, schema};

/// Opens a table through delta-rs, at its newest version when `version` is `None`. It can be queried, not committed to;
/// progress of applications is not known.
pub(crate) async fn open(lake: &Lake, store: TableStore, version: Option<u64>) -> Result<Table> {
    let fault = |source| Cause::Delta { act: "open the table", table: store.id.clone(), source };
    let mut table = DeltaTable::new(store.log_store());
    match version {
        None => table.load().await.map_err(fault)?,
        Some(version) => table.load_version(version).await.map_err(fault)?,
    }
    let snapshot = table.snapshot().map_err(fault)?;
    let version = snapshot.version();
    let shape = |source| Cause::LogEntry { table: store.id.clone(), version: TableVersion(version), source };
    let protocol: Protocol = translate(snapshot.protocol()).map_err(shape)?;
    let metadata: Metadata = translate(snapshot.metadata()).map_err(shape)?;
    let unknown = schema::unwritable_feature(&protocol, &metadata);
    let mut files = Files::new();
    let mut state = State::new(&store.id, version, protocol, metadata)?;
    for view in snapshot.log_data().iter() {
        let add = Add {
            path: view.path().into_owned(),
            partition_values: view.partition_values_map().into_iter().collect(),
            size: u64::try_from(view.size()).unwrap_or_default(),
            modification_time: view.modification_time(),
            data_change: false,
            stats: view.stats(),
            tags: None,
        };
        let file = Arc::new(LiveFile::from_add(add));
        files.insert(Arc::clone(&file.path), file);
    }
    state.files = Arc::new(files);
    tracing::debug!(table = %store.id, feature = unknown, "table is read through delta-rs");
    let provider = table.table_provider().await.map_err(|source| Cause::Query { table: store.id.clone(), source })?;
    Ok(Table::new(lake.clone(), store, state, true, Some(provider)))
}

/// delta-rs keeps the fields of these actions to itself; their JSON form is the protocol's.
fn translate<T: DeserializeOwned>(action: &impl Serialize) -> serde_json::Result<T> {
    serde_json::from_value(serde_json::to_value(action)?)
}
