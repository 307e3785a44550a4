//! One run: every source with its own reader, decoder and committer, side by side.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tidemill_lake::metadata::{Act, CommitNote};
use tidemill_lake::{CommitOutcome, Lake, Table, TableId, TableSpec};
use tidemill_project::SourceName;
use tidemill_project::clock::Clock;
use tidemill_project::config::{IngestSettings, Settings, StartOffsets};
use tidemill_project::contract::{Contract, PartitionBy};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::Result;
use crate::batch::{Batcher, Limits, OriginKey, Staged};
use crate::commit::{Committer, RunContext, Verdict};
use crate::deadline::Deadline;
use crate::decode::Decoder;
use crate::error::Cause;
use crate::registry::Schemas;
use crate::request::{IngestObserver, IngestReport, IngestRequest, Mode, SourceReport};
use crate::retry::Retry;
use crate::source::kafka::{self, KafkaPlan};
use crate::source::{Command, Event};

/// Chunks between reader and decoder: a few mebibytes, enough that neither waits for the other's hiccups.
const CHUNKS_IN_FLIGHT: usize = 4;
/// After a cancel the batch under way has this long; then it is dropped, which is always right.
const GRACE: Duration = Duration::from_secs(7);
/// How long a thread may take to leave the group when the run is to stop. Beyond it the process ends without it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Reads sources from Kafka into their raw tables.
///
/// Faults of one source do not stop the others; they stand in the report, which is why the call itself fails only where no
/// source could start. When `cancel` fires, batches under way are finished or dropped within 10 seconds and the report is
/// that of a run that did less.
///
/// # Errors
/// Of kind `Configuration` when the target has no broker.
pub async fn ingest(
    settings: &Settings,
    lake: &Lake,
    request: IngestRequest,
    observer: Arc<dyn IngestObserver>,
    cancel: CancellationToken,
) -> Result<IngestReport> {
    let Some(kafka) = &settings.kafka else {
        return match request.contracts.first() {
            Some(contract) => Err(Cause::NoBroker { source_name: contract.name.clone() }.into()),
            None => Ok(IngestReport::default()),
        };
    };
    let contracts: Vec<&Contract> = request.contracts.iter().filter(|contract| contract.enabled).collect();
    let share = settings.ingest.memory_budget_bytes / contracts.len().max(1);
    let deadline = Deadline::new(lake.clock(), request.max_duration);
    let sources = contracts.into_iter().map(|contract| {
        let clock = lake.clock().clone();
        let plan = KafkaPlan {
            name: contract.name.clone(),
            client: kafka::client_config(kafka, share),
            topics: contract.topics.clone(),
            mode: request.mode,
            start: settings.ingest.start.clone(),
            on_gap: settings.ingest.on_gap,
            max_records: request.max_records,
            deadline,
            cancel: cancel.clone(),
            clock: clock.clone(),
        };
        let run = RunContext {
            run_id: request.run_id.clone(),
            clock: clock.clone(),
            as_of_us: request.as_of_us,
            observer: Arc::clone(&observer),
            retry: Retry { clock, cancel: cancel.clone(), deadline },
        };
        read_source(lake, contract, plan, run, settings, share)
    });
    let sources = join_all(sources).await;
    for source in &sources {
        observer.source_finished(source);
    }
    Ok(IngestReport { sources })
}

/// Reads files into the raw table of one contract.
///
/// Files are told apart by their content: progress is kept by its hash, so a run that was killed resumes inside a file and
/// the same content twice adds nothing, under whatever name. A line or row that cannot be read goes to quarantine.
///
/// # Errors
/// When the table cannot be opened. A file that cannot be read stands in the report and does not stop the others.
pub async fn ingest_files(
    settings: &Settings,
    lake: &Lake,
    contract: &Contract,
    files: Vec<PathBuf>,
    run_id: String,
    observer: Arc<dyn IngestObserver>,
    cancel: CancellationToken,
) -> Result<IngestReport> {
    let clock = lake.clock().clone();
    let deadline = Deadline::new(&clock, None);
    let retry = Retry { clock: clock.clone(), cancel: cancel.clone(), deadline };
    let run = RunContext { run_id, clock, as_of_us: None, observer: Arc::clone(&observer), retry };
    let opening = open_committer(lake, contract, run, settings.ingest.memory_budget_bytes / 2);
    let Some(mut committer) = Box::pin(begin(&contract.name, lake.clock(), deadline, &cancel, opening)).await? else {
        return Ok(IngestReport { sources: vec![SourceReport::new(contract.name.clone())] });
    };
    let limits = limits_of(&settings.ingest, settings.ingest.memory_budget_bytes);
    for path in files {
        if cancel.is_cancelled() {
            break;
        }
        let reading = crate::source::files::ingest_file(&mut committer, contract, &path, limits, &cancel);
        if let Err(error) = Box::pin(reading).await {
            warn!(source = %contract.name, path = %path.display(), %error, "file is not readable");
            committer.report_mut().errors.push(error);
        }
    }
    if committer.report_mut().errors.is_empty() {
        committer.commit_watermark(true).await?;
    }
    let report = committer.finish().await;
    observer.source_finished(&report);
    Ok(IngestReport { sources: vec![report] })
}

