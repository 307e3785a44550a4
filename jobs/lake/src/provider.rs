//! A table's files as a DataFusion table.
//!
//! The list of files is fixed when the provider is made: a query sees one version, whatever is committed meanwhile. Files are
//! pruned before any is opened: exactly by partition values, and by least and greatest values where the log has them.

use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, DFSchema, DataFusionError, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;

use crate::live::LiveFile;
use crate::prune;
use crate::store::TableStore;
use crate::{DataFile, Result, Table, stats};

impl Table {
    /// The table at its version as a DataFusion table: partition columns typed, files pruned by partition values and
    /// statistics.
    ///
    /// It works in any session; see [`crate::Engine`] for one that has the right settings.
    ///
    /// # Errors
    /// None today; a provider of another kind may have some.
    pub fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        if let Some(foreign) = &self.foreign {
            return Ok(Arc::clone(foreign));
        }
        Ok(Arc::new(FilesTable::new(self, self.state.files.values().map(Arc::clone).collect())))
    }

    /// The same over some files only: the new files of an incremental run.
    ///
    /// # Errors
    /// `Invalid` when the files cannot be read as they are (deletion vectors, column mapping).
    pub fn provider_over(&self, files: Vec<DataFile>) -> Result<Arc<dyn TableProvider>> {
        self.check_readable()?;
        let files = files.into_iter().map(|file| Arc::new(LiveFile::from(file))).collect();
        Ok(Arc::new(FilesTable::new(self, files)))
    }
}

/// Files of one table, at one version.
#[derive(Debug)]
struct FilesTable {
    store: TableStore,
    /// Columns as the table orders them.
    schema: SchemaRef,
    /// Columns as a scan orders them: those in the files, then the partition columns.
    scan_schema: TableSchema,
    files: Vec<Arc<LiveFile>>,
    /// See [`FilesTable::partition_columns`].
    columns: OnceLock<Vec<ArrayRef>>,
}

impl FilesTable {
    fn new(table: &Table, files: Vec<Arc<LiveFile>>) -> Self {
        let file_schema = Arc::new(Schema::new(table.state.file_fields.clone()));
        let partition_fields = table
            .partition_columns()
            .iter()
            .filter_map(|name| table.state.schema.field_with_name(name).ok())
            .map(|field| Arc::new(field.clone()))
            .collect::<Vec<FieldRef>>();
        Self {
            store: table.store.clone(),
            schema: table.schema(),
            scan_schema: TableSchema::builder(file_schema).with_table_partition_cols(partition_fields).build(),
            files,
            columns: OnceLock::new(),
        }
    }

    fn is_partition_column(&self, name: &str) -> bool {
        self.scan_schema.table_partition_cols().iter().any(|field| field.name() == name)
    }

    /// Whether a filter can be decided for a whole file.
    fn is_exact(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        !columns.is_empty()
            && columns.iter().all(|column| self.is_partition_column(column.name()))
            && !filter.is_volatile()
    }

    /// The files that may hold rows that pass all filters.
    fn prune(&self, session: &dyn Session, filters: &[Expr]) -> datafusion::error::Result<Vec<Candidate>> {
        let (exact, rough): (Vec<_>, Vec<_>) = filters.iter().cloned().partition(|filter| self.is_exact(filter));
        let columns = self.partition_columns()?;
        let keep = conjunction(exact).map(|filter| self.evaluate(session, filter, columns)).transpose()?;
        let kept = (0..self.files.len()).filter(|index| keep.as_ref().is_none_or(|keep| keep[*index]));
        let mut candidates = kept.map(|index| self.candidate(index, columns)).collect::<Result<Vec<_>, _>>()?;
        if let Some(filter) = conjunction(rough) {
            let physical = self.physical(session, filter)?;
            let keep = prune::by_statistics(&physical, self.scan_schema.table_schema(), &candidates);
            candidates = keep.into_iter().zip(candidates).filter_map(|(keep, file)| keep.then_some(file)).collect();
        }
        Ok(candidates)
    }

    fn candidate(&self, index: usize, columns: &[ArrayRef]) -> datafusion::error::Result<Candidate> {
        let values = columns.iter().map(|column| ScalarValue::try_from_array(column, index));
        Ok(Candidate { file: Arc::clone(&self.files[index]), partition_values: values.collect::<Result<_, _>>()? })
    }

    /// The partition columns in their types, a row for each file; made once, at the first scan.
    fn partition_columns(&self) -> datafusion::error::Result<&[ArrayRef]> {
        if let Some(columns) = self.columns.get() {
            return Ok(columns);
        }
        let column = |field: &FieldRef| {
            let texts = self.files.iter().map(|file| file.partition_value(field.name()));
            stats::partition_column(texts, field.data_type())
        };
        let columns = self.scan_schema.table_partition_cols().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        Ok(self.columns.get_or_init(|| columns))
    }

