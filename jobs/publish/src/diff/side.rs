//! One side of a comparison: some files of a table, read in the published shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tidemill_lake::{DataFile, Table};

use super::judge::{Hold, Judge};
use crate::{Error, Publication, Result};

/// Partition column of the target -> value as Delta writes it.
pub type PartitionValues = BTreeMap<String, Option<String>>;

/// A file with the number of its partition.
#[derive(Clone, Debug)]
pub(crate) struct SideFile {
    pub(crate) file: DataFile,
    pub(crate) partition: usize,
}

/// Files of one table, ordered by partition, then age, then path: the order in which "the last one wins".
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) table: Option<Arc<Table>>,
    pub(crate) files: Vec<SideFile>,
    /// Names of the published columns in this table, in published order.
    pub(crate) columns: Vec<String>,
    /// Looks at rows before they count; `None` takes them all.
    pub(crate) judge: Option<Arc<Judge>>,
}

/// Some rows of one file in the published shape.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    /// One verdict per row, when a judge was asked.
    verdicts: Option<Vec<Option<Hold>>>,
}

impl Rows {
    /// What becomes of a row; `None` when it does not take part.
    pub(crate) fn verdict(&self, row: usize) -> Option<Hold> {
        self.verdicts.as_ref().map_or(Some(Hold::No), |verdicts| verdicts[row])
    }

    /// The rows that take part.
    pub(crate) fn taking_part(&self) -> Result<RecordBatch, arrow::error::ArrowError> {
        match &self.verdicts {
            Some(verdicts) => {
                let mask: Vec<bool> = verdicts.iter().map(Option::is_some).collect();
                arrow::compute::filter_record_batch(&self.batch, &arrow::array::BooleanArray::from(mask))
            }
            None => Ok(self.batch.clone()),
        }
    }
}

impl Side {
    /// A side without rows.
    pub(crate) fn empty() -> Self {
        Self { table: None, files: Vec::new(), columns: Vec::new(), judge: None }
    }

    pub(crate) fn new(table: Arc<Table>, mut files: Vec<SideFile>, columns: Vec<String>) -> Self {
        files.sort_by(|a, b| {
            (a.partition, a.file.modified_ms, &a.file.path).cmp(&(b.partition, b.file.modified_ms, &b.file.path))
        });
        Self { table: Some(table), files, columns, judge: None }
    }

    /// Lets `judge` look at the rows.
    pub(crate) fn judged(mut self, judge: Option<Judge>) -> Self {
        self.judge = judge.map(Arc::new);
        self
    }

    /// Rows as the log counts them; files that do not say count as 100,000.
    pub(crate) fn estimated_rows(&self) -> u64 {
        self.files.iter().map(|file| file.file.num_records.unwrap_or(100_000)).sum()
    }

    /// Reads one file in the published shape: names, order and types of `schema`; a column that the file lacks is null.
    pub(crate) fn read(
        &self,
        file: &SideFile,
        schema: &SchemaRef,
        publication: &Publication,
    ) -> BoxStream<'static, Result<Rows>> {
        let Some(table) = &self.table else { return futures::stream::empty().boxed() };
        let known = table.schema();
        let mut wanted: Vec<String> = Vec::with_capacity(self.columns.len());
        let looked_at = self.judge.iter().flat_map(|judge| judge.columns());
        for name in self.columns.iter().chain(looked_at) {
            if known.column_with_name(name).is_some() && !wanted.contains(name) {
                wanted.push(name.clone());
            }
        }
        let (columns, schema, owner) = (self.columns.clone(), Arc::clone(schema), publication.clone());
        let judge = self.judge.clone();
        table
            .read_files(vec![file.file.clone()], Some(wanted))
            .map_err(Error::lake("read rows", publication))
            .and_then(move |batch| {
                let verdicts = judge.as_ref().map(|judge| judge.judge(&batch, &owner)).transpose();
                let rows = verdicts.and_then(|verdicts| {
                    let batch = shape(&batch, &columns, &schema).map_err(Error::arrow(&owner))?;
                    Ok(Rows { batch, verdicts })
                });
                async move { rows }
            })
            .boxed()
    }
}

fn shape(batch: &RecordBatch, columns: &[String], schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let arrays = columns
        .iter()
        .zip(schema.fields())
        .map(|(name, field)| match batch.column_by_name(name) {
            Some(array) if array.data_type() == field.data_type() => Ok(Arc::clone(array)),
            Some(array) => cast(array, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<ArrayRef>, _>>()?;
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        arrays,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )
}
