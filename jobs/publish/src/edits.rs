//! Merging changed rows into a Delta table by copying the files that lose rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Field;
use async_trait::async_trait;
use futures::TryStreamExt;
use tidemill_lake::{DataFile, PartitionedBatch, Table};

use crate::diff::{ChangeBatch, ChangeConsumer, ChangeKind, ChangeSet, HashedMap, PartitionValues, RowHasher};
use crate::request::BATCH_COLUMN;
use crate::{Error, Result};

/// Rows held before they become files; a quarter of the demo's memory would be too much, a row group is enough.
const BUFFER_BYTES: usize = 64 << 20;

/// Keys that lose their row, per partition. The number is how many rows at most: a key names one row wherever it is, a row
/// without key only as many of its equals as left.
pub(crate) type Lost = BTreeMap<Arc<PartitionValues>, HashedMap<u64>>;

/// Gathers changed rows, writes the new ones as files on the way.
pub(crate) struct Edits<'a> {
    table: &'a Table,
    changes: &'a ChangeSet,
    hasher: RowHasher,
    pub(crate) lost: Lost,
    buffered: BTreeMap<Arc<PartitionValues>, Vec<RecordBatch>>,
    buffered_bytes: usize,
    pub(crate) added: Vec<DataFile>,
}

/// Files that a commit exchanges.
pub(crate) struct Exchange {
    pub(crate) added: Vec<DataFile>,
    pub(crate) removed: Vec<DataFile>,
}

impl<'a> Edits<'a> {
    pub(crate) fn new(table: &'a Table, changes: &'a ChangeSet) -> Result<Self> {
        let hasher =
            RowHasher::new(changes.schema(), identity_columns(changes)).map_err(Error::arrow(changes.publication()))?;
        Ok(Self {
            table,
            changes,
            hasher,
            lost: Lost::new(),
            buffered: BTreeMap::new(),
            buffered_bytes: 0,
            added: Vec::new(),
        })
    }

