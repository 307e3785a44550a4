//! Aliases that are used beside their definition: `select a + b as total, total * 2 as twice`.
//!
//! Warehouses take that, and a column of that name in a table wins. So nothing is done before the planner has said that it
//! knows no such column, and where.

use std::ops::ControlFlow;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Query, Select, SelectItem, SetExpr, Statement as SqlStatement, VisitMut, VisitorMut, visit_expressions_mut,
};

/// Puts the definition in the place of an alias that the planner took for a column; whether it found one.
pub(super) fn resolve(statement: &mut Statement, error: &DataFusionError) -> bool {
    let DataFusionError::SchemaError(missing, _) = error.find_root() else { return false };
    let SchemaError::FieldNotFound { field, .. } = missing.as_ref() else { return false };
    if field.relation.is_some() {
        return false;
    }
    let Statement::Statement(statement) = statement else { return false };
    let statement: &mut SqlStatement = statement;
    // The planner does not say where when it speaks of `where` and `having`.
    let at = field.spans().first().map(|span| (span.start.line, span.start.column));
    let mut search = Search { name: &field.name, at, found: false };
    let _: ControlFlow<()> = statement.visit(&mut search);
    search.found
}

struct Search<'a> {
    name: &'a str,
    /// Line and column of the word, when the planner knows them.
    at: Option<(u64, u64)>,
    found: bool,
}

impl VisitorMut for Search<'_> {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.look_into(&mut query.body);
        if self.found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Search<'_> {
    fn look_into(&mut self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.replace(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.look_into(left);
                self.look_into(right);
            }
            _ => {}
        }
    }

    fn replace(&mut self, select: &mut Select) {
        let definition = select.projection.iter().enumerate().find_map(|(index, item)| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value.eq_ignore_ascii_case(self.name) => {
                Some((index, expr.clone()))
            }
            _ => None,
        });
        let Some((index, definition)) = definition else { return };
        let definition = match definition {
            simple @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::Function(_)) => simple,
            other => Expr::Nested(Box::new(other)),
        };
        let mut places: Vec<&mut Expr> = Vec::new();
        for item in select.projection.iter_mut().skip(index + 1) {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                places.push(expr);
            }
        }
        places.extend(select.selection.iter_mut().chain(&mut select.having).chain(&mut select.qualify));
        let mentions = |expr: &mut Expr| {
            visit_expressions_mut(expr, |inner| match inner {
                Expr::Identifier(ident)
                    if ident.value.eq_ignore_ascii_case(self.name)
                        && self.at.is_none_or(|at| (ident.span.start.line, ident.span.start.column) == at) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            })
            .is_break()
        };
        if !places.iter_mut().any(|place| mentions(place)) {
            return;
        }
        self.found = true;
        for place in places {
            let _: ControlFlow<()> = visit_expressions_mut(place, |inner| {
                if matches!(inner, Expr::Identifier(ident) if ident.value.eq_ignore_ascii_case(self.name)) {
                    *inner = definition.clone();
                }
                ControlFlow::Continue(())
            });
        }
    }
}