/// The raw table of a contract: what it is created as.
///
/// # Errors
/// When the contract cannot be compiled.
pub fn raw_table_spec(contract: &Contract) -> Result<TableSpec> {
    let decoder =
        Decoder::new(contract).map_err(|source| Cause::Contract { source_name: contract.name.clone(), source })?;
    let partition_columns = match contract.partition_by {
        PartitionBy::Day => vec!["event_date".to_owned()],
        PartitionBy::Hour => vec!["event_date".to_owned(), "event_hour".to_owned()],
    };
    Ok(TableSpec {
        id: TableId::Raw(contract.name.clone()),
        schema: decoder.schema(),
        partition_columns,
        bloom_columns: vec!["_key".to_owned()],
        description: contract.description.clone(),
    })
}

/// Opens a contract's raw table with all that is needed to commit to it.
pub(crate) async fn open_committer(
    lake: &Lake,
    contract: &Contract,
    run: RunContext,
    dedup_budget_bytes: usize,
) -> Result<Committer> {
    let spec = raw_table_spec(contract)?;
    let table = open_raw(lake, &contract.name, &spec, &run).await?;
    Committer::new(contract.name.clone(), lake, table, run, dedup_budget_bytes).await
}

/// Opens the raw table, creates it, or gives it the columns that its contract has learnt since.
async fn open_raw(lake: &Lake, name: &SourceName, spec: &TableSpec, run: &RunContext) -> Result<Table> {
    let open = || lake.open(&spec.id);
    if let Some(mut table) = run.retry.insist(name, "open the raw table", open).await? {
        loop {
            let known = table.schema();
            let is_new = |field: &&Arc<arrow::datatypes::Field>| known.field_with_name(field.name()).is_err();
            let new: Vec<_> = spec.schema.fields().iter().filter(is_new).map(|field| field.as_ref().clone()).collect();
            if new.is_empty() {
                break;
            }
            let note = CommitNote { commit_id: run.clock.new_id(), run_id: run.run_id.clone(), act: Act::Create };
            let added = table.add_columns(new, note).await;
            match added.map_err(|source| Cause::Lake { act: "add columns", source_name: name.clone(), source })? {
                CommitOutcome::Committed(_) | CommitOutcome::Lost(_) => {}
            }
        }
    }
    run.retry.insist(name, "open the raw table", || lake.open_or_create(spec, &run.run_id)).await
}

pub(crate) fn limits_of(settings: &IngestSettings, budget_bytes: usize) -> Limits {
    Limits {
        rows: settings.max_batch_rows.max(1),
        // Three batches may be under way, each as bytes and as columns; the fingerprints have the other half.
        bytes: settings.max_batch_bytes.min(budget_bytes / 4).max(1),
        age: settings.max_batch_age,
    }
}

/// Waits for something that a run cannot begin without: not beyond the run's end, and not when it is to stop, which is the
/// answer `None`.
async fn begin<T>(
    name: &SourceName,
    clock: &Clock,
    deadline: Deadline,
    cancel: &CancellationToken,
    opening: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    tokio::select! {
        biased;
        opened = opening => match opened {
            // An opening that was cut short ends with what it was waiting for.
            Err(_) if cancel.is_cancelled() => Ok(None),
            opened => opened.map(Some),
        },
        () = cancel.cancelled() => Ok(None),
        () = deadline.passed(clock) => Err(deadline.missed(name).into()),
    }
}

