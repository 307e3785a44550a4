//! Builds one model: plan, compute, commit; after a lost race, plan again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::{DataFrame, SessionContext};
use tidemill_lake::Table;
use tidemill_lake::metadata::TransformNote;
use tidemill_project::Location;
use tokio_util::task::AbortOnDropHandle;

use super::batches::{Shape, batches_per_query};
use super::columns::{self, Columns};
use super::keyed::{Attempt, Keyed};
use super::prepared::Query;
use super::rows::{Canonical, canonical, into_stored, is_event_time_type, stored_schema};
use super::session::{Narrowed, Narrowing, Sessions};
use super::writer::{Target, Writer, Written};
use super::{AuditFailure, BuildFault, Observer, Result, contract, history};
use crate::plan::{Action, ModelPlan, Pinned, Planned, Planner, Reason, table_of};
use crate::project::{BatchSize, Model, NodeId, Storage, Strategy};
use crate::render::RenderContext;
use crate::test::Proof;

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
    /// What stood when tests passed, by name, before this run: audits look at what is new since.
    pub passed: Arc<BTreeMap<String, Proof>>,
}

/// How a model was built.
#[derive(Debug)]
pub(crate) struct Built {
    pub plan: ModelPlan,
    pub written: Written,
    /// Batches that could not be computed, while others could.
    pub failed: Vec<String>,
    /// The first of their faults.
    pub fault: Option<BuildFault>,
    /// Tests that refused the new rows; nothing was committed then.
    pub audit: Option<AuditFailure>,
}

impl Built {
    fn without_rows(plan: ModelPlan) -> Self {
        Self { plan, written: Written::default(), failed: Vec::new(), fault: None, audit: None }
    }
}

impl Executor {
    /// Builds a model.
    pub(crate) async fn build(&self, model: &Model, observer: &dyn Observer) -> Result<Built> {
        for attempt in 0..MAX_ATTEMPTS {
            let planned = Box::pin(self.plan(model)).await?;
            if self.planner.options.exactly.as_ref().is_some_and(|exactly| !exactly.allows(&planned.plan)) {
                return Err(BuildFault::PlanMoved { model: model.name.clone() });
            }
            if attempt == 0 {
                observer.planned(&planned.plan);
            }
            let leaves: Vec<_> = planned.pinned.inputs.iter().map(|(leaf, _)| leaf.table.clone()).collect();
            let works = !matches!(planned.plan.action, Action::Skip | Action::Inline);
            if works && attempt == 0 {
                self.run_hooks(model, &model.config.pre_hooks, "pre_hook").await?;
            }
            if let Some(built) = Box::pin(self.execute(model, planned, observer)).await? {
                if works {
                    self.run_hooks(model, &model.config.post_hooks, "post_hook").await?;
                }
                return Ok(built);
            }
            tracing::info!(model = %model.name, attempt, "another build was faster, planning again");
            self.planner.snapshots.forget(&leaves);
        }
        Err(BuildFault::Contended { model: model.name.clone(), attempts: MAX_ATTEMPTS })
    }

