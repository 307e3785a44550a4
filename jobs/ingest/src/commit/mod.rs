//! Brings batches into the lake, each event once.
//!
//! One [`Committer`] serves one raw table in one process. A batch goes through these steps; the table tells what a crash
//! after each leaves behind and why the next run is right all the same.
//!
//! | step | a crash after it leaves | the next run |
//! | --- | --- | --- |
//! | choose the rows that land (progress checked, copies dropped) | nothing | reads the batch again |
//! | write data files | files that no commit names | reads the batch again; vacuum deletes the files |
//! | commit the quarantine | entries of a batch that has not landed | reads the batch again; the quarantine's own `txn` keeps the entries from being doubled |
//! | commit rows, progress and books at the next version | a whole batch | goes on behind it |
//! | write group offsets to Kafka | stale group offsets | never reads them |
//!
//! When another process commits first, the step before last fails, the table moves over the winner's commits, and the batch
//! is judged anew from the first step: a partition whose progress is no longer what the batch was read from was taken over,
//! so all its records in the batch are thrown away and the source is told to read on from where the lake stands; rows whose
//! keys the winner landed are copies now. Data files of event partitions that come out the same are used again.

mod outcome;
mod parts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidemill_lake::metadata::{Act, FileBooks, OtherTotals, PartitionBooks};
use tidemill_lake::{CommitRequest, Lake, LogCommit, Table};
use tidemill_project::clock::{Clock, Micros};
use tidemill_project::{Offset, SourceName, TopicPartition, crash};

use crate::batch::{Batch, Origin, OriginKey};
use crate::books::{Standing, assert_balanced, file_app_id, kafka_app_id};
use crate::dedup::{Alive, Dedup, Landing};
use crate::error::Cause;
use crate::quarantine::store::QuarantineWriter;
use crate::request::{IngestObserver, SourceReport};
use crate::retry::{Retry, Tried, Tries};
use crate::source::{LakeOffset, LakeOffsets, Positioned, Slot};
use crate::{Error, Result};
use outcome::keep_books;
use parts::Written;

/// A table on which more races than this are lost in a row has a fault, not a competitor.
const MAX_RACES: u32 = 1_000;

/// So many commits leave so many small files in a partition that reading them in one piece pays.
const COMMITS_PER_COMPACTION: u64 = 64;
/// What one round of compaction may take from the machine that ingests.
const COMPACTION_BUDGET: Duration = Duration::from_secs(2);

/// What all commits of a run share.
#[derive(Clone)]
pub(crate) struct RunContext {
    pub(crate) run_id: String,
    pub(crate) clock: Clock,
    pub(crate) as_of_us: Option<Micros>,
    pub(crate) observer: Arc<dyn IngestObserver>,
    pub(crate) retry: Retry,
}

impl RunContext {
    /// The run's clock where the watermark is concerned.
    pub(crate) fn clock_us(&self) -> Micros {
        self.as_of_us.unwrap_or_else(|| self.clock.now_us())
    }
}

/// Why a batch's origin did not make it into the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in the lake.
    Landed,
    /// Others committed these offsets or records; the lake now says this.
    TakenOver { key: OriginKey, base: Option<i64> },
    /// It belongs to a span that was given up before.
    Stale,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Done {
    /// By origin.
    pub(crate) verdicts: Vec<Verdict>,
    /// The rows that landed.
    pub(crate) landing: Landing,
}

/// A span as the lake's side knows it.
#[derive(Debug)]
struct Span {
    partition: TopicPartition,
    /// What the table's `txn` must say for the span's next batch to be right.
    base: Option<i64>,
    /// The first batch of a log that begins anew carries the old log's offset.
    restarted_from: Option<i64>,
    is_dead: bool,
}

/// Commits batches to one raw table.
pub(crate) struct Committer {
    name: SourceName,
    run: RunContext,
    table: Table,
    quarantine: QuarantineWriter,
    dedup: Dedup,
    standing: Standing,
    /// Partitions that exist now, as far as this process knows: W is the least over them.
    partitions: BTreeSet<TopicPartition>,
    spans: HashMap<Slot, Span>,
    drained: BTreeMap<TopicPartition, (i64, Micros)>,
    report: SourceReport,
    /// Compaction that runs beside the commits.
    care: Option<tokio::task::JoinHandle<()>>,
}

/// One judgement of a batch against one table version.
struct Plan {
    /// By origin.
    is_alive: Vec<bool>,
    landing: Landing,
    books: Books,
}

/// What a commit's note says of the batch itself.
#[derive(Default)]
struct Books {
    partitions: Vec<PartitionBooks>,
    files: Vec<FileBooks>,
    files_max_event_at_us: Option<Micros>,
    replays: OtherTotals,
    event_at_us: Option<(Micros, Micros)>,
}

