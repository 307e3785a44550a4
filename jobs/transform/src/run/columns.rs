//! dbt's `on_schema_change`: what an incremental run makes of columns that the table does not have, or no longer gets.
//!
//! | | new column | column that is gone | column of another type |
//! | --- | --- | --- | --- |
//! | `ignore` | left out | a fault, as rows would lack it | cast to the table's type |
//! | `fail` | a fault | a fault | a fault |
//! | `append_new_columns` | added, null in rows from before | stays, null in new rows | cast to the table's type |
//! | `sync_all_columns` | added, null in rows from before | goes from all rows | cast in rows from before |
//!
//! The table takes on its columns in a commit before the one that brings the new rows. A crash between them leaves the old rows
//! in the new columns, and the next run goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::logical_expr::{cast, ident, lit};
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt as _;
use tidemill_lake::metadata::{Act, CommitNote, TransformNote};
use tidemill_lake::{CommitOutcome, DataFile, Table};

use super::execute::Job;
use super::keyed::visible_schema;
use super::writer::comparable;
use super::{BuildFault, Result};
use crate::plan::BATCH_COLUMN;
use crate::project::{Keeping, Model, OnSchemaChange, OnSqlChange, Storage};

/// What a model that is built step by step does when its columns change; `None` when it is built anew then.
pub(crate) fn policy(model: &Model) -> Option<OnSchemaChange> {
    let config = &model.config;
    let by_steps =
        matches!(config.storage(), Storage::Incremental(_)) && matches!(config.keeping(), None | Some(Keeping::Upsert));
    let keeps_rows = match config.on_sql_change {
        Some(change) => change == OnSqlChange::Ignore,
        None => config.full_refresh == Some(false),
    };
    let chosen = match config.on_sql_change {
        Some(OnSqlChange::Rebuild) => None,
        _ => config.on_schema_change,
    };
    chosen.or(keeps_rows.then_some(OnSchemaChange::Ignore)).filter(|_| by_steps)
}

/// How the columns of a query differ from those of the table that its rows go to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    added: Vec<Field>,
    gone: Vec<String>,
    retyped: Vec<String>,
}

