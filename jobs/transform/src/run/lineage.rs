//! Where columns come from: each output column of a model down to the columns of the nodes that it reads.
//!
//! Read off the logical plan of a model, planned over empty tables: no row is read, and nothing need be built. A column comes
//! from every column that its value is computed from: arguments, `case` conditions, partitions and orders of its window,
//! subqueries in its expression. What decides which rows there are (filters, join conditions, groups that are not selected) is
//! not part of it.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use indexmap::IndexMap;
use serde::Serialize;

use super::{BuildError, Runner};
use crate::plan::PlanOptions;
use crate::project::NodeId;

/// How a column follows from what it comes from, in dbt's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Derivation {
    /// The column of another node, as it is, under its name.
    Passthrough,
    /// The column of another node, as it is, under another name.
    Rename,
    /// Computed.
    Transformation,
}

/// Where one column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnLineage {
    /// How it follows.
    pub derivation: Derivation,
    /// Columns of the nodes that the model reads, sorted; empty for a constant.
    pub from: Vec<(NodeId, String)>,
}

/// The columns of each model, in the order of its query.
pub type Lineage = BTreeMap<NodeId, IndexMap<String, ColumnLineage>>;

impl Runner {
    /// Lineage of the columns of all models. A model that cannot be planned is left out, and so is all that stands on it; so is
    /// one whose template asks for rows that are not there yet.
    ///
    /// # Errors
    /// The lake's store.
    pub async fn column_lineage(&self, options: &PlanOptions) -> Result<Lineage, BuildError> {
        let executor = self.executor(options, "lineage").await?;
        let nodes: Vec<NodeId> = self.graph().order().cloned().collect();
        Ok(Box::pin(executor.lineage(&nodes)).await)
    }
}

/// What one column of a plan comes from.
#[derive(Clone, Debug, Default)]
struct Origin {
    from: BTreeSet<(NodeId, String)>,
    /// It is the only member of `from`, as it is.
    is_plain: bool,
}

impl Origin {
    fn computed(self) -> Self {
        Self { is_plain: false, ..self }
    }

    fn or(mut self, other: Self) -> Self {
        self.is_plain &= other.is_plain && (self.from == other.from || self.from.is_empty() || other.from.is_empty());
        self.from.extend(other.from);
        self
    }
}

/// The lineage of a plan's columns; `tables` says which node a table of the plan is.
pub(super) fn trace(plan: &LogicalPlan, tables: &BTreeMap<String, NodeId>) -> IndexMap<String, ColumnLineage> {
    let origins = Tracer { tables }.plan(plan);
    let fields = plan.schema().fields().iter().zip(origins);
    fields
        .map(|(field, origin)| {
            let derivation = match origin.from.first() {
                Some((_, column)) if origin.is_plain && origin.from.len() == 1 => {
                    if column == field.name() {
                        Derivation::Passthrough
                    } else {
                        Derivation::Rename
                    }
                }
                _ => Derivation::Transformation,
            };
            (field.name().clone(), ColumnLineage { derivation, from: origin.from.into_iter().collect() })
        })
        .collect()
}

struct Tracer<'a> {
    tables: &'a BTreeMap<String, NodeId>,
}

impl Tracer<'_> {
    /// One entry for each field of the plan.
    fn plan(&self, plan: &LogicalPlan) -> Vec<Origin> {
        let num_fields = plan.schema().fields().len();
        let mut origins = match plan {
            LogicalPlan::TableScan(scan) => {
                let node = self.tables.get(&scan.table_name.to_string());
                let fields = scan.projected_schema.fields().iter();
                fields.map(|field| stored(node, field.name())).collect()
            }
            LogicalPlan::Projection(projection) => self.exprs(&projection.expr, &projection.input),
            LogicalPlan::Aggregate(aggregate) => {
                let exprs: Vec<Expr> = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
                let keys = grouped(&exprs);
                self.exprs(&keys, &aggregate.input)
            }
            LogicalPlan::Window(window) => {
                let mut origins = self.plan(&window.input);
                origins.extend(self.exprs(&window.window_expr, &window.input));
                origins
            }
            LogicalPlan::Distinct(Distinct::On(distinct)) => self.exprs(&distinct.select_expr, &distinct.input),
            LogicalPlan::Union(union) => {
                let branches = union.inputs.iter().map(|input| self.plan(input));
                branches
                    .reduce(|left, right| left.into_iter().zip(right).map(|(left, right)| left.or(right)).collect())
                    .unwrap_or_default()
            }
            LogicalPlan::RecursiveQuery(query) => {
                let (first, again) = (self.plan(&query.static_term), self.plan(&query.recursive_term));
                first.into_iter().zip(again).map(|(first, again)| first.or(again).computed()).collect()
            }
            LogicalPlan::Unnest(unnest) => {
                let inner = self.plan(&unnest.input);
                let of = |place: &usize| inner.get(*place).cloned().unwrap_or_default();
                let is_made = |index: usize| {
                    unnest.schema.field(index) != unnest.input.schema().field(unnest.dependency_indices[index])
                };
                unnest
                    .dependency_indices
                    .iter()
                    .enumerate()
                    .map(|(index, place)| if is_made(index) { of(place).computed() } else { of(place) })
                    .collect()
            }
            // Filters, sorts, aliases, joins: the fields of the inputs, one after the other.
            other => other.inputs().into_iter().flat_map(|input| self.plan(input)).collect(),
        };
        if let LogicalPlan::Join(join) = plan
            && origins.len() != num_fields
        {
            // A semi or anti join shows one side.
            let right = join.right.schema().fields().len();
            if matches!(
                join.join_type,
                datafusion::common::JoinType::RightSemi | datafusion::common::JoinType::RightAnti
            ) {
                origins.drain(..origins.len() - right);
            }
        }
        origins.resize_with(num_fields, Origin::default);
        origins
    }

    fn exprs(&self, exprs: &[Expr], input: &LogicalPlan) -> Vec<Origin> {
        let inner = self.plan(input);
        exprs.iter().map(|expr| self.expr(expr, input.schema(), &inner)).collect()
    }

    fn expr(&self, expr: &Expr, schema: &DFSchema, inner: &[Origin]) -> Origin {
        let of = |column: &Column| {
            schema.maybe_index_of_column(column).and_then(|index| inner.get(index)).cloned().unwrap_or_default()
        };
        let mut bare = expr;
        while let Expr::Alias(alias) = bare {
            bare = &alias.expr;
        }
        if let Expr::Column(column) = bare {
            return of(column);
        }
        let mut found = Origin::default();
        // Nothing in the walk can fail.
        let _ = bare.apply(|part| {
            match part {
                Expr::Column(column) => found.from.extend(of(column).from),
                Expr::ScalarSubquery(subquery) => found.from.extend(self.all(&subquery.subquery)),
                Expr::InSubquery(within) => found.from.extend(self.all(&within.subquery.subquery)),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        });
        found
    }

    fn all(&self, plan: &LogicalPlan) -> BTreeSet<(NodeId, String)> {
        self.plan(plan).into_iter().flat_map(|origin| origin.from).collect()
    }
}