impl Committer {
    pub(crate) async fn new(
        name: SourceName,
        lake: &Lake,
        table: Table,
        run: RunContext,
        memory_budget_bytes: usize,
    ) -> Result<Self> {
        let standing = run.retry.insist(&name, "read the newest commit", || Standing::load(&table)).await?;
        let quarantine = QuarantineWriter::new(lake.clone(), run.clock.clone(), run.run_id.clone());
        Ok(Self {
            report: SourceReport::new(name.clone()),
            name,
            run,
            table,
            quarantine,
            dedup: Dedup::new(memory_budget_bytes),
            partitions: standing.partitions.keys().cloned().collect(),
            standing,
            spans: HashMap::new(),
            drained: BTreeMap::new(),
            care: None,
        })
    }

    pub(crate) fn report_mut(&mut self) -> &mut SourceReport {
        &mut self.report
    }

    /// What the run did, after care of the table has come to its end.
    pub(crate) async fn finish(mut self) -> SourceReport {
        if let Some(care) = self.care.take()
            && let Err(error) = care.await
        {
            tracing::warn!(source = %self.name, %error, "care of the table died");
        }
        self.report.version = self.table.version();
        self.report.watermark_us = self.standing.watermark_us;
        self.report
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.run.clock
    }

    /// The run's clock where events are judged by it.
    pub(crate) fn clock_us(&self) -> Micros {
        self.run.clock_us()
    }

    /// Replaces what is known of the partitions that exist.
    pub(crate) fn set_partitions(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.partitions = partitions.into_iter().collect();
    }

    /// Moves to the table's newest version and says where the lake stands.
    pub(crate) async fn lake_offsets(&mut self, partitions: &[TopicPartition]) -> Result<LakeOffsets> {
        self.refresh().await?;
        let offset = |of: &TopicPartition| LakeOffset {
            next: self.table.txn_version(&kafka_app_id(&self.name, of)).map(Offset),
            last: self.standing.partitions.get(of).and_then(|totals| totals.last.clone()),
        };
        Ok(partitions.iter().map(|of| (of.clone(), offset(of))).collect())
    }

