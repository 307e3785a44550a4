//! What a query is made of, column by column, so that two of them can be compared.
//!
//! Each output column is written out down to columns of tables; what decides which rows there are (tables, filters, joins,
//! groups) is written out apart from it. Names of CTEs, the order of selected columns and the text around them leave no trace.

use std::collections::HashMap;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use sha2::{Digest, Sha256};
use tidemill_lake::metadata::QueryNote;

use super::hex;
use crate::plan::SqlChange;

/// Describes a query by its plan, as SQL gave it.
pub(crate) fn describe(plan: &LogicalPlan) -> QueryNote {
    let described = walk(plan);
    let columns = plan.schema().columns().into_iter().map(|column| {
        let origin = described.columns.get(&column).cloned().unwrap_or_else(|| column.flat_name());
        (column.name, short(&origin))
    });
    QueryNote { body: short(&described.rows), columns: columns.collect() }
}

/// Tells how `now` differs from `before`; `None` when the two give the same rows.
pub(crate) fn difference(before: &QueryNote, now: &QueryNote) -> Option<SqlChange> {
    if before == now {
        return None;
    }
    let origin = |note: &QueryNote, name: &str| {
        note.columns.iter().find(|(column, _)| column == name).map(|(_, origin)| origin.clone())
    };
    let differing: Vec<String> = before
        .columns
        .iter()
        .filter(|(name, known)| origin(now, name).as_ref() != Some(known))
        .map(|(name, _)| name.clone())
        .collect();
    let added: Vec<String> =
        now.columns.iter().filter(|(name, _)| origin(before, name).is_none()).map(|(name, _)| name.clone()).collect();
    if before.body == now.body && differing.is_empty() {
        return Some(SqlChange::NonBreaking { added });
    }
    Some(SqlChange::Breaking { columns: differing })
}

fn short(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

struct Described {
    /// What decides which rows there are.
    rows: String,
    /// Column -> what it is computed from.
    columns: HashMap<Column, String>,
}

impl Described {
    /// An expression with its columns written out.
    fn expand(&self, expr: &Expr) -> String {
        let expanded = expr.clone().unalias_nested().data.transform(|expr| match &expr {
            Expr::Column(column) => {
                let origin = self.columns.get(column).cloned().unwrap_or_else(|| column.flat_name());
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(origin))))
            }
            _ => Ok(Transformed::no(expr)),
        });
        expanded.map_or_else(|_| expr.to_string(), |expanded| expanded.data.to_string())
    }

    fn expand_all(&self, exprs: &[Expr]) -> String {
        exprs.iter().map(|expr| self.expand(expr)).collect::<Vec<_>>().join(", ")
    }
}

