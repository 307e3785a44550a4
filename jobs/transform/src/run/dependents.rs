//! What stands on a column of a source: the models, and of each the columns that are computed from it.
//!
//! Found in the plans, not in the text of the SQL: a column that is renamed three models further up is still found, one that
//! only shares the name is not. A column that decides which rows there are (a filter, a join, a group) concerns every column.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use serde::Serialize;
use tidemill_project::SourceName;

use super::{BuildError, Runner};
use crate::plan::PlanOptions;
use crate::project::NodeId;

/// A model that stands on a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependent {
    /// The model.
    pub model: String,
    /// Its columns that are computed from it, in their order; all of them where it decides which rows there are, or where the
    /// model cannot be planned.
    pub columns: Vec<String>,
    /// Whether it decides which rows there are.
    pub rows: bool,
}

impl Runner {
    /// The models that stand on `columns` of sources, parents before children.
    ///
    /// Reads no rows. `sources` are the columns of the sources by their contracts, so that an empty lake knows them as well. A
    /// model that cannot be planned without rows is told with no columns.
    ///
    /// # Errors
    /// The lake's store.
    pub async fn dependents(
        &self,
        sources: &BTreeMap<SourceName, SchemaRef>,
        columns: &BTreeMap<SourceName, Vec<String>>,
    ) -> Result<Vec<Dependent>, BuildError> {
        let mut below: BTreeSet<NodeId> = BTreeSet::new();
        let mut touched = Touched::default();
        for (name, columns) in columns {
            let source = NodeId::Source(name.clone());
            below.extend(self.graph.descendants(&source, None));
            touched.add(self.name_of(&source), columns.iter().cloned(), false);
        }
        let executor = self.executor(&PlanOptions::default(), "dependents").await?;
        let nodes: Vec<NodeId> = self.graph.order().cloned().collect();
        let plans = executor.plans(&nodes, sources).await;
        let mut dependents = Vec::new();
        for node in nodes.iter().filter(|node| matches!(node, NodeId::Model(_)) && below.contains(*node)) {
            let Some(plan) = plans.get(node) else {
                touched.add(self.name_of(node), std::iter::empty(), true);
                dependents.push(Dependent { model: node.name(), columns: Vec::new(), rows: true });
                continue;
            };
            let found = touched.walk(plan);
            let all = plan.schema().columns();
            let is_told = |column: &&Column| found.rows || found.columns.contains(*column);
            let columns: Vec<String> = all.iter().filter(is_told).map(|column| column.name.clone()).collect();
            if columns.is_empty() {
                continue;
            }
            touched.add(self.name_of(node), columns.iter().cloned(), found.rows);
            dependents.push(Dependent { model: node.name(), columns, rows: found.rows });
        }
        Ok(dependents)
    }

    /// Schema and name by which SQL reads a node.
    fn name_of(&self, node: &NodeId) -> Option<(String, String)> {
        self.compiler.relation(node).map(|relation| (relation.schema, relation.identifier))
    }
}

/// Relations with what of them is touched.
#[derive(Default)]
struct Touched(BTreeMap<(String, String), Found<String>>);

/// What of a relation, or of a plan's output, is touched.
struct Found<C: Ord> {
    columns: BTreeSet<C>,
    rows: bool,
}

impl Touched {
    fn add(&mut self, name: Option<(String, String)>, columns: impl Iterator<Item = String>, rows: bool) {
        if let Some(name) = name {
            let found = self.0.entry(name).or_insert(Found { columns: BTreeSet::new(), rows: false });
            found.columns.extend(columns);
            found.rows |= rows;
        }
    }

    /// What of a plan's output is touched.
    fn walk(&self, plan: &LogicalPlan) -> Found<Column> {
        let names = plan.schema().columns();
        if let LogicalPlan::TableScan(scan) = plan {
            let name = (scan.table_name.schema().unwrap_or_default().to_owned(), scan.table_name.table().to_owned());
            let Some(found) = self.0.get(&name) else { return Found { columns: BTreeSet::new(), rows: false } };
            let columns = names.into_iter().filter(|column| found.columns.contains(&column.name)).collect();
            return Found { columns, rows: found.rows };
        }
        let inputs: Vec<Found<Column>> = plan.inputs().into_iter().map(|input| self.walk(input)).collect();
        let mut rows = inputs.iter().any(|input| input.rows);
        let below: BTreeSet<&Column> = inputs.iter().flat_map(|input| &input.columns).collect();
        let uses = |expr: &Expr| self.uses(expr, &below);
        let computed = |exprs: &mut dyn Iterator<Item = &Expr>| -> BTreeSet<Column> {
            names.iter().zip(exprs).filter(|(_, expr)| uses(expr)).map(|(name, _)| name.clone()).collect()
        };
        // Outputs that stand where they stood in the input, under whatever name.
        let by_place = || -> BTreeSet<Column> {
            let mut columns = BTreeSet::new();
            for (input, found) in plan.inputs().into_iter().zip(&inputs) {
                let places = names.iter().zip(input.schema().columns());
                columns.extend(places.filter(|(_, from)| found.columns.contains(from)).map(|(name, _)| name.clone()));
            }
            columns
        };
        let by_name = || -> BTreeSet<Column> { names.iter().filter(|name| below.contains(name)).cloned().collect() };
        let columns = match plan {
            LogicalPlan::Projection(projection) => computed(&mut projection.expr.iter()),
            LogicalPlan::Aggregate(aggregate) => {
                rows |= aggregate.group_expr.iter().any(uses);
                computed(&mut aggregate.group_expr.iter().chain(&aggregate.aggr_expr))
            }
            LogicalPlan::Window(window) => {
                let passed = by_name();
                let own = names.iter().skip(names.len().saturating_sub(window.window_expr.len()));
                let own = own.zip(&window.window_expr).filter(|(_, expr)| uses(expr)).map(|(name, _)| name.clone());
                passed.into_iter().chain(own).collect()
            }
            LogicalPlan::SubqueryAlias(_) | LogicalPlan::Union(_) => by_place(),
            LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::Distinct(_) => {
                rows |= plan.expressions().iter().any(uses);
                by_name()
            }
            // An order decides nothing unless rows are cut off behind it.
            LogicalPlan::Sort(sort) => {
                rows |= sort.fetch.is_some() && sort.expr.iter().any(|by| uses(&by.expr));
                by_name()
            }
            LogicalPlan::Limit(_) => by_name(),
            // Anything else: touched as a whole, rather too much than too little.
            _ if below.is_empty() => BTreeSet::new(),
            _ => names.iter().cloned().collect(),
        };
        Found { columns, rows }
    }

    /// Whether an expression reads a touched column, also inside a subquery.
    fn uses(&self, expr: &Expr, touched: &BTreeSet<&Column>) -> bool {
        let mut found = false;
        // The closure never fails.
        let _ = expr.apply(|part| {
            found |= match part {
                Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => touched.contains(column),
                Expr::ScalarSubquery(query) => self.is_touched(&query.subquery),
                Expr::InSubquery(query) => self.is_touched(&query.subquery.subquery),
                Expr::Exists(query) => self.is_touched(&query.subquery.subquery),
                _ => false,
            };
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        found
    }

    fn is_touched(&self, plan: &LogicalPlan) -> bool {
        let found = self.walk(plan);
        found.rows || !found.columns.is_empty()
    }
}