    /// Moves to the table's newest version.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        let mut tries = Tries::default();
        let commits = loop {
            match self.table.refresh().await {
                Ok(commits) => break commits,
                Err(source) => self.run.retry.bear(&self.name, "refresh", source, &mut tries).await?,
            }
        };
        self.absorb(&commits).await
    }

    async fn absorb(&mut self, commits: &[LogCommit]) -> Result<()> {
        self.standing.absorb(commits);
        for commit in commits {
            if let Some(Act::Ingest(note)) = commit.note.as_ref().map(|note| &note.act) {
                let theirs = note.partitions.iter();
                self.partitions.extend(theirs.map(|of| TopicPartition::new(of.topic.clone(), of.partition)));
            }
        }
        // Keys that were added before a fault are added again: a set does not mind.
        let mut tries = Tries::default();
        while let Err(source) = self.dedup.absorb(&self.table, commits).await {
            self.run.retry.bear(&self.name, "read the winner's keys", source, &mut tries).await?;
        }
        Ok(())
    }

    /// A span begins.
    pub(crate) fn begin(&mut self, positioned: Positioned) {
        self.partitions.insert(positioned.partition.clone());
        let base = positioned.base.map(|base| base.0);
        let span = Span {
            partition: positioned.partition,
            base,
            restarted_from: base.filter(|_| positioned.restarted),
            is_dead: false,
        };
        self.spans.retain(|_, old| old.partition != span.partition);
        self.spans.insert(positioned.slot, span);
    }

    /// Spans end.
    pub(crate) fn end(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.spans.remove(slot);
        }
    }

    /// Brings a batch into the lake.
    pub(crate) async fn commit(&mut self, batch: Batch) -> Result<Done> {
        for (slot, next, at_us) in &batch.drained {
            if let Some(span) = self.spans.get(slot).filter(|span| !span.is_dead) {
                let at_us = self.run.as_of_us.unwrap_or(*at_us);
                self.drained.insert(span.partition.clone(), (next.0, at_us));
            }
        }
        let mut written: HashMap<usize, Written> = HashMap::new();
        for _ in 0..MAX_RACES {
            let plan = self.plan(&batch).await?;
            if !plan.is_alive.contains(&true) {
                let verdicts = self.judge(&batch, &plan.is_alive);
                return Ok(Done { verdicts, landing: plan.landing });
            }
            let add = self.write(&batch.decoded, &plan.landing, &mut written).await?;
            crash::point("ingest.after_parquet");
            let lots = self.lots(&batch, &plan.is_alive);
            self.quarantine.write(&self.name, &lots, &self.run.retry).await?;
            crash::point("ingest.after_quarantine_commit");
            let txns = self.txns(&batch.origins, &plan.is_alive);
            let (standing, note) = self.note(&plan.books, batch.decoded.topic_disagreements);
            let request = CommitRequest { add, remove: Vec::new(), txns, operation: "WRITE", data_change: true, note };
            crash::point("ingest.before_commit");
            let tried = self.run.retry.commit(&self.name, &mut self.table, request).await?;
            match tried {
                Tried::Won { version, others } => {
                    crash::point("ingest.after_commit");
                    self.standing = standing;
                    self.dedup.add(&batch.decoded, &plan.landing);
                    self.absorb(&others).await?;
                    let verdicts = self.judge(&batch, &plan.is_alive);
                    let landing = plan.landing.clone();
                    self.tell(&batch, plan, version);
                    self.care_for_table().await;
                    return Ok(Done { verdicts, landing });
                }
                Tried::Lost(commits) => self.absorb(&commits).await?,
            }
        }
        Err(Cause::Contended { source_name: self.name.clone(), attempts: MAX_RACES }.into())
    }

    /// Says which rows of a batch would land, and changes nothing.
    pub(crate) async fn preview(&mut self, batch: &Batch) -> Result<Landing> {
        Ok(self.plan(batch).await?.landing)
    }

    /// Commits W alone when it has moved far enough. Nothing is written for a source that never had an event.
    pub(crate) async fn commit_watermark(&mut self, is_last: bool) -> Result<()> {
        for _ in 0..MAX_RACES {
            let (standing, note) = self.note(&Books::default(), 0);
            if !standing.is_watermark_due(self.standing.watermark_us, is_last) {
                return Ok(());
            }
            let request = CommitRequest {
                add: Vec::new(),
                remove: Vec::new(),
                txns: BTreeMap::new(),
                operation: "WRITE",
                data_change: false,
                note,
            };
            match self.run.retry.commit(&self.name, &mut self.table, request).await? {
                Tried::Won { others, .. } => {
                    self.standing = standing;
                    self.report.commits += 1;
                    return self.absorb(&others).await;
                }
                Tried::Lost(commits) => self.absorb(&commits).await?,
            }
        }
        Err(Cause::Contended { source_name: self.name.clone(), attempts: MAX_RACES }.into())
    }

    /// What a process that is killed between the two commits leaves behind.
    #[cfg(test)]
    pub(crate) async fn commit_quarantine_only(&mut self, batch: &Batch) -> Result<()> {
        let plan = self.plan(batch).await?;
        let lots = self.lots(batch, &plan.is_alive);
        self.quarantine.write(&self.name, &lots, &self.run.retry).await
    }

    /// Judges a batch against the table as it is now.
    async fn plan(&mut self, batch: &Batch) -> Result<Plan> {
        let is_alive: Vec<bool> = batch.origins.iter().map(|origin| self.is_alive(origin)).collect();
        let alive = Alive { origins: &is_alive, origin_of: &batch.origin_of };
        let mut tries = Tries::default();
        let landing = loop {
            match self.dedup.choose(&self.table, &batch.decoded, alive).await {
                Ok(landing) => break landing,
                Err(source) => self.run.retry.bear(&self.name, "look for copies", source, &mut tries).await?,
            }
        };
        let books = keep_books(batch, &is_alive, &landing, &self.spans);
        assert_balanced(&self.name, &books.partitions, &books.files)?;
        Ok(Plan { is_alive, landing, books })
    }

    /// Whether the lake still stands where an origin was read from.
    fn is_alive(&self, origin: &Origin) -> bool {
        match &origin.key {
            OriginKey::Partition { slot, partition } => self.spans.get(slot).is_some_and(|span| {
                !span.is_dead && self.table.txn_version(&kafka_app_id(&self.name, partition)) == span.base
            }),
            OriginKey::File { content, base, .. } => self.table.txn_version(&file_app_id(&self.name, content)) == *base,
            OriginKey::Replay => true,
        }
    }

    /// Says what became of each origin, and moves the spans: forward where they landed, out of the way where not.
    fn judge(&mut self, batch: &Batch, is_alive: &[bool]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(is_alive.len());
        for (origin, is_alive) in batch.origins.iter().zip(is_alive) {
            let verdict = match &origin.key {
                OriginKey::Partition { slot, partition } => {
                    let now = self.table.txn_version(&kafka_app_id(&self.name, partition));
                    match self.spans.get_mut(slot) {
                        Some(span) if *is_alive => {
                            span.base = Some(origin.to);
                            span.restarted_from = None;
                            Verdict::Landed
                        }
                        Some(span) if !span.is_dead => {
                            span.is_dead = true;
                            Verdict::TakenOver { key: origin.key.clone(), base: now }
                        }
                        _ => Verdict::Stale,
                    }
                }
                _ if *is_alive => Verdict::Landed,
                key => {
                    let OriginKey::File { content, .. } = key else { continue };
                    let base = self.table.txn_version(&file_app_id(&self.name, content));
                    Verdict::TakenOver { key: key.clone(), base }
                }
            };
            verdicts.push(verdict);
        }
        verdicts
    }

    fn shape_error(&self, source: arrow::error::ArrowError) -> Error {
        Cause::Shape { source_name: self.name.clone(), source }.into()
    }
}
