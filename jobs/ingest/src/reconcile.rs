//! Proves that nothing was lost and nothing counted twice, from what the commits say of themselves.
//!
//! Without `deep` only the log is read: every span has exactly one outcome per offset, spans of one partition follow each
//! other without hole or overlap, running sums add up from commit to commit, and progress stands where the last span ends.
//! Log clean-up removes old commits; the sums that the oldest remaining commit carries speak for them. `deep` reads the key
//! column of the whole table and counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{Array, AsArray};
use futures::TryStreamExt;
use serde::Serialize;
use tidemill_lake::metadata::{Act, IngestNote, OtherTotals, PartitionTotals};
use tidemill_lake::{Lake, LogCommit, Table, TableId};
use tidemill_project::{SourceName, TableVersion, TopicPartition};

use crate::books::{Standing, file_balances, kafka_app_id, sum_files};
use crate::decode::fingerprint;
use crate::error::Cause;
use crate::quarantine::{Filter, list};
use crate::{Error, Result};

/// The proof for one source, or what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Reconciliation {
    /// The source.
    pub source: String,
    /// The raw table's version that was looked at; `None` when there is no table yet.
    pub version: Option<TableVersion>,
    /// The first commit that was checked one by one; earlier ones were removed by log clean-up and are proven by the sums
    /// that this one carries.
    pub since: TableVersion,
    /// Commits that were checked.
    pub num_commits: u64,
    /// Sums per partition, sorted.
    pub partitions: Vec<PartitionTotals>,
    /// Sums over files.
    pub files: OtherTotals,
    /// Sums over replays from quarantine.
    pub replays: OtherTotals,
    /// What was counted, with `deep`.
    pub deep: Option<Counted>,
    /// What does not add up; empty when all does.
    pub faults: Vec<String>,
}

/// What was counted in the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Rows of the raw table.
    pub rows: u64,
    /// Distinct pairs of event-time partition and `_key`.
    pub unique_keys: u64,
    /// Entries of the quarantine.
    pub quarantined: u64,
}

impl Reconciliation {
    /// Rows that the books say have landed.
    #[must_use]
    pub fn landed(&self) -> u64 {
        self.partitions.iter().map(|totals| totals.landed).sum::<u64>() + self.files.landed + self.replays.landed
    }

    /// Entries that the books say are in quarantine.
    #[must_use]
    pub fn quarantined(&self) -> u64 {
        self.partitions.iter().map(|totals| totals.quarantined).sum::<u64>() + self.files.quarantined
    }

    /// Whether everything adds up.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults as an error, for an exit code.
    ///
    /// # Errors
    /// Of kind `Rejected` when something does not add up.
    pub fn ensure_closed(&self) -> Result<()> {
        match self.faults.first() {
            None => Ok(()),
            Some(first) => {
                let (source, table) = self.source.split_once('.').unwrap_or((&self.source, ""));
                let difference = format!("{first} (faults=`{}`)", self.faults.len());
                Err(Cause::Books { source_name: SourceName::new(source, table), difference }.into())
            }
        }
    }
}

/// Reconciles one source.
///
/// # Errors
/// When the lake cannot be read; books that do not balance are no error of the call, see
/// [`Reconciliation::ensure_closed`].
pub async fn reconcile(lake: &Lake, name: &SourceName, deep: bool) -> Result<Reconciliation> {
    let lake_error = |source| Error::from(Cause::Lake { act: "read the log", source_name: name.clone(), source });
    let mut proof = Reconciliation {
        source: name.to_string(),
        version: None,
        since: TableVersion(0),
        num_commits: 0,
        partitions: Vec::new(),
        files: OtherTotals::default(),
        replays: OtherTotals::default(),
        deep: None,
        faults: Vec::new(),
    };
    let Some(table) = lake.open(&TableId::Raw(name.clone())).await.map_err(lake_error)? else { return Ok(proof) };
    let version = table.version();
    proof.version = Some(version);
    let (since, commits) = remaining_commits(&table).await.map_err(lake_error)?;
    proof.since = since;
    proof.num_commits = commits.len() as u64;

    let standing = Standing::load(&table).await.map_err(lake_error)?;
    proof.faults = check_chain(&commits, since == TableVersion(0));
    proof.faults.extend(check_ends(&standing, &table, name));
    proof.partitions = standing.totals();
    proof.files = standing.files;
    proof.replays = standing.replays;
    if deep {
        let counted = count(lake, &table, name).await?;
        proof.faults.extend(check_counts(&proof, counted));
        proof.deep = Some(counted);
    }
    Ok(proof)
}

