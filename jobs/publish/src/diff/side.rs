//! One side of a comparison: some files of a table, read in the published shape.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tidemill_lake::{DataFile, Table};

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
}

impl Side {
    /// A side without rows.
    pub(crate) fn empty() -> Self {
        Self { table: None, files: Vec::new(), columns: Vec::new() }
    }

    pub(crate) fn new(table: Arc<Table>, mut files: Vec<SideFile>, columns: Vec<String>) -> Self {
        files.sort_by(|a, b| {
            (a.partition, a.file.modified_ms, &a.file.path).cmp(&(b.partition, b.file.modified_ms, &b.file.path))
        });
        Self { table: Some(table), files, columns }
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
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let Some(table) = &self.table else { return futures::stream::empty().boxed() };
        let known = table.schema();
        let wanted = self.columns.iter().filter(|name| known.column_with_name(name).is_some()).cloned().collect();
        let (columns, schema, owner) = (self.columns.clone(), Arc::clone(schema), publication.clone());
        table
            .read_files(vec![file.file.clone()], Some(wanted))
            .map_err(Error::lake("read rows", publication))
            .and_then(move |batch| {
                let shaped = shape(&batch, &columns, &schema).map_err(Error::arrow(&owner));
                async move { shaped }
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