    async fn execute(&self, model: &Model, planned: Planned, observer: &dyn Observer) -> Result<Option<Built>> {
        let Planned { mut plan, mut pinned } = planned;
        if let Action::Skip = plan.action {
            if let Some(own) = pinned.own {
                self.planner.snapshots.put(own);
            }
            return Ok(Some(Built::without_rows(plan)));
        }
        let node = NodeId::Model(model.name.clone());
        let mut job = Job {
            executor: self,
            model,
            node,
            render: self.render_context(&plan),
            columns: None,
            may_leave: may_leave(&plan.reason),
        };
        if let Action::Inline = plan.action {
            // Planned only, so that a view that cannot be read fails here and not in its readers.
            let base = job.base(None).await?;
            job.frame(&base).await?;
            return Ok(Some(Built::without_rows(plan)));
        }
        if !matches!(plan.reason, Reason::NeverBuilt | Reason::FullRefresh) {
            let replaces_all = matches!(plan.action, Action::Whole | Action::Batches { all: true, .. });
            match job.settle_columns(&mut pinned.own, pinned.previous.as_ref(), replaces_all).await? {
                Columns::Own => {}
                Columns::Kept(columns) => job.columns = Some(columns),
                Columns::Lost => return Ok(None),
            }
        }
        if let Some(keeping) = model.config.keeping() {
            if plan.reason == Reason::SqlChanged {
                job.hold_columns(keeping, pinned.own.as_ref()).await?;
            }
            let keyed = Keyed { job: &job, keeping, inputs: &pinned };
            let mut attempt = Box::pin(keyed.build(&plan.action, pinned.note.clone())).await?;
            if let Attempt::Whole(because) = attempt {
                tracing::info!(model = %model.name, because, "the whole is computed");
                plan.action = Action::Whole;
                plan.whole_because = Some(because);
                attempt = Box::pin(keyed.build(&plan.action, pinned.note.clone())).await?;
            }
            return match attempt {
                Attempt::Ready(writer, note) => self.finish(plan, *writer, *note, false).await,
                Attempt::Whole(_) | Attempt::Lost => Ok(None),
            };
        }
        let mut note = pinned.note.clone();
        if let (Action::Batches { batches, all: false }, Some(previous)) = (&plan.action, &pinned.previous) {
            let built = |name: &String| batches.iter().any(|batch| batch.name == *name);
            note.pending = previous.pending.iter().filter(|name| !built(name)).cloned().collect();
        }
        let batched = model.config.storage() == Storage::Incremental(Strategy::Microbatch);
        let (writer, restated) = Box::pin(job.rows_into_writer(&plan.action, pinned, batched, observer)).await?;
        let Some(writer) = writer else {
            // The columns changed under an incremental plan: only the whole can be written now.
            let own = self.planner.snapshots.open_fresh(&job.table_id()?).await?;
            plan.reason = Reason::SchemaChanged;
            plan.action = restated.unwrap_or(Action::Whole);
            job.render = self.render_context(&plan);
            job.may_leave = false;
            let pinned = Pinned { own, note: note.clone(), ..Pinned::default() };
            let (writer, _) = Box::pin(job.rows_into_writer(&plan.action, pinned, batched, observer)).await?;
            let Some(writer) = writer else { return Ok(None) };
            return self.finish(plan, writer, note, batched).await;
        };
        self.finish(plan, writer, note, batched).await
    }

    async fn finish(
        &self,
        plan: ModelPlan,
        mut writer: Writer,
        mut note: TransformNote,
        batched: bool,
    ) -> Result<Option<Built>> {
        let (pending, fault) = writer.take_left();
        note.pending.extend(pending.iter().cloned());
        if let Some(model) = self.planner.project.models.get(&plan.model)
            && model.config.audit_before
            && let Some(failure) = Box::pin(self.audit(model, &writer)).await?
        {
            return Ok(Some(Built {
                plan,
                written: Written::default(),
                failed: Vec::new(),
                fault,
                audit: Some(failure),
            }));
        }
        let is_whole = matches!(plan.action, Action::Whole | Action::Batches { all: true, .. });
        if (is_whole || note.query.is_none() || plan.sql_change.is_some())
            && let Some(model) = self.planner.project.models.get(&plan.model)
        {
            note.query = Some(Box::pin(self.query_note(model)).await?);
        }
        let Some((written, table)) = writer.commit(note, batched).await? else { return Ok(None) };
        self.planner.snapshots.put(table);
        Ok(Some(Built { plan, written, failed: pending, fault, audit: None }))
    }

    /// What templates know about this run.
    pub(crate) fn render_context(&self, plan: &ModelPlan) -> RenderContext {
        RenderContext {
            incremental: matches!(plan.action, Action::Append { .. }),
            full_refresh: self.planner.options.full_refresh,
            watermarks: self.planner.watermarks.clone(),
            as_of_us: self.planner.as_of_us,
            run_id: self.run_id.clone(),
            ..RenderContext::default()
        }
    }
}

/// Whether the batches that a build leaves alone are such as it would have made itself: those from before, unless what the model
/// is computed by has changed.
fn may_leave(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::NeverBuilt
            | Reason::NewData { .. }
            | Reason::BatchesFailed
            | Reason::WatermarkMoved { .. }
            | Reason::Requested
    )
}

