//! The state beside a keyed table: winners with their deletions, partial aggregates.
//!
//! It is a Delta table of its own, `models/_state/<schema>.<model>/`, so that a model's table holds nothing but the model's
//! rows. Two tables cannot be committed at once; the order makes up for it:
//!
//! | step | a crash after it leaves |
//! | --- | --- |
//! | 1. the state is committed | a state that is ahead of the model: no commit of the model names its version |
//! | 2. the model is committed, naming that version | both at their new versions |
//!
//! The model's newest commit alone says which version of the state counts. A build that finds a state ahead of it goes back to
//! the version that counts, in the same commit that moves it on. Of two builds that race for the model one wins; the state of
//! the loser counts for nothing, whichever of the two wrote the state last.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use tidemill_lake::maintain;
use tidemill_lake::metadata::{Act, CommitNote, StateNote, TransformNote};
use tidemill_lake::{CommitOutcome, CommitRequest, DataFile, Lake, Table, TableId, TableSpec};
use tidemill_project::TableVersion;
use tidemill_project::crash;

use super::change::{Change, Leaves};
use crate::project::NodeId;
use crate::run::{BuildFault, Result};

/// The schema that state tables lie in.
const SCHEMA: &str = "_state";

/// The state of one model, as its newest commit names it.
#[derive(Debug)]
pub(crate) struct State {
    lake: Lake,
    node: NodeId,
    table: Table,
    /// The files that count, which may not be the live ones.
    files: Vec<DataFile>,
    cluster: Vec<String>,
}

/// The place of a model's state.
pub(crate) fn state_of(model: &TableId) -> TableId {
    match model {
        TableId::Model { schema, name } => TableId::model(SCHEMA, format!("{schema}.{name}")),
        other => TableId::model(SCHEMA, other.path()),
    }
}

impl State {
    /// Opens the state at the version that counts; `None` when it is gone, or another table, or has other columns than
    /// `schema`: the model is rebuilt then.
    pub(crate) async fn open(
        lake: &Lake,
        node: &NodeId,
        model: &TableId,
        counts: Option<&StateNote>,
        schema: &SchemaRef,
        cluster: &[String],
    ) -> Result<Option<Self>> {
        let id = state_of(model);
        let Some(counts) = counts else { return Ok(None) };
        let Some(table) = lake.open(&id).await.map_err(BuildFault::lake(&id))? else { return Ok(None) };
        let version = TableVersion(counts.version);
        if table.table_id() != counts.table_id || table.version() < version || !same_columns(&table, schema) {
            return Ok(None);
        }
        let files = match files_at(&table, version).await {
            Ok(files) => files,
            Err(error) if error.is_version_gone() => return Ok(None),
            Err(error) => return Err(BuildFault::lake(&id)(error)),
        };
        Ok(Some(Self { lake: lake.clone(), node: node.clone(), table, files, cluster: cluster.to_vec() }))
    }

    /// Opens the state to write it anew. One that has other columns is dropped: what it holds counts no longer.
    pub(crate) async fn begin(
        lake: &Lake,
        node: &NodeId,
        model: &TableId,
        schema: &SchemaRef,
        cluster: &[String],
        run_id: &str,
    ) -> Result<Self> {
        let id = state_of(model);
        let fault = || BuildFault::lake(&id);
        let existing = lake.open(&id).await.map_err(fault())?;
        if existing.is_some_and(|table| !same_columns(&table, schema)) {
            lake.drop_table(&id).await.map_err(fault())?;
        }
        let is_text =
            |column: &&String| schema.field_with_name(column).is_ok_and(|field| *field.data_type() == DataType::Utf8);
        let spec = TableSpec {
            id: id.clone(),
            schema: Arc::clone(schema),
            partition_columns: Vec::new(),
            bloom_columns: cluster.iter().filter(is_text).cloned().collect(),
            description: format!("State of {node}, from which its rows are kept up to date. Not for readers."),
        };
        let table = lake.open_or_create(&spec, run_id).await.map_err(fault())?;
        let files = table.files();
        Ok(Self { lake: lake.clone(), node: node.clone(), table, files, cluster: cluster.to_vec() })
    }

    /// The state's rows, as a table of leaves.
    pub(crate) fn leaves(&self) -> Leaves<'_> {
        Leaves {
            table: &self.table,
            files: self.files.clone(),
            cluster: &self.cluster,
            event_time: None,
            node: &self.node,
        }
    }

    /// Commits; `None` when another build was faster. With nothing changed the version that counts stays.
    pub(crate) async fn commit(
        mut self,
        change: Change,
        note: &TransformNote,
        run_id: &str,
    ) -> Result<Option<StateNote>> {
        let by_path = |files: &[DataFile]| -> BTreeMap<String, DataFile> {
            files.iter().map(|file| (file.path.clone(), file.clone())).collect()
        };
        let live = by_path(&self.table.files());
        let mut wanted = by_path(&self.files);
        for file in &change.remove {
            wanted.remove(&file.path);
        }
        wanted.extend(by_path(&change.add));
        let add: Vec<DataFile> =
            wanted.iter().filter(|(path, _)| !live.contains_key(*path)).map(|(_, file)| file.clone()).collect();
        let remove: Vec<DataFile> =
            live.iter().filter(|(path, _)| !wanted.contains_key(*path)).map(|(_, file)| file.clone()).collect();
        let named = |table: &Table| StateNote { table_id: table.table_id().to_owned(), version: table.version().0 };
        if add.is_empty() && remove.is_empty() {
            return Ok(Some(named(&self.table)));
        }
        let request = CommitRequest {
            add,
            remove,
            txns: BTreeMap::new(),
            operation: "WRITE",
            data_change: true,
            note: CommitNote {
                commit_id: self.lake.clock().new_id(),
                run_id: run_id.to_owned(),
                act: Act::Transform(note.clone()),
            },
        };
        let id = self.table.id().clone();
        match self.table.commit(request).await.map_err(BuildFault::lake(&id))? {
            CommitOutcome::Committed(_) => {
                crash::point("aggregate.after_state");
                let counts = named(&self.table);
                maintain::after_commit(&self.table, run_id).await;
                Ok(Some(counts))
            }
            CommitOutcome::Lost(_) => Ok(None),
        }
    }
}

/// The files of a version. Care that came after it moved rows to other files and changed none, so those files count as well.
async fn files_at(table: &Table, version: TableVersion) -> tidemill_lake::Result<Vec<DataFile>> {
    if table.version() == version {
        return Ok(table.files());
    }
    let since = table.commits(Some(version), table.version()).await?;
    if since.iter().all(|commit| !commit.data_change) {
        return Ok(table.files());
    }
    let then = table.lake().open_at(table.id(), version).await?;
    Ok(then.files())
}

fn same_columns(table: &Table, schema: &SchemaRef) -> bool {
    let stored = table.schema();
    stored.fields().len() == schema.fields().len()
        && stored.fields().iter().zip(schema.fields()).all(|(stored, wanted)| {
            let (one, other) = (stored.data_type(), wanted.data_type());
            stored.name() == wanted.name() && (one == other || (one.is_nested() && other.is_nested()))
        })
}