    async fn buffer(&mut self, partition: Arc<PartitionValues>, rows: &RecordBatch) -> Result<()> {
        let stored = self.stored_columns();
        let rows = rows.project(&stored).map_err(Error::arrow(self.changes.publication()))?;
        self.buffered_bytes += rows.get_array_memory_size();
        self.buffered.entry(partition).or_default().push(rows);
        if self.buffered_bytes > BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Columns that go into files: all but the partition's.
    fn stored_columns(&self) -> Vec<usize> {
        let partition = self.table.partition_columns();
        let fields = self.changes.schema().fields();
        (0..fields.len()).filter(|&column| !partition.contains(fields[column].name())).collect()
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        let batches: Vec<_> = std::mem::take(&mut self.buffered)
            .into_iter()
            .map(|(partition, batches)| PartitionedBatch {
                partition_values: partition.as_ref().clone(),
                batches,
                tags: BTreeMap::new(),
            })
            .collect();
        self.buffered_bytes = 0;
        if !batches.is_empty() {
            let written = self.table.write_files(batches).await;
            self.added
                .extend(written.map_err(Error::lake("write rows to the target table", self.changes.publication()))?);
        }
        Ok(())
    }

    /// Finds those of the `live` files that hold lost rows and writes what is left of them.
    pub(crate) async fn merge(
        table: &'a Table,
        live: &[DataFile],
        changes: &'a ChangeSet,
        mut lost: Lost,
        added: Vec<DataFile>,
    ) -> Result<Exchange> {
        let mut edits = Self::new(table, changes)?;
        edits.added = added;
        let mut removed = Vec::new();
        for (partition, keys) in &mut lost {
            for file in live.iter().filter(|file| is_in(file, partition)) {
                let mask = edits.surviving(file, keys).await?;
                if mask.iter().all(|survives| *survives) {
                    continue;
                }
                if mask.iter().any(|survives| *survives) {
                    edits.copy(file, &mask, partition).await?;
                }
                removed.push(file.clone());
            }
        }
        edits.flush().await?;
        Ok(Exchange { added: edits.added, removed })
    }

    /// One flag per row of the file: whether it stays.
    async fn surviving(&self, file: &DataFile, keys: &mut HashedMap<u64>) -> Result<Vec<bool>> {
        let publication = self.changes.publication();
        let fields = self.changes.schema().fields();
        let columns: Vec<String> =
            identity_columns(self.changes).into_iter().map(|column| fields[column].name().clone()).collect();
        let hasher = {
            let schema =
                self.changes.schema().project(&identity_columns(self.changes)).map_err(Error::arrow(publication))?;
            RowHasher::new(&schema, (0..columns.len()).collect()).map_err(Error::arrow(publication))?
        };
        let mut mask = Vec::new();
        let mut batches = self.table.read_files(vec![file.clone()], Some(columns.clone()));
        while let Some(batch) = batches.try_next().await.map_err(Error::lake("read the target table", publication))? {
            let batch = in_order(&batch, &columns).map_err(Error::arrow(publication))?;
            for key in hasher.hash(&batch).map_err(Error::arrow(publication))? {
                let leaves = keys.get_mut(&key).is_some_and(|left| {
                    let leaves = *left > 0;
                    *left = left.saturating_sub(u64::from(*left != u64::MAX));
                    leaves
                });
                mask.push(!leaves);
            }
        }
        Ok(mask)
    }

    async fn copy(&mut self, file: &DataFile, mask: &[bool], partition: &Arc<PartitionValues>) -> Result<()> {
        let publication = self.changes.publication();
        let columns: Vec<String> = self.changes.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut batches = self.table.read_files(vec![file.clone()], Some(columns.clone()));
        let mut first = 0;
        while let Some(batch) = batches.try_next().await.map_err(Error::lake("read the target table", publication))? {
            let batch = in_order(&batch, &columns).map_err(Error::arrow(publication))?;
            let rows = BooleanArray::from(mask[first..first + batch.num_rows()].to_vec());
            first += batch.num_rows();
            let batch = filter_record_batch(&batch, &rows).map_err(Error::arrow(publication))?;
            self.buffer(Arc::clone(partition), &batch).await?;
        }
        Ok(())
    }
}

/// All of `values` are the file's.
fn is_in(file: &DataFile, values: &PartitionValues) -> bool {
    values.iter().all(|(column, value)| file.partition_values.get(column) == Some(value))
}

fn in_order(batch: &RecordBatch, columns: &[String]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = batch.schema();
    batch.project(&columns.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?)
}

/// What tells rows apart: the key, or the whole row.
fn identity_columns(changes: &ChangeSet) -> Vec<usize> {
    let key = &changes.shape().key;
    if key.is_empty() { (0..changes.schema().fields().len()).collect() } else { key.clone() }
}

#[async_trait]
impl ChangeConsumer for Edits<'_> {
    async fn consume(&mut self, batch: ChangeBatch) -> Result<()> {
        let keyless = self.changes.shape().key.is_empty();
        if !(keyless && batch.kind == ChangeKind::Upsert) {
            let keys = self.hasher.hash(&batch.rows).map_err(Error::arrow(self.changes.publication()))?;
            let lost = self.lost.entry(Arc::clone(&batch.partition)).or_default();
            for key in keys {
                let count = lost.entry(key).or_default();
                *count = if keyless { *count + 1 } else { u64::MAX };
            }
        }
        if batch.kind == ChangeKind::Upsert {
            self.buffer(batch.partition, &batch.rows).await?;
        }
        Ok(())
    }
}

impl crate::diff::Shape {
    /// The published columns and, when the model is cut into batches, the column that tells which.
    pub(crate) fn stored_schema(&self) -> arrow::datatypes::SchemaRef {
        let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
        if self.partition_columns.iter().any(|(_, to)| to == BATCH_COLUMN) {
            fields.push(Arc::new(Field::new(BATCH_COLUMN, arrow::datatypes::DataType::Utf8, true)));
        }
        Arc::new(arrow::datatypes::Schema::new(fields))
    }

    pub(crate) fn target_partition_columns(&self) -> Vec<String> {
        self.partition_columns.iter().map(|(_, to)| to.clone()).collect()
    }
}
