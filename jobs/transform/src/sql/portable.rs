//! Walks a statement and says in our dialect what others say otherwise.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, Expr, Function, Statement as SqlStatement, UnaryOperator, Value, ValueWithSpan,
    visit_expressions_mut,
};

use super::{clauses, functions, types};

/// Rewrites all expressions of a statement.
pub(super) fn rewrite(statement: &mut Statement) {
    let statement: &mut SqlStatement = match statement {
        Statement::Statement(statement) => statement,
        _ => return,
    };
    clauses::rewrite(statement);
    // Before anything is written anew, an `and` or `or` that is no child of parentheses stands as it was typed.
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        distinct_first(expr);
        ControlFlow::Continue(())
    });
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        rewrite_expr(expr);
        ControlFlow::Continue(())
    });
}

fn rewrite_expr(expr: &mut Expr) {
    let is_insensitive = matches!(expr, Expr::ILike { .. });
    match expr {
        Expr::Cast { kind, data_type, .. } => {
            types::rewrite(data_type);
            if *kind == CastKind::SafeCast {
                *kind = CastKind::TryCast;
            }
        }
        Expr::TypedString(typed) => types::rewrite(&mut typed.data_type),
        Expr::Function(function) => {
            if let Some(new) = functions::rewrite(function) {
                *expr = new;
            }
        }
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Arrow | BinaryOperator::LongArrow), right } => {
            let name = if *op == BinaryOperator::Arrow { "json_get" } else { "json_get_text" };
            let keys = match right.as_ref() {
                Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(path), .. }) => functions::path_keys(path),
                _ => None,
            };
            let mut args = vec![left.to_string()];
            match keys {
                Some(keys) => args.extend(keys.iter().map(|key| format!("'{}'", key.replace('\'', "''")))),
                None => args.push(right.to_string()),
            }
            if let Some(call) = functions::expression(&format!("{name}({})", args.join(", "))) {
                *expr = call;
            }
        }
        Expr::BinaryOp { left, op: BinaryOperator::DuckIntegerDivide, right } => {
            if let Some(whole) = functions::expression(&format!("cast(trunc(({left}) / ({right})) as bigint)")) {
                *expr = whole;
            }
        }
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Plus | BinaryOperator::Minus), right } => {
            if let Some(moved) = moved_by_product(left, op, right) {
                *expr = moved;
            }
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            if let Some((inner, from)) = in_a_zone(timestamp)
                && let Some(there) =
                    functions::expression(&format!("local_ts(local_to_utc({inner}, {from}), {time_zone})"))
            {
                *expr = there;
            }
        }
        Expr::Subquery(query) => {
            if let Some(matches) = clauses::matches_of(query) {
                *expr = matches;
            }
        }
        Expr::InSubquery { expr: wanted, subquery, negated } => {
            if let Expr::Tuple(wanted) = wanted.as_ref()
                && let Some(exists) = rows_exist(wanted, &subquery.to_string(), *negated)
            {
                *expr = exists;
            }
        }
        Expr::Like { negated, any: true, expr: value, pattern, .. }
        | Expr::ILike { negated, any: true, expr: value, pattern, .. } => {
            let Some(patterns) = patterns(pattern) else { return };
            let (not, word) = (if *negated { "not " } else { "" }, if is_insensitive { "ilike" } else { "like" });
            let any: Vec<String> = patterns.iter().map(|pattern| format!("{value} {word} {pattern}")).collect();
            if let Some(any) = functions::expression(&format!("({not}({}))", any.join(" or "))) {
                *expr = any;
            }
        }
        _ => {}
    }
}

