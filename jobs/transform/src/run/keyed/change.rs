//! Replaces the rows of some keys in a table, touching only the files that hold them.
//!
//! A keyed table is a row of *leaves*: files of at most [`LEAF_ROWS`] rows, sorted by the table's cluster columns, whose bounds
//! stand in the log. The files that may hold a key are found by those bounds and by bloom filters; of them only those that
//! hold a row which changes are written anew. A new row goes to the leaf into whose range it falls.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::ScalarValue;
use futures::TryStreamExt as _;
use tidemill_lake::{DataFile, LEAF_TAG, PartitionedBatch, Table};

use super::keys::{Touch, mask_of};
use crate::project::NodeId;
use crate::run::rows::{canonical, into_stored};
use crate::run::{BuildFault, Result};

/// A key that changes costs the writing of its leaf; a full scan costs the opening of all leaves. At 50 bytes a row this is a
/// file of a megabyte or two.
pub(crate) const LEAF_ROWS: usize = 32 * 1024;
/// So many texts are looked up in bloom filters; more hit most of the files anyway.
const MAX_BLOOM_TEXTS: usize = 256;

/// Files that make a change, not committed yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub add: Vec<DataFile>,
    pub remove: Vec<DataFile>,
    /// Rows that were not there before, or not so.
    pub inserted: u64,
    /// Rows that are no longer there, or not so.
    pub deleted: u64,
}

/// A table of leaves, at one version.
#[derive(Debug)]
pub(crate) struct Leaves<'a> {
    pub table: &'a Table,
    /// The live files: those of the table unless another version's state is gone back to.
    pub files: Vec<DataFile>,
    /// Rows lie in the order of these columns.
    pub cluster: &'a [String],
    pub node: &'a NodeId,
}

