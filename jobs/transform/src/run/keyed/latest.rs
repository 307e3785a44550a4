//! The latest event of each key, unless it is a deletion.
//!
//! The SQL gives events: one row each, with the key, what orders the events of a key, and what the table shows. The winner of
//! a key is the greatest by `latest_by` (or event time, topic, partition, offset), nulls least, ties broken by the other
//! columns, so that the order of arrival never shows. Winners are kept beside the table with their deletions: a deletion that
//! came before what it deletes is remembered, and with `deletion: final` it stays, whatever comes.
//!
//! Columns whose names begin with an underscore, and the deletion flag, decide and are not shown.

use std::sync::Arc;

use arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::prelude::{DataFrame, SessionContext};
use tidemill_lake::metadata::TransformNote;

use super::keys::Touch;
use super::state::State;
use super::{Done, Keyed};
use crate::plan::{InputDelta, TimeRange};
use crate::project::{Keeping, ModelConfig};
use crate::render::quote;
use crate::run::session::{beside, register};
use crate::run::writer::Writer;
use crate::run::{BuildFault, Result};

/// What the table shows of a query's columns.
pub(crate) fn visible_schema(keeping: Keeping, schema: &SchemaRef, config: &ModelConfig) -> SchemaRef {
    if keeping != Keeping::Latest {
        return Arc::clone(schema);
    }
    let shown = schema.fields().iter().filter(|field| !is_hidden(field.name(), config)).map(Arc::clone);
    Arc::new(Schema::new(shown.collect::<Vec<_>>()))
}

fn is_hidden(column: &str, config: &ModelConfig) -> bool {
    column.starts_with('_') || config.keyed.deleted.as_deref() == Some(column)
}

