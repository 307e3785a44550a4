//! Sets of keys: a filter that SQL can carry down to its inputs, a mask over rows, a choice of files.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result as QueryResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use tidemill_lake::DataFile;

/// As many values of one column are written into a filter one by one; the engine then asks bloom filters, too.
const MAX_LISTED: usize = 20;
/// More values are told as so many ranges, which prune files and row groups by their bounds.
const MAX_RANGES: usize = 16;

/// Values of some columns, as rows of a table.
#[derive(Clone, Debug)]
pub(crate) struct KeySet {
    types: Vec<DataType>,
    converter: Arc<RowConverter>,
    rows: Arc<HashSet<Box<[u8]>>>,
    /// Distinct values of each column, ascending; `None` when the type has no order here.
    values: Arc<Vec<Option<Vec<ScalarValue>>>>,
    has_null: Vec<bool>,
}

impl KeySet {
    /// Collects the distinct rows of `batches`, all of whose columns together are the key.
    pub(crate) fn collect(batches: &[RecordBatch], types: &[DataType]) -> Result<Self, ArrowError> {
        let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
        let mut rows = HashSet::new();
        let mut distinct: Vec<HashSet<ScalarValue>> = vec![HashSet::new(); types.len()];
        let mut has_null = vec![false; types.len()];
        for batch in batches {
            let columns = typed(batch.columns(), types)?;
            let keys = converter.convert_columns(&columns)?;
            for index in 0..batch.num_rows() {
                if !rows.insert(Box::from(keys.row(index).data())) {
                    continue;
                }
                for (column, (values, has_null)) in columns.iter().zip(distinct.iter_mut().zip(&mut has_null)) {
                    if column.is_null(index) {
                        *has_null = true;
                    } else if let Ok(value) = ScalarValue::try_from_array(column, index) {
                        values.insert(value.compacted());
                    }
                }
            }
        }
        let values = distinct.into_iter().map(sorted).collect();
        Ok(Self {
            types: types.to_vec(),
            converter: Arc::new(converter),
            rows: Arc::new(rows),
            values: Arc::new(values),
            has_null,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Which rows of `columns` are in the set.
    pub(crate) fn mask(&self, columns: &[ArrayRef]) -> Result<BooleanArray, ArrowError> {
        let columns = typed(columns, &self.types)?;
        let keys = self.converter.convert_columns(&columns)?;
        Ok((0..keys.num_rows()).map(|index| Some(self.rows.contains(keys.row(index).data()))).collect())
    }

    /// The exact test alone; true or false, never null.
    pub(crate) fn exact(&self, columns: &[Expr]) -> Expr {
        ScalarUDF::from(IsTouched { keys: self.clone(), signature: signature() }).call(columns.to_vec())
    }

    /// The set as a condition on `columns`. Beside the exact test it says what bounds tell of files: single values, or ranges.
    pub(crate) fn filter(&self, columns: &[Expr]) -> Expr {
        let mut conditions: Vec<Expr> = Vec::new();
        for ((column, values), has_null) in columns.iter().zip(self.values.iter()).zip(&self.has_null) {
            if *has_null {
                continue;
            }
            match values {
                Some(values) if values.len() <= MAX_LISTED => {
                    let listed = values.iter().cloned().map(lit).collect();
                    conditions.push(column.clone().in_list(listed, false));
                }
                Some(values) => conditions.extend(ranges(column, values)),
                None => {}
            }
        }
        let is_exact = columns.len() == 1 && self.values.iter().flatten().any(|values| values.len() <= MAX_LISTED);
        if !is_exact || conditions.is_empty() {
            conditions.push(self.exact(columns));
        }
        conditions.into_iter().reduce(Expr::and).unwrap_or_else(|| lit(false))
    }

    /// Whether a file may hold a key of the set, by the bounds of its columns.
    pub(crate) fn may_be_in(&self, file: &DataFile, columns: &[String]) -> bool {
        columns.iter().enumerate().all(|(index, column)| {
            let Some(values) = self.values[index].as_ref().filter(|_| !self.has_null[index]) else { return true };
            let Some((min, max)) = file.bounds(column, &self.types[index]) else { return true };
            let first = values.partition_point(|value| value.partial_cmp(&min).is_some_and(std::cmp::Ordering::is_lt));
            values.get(first).is_some_and(|value| value.partial_cmp(&max).is_none_or(std::cmp::Ordering::is_le))
        })
    }

    /// The texts of the first text column, for bloom filters: its place and its values when they are few.
    pub(crate) fn few_texts(&self, most: usize) -> Option<(usize, Vec<&str>)> {
        let index = self.types.iter().position(|data_type| *data_type == DataType::Utf8)?;
        let values = self.values[index].as_ref().filter(|values| values.len() <= most && !self.has_null[index])?;
        Some((index, values.iter().filter_map(|value| value.try_as_str().flatten()).collect()))
    }
}

fn sorted(values: HashSet<ScalarValue>) -> Option<Vec<ScalarValue>> {
    let mut values: Vec<ScalarValue> = values.into_iter().collect();
    let ordered = !matches!(values.first(), Some(first) if first.partial_cmp(first).is_none());
    values.sort_by(|left, right| left.partial_cmp(right).unwrap_or(std::cmp::Ordering::Equal));
    ordered.then_some(values)
}

fn ranges(column: &Expr, values: &[ScalarValue]) -> Option<Expr> {
    values
        .chunks(values.len().div_ceil(MAX_RANGES).max(1))
        .filter_map(|chunk| {
            let (first, last) = (chunk.first()?, chunk.last()?);
            Some(column.clone().between(lit(first.clone()), lit(last.clone())))
        })
        .reduce(Expr::or)
}

fn typed(columns: &[ArrayRef], types: &[DataType]) -> Result<Vec<ArrayRef>, ArrowError> {
    let typed = columns.iter().zip(types).map(|(column, wanted)| {
        if column.data_type() == wanted { Ok(Arc::clone(column)) } else { cast(column, wanted) }
    });
    typed.collect()
}

fn signature() -> Signature {
    Signature::variadic_any(Volatility::Immutable)
}

/// `is_touched(columns…)`: whether the values are a key of the set. The optimizer carries it down to the inputs like any other
/// condition.
#[derive(Debug)]
struct IsTouched {
    keys: KeySet,
    signature: Signature,
}

impl PartialEq for IsTouched {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.keys.rows, &other.keys.rows)
    }
}

impl Eq for IsTouched {}

impl Hash for IsTouched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.keys.rows).hash(state);
    }
}

