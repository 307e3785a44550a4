//! Whether a query passes on the rows of one table one by one.
//!
//! Then the query of some of the table's rows gives that part of its result which these rows make: new rows can be added to
//! what is there without a look at the old ones. Proven from the plan, or not done: between the table and the output stand
//! only projections, filters, unions, inner joins and the kept side of left, semi and anti joins, and no expression looks at
//! another row.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{JoinType, Result as QueryResult};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Union};

/// Whether `plan` reads `table` and is linear in it.
pub(crate) fn is_linear_in(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> bool {
    walk(plan, table) == Some(true)
}

/// The plan without branches of unions that do not read `table`: their rows are no part of what its rows make.
pub(crate) fn without_foreign_branches(
    plan: LogicalPlan,
    table: &Arc<dyn TableProvider>,
) -> QueryResult<LogicalPlan> {
    let pruned = plan.transform_down(|plan| match plan {
        LogicalPlan::Union(union) if union.inputs.iter().any(|input| reads(input, table)) => {
            let inputs: Vec<_> = union.inputs.iter().filter(|input| reads(input, table)).map(Arc::clone).collect();
            match inputs.as_slice() {
                all if all.len() == union.inputs.len() => Ok(Transformed::no(LogicalPlan::Union(union))),
                // A lone branch has names of its own.
                [only] => renamed(only, &union).map(Transformed::yes),
                _ => Ok(Transformed::yes(LogicalPlan::Union(Union { inputs, schema: union.schema }))),
            }
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(pruned.data)
}

fn renamed(branch: &LogicalPlan, union: &Union) -> QueryResult<LogicalPlan> {
    let names = union.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), field.name().clone()));
    let columns = branch
        .schema()
        .columns()
        .into_iter()
        .zip(names)
        .map(|(column, (qualifier, name))| Expr::Column(column).alias_qualified(qualifier, name));
    LogicalPlanBuilder::from(branch.clone()).project(columns.collect::<Vec<_>>())?.build()
}

/// Whether the plan or a subquery in it reads the table.
pub(crate) fn reads(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> bool {
    let mut found = false;
    let visited = plan.apply_with_subqueries(|node| {
        if is_scan_of(node, table) {
            found = true;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found || visited.is_err()
}

fn is_scan_of(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> bool {
    let LogicalPlan::TableScan(scan) = plan else { return false };
    source_as_provider(&scan.source).is_ok_and(|provider| std::ptr::addr_eq(Arc::as_ptr(&provider), Arc::as_ptr(table)))
}

/// `None`: not linear. Else whether the table is read here.
fn walk(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> Option<bool> {
    if !reads(plan, table) {
        return Some(false);
    }
    match plan {
        LogicalPlan::TableScan(scan) => scan.fetch.is_none().then_some(true),
        LogicalPlan::Projection(projection) => {
            let plain = projection.expr.iter().all(|expr| is_plain(expr, table));
            plain.then(|| walk(&projection.input, table))?
        }
        LogicalPlan::Filter(filter) => is_plain(&filter.predicate, table).then(|| walk(&filter.input, table))?,
        LogicalPlan::SubqueryAlias(alias) => walk(&alias.input, table),
        LogicalPlan::Sort(sort) => sort.fetch.is_none().then(|| walk(&sort.input, table))?,
        LogicalPlan::Union(union) => union.inputs.iter().try_fold(false, |any, input| Some(any | walk(input, table)?)),
        LogicalPlan::Join(join) => {
            let plain = join.filter.as_ref().is_none_or(|filter| is_plain(filter, table))
                && join.on.iter().all(|(left, right)| is_plain(left, table) && is_plain(right, table));
            if !plain {
                return None;
            }
            let sides = (walk(&join.left, table)?, walk(&join.right, table)?);
            match (join.join_type, sides) {
                (JoinType::Inner, (true, false) | (false, true))
                | (JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti, (true, false))
                | (JoinType::Right | JoinType::RightSemi | JoinType::RightAnti, (false, true)) => Some(true),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether an expression looks at its own row, and at other tables, only.
pub(super) fn is_plain(expr: &Expr, table: &Arc<dyn TableProvider>) -> bool {
    let foreign = expr.exists(|expr| {
        Ok(match expr {
            Expr::WindowFunction(_) | Expr::Unnest(_) | Expr::SetComparison(_) => true,
            Expr::ScalarSubquery(query) => reads(&query.subquery, table),
            Expr::InSubquery(query) => reads(&query.subquery.subquery, table),
            Expr::Exists(query) => reads(&query.subquery.subquery, table),
            _ => false,
        })
    });
    foreign.is_ok_and(|foreign| !foreign)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn linear(sql: &str) -> bool {
        let context = SessionContext::new();
        let schema = || {
            Arc::new(Schema::new(vec![
                Field::new("id", DataType::Int64, true),
                Field::new("name", DataType::Utf8, true),
            ]))
        };
        let changed: Arc<dyn TableProvider> = Arc::new(EmptyTable::new(schema()));
        context.register_table("changed", Arc::clone(&changed)).unwrap();
        context.register_table("other", Arc::new(EmptyTable::new(schema()))).unwrap();
        let view = context.sql("select id, name from changed where id > 1").await.unwrap().into_view();
        context.register_table("passed", view).unwrap();
        let frame = context.sql(sql).await.unwrap();
        let plan = frame.logical_plan().clone();
        let pruned = without_foreign_branches(plan.clone(), &changed).unwrap();
        assert_eq!(is_linear_in(&plan, &changed), is_linear_in(&pruned, &changed), "{sql}");
        is_linear_in(&plan, &changed)
    }

    #[tokio::test]
    async fn rows_that_pass_one_by_one_are_linear() {
        for sql in [
            "select id + 1 as id from changed where name = 'a'",
            "with c as (select * from passed) select c.id from c join other as o on c.id = o.id",
            "select p.id from passed as p left join other as o on p.id = o.id",
            "select id from changed union all select id from other",
            "select id from changed where id in (select id from other)",
            "select c.id from changed as c join (select id, count(*) as n from other group by id) as o on c.id = o.id",
        ] {
            assert!(linear(sql).await, "{sql}");
        }
    }

    #[tokio::test]
    async fn what_looks_at_other_rows_is_not() {
        for sql in [
            "select id, count(*) as n from changed group by id",
            "select distinct id from changed",
            "select id, lag(id) over (order by id) as l from passed",
            "select o.id from other as o left join passed as p on p.id = o.id",
            "select a.id from changed as a join changed as b on a.id = b.id",
            "select id from changed limit 3",
            "select id from other where id in (select id from changed)",
            "select id from other",
        ] {
            assert!(!linear(sql).await, "{sql}");
        }
    }
}
