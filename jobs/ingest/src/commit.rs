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

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use tidemill_lake::metadata::{Act, CommitNote, FileBooks, IngestNote, OtherTotals, PartitionBooks};
use tidemill_lake::{CommitRequest, DataFile, Lake, LogCommit, PartitionedBatch, Table};
use tidemill_project::clock::{Clock, Micros};
use tidemill_project::{Offset, SourceName, TableVersion, TopicPartition, crash};

use crate::batch::{Batch, Origin, OriginKey, Refused};
use crate::books::{Standing, assert_balanced, file_app_id, kafka_app_id, sum_files};
use crate::decode::Decoded;
use crate::dedup::{Dedup, Landing};
use crate::error::Cause;
use crate::quarantine::store::{Entry, Lot, Place, QuarantineWriter};
use crate::request::{BatchSummary, IngestObserver, SourceReport};
use crate::retry::{Retry, Tried};
use crate::source::{Positioned, Slot};
use crate::{Error, Result};

/// A table on which more races than this are lost in a row has a fault, not a competitor.
const MAX_RACES: u32 = 1_000;

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

/// Data files of one event partition, kept for another try.
struct Written {
    rows: Vec<u32>,
    files: Vec<DataFile>,
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
        })
    }

    pub(crate) fn report_mut(&mut self) -> &mut SourceReport {
        &mut self.report
    }

    /// What the run did.
    pub(crate) fn into_report(mut self) -> SourceReport {
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
    pub(crate) async fn lake_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, Option<Offset>>> {
        self.refresh().await?;
        let offset = |of: &TopicPartition| self.table.txn_version(&kafka_app_id(&self.name, of)).map(Offset);
        Ok(partitions.iter().map(|of| (of.clone(), offset(of))).collect())
    }

    /// Moves to the table's newest version.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        let mut tries = 0;
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
        self.dedup.absorb(&self.table, commits).await.map_err(|source| self.lake_error("read the winner's keys", source))?;
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
            let request =
                CommitRequest { add, remove: Vec::new(), txns, operation: "WRITE", data_change: true, note };
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

    /// Judges a batch against the table as it is now.
    async fn plan(&mut self, batch: &Batch) -> Result<Plan> {
        let is_alive: Vec<bool> = batch.origins.iter().map(|origin| self.is_alive(origin)).collect();
        let origin_of = |record: usize| batch.origin_of[record] as usize;
        let landing = self
            .dedup
            .choose(&self.table, &batch.decoded, |record| is_alive[origin_of(record)])
            .await
            .map_err(|source| self.lake_error("look for copies", source))?;
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
            OriginKey::File { content, base, .. } => {
                self.table.txn_version(&file_app_id(&self.name, content)) == *base
            }
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

    /// Writes the landing rows, one file or more per event partition, and reuses what an earlier try has written.
    async fn write(
        &mut self,
        decoded: &Decoded,
        landing: &Landing,
        written: &mut HashMap<usize, Written>,
    ) -> Result<Vec<DataFile>> {
        let now_us = self.run.clock.now_us();
        let mut fresh = Vec::new();
        for (number, rows) in landing.rows.iter().enumerate() {
            if rows.is_empty() || written.get(&number).is_some_and(|known| known.rows == *rows) {
                continue;
            }
            let batch = select(&decoded.batch, rows).map_err(|source| self.shape_error(source))?;
            let batch = Decoded::stamp(&batch, now_us)
                .map_err(|source| Cause::Contract { source_name: self.name.clone(), source })?;
            let partition_values = decoded.partitions[number].values();
            fresh.push((number, PartitionedBatch { partition_values, batches: vec![batch], tags: BTreeMap::new() }));
        }
        if !fresh.is_empty() {
            let batches: Vec<PartitionedBatch> = fresh.iter().map(|(_, batch)| batch.clone()).collect();
            let write = || self.table.write_files(batches.clone());
            let files = self.run.retry.insist(&self.name, "write data files", write).await?;
            for (number, batch) in fresh {
                let of_partition = |file: &&DataFile| file.partition_values == batch.partition_values;
                let files = files.iter().filter(of_partition).cloned().collect();
                written.insert(number, Written { rows: landing.rows[number].clone(), files });
            }
        }
        let landing_partitions = landing.rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        Ok(landing_partitions.filter_map(|(number, _)| written.get(&number)).flat_map(|known| known.files.clone()).collect())
    }

    /// The batch's bad records, by origin. Those of a replay are in quarantine already.
    fn lots(&self, batch: &Batch, is_alive: &[bool]) -> Vec<Lot> {
        let quarantined_at_us = self.run.clock.now_us();
        let mut lots = Vec::new();
        for (number, origin) in batch.origins.iter().enumerate().filter(|(number, _)| is_alive[*number]) {
            let (app_id, restarted) = match &origin.key {
                OriginKey::Partition { slot, partition } => {
                    let restarted = self.spans.get(slot).is_some_and(|span| span.restarted_from.is_some());
                    (kafka_app_id(&self.name, partition), restarted)
                }
                OriginKey::File { content, .. } => (file_app_id(&self.name, content), false),
                OriginKey::Replay => continue,
            };
            let ours = batch.refused.iter().filter(|refused| refused.origin as usize == number);
            let entries = ours.map(|refused| self.entry(refused, &origin.key, quarantined_at_us)).collect();
            lots.push(Lot { app_id, from: origin.from, to: origin.to, restarted, entries });
        }
        lots
    }

    fn entry(&self, refused: &Refused, key: &OriginKey, quarantined_at_us: Micros) -> Entry {
        let number = refused.record.offset;
        let place = match key {
            OriginKey::Partition { partition, .. } => {
                Place::Kafka { topic: partition.topic.0.clone(), partition: partition.partition, offset: number }
            }
            OriginKey::File { path, content, .. } => {
                Place::File { path: path.clone(), content: content.clone(), record: number }
            }
            OriginKey::Replay => Place::File { path: String::new(), content: String::new(), record: number },
        };
        Entry {
            source: self.name.to_string(),
            place,
            class: refused.rejection.class.as_str().to_owned(),
            message: refused.rejection.message.clone(),
            payload: refused.record.value.clone(),
            key: refused.record.key.clone(),
            headers: refused.record.headers.clone(),
            timestamp_us: refused.record.timestamp_us,
            quarantined_at_us,
        }
    }

    fn txns(&self, origins: &[Origin], is_alive: &[bool]) -> BTreeMap<String, i64> {
        let alive = origins.iter().zip(is_alive).filter(|(_, is_alive)| **is_alive);
        alive
            .filter_map(|(origin, _)| match &origin.key {
                OriginKey::Partition { partition, .. } => Some((kafka_app_id(&self.name, partition), origin.to)),
                OriginKey::File { content, .. } => Some((file_app_id(&self.name, content), origin.to)),
                OriginKey::Replay => None,
            })
            .collect()
    }

    /// The standing after a commit with these books, and the note that says so.
    fn note(&self, books: &Books, topic_disagreements: usize) -> (Standing, CommitNote) {
        let mut standing = self.standing.clone();
        standing.add(&books.partitions, sum_files(&books.files, books.files_max_event_at_us), books.replays);
        for (partition, (next, at_us)) in &self.drained {
            standing.drain(partition, *next, *at_us);
        }
        standing.advance_watermark(&self.partitions, self.run.clock_us());
        let mut warnings = BTreeMap::new();
        if topic_disagreements > 0 {
            warnings.insert("topic_disagreements".to_owned(), topic_disagreements as u64);
        }
        let act = Act::Ingest(IngestNote {
            source: self.name.to_string(),
            partitions: books.partitions.clone(),
            files: books.files.clone(),
            watermark_us: standing.watermark_us,
            warnings,
            totals: standing.totals(),
            file_totals: standing.files,
            replay_totals: standing.replays,
        });
        let note = CommitNote { commit_id: self.run.clock.new_id(), run_id: self.run.run_id.clone(), act };
        (standing, note)
    }

    /// Tells the log, the observer and the report.
    fn tell(&mut self, batch: &Batch, plan: Plan, version: TableVersion) {
        let mut quarantined: BTreeMap<&'static str, u64> = BTreeMap::new();
        for refused in batch.refused.iter().filter(|refused| plan.is_alive[refused.origin as usize]) {
            *quarantined.entry(refused.rejection.class.as_str()).or_default() += 1;
        }
        for (class, count) in &quarantined {
            *self.report.quarantined.entry(class).or_default() += count;
        }
        self.report.commits += 1;
        self.report.watermark_us = self.standing.watermark_us;
        for books in &plan.books.partitions {
            merge_partition(&mut self.report.partitions, books);
        }
        for books in &plan.books.files {
            merge_file(&mut self.report.files, books);
        }
        let summary = BatchSummary {
            source: self.name.clone(),
            version,
            partitions: plan.books.partitions,
            files: plan.books.files,
            quarantined,
            bytes: batch.num_bytes as u64,
            elapsed: batch.opened.elapsed(),
            event_at_us: plan.books.event_at_us,
            watermark_us: self.standing.watermark_us,
        };
        tracing::info!(
            source = %self.name,
            %version,
            landed = plan.landing.iter().count(),
            records = batch.origin_of.len(),
            quarantined = summary.quarantined.values().sum::<u64>(),
            elapsed_ms = u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
            "batch committed"
        );
        self.run.observer.batch_committed(&summary);
    }

    fn lake_error(&self, act: &'static str, source: tidemill_lake::Error) -> Error {
        Cause::Lake { act, source_name: self.name.clone(), source }.into()
    }

    fn shape_error(&self, source: arrow::error::ArrowError) -> Error {
        Cause::Shape { source_name: self.name.clone(), source }.into()
    }
}

/// Some rows of a batch; the batch itself when it is all of them.
fn select(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch, arrow::error::ArrowError> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    take_record_batch(batch, &UInt32Array::from(rows.to_vec()))
}

/// Counts the outcomes of every origin that is alive.
fn keep_books(batch: &Batch, is_alive: &[bool], landing: &Landing, spans: &HashMap<Slot, Span>) -> Books {
    #[derive(Clone, Default)]
    struct Count {
        rows: u64,
        landed: u64,
        late: u64,
        refused: u64,
        max_event_at_us: Option<Micros>,
    }
    let mut counts = vec![Count::default(); batch.origins.len()];
    let lands: HashSet<u32> = landing.iter().collect();
    let mut books = Books::default();
    for (number, row) in batch.decoded.rows.iter().enumerate() {
        let count = &mut counts[batch.origin_of[row.record] as usize];
        count.rows += 1;
        if u32::try_from(number).is_ok_and(|number| lands.contains(&number)) {
            count.landed += 1;
            count.late += u64::from(row.is_late);
            count.max_event_at_us = count.max_event_at_us.max(Some(row.event_at_us));
            let (least, greatest) = books.event_at_us.unwrap_or((row.event_at_us, row.event_at_us));
            books.event_at_us = Some((least.min(row.event_at_us), greatest.max(row.event_at_us)));
        }
    }
    for refused in &batch.refused {
        counts[refused.origin as usize].refused += 1;
    }
    let alive = batch.origins.iter().zip(counts).zip(is_alive).filter(|(_, is_alive)| **is_alive);
    for ((origin, count), _) in alive {
        // Rows that did not land are copies; that every record became a row or was refused is what the identity proves.
        let duplicates = count.rows - count.landed;
        match &origin.key {
            OriginKey::Partition { slot, partition } => books.partitions.push(PartitionBooks {
                topic: partition.topic.0.clone(),
                partition: partition.partition,
                from: origin.from,
                to: origin.to,
                landed: count.landed,
                duplicates,
                quarantined: count.refused,
                tombstones: origin.tombstones,
                skipped: origin.skipped,
                gap: origin.gap,
                restarted_from: spans.get(slot).and_then(|span| span.restarted_from),
                late: count.late,
                max_event_at_us: count.max_event_at_us,
                drained_at_us: None,
            }),
            OriginKey::File { path, content, is_complete, .. } => {
                books.files_max_event_at_us = books.files_max_event_at_us.max(count.max_event_at_us);
                books.files.push(FileBooks {
                    path: path.clone(),
                    content: content.clone(),
                    from: origin.from,
                    to: origin.to,
                    complete: *is_complete,
                    landed: count.landed,
                    duplicates,
                    quarantined: count.refused,
                });
            }
            OriginKey::Replay => {
                // A record that is refused again stays where it is: it is neither taken in nor counted twice.
                books.replays.records += count.rows;
                books.replays.landed += count.landed;
                books.replays.duplicates += duplicates;
                books.replays.max_event_at_us = books.replays.max_event_at_us.max(count.max_event_at_us);
            }
        }
    }
    books.partitions.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    books
}

fn merge_partition(all: &mut Vec<PartitionBooks>, books: &PartitionBooks) {
    let at = all.binary_search_by(|known| (&known.topic, known.partition).cmp(&(&books.topic, books.partition)));
    match at {
        Err(at) => all.insert(at, books.clone()),
        Ok(at) => {
            let known = &mut all[at];
            known.to = books.to;
            known.landed += books.landed;
            known.duplicates += books.duplicates;
            known.quarantined += books.quarantined;
            known.tombstones += books.tombstones;
            known.skipped += books.skipped;
            known.gap += books.gap;
            known.late += books.late;
            known.max_event_at_us = known.max_event_at_us.max(books.max_event_at_us);
        }
    }
}

fn merge_file(all: &mut Vec<FileBooks>, books: &FileBooks) {
    match all.iter_mut().find(|known| known.content == books.content) {
        None => all.push(books.clone()),
        Some(known) => {
            known.to = books.to;
            known.complete = books.complete;
            known.landed += books.landed;
            known.duplicates += books.duplicates;
            known.quarantined += books.quarantined;
        }
    }
}
