//! One query for many batches: planned and optimised once, filled with the bounds of each.
//!
//! What follows from the bounds alone is done for each batch: conditions become literals and are simplified, files are pruned,
//! the physical plan is made. A template whose text differs between batches (it asks for `model.batch`) is planned for each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as QueryResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::OptimizerConfig as _;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;

use super::cut::Openings;
use crate::project::BatchWindow;

/// A query that is ready to run.
#[derive(Debug)]
pub(super) struct Query {
    state: Arc<SessionState>,
    plan: LogicalPlan,
    is_optimized: bool,
}

impl From<DataFrame> for Query {
    fn from(frame: DataFrame) -> Self {
        let (state, plan) = frame.into_parts();
        Self { state: Arc::new(state), plan, is_optimized: false }
    }
}

impl Query {
    /// The same with its share of the cores: so many queries run side by side.
    pub(super) fn beside(mut self, side_by_side: usize) -> Self {
        self.state = Arc::new(sharing(SessionState::clone(&self.state), side_by_side));
        self
    }

    /// Runs it.
    pub(super) async fn collect(self) -> QueryResult<Vec<RecordBatch>> {
        let plan = if self.is_optimized { self.plan } else { self.state.optimize(&self.plan)? };
        let physical = self.state.query_planner().create_physical_plan(&plan, self.state.as_ref()).await?;
        datafusion::physical_plan::collect(physical, self.state.task_ctx()).await
    }
}

/// A session whose queries take their share of the cores. Batches side by side keep all of them busy, and a plan for one thread is
/// smaller and moves no rows between threads.
fn sharing(mut state: SessionState, side_by_side: usize) -> SessionState {
    let num_cores = state.config().target_partitions();
    state.config_mut().options_mut().execution.target_partitions = (num_cores / side_by_side.max(1)).max(1);
    state
}

/// A query with openings for the bounds of a batch.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The text that it was planned from.
    sql: String,
    state: Arc<SessionState>,
    plan: LogicalPlan,
    openings: Openings,
}

impl Prepared {
    /// Optimises `frame`, which was planned from `sql` over inputs with these openings, for so many batches side by side. `None`
    /// when an opening lies where it could not be filled.
    pub(super) fn new(
        sql: String,
        frame: DataFrame,
        openings: Openings,
        side_by_side: usize,
    ) -> QueryResult<Option<Self>> {
        let (state, plan) = frame.into_parts();
        let state = sharing(state, side_by_side);
        let plan = state.optimize(&plan)?;
        Ok((!hides_plans(&plan)?).then(|| Self { sql, state: Arc::new(state), plan, openings }))
    }

    /// The query over one window, whose own text is `sql`; `None` when that is another query.
    pub(super) fn over(&self, window: BatchWindow, sql: &str) -> QueryResult<Option<Query>> {
        if sql != self.sql {
            return Ok(None);
        }
        let Some(bounds) = self.openings.fill(window) else { return Ok(None) };
        let filled = self.plan.clone().transform_up_with_subqueries(|node| self.fill(node, &bounds))?;
        Ok(Some(Query { state: Arc::clone(&self.state), plan: filled.data, is_optimized: true }))
    }

    /// Puts bounds into the openings of one node, and simplifies what they stand in.
    fn fill(&self, node: LogicalPlan, bounds: &HashMap<String, ScalarValue>) -> QueryResult<Transformed<LogicalPlan>> {
        let mut is_open = false;
        node.apply_expressions(|expr| {
            is_open = is_open || expr.exists(|expr| Ok(opening(expr, bounds).is_some()))?;
            Ok(if is_open { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !is_open {
            return Ok(Transformed::no(node));
        }
        let info = SimplifyContext::builder()
            .with_schema(schema_under(&node)?)
            .with_config_options(self.state.options())
            .with_query_execution_start_time(self.state.query_execution_start_time())
            .build();
        // The sides of a join's conditions must not be swapped.
        let simplifier = ExprSimplifier::new(info).with_canonicalize(!matches!(node, LogicalPlan::Join(_)));
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let filled = expr.transform_up(|expr| match opening(&expr, bounds) {
                Some(bound) => Ok(Transformed::yes(Expr::Literal(bound.clone(), None))),
                None => Ok(Transformed::no(expr)),
            })?;
            if !filled.transformed {
                return Ok(filled);
            }
            Ok(Transformed::yes(name.restore(simplifier.simplify(filled.data)?)))
        })
    }
}

/// The bound that belongs into an expression's place.
fn opening<'a>(expr: &Expr, bounds: &'a HashMap<String, ScalarValue>) -> Option<&'a ScalarValue> {
    match expr {
        Expr::Placeholder(Placeholder { id, .. }) => bounds.get(id),
        _ => None,
    }
}

