//! Walks a statement and says in our dialect what others say otherwise.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, Expr, Function, Statement as SqlStatement, visit_expressions_mut,
};

use super::{functions, types};

/// Rewrites all expressions of a statement.
pub(super) fn rewrite(statement: &mut Statement) {
    let statement: &mut SqlStatement = match statement {
        Statement::Statement(statement) => statement,
        _ => return,
    };
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        rewrite_expr(expr);
        ControlFlow::Continue(())
    });
}

fn rewrite_expr(expr: &mut Expr) {
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
            if let Some(call) = functions::expression(&format!("{name}({left}, {right})")) {
                *expr = call;
            }
        }
        _ => {}
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