/// The commits that log clean-up has left, oldest first, and the version of the first one.
async fn remaining_commits(table: &Table) -> Result<(TableVersion, Vec<LogCommit>), tidemill_lake::Error> {
    let version = table.version();
    match table.commits(None, version).await {
        Ok(commits) => return Ok((TableVersion(0), commits)),
        Err(error) if error.is_version_gone() => {}
        Err(error) => return Err(error),
    }
    // Clean-up removes a prefix, so the oldest commit that is there is found by halving: `gone` is, `there` is not.
    let (mut gone, mut there) = (0, version.0);
    while there - gone > 1 {
        let middle = gone + (there - gone) / 2;
        match table.commits(Some(TableVersion(middle - 1)), TableVersion(middle)).await {
            Ok(_) => there = middle,
            Err(error) if error.is_version_gone() => gone = middle,
            Err(error) => return Err(error),
        }
    }
    let commits = table.commits(Some(TableVersion(there - 1)), version).await?;
    Ok((TableVersion(there), commits))
}

/// Follows the spans and the running sums from commit to commit.
fn check_chain(commits: &[LogCommit], is_complete: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut before = is_complete.then(Standing::default);
    for commit in commits {
        let Some(Act::Ingest(note)) = commit.note.as_ref().map(|note| &note.act) else { continue };
        let mut fault = |text: String| faults.push(format!("{text}, version=`{}`", commit.version));
        check_spans(note, before.as_ref(), &mut fault);
        let mut said = Standing::default();
        said.absorb(std::slice::from_ref(commit));
        if let Some(before) = &mut before {
            before.add(&note.partitions, sum_files(&note.files, None), OtherTotals::default());
            check_sums(before, &said, &mut fault);
        }
        before = Some(said);
    }
    faults
}

fn check_spans(note: &IngestNote, before: Option<&Standing>, fault: &mut impl FnMut(String)) {
    for books in &note.partitions {
        let partition = TopicPartition::new(books.topic.clone(), books.partition);
        if !books.balances() {
            fault(format!("span does not balance, partition=`{partition}`, from=`{}`, to=`{}`", books.from, books.to));
        }
        let Some(before) = before else { continue };
        let known = before.partitions.get(&partition).filter(|totals| totals.offsets > 0);
        let expected = known.map(|totals| totals.to);
        let follows = books.restarted_from.or(Some(books.from));
        if expected.is_some() && expected != follows {
            fault(format!(
                "span does not follow the one before, partition=`{partition}`, from=`{}`, expected=`{}`",
                books.from,
                expected.unwrap_or_default()
            ));
        }
    }
    for books in note.files.iter().filter(|books| !file_balances(books)) {
        fault(format!("file does not balance, path=`{}`, from=`{}`, to=`{}`", books.path, books.from, books.to));
    }
}

/// Running sums: what the commit before said, and this commit's books, must give what this commit says.
fn check_sums(expected: &Standing, said: &Standing, fault: &mut impl FnMut(String)) {
    let sums = |totals: &PartitionTotals| {
        [totals.offsets, totals.landed, totals.duplicates, totals.quarantined, totals.tombstones, totals.skipped]
    };
    for (partition, totals) in &expected.partitions {
        match said.partitions.get(partition) {
            Some(known) if sums(known) == sums(totals) => {}
            _ => fault(format!("running sums do not add up, partition=`{partition}`")),
        }
    }
    let others = |totals: OtherTotals| (totals.records, totals.landed, totals.duplicates, totals.quarantined);
    if others(expected.files) != others(said.files) {
        fault("running sums of files do not add up".to_owned());
    }
}