/// Runs one source to its end. Whatever goes wrong stands in the report.
async fn read_source(
    lake: &Lake,
    contract: &Contract,
    plan: KafkaPlan,
    run: RunContext,
    settings: &Settings,
    budget_bytes: usize,
) -> SourceReport {
    let (deadline, cancel) = (plan.deadline, plan.cancel.clone());
    let opening = Lanes::start(lake, contract, plan, run, settings, budget_bytes);
    match Box::pin(begin(&contract.name, lake.clock(), deadline, &cancel, opening)).await {
        Ok(Some(lanes)) => lanes.run().await,
        Ok(None) => SourceReport::new(contract.name.clone()),
        Err(error) => {
            let mut report = SourceReport::new(contract.name.clone());
            report.errors.push(error);
            report
        }
    }
}

/// A thread of the pipeline. Not one of the runtime's blocking pool, which the end of the process would wait for however
/// long a dead broker keeps librdkafka from leaving its group.
struct Thread {
    name: String,
    handle: std::thread::JoinHandle<()>,
    /// Closes when the thread has come to its end.
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Thread {
    fn start(name: &SourceName, stage: &'static str, work: impl FnOnce() + Send + 'static) -> Result<Self> {
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread_name = format!("{stage} {name}");
        let handle = std::thread::Builder::new()
            .name(thread_name.clone())
            .spawn(move || {
                work();
                drop(end);
            })
            .map_err(|source| Cause::Thread { source_name: name.clone(), stage, source })?;
        Ok(Self { name: thread_name, handle, ended })
    }

    /// Waits for the end; when the run is to stop, not for long.
    async fn join(self, clock: &Clock, cancel: &CancellationToken) {
        let leave = async {
            cancel.cancelled().await;
            clock.sleep(FAREWELL).await;
        };
        tokio::select! {
            // The sender is never used, only dropped, so an end by panic is an end as well.
            _ = self.ended => {
                if self.handle.join().is_err() {
                    error!(thread = self.name, "thread of ingest died");
                }
            }
            () = leave => warn!(thread = self.name, "broker did not let go in time"),
        }
    }
}

/// A source's threads and their ends.
struct Lanes {
    name: SourceName,
    mode: Mode,
    committer: Committer,
    staged: mpsc::Receiver<Staged>,
    commands: std::sync::mpsc::Sender<Command>,
    threads: Vec<Thread>,
    observer: Arc<dyn IngestObserver>,
    clock: Clock,
    cancel: CancellationToken,
}

impl Lanes {
    async fn start(
        lake: &Lake,
        contract: &Contract,
        plan: KafkaPlan,
        run: RunContext,
        settings: &Settings,
        budget_bytes: usize,
    ) -> Result<Self> {
        let schemas = Schemas::new(settings, contract, run.retry.clone())?;
        let (mode, cancel) = (plan.mode, plan.cancel.clone());
        let (observer, clock) = (Arc::clone(&run.observer), run.clock.clone());
        let committer = open_committer(lake, contract, run, budget_bytes / 2).await?;
        let pins = plan.start != StartOffsets::Earliest;
        let limits = limits_of(&settings.ingest, budget_bytes);
        let batcher = Batcher::new(contract, limits, clock.clone(), pins, schemas)?;
        let (event_sender, events) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let (staged_sender, staged) = mpsc::channel(1);
        let (commands, command_receiver) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Handle::current();
        let reader = {
            let runtime = runtime.clone();
            Thread::start(&contract.name, "kafka", move || {
                kafka::run(plan, event_sender, command_receiver, runtime);
            })?
        };
        let decoder = Thread::start(&contract.name, "decode", move || batcher.run(events, &staged_sender, &runtime))?;
        let threads = vec![reader, decoder];
        Ok(Self { name: contract.name.clone(), mode, committer, staged, commands, threads, observer, clock, cancel })
    }

