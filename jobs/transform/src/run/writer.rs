//! Brings computed rows into a model's table: what is equal stays untouched, all that differs goes into one commit.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use tidemill_lake::maintain;
use tidemill_lake::metadata::{Act, CommitNote, TouchedNote, TransformNote};
use tidemill_lake::{CommitOutcome, CommitRequest, DataFile, Lake, PartitionedBatch, Table, TableId, TableSpec};
use tidemill_project::TableVersion;
use tidemill_project::crash;

use super::BuildFault;
use super::keyed::{Change, Leaves};
use super::rows::{Canonical, canonical, into_stored};
use super::session::Narrowing;
use crate::plan::BATCH_COLUMN;
use crate::project::NodeId;
use crate::test::Subject;

/// The file tag that holds the hash of a batch's rows.
const CONTENT_TAG: &str = "tidemill.content";
/// Compaction may win a race as often as that before a build gives up on this plan.
const MAX_MAINTENANCE_RACES: usize = 20;

/// As many ranges of changed event times stand in a commit.
const MAX_RANGES: usize = 100;

/// What a commit of a model's table came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// The version that shows the rows; `None` when there was nothing to say.
    pub version: Option<TableVersion>,
    /// Rows in new files.
    pub rows: u64,
    /// Batches whose rows are others than before; `None` for tables without batches.
    pub batches: Option<Vec<String>>,
}

/// The table that rows go to.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub id: TableId,
    pub node: NodeId,
    pub description: &'a str,
    /// Columns of the rows.
    pub columns: &'a SchemaRef,
    /// Rows are sorted by these first.
    pub key: &'a [String],
    /// Whether the table has the partition column `_batch`.
    pub batched: bool,
    /// Whether the table is one of leaves: sorted by `key`, changed by key.
    pub keyed: bool,
    /// The column of event time, for tables of leaves: the commit tells which times changed.
    pub event_time: Option<&'a str>,
    pub run_id: &'a str,
}

/// One commit in the making.
#[derive(Debug)]
pub(crate) struct Writer {
    lake: Lake,
    node: NodeId,
    spec: TableSpec,
    key: Vec<String>,
    run_id: String,
    table: Option<Table>,
    /// The table's columns are others than those of the rows: the commit replaces all rows and gives it theirs.
    reshapes: bool,
    keyed: bool,
    event_time: Option<String>,
    touched_us: Option<Vec<i64>>,
    /// Paths of the files of batches that no row was written for yet.
    live: BTreeMap<Option<String>, Vec<String>>,
    add: Vec<DataFile>,
    remove: Vec<DataFile>,
    replaced: BTreeSet<Option<String>>,
    rows: u64,
    /// Batches that are left as they are because they could not be computed.
    left: Vec<(String, BuildFault)>,
}

/// Files of one batch that are written and not yet part of the commit.
#[derive(Debug)]
pub(crate) struct Staged {
    batch: Option<String>,
    /// `None` when the table holds exactly these rows.
    change: Option<StagedChange>,
}

#[derive(Debug)]
struct StagedChange {
    remove: Vec<DataFile>,
    add: Vec<DataFile>,
    num_rows: u64,
}

impl Writer {
    /// Begins. A table that does not exist is created empty.
    pub(crate) async fn begin(lake: &Lake, target: Target<'_>, own: Option<Table>) -> Result<Self, BuildFault> {
        let Target { id, node, description, columns, key, batched, keyed, event_time, run_id } = target;
        let mut fields: Vec<Field> = columns.fields().iter().map(|field| field.as_ref().clone()).collect();
        if batched {
            fields.push(Field::new(BATCH_COLUMN, DataType::Utf8, true));
        }
        let is_text =
            |column: &&String| columns.field_with_name(column).is_ok_and(|field| *field.data_type() == DataType::Utf8);
        let bloom_columns = if keyed { key.iter().filter(is_text).cloned().collect() } else { Vec::new() };
        let spec = TableSpec {
            id,
            schema: std::sync::Arc::new(Schema::new(fields)),
            partition_columns: if batched { vec![BATCH_COLUMN.to_owned()] } else { Vec::new() },
            bloom_columns,
            description: description.to_owned(),
        };
        let (table, reshapes) = match own {
            Some(table) if same_shape(&table, &spec) => (table, false),
            Some(table) => (table.reshape(&spec).map_err(BuildFault::lake(&spec.id))?, true),
            None => (lake.open_or_create(&spec, run_id).await.map_err(BuildFault::lake(&spec.id))?, false),
        };
        let mut live: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        for file in table.live_files() {
            let batch = file.partition_value(BATCH_COLUMN).map(str::to_owned);
            live.entry(batch).or_default().push(file.path().to_owned());
        }
        Ok(Self {
            lake: lake.clone(),
            node,
            spec,
            key: key.to_vec(),
            run_id: run_id.to_owned(),
            table: Some(table),
            reshapes,
            keyed,
            event_time: event_time.map(str::to_owned),
            touched_us: None,
            live,
            add: Vec::new(),
            remove: Vec::new(),
            replaced: BTreeSet::new(),
            rows: 0,
            left: Vec::new(),
        })
    }