/// The newest sums balance, and progress stands where the last spans end.
fn check_ends(standing: &Standing, table: &Table, name: &SourceName) -> Vec<String> {
    let mut faults = Vec::new();
    for (partition, totals) in &standing.partitions {
        if !totals.balances() {
            faults.push(format!("sums do not balance, partition=`{partition}`, offsets=`{}`", totals.offsets));
        }
        let txn = table.txn_version(&kafka_app_id(name, partition));
        if txn != Some(totals.to) && (txn.is_some() || totals.offsets > 0) {
            let txn = txn.map_or_else(|| "none".to_owned(), |txn| txn.to_string());
            faults.push(format!(
                "progress does not stand where the books end, partition=`{partition}`, txn=`{txn}`, to=`{}`",
                totals.to
            ));
        }
    }
    let prefix = format!("kafka/{name}/");
    let known: BTreeSet<String> = standing.partitions.keys().map(|of| kafka_app_id(name, of)).collect();
    for app_id in table.txns().keys().filter(|app_id| app_id.starts_with(&prefix)) {
        if !known.contains(app_id) {
            faults.push(format!("progress without books, txn=`{app_id}`"));
        }
    }
    for (way, totals) in [("files", standing.files), ("replays", standing.replays)] {
        if !totals.balances() {
            faults.push(format!("sums of {way} do not balance, records=`{}`", totals.records));
        }
    }
    faults
}

fn check_counts(proof: &Reconciliation, counted: Counted) -> Vec<String> {
    let mut faults = Vec::new();
    if counted.rows != proof.landed() {
        faults.push(format!("rows differ from the books, rows=`{}`, landed=`{}`", counted.rows, proof.landed()));
    }
    if counted.unique_keys != counted.rows {
        faults.push(format!("keys are not unique, rows=`{}`, unique_keys=`{}`", counted.rows, counted.unique_keys));
    }
    if counted.quarantined != proof.quarantined() {
        faults.push(format!(
            "quarantine differs from the books, entries=`{}`, quarantined=`{}`",
            counted.quarantined,
            proof.quarantined()
        ));
    }
    faults
}

/// Counts rows and keys, one event-time partition after the other so that only one of them is in memory: a key that comes
/// back in another partition is a broken contract and both its rows land (X8).
async fn count(lake: &Lake, table: &Table, name: &SourceName) -> Result<Counted> {
    let lake_error = |source| Error::from(Cause::Lake { act: "count rows", source_name: name.clone(), source });
    let mut by_partition: BTreeMap<BTreeMap<String, Option<String>>, Vec<_>> = BTreeMap::new();
    for file in table.files() {
        by_partition.entry(file.partition_values.clone()).or_default().push(file);
    }
    let (mut rows, mut unique_keys) = (0, 0);
    for files in by_partition.into_values() {
        let mut keys: HashSet<u128> = HashSet::new();
        let mut batches = table.read_files(files, Some(vec!["_key".to_owned()]));
        while let Some(batch) = batches.try_next().await.map_err(lake_error)? {
            rows += batch.num_rows() as u64;
            let Some(column) = batch.column_by_name("_key").and_then(|column| column.as_string_opt::<i32>()) else {
                continue;
            };
            keys.extend(
                (0..column.len()).filter(|row| column.is_valid(*row)).map(|row| fingerprint(column.value(row))),
            );
        }
        unique_keys += keys.len() as u64;
    }
    let filter = Filter { source: Some(name.clone()), ..Filter::default() };
    let quarantined = list(lake, &filter).await?.len() as u64;
    Ok(Counted { rows, unique_keys, quarantined })
}
