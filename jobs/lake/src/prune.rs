//! Which files cannot hold a row that passes a filter, by what the log says of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Column;
use datafusion::common::pruning::PruningStatistics;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::provider::{Candidate, column_of};
use crate::stats;

/// Says for each candidate whether it may hold a row that passes. A filter that cannot be used keeps all.
pub(crate) fn by_statistics(filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, candidates: &[Candidate]) -> Vec<bool> {
    let all = || vec![true; candidates.len()];
    let built = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(Arc::clone(filter));
    let Ok(predicate) = built else { return all() };
    if predicate.always_true() {
        return all();
    }
    let facts = Facts { schema, candidates };
    predicate.prune(&facts).unwrap_or_else(|error| {
        tracing::debug!(%error, "files are not pruned");
        all()
    })
}

/// The log's facts, column by column.
struct Facts<'a> {
    schema: &'a SchemaRef,
    candidates: &'a [Candidate],
}

impl Facts<'_> {
    fn data_type(&self, name: &str) -> Option<&DataType> {
        self.schema.field_with_name(name).ok().map(arrow::datatypes::Field::data_type)
    }

    /// Partition columns come last in the schema.
    fn partition_index(&self, name: &str) -> Option<usize> {
        let num_partition_columns = self.candidates.first()?.partition_values.len();
        let first = self.schema.fields().len() - num_partition_columns;
        self.schema.index_of(name).ok()?.checked_sub(first)
    }

    fn bounds(&self, column: &Column, is_max: bool) -> Option<ArrayRef> {
        let data_type = self.data_type(column.name())?;
        if let Some(index) = self.partition_index(column.name()) {
            return column_of(self.candidates, index, data_type).ok();
        }
        let known = self.candidates.iter().map(|candidate| candidate.file.data_file().stats.get(column.name()));
        let bounds = known.map(|known| if is_max { known?.max.as_ref() } else { known?.min.as_ref() });
        stats::bounds(bounds, data_type, is_max)
    }
}

impl PruningStatistics for Facts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, true)
    }

    fn num_containers(&self) -> usize {
        self.candidates.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let count = |candidate: &Candidate| {
            let file = candidate.file.data_file();
            match self.partition_index(column.name()) {
                Some(index) if candidate.partition_values[index].is_null() => file.num_records,
                Some(_) => Some(0),
                None => file.stats.get(column.name()).and_then(|stats| stats.null_count),
            }
        };
        Some(stats::counts(self.candidates.iter().map(count)))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(stats::counts(self.candidates.iter().map(|candidate| candidate.file.num_records())))
    }

    fn contained(
        &self,
        _column: &Column,
        _values: &std::collections::HashSet<datafusion::common::ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}
