//! Reading files directly, without planning a query.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

use crate::error::Cause;
use crate::object_reader::ObjectReader;
use crate::store::TableStore;
use crate::{DataFile, Result, Table, schema, stats, write};

/// Rows of a batch that is handed out.
const BATCH_ROWS: usize = 8192;

impl Table {
    /// Reads columns of some files (live or not yet vacuumed), partition columns included, in batches of at most 8,192 rows,
    /// file after file. `columns = None` reads all columns of the table; a column that a file lacks is null.
    ///
    /// Columns come in the order that was asked for, in the table's types; a name that the table does not have is an error
    /// of the stream.
    #[must_use]
    pub fn read_files(
        &self,
        files: Vec<DataFile>,
        columns: Option<Vec<String>>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let reader = match self.check_readable().and_then(|()| FileReader::new(self, columns)) {
            Ok(reader) => Arc::new(reader),
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        stream::iter(files)
            .then(move |file| {
                let reader = Arc::clone(&reader);
                async move { reader.open(file).await }
            })
            .try_flatten()
            .boxed()
    }

    /// Asks the bloom filter of `column` in one file which of `values` it may hold. A file without a filter may hold all.
    ///
    /// Costs the file's footer and one small read per row group; no data page is touched.
    ///
    /// # Errors
    /// The store's faults, and a file that is no Parquet.
    pub async fn may_contain(&self, file: &DataFile, column: &str, values: &[&str]) -> Result<Vec<bool>> {
        let fault = |source| parquet_fault(&self.store, &file.path, source);
        let mut builder = open_parquet(&self.store, file).await?;
        let roots = builder.parquet_schema().root_schema().get_fields();
        let is_leaf = |field: &&Arc<parquet::schema::types::Type>| field.name() == column && field.is_primitive();
        if !roots.iter().any(|field| is_leaf(&field)) {
            // A file from before the column was added: all is null, so it holds none.
            return Ok(vec![false; values.len()]);
        }
        let leaves = builder.parquet_schema().columns().iter();
        let Some(leaf) = leaves.into_iter().position(|leaf| leaf.path().parts() == [column]) else {
            return Ok(vec![true; values.len()]);
        };
        let mut found = vec![false; values.len()];
        for group in 0..builder.metadata().num_row_groups() {
            match builder.get_row_group_column_bloom_filter(group, leaf).await.map_err(fault)? {
                None => return Ok(vec![true; values.len()]),
                Some(filter) => {
                    for (found, value) in found.iter_mut().zip(values) {
                        *found = *found || filter.check(*value);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Refuses to read files as they are when a feature gives them another meaning.
    pub(crate) fn check_readable(&self) -> Result<()> {
        match schema::unreadable_feature(&self.state.protocol, &self.state.metadata) {
            Some(feature) => Err(Cause::Feature { table: self.store.id.clone(), feature }.into()),
            None => Ok(()),
        }
    }
}

async fn open_parquet(store: &TableStore, file: &DataFile) -> Result<ParquetRecordBatchStreamBuilder<ObjectReader>> {
    let path = store.path(&file.path)?;
    let objects = store.object_store();
    let size = match file.size {
        // A foreign writer's removal may not tell the size.
        0 => objects.head(&path).await.map_err(|source| store.fault("read", &path, source))?.size,
        size => size,
    };
    let opened = ParquetRecordBatchStreamBuilder::new(ObjectReader::new(Arc::clone(objects), path, size)).await;
    opened.map_err(|source| parquet_fault(store, &file.path, source).into())
}

fn parquet_fault(store: &TableStore, path: &str, source: ParquetError) -> Cause {
    Cause::Parquet { act: "read", table: store.id.clone(), path: path.to_owned(), source }
}

/// What is read of each file, and where from.
#[derive(Debug)]
struct FileReader {
    store: TableStore,
    schema: SchemaRef,
    partition_columns: Vec<String>,
}

impl FileReader {
    fn new(table: &Table, columns: Option<Vec<String>>) -> Result<Self> {
        let schema = match columns {
            None => table.schema(),
            Some(columns) => {
                let fault = |source| Cause::Arrow { table: table.store.id.clone(), source };
                let index = |name: &String| table.state.schema.index_of(name);
                let indices = columns.iter().map(index).collect::<Result<Vec<_>, _>>().map_err(fault)?;
                Arc::new(table.state.schema.project(&indices).map_err(fault)?)
            }
        };
        Ok(Self { store: table.store.clone(), schema, partition_columns: table.partition_columns().to_vec() })
    }

    async fn open(&self, file: DataFile) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let builder = open_parquet(&self.store, &file).await?;
        let roots = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
        let wanted = |name: &str| {
            self.schema.field_with_name(name).is_ok() && !self.partition_columns.iter().any(|column| column == name)
        };
        let roots: Vec<_> = roots.filter(|(_, field)| wanted(field.name())).map(|(index, _)| index).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let path = file.path.clone();
        let store = self.store.clone();
        let fault = {
            let (store, path) = (store.clone(), path.clone());
            move |source| crate::Error::from(parquet_fault(&store, &path, source))
        };
        let stream = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(fault.clone())?;
        let shape = Shape { schema: Arc::clone(&self.schema), columns: self.columns_of(&file)? };
        Ok(stream
            .map_err(fault)
            .and_then(move |batch| {
                let shaped = shape
                    .apply(&batch)
                    .map_err(|source| crate::Error::from(Cause::Arrow { table: store.id.clone(), source }));
                async move { shaped }
            })
            .boxed())
    }

    /// Where each column of the result comes from in this file.
    fn columns_of(&self, file: &DataFile) -> Result<Vec<Origin>> {
        let origin = |field: &FieldRef| {
            if !self.partition_columns.contains(field.name()) {
                return Ok(Origin::File(Arc::clone(field)));
            }
            let value = file.partition_values.get(field.name()).and_then(Option::as_deref);
            stats::partition_scalar(value, field.data_type()).map(Origin::Partition)
        };
        let columns: Result<Vec<_>, ArrowError> = self.schema.fields().iter().map(origin).collect();
        columns.map_err(|source| Cause::Arrow { table: self.store.id.clone(), source }.into())
    }
}

#[derive(Clone, Debug)]
enum Origin {
    File(FieldRef),
    Partition(datafusion::common::ScalarValue),
}

/// Makes a file's batches look like the table's.
#[derive(Debug)]
struct Shape {
    schema: SchemaRef,
    columns: Vec<Origin>,
}

impl Shape {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let num_rows = batch.num_rows();
        let columns = self.columns.iter().map(|origin| match origin {
            Origin::File(field) => write::column_of(batch, field),
            Origin::Partition(value) => repeat(value, num_rows),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(num_rows));
        // A column that a file lacks is null even where the table says that it never is: the file is older than the column.
        let schema = if columns.iter().zip(self.schema.fields()).any(|(column, field)| !fits(column, field)) {
            Arc::new(relaxed(&self.schema))
        } else {
            Arc::clone(&self.schema)
        };
        RecordBatch::try_new_with_options(schema, columns, &options)
    }
}

fn fits(column: &ArrayRef, field: &FieldRef) -> bool {
    field.is_nullable() || column.null_count() == 0
}

fn relaxed(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>())
}

fn repeat(value: &datafusion::common::ScalarValue, num_rows: usize) -> Result<ArrayRef, ArrowError> {
    if value.is_null() {
        let data_type: DataType = value.data_type();
        return Ok(new_null_array(&data_type, num_rows));
    }
    value.to_array_of_size(num_rows).map_err(|source| ArrowError::ComputeError(source.to_string()))
}
