//! A SQL condition over single rows, evaluated batch by batch without a query.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;

use crate::Result;
use crate::engine::session_config;
use crate::error::Cause;

/// A condition such as `outcome in ('missed', 'delayed')`. A row for which it is null does not pass, as in `WHERE`.
#[derive(Clone, Debug)]
pub struct RowFilter {
    expression: Arc<dyn PhysicalExpr>,
    columns: Vec<String>,
    condition: String,
}

impl RowFilter {
    /// Reads `condition` against the columns of `schema`.
    ///
    /// # Errors
    /// Kind `Configuration` for text that is no condition, and for columns that are not there.
    pub fn parse(condition: &str, schema: &SchemaRef) -> Result<Self> {
        let fault = |source| Cause::Condition { condition: condition.to_owned(), source: Box::new(source) };
        let session = SessionContext::new_with_config(session_config());
        let all = DFSchema::try_from(Arc::clone(schema)).map_err(fault)?;
        let parsed = session.parse_sql_expr(condition, &all).map_err(fault)?;
        let mut columns: Vec<String> = parsed.column_refs().into_iter().map(|column| column.name.clone()).collect();
        columns.sort();
        columns.dedup();
        let wanted = columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>();
        let wanted = wanted.and_then(|indexes| schema.project(&indexes));
        let wanted = wanted.map_err(|source| fault(source.into()))?;
        let narrow = DFSchema::try_from(wanted).map_err(fault)?;
        let expression = session.create_physical_expr(parsed, &narrow).map_err(fault)?;
        let found = expression.data_type(narrow.as_arrow()).map_err(fault)?;
        if found != DataType::Boolean {
            return Err(Cause::NoCondition { condition: condition.to_owned(), found: found.to_string() }.into());
        }
        Ok(Self { expression, columns, condition: condition.to_owned() })
    }

    /// The columns that [`RowFilter::keep`] looks at.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// One flag per row of `batch`, which holds at least the filter's columns; never null.
    ///
    /// # Errors
    /// Values that cannot be computed with, such as a text that is cast to a number and is none.
    pub fn keep(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let fault = |source| Cause::Condition { condition: self.condition.clone(), source: Box::new(source) };
        let indexes: Result<Vec<usize>, _> =
            self.columns.iter().map(|name| batch.schema_ref().index_of(name)).collect();
        let rows = indexes.and_then(|indexes| batch.project(&indexes)).map_err(|source| fault(source.into()))?;
        let value = self.expression.evaluate(&rows).map_err(fault)?;
        let array = value.into_array(batch.num_rows()).map_err(fault)?;
        let flags = array.as_boolean();
        Ok((0..flags.len()).map(|row| Some(flags.is_valid(row) && flags.value(row))).collect())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use tidemill_project::{Diagnostic as _, ErrorKind};

    use super::*;

    fn rows() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("outcome", DataType::Utf8, true),
        ]);
        let outcomes = StringArray::from(vec![Some("missed"), Some("met"), None]);
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(outcomes)];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[test]
    fn rows_pass_as_in_where_and_null_does_not() {
        let rows = rows();
        let filter = RowFilter::parse("outcome in ('missed', 'delayed')", &rows.schema()).unwrap();
        assert_eq!(filter.columns(), ["outcome"]);
        assert_eq!(filter.keep(&rows).unwrap(), BooleanArray::from(vec![true, false, false]));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for condition in ["n + 1", "outcom = 'met'", "n >"] {
            let error = RowFilter::parse(condition, &rows().schema()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{condition}: {error}");
        }
    }
}
