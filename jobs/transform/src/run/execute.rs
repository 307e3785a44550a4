//! Builds one model: plan, compute, commit; after a lost race, plan again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::common::TableReference;
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use tidemill_lake::Table;
use tidemill_project::Location;

use super::rows::{Canonical, canonical, event_times, into_stored, is_event_time_type, stored_schema};
use super::session::{Narrowed, Sessions, beside, register, within};
use super::writer::{Writer, Written};
use super::{BuildFault, Observer, Result};
use crate::plan::{
    Action, ModelPlan, Pinned, Planned, PlannedBatch, Planner, Reach, Reason, TimeRange, event_time_of, table_of,
};
use crate::project::{BatchWindow, Model, NodeId, Storage, Strategy};
use crate::render::RenderContext;

/// Builds that lose this often against others give up; each loss means that another build has moved the model on.
const MAX_ATTEMPTS: usize = 8;

/// Builds models of one run. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub planner: Arc<Planner>,
    pub sessions: Sessions,
    /// Batches computed side by side.
    pub threads: usize,
    pub run_id: String,
}

/// How a model was built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub plan: ModelPlan,
    pub written: Written,
}

impl Executor {
    /// Builds a model.
    pub(crate) async fn build(&self, model: &Model, observer: &dyn Observer) -> Result<Built> {
        for attempt in 0..MAX_ATTEMPTS {
            let planned = self.planner.plan_model(model).await?;
            if attempt == 0 {
                observer.planned(&planned.plan);
            }
            let leaves: Vec<_> = planned.pinned.inputs.iter().map(|(leaf, _)| leaf.table.clone()).collect();
            if let Some(built) = self.execute(model, planned, observer).await? {
                return Ok(built);
            }
            tracing::info!(model = %model.name, attempt, "another build was faster, planning again");
            self.planner.snapshots.forget(&leaves);
        }
        Err(BuildFault::Contended { model: model.name.clone(), attempts: MAX_ATTEMPTS })
    }

    async fn execute(&self, model: &Model, planned: Planned, observer: &dyn Observer) -> Result<Option<Built>> {
        let Planned { mut plan, pinned } = planned;
        if let Action::Skip = plan.action {
            if let Some(own) = pinned.own {
                self.planner.snapshots.put(own);
            }
            return Ok(Some(Built { plan, written: Written::default() }));
        }
        let node = NodeId::Model(model.name.clone());
        let job = Job { executor: self, model, node, render: self.render_context(&plan) };
        if let Action::Inline = plan.action {
            // Planned only, so that a view that cannot be read fails here and not in its readers.
            let base = job.base(None).await?;
            job.frame(&base, None).await?;
            return Ok(Some(Built { plan, written: Written::default() }));
        }
        let note = pinned.note.clone();
        let batched = model.config.storage() == Storage::Incremental(Strategy::Microbatch);
        let (writer, restated) = job.rows_into_writer(&plan.action, pinned, batched, observer).await?;
        let Some(writer) = writer else {
            // The columns changed under an incremental plan: only the whole can be written now.
            let own = self.planner.snapshots.open_fresh(&job.table_id()?).await?;
            plan.reason = Reason::SchemaChanged;
            plan.action = restated.unwrap_or(Action::Whole);
            let pinned = Pinned { own, note: note.clone(), inputs: Vec::new() };
            let (writer, _) = job.rows_into_writer(&plan.action, pinned, batched, observer).await?;
            let Some(writer) = writer else { return Ok(None) };
            return self.finish(plan, writer, note, batched).await;
        };
        self.finish(plan, writer, note, batched).await
    }

    async fn finish(
        &self,
        plan: ModelPlan,
        writer: Writer,
        note: tidemill_lake::metadata::TransformNote,
        batched: bool,
    ) -> Result<Option<Built>> {
        let Some((written, table)) = writer.commit(note, batched).await? else { return Ok(None) };
        self.planner.snapshots.put(table);
        Ok(Some(Built { plan, written }))
    }

    /// What templates know about this run.
    pub(crate) fn render_context(&self, plan: &ModelPlan) -> RenderContext {
        RenderContext {
            incremental: matches!(plan.action, Action::Append { .. }),
            full_refresh: self.planner.options.full_refresh,
            watermarks: self.planner.watermarks.clone(),
            as_of_us: self.planner.as_of_us,
            ..RenderContext::default()
        }
    }
}

/// One model on its way.
struct Job<'a> {
    executor: &'a Executor,
    model: &'a Model,
    node: NodeId,
    render: RenderContext,
}