    async fn run(mut self) -> SourceReport {
        let grace = {
            let (cancel, clock) = (self.cancel.clone(), self.clock.clone());
            async move {
                cancel.cancelled().await;
                clock.sleep(GRACE).await;
            }
        };
        let result = tokio::select! {
            result = self.serve() => result,
            () = grace => {
                warn!(source = %self.name, "stopped before the last batch was committed; the next run reads it again");
                Ok(())
            }
        };
        if let Err(error) = result {
            if self.cancel.is_cancelled() {
                // A cancelled run drops its batch, whatever the reason; the next run reads it again.
                warn!(source = %self.name, %error, "batch dropped while stopping");
            } else {
                error!(source = %self.name, %error, "source ended");
                self.committer.report_mut().errors.push(error);
            }
        }
        let Self { committer, staged, commands, threads, clock, cancel, .. } = self;
        // Both threads end when their channels close; the reader then leaves the group.
        drop((staged, commands));
        for thread in threads {
            thread.join(&clock, &cancel).await;
        }
        committer.finish().await
    }

    async fn serve(&mut self) -> Result<()> {
        while let Some(staged) = self.staged.recv().await {
            match staged {
                Staged::Batch(batch) => {
                    let offsets = batch.origins.iter().map(|origin| (origin.key.clone(), origin.to)).collect();
                    let has_progress = !batch.origins.is_empty();
                    let done = Box::pin(self.committer.commit(*batch)).await?;
                    self.pass_on(done.verdicts, offsets);
                    if !has_progress && self.mode == Mode::Follow {
                        self.committer.commit_watermark(false).await?;
                    }
                }
                Staged::Event(event) => {
                    let Event::Ended { result } = *event else {
                        self.handle(*event).await?;
                        continue;
                    };
                    result?;
                    if self.mode == Mode::Drain && !self.cancel.is_cancelled() {
                        self.committer.commit_watermark(true).await?;
                    }
                    // Nobody to tell it to: then the reader has gone already.
                    let _ = self.commands.send(Command::Close);
                    return Ok(());
                }
            }
        }
        Err(Cause::StageGone { source_name: self.name.clone(), stage: "decode" }.into())
    }

    /// Tells the reader what the lake made of a batch.
    fn pass_on(&self, verdicts: Vec<Verdict>, offsets: Vec<(OriginKey, i64)>) {
        let mut landed = std::collections::HashMap::new();
        for (verdict, (key, to)) in verdicts.into_iter().zip(offsets) {
            match (verdict, key) {
                (Verdict::Landed, OriginKey::Partition { partition, .. }) => {
                    landed.insert(partition, tidemill_project::Offset(to));
                }
                (Verdict::TakenOver { key: OriginKey::Partition { slot, partition }, base }, _) => {
                    let base = tidemill_project::Offset(base.unwrap_or_default());
                    warn!(source = %self.name, %partition, lake_offset = %base, "partition was taken over, batch thrown away");
                    let _ = self.commands.send(Command::Reposition { slot, base });
                }
                _ => {}
            }
        }
        if !landed.is_empty() {
            tidemill_project::crash::point("ingest.before_offset_commit");
            let _ = self.commands.send(Command::CommitOffsets { offsets: landed });
        }
    }

    async fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Assigned { partitions, reply } => {
                let offsets = self.committer.lake_offsets(&partitions).await?;
                // Nobody waits any more: then the reader has gone.
                let _ = reply.send(offsets);
            }
            Event::Positioned(positioned) => self.committer.begin(positioned),
            Event::Revoked { slots, done } => {
                self.committer.end(&slots);
                let _ = done.send(());
            }
            Event::Stopped { error } => {
                self.observer.partition_stopped(&self.name, &error);
                self.committer.report_mut().errors.push(error);
            }
            Event::Warned { warning } => {
                warn!(source = %self.name, "{warning}");
                self.observer.warned(&self.name, &warning);
                self.committer.report_mut().warnings.push(warning);
            }
            Event::Partitions { ends } => {
                let partitions: Vec<_> = ends.iter().map(|(partition, ..)| partition.clone()).collect();
                let lake = self.committer.lake_offsets(&partitions).await?;
                let backlog = ends.iter().map(|(partition, low, high)| {
                    let next = lake.get(partition).and_then(|of| of.next).map_or(low.0, |next| next.0.max(low.0));
                    u64::try_from(high.0 - next).unwrap_or_default()
                });
                self.observer.source_started(&self.name, Some(backlog.sum()));
                self.committer.set_partitions(partitions);
            }
            // Records, ends of partitions and the end itself become part of batches before they get here.
            Event::Chunk(_) | Event::Advanced { .. } | Event::Drained { .. } | Event::Ended { .. } => {}
        }
        Ok(())
    }
}
