//! Groups whose aggregates merge: a run reads the new rows, and the states of the groups that they fall into.
//!
//! The engine computes an aggregate in two halves: partial states of parts of the rows, and from those the result. The partial
//! states of every group are kept beside the table (`g0, g1, …` the group, `s0, s1, …` the states). New rows give partial
//! states of their own; the two are merged, kept, and finished to rows of the table by the same operators as in any query. When
//! rows went away, the groups that they were in are computed from the whole inputs, filtered by those groups.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DataFusionError, Result as QueryResult};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use tidemill_lake::metadata::TransformNote;
use tokio_util::task::AbortOnDropHandle;

use super::keys::Touch;
use super::state::State;
use super::{Done, Keyed};
use crate::plan::{InputDelta, TimeRange};
use crate::run::neighbours::is_plain;
use crate::run::rows::{into_stored, stored_type};
use crate::run::writer::Writer;
use crate::run::{BuildFault, Result};

/// Aggregates whose partial states give the same result whatever the rows were split into, up to the last digits of doubles
/// and what a sketch promises.
const MERGEABLE: [&str; 31] = [
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "median",
    "arg_max",
    "arg_min",
    "max_by",
    "min_by",
    "count_by",
    "sum_counts",
    "union_seconds",
    "var",
    "var_pop",
    "var_samp",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "corr",
    "covar_pop",
    "covar_samp",
];

/// Rewrites that would give an aggregate other groups or other states than the SQL says.
const UNWANTED_RULES: [&str; 5] = [
    "single_distinct_aggregation_to_group_by",
    "eliminate_group_by_constant",
    "CombinePartialFinalAggregate",
    "aggregate_statistics",
    "LimitedDistinctAggregation",
];

/// What an aggregate model's query looks like.
#[derive(Debug)]
pub(super) struct Shape {
    /// The whole query over the whole inputs.
    plan: LogicalPlan,
    /// The output column of each group expression.
    pub keys: Vec<String>,
    /// Why its aggregates cannot be merged.
    unmergeable: Option<String>,
}

/// The two halves of an aggregate, and what stands above it.
struct Halves {
    root: Arc<dyn ExecutionPlan>,
    partial: Arc<dyn ExecutionPlan>,
}

impl Shape {
    pub(super) async fn of(keyed: &Keyed<'_>, base: &SessionContext) -> Result<Self> {
        let plan = keyed.job.frame(base).await?.logical_plan().clone();
        let fault = |because: String| BuildFault::AggregateShape {
            model: keyed.job.model.name.clone(),
            because,
            location: Some(keyed.job.location()),
        };
        let Some(aggregate) = aggregate_of(&plan) else {
            return Err(fault("the query is no single `group by` below its outermost select".to_owned()));
        };
        if aggregate.group_expr.is_empty() || aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_))) {
            return Err(fault("the query does not group by plain columns or expressions".to_owned()));
        }
        let mut keys = Vec::new();
        for (index, group) in aggregate.group_expr.iter().enumerate() {
            let output = (0..plan.schema().fields().len()).find(|output| group_of(&plan, *output) == Some(index));
            match output {
                Some(output) => keys.push(plan.schema().field(output).name().clone()),
                None => return Err(fault(format!("the query groups by `{group}` and does not select it"))),
            }
        }
        let unmergeable = aggregate.aggr_expr.iter().find_map(unmergeable);
        Ok(Self { plan, keys, unmergeable })
    }
}