impl ScalarUDFImpl for IsTouched {
    fn name(&self) -> &'static str {
        "is_touched"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> QueryResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> QueryResult<ColumnarValue> {
        let columns: Vec<ArrayRef> =
            args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<QueryResult<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(self.keys.mask(&columns)?)))
    }
}

/// Keys of some columns of one table: the rows that hold one of them are touched.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    pub columns: Vec<String>,
    pub keys: KeySet,
}

impl Touch {
    /// The distinct values of `columns` in `rows`.
    pub(crate) fn of(rows: &RecordBatch, columns: &[String]) -> Result<Self, ArrowError> {
        let schema = rows.schema();
        let indices: Vec<usize> = columns.iter().map(|column| schema.index_of(column)).collect::<Result<_, _>>()?;
        let types: Vec<DataType> = indices.iter().map(|index| schema.field(*index).data_type().clone()).collect();
        let keys = KeySet::collect(&[rows.project(&indices)?], &types)?;
        Ok(Self { columns: columns.to_vec(), keys })
    }

    /// The condition on rows of a query.
    pub(crate) fn filter(&self) -> Expr {
        let columns: Vec<Expr> = self.columns.iter().map(datafusion::prelude::ident).collect();
        self.keys.filter(&columns)
    }

    /// The same, true or false and never null.
    pub(crate) fn exact(&self) -> Expr {
        let columns: Vec<Expr> = self.columns.iter().map(datafusion::prelude::ident).collect();
        self.keys.exact(&columns)
    }

    /// Which rows are touched.
    pub(crate) fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let schema = rows.schema();
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|column| schema.index_of(column).map(|index| Arc::clone(rows.column(index))))
            .collect::<Result<_, _>>()?;
        self.keys.mask(&columns)
    }
}

/// Which rows any of the touches touches.
pub(crate) fn mask_of(touches: &[Touch], rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    let mut all = BooleanArray::from(vec![false; rows.num_rows()]);
    for touch in touches {
        all = arrow::compute::or(&all, &touch.mask(rows)?)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};
    use datafusion::prelude::{SessionContext, ident};

    use super::*;

    fn rows(values: &[(Option<i64>, &str)]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
        ]));
        let ids: Int64Array = values.iter().map(|(id, _)| *id).collect();
        let names = StringArray::from_iter_values(values.iter().map(|(_, name)| *name));
        RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(names)]).unwrap()
    }

    async fn filtered(table: &RecordBatch, filter: Expr) -> usize {
        let context = SessionContext::new();
        context.read_batch(table.clone()).unwrap().filter(filter).unwrap().count().await.unwrap()
    }

    #[tokio::test]
    async fn the_filter_keeps_exactly_the_rows_of_the_mask() {
        let table: Vec<(Option<i64>, &str)> =
            (0..500).map(|id| (Some(id), if id % 3 == 0 { "a" } else { "b" })).chain([(None, "a")]).collect();
        let table = rows(&table);
        let sets: [Vec<(Option<i64>, &str)>; 4] = [
            vec![(Some(3), "a"), (Some(4), "a"), (Some(9), "a")],
            (0..200).map(|id| (Some(id * 2), "a")).collect(),
            vec![(None, "a"), (Some(7), "b")],
            vec![],
        ];
        for set in sets {
            let set = rows(&set);
            for columns in [vec!["id".to_owned()], vec!["name".to_owned()], vec!["id".to_owned(), "name".to_owned()]] {
                let touch = Touch::of(&set, &columns).unwrap();
                let expected = touch.mask(&table).unwrap().true_count();
                assert_eq!(filtered(&table, touch.filter()).await, expected, "{columns:?}");
                let exprs: Vec<Expr> = columns.iter().map(ident).collect();
                assert_eq!(filtered(&table, touch.keys.filter(&exprs)).await, expected);
            }
        }
    }
}