impl Leaves<'_> {
    /// The rows of touched keys, in the table's types.
    pub(crate) async fn read(&self, touches: &[Touch]) -> Result<RecordBatch> {
        let mut parts = vec![RecordBatch::new_empty(self.table.schema())];
        for file in self.candidates(touches).await? {
            let rows = self.rows_of(&file).await?;
            let mask = mask_of(touches, &rows).map_err(self.shape())?;
            parts.push(filter_record_batch(&rows, &mask).map_err(self.shape())?);
        }
        concat_batches(&self.table.schema(), &parts).map_err(self.shape())
    }

    /// Makes `rows` the rows of the touched keys: what is equal stays where it is.
    pub(crate) async fn replace(&self, touches: &[Touch], rows: &RecordBatch) -> Result<Change> {
        let rows = into_stored(std::slice::from_ref(rows), &self.table.schema()).map_err(self.shape())?;
        let coder = RowCoder::new(&rows).map_err(self.shape())?;
        let mut wanted: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        let codes = coder.code(&rows).map_err(self.shape())?;
        for index in (0..u32::try_from(rows.num_rows()).unwrap_or(u32::MAX)).rev() {
            wanted.entry(Box::from(codes.row(index as usize).data())).or_default().push(index);
        }
        let mut change = Change::default();
        let mut opened: BTreeMap<String, (DataFile, RecordBatch)> = BTreeMap::new();
        for file in self.candidates(touches).await? {
            let stored = self.rows_of(&file).await?;
            let touched = mask_of(touches, &stored).map_err(self.shape())?;
            let codes = coder.code(&stored).map_err(self.shape())?;
            let mut goes = 0;
            let stays: BooleanArray = (0..stored.num_rows())
                .map(|index| {
                    let is_wanted = !touched.value(index)
                        || wanted.get_mut(codes.row(index).data()).and_then(Vec::pop).is_some();
                    goes += u64::from(!is_wanted);
                    Some(is_wanted)
                })
                .collect();
            if goes > 0 {
                change.deleted += goes;
                let kept = filter_record_batch(&stored, &stays).map_err(self.shape())?;
                opened.insert(file.path.clone(), (file, kept));
            }
        }
        let mut inserted: Vec<u32> = wanted.into_values().flatten().collect();
        inserted.sort_unstable();
        change.inserted = inserted.len() as u64;
        let inserted = take_record_batch(&rows, &UInt32Array::from(inserted)).map_err(self.shape())?;
        self.write(opened, inserted, &mut change).await?;
        Ok(change)
    }

    /// Makes `rows` all rows of the table.
    pub(crate) async fn replace_all(&self, rows: &RecordBatch) -> Result<Change> {
        let rows = into_stored(std::slice::from_ref(rows), &self.table.schema()).map_err(self.shape())?;
        let mut change = Change { remove: self.files.clone(), inserted: rows.num_rows() as u64, ..Change::default() };
        change.add = self.write_leaves(&rows).await?;
        Ok(change)
    }

    async fn write(
        &self,
        mut opened: BTreeMap<String, (DataFile, RecordBatch)>,
        inserted: RecordBatch,
        change: &mut Change,
    ) -> Result<()> {
        let mut fresh = Vec::new();
        for (leaf, rows) in self.assign(&inserted)? {
            let Some(leaf) = leaf else {
                fresh.push(rows);
                continue;
            };
            if let Some((_, kept)) = opened.get_mut(&leaf.path) {
                *kept = concat_batches(&kept.schema(), [&*kept, &rows]).map_err(self.shape())?;
                continue;
            }
            let kept = self.rows_of(&leaf).await?;
            let joined = concat_batches(&kept.schema(), [&kept, &rows]).map_err(self.shape())?;
            opened.insert(leaf.path.clone(), (leaf, joined));
        }
        for (file, rows) in opened.into_values() {
            change.remove.push(file);
            change.add.extend(self.write_leaves(&rows).await?);
        }
        for rows in fresh {
            change.add.extend(self.write_leaves(&rows).await?);
        }
        Ok(())
    }

    /// Rows by the leaf into whose range they fall; `None` for rows that begin a new one.
    fn assign(&self, rows: &RecordBatch) -> Result<Vec<(Option<DataFile>, RecordBatch)>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let schema = self.table.schema();
        let ranked = self.cluster.first().and_then(|column| schema.column_with_name(column));
        let Some((index, field)) = ranked else { return Ok(vec![(self.files.last().cloned(), rows.clone())]) };
        let mut leaves: Vec<(ScalarValue, ScalarValue, &DataFile)> = self
            .files
            .iter()
            .filter_map(|file| {
                let (min, max) = file.bounds(field.name(), field.data_type())?;
                Some((min, max, file))
            })
            .collect();
        leaves.sort_by(|(left, _, one), (right, _, other)| {
            left.partial_cmp(right).unwrap_or(std::cmp::Ordering::Equal).then_with(|| one.path.cmp(&other.path))
        });
        if leaves.is_empty() {
            return Ok(vec![(self.files.first().cloned(), rows.clone())]);
        }
        let column = rows.column(index);
        let mut parts: BTreeMap<Option<usize>, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let value = ScalarValue::try_from_array(column, row).map_err(BuildFault::plan(self.node, None))?;
            let above = leaves.partition_point(|(min, ..)| {
                !value.is_null() && min.partial_cmp(&value).is_some_and(std::cmp::Ordering::is_le)
            });
            let leaf = above.saturating_sub(1);
            // Behind a leaf that is well filled a new one begins, so that keys which only grow do not rewrite the last.
            let is_behind = above == leaves.len()
                && leaves[leaf].1.partial_cmp(&value).is_some_and(std::cmp::Ordering::is_lt)
                && leaves[leaf].2.num_records.is_some_and(|num_rows| num_rows >= LEAF_ROWS as u64 / 2);
            let row = u32::try_from(row).unwrap_or(u32::MAX);
            parts.entry((!is_behind).then_some(leaf)).or_default().push(row);
        }
        parts
            .into_iter()
            .map(|(leaf, indices)| {
                let part = take_record_batch(rows, &UInt32Array::from(indices)).map_err(self.shape())?;
                Ok((leaf.map(|leaf| leaves[leaf].2.clone()), part))
            })
            .collect()
    }

    async fn write_leaves(&self, rows: &RecordBatch) -> Result<Vec<DataFile>> {
        let rows = canonical(rows, self.cluster).map_err(self.shape())?.rows;
        let num_leaves = rows.num_rows().div_ceil(LEAF_ROWS);
        if num_leaves == 0 {
            return Ok(Vec::new());
        }
        let size = rows.num_rows().div_ceil(num_leaves);
        let leaves = (0..num_leaves).map(|leaf| {
            let from = leaf * size;
            PartitionedBatch {
                partition_values: BTreeMap::new(),
                batches: vec![rows.slice(from, size.min(rows.num_rows() - from))],
                tags: BTreeMap::from([(LEAF_TAG.to_owned(), "1".to_owned())]),
            }
        });
        self.table.write_files(leaves.collect()).await.map_err(BuildFault::lake(self.table.id()))
    }

    /// Files that may hold a touched row.
    async fn candidates(&self, touches: &[Touch]) -> Result<Vec<DataFile>> {
        let mut found = Vec::new();
        for file in &self.files {
            let mut may_hold = false;
            for touch in touches.iter().filter(|touch| !touch.keys.is_empty()) {
                may_hold |= touch.keys.may_be_in(file, &touch.columns) && self.passes_bloom(file, touch).await?;
            }
            if may_hold {
                found.push(file.clone());
            }
        }
        Ok(found)
    }

    async fn passes_bloom(&self, file: &DataFile, touch: &Touch) -> Result<bool> {
        if self.files.len() == 1 {
            return Ok(true);
        }
        let Some((index, texts)) = touch.keys.few_texts(MAX_BLOOM_TEXTS) else { return Ok(true) };
        let held = self.table.may_contain(file, &touch.columns[index], &texts).await;
        Ok(held.map_err(BuildFault::lake(self.table.id()))?.into_iter().any(|held| held))
    }

    async fn rows_of(&self, file: &DataFile) -> Result<RecordBatch> {
        let schema = self.table.schema();
        let batches: Vec<RecordBatch> = self
            .table
            .read_files(vec![file.clone()], None)
            .try_collect()
            .await
            .map_err(BuildFault::lake(self.table.id()))?;
        into_stored(&batches, &schema).map_err(self.shape())
    }

    fn shape(&self) -> impl FnOnce(arrow::error::ArrowError) -> BuildFault + use<> {
        BuildFault::shape(self.node)
    }
}

/// Whole rows as bytes that compare.
pub(crate) struct RowCoder(RowConverter);

impl RowCoder {
    pub(crate) fn new(rows: &RecordBatch) -> Result<Self, arrow::error::ArrowError> {
        let fields = rows.schema().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Self(RowConverter::new(fields)?))
    }

    pub(crate) fn code(&self, rows: &RecordBatch) -> Result<Rows, arrow::error::ArrowError> {
        let columns: &[ArrayRef] = rows.columns();
        self.0.convert_columns(columns)
    }
}