impl Keyed<'_> {
    /// All groups, from the whole inputs.
    pub(super) async fn aggregate_whole(
        &self,
        shape: &Shape,
        writer: &mut Writer,
        note: &mut TransformNote,
    ) -> Result<Done> {
        let context = self.job.base(None).await?;
        let plan = self.job.frame(&context).await?.logical_plan().clone();
        let halves = self.halves(&context, &plan).await?;
        let Some(schema) = state_schema(&halves.partial.schema(), shape.keys.len()) else {
            // A state that no table can hold: the model is a table then.
            let rows = self.job.collect(self.job.frame(&context).await?, &writer.columns()).await?;
            writer.replace(None, self.job.canonical_by(&rows, &shape.keys)?).await?;
            return Ok(Done::Ready);
        };
        let states = self.merged(&context, &halves, vec![self.partial_rows(&context, &halves, &schema).await?]).await?;
        let rows = self.finished(&context, &halves, &states, &writer.columns()).await?;
        writer.replace(None, self.job.canonical_by(&rows, &shape.keys)?).await?;
        let executor = self.job.executor;
        let state = State::begin(
            executor.planner.snapshots.lake(),
            &self.job.node,
            &self.job.table_id()?,
            &schema,
            &group_columns(shape.keys.len()),
            &executor.run_id,
        )
        .await?;
        let change = state.leaves().replace_all(&states).await?;
        match state.commit(change, note, &executor.run_id).await? {
            Some(committed) => note.state = Some(committed),
            None => return Ok(Done::Lost),
        }
        Ok(Done::Ready)
    }

    /// The groups that changed rows fall into.
    pub(super) async fn aggregate_changes(
        &self,
        shape: &Shape,
        base: &SessionContext,
        changes: &[InputDelta],
        due: Option<TimeRange>,
        writer: &mut Writer,
        note: &mut TransformNote,
    ) -> Result<Done> {
        if let Some(function) = &shape.unmergeable {
            return Ok(Done::Whole(format!("`{function}` does not merge")));
        }
        let executor = self.job.executor;
        let halves = self.halves(base, &shape.plan).await?;
        let Some(schema) = state_schema(&halves.partial.schema(), shape.keys.len()) else {
            return Ok(Done::Whole("an aggregate's state cannot be stored".to_owned()));
        };
        let groups = group_columns(shape.keys.len());
        let (lake, node) = (executor.planner.snapshots.lake(), &self.job.node);
        let opened = State::open(lake, node, &self.job.table_id()?, note.state.as_ref(), &schema, &groups).await?;
        let Some(state) = opened else { return Ok(Done::Whole("its state is gone".to_owned())) };

        let (narrowings, has_removed) = self.narrowed(base, changes).await?;
        let context = self.job.base(Some(narrowings.as_slice())).await?;
        let plan = self.job.frame(&context).await?.logical_plan().clone();
        let Some(aggregate) = aggregate_of(&plan) else { return Ok(Done::Whole("its query changed".to_owned())) };
        let parts = match self.parts(&aggregate.input, &narrowings)? {
            Ok(parts) => parts,
            Err(because) => return Ok(Done::Whole(because)),
        };
        let mut fresh = vec![RecordBatch::new_empty(Arc::clone(&schema))];
        for part in parts {
            let plan = over(&plan, |_| Ok(part.clone())).map_err(self.fault())?;
            let halves = self.halves(&context, &plan).await?;
            fresh.push(self.partial_rows(&context, &halves, &schema).await?);
        }
        let fresh = self.join(&schema, &fresh)?;
        let mut touches = vec![Touch::of(&fresh, &groups).map_err(BuildFault::shape(node))?];
        if let Some(due) = self.due_keys(base, writer, due, &shape.keys).await? {
            touches.push(Touch { columns: groups.clone(), keys: due.keys });
        }
        let states = if has_removed {
            self.recomputed(base, shape, &touches, &schema).await?
        } else {
            vec![state.leaves().read(&touches).await?, fresh]
        };
        let states = self.merged(base, &halves, states).await?;
        let rows = self.finished(base, &halves, &states, &writer.columns()).await?;
        let shown: Vec<Touch> =
            touches.iter().map(|touch| Touch { columns: shape.keys.clone(), keys: touch.keys.clone() }).collect();
        let change = writer.leaves()?.replace(&shown, &rows).await?;
        writer.apply(change);
        let change = state.leaves().replace(&touches, &states).await?;
        match state.commit(change, note, &executor.run_id).await? {
            Some(committed) => note.state = Some(committed),
            None => return Ok(Done::Lost),
        }
        Ok(Done::Ready)
    }

    /// Partial states of some groups from the whole inputs.
    async fn recomputed(
        &self,
        base: &SessionContext,
        shape: &Shape,
        touches: &[Touch],
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>> {
        let mut states = Vec::new();
        for (index, touch) in touches.iter().enumerate() {
            let plan = over(&shape.plan, |aggregate| {
                let mut filter = touch.keys.filter(&aggregate.group_expr);
                for earlier in &touches[..index] {
                    filter = filter.and(earlier.keys.exact(&aggregate.group_expr).is_not_true());
                }
                Ok(LogicalPlan::Filter(Filter::try_new(filter, Arc::clone(&aggregate.input))?))
            });
            let halves = self.halves(base, &plan.map_err(self.fault())?).await?;
            states.push(self.partial_rows(base, &halves, schema).await?);
        }
        Ok(states)
    }

    async fn halves(&self, context: &SessionContext, plan: &LogicalPlan) -> Result<Halves> {
        let state = planning_state(context);
        let root = state.create_physical_plan(plan).await.map_err(self.fault())?;
        let partial = partial_of(&root).ok_or_else(|| BuildFault::AggregateShape {
            model: self.job.model.name.clone(),
            because: "the engine does not compute it in two halves".to_owned(),
            location: Some(self.job.location()),
        })?;
        Ok(Halves { root, partial })
    }

    async fn partial_rows(&self, context: &SessionContext, halves: &Halves, schema: &SchemaRef) -> Result<RecordBatch> {
        let batches = self.run(context, Arc::clone(&halves.partial)).await?;
        into_stored(&batches, schema).map_err(BuildFault::shape(&self.job.node))
    }

    /// One row a group.
    async fn merged(&self, context: &SessionContext, halves: &Halves, states: Vec<RecordBatch>) -> Result<RecordBatch> {
        let Some(schema) = states.first().map(RecordBatch::schema) else {
            return Ok(RecordBatch::new_empty(Arc::new(Schema::empty())));
        };
        let reduced = Self::restored(halves, &states).and_then(|memory| {
            let partial = aggregate_exec(&halves.partial)?;
            let merged = AggregateExec::try_new(
                AggregateMode::PartialReduce,
                partial.group_expr().as_final(),
                partial.aggr_expr().to_vec(),
                vec![None; partial.aggr_expr().len()],
                memory,
                partial.input_schema(),
            )?;
            Ok(Arc::new(merged) as Arc<dyn ExecutionPlan>)
        });
        let batches = self.run(context, reduced.map_err(self.fault())?).await?;
        into_stored(&batches, &schema).map_err(BuildFault::shape(&self.job.node))
    }

    /// Rows of the table from states, one a group.
    async fn finished(
        &self,
        context: &SessionContext,
        halves: &Halves,
        states: &RecordBatch,
        columns: &SchemaRef,
    ) -> Result<RecordBatch> {
        let memory = Self::restored(halves, std::slice::from_ref(states)).map_err(self.fault())?;
        let root = Arc::clone(&halves.root)
            .transform_down(|node| {
                let Some(found) = node.downcast_ref::<AggregateExec>() else { return Ok(Transformed::no(node)) };
                let finished = AggregateExec::try_new(
                    AggregateMode::Final,
                    final_groups(found),
                    found.aggr_expr().to_vec(),
                    vec![None; found.aggr_expr().len()],
                    Arc::clone(&memory),
                    found.input_schema(),
                )?;
                let finished: Arc<dyn ExecutionPlan> = Arc::new(finished);
                Ok(Transformed::new(finished, true, datafusion::common::tree_node::TreeNodeRecursion::Stop))
            })
            .map_err(self.fault())?
            .data;
        let batches = self.run(context, root).await?;
        into_stored(&batches, columns).map_err(BuildFault::shape(&self.job.node))
    }

    /// Stored states in the types that the operators expect.
    fn restored(halves: &Halves, states: &[RecordBatch]) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let schema = halves.partial.schema();
        let rows = into_stored(states, &schema)?;
        Ok(MemorySourceConfig::try_new_exec(&[vec![rows]], schema, None)?)
    }

    async fn run(&self, context: &SessionContext, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
        let task = context.task_ctx();
        AbortOnDropHandle::new(tokio::spawn(collect(plan, task)))
            .await
            .map_err(|source| BuildFault::TaskLost { node: self.job.node.clone(), source })?
            .map_err(BuildFault::execute(&self.job.node, Some(self.job.location())))
    }

    fn fault(&self) -> impl FnOnce(DataFusionError) -> BuildFault + use<> {
        BuildFault::plan(&self.job.node, Some(self.job.location()))
    }
}

