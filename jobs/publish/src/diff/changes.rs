//! A computed difference, and how a sink reads it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tidemill_project::TableVersion;

use super::fresh::{Fresh, Survey};
use super::hash::{RowHasher, mix};
use super::index::{Fate, Index, Keyer, Seen, row_of};
use super::plan::{PlanRequest, Sides};
use super::shape::Shape;
use super::side::{PartitionValues, Rows, Side, SideFile};
use crate::error::Cause;
use crate::sink::Position;
use crate::{Error, Publication, Result, Strategy};

/// Rows by what happens to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    /// Keys that are new.
    pub inserted: u64,
    /// Keys whose row changed.
    pub updated: u64,
    /// Keys that went away.
    pub deleted: u64,
}

impl ChangeCounts {
    /// Whether nothing happens.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// What a batch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The rows are to be there, instead of those with the same key.
    Upsert,
    /// The rows' keys are to be gone.
    Delete,
    /// The rows' keys live on in another partition, whose upsert comes too. Sinks without partitions ignore it.
    MoveOut,
}

/// Some changed rows of one partition.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// What to do.
    pub kind: ChangeKind,
    /// Partition of the rows.
    pub partition: Arc<PartitionValues>,
    /// Rows in the published shape; for deletes the rows as they were.
    pub rows: RecordBatch,
}

/// Takes changed rows one batch at a time, so that nobody holds them all.
#[async_trait]
pub trait ChangeConsumer: Send {
    /// Takes one batch.
    async fn consume(&mut self, batch: ChangeBatch) -> Result<()>;
}

/// What changed in one model's table, ready to be applied to one target.
#[derive(Debug)]
pub struct ChangeSet {
    publication: Publication,
    shape: Shape,
    base: Option<Position>,
    from: Option<TableVersion>,
    to: TableVersion,
    table_id: String,
    watermark_us: Option<i64>,
    counts: ChangeCounts,
    content_hash: String,
    sides: SidesOf,
    slices: u128,
    resend: bool,
    /// Kept when there is one slice only.
    index: Option<Index>,
    /// Instead of slices, where the target has no row and the model too many for one slice.
    fresh: Option<Fresh>,
}

#[derive(Debug)]
struct SidesOf {
    old: Side,
    new: Side,
    partitions: Vec<Arc<PartitionValues>>,
}

impl ChangeSet {
    pub(super) async fn compute(
        request: &PlanRequest,
        shape: Shape,
        sides: Sides,
        from: Option<TableVersion>,
    ) -> Result<Self> {
        let rows = sides.old.estimated_rows() + sides.new.estimated_rows();
        let mut changes = Self {
            publication: request.publication.clone(),
            shape,
            base: request.base.clone(),
            from,
            to: request.model.version(),
            table_id: request.model.table_id().to_owned(),
            watermark_us: request.watermark_us,
            counts: ChangeCounts::default(),
            content_hash: String::new(),
            sides: SidesOf {
                old: sides.old,
                new: sides.new,
                partitions: sides.partitions.into_iter().map(Arc::new).collect(),
            },
            slices: u128::from(rows.div_ceil(request.max_keys).max(1)),
            resend: request.resend,
            index: None,
            fresh: None,
        };
        if changes.slices > 1
            && changes.sides.old.files.is_empty()
            && changes.sides.new.judge.is_none()
            && !changes.resend
            && !changes.shape.key.is_empty()
            && let Some(Survey { fresh, counts, content }) =
                Fresh::survey(&changes, request.max_keys, request.names_rows).await?
        {
            changes.fresh = Some(fresh);
            changes.counts = counts;
            changes.content_hash = format!("{:032x}", mix(content, changes.num_changes()));
            return Ok(changes);
        }
        let mut content = 0_u128;
        for slice in 0..changes.slices {
            let index = changes.index(slice).await?;
            for (&key, entry) in &index.entries {
                let fate = index.fate(entry);
                match fate {
                    Fate::Unchanged => continue,
                    Fate::Insert => changes.counts.inserted += 1,
                    Fate::Update => changes.counts.updated += 1,
                    Fate::Delete => changes.counts.deleted += 1,
                }
                let row = if fate == Fate::Delete { 1 } else { entry.new.row };
                content = content.wrapping_add(mix(key, row));
            }
            changes.index = (changes.slices == 1).then_some(index);
        }
        changes.content_hash = format!("{:032x}", mix(content, changes.num_changes()));
        if changes.publication.strategy == Strategy::AppendOnly && changes.counts.deleted > 0 {
            let (model, target) = (changes.publication.model_name.clone(), changes.publication.target.clone());
            return Err(Error::new(Cause::RowsLeft { model, target, num_rows: changes.counts.deleted })
                .at(&changes.publication.location));
        }
        Ok(changes)
    }

