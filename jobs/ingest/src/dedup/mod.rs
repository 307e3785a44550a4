//! Drops copies of keys that have landed before, exactly and without a horizon (X7).
//!
//! A copy of an event carries the event's own time, so it can only collide inside its own event-time partition (X8). For the
//! partitions that are being written the 128-bit fingerprints of all keys are resident, within a budget, the least recently
//! used one going first. Other partitions are asked through the Parquet bloom filters of `_key`, and a key column is read
//! only where a filter says maybe. Which of the two is cheaper is not known in advance: a late event or two should not load
//! a day of keys, a replay of that day should. So every partition keeps an account of what asking has cost so far, and is
//! loaded once that reaches the price of loading it (ski rental: never more than twice the best choice).
//!
//! What is resident is true for one table version. It follows the table by [`Dedup::absorb`], which must hear of every
//! commit that the table moved over, and by [`Dedup::add`] after every commit of our own.

mod resident;

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch};
use futures::TryStreamExt;
use hashbrown::{HashMap as FastMap, HashSet as FastSet};
use tidemill_lake::{DataFile, LogCommit, Table};

use crate::decode::{Decoded, EventPartition, fingerprint};
use resident::{Fingerprints, IdentityHash, Resident};

/// The raw table's column of idempotency keys.
const KEY: &str = "_key";

/// Prices in microseconds, from measurements on local files: opening a file to look at its footer and filter, and reading
/// one key of it. Only their ratio matters.
const OPEN_FILE_US: u64 = 1_000;
const KEYS_PER_US: u64 = 8;
/// A partition whose file does not say how many rows it has is taken for one of this size.
const UNKNOWN_ROWS: u64 = 1_000_000;
/// At most this many values are asked of a bloom filter before reading the column is as cheap.
const MAX_ASKED: usize = 20_000;

/// Exact deduplication against one raw table.
#[derive(Debug)]
pub(crate) struct Dedup {
    resident: Resident,
    /// What asking has cost so far, by partition that is not resident.
    spent_us: HashMap<EventPartition, u64>,
}

/// Which records of a batch may land at all: those whose origin does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alive<'a> {
    /// By origin.
    pub(crate) origins: &'a [bool],
    /// Index into `origins`, by record.
    pub(crate) origin_of: &'a [u32],
}

/// Rows of a batch that land.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Landing {
    /// Row numbers, ascending, per entry of [`Decoded::partitions`].
    pub(crate) rows: Vec<Vec<u32>>,
}

impl Landing {
    /// Row numbers of all partitions, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.rows.iter().flatten().copied()
    }
}

impl Dedup {
    /// An empty memory that may hold `budget_bytes` of fingerprints.
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self { resident: Resident::new(budget_bytes), spent_us: HashMap::new() }
    }

    /// Chooses the rows that land: of those that are `alive`, the first of each key that `table` does not hold.
    ///
    /// Changes nothing that depends on the outcome, so it may be called again after a lost race.
    pub(crate) async fn choose(
        &mut self,
        table: &Table,
        decoded: &Decoded,
        alive: Alive<'_>,
    ) -> Result<Landing, tidemill_lake::Error> {
        let mut rows = first_of_each_key(decoded, alive);
        for (partition, rows) in decoded.partitions.iter().zip(&mut rows) {
            if !rows.is_empty() {
                self.drop_landed(table, decoded, partition, rows).await?;
            }
        }
        Ok(Landing { rows })
    }

    /// Remembers rows that have landed.
    pub(crate) fn add(&mut self, decoded: &Decoded, landing: &Landing) {
        for (partition, rows) in decoded.partitions.iter().zip(&landing.rows) {
            self.resident.add_rows(partition, decoded, rows);
        }
        self.resident.evict(None);
    }

    /// Follows the table over commits of others. A partition that lost rows is forgotten.
    pub(crate) async fn absorb(&mut self, table: &Table, commits: &[LogCommit]) -> Result<(), tidemill_lake::Error> {
        for commit in commits.iter().filter(|commit| commit.data_change) {
            for gone in commit.remove.iter().filter_map(partition_of) {
                self.resident.forget(&gone);
            }
            for file in &commit.add {
                let Some(partition) = partition_of(file) else { continue };
                if self.resident.contains(&partition) {
                    let mut keys = table.read_files(vec![file.clone()], Some(vec![KEY.to_owned()]));
                    while let Some(batch) = keys.try_next().await? {
                        self.resident.add_keys(&partition, &batch);
                    }
                }
            }
        }
        self.resident.evict(None);
        Ok(())
    }

    async fn drop_landed(
        &mut self,
        table: &Table,
        decoded: &Decoded,
        partition: &EventPartition,
        rows: &mut Vec<u32>,
    ) -> Result<(), tidemill_lake::Error> {
        if self.resident.get(partition).is_none() {
            let files = table.files_of(&partition.values());
            let num_keys = files.iter().map(|file| file.num_records.unwrap_or(UNKNOWN_ROWS)).sum::<u64>();
            let price_us = OPEN_FILE_US * files.len() as u64 + num_keys / KEYS_PER_US;
            let spent_us = self.spent_us.get(partition).copied().unwrap_or_default();
            // Most of a batch's rows fall into few partitions: many candidates are a sign of more to come.
            let ask_us = OPEN_FILE_US * files.len() as u64 + rows.len() as u64;
            if spent_us + ask_us < price_us || !self.resident.has_room_for(num_keys + rows.len() as u64) {
                let cost_us = drop_by_filter(table, decoded, files, rows).await?;
                *self.spent_us.entry(*partition).or_default() += cost_us;
                return Ok(());
            }
            let loaded = load(table, files, num_keys).await?;
            self.spent_us.remove(partition);
            self.resident.insert(*partition, loaded);
        }
        if let Some(landed) = self.resident.get(partition) {
            drop_known(decoded, landed, rows);
        }
        self.resident.evict(Some(partition));
        Ok(())
    }
}

