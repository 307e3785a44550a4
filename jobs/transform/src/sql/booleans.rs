//! `flag = 1`: warehouses whose booleans are numbers compare the two, and so do projects that were written there.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{ExprSchemable as _, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Compares booleans with whole numbers as booleans.
#[derive(Debug)]
pub(super) struct Booleans;

impl Booleans {
    pub(super) fn planner() -> Arc<dyn ExprPlanner> {
        Arc::new(Self)
    }
}

impl ExprPlanner for Booleans {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let compares = matches!(op, BinaryOperator::Eq | BinaryOperator::NotEq);
        let types = compares.then(|| (left.get_type(schema).ok(), right.get_type(schema).ok()));
        let (left, right) = match types {
            Some((Some(DataType::Boolean), Some(number))) if number.is_integer() => {
                (left, cast(right, DataType::Boolean))
            }
            Some((Some(number), Some(DataType::Boolean))) if number.is_integer() => {
                (cast(left, DataType::Boolean), right)
            }
            _ => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }
}