    /// What is published.
    #[must_use]
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Columns and key.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The published columns.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.shape.schema
    }

    /// Where the target must stand for this difference to be right.
    #[must_use]
    pub fn base(&self) -> Option<&Position> {
        self.base.as_ref()
    }

    /// Versions `(from, to]`; `None` when everything was compared.
    #[must_use]
    pub fn from(&self) -> Option<TableVersion> {
        self.from
    }

    /// The version that the target shows afterwards.
    #[must_use]
    pub fn to(&self) -> TableVersion {
        self.to
    }

    /// Whether all rows of the model are in it, so that target rows that are not must go.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.from.is_none()
    }

    /// Rows by what happens to them. When the sink does the full comparison itself, every row counts as inserted here.
    #[must_use]
    pub fn counts(&self) -> ChangeCounts {
        self.counts
    }

    /// Changed keys.
    #[must_use]
    pub fn num_changes(&self) -> u64 {
        self.counts.inserted + self.counts.updated + self.counts.deleted
    }

    /// Names the changed rows, for sinks that ask for it ([`Sink::names_changes`](crate::Sink::names_changes)): two change sets of
    /// the same rows have the same hash within one release of the program.
    #[must_use]
    pub fn content_hash(&self) -> &str {
        &self.content_hash
    }

    /// The position that an apply establishes.
    #[must_use]
    pub fn next_position(&self) -> Position {
        Position {
            table_id: self.table_id.clone(),
            version: self.to,
            seq: self.base.as_ref().map_or(0, |base| base.seq) + 1,
            watermark_us: self.watermark_us,
            sent_version: None,
        }
    }

    /// Partitions in which something changed, ascending.
    pub(crate) async fn changed_partitions(&self) -> Result<Vec<Arc<PartitionValues>>> {
        let mut changed = BTreeSet::new();
        if self.fresh.is_some() {
            let numbers: BTreeSet<usize> = self.sides.new.files.iter().map(|file| file.partition).collect();
            return Ok(numbers.into_iter().map(|number| self.partition(number)).collect());
        }
        for slice in 0..self.slices {
            let built;
            let index = if let Some(kept) = &self.index {
                kept
            } else {
                built = self.index(slice).await?;
                &built
            };
            for entry in index.entries.values().filter(|entry| index.fate(entry) != Fate::Unchanged) {
                changed.extend(
                    [entry.old, entry.new].iter().filter(|seen| seen.ordinal != u64::MAX).map(|seen| seen.partition),
                );
            }
        }
        Ok(changed.into_iter().map(|number| Arc::clone(&self.sides.partitions[number as usize])).collect())
    }

    /// Hands all changed rows to `consumer`, by partition ascending: what goes, then what comes; once per slice of a large
    /// comparison, slices having no key in common.
    ///
    /// # Errors
    /// What the lake answers, and what `consumer` does.
    pub async fn visit(&self, consumer: &mut dyn ChangeConsumer) -> Result<()> {
        if let Some(fresh) = &self.fresh {
            return fresh.emit(self, consumer).await;
        }
        for slice in 0..self.slices {
            let built;
            let index = if let Some(kept) = &self.index {
                kept
            } else {
                built = self.index(slice).await?;
                &built
            };
            self.emit(&self.sides.old, index, false, consumer).await?;
            self.emit(&self.sides.new, index, true, consumer).await?;
        }
        Ok(())
    }

    /// Hands *all* rows of some partitions of the model to `consumer`, changed or not.
    pub(crate) async fn visit_partitions(
        &self,
        partitions: &[Arc<PartitionValues>],
        consumer: &mut dyn ChangeConsumer,
    ) -> Result<()> {
        let Some(table) = &self.sides.new.table else { return Ok(()) };
        let numbered = table.files().into_iter().filter_map(|file| {
            let values = super::plan::model_values(&self.shape, &file);
            let partition = partitions.iter().position(|partition| **partition == values)?;
            Some(SideFile { file, partition })
        });
        let mut side = Side::new(Arc::clone(table), numbered.collect(), self.shape.model_columns.clone());
        side.judge.clone_from(&self.sides.new.judge);
        for file in &side.files {
            let mut batches = side.read(file, &self.shape.schema, &self.publication);
            while let Some(rows) = batches.try_next().await? {
                let rows = rows.taking_part().map_err(Error::arrow(&self.publication))?;
                self.refuse_null_keys(&rows)?;
                let partition = Arc::clone(&partitions[file.partition]);
                consumer.consume(ChangeBatch { kind: ChangeKind::Upsert, partition, rows }).await?;
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn took_slices(&self) -> bool {
        self.fresh.is_none()
    }

    /// The rows as they are now.
    pub(super) fn new_side(&self) -> &Side {
        &self.sides.new
    }

    /// A partition by its number.
    pub(super) fn partition(&self, number: usize) -> Arc<PartitionValues> {
        Arc::clone(&self.sides.partitions[number])
    }

    /// Hashers of whole rows and of their keys.
    pub(super) fn hashers(&self) -> Result<(RowHasher, RowHasher)> {
        let all = (0..self.shape.schema.fields().len()).collect();
        let row = RowHasher::new(&self.shape.schema, all).map_err(Error::arrow(&self.publication))?;
        let key =
            RowHasher::new(&self.shape.schema, self.shape.key.clone()).map_err(Error::arrow(&self.publication))?;
        Ok((row, key))
    }

    async fn index(&self, slice: u128) -> Result<Index> {
        let (row_hasher, key_hasher) = self.hashers()?;
        let mut index = Index { resend: self.resend, ..Index::default() };
        for (side, is_new) in [(&self.sides.old, false), (&self.sides.new, true)] {
            let mut keyer = Keyer::new(&key_hasher, self.shape.key.is_empty());
            let mut ordinal = 0;
            for file in &side.files {
                let partition = u32::try_from(file.partition).expect("a table has less than four billion partitions");
                let mut batches = side.read(file, &self.shape.schema, &self.publication);
                while let Some(found) = batches.try_next().await? {
                    let batch = &found.batch;
                    if is_new {
                        self.refuse_null_keys(&found.taking_part().map_err(Error::arrow(&self.publication))?)?;
                    }
                    let rows = row_hasher.hash(batch).map_err(Error::arrow(&self.publication))?;
                    let keys = keyer.keys(batch, &rows, file.partition).map_err(Error::arrow(&self.publication))?;
                    for (number, (key, row)) in keys.into_iter().zip(rows).enumerate() {
                        if let Some(hold) = found.verdict(number).filter(|_| key % self.slices == slice) {
                            index.see(key, is_new, Seen { row: row_of(row), ordinal, partition, hold });
                        }
                        // Rows that do not take part are counted too: ordinals are places in files.
                        ordinal += 1;
                    }
                }
            }
        }
        Ok(index)
    }

    /// NULL = NULL is not true in SQL: a warehouse would insert the row again with every cycle.
    fn refuse_null_keys(&self, batch: &RecordBatch) -> Result<()> {
        self.shape.key.iter().try_for_each(|&column| self.refuse_nulls(column, batch.column(column)))
    }

    /// Refuses nulls among the values of a column of the key.
    pub(super) fn refuse_nulls(&self, column: usize, values: &dyn Array) -> Result<()> {
        let num_rows = values.logical_null_count();
        if num_rows == 0 {
            return Ok(());
        }
        let (model, column) = (self.publication.model_name.clone(), self.shape.schema.field(column).name().clone());
        Err(Error::new(Cause::NullKey { model, column, num_rows }).at(&self.publication.location))
    }

    /// Reads the files of one side that hold a changed row once more and hands out those rows.
    async fn emit(&self, side: &Side, index: &Index, is_new: bool, consumer: &mut dyn ChangeConsumer) -> Result<()> {
        let mut wanted: Vec<(u64, ChangeKind)> = index
            .entries
            .values()
            .filter_map(|entry| match (index.fate(entry), is_new) {
                (Fate::Insert | Fate::Update, true) => Some((entry.new.ordinal, ChangeKind::Upsert)),
                (Fate::Delete, false) => Some((entry.old.ordinal, ChangeKind::Delete)),
                (Fate::Update, false) if entry.moved() => Some((entry.old.ordinal, ChangeKind::MoveOut)),
                _ => None,
            })
            .collect();
        wanted.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        let mut wanted = wanted.into_iter().peekable();
        let mut first = 0;
        for file in &side.files {
            // The log's count lets a file be passed over unread; a file without one has to be read to know where the next starts.
            if let Some(num_rows) = file.file.num_records
                && wanted.peek().is_none_or(|(ordinal, _)| *ordinal >= first + num_rows)
            {
                first += num_rows;
                continue;
            }
            first = self.emit_file(side, file, first, &mut wanted, consumer).await?;
            if wanted.peek().is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn emit_file(
        &self,
        side: &Side,
        file: &SideFile,
        mut first: u64,
        wanted: &mut std::iter::Peekable<std::vec::IntoIter<(u64, ChangeKind)>>,
        consumer: &mut dyn ChangeConsumer,
    ) -> Result<u64> {
        let mut batches = side.read(file, &self.shape.schema, &self.publication);
        while let Some(Rows { batch, .. }) = batches.try_next().await? {
            let end = first + batch.num_rows() as u64;
            let mut masks =
                [ChangeKind::Upsert, ChangeKind::Delete, ChangeKind::MoveOut].map(|kind| (kind, Vec::new()));
            while let Some((ordinal, kind)) = wanted.next_if(|(ordinal, _)| *ordinal < end) {
                let (_, rows) = masks.iter_mut().find(|(other, _)| *other == kind).expect("every kind is listed");
                if rows.is_empty() {
                    rows.resize(batch.num_rows(), false);
                }
                rows[usize::try_from(ordinal - first).expect("a batch has less rows than usize counts")] = true;
            }
            for (kind, mask) in masks.into_iter().filter(|(_, mask)| !mask.is_empty()) {
                let rows =
                    filter_record_batch(&batch, &BooleanArray::from(mask)).map_err(Error::arrow(&self.publication))?;
                let partition = Arc::clone(&self.sides.partitions[file.partition]);
                consumer.consume(ChangeBatch { kind, partition, rows }).await?;
            }
            first = end;
        }
        Ok(first)
    }
}