    /// Decides a filter over partition columns for each file.
    fn evaluate(
        &self,
        session: &dyn Session,
        filter: Expr,
        columns: &[ArrayRef],
    ) -> datafusion::error::Result<Vec<bool>> {
        let num_files = self.files.len();
        if num_files == 0 {
            return Ok(Vec::new());
        }
        let fields = self.scan_schema.table_partition_cols();
        let nullable = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(nullable));
        let options = RecordBatchOptions::new().with_row_count(Some(num_files));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns.to_vec(), &options)?;
        let physical = session.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
        let answers = physical.evaluate(&batch)?.into_array(num_files)?;
        let Some(answers) = answers.as_boolean_opt() else {
            return Err(DataFusionError::Internal("a filter yields no booleans".to_owned()));
        };
        Ok(answers.iter().map(|answer| answer == Some(true)).collect())
    }

    fn physical(
        &self,
        session: &dyn Session,
        filter: Expr,
    ) -> datafusion::error::Result<Arc<dyn datafusion::physical_expr::PhysicalExpr>> {
        let schema = DFSchema::try_from(Arc::clone(self.scan_schema.table_schema()))?;
        session.create_physical_expr(filter, &schema)
    }

    /// Column numbers of the table as column numbers of the scan.
    fn scan_indices(&self, projection: Option<&Vec<usize>>) -> datafusion::error::Result<Vec<usize>> {
        let all = (0..self.schema.fields().len()).collect::<Vec<_>>();
        let scan_schema = self.scan_schema.table_schema();
        let index = |table_index: &usize| Ok(scan_schema.index_of(self.schema.field(*table_index).name())?);
        projection.unwrap_or(&all).iter().map(index).collect()
    }

    fn partitioned_file(&self, candidate: &Candidate) -> datafusion::error::Result<PartitionedFile> {
        let file = &candidate.file;
        let location = self.store.path(&file.path).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let meta = ObjectMeta {
            location,
            last_modified: DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default(),
            size: file.size,
            e_tag: None,
            version: None,
        };
        Ok(PartitionedFile::new_from_meta(meta).with_partition_values(candidate.partition_values.clone()))
    }

    /// Row counts are exact; bounds are left to the footers, which are as near and never rounded.
    fn statistics(&self, candidates: &[Candidate]) -> Statistics {
        let rows = candidates.iter().map(|candidate| candidate.file.num_records()).sum::<Option<u64>>();
        let exact = |count: u64| usize::try_from(count).map_or(Precision::Absent, Precision::Exact);
        let bytes = candidates.iter().map(|candidate| candidate.file.size).sum::<u64>();
        let num_columns = self.scan_schema.table_schema().fields().len();
        Statistics {
            num_rows: rows.map_or(Precision::Absent, exact),
            total_byte_size: exact(bytes).to_inexact(),
            column_statistics: vec![ColumnStatistics::new_unknown(); num_columns],
        }
    }
}

/// A file on its way through pruning.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) file: Arc<LiveFile>,
    pub(crate) partition_values: Vec<ScalarValue>,
}

/// One partition column of all candidates.
pub(crate) fn column_of(
    candidates: &[Candidate],
    index: usize,
    data_type: &DataType,
) -> datafusion::error::Result<ArrayRef> {
    if candidates.is_empty() {
        return Ok(arrow::array::new_empty_array(data_type));
    }
    ScalarValue::iter_to_array(candidates.iter().map(|candidate| candidate.partition_values[index].clone()))
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if self.is_exact(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let indices = self.scan_indices(projection)?;
        let candidates = self.prune(session, filters)?;
        if candidates.is_empty() {
            let schema = self.scan_schema.table_schema().project(&indices)?;
            return Ok(Arc::new(EmptyExec::new(Arc::new(schema))));
        }
        let runtime = session.runtime_env();
        let objects = Arc::clone(self.store.object_store());
        runtime.register_object_store(self.store.store.alias().as_ref(), Arc::clone(&objects));
        let readers = CachedParquetFileReaderFactory::new(objects, runtime.cache_manager.get_file_metadata_cache());
        let mut source = ParquetSource::new(self.scan_schema.clone())
            .with_table_parquet_options(session.table_options().parquet.clone())
            .with_parquet_file_reader_factory(Arc::new(readers));
        let rough = filters.iter().filter(|filter| !self.is_exact(filter)).cloned();
        if let Some(filter) = conjunction(rough) {
            // Prunes row groups and pages; the rows themselves are filtered above the scan, or in it when the optimizer
            // pushes the filter down.
            source = source.with_predicate(self.physical(session, filter)?);
        }
        let files = candidates.iter().map(|candidate| self.partitioned_file(candidate));
        let files = FileGroup::new(files.collect::<datafusion::error::Result<Vec<_>>>()?);
        let groups = files.split_files(session.config().target_partitions());
        let config = FileScanConfigBuilder::new(self.store.store.alias().clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(self.statistics(&candidates))
            .with_projection_indices(Some(indices))?
            .with_limit(limit.filter(|_| filters.iter().all(|filter| self.is_exact(filter))))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