/// The columns that the expressions of a node are about.
fn schema_under(node: &LogicalPlan) -> QueryResult<DFSchemaRef> {
    Ok(Arc::new(match node {
        // Conditions on a table are about all its columns, read or not.
        LogicalPlan::TableScan(scan) => {
            DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?
        }
        _ => merge_schema(&node.inputs()),
    }))
}

/// Whether a table of the plan is a plan itself.
fn hides_plans(plan: &LogicalPlan) -> QueryResult<bool> {
    let mut hides = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            hides = hides || source_as_provider(&scan.source)?.get_logical_plan().is_some();
        }
        Ok(if hides { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(hides)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::SessionContext;

    use super::super::cut::Cut;
    use super::*;
    use crate::plan::Reach;

    const SQL: &str = "select n, lag(n) over (order by event_at) as before, event_at from events";

    async fn prepared(reach: Reach) -> Prepared {
        let context = SessionContext::new();
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = vec![Field::new("event_at", instant, true), Field::new("n", DataType::Int64, true)];
        let schema = Arc::new(Schema::new(fields));
        let table = MemTable::try_new(Arc::clone(&schema), vec![vec![RecordBatch::new_empty(schema)]]).unwrap();
        let openings = Openings::default();
        let cut = Cut::Open(&openings);
        let input = context.read_table(Arc::new(table)).unwrap();
        context.register_table("events", cut.within(input, "event_at", reach, false).unwrap().into_view()).unwrap();
        let frame = context.sql(SQL).await.unwrap();
        let frame = cut.within(frame, "event_at", Reach::default(), false).unwrap();
        Prepared::new(SQL.to_owned(), frame, openings, 2).unwrap().unwrap()
    }

    fn window(start_us: i64) -> BatchWindow {
        BatchWindow { start_us, end_us: start_us + 1_000_000 }
    }

    #[tokio::test]
    async fn every_opening_is_filled_with_the_bounds_of_the_batch() {
        let prepared = prepared(Reach { before_us: 5_000_000, after_us: 0 }).await;
        assert!(prepared.plan.display_indent().to_string().contains('$'));
        let query = prepared.over(window(60_000_000), SQL).unwrap().unwrap();
        let text = query.plan.display_indent().to_string();
        assert!(!text.contains('$'), "{text}");
        for bound in ["55000000", "60000000", "61000000"] {
            assert!(text.contains(bound), "{bound} in {text}");
        }
        assert_eq!(query.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
        assert!(prepared.over(window(0), "select 1").unwrap().is_none(), "another text is another query");
    }

    #[tokio::test]
    async fn a_window_at_the_end_of_time_is_planned_alone() {
        let prepared = prepared(Reach::default()).await;
        let last = BatchWindow { start_us: i64::MAX - 1, end_us: i64::MAX };
        assert!(prepared.over(last, SQL).unwrap().is_none());
    }

    #[tokio::test]
    async fn unbounded_context_leaves_a_side_open() {
        let prepared = prepared(Reach { before_us: i64::MAX, after_us: 0 }).await;
        let query = prepared.over(window(60_000_000), SQL).unwrap().unwrap();
        let text = query.plan.display_indent().to_string();
        assert!(text.contains("60000000") && !text.contains('$'), "{text}");
    }
}
