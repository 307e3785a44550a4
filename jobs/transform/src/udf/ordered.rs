//! DataFusion's functions whose order depends on the range of their argument, such that an unknown range is no fault.
//!
//! `abs` falls below zero and rises above it, so DataFusion looks at the range of `abs`'s argument to tell whether the result
//! is sorted. The range of most functions has no type there, the comparison fails, and with it every plan that sorts by such an
//! expression: `rank() over (order by abs(length(name)))`. An order that cannot be told is none.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::functions::math;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// The functions that ask for their argument's range.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [
        math::abs(),
        math::acos(),
        math::acosh(),
        math::asin(),
        math::atanh(),
        math::cosh(),
        math::ln(),
        math::log(),
        math::log2(),
        math::log10(),
        math::sqrt(),
    ]
    .into_iter()
    .map(|inner| ScalarUDF::from(Ordered { inner }))
    .collect()
}

/// A function that is unordered where its order cannot be told.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Ordered {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(given)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.inner.return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(self.inner.output_ordering(inputs).unwrap_or(SortProperties::Unordered))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
