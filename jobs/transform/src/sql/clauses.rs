//! Clauses that warehouses share and our dialect has in another form, or not in that place.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, GroupByExpr, Ident, JoinOperator, LimitClause, ObjectName, Query, Select, SelectItem,
    SetExpr, Statement, VisitMut, VisitorMut, WindowType, visit_expressions_mut,
};

use super::functions::expression;
use super::portable::plain_name;

/// Rewrites the clauses of all queries of a statement.
pub(super) fn rewrite(statement: &mut Statement) {
    let _: ControlFlow<()> = statement.visit(&mut Clauses);
}

struct Clauses;

impl VisitorMut for Clauses {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        fetch_as_limit(query);
        rewrite_body(&mut query.body);
        ControlFlow::Continue(())
    }
}

/// `fetch first 5 rows only` is `limit 5`.
fn fetch_as_limit(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.with_ties && !fetch.percent) else { return };
    let quantity = fetch.quantity.or_else(|| expression("1"));
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = quantity,
        clause => *clause = Some(LimitClause::LimitOffset { limit: quantity, offset: None, limit_by: Vec::new() }),
    }
}

fn rewrite_body(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => rewrite_select(select),
        SetExpr::SetOperation { left, right, .. } => {
            rewrite_body(left);
            rewrite_body(right);
        }
        // Queries in parentheses are visited as queries.
        _ => {}
    }
}

/// `(select regexp_matches(x, 'y'))` is PostgreSQL's, which gives the parts that match; elsewhere it is a condition.
pub(super) fn matches_of(query: &Query) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let ([], [SelectItem::UnnamedExpr(Expr::Function(function))]) =
        (select.from.as_slice(), select.projection.as_slice())
    else {
        return None;
    };
    // Functions inside have their names by now.
    plain_name(function).filter(|name| name == "regexp_matches" || name == "regexp_like")?;
    let mut function = function.clone();
    function.name = ObjectName::from(vec![Ident::new("regexp_match")]);
    if let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 3
    {
        // No flags are an empty text there.
        list.args.pop_if(|flags| flags.to_string() == "''");
    }
    Some(Expr::Function(function))
}

fn rewrite_select(select: &mut Select) {
    for table in &mut select.from {
        for join in &mut table.joins {
            let operator = std::mem::replace(&mut join.join_operator, JoinOperator::CrossApply);
            join.join_operator = match operator {
                JoinOperator::Semi(on) => JoinOperator::LeftSemi(on),
                JoinOperator::Anti(on) => JoinOperator::LeftAnti(on),
                other => other,
            };
        }
    }
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        let _: ControlFlow<()> = visit_expressions_mut(expr, |inner| {
            if let Some(counted) = subquery_as_count(inner) {
                *inner = counted;
            }
            drop_constant_order(inner);
            ControlFlow::Continue(())
        });
    }
}

/// `exists (select …)` and `x in (select …)` as a value: our engine knows them as filters alone, and counts anywhere.
fn subquery_as_count(expr: &Expr) -> Option<Expr> {
    let (subquery, negated, wanted) = match expr {
        Expr::Exists { subquery, negated } => (subquery, *negated, None),
        Expr::InSubquery { expr, subquery, negated } => (subquery, *negated, Some(expr)),
        _ => return None,
    };
    let mut counted = subquery.as_ref().clone();
    let SetExpr::Select(select) = counted.body.as_mut() else { return None };
    let is_grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
    };
    if is_grouped || select.having.is_some() || select.distinct.is_some() || counted.limit_clause.is_some() {
        return None;
    }
    if let Some(wanted) = wanted {
        let [SelectItem::UnnamedExpr(found) | SelectItem::ExprWithAlias { expr: found, .. }] =
            select.projection.as_slice()
        else {
            return None;
        };
        let filter = match &select.selection {
            Some(filter) => format!("({found}) = ({wanted}) and ({filter})"),
            None => format!("({found}) = ({wanted})"),
        };
        select.selection = Some(expression(&filter)?);
    }
    let comparison = if negated { "= 0" } else { "> 0" };
    select.projection = vec![SelectItem::UnnamedExpr(expression("count(*)")?)];
    counted.order_by = None;
    expression(&format!("(({counted}) {comparison})"))
}

/// `row_number() over (order by (select null))`: in no order.
fn drop_constant_order(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    let Some(WindowType::WindowSpec(window)) = &mut function.over else { return };
    window.order_by.retain(|order| match &order.expr {
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => !select.from.is_empty(),
            _ => true,
        },
        _ => true,
    });
}