/// The table of a snapshot as it stands.
async fn own_table(job: &Job<'_>) -> Result<Option<Table>> {
    job.executor.planner.snapshots.open_fresh(&job.table_id()?).await
}

/// One model on its way.
pub(super) struct Job<'a> {
    pub(super) executor: &'a Executor,
    pub(super) model: &'a Model,
    pub(super) node: NodeId,
    pub(super) render: RenderContext,
    /// Columns that the rows are brought into; those of the query unless given.
    pub(super) columns: Option<SchemaRef>,
    /// A batch that cannot be computed may be left as it is: those that are there are of the same making, or none is.
    pub(super) may_leave: bool,
}

impl Job<'_> {
    /// The same model with `is_incremental()` true.
    pub(super) fn incremental(&self) -> Job<'_> {
        let render = RenderContext { incremental: true, ..self.render.clone() };
        Job { render, node: self.node.clone(), columns: self.columns.clone(), ..*self }
    }

    pub(super) fn table_id(&self) -> Result<tidemill_lake::TableId> {
        let id = table_of(&self.executor.planner.project, &self.node);
        id.ok_or_else(|| BuildFault::UnknownNode { node: self.node.clone() })
    }

    pub(super) fn location(&self) -> Location {
        Location::new(&self.model.path, 1, 1)
    }

    /// A session with the model's inputs, whole, and the model's own table as `this` where it exists.
    pub(super) async fn base(&self, narrowed: Narrowed<'_>) -> Result<SessionContext> {
        let parents: Vec<NodeId> = self.executor.planner.graph.parents(&self.node).cloned().collect();
        let context = self.executor.sessions.over(parents, &self.render, narrowed).await?;
        if self.render.incremental {
            self.executor.sessions.add_this(&context, &self.node).await?;
        }
        Ok(context)
    }

    /// The model's query over its inputs as they are, in the columns that its rows are to have.
    pub(super) async fn frame(&self, base: &SessionContext) -> Result<DataFrame> {
        let frame = self.executor.sessions.compiler.frame(base, self.model, &self.render).await?;
        let frame = if self.model.config.storage() == Storage::Snapshot {
            let own = own_table(self).await?;
            history::frame(base, self.model, frame, own.as_ref(), self.render.as_of_us).await?
        } else {
            frame
        };
        match &self.columns {
            Some(columns) => {
                columns::select(frame, columns).map_err(BuildFault::plan(&self.node, Some(self.location())))
            }
            None => Ok(frame),
        }
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
            Action::Append { input, files } => {
                let inputs = pinned.inputs.iter().filter(|(leaf, _)| leaf.table.path() == *input);
                let context = self.executor.sessions.empty();
                let narrowed = inputs
                    .filter_map(|(_, table)| table.as_ref())
                    .map(|table| Narrowing::files(&context, table, files.clone()));
                Some(narrowed.collect::<Result<Vec<_>>>()?)
            }
            _ => None,
        };
        let base = self.base(narrowed.as_deref()).await?;
        let schema = self.output_schema(&base).await?;
        let size = self.model.config.batch_size.unwrap_or(BatchSize::Day);
        let batches_per_query = match action {
            Action::Batches { batches, .. } if batches.len() > 1 => batches_per_query(&pinned.inputs, size),
            _ => 1,
        };
        let shape = Shape { schema: Arc::clone(&schema), batches_per_query };
        let mut writer = self.writer(&schema, pinned.own, batched).await?;
        let is_whole = matches!(action, Action::Whole | Action::Batches { all: true, .. });
        if writer.reshapes() && !is_whole {
            return Ok((None, restated));
        }
        if let Some((input, parts)) = Box::pin(self.files_in_parts(action, &pinned.inputs)).await? {
            if is_whole {
                writer.remove_the_rest();
            }
            Box::pin(self.append_parts(&input, parts, &schema, &mut writer)).await?;
            return Ok((Some(writer), None));
        }
        match action {
            Action::Batches { batches, all } => {
                let of_one_making = *all && !self.may_leave;
                self.write_batches(&base, batches, of_one_making, &shape, &mut writer, observer).await?;
                if *all {
                    writer.remove_the_rest();
                }
            }
            Action::Whole => {
                if batched {
                    self.write_whole(&base, &shape, &mut writer, observer).await?;
                } else {
                    let rows = self.collect(self.frame(&base).await?, &schema).await?;
                    writer.replace(None, self.canonical(&rows)?).await?;
                }
                writer.remove_the_rest();
            }
            Action::Append { .. } => {
                let rows = self.collect(self.frame(&base).await?, &schema).await?;
                writer.append(self.canonical(&rows)?).await?;
            }
            Action::Record | Action::Skip | Action::Inline | Action::Keys { .. } | Action::Upsert => {}
        }
        Ok((Some(writer), None))
    }

    pub(super) async fn writer(&self, schema: &SchemaRef, own: Option<Table>, batched: bool) -> Result<Writer> {
        let executor = self.executor;
        let lake = executor.planner.snapshots.lake();
        let target = Target {
            id: self.table_id()?,
            node: self.node.clone(),
            description: self.model.description.trim(),
            columns: schema,
            key: &self.model.config.unique_key,
            batched,
            keyed: false,
            event_time: None,
            run_id: &executor.run_id,
        };
        Writer::begin(lake, target, own).await
    }

    /// A writer of a table of leaves.
    pub(super) async fn keyed_writer(
        &self,
        schema: &SchemaRef,
        own: Option<Table>,
        cluster: &[String],
    ) -> Result<Writer> {
        let executor = self.executor;
        let is_stored =
            |column: &&str| schema.field_with_name(column).is_ok_and(|field| is_event_time_type(field.data_type()));
        let target = Target {
            id: self.table_id()?,
            node: self.node.clone(),
            description: self.model.description.trim(),
            columns: schema,
            key: cluster,
            batched: false,
            keyed: true,
            event_time: self.model.config.event_time.as_deref().filter(is_stored),
            run_id: &executor.run_id,
        };
        Writer::begin(executor.planner.snapshots.lake(), target, own).await
    }

    pub(super) async fn collect(&self, query: impl Into<Query>, schema: &SchemaRef) -> Result<RecordBatch> {
        let batches = self
            .apart(query.into().collect())
            .await?
            .map_err(BuildFault::execute(&self.node, Some(self.location())))?;
        let rows = into_stored(&batches, schema).map_err(BuildFault::shape(&self.node))?;
        if self.model.config.contract_enforced {
            contract::enforce(self.model, &rows, &self.executor.sessions.empty()).await?;
        }
        Ok(rows)
    }

    /// Runs a part of the work in a task of its own: batches that are computed side by side must not share one thread.
    pub(super) async fn apart<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let done = AbortOnDropHandle::new(tokio::spawn(work)).await;
        done.map_err(|source| BuildFault::TaskLost { node: self.node.clone(), source })
    }

    /// Rows of a query in its own types, made storable.
    pub(super) async fn collect_as_is(&self, frame: DataFrame) -> Result<RecordBatch> {
        let schema =
            stored_schema(frame.schema().as_arrow()).map_err(|(column, data_type)| BuildFault::ColumnType {
                model: self.model.name.clone(),
                column,
                data_type,
                location: Some(self.location()),
            })?;
        self.collect(frame, &schema).await
    }

    pub(super) fn canonical(&self, rows: &RecordBatch) -> Result<Canonical> {
        self.canonical_by(rows, &self.model.config.unique_key)
    }

    pub(super) fn canonical_by(&self, rows: &RecordBatch, key: &[String]) -> Result<Canonical> {
        canonical(rows, key).map_err(BuildFault::shape(&self.node))
    }

    pub(super) fn event_time(&self) -> Result<&str> {
        let column = self.model.config.event_time.as_deref();
        column.ok_or_else(|| BuildFault::NoEventTime {
            model: self.model.name.clone(),
            column: String::new(),
            columns: String::new(),
            location: Some(self.model.location.clone()),
        })
    }

    pub(super) async fn output_schema(&self, base: &SessionContext) -> Result<SchemaRef> {
        let frame = self.frame(base).await?;
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
}
