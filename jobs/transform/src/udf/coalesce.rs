//! `coalesce` that reads a text beside dates or times as one of them: `coalesce(valid_to, '2099-01-01')`, as PostgreSQL does.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::functions::core;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// DataFusion's `coalesce` with one more rule of coercion.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Coalesce {
    inner: Arc<ScalarUDF>,
}

impl Default for Coalesce {
    fn default() -> Self {
        Self { inner: core::coalesce() }
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

impl ScalarUDFImpl for Coalesce {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let others: Vec<DataType> = given.iter().filter(|data_type| !is_text(data_type)).cloned().collect();
        let is_times_and_texts = others.len() < given.len()
            && others.iter().any(is_time)
            && others.iter().all(|data_type| is_time(data_type) || data_type.is_null());
        if !is_times_and_texts {
            return self.inner.coerce_types(given);
        }
        let wanted = self.inner.coerce_types(&others)?.into_iter().find(is_time);
        Ok(wanted.map_or_else(|| given.to_vec(), |wanted| vec![wanted; given.len()]))
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given.iter().find(|data_type| !data_type.is_null()).cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