    /// Whether the table's columns are others than those of the rows to come.
    pub(crate) fn reshapes(&self) -> bool {
        self.reshapes
    }

    /// The table as it was when the writer began; `None` once it was committed.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.table.as_ref()
    }

    /// Columns of the rows, without the partition column of batches.
    pub(crate) fn columns(&self) -> SchemaRef {
        let fields = self.spec.schema.fields().iter().filter(|field| field.name() != BATCH_COLUMN);
        std::sync::Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    /// The table's rows by key.
    pub(crate) fn leaves(&self) -> Result<Leaves<'_>, BuildFault> {
        let Some(table) = &self.table else { return Err(BuildFault::UnknownNode { node: self.node.clone() }) };
        let event_time = self.event_time.as_deref();
        Ok(Leaves { table, files: table.files(), cluster: &self.key, event_time, node: &self.node })
    }

    /// Takes a change of rows by key into the commit.
    pub(crate) fn apply(&mut self, change: Change) {
        self.rows += change.inserted;
        self.touched_us.get_or_insert_default().extend(change.times_us);
        self.add.extend(change.add);
        self.remove.extend(change.remove);
    }

    /// Replaces the rows of one batch (`None`: of the whole table). Equal rows leave the files alone.
    pub(crate) async fn replace(&mut self, batch: Option<String>, rows: Canonical) -> Result<(), BuildFault> {
        let staged = self.stage(batch, rows).await?;
        self.put(staged);
        Ok(())
    }

    /// Writes the files of one batch, side by side with those of others; [`Self::put`] takes them into the commit.
    pub(crate) async fn stage(&self, batch: Option<String>, rows: Canonical) -> Result<Staged, BuildFault> {
        let old = self.live.get(&batch).map_or_else(Vec::new, |paths| self.files_at(paths));
        if !self.reshapes && self.holds(&old, &rows).await? {
            return Ok(Staged { batch, change: None });
        }
        let (add, num_rows) = self.write(batch.as_deref(), rows).await?;
        Ok(Staged { batch, change: Some(StagedChange { remove: old, add, num_rows }) })
    }

    /// Takes what was staged for a batch into the commit.
    pub(crate) fn put(&mut self, staged: Staged) {
        self.live.remove(&staged.batch);
        let Some(change) = staged.change else { return };
        self.remove.extend(change.remove);
        self.add.extend(change.add);
        self.rows += change.num_rows;
        self.replaced.insert(staged.batch);
    }

    /// Leaves a batch as it is, because of a fault.
    pub(crate) fn leave(&mut self, batch: String, fault: BuildFault) {
        self.live.remove(&Some(batch.clone()));
        self.left.push((batch, fault));
    }

    pub(crate) fn num_left(&self) -> usize {
        self.left.len()
    }

    /// The fault of the first batch that is left.
    pub(crate) fn first_fault(&mut self) -> Option<BuildFault> {
        (!self.left.is_empty()).then(|| self.left.swap_remove(0).1)
    }

    /// The batches that are left, with the first fault.
    pub(crate) fn take_left(&mut self) -> (Vec<String>, Option<BuildFault>) {
        let mut left = std::mem::take(&mut self.left).into_iter();
        let Some((first, fault)) = left.next() else { return (Vec::new(), None) };
        (std::iter::once(first).chain(left.map(|(name, _)| name)).collect(), Some(fault))
    }

    /// Whether the commit would change rows.
    pub(crate) fn changes_rows(&self) -> bool {
        !self.add.is_empty() || !self.remove.is_empty()
    }

    /// The table as a commit would make it, without the partition column of batches; `None` when no row would change.
    pub(crate) fn preview(&self, context: &SessionContext) -> Result<Option<Narrowing>, BuildFault> {
        let Some(table) = self.table.as_ref().filter(|_| self.changes_rows()) else { return Ok(None) };
        let goes: BTreeSet<&str> = self.remove.iter().map(|file| file.path.as_str()).collect();
        let mut files: Vec<DataFile> =
            table.files().into_iter().filter(|file| !goes.contains(file.path.as_str())).collect();
        files.extend(self.add.iter().cloned());
        Narrowing::files(context, table, files).map(Some)
    }

    /// The table and what the commit would change of it; `None` when it would change its columns, too.
    pub(crate) fn subject(&self) -> Option<Subject<'_>> {
        let table = self.table.as_ref().filter(|_| !self.reshapes)?;
        Some(Subject { table, add: &self.add, remove: &self.remove })
    }

    /// Adds rows and keeps what is there.
    pub(crate) async fn append(&mut self, rows: Canonical) -> Result<(), BuildFault> {
        let (add, num_rows) = self.write(None, rows).await?;
        self.add.extend(add);
        self.rows += num_rows;
        Ok(())
    }

    /// Removes every batch that was neither replaced nor found equal.
    pub(crate) fn remove_the_rest(&mut self) {
        for (batch, paths) in std::mem::take(&mut self.live) {
            let files = self.files_at(&paths);
            self.remove.extend(files);
            self.replaced.insert(batch);
        }
    }

    fn files_at(&self, paths: &[String]) -> Vec<DataFile> {
        let live = self.table.iter().flat_map(|table| paths.iter().filter_map(|path| table.live_file(path)));
        live.map(|file| file.data_file()).collect()
    }

    /// The files of some rows, and how many these are.
    async fn write(&self, batch: Option<&str>, rows: Canonical) -> Result<(Vec<DataFile>, u64), BuildFault> {
        let num_rows = rows.rows.num_rows();
        let Some(table) = self.table.as_ref().filter(|_| num_rows > 0) else { return Ok((Vec::new(), 0)) };
        if self.keyed {
            let leaves = Leaves { table, files: Vec::new(), cluster: &self.key, event_time: None, node: &self.node };
            let change = leaves.replace_all(&rows.rows).await?;
            return Ok((change.add, change.inserted));
        }
        let partition_values =
            batch.iter().map(|batch| (BATCH_COLUMN.to_owned(), Some((*batch).to_owned()))).collect::<BTreeMap<_, _>>();
        let tags = BTreeMap::from([(CONTENT_TAG.to_owned(), rows.content)]);
        let files = table
            .write_files(vec![PartitionedBatch { partition_values, batches: vec![rows.rows], tags }])
            .await
            .map_err(BuildFault::lake(&self.spec.id))?;
        Ok((files, num_rows as u64))
    }

    /// Whether `files` hold exactly `rows`: by their tags, or by reading them where compaction has lost the tags.
    async fn holds(&self, files: &[DataFile], rows: &Canonical) -> Result<bool, BuildFault> {
        if files.is_empty() || rows.rows.num_rows() == 0 {
            return Ok(files.is_empty() && rows.rows.num_rows() == 0);
        }
        if files.iter().all(|file| file.tags.contains_key(CONTENT_TAG)) {
            // Files of one commit carry the hash of all its rows; two commits' files never make up one content.
            return Ok(
                files.iter().all(|file| file.tags.get(CONTENT_TAG) == Some(&rows.content)) && is_complete(files, rows)
            );
        }
        let Some(table) = &self.table else { return Ok(false) };
        let schema = rows.rows.schema();
        let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        let stored: Vec<_> = table
            .read_files(files.to_vec(), Some(columns))
            .try_collect()
            .await
            .map_err(BuildFault::lake(&self.spec.id))?;
        let stored = into_stored(&stored, &schema).and_then(|stored| canonical(&stored, &self.key));
        Ok(stored.map_err(BuildFault::shape(&self.node))?.content == rows.content)
    }

    /// Commits, or hands back `None` when another build was faster: plan again then.
    ///
    /// With nothing changed the commit holds the note alone (`dataChange = false`), so that the next run knows which versions
    /// of the inputs have been looked at.
    pub(crate) async fn commit(
        mut self,
        mut note: TransformNote,
        batched: bool,
    ) -> Result<Option<(Written, Table)>, BuildFault> {
        let changed = self.reshapes || self.changes_rows();
        let batches: Option<Vec<String>> = batched.then(|| self.replaced.iter().flatten().cloned().collect());
        note.batches.clone_from(&batches);
        note.rows_written = self.rows;
        note.touched = self
            .event_time
            .clone()
            .zip(self.touched_us.take())
            .map(|(column, times_us)| TouchedNote { column, ranges: ranges_of(times_us) });
        let Some(mut table) = self.table.take() else { return Ok(None) };
        for _ in 0..MAX_MAINTENANCE_RACES {
            let request = CommitRequest {
                add: self.add.clone(),
                remove: self.remove.clone(),
                txns: BTreeMap::new(),
                operation: "WRITE",
                data_change: changed,
                note: CommitNote {
                    commit_id: self.lake.clock().new_id(),
                    run_id: self.run_id.clone(),
                    act: Act::Transform(note.clone()),
                },
            };
            crash::point("transform.before_commit");
            match table.commit(request).await.map_err(BuildFault::lake(&self.spec.id))? {
                CommitOutcome::Committed(version) => {
                    crash::point("transform.after_commit");
                    maintain::after_commit(&table, &self.run_id).await;
                    let written = Written { version: Some(version), rows: self.rows, batches };
                    return Ok(Some((written, table)));
                }
                CommitOutcome::Lost(winners) => {
                    let only_care = winners.iter().all(|winner| {
                        !winner.data_change
                            && !winner.changes_schema
                            && !matches!(winner.note, Some(CommitNote { act: Act::Transform(_), .. }))
                    });
                    if !only_care {
                        return Ok(None);
                    }
                    if self.keyed && !self.reshapes {
                        // A leaf that is to be replaced must still be there.
                        let live: BTreeSet<String> = table.files().into_iter().map(|file| file.path).collect();
                        if self.remove.iter().any(|file| !live.contains(&file.path)) {
                            return Ok(None);
                        }
                        continue;
                    }
                    // Compaction moved rows into other files; the batches that are replaced are still the same.
                    let goes = |file: &DataFile| self.reshapes || self.replaced.contains(&batch_of(file));
                    self.remove = table.files().into_iter().filter(goes).collect();
                }
            }
        }
        Ok(None)
    }
}