// The loops over rows below are plain functions on purpose: generic and async code is compiled where it is used, and the
// profile of daily work optimises this crate but not the command line, which polls all of it. Inside the async functions the
// same loops took three times as long.

/// Per partition, the rows that are the first of their key inside the batch.
fn first_of_each_key(decoded: &Decoded, alive: Alive<'_>) -> Vec<Vec<u32>> {
    let mut sizes = vec![0; decoded.partitions.len()];
    for row in &decoded.rows {
        sizes[row.partition] += 1;
    }
    let mut rows: Vec<Vec<u32>> = sizes.iter().map(|size| Vec::with_capacity(*size)).collect();
    let mut seen: Vec<FastSet<u128, IdentityHash>> =
        sizes.iter().map(|size| FastSet::with_capacity_and_hasher(*size, IdentityHash)).collect();
    for (number, row) in decoded.rows.iter().enumerate() {
        let is_alive = alive.origins[alive.origin_of[row.record] as usize];
        if is_alive && seen[row.partition].insert(row.fingerprint) {
            rows[row.partition].push(u32::try_from(number).expect("a batch has less than 2^32 rows"));
        }
    }
    rows
}

/// Drops the rows whose keys are known.
fn drop_known(decoded: &Decoded, known: &Fingerprints, rows: &mut Vec<u32>) {
    rows.retain(|row| !known.contains(&decoded.rows[*row as usize].fingerprint));
}

/// Adds the keys of a file that are among the suspects.
fn gather_copies(
    batch: &RecordBatch,
    suspects: &FastMap<u128, u32, IdentityHash>,
    copies: &mut FastSet<u128, IdentityHash>,
) {
    copies.extend(fingerprints_of(batch).filter(|found| suspects.contains_key(found)));
}

fn add_all(keys: &mut Fingerprints, batch: &RecordBatch) {
    keys.extend(fingerprints_of(batch));
}

/// Reads all keys of some files.
async fn load(table: &Table, files: Vec<DataFile>, num_keys: u64) -> Result<Fingerprints, tidemill_lake::Error> {
    let mut loaded = Fingerprints::with_capacity_and_hasher(usize::try_from(num_keys).unwrap_or(0), IdentityHash);
    if !files.is_empty() {
        let mut keys = table.read_files(files, Some(vec![KEY.to_owned()]));
        while let Some(batch) = keys.try_next().await? {
            add_all(&mut loaded, &batch);
        }
    }
    Ok(loaded)
}

/// Drops the rows whose keys some files hold, and tells what that cost.
async fn drop_by_filter(
    table: &Table,
    decoded: &Decoded,
    files: Vec<DataFile>,
    rows: &mut Vec<u32>,
) -> Result<u64, tidemill_lake::Error> {
    let mut cost_us = 0;
    for file in files {
        if rows.is_empty() {
            break;
        }
        cost_us += OPEN_FILE_US + rows.len() as u64;
        let suspects = ask(table, decoded, &file, rows).await?;
        if suspects.is_empty() {
            continue;
        }
        cost_us += file.num_records.unwrap_or(UNKNOWN_ROWS) / KEYS_PER_US;
        let mut copies: FastSet<u128, IdentityHash> = FastSet::default();
        let mut keys = table.read_files(vec![file], Some(vec![KEY.to_owned()]));
        while let Some(batch) = keys.try_next().await? {
            gather_copies(&batch, &suspects, &mut copies);
        }
        drop_known(decoded, &copies, rows);
    }
    Ok(cost_us)
}

/// Asks the bloom filter of one file which of the rows' keys it may hold.
async fn ask(
    table: &Table,
    decoded: &Decoded,
    file: &DataFile,
    rows: &[u32],
) -> Result<FastMap<u128, u32, IdentityHash>, tidemill_lake::Error> {
    let suspect = |row: &u32| (decoded.rows[*row as usize].fingerprint, *row);
    let Some(keys) = decoded.batch.column_by_name(KEY).and_then(|column| column.as_string_opt::<i32>()) else {
        return Ok(rows.iter().map(suspect).collect());
    };
    if rows.len() > MAX_ASKED {
        return Ok(rows.iter().map(suspect).collect());
    }
    let values: Vec<&str> = rows.iter().map(|row| keys.value(*row as usize)).collect();
    let answers = table.may_contain(file, KEY, &values).await?;
    Ok(rows.iter().zip(answers).filter(|(_, may)| *may).map(|(row, _)| suspect(row)).collect())
}

fn fingerprints_of(batch: &RecordBatch) -> impl Iterator<Item = u128> {
    let keys = batch.column_by_name(KEY).and_then(|column| column.as_string_opt::<i32>()).cloned();
    let rows: Range<usize> = 0..keys.as_ref().map_or(0, Array::len);
    rows.filter_map(move |row| keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| fingerprint(keys.value(row))))
}

/// The event-time partition of a file of a raw table.
pub(crate) fn partition_of(file: &DataFile) -> Option<EventPartition> {
    let value = |column: &str| file.partition_values.get(column).and_then(Option::as_deref);
    let date: chrono::NaiveDate = value("event_date")?.parse().ok()?;
    let event_date = i32::try_from(date.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()?;
    let event_hour = value("event_hour").and_then(|hour| hour.parse().ok());
    Some(EventPartition { event_date, event_hour })
}
