//! Tables of other writers whose features this room does not know: delta-rs reads them, nobody here writes them.

use std::collections::BTreeMap;

use deltalake::DeltaTable;
use tidemill_project::TableVersion;

use crate::actions::{Add, Metadata, Protocol};
use crate::error::Cause;
use crate::state::{LiveFile, State};
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
    let metadata = Metadata {
        id: snapshot.metadata().id().to_owned(),
        name: None,
        description: None,
        format: crate::actions::Format::default(),
        schema_string: serde_json::to_string(snapshot.schema().as_ref()).map_err(|source| Cause::LogEntry {
            table: store.id.clone(),
            version: TableVersion(snapshot.version()),
            source,
        })?,
        partition_columns: snapshot.metadata().partition_columns().to_vec(),
        configuration: snapshot.metadata().configuration().clone().into_iter().collect::<BTreeMap<_, _>>(),
        created_time: None,
    };
    let features = |features: Option<&[deltalake::kernel::TableFeature]>| {
        features.map(|features| features.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let protocol = Protocol {
        min_reader_version: snapshot.protocol().min_reader_version(),
        min_writer_version: snapshot.protocol().min_writer_version(),
        reader_features: features(snapshot.protocol().reader_features()),
        writer_features: features(snapshot.protocol().writer_features()),
    };
    let unknown = schema::unwritable_feature(&protocol, &metadata);
    let mut state = State::new(&store.id, snapshot.version(), protocol, metadata)?;
    for view in snapshot.log_data().iter() {
        let add = view.add_action();
        let add = Add {
            path: add.path,
            partition_values: add.partition_values.into_iter().collect(),
            size: u64::try_from(add.size).unwrap_or_default(),
            modification_time: add.modification_time,
            data_change: add.data_change,
            stats: add.stats,
            tags: None,
        };
        state.files.insert(add.path.clone(), std::sync::Arc::new(LiveFile::from_add(add)));
    }
    tracing::debug!(table = %store.id, feature = unknown, "table is read through delta-rs");
    let provider =
        table.table_provider().await.map_err(|source| Cause::Query { table: store.id.clone(), source })?;
    Ok(Table::new(lake.clone(), store, state, true, Some(provider)))
}