/// Few ranges that hold all of these instants. Instants less than a minute apart are one range; while there are more than
/// [`MAX_RANGES`], the nearest are joined.
fn ranges_of(mut times_us: Vec<i64>) -> Vec<(i64, i64)> {
    times_us.sort_unstable();
    let mut gap_us: i64 = 60_000_000;
    loop {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for at_us in &times_us {
            match ranges.last_mut() {
                Some((_, end_us)) if at_us.saturating_sub(*end_us) < gap_us => *end_us = at_us.saturating_add(1),
                _ => ranges.push((*at_us, at_us.saturating_add(1))),
            }
        }
        if ranges.len() <= MAX_RANGES {
            return ranges;
        }
        gap_us = gap_us.saturating_mul(4);
    }
}

fn batch_of(file: &DataFile) -> Option<String> {
    file.partition_values.get(BATCH_COLUMN).cloned().flatten()
}

/// Whether all files of the commit are still there.
fn is_complete(files: &[DataFile], rows: &Canonical) -> bool {
    let known: Option<u64> = files.iter().map(|file| file.num_records).sum();
    known.is_none_or(|known| known == rows.rows.num_rows() as u64)
}

fn same_shape(table: &Table, spec: &TableSpec) -> bool {
    let shape = |schema: &Schema| -> Vec<(String, DataType)> {
        // Where the column of batches stands depends on which columns came before it; that it is there, the partitions say.
        let fields = schema.fields().iter().filter(|field| field.name() != BATCH_COLUMN);
        fields.map(|field| (field.name().clone(), comparable(field.data_type()))).collect()
    };
    shape(&table.schema()) == shape(&spec.schema) && table.partition_columns() == spec.partition_columns
}

/// A type without the names and nullability of nested fields' wrappers, which Delta does not keep.
pub(crate) fn comparable(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(item) => {
            DataType::List(std::sync::Arc::new(Field::new("item", comparable(item.data_type()), true)))
        }
        DataType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Field::new(field.name(), comparable(field.data_type()), true))
                .collect::<Vec<_>>()
                .into(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every instant lies in a range, and the ranges are few, apart and ascending.
        #[test]
        fn ranges_hold_every_instant(times in prop::collection::vec(0..10_000_000_000_000_i64, 0..500)) {
            let ranges = ranges_of(times.clone());
            prop_assert!(ranges.len() <= MAX_RANGES);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for at in times {
                prop_assert!(ranges.iter().any(|(start, end)| (*start..*end).contains(&at)));
            }
        }
    }
}