/// The aggregate under projections, filters and aliases, which look at one group at a time.
fn aggregate_of(plan: &LogicalPlan) -> Option<&Aggregate> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => Some(aggregate),
        LogicalPlan::Projection(projection) if projection.expr.iter().all(is_plain) => aggregate_of(&projection.input),
        LogicalPlan::Filter(filter) if is_plain(&filter.predicate) => aggregate_of(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => aggregate_of(&alias.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => aggregate_of(&sort.input),
        _ => None,
    }
}

/// Which group expression an output column is.
fn group_of(plan: &LogicalPlan, output: usize) -> Option<usize> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => (output < aggregate.group_expr.len()).then_some(output),
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(output)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            group_of(&projection.input, projection.input.schema().maybe_index_of_column(column)?)
        }
        LogicalPlan::Filter(filter) => group_of(&filter.input, output),
        LogicalPlan::Sort(sort) => group_of(&sort.input, output),
        LogicalPlan::SubqueryAlias(alias) => group_of(&alias.input, output),
        _ => None,
    }
}

/// The query with another input below its aggregate.
fn over(plan: &LogicalPlan, mut input: impl FnMut(&Aggregate) -> QueryResult<LogicalPlan>) -> QueryResult<LogicalPlan> {
    let changed = plan.clone().transform_down(|node| match node {
        LogicalPlan::Aggregate(aggregate) => {
            let below = input(&aggregate)?;
            let over = Aggregate::try_new_with_schema(
                Arc::new(below),
                aggregate.group_expr,
                aggregate.aggr_expr,
                aggregate.schema,
            )?;
            let recursion = datafusion::common::tree_node::TreeNodeRecursion::Stop;
            Ok(Transformed::new(LogicalPlan::Aggregate(over), true, recursion))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(changed.data)
}

fn unmergeable(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Alias(alias) => unmergeable(&alias.expr),
        Expr::AggregateFunction(call) => {
            let name = call.func.name();
            (!MERGEABLE.contains(&name) || !call.params.order_by.is_empty()).then(|| name.to_owned())
        }
        other => Some(other.to_string()),
    }
}

fn planning_state(context: &SessionContext) -> SessionState {
    let state = context.state();
    let logical = state.optimizers().iter().filter(|rule| !UNWANTED_RULES.contains(&rule.name())).map(Arc::clone);
    let physical =
        state.physical_optimizers().iter().filter(|rule| !UNWANTED_RULES.contains(&rule.name())).map(Arc::clone);
    let (logical, physical) = (logical.collect(), physical.collect());
    SessionStateBuilder::new_from_existing(state)
        .with_optimizer_rules(logical)
        .with_physical_optimizer_rules(physical)
        .build()
}

/// The first half: the lowest aggregate of the first chain of aggregates.
fn partial_of(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>()
        && *aggregate.mode() == AggregateMode::Partial
    {
        return Some(Arc::clone(plan));
    }
    match plan.children().as_slice() {
        [only] => partial_of(only),
        _ => None,
    }
}

fn aggregate_exec(plan: &Arc<dyn ExecutionPlan>) -> QueryResult<&AggregateExec> {
    plan.downcast_ref::<AggregateExec>()
        .ok_or_else(|| DataFusionError::Internal("the first half of an aggregate is none".to_owned()))
}

fn final_groups(aggregate: &AggregateExec) -> datafusion::physical_plan::aggregates::PhysicalGroupBy {
    aggregate.group_expr().as_final()
}

fn group_columns(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("g{index}")).collect()
}

/// The table's columns for a half's output; `None` when a state has a type that tables cannot hold.
fn state_schema(partial: &Schema, num_groups: usize) -> Option<SchemaRef> {
    let name = |index: usize| match index.checked_sub(num_groups) {
        None => format!("g{index}"),
        Some(state) => format!("s{state}"),
    };
    let fields = partial.fields().iter().enumerate();
    let fields = fields.map(|(index, field)| Some(Field::new(name(index), stored_type(field.data_type())?, true)));
    Some(Arc::new(Schema::new(fields.collect::<Option<Vec<_>>>()?)))
}
