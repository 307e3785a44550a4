//! Names in another case than the column's: `"ID"` of a column `id`, or `id` of a column `"ID"`.
//!
//! Warehouses differ in how they fold names that nobody quotes, and most find a column in either case. So nothing is done before
//! the planner has said that it knows no such column; then one that differs in case alone is taken, if there is just one.

use std::ops::ControlFlow;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Statement as SqlStatement, visit_expressions_mut};

/// Gives a name the case of the column that it means; whether there was one.
pub(super) fn resolve(statement: &mut Statement, error: &DataFusionError) -> bool {
    let DataFusionError::SchemaError(missing, _) = error.find_root() else { return false };
    let SchemaError::FieldNotFound { field, valid_fields } = missing.as_ref() else { return false };
    let mut meant: Vec<&str> = valid_fields
        .iter()
        .map(|column| column.name.as_str())
        .filter(|name| name.eq_ignore_ascii_case(&field.name) && *name != field.name)
        .collect();
    meant.sort_unstable();
    meant.dedup();
    let [meant] = meant.as_slice() else { return false };
    let at = field.spans().first().map(|span| (span.start.line, span.start.column));
    let Statement::Statement(statement) = statement else { return false };
    let statement: &mut SqlStatement = statement;
    let mut found = false;
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        let (first, last) = match expr {
            Expr::Identifier(ident) => (place(ident), ident),
            Expr::CompoundIdentifier(parts) => match parts.first().map(place).zip(parts.last_mut()) {
                Some(found) => found,
                None => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        let name = if last.quote_style.is_some() { last.value.clone() } else { last.value.to_lowercase() };
        if name == field.name && at.is_none_or(|at| at == first || at == place(last)) {
            (*meant).clone_into(&mut last.value);
            last.quote_style = Some('"');
            found = true;
        }
        ControlFlow::Continue(())
    });
    found
}

fn place(ident: &Ident) -> (u64, u64) {
    (ident.span.start.line, ident.span.start.column)
}