impl Difference {
    fn between(table: &Schema, query: &Schema) -> Self {
        let find = |schema: &Schema, name: &str| schema.field_with_name(name).ok().cloned();
        let fields = || query.fields().iter().map(|field| field.as_ref().clone());
        let is_retyped = |field: &Field| {
            find(table, field.name()).is_some_and(|old| comparable(old.data_type()) != comparable(field.data_type()))
        };
        Self {
            added: fields().filter(|field| find(table, field.name()).is_none()).collect(),
            gone: table
                .fields()
                .iter()
                .map(|old| old.name().clone())
                .filter(|old| find(query, old).is_none())
                .collect(),
            retyped: fields().filter(is_retyped).map(|field| field.name().clone()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The names, by what became of them, for people.
    fn tell(&self) -> String {
        let added: Vec<String> = self.added.iter().map(|field| field.name().clone()).collect();
        let parts = [("new", &added), ("gone", &self.gone), ("of another type", &self.retyped)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        parts.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect::<Vec<_>>().join("; ")
    }
}

/// The columns that rows of this run have.
#[derive(Debug)]
pub(crate) enum Columns {
    /// Those of the query.
    Own,
    /// These, whatever the query gives.
    Kept(SchemaRef),
    /// Another build has moved the table on: plan again.
    Lost,
}

impl Job<'_> {
    /// Settles the columns of a table that is there and is not built anew, and brings the table into them. `replaces_all`: the
    /// run replaces every row, so that its own commit can give the table its columns.
    pub(super) async fn settle_columns(
        &self,
        own: &mut Option<Table>,
        previous: Option<&TransformNote>,
        replaces_all: bool,
    ) -> Result<Columns> {
        let (Some(policy), Some(table), Some(previous)) = (policy(self.model), own.as_mut(), previous) else {
            return Ok(Columns::Own);
        };
        let query = self.output_schema(&self.base(None).await?).await?;
        let stored = without_batch(&table.schema());
        let difference = Difference::between(&stored, &query);
        if difference.is_empty() {
            let names =
                |schema: &Schema| -> Vec<String> { schema.fields().iter().map(|field| field.name().clone()).collect() };
            // Another order of columns is the table's all the same.
            return Ok(if names(&stored) == names(&query) { Columns::Own } else { Columns::Kept(stored) });
        }
        let refuses = match policy {
            OnSchemaChange::Fail => true,
            OnSchemaChange::Ignore => !difference.gone.is_empty(),
            OnSchemaChange::AppendNewColumns | OnSchemaChange::SyncAllColumns => false,
        };
        if refuses {
            return Err(BuildFault::ColumnsChanged {
                model: self.model.name.clone(),
                change: difference.tell(),
                location: Some(self.model.location.clone()),
            });
        }
        match policy {
            OnSchemaChange::AppendNewColumns => {
                let mut fields: Vec<Field> = stored.fields().iter().map(|field| field.as_ref().clone()).collect();
                fields.extend(difference.added.iter().cloned());
                if !replaces_all && !difference.added.is_empty() {
                    let note = self.note(previous);
                    let outcome = table.add_columns(difference.added, note).await;
                    if let CommitOutcome::Lost(_) = outcome.map_err(BuildFault::lake(&self.table_id()?))? {
                        return Ok(Columns::Lost);
                    }
                }
                Ok(Columns::Kept(Arc::new(Schema::new(fields))))
            }
            OnSchemaChange::SyncAllColumns if !replaces_all => {
                let table = table.clone();
                match self.restate(table, &query, previous).await? {
                    Some(restated) => *own = Some(restated),
                    None => return Ok(Columns::Lost),
                }
                Ok(Columns::Own)
            }
            OnSchemaChange::SyncAllColumns => Ok(Columns::Own),
            OnSchemaChange::Ignore | OnSchemaChange::Fail => Ok(Columns::Kept(stored)),
        }
    }

    /// Refuses other columns of a model whose rows follow from its inputs alone (`aggregate`, `merge` by the newest change), when
    /// it says `fail`. By all other policies it is built anew: each row gets all columns with their true values.
    pub(super) async fn hold_columns(&self, keeping: Keeping, own: Option<&Table>) -> Result<()> {
        let (Some(OnSchemaChange::Fail), Some(table)) = (self.model.config.on_schema_change, own) else {
            return Ok(());
        };
        let query = self.output_schema(&self.base(None).await?).await?;
        let query = visible_schema(keeping, &query, &self.model.config);
        let difference = Difference::between(&without_batch(&table.schema()), &query);
        if difference.is_empty() {
            return Ok(());
        }
        Err(BuildFault::ColumnsChanged {
            model: self.model.name.clone(),
            change: difference.tell(),
            location: Some(self.model.location.clone()),
        })
    }

    /// Writes the rows that are there again, in other columns. `None` when another build was faster.
    async fn restate(&self, table: Table, columns: &SchemaRef, previous: &TransformNote) -> Result<Option<Table>> {
        let fault = || BuildFault::shape(&self.node);
        let cluster = self.model.config.cluster_columns();
        let batched = table.partition_columns().iter().any(|column| column == BATCH_COLUMN);
        let keyed = self.model.config.keeping().is_some();
        let mut parts: BTreeMap<Option<String>, Vec<DataFile>> = BTreeMap::new();
        for file in table.files() {
            parts.entry(file.partition_values.get(BATCH_COLUMN).cloned().flatten()).or_default().push(file);
        }
        let old_columns: Vec<String> =
            without_batch(&table.schema()).fields().iter().map(|field| field.name().clone()).collect();
        let mut writer = if keyed {
            self.keyed_writer(columns, Some(table.clone()), &cluster).await?
        } else {
            self.writer(columns, Some(table.clone()), batched).await?
        };
        for (batch, files) in parts {
            let stored: Vec<RecordBatch> = table
                .read_files(files, Some(old_columns.clone()))
                .try_collect()
                .await
                .map_err(BuildFault::lake(table.id()))?;
            let stored = stored.iter().map(|rows| conform(rows, columns)).collect::<Result<Vec<_>, _>>();
            let rows = stored.and_then(|stored| arrow::compute::concat_batches(columns, &stored)).map_err(fault())?;
            writer.replace(batch, self.canonical_by(&rows, &cluster)?).await?;
        }
        Ok(writer.commit(previous.clone(), batched).await?.map(|(_, table)| table))
    }

    /// A commit note that says what the last build has said.
    fn note(&self, previous: &TransformNote) -> CommitNote {
        let executor = self.executor;
        CommitNote {
            commit_id: executor.planner.snapshots.lake().clock().new_id(),
            run_id: executor.run_id.clone(),
            act: Act::Transform(TransformNote { rows_written: 0, touched: None, ..previous.clone() }),
        }
    }
}

/// A query's rows in these columns: cast where the type differs, null where the query has none.
pub(super) fn select(frame: DataFrame, columns: &Schema) -> datafusion::common::Result<DataFrame> {
    let given = frame.schema().as_arrow().clone();
    let expressions = columns.fields().iter().map(|field| {
        let value = match given.field_with_name(field.name()) {
            Ok(_) => cast(ident(field.name()), field.data_type().clone()),
            Err(_) => cast(lit(ScalarValue::Null), field.data_type().clone()),
        };
        value.alias(field.name())
    });
    frame.select(expressions.collect::<Vec<_>>())
}

/// Stored rows in these columns; a value that does not fit another type is a fault.
fn conform(rows: &RecordBatch, columns: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cells = columns.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) => cast_with_options(column, field.data_type(), &options),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    RecordBatch::try_new(Arc::clone(columns), cells.collect::<Result<Vec<ArrayRef>, _>>()?)
}

fn without_batch(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().filter(|field| field.name() != BATCH_COLUMN);
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}