fn walk(plan: &LogicalPlan) -> Described {
    let inputs: Vec<Described> = plan.inputs().into_iter().map(walk).collect();
    let names = plan.schema().columns();
    let own = |origins: Vec<String>| names.iter().cloned().zip(origins).collect::<HashMap<_, _>>();
    let Some(first) = inputs.first() else {
        let (rows, table) = match plan {
            LogicalPlan::TableScan(scan) => (format!("{} {:?}", scan.table_name, scan.filters), scan.table_name.to_string()),
            other => (other.display().to_string(), String::new()),
        };
        let origins = names.iter().map(|column| format!("{table}.{}", column.name)).collect();
        return Described { rows, columns: own(origins) };
    };
    let passed_on = || names.iter().map(|column| first.columns.get(column).cloned().unwrap_or_else(|| column.flat_name()));
    let (rows, origins): (String, Vec<String>) = match plan {
        LogicalPlan::Projection(projection) => {
            (first.rows.clone(), projection.expr.iter().map(|expr| first.expand(expr)).collect())
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = alias.input.schema().columns();
            let origins = inner.iter().map(|column| first.columns.get(column).cloned().unwrap_or_default());
            (first.rows.clone(), origins.collect())
        }
        LogicalPlan::Filter(filter) => {
            (format!("{} where {}", first.rows, first.expand(&filter.predicate)), passed_on().collect())
        }
        LogicalPlan::Aggregate(aggregate) => {
            let keys = first.expand_all(&aggregate.group_expr);
            let exprs = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
            (format!("{} group {keys}", first.rows), exprs.map(|expr| first.expand(expr)).collect())
        }
        LogicalPlan::Window(window) => {
            let origins = passed_on().take(names.len() - window.window_expr.len());
            let windows = window.window_expr.iter().map(|expr| first.expand(expr));
            (first.rows.clone(), origins.chain(windows).collect())
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => (first.rows.clone(), passed_on().collect()),
        LogicalPlan::Join(join) => {
            let mut both = Described { rows: String::new(), columns: HashMap::new() };
            for input in &inputs {
                both.columns.extend(input.columns.clone());
            }
            let on: Vec<String> =
                join.on.iter().map(|(left, right)| format!("{} = {}", both.expand(left), both.expand(right))).collect();
            let filter = join.filter.as_ref().map(|filter| both.expand(filter)).unwrap_or_default();
            let sides: Vec<&str> = inputs.iter().map(|input| input.rows.as_str()).collect();
            let rows = format!("({}) {} join on {} {filter}", sides.join(" | "), join.join_type, on.join(" and "));
            let origins = names.iter().map(|column| both.columns.get(column).cloned().unwrap_or_default());
            (rows, origins.collect())
        }
        LogicalPlan::Distinct(Distinct::All(_)) => {
            let origins: Vec<String> = passed_on().collect();
            (format!("{} distinct {}", first.rows, origins.join(", ")), origins)
        }
        LogicalPlan::Union(_) => {
            let of = |place: usize| {
                let parts = plan.inputs().into_iter().zip(&inputs).map(|(branch, described)| {
                    let column = branch.schema().columns().get(place).cloned();
                    column.and_then(|column| described.columns.get(&column).cloned()).unwrap_or_default()
                });
                parts.collect::<Vec<_>>().join(" | ")
            };
            let rows: Vec<&str> = inputs.iter().map(|input| input.rows.as_str()).collect();
            (format!("union ({})", rows.join(" | ")), (0..names.len()).map(of).collect())
        }
        // Anything else is taken as it prints: any change in it, or below, counts as one of rows.
        other => {
            let text = other.display_indent().to_string();
            let origins = names.iter().map(|column| format!("{text} {}", column.flat_name())).collect();
            (text, origins)
        }
    };
    Described { rows, columns: own(origins) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn note(sql: &str) -> QueryNote {
        let context = SessionContext::new();
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = Schema::new(vec![field("id"), field("amount"), field("user_id")]);
        context.register_table("orders", Arc::new(EmptyTable::new(Arc::new(schema)))).unwrap();
        describe(context.sql(sql).await.unwrap().logical_plan())
    }

    const BEFORE: &str = "with o as (select id, amount, user_id from orders where amount > 0)
        select user_id, sum(amount) as total from o group by user_id";

    #[tokio::test]
    async fn the_same_query_in_other_words_is_no_change() {
        let same = "select user_id, sum(amount) as total from (select * from orders) as every where amount > 0 group by 1";
        assert_eq!(difference(&note(BEFORE).await, &note(same).await), None);
    }

    #[tokio::test]
    async fn an_added_column_is_not_breaking() {
        let now = BEFORE.replace("as total", "as total, max(id) as last_id");
        let added = vec!["last_id".to_owned()];
        assert_eq!(difference(&note(BEFORE).await, &note(&now).await), Some(SqlChange::NonBreaking { added }));
    }

    #[tokio::test]
    async fn other_rows_other_values_and_lost_columns_are_breaking() {
        for (from, to, columns) in [
            ("amount > 0", "amount > 1", vec![]),
            ("sum(amount) as total", "sum(amount) + 1 as total", vec!["total"]),
            ("sum(amount) as total", "sum(amount) as sum_total", vec!["total"]),
        ] {
            let now = note(&BEFORE.replace(from, to)).await;
            let Some(SqlChange::Breaking { columns: found }) = difference(&note(BEFORE).await, &now) else {
                panic!("not breaking: {to}");
            };
            assert!(columns.iter().all(|column| found.contains(&(*column).to_owned())), "{to}: {found:?}");
        }
    }
}
