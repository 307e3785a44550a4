//! One cycle: all change sets of one database in one transaction. Steps and their crash table are in SNOWFLAKE.md section 1.
//!
//! Session, owner and staging tables are born together and die together. After an answer that did not arrive the whole cycle
//! begins again with new ones: once the head is taken again, nobody who owned it before can commit any more. So a cycle that
//! finds its own `SEQ` and content hash in the head knows that its `COMMIT` happened, whoever heard of it.

use std::time::Duration;

use serde_json::json;
use tidemill_project::clock::Clock;
use tidemill_project::config::SnowflakeSettings;

use super::client::{Client, Purpose};
use super::heads::{Head, Standing, read_heads};
use super::load::Load;
use super::names::Names;
use super::ops::{self, Cost, Quarantine};
use super::parts::{Manifest, Stager, batch_label};
use super::sql::{self, LedgerEntry};
use super::{SnowflakeError, ddl, target};
use crate::diff::{ChangeCounts, ChangeSet};
use crate::sink::{Applied, ApplyContext};
use crate::{Error, Result, Strategy};

/// How long a lock of somebody who vanished is waited for: the service ends an idle transaction that blocks others after five
/// minutes.
const LOCK_PATIENCE: Duration = Duration::from_mins(15);
/// Cycles that are begun again after answers that did not arrive.
const MAX_CYCLES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Everything that a cycle needs; plain references, so that it can be begun again.
pub(super) struct Cycle<'a> {
    pub(super) settings: &'a SnowflakeSettings,
    pub(super) clock: &'a Clock,
    pub(super) changes: &'a [ChangeSet],
    pub(super) context: ApplyContext<'a>,
    /// What lies in the lake's quarantine.
    pub(super) quarantine: Option<Quarantine>,
}

/// One target on its way through a cycle.
pub(super) struct Leg<'a> {
    pub(super) changes: &'a ChangeSet,
    pub(super) load: Load,
    directory: String,
    manifest: Manifest,
    batches: Vec<String>,
}

