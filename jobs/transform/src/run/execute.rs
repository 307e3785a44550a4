//! Builds one model: plan, compute, commit; after a lost race, plan again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::future::BoxFuture;
use futures::{StreamExt as _, TryStreamExt as _};
use tidemill_lake::Table;
use tidemill_project::Location;
use tokio_util::task::AbortOnDropHandle;

use super::neighbours::may_share_a_query;
use super::rows::{Canonical, canonical, event_times, into_stored, is_event_time_type, stored_schema};
use super::session::{Narrowed, Sessions, beside, register, within};
use super::writer::{Target, Writer, Written};
use super::{BuildFault, Observer, Result};
use crate::plan::{
    Action, Leaf, ModelPlan, Pinned, Planned, PlannedBatch, Planner, Reach, Reason, TimeRange, Touched, event_time_of,
    table_of, touched_by,
};
use crate::project::{BatchSize, BatchWindow, Model, NodeId, Storage, Strategy};
use crate::render::RenderContext;

/// Builds that lose this often against others give up; each loss means that another build has moved the model on.
const MAX_ATTEMPTS: usize = 8;
/// Input rows that one query over several batches brings together: its output is sorted in memory.
const MAX_QUERY_ROWS: u64 = 1_000_000;
/// Planning a query costs about what 50,000 rows cost; more batches than this gain nothing.
const MAX_QUERY_BATCHES: usize = 96;

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
            let planned = Box::pin(self.planner.plan_model(model)).await?;
            if attempt == 0 {
                observer.planned(&planned.plan);
            }
            let leaves: Vec<_> = planned.pinned.inputs.iter().map(|(leaf, _)| leaf.table.clone()).collect();
            if let Some(built) = Box::pin(self.execute(model, planned, observer)).await? {
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
        let mut job = Job { executor: self, model, node, render: self.render_context(&plan) };
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
            job.render = self.render_context(&plan);
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

/// What the rows of a model look like, and how many batches of them go through memory at once.
struct Shape {
    schema: SchemaRef,
    batches_per_query: usize,
}

/// Cuts ascending batches into runs of at most `most` neighbours without a gap.
fn neighbours(batches: &[PlannedBatch], most: usize) -> Vec<&[PlannedBatch]> {
    let mut groups = Vec::new();
    let mut from = 0;
    for index in 1..=batches.len() {
        let goes_on = batches
            .get(index)
            .is_some_and(|next| next.window.start_us == batches[index - 1].window.end_us && index - from < most.max(1));
        if !goes_on {
            groups.push(&batches[from..index]);
            from = index;
        }
    }
    groups
}

/// As many batches as bring about [`MAX_QUERY_ROWS`] input rows, were these spread evenly.
fn batches_per_query(inputs: &[(Leaf, Option<Arc<Table>>)], size: BatchSize) -> usize {
    let mut num_rows = 0;
    let mut num_batches = 1;
    for (leaf, input) in inputs {
        let (Some(layout), Some(input)) = (&leaf.layout, input) else { continue };
        let files = input.files();
        num_rows += files.iter().map(|file| file.num_records.unwrap_or(0)).sum::<u64>();
        if let Touched::Ranges(ranges) = touched_by(&files, layout) {
            let count = ranges.ranges().iter().flat_map(|range| size.windows(range.start_us, range.end_us)).count();
            num_batches = num_batches.max(count as u64);
        }
    }
    let rows_per_batch = (num_rows / num_batches).max(1);
    usize::try_from(MAX_QUERY_ROWS / rows_per_batch).unwrap_or(MAX_QUERY_BATCHES).clamp(1, MAX_QUERY_BATCHES)
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
        id.ok_or_else(|| BuildFault::UnknownNode { node: self.node.clone() })
    }

    fn location(&self) -> Location {
        Location::new(&self.model.path, 1, 1)
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
        let fault = |error| BuildFault::plan(&self.node, Some(self.location()))(error);
        let Some(window) = window else {
            let sql = self.executor.sessions.compiler.sql(self.model, &self.render)?;
            return base.sql(&sql).await.map_err(fault);
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
        context.sql(&sql).await.map_err(fault)
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
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
        let shape = Shape { schema: Arc::clone(&schema), batches_per_query: batches_per_query(&pinned.inputs, size) };
        let mut writer = self.writer(&schema, pinned.own, batched).await?;
        let is_whole = matches!(action, Action::Whole | Action::Batches { all: true, .. });
        if writer.reshapes() && !is_whole {
            return Ok((None, restated));
        }
        match action {
            Action::Batches { batches, all } => {
                self.write_batches(&base, batches, &shape, &mut writer, observer).await?;
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
        let target = Target {
            id: self.table_id()?,
            node: self.node.clone(),
            description: self.model.description.trim(),
            columns: schema,
            key: &self.model.config.unique_key,
            batched,
            run_id: &executor.run_id,
        };
        Writer::begin(lake, target, own).await
    }

    /// Batches side by side. Each is computed alone from its own context, so that its rows never depend on which other batches
    /// happen to be stale with it; neighbours share a query only where that provably makes no difference.
    async fn write_batches(
        &self,
        base: &SessionContext,
        batches: &[PlannedBatch],
        shape: &Shape,
        writer: &mut Writer,
        observer: &dyn Observer,
    ) -> Result<()> {
        let most = if batches.len() > 1 && self.may_share(base).await? { shape.batches_per_query } else { 1 };
        let work = |group| -> BoxFuture<'_, Result<Vec<(String, Canonical)>>> {
            Box::pin(async move { self.group(base, group, &shape.schema).await })
        };
        let waiting: Vec<_> = neighbours(batches, most).into_iter().map(work).collect();
        let mut computed = futures::stream::iter(waiting).buffered(self.executor.threads.max(1));
        let mut num_done = 0;
        while let Some(group) = computed.try_next().await? {
            for (name, rows) in group {
                writer.replace(Some(name), rows).await?;
                num_done += 1;
                observer.batch_done(&self.model.name, num_done, batches.len());
            }
        }
        Ok(())
    }

    /// Computes neighbouring batches, one or several.
    async fn group(
        &self,
        base: &SessionContext,
        group: &[PlannedBatch],
        schema: &SchemaRef,
    ) -> Result<Vec<(String, Canonical)>> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(Vec::new()) };
        let window = BatchWindow { start_us: first.window.start_us, end_us: last.window.end_us };
        let frame = self.frame(base, Some(window)).await?;
        let frame = within(frame, self.event_time()?, TimeRange::from(window), false)
            .map_err(BuildFault::plan(&self.node, Some(self.location())))?;
        let rows = self.collect(frame, schema).await?;
        if group.len() == 1 {
            return Ok(vec![(first.name.clone(), self.canonical(&rows)?)]);
        }
        let mut parts: BTreeMap<String, Canonical> = self.split(&rows)?.into_iter().collect();
        group
            .iter()
            .map(|batch| {
                let part = match parts.remove(&batch.name) {
                    Some(part) => part,
                    None => self.canonical(&rows.slice(0, 0))?,
                };
                Ok((batch.name.clone(), part))
            })
            .collect()
    }

    /// Whether one query may compute several batches: its plan proves it, and its template does not ask for the batch.
    async fn may_share(&self, base: &SessionContext) -> Result<bool> {
        let planner = &self.executor.planner;
        let fault = |error| BuildFault::plan(&self.node, Some(self.location()))(error);
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
        let mut inputs = planner.graph.parents(&self.node);
        let (Some(input), None) = (inputs.next(), inputs.next()) else { return Ok(false) };
        let (Some(column), Some(relation)) =
            (event_time_of(&planner.project, input), self.executor.sessions.compiler.relation(input))
        else {
            return Ok(false);
        };
        let compiler = &self.executor.sessions.compiler;
        let somewhere = RenderContext { batch: Some(size.window_of(0)), ..self.render.clone() };
        let sql = compiler.sql(self.model, &self.render)?;
        if sql != compiler.sql(self.model, &somewhere)? {
            return Ok(false);
        }
        let context = beside(base);
        let name = TableReference::partial(relation.schema, relation.identifier);
        let schema = base.table_provider(name.clone()).await.map_err(fault)?.schema();
        register(&context, &name, Arc::new(EmptyTable::new(schema))).map_err(fault)?;
        let frame = context.sql(&sql).await.map_err(fault)?;
        Ok(may_share_a_query(frame.logical_plan(), self.event_time()?, column, size))
    }

    async fn collect(&self, frame: DataFrame, schema: &SchemaRef) -> Result<RecordBatch> {
        // In a task of its own: batches that are computed side by side must not share one thread.
        let batches = AbortOnDropHandle::new(tokio::spawn(frame.collect()))
            .await
            .map_err(|source| BuildFault::TaskLost { node: self.node.clone(), source })?
            .map_err(BuildFault::execute(&self.node, Some(self.location())))?;
        into_stored(&batches, schema).map_err(BuildFault::shape(&self.node))
    }

    fn canonical(&self, rows: &RecordBatch) -> Result<Canonical> {
        canonical(rows, &self.model.config.unique_key).map_err(BuildFault::shape(&self.node))
    }

    fn event_time(&self) -> Result<&str> {
        let column = self.model.config.event_time.as_deref();
        column.ok_or_else(|| BuildFault::NoEventTime {
            model: self.model.name.clone(),
            column: String::new(),
            columns: String::new(),
            location: Some(self.model.location.clone()),
        })
    }

    async fn output_schema(&self, base: &SessionContext) -> Result<SchemaRef> {
        let frame = self.frame(base, None).await?;
        let schema =
            stored_schema(frame.schema().as_arrow()).map_err(|(column, data_type)| BuildFault::ColumnType {
                model: self.model.name.clone(),
                column,
                data_type,
                location: Some(self.location()),
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
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
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