impl Keyed<'_> {
    /// All winners, from the whole inputs.
    pub(super) async fn latest_whole(
        &self,
        base: &SessionContext,
        schema: &SchemaRef,
        writer: &mut Writer,
        note: &mut TransformNote,
    ) -> Result<Done> {
        let frame = self.job.frame(base).await?;
        let winners = self.winners(base, frame, schema).await?;
        let shown = self.shown(&winners)?;
        writer.replace(None, self.job.canonical_by(&shown, &self.job.model.config.cluster_columns())?).await?;
        let state = self.begin_state(schema).await?;
        let change = state.leaves().replace_all(&winners).await?;
        match state.commit(change, note, &self.job.executor.run_id).await? {
            Some(committed) => note.state = Some(committed),
            None => return Ok(Done::Lost),
        }
        Ok(Done::Ready)
    }

    /// Winners of the keys of new rows: against the winners so far when rows only came, from the whole inputs when rows of
    /// theirs went away.
    pub(super) async fn latest_of_changes(
        &self,
        base: &SessionContext,
        schema: &SchemaRef,
        changes: &[InputDelta],
        due: Option<TimeRange>,
        writer: &mut Writer,
        note: &mut TransformNote,
    ) -> Result<Done> {
        let key = &self.job.model.config.unique_key;
        let (executor, node) = (self.job.executor, &self.job.node);
        let (lake, id) = (executor.planner.snapshots.lake(), self.job.table_id()?);
        let cluster = self.job.model.config.cluster_columns();
        let opened = State::open(lake, node, &id, note.state.as_ref(), schema, &cluster).await?;
        let Some(state) = opened else { return Ok(Done::Whole("its state is gone".to_owned())) };
        let (narrowings, has_removed) = self.narrowed(base, changes).await?;
        let context = self.job.base(Some(narrowings.as_slice())).await?;
        let plan = self.job.frame(&context).await?.logical_plan().clone();
        let parts = match self.parts(&plan, &narrowings)? {
            Ok(parts) => parts,
            Err(because) => return Ok(Done::Whole(because)),
        };
        let mut changed = vec![RecordBatch::new_empty(Arc::clone(schema))];
        for part in parts {
            changed.push(self.job.collect(Self::frame_of(&context, part), schema).await?);
        }
        let mut rows = self.join(schema, &changed)?;
        let mut touches = vec![Touch::of(&rows, key).map_err(BuildFault::shape(node))?];
        if let Some(due) = self.due_keys(base, writer, due, key).await? {
            touches.push(due);
        }
        if has_removed || touches.len() > 1 {
            rows = self.rows_of_keys(base, schema, &touches).await?;
        } else {
            rows = self.join(schema, &[rows, self.as_query(&state.leaves().read(&touches).await?, schema)?])?;
        }
        let frame = context.read_batch(rows).map_err(BuildFault::plan(node, Some(self.job.location())))?;
        let winners = self.winners(base, frame, schema).await?;
        let change = writer.leaves()?.replace(&touches, &self.shown(&winners)?).await?;
        writer.apply(change);
        let change = state.leaves().replace(&touches, &winners).await?;
        match state.commit(change, note, &executor.run_id).await? {
            Some(committed) => note.state = Some(committed),
            None => return Ok(Done::Lost),
        }
        Ok(Done::Ready)
    }

    async fn begin_state(&self, schema: &SchemaRef) -> Result<State> {
        let executor = self.job.executor;
        State::begin(
            executor.planner.snapshots.lake(),
            &self.job.node,
            &self.job.table_id()?,
            schema,
            &self.job.model.config.cluster_columns(),
            &executor.run_id,
        )
        .await
    }

    /// One row a key: the greatest event.
    async fn winners(&self, base: &SessionContext, events: DataFrame, schema: &SchemaRef) -> Result<RecordBatch> {
        let fault = |error| BuildFault::plan(&self.job.node, Some(self.job.location()))(error);
        let context = beside(base);
        register(&context, &TableReference::bare("events"), events.into_view()).map_err(fault)?;
        let frame = context.sql(&self.winners_sql(schema)).await.map_err(fault)?;
        self.job.collect(frame, schema).await
    }

    fn winners_sql(&self, schema: &SchemaRef) -> String {
        let config = &self.job.model.config;
        let columns: Vec<String> = schema.fields().iter().map(|field| quote(field.name())).collect();
        let key: Vec<String> = config.unique_key.iter().map(|column| quote(column)).collect();
        let mut order: Vec<&str> = Vec::new();
        if config.keyed.deletion_is_final {
            order.extend(config.keyed.deleted.as_deref());
        }
        if config.keyed.latest_by.is_empty() {
            order.extend(config.event_time.as_deref());
            let places = ["_topic", "_partition", "_offset"];
            order.extend(places.into_iter().filter(|column| schema.index_of(column).is_ok()));
        } else {
            order.extend(config.keyed.latest_by.iter().map(String::as_str));
        }
        let others = schema.fields().iter().filter(|field| !field.data_type().is_nested());
        let others: Vec<&str> =
            others.map(|field| field.name().as_str()).filter(|name| !order.contains(name)).collect();
        order.extend(others);
        let order: Vec<String> = order.iter().map(|column| format!("{} desc nulls last", quote(column))).collect();
        format!(
            "select {columns} from (select {columns}, row_number() over (partition by {key} order by {order}) as tidemill_rank \
             from events) as ranked where tidemill_rank = 1",
            columns = columns.join(", "),
            key = key.join(", "),
            order = order.join(", "),
        )
    }

    /// What the table shows of winners: no deletions, no hidden columns.
    fn shown(&self, winners: &RecordBatch) -> Result<RecordBatch> {
        let config = &self.job.model.config;
        let fault = || BuildFault::shape(&self.job.node);
        let schema = winners.schema();
        let mut rows = winners.clone();
        if let Some(deleted) = &config.keyed.deleted {
            let column = winners.column(schema.index_of(deleted).map_err(fault())?);
            if *column.data_type() != DataType::Boolean {
                return Err(BuildFault::DeletedType {
                    model: self.job.model.name.clone(),
                    column: deleted.clone(),
                    data_type: column.data_type().to_string(),
                    location: Some(self.job.model.location.clone()),
                });
            }
            let lives: BooleanArray = column.as_boolean().iter().map(|deleted| Some(deleted != Some(true))).collect();
            rows = filter_record_batch(winners, &lives).map_err(fault())?;
        }
        let shown: Vec<usize> =
            (0..schema.fields().len()).filter(|index| !is_hidden(schema.field(*index).name(), config)).collect();
        rows.project(&shown).map_err(fault())
    }

    /// Rows of the state as rows of the query.
    fn as_query(&self, rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        crate::run::rows::into_stored(std::slice::from_ref(rows), schema).map_err(BuildFault::shape(&self.job.node))
    }
}