impl Cycle<'_> {
    /// Runs cycles until one is done.
    pub(super) async fn run(&self) -> Result<Vec<Applied>> {
        let mut must_set_up = self.changes.iter().any(|changes| changes.base().is_none());
        let mut commit_is_open = false;
        let mut pause = FIRST_PAUSE;
        let mut cycles = 1;
        let stopwatch = self.clock.stopwatch();
        loop {
            let error = match self.once(must_set_up).await {
                Ok(applied) => return Ok(applied),
                Err(error) => error,
            };
            let Some(fault) = error.as_snowflake() else { return Err(error) };
            must_set_up |= fault.is_missing_object();
            commit_is_open |= matches!(fault, SnowflakeError::NoAnswer { step: "commit", .. });
            let may_wait = fault.is_busy() && stopwatch.elapsed() < LOCK_PATIENCE;
            let may_begin_again = fault.is_transient() && cycles < MAX_CYCLES;
            if !may_wait && !may_begin_again {
                return Err(match (commit_is_open && (fault.is_transient() || fault.is_busy()), self.database()) {
                    (true, Some(database)) => SnowflakeError::CommitUnknown { database }.into(),
                    _ => error,
                });
            }
            tracing::warn!(cycles, %error, "beginning the publication again in a new session");
            cycles += u32::from(!fault.is_busy());
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn database(&self) -> Option<String> {
        self.changes.first().map(|changes| changes.publication().table().database.clone())
    }

    async fn once(&self, must_set_up: bool) -> Result<Vec<Applied>> {
        // Heads are taken and moved in the order of their names, so that selections that overlap cannot deadlock.
        let owner = self.clock.new_id().simple().to_string();
        let mut legs = Vec::with_capacity(self.changes.len());
        for changes in self.changes {
            let load = Load::new(changes)?;
            let directory = load.names.directory(load.seq, changes.content_hash(), &owner);
            legs.push(Leg { changes, load, directory, manifest: Manifest::default(), batches: Vec::new() });
        }
        legs.sort_by(|a, b| a.load.names.label.cmp(&b.load.names.label));
        let Some(database) = legs.first().map(|leg| leg.load.names.database.clone()) else { return Ok(Vec::new()) };
        let purpose = Purpose { database: &database, run_id: self.context.run_id };
        let mut client = Client::new(self.settings, purpose, self.clock.clone(), self.context.observer)?;
        let result = self.steps(&mut client, &database, &mut legs, &owner, must_set_up).await;
        client.close().await;
        let mut applied = result?;
        // Back to the order in which the caller gave them.
        applied.sort_by_key(|(label, _)| {
            self.changes.iter().position(|changes| Names::new(changes.publication().table()).label == *label)
        });
        Ok(applied.into_iter().map(|(_, applied)| applied).collect())
    }

    async fn steps(
        &self,
        client: &mut Client<'_>,
        database: &str,
        legs: &mut [Leg<'_>],
        owner: &str,
        must_set_up: bool,
    ) -> Result<Vec<(String, Applied)>> {
        if must_set_up {
            set_up(client, database, legs.iter().map(|leg| &leg.load)).await?;
        }
        for leg in legs.iter_mut() {
            upload(client, leg).await?;
        }
        for leg in legs.iter() {
            take(client, leg, owner).await?;
        }
        let names: Vec<&Names> = legs.iter().map(|leg| &leg.load.names).collect();
        let heads = read_heads(client, &names).await?;
        let heads = heads_of(legs, &heads)?;
        let standings: Vec<_> = legs.iter().zip(&heads).map(|(leg, head)| head.standing(leg.changes)).collect();
        if standings.iter().all(|standing| *standing == Standing::Done) {
            return Ok(legs
                .iter()
                .map(|leg| (leg.load.names.label.clone(), applied(leg, leg.changes.counts())))
                .collect());
        }
        if let Some(place) = standings.iter().position(|standing| *standing != Standing::AtBase) {
            let changes = legs[place].changes;
            let expected = changes.base().map(|base| base.version);
            return Err(Error::moved(&changes.publication().target, expected, heads[place].version()));
        }
        target::prepare(client, database, legs, &heads).await?;
        let mut staging = Vec::with_capacity(legs.len());
        let stopwatch = self.clock.stopwatch();
        for (leg, head) in legs.iter().zip(&heads) {
            let table = leg.load.names.staging(head.epoch, owner);
            copy(client, leg, &table).await?;
            staging.push(table);
        }
        let copy_ms = millis(&stopwatch);
        let counts = self.transact(client, database, legs, &heads, &staging, owner, copy_ms).await?;
        for leg in legs.iter() {
            prove(client, database, leg).await?;
        }
        for ((leg, head), table) in legs.iter().zip(&heads).zip(&staging) {
            clean(client, leg, head, table).await;
        }
        Ok(legs.iter().zip(counts).map(|(leg, counts)| (leg.load.names.label.clone(), applied(leg, counts))).collect())
    }

    /// Steps 5 to 10.
    #[expect(clippy::too_many_arguments, reason = "one transaction needs what the steps before it made")]
    async fn transact(
        &self,
        client: &mut Client<'_>,
        database: &str,
        legs: &[Leg<'_>],
        heads: &[&Head],
        staging: &[String],
        owner: &str,
        copy_ms: u64,
    ) -> Result<Vec<ChangeCounts>> {
        let stopwatch = self.clock.stopwatch();
        client.run(&sql::rollback()).await?;
        client.run(&sql::begin()).await?;
        for leg in legs {
            let next = leg.changes.next_position();
            let position = json!({"table_id": next.table_id, "version": next.version}).to_string();
            let moved = client.run(&sql::move_head(&leg.load, owner, &position, leg.changes.content_hash())).await?;
            if moved.count("number of rows updated") != 1 {
                let expected = leg.changes.base().map(|base| base.version);
                return Err(Error::moved(&leg.changes.publication().target, expected, None));
            }
        }
        let mut entries = Vec::with_capacity(legs.len());
        for ((leg, head), table) in legs.iter().zip(heads).zip(staging) {
            verify_staged(client, leg, table).await?;
            let mut entry = entry(leg, head);
            if !leg.has_work() {
                entries.push(entry);
                continue;
            }
            for statement in sql::apply(&leg.load, table, &leg.manifest.ranges, &leg.batches) {
                let answer = client.run(&statement).await?;
                entry.inserted += answer.count("number of rows inserted");
                entry.updated += answer.count("number of rows updated");
                entry.deleted += answer.count("number of rows deleted");
                entry.query_id = answer.query_id;
            }
            entries.push(entry);
        }
        let names: Vec<&Names> = legs.iter().map(|leg| &leg.load.names).collect();
        let counts = client.run(&sql::counts("count", &names)).await?;
        for entry in &mut entries {
            let row = counts.rows.iter().find(|row| row.first().and_then(Option::as_deref) == Some(&entry.label));
            let number = |index: usize| row.and_then(|row| row.get(index)?.as_deref()?.parse().ok());
            entry.rows_after = number(1).ok_or_else(|| SnowflakeError::Answer {
                step: "count",
                detail: format!("it has no row count for `{}`", entry.label),
            })?;
            entry.max_seq_after = number(2);
        }
        let (run_id, warehouse) = (self.context.run_id, self.settings.warehouse.as_deref().unwrap_or_default());
        client.run(&sql::write_ledger(database, run_id, &entries)).await?;
        let cost = Cost { copy_ms, apply_ms: millis(&stopwatch) };
        client.run(&ops::run(database, run_id, warehouse, &entries, cost)).await?;
        client.run(&ops::freshness(database, run_id, &entries)).await?;
        if let Some(found) = &self.quarantine {
            client.run(&ops::quarantine_summary(database, run_id, found)).await?;
        }
        client.run(&sql::commit()).await?;
        let counts = entries.iter().map(|entry| ChangeCounts {
            inserted: entry.inserted,
            updated: entry.updated,
            deleted: entry.deleted,
        });
        Ok(counts.collect())
    }
}

impl Leg<'_> {
    /// Whether the target's rows are touched: a first publication of an empty model only makes its table and moves its head.
    fn has_work(&self) -> bool {
        self.manifest.num_rows > 0 || self.load.full || !self.batches.is_empty()
    }
}

fn millis(stopwatch: &tidemill_project::clock::Stopwatch) -> u64 {
    u64::try_from(stopwatch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn applied(leg: &Leg<'_>, counts: ChangeCounts) -> Applied {
    Applied { position: leg.changes.next_position(), counts }
}

fn entry(leg: &Leg<'_>, head: &Head) -> LedgerEntry {
    let next = leg.changes.next_position();
    LedgerEntry {
        label: leg.load.names.label.clone(),
        seq: next.seq,
        table_id: next.table_id,
        from: leg.changes.from().map(|version| version.0),
        to: next.version.0,
        watermark: next
            .watermark_us
            .and_then(chrono::DateTime::from_timestamp_micros)
            .map(|time| time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
        content_hash: leg.changes.content_hash().to_owned(),
        files: leg.manifest.parts.len(),
        staged: leg.manifest.num_rows,
        epoch: head.epoch,
        ..LedgerEntry::default()
    }
}

/// Schemas, stage, ledger, heads and targets, each unless it is there.
pub(super) async fn set_up<'l>(
    client: &mut Client<'_>,
    database: &str,
    loads: impl Iterator<Item = &'l Load>,
) -> Result<()> {
    let statements = ddl::database(database).into_iter().chain(loads.flat_map(ddl::target));
    for statement in statements {
        client.run(&statement).await?;
    }
    Ok(())
}

async fn upload(client: &mut Client<'_>, leg: &mut Leg<'_>) -> Result<()> {
    let (changes, load) = (leg.changes, &leg.load);
    let mut stager = Stager::new(client, changes.publication(), load, leg.directory.clone());
    if load.strategy == Strategy::ReplaceBatches && !load.full {
        let partitions = changes.changed_partitions().await?;
        changes.visit_partitions(&partitions, &mut stager).await?;
        leg.batches = partitions.iter().map(|partition| batch_label(partition)).collect();
    } else {
        changes.visit(&mut stager).await?;
    }
    leg.manifest = stager.finish().await?;
    Ok(())
}

async fn take(client: &mut Client<'_>, leg: &Leg<'_>, owner: &str) -> Result<()> {
    let answer = client.run(&sql::take(&leg.load.names, owner)).await?;
    match answer.count("number of rows updated") {
        1 => Ok(()),
        0 => Err(SnowflakeError::NoHead { target: leg.load.names.table.clone() }.into()),
        several => {
            let detail = format!("a head has {several} rows, head=`{}`", leg.load.names.head());
            Err(SnowflakeError::Answer { step: "take", detail }.into())
        }
    }
}

fn heads_of<'h>(legs: &[Leg<'_>], heads: &'h [Head]) -> Result<Vec<&'h Head>> {
    let find = |leg: &Leg<'_>| {
        let head = heads.iter().find(|head| head.label == leg.load.names.label);
        head.ok_or_else(|| SnowflakeError::NoHead { target: leg.load.names.table.clone() }.into())
    };
    legs.iter().map(find).collect()
}

/// Step 4. A missing directory is a *success* for COPY, so every line of its answer is held against the manifest.
async fn copy(client: &mut Client<'_>, leg: &Leg<'_>, staging: &str) -> Result<()> {
    stage_rows(client, &leg.load, &leg.directory, &leg.manifest, staging).await
}

pub(super) async fn stage_rows(
    client: &mut Client<'_>,
    load: &Load,
    directory: &str,
    manifest: &Manifest,
    staging: &str,
) -> Result<()> {
    for statement in sql::create_staging(load, staging) {
        client.run(&statement).await?;
    }
    if manifest.parts.is_empty() {
        return Ok(());
    }
    let answer = client.run(&sql::copy(staging, directory)).await?;
    let (Some(files), Some(states), Some(rows)) =
        (answer.column("file"), answer.column("status"), answer.column("rows_loaded"))
    else {
        let detail = format!("it has the columns `{}`", answer.columns.join("`, `"));
        return Err(SnowflakeError::Answer { step: "copy", detail }.into());
    };
    for (part, num_rows) in &manifest.parts {
        let line = files.iter().position(|file| file.is_some_and(|file| file.rsplit('/').next() == Some(part)));
        let loaded =
            line.filter(|&line| states[line] == Some("LOADED")).and_then(|line| rows[line]?.parse::<u64>().ok());
        if loaded != Some(*num_rows) {
            let found = format!("{part}: {loaded:?}");
            return Err(SnowflakeError::Staged { target: load.names.table.clone(), sent: *num_rows, found }.into());
        }
    }
    Ok(())
}

async fn verify_staged(client: &mut Client<'_>, leg: &Leg<'_>, staging: &str) -> Result<()> {
    let answer = client.run(&sql::staged(&leg.load, staging)).await?;
    let found = (answer.cell(0, 0), answer.cell(0, 1));
    if found != (Some(leg.manifest.num_rows.to_string().as_str()), Some("0")) {
        let found = format!("{} rows, {} with a null key", found.0.unwrap_or("?"), found.1.unwrap_or("?"));
        return Err(SnowflakeError::Staged {
            target: leg.load.names.table.clone(),
            sent: leg.manifest.num_rows,
            found,
        }
        .into());
    }
    Ok(())
}

async fn prove(client: &mut Client<'_>, database: &str, leg: &Leg<'_>) -> Result<()> {
    let answer = client.run(&sql::proof(database, &leg.load.names.label, leg.load.seq)).await?;
    match answer.cell(0, 0) {
        Some("1") => Ok(()),
        found => {
            let detail = format!(
                "the ledger has `{}` rows for `{}`, seq=`{}`",
                found.unwrap_or("?"),
                leg.load.names.label,
                leg.load.seq
            );
            Err(SnowflakeError::Answer { step: "proof", detail }.into())
        }
    }
}

/// Step 11, best effort: the next run repairs all of it.
async fn clean(client: &mut Client<'_>, leg: &Leg<'_>, head: &Head, staging: &str) {
    let result = async {
        if !leg.manifest.parts.is_empty() {
            client.run(&sql::remove(&leg.load.names.directories(leg.load.seq))).await?;
        }
        client.run(&ddl::drop_staging(&leg.load.names, staging.rsplit('.').next().unwrap_or(staging))).await?;
        let known = client.run(&ddl::staging_tables(&leg.load.names)).await?;
        for table in known.rows.iter().filter_map(|row| row.first()?.as_deref()) {
            if epoch_of(table).is_some_and(|epoch| epoch < head.epoch) {
                client.run(&ddl::drop_staging(&leg.load.names, table)).await?;
            }
        }
        Ok::<_, SnowflakeError>(())
    }
    .await;
    if let Err(error) = result {
        tracing::info!(table = %leg.load.names.table, %error, "staged files or tables were left for the next publication to clear");
    }
}

/// The epoch in `<slug>__E<epoch>_<owner>`.
fn epoch_of(staging: &str) -> Option<u64> {
    let (_, tail) = staging.rsplit_once("__E")?;
    tail.split_once('_')?.0.parse().ok()
}