/// `day + id * interval '1 day'`: our engine does not multiply intervals.
fn moved_by_product(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let right = match right {
        Expr::Nested(inner) => inner,
        other => other,
    };
    let Expr::BinaryOp { left: one, op: BinaryOperator::Multiply, right: other } = right else { return None };
    let ((Expr::Interval(interval), factor) | (factor, Expr::Interval(interval))) = (one.as_ref(), other.as_ref())
    else {
        return None;
    };
    let Expr::Value(ValueWithSpan { value, .. }) = interval.value.as_ref() else { return None };
    let text = match value {
        Value::SingleQuotedString(text) | Value::Number(text, _) => text.trim(),
        _ => return None,
    };
    let (count, word) = match (&interval.leading_field, text.split_once(' ')) {
        (Some(field), None) => (text, field.to_string()),
        (None, Some((count, word))) => (count, word.trim().to_owned()),
        _ => return None,
    };
    let (count, unit) = (count.parse::<i64>().ok()?, functions::unit(&word)?);
    let sign = if *op == BinaryOperator::Minus { "-" } else { "" };
    functions::expression(&format!("dateadd('{unit}', cast({sign}({factor}) * {count} as bigint), {left})"))
}

/// `x at time zone 'UTC'` in `x at time zone 'UTC' at time zone 'Europe/Berlin'`: the wall clock there of an instant that a clock
/// elsewhere shows.
fn in_a_zone(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match expr {
        Expr::Nested(inner) => in_a_zone(inner),
        Expr::AtTimeZone { timestamp, time_zone } => Some((timestamp.as_ref(), time_zone.as_ref())),
        _ => None,
    }
}

/// `(a, b) in (select x, y …)`: our engine compares one column.
fn rows_exist(wanted: &[Expr], subquery: &str, negated: bool) -> Option<Expr> {
    let columns: Vec<String> = (0..wanted.len()).map(|index| format!("wanted_{index}")).collect();
    let equal: Vec<String> =
        columns.iter().zip(wanted).map(|(column, wanted)| format!("wanted_rows.{column} = ({wanted})")).collect();
    let not = if negated { "not " } else { "" };
    functions::expression(&format!(
        "{not}exists (select 1 from ({subquery}) as wanted_rows({}) where {})",
        columns.join(", "),
        equal.join(" and ")
    ))
}

/// The patterns of `like any ('a%', 'b%')`.
fn patterns(list: &Expr) -> Option<Vec<&Expr>> {
    match list {
        Expr::Tuple(items) => Some(items.iter().collect()),
        Expr::Array(array) => Some(array.elem.iter().collect()),
        Expr::Nested(inner) => patterns(inner).or_else(|| Some(vec![inner.as_ref()])),
        _ => None,
    }
}

/// `a is distinct from b and c` is `(a is distinct from b) and c`; the parser takes all that follows for the right side, and so
/// for the right side of whatever stands before. What is inside of an expression was visited before it.
fn distinct_first(expr: &mut Expr) {
    let is_looser: fn(&Expr) -> bool = match expr {
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) | Expr::UnaryOp { op: UnaryOperator::Not, .. } => {
            is_and_or
        }
        Expr::BinaryOp { op: BinaryOperator::And, .. } => is_or,
        _ => return,
    };
    let Some(side) = last_operand(expr).filter(|side| is_looser(side)) else { return };
    // Of that side the first operand is meant, and the rest goes around both.
    let meant = std::mem::replace(first_operand(side, is_looser), Expr::value(Value::Null));
    let whole = std::mem::replace(side, meant);
    let narrow = std::mem::replace(expr, whole);
    *first_operand(expr, is_looser) = narrow;
}

fn is_and_or(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}

fn is_or(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::Or, .. })
}

fn last_operand(expr: &mut Expr) -> Option<&mut Expr> {
    match expr {
        Expr::IsDistinctFrom(_, side)
        | Expr::IsNotDistinctFrom(_, side)
        | Expr::UnaryOp { expr: side, .. }
        | Expr::BinaryOp { right: side, .. } => Some(side),
        _ => None,
    }
}

/// The leftmost operand of operators of a kind.
fn first_operand(expr: &mut Expr, is_kind: fn(&Expr) -> bool) -> &mut Expr {
    if !is_kind(expr) {
        return expr;
    }
    match expr {
        Expr::BinaryOp { left, .. } => first_operand(left, is_kind),
        other => other,
    }
}

/// The name of a function that is called without schema and quotes, in lower case.
pub(super) fn plain_name(function: &Function) -> Option<String> {
    match function.name.0.as_slice() {
        [part] => {
            part.as_ident().filter(|ident| ident.quote_style.is_none()).map(|ident| ident.value.to_ascii_lowercase())
        }
        _ => None,
    }
}