impl Job<'_> {
    fn table_id(&self) -> Result<tidemill_lake::TableId> {
        let id = table_of(&self.executor.planner.project, &self.node);
        Ok(id.ok_or_else(|| BuildFault::UnknownNode { node: self.node.clone() })?)
    }

    fn location(&self) -> Option<Location> {
        Some(Location::new(&self.model.path, 1, 1))
    }

    /// A session with the model's inputs, whole, and the model's own table as `this` where it exists.
    async fn base(&self, narrowed: Narrowed<'_>) -> Result<SessionContext> {
        let parents: Vec<NodeId> = self.executor.planner.graph.parents(&self.node).cloned().collect();
        let context = self.executor.sessions.over(parents, &self.render, narrowed).await?;
        if self.render.incremental {
            self.executor.sessions.add_this(&context, &self.node).await?;
        }
        Ok(context)
    }

    /// The model's query; with a window, over inputs filtered around it.
    async fn frame(&self, base: &SessionContext, window: Option<BatchWindow>) -> Result<DataFrame> {
        let fault = |error| BuildFault::plan(&self.node, self.location())(error);
        let Some(window) = window else {
            let sql = self.executor.sessions.compiler.sql(self.model, &self.render)?;
            return Ok(base.sql(&sql).await.map_err(fault)?);
        };
        let context = beside(base);
        let planner = &self.executor.planner;
        for input in planner.graph.parents(&self.node) {
            let Some(relation) = self.executor.sessions.compiler.relation(input) else { continue };
            let name = TableReference::partial(relation.schema, relation.identifier);
            let mut frame = base.table(name.clone()).await.map_err(fault)?;
            if let Some(column) = event_time_of(&planner.project, input) {
                let reach = Reach::from(self.model.config.context.of(&input.name()));
                frame = within(frame, column, TimeRange::from(window).read_through(reach), false).map_err(fault)?;
            }
            register(&context, &name, frame.into_view()).map_err(fault)?;
        }
        let render = RenderContext { batch: Some(window), ..self.render.clone() };
        let sql = self.executor.sessions.compiler.sql(self.model, &render)?;
        Ok(context.sql(&sql).await.map_err(fault)?)
    }

    /// Computes what the action says and hands it to a writer. `None` when the table's columns have changed and the action
    /// was not the whole; the action to take instead comes with it.
    async fn rows_into_writer(
        &self,
        action: &Action,
        pinned: Pinned,
        batched: bool,
        observer: &dyn Observer,
    ) -> Result<(Option<Writer>, Option<Action>)> {
        let restated =
            if batched { self.executor.planner.whole(self.model, &pinned).ok() } else { Some(Action::Whole) };
        let narrowed = match action {
            Action::Append { input, files } => Some((input.as_str(), files.as_slice())),
            _ => None,
        };
        let base = self.base(narrowed).await?;
        let schema = self.output_schema(&base).await?;
        let mut writer = self.writer(&schema, pinned.own, batched).await?;
        let is_whole = matches!(action, Action::Whole | Action::Batches { all: true, .. });
        if writer.recreates() && !is_whole {
            return Ok((None, restated));
        }
        match action {
            Action::Batches { batches, all } => {
                self.write_batches(&base, batches, &schema, &mut writer, observer).await?;
                if *all {
                    writer.remove_the_rest();
                }
            }
            Action::Whole => {
                let rows = self.collect(self.frame(&base, None).await?, &schema).await?;
                if batched {
                    for (name, rows) in self.split(&rows)? {
                        writer.replace(Some(name), rows).await?;
                    }
                } else {
                    writer.replace(None, self.canonical(&rows)?).await?;
                }
                writer.remove_the_rest();
            }
            Action::Append { .. } => {
                let rows = self.collect(self.frame(&base, None).await?, &schema).await?;
                writer.append(self.canonical(&rows)?).await?;
            }
            Action::Record | Action::Skip | Action::Inline => {}
        }
        Ok((Some(writer), None))
    }

    async fn writer(&self, schema: &SchemaRef, own: Option<Table>, batched: bool) -> Result<Writer> {
        let executor = self.executor;
        let lake = executor.planner.snapshots.lake();
        let key = &self.model.config.unique_key;
        let begun = Writer::begin(
            lake,
            self.table_id()?,
            self.node.clone(),
            self.model.description.trim(),
            schema,
            key,
            batched,
            &executor.run_id,
            own,
        );
        Ok(begun.await?)
    }

    /// Batches side by side, each computed alone from its own context: so a batch's rows never depend on which other batches
    /// happen to be stale with it.
    async fn write_batches(
        &self,
        base: &SessionContext,
        batches: &[PlannedBatch],
        schema: &SchemaRef,
        writer: &mut Writer,
        observer: &dyn Observer,
    ) -> Result<()> {
        let work = |batch| -> BoxFuture<'_, Result<(&PlannedBatch, Canonical)>> {
            Box::pin(async move { Ok((batch, self.batch(base, batch, schema).await?)) })
        };
        let waiting: Vec<_> = batches.iter().map(work).collect();
        let mut computed = futures::stream::iter(waiting).buffered(self.executor.threads.max(1));
        let mut num_done = 0;
        while let Some((batch, rows)) = computed.try_next().await? {
            writer.replace(Some(batch.name.clone()), rows).await?;
            num_done += 1;
            observer.batch_done(&self.model.name, num_done, batches.len());
        }
        Ok(())
    }

    async fn batch(&self, base: &SessionContext, batch: &PlannedBatch, schema: &SchemaRef) -> Result<Canonical> {
        let column = self.event_time()?;
        let frame = self.frame(base, Some(batch.window)).await?;
        let frame = within(frame, column, TimeRange::from(batch.window), false)
            .map_err(BuildFault::plan(&self.node, self.location()))?;
        let rows = self.collect(frame, schema).await?;
        self.canonical(&rows)
    }

    async fn collect(&self, frame: DataFrame, schema: &SchemaRef) -> Result<RecordBatch> {
        // In a task of its own: batches that are computed side by side must not share one thread.
        let batches = tokio::spawn(frame.collect())
            .await
            .map_err(|source| BuildFault::TaskLost { node: self.node.clone(), source })?
            .map_err(BuildFault::execute(&self.node, self.location()))?;
        Ok(into_stored(&batches, schema).map_err(BuildFault::shape(&self.node))?)
    }

    fn canonical(&self, rows: &RecordBatch) -> Result<Canonical> {
        Ok(canonical(rows, &self.model.config.unique_key).map_err(BuildFault::shape(&self.node))?)
    }

    fn event_time(&self) -> Result<&str> {
        let column = self.model.config.event_time.as_deref();
        Ok(column.ok_or_else(|| BuildFault::NoEventTime {
            model: self.model.name.clone(),
            column: String::new(),
            columns: String::new(),
            location: Some(self.model.location.clone()),
        })?)
    }

    async fn output_schema(&self, base: &SessionContext) -> Result<SchemaRef> {
        let frame = self.frame(base, None).await?;
        let schema = stored_schema(frame.schema().as_arrow()).map_err(|(column, data_type)| {
            BuildFault::ColumnType { model: self.model.name.clone(), column, data_type, location: self.location() }
        })?;
        if self.model.config.storage() == Storage::Incremental(Strategy::Microbatch) {
            let column = self.event_time()?;
            match schema.field_with_name(column) {
                Err(_) => {
                    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                    return Err(BuildFault::NoEventTime {
                        model: self.model.name.clone(),
                        column: column.to_owned(),
                        columns: columns.join(", "),
                        location: Some(self.model.location.clone()),
                    });
                }
                Ok(field) if !is_event_time_type(field.data_type()) => {
                    return Err(BuildFault::EventTimeType {
                        model: self.model.name.clone(),
                        column: column.to_owned(),
                        data_type: field.data_type().to_string(),
                        location: Some(self.model.location.clone()),
                    });
                }
                Ok(_) => {}
            }
        }
        Ok(schema)
    }

    /// Cuts the rows of the whole into batches. Rows before `begin` or without event time belong to none.
    fn split(&self, rows: &RecordBatch) -> Result<Vec<(String, Canonical)>> {
        let size = self.model.config.batch_size.unwrap_or(crate::project::BatchSize::Day);
        let begin_us = self.model.config.begin_us.unwrap_or(i64::MIN);
        let column = self.event_time()?;
        let times = rows.column_by_name(column).and_then(event_times).unwrap_or_default();
        let mut indices: BTreeMap<BatchWindow, Vec<u32>> = BTreeMap::new();
        for (index, at_us) in times.into_iter().enumerate() {
            let (Some(at_us), Ok(index)) = (at_us, u32::try_from(index)) else { continue };
            let window = size.window_of(at_us);
            if window.end_us > begin_us {
                indices.entry(window).or_default().push(index);
            }
        }
        indices
            .into_iter()
            .map(|(window, indices)| {
                let part =
                    take_record_batch(rows, &UInt32Array::from(indices)).map_err(BuildFault::shape(&self.node))?;
                Ok((size.name(window), self.canonical(&part)?))
            })
            .collect()
    }
}