/// The expressions of an aggregate's fields: those of grouping sets in the order in which they show.
fn grouped(exprs: &[Expr]) -> Vec<Expr> {
    let mut keys = Vec::new();
    for expr in exprs {
        match expr {
            Expr::GroupingSet(set) => {
                keys.extend(set.distinct_expr().into_iter().cloned());
                // The number that says which set a row belongs to.
                keys.push(datafusion::logical_expr::lit(0_u8));
            }
            other => keys.push(other.clone()),
        }
    }
    keys
}

/// A column as the table of a node holds it.
fn stored(node: Option<&NodeId>, column: &str) -> Origin {
    let from = node.map(|node| (node.clone(), column.to_owned()));
    Origin { is_plain: from.is_some(), from: from.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn told(sql: &str) -> String {
        let context = SessionContext::new();
        let mut tables = BTreeMap::new();
        for (table, columns) in [("orders", ["id", "user_id", "amount"]), ("users", ["id", "name", "tags"])] {
            let field = |name: &str| match name {
                "tags" => Field::new(name, DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true),
                _ => Field::new(name, DataType::Int64, true),
            };
            let schema = Schema::new(columns.map(field).to_vec());
            context.register_table(table, Arc::new(EmptyTable::new(Arc::new(schema)))).unwrap();
            tables.insert(table.to_owned(), NodeId::Model(table.to_owned()));
        }
        let frame = context.sql(sql).await.unwrap();
        let lines = trace(frame.logical_plan(), &tables).into_iter().map(|(column, lineage)| {
            let from: Vec<String> =
                lineage.from.iter().map(|(node, column)| format!("{}.{column}", node.name())).collect();
            format!("{column} {:?} {}", lineage.derivation, from.join(" ")).trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn columns_are_followed_through_ctes_joins_and_aggregates() {
        let sql = "with paid as (select user_id as buyer, amount, 'eur' as unit from orders where id > 0),
            totals as (select buyer, sum(amount) as total, count(*) as num_orders from paid group by buyer)
            select totals.buyer, users.name, users.name as called, total / num_orders as mean, unit,
                coalesce(users.name, paid.buyer) as either
            from totals join users on users.id = totals.buyer left join paid using (buyer)";
        insta::assert_snapshot!(told(sql).await, @"
        buyer Rename orders.user_id
        name Passthrough users.name
        called Rename users.name
        mean Transformation orders.amount
        unit Transformation
        either Transformation orders.user_id users.name
        ");
    }

    #[tokio::test]
    async fn unions_windows_and_subqueries_bring_all_that_they_read() {
        let sql = "select id, amount, row_number() over (partition by user_id order by amount) as place,
                case when id in (select name from users) then 1 end as known, (select max(name) from users) as top
            from orders
            union all select id, name, 1, null, 2 from users";
        insta::assert_snapshot!(told(sql).await, @"
        id Transformation orders.id users.id
        amount Transformation orders.amount users.name
        place Transformation orders.amount orders.user_id
        known Transformation orders.id users.name
        top Transformation users.name
        ");
    }

    #[tokio::test]
    async fn semi_joins_distincts_and_unnests_keep_their_columns() {
        insta::assert_snapshot!(
            told("select distinct id as order_id from orders where user_id in (select id from users) order by 1").await,
            @"order_id Rename orders.id"
        );
        insta::assert_snapshot!(told("select id, unnest(tags) as tag from users").await, @r"
        id Passthrough users.id
        tag Transformation users.tags
        ");
        insta::assert_snapshot!(
            told("select id, name from users where exists (select 1 from orders where orders.user_id = users.id)").await,
            @r"
        id Passthrough users.id
        name Passthrough users.name
        "
        );
    }
}
