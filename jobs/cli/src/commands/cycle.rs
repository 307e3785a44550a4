//! `tidemill run`: ingest, build, publish; once or again and again.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tidemill_ingest::{IngestRequest, Mode, NoObserver};
use tidemill_project::contract::Contract;
use tidemill_publish::PublishRequest;
use tidemill_transform::Runner;
use tidemill_transform::graph::Selection;
use tidemill_transform::plan::PlanOptions;
use tidemill_transform::project::NodeId;
use tidemill_transform::run::{BuildOptions, Kinds};
use tokio_util::sync::CancellationToken;

use super::build::{outcome_of, plan_text, runner, selection, summary};
use super::context::Context;
use super::ingest::{offsets_ahead, offsets_text};
use super::meter::{Exposition, Meter};
use super::progress::BuildLines;
use super::publish::publications;
use super::readers::{Arrived, Readers};
use super::tell::Teller;
use crate::args::{Format, GlobalArgs, RunArgs};
use crate::exit::Exit;
use crate::printer::{Printer, thousands};
use crate::{report, signals};

/// Cycles that come at least this often leave the reading to consumers that stay. Rarer ones read by themselves: their data
/// may be older anyway, and they make few large commits instead of one per batch age.
const FOLLOW_UP_TO: Duration = Duration::from_secs(10);

/// How long a cycle that would find nothing new waits for news before it looks whether time alone has made something due.
const IDLE: Duration = Duration::from_millis(500);

/// Runs cycles until they are done, or until a signal comes.
pub(crate) async fn run(global: &GlobalArgs, args: RunArgs, printer: Printer) -> anyhow::Result<Exit> {
    let context = Context::load(global)?;
    let cancel = signals::cancel_on_signal()?;
    let selection = selection(args.selection);
    let cycle = Cycle::new(&context, selection)?;
    if args.dry_run {
        return preview(&context, &cycle, printer, &cancel).await;
    }
    let contracts = Some(cycle.contracts.clone());
    let exposition = Exposition::start(&args.metrics, &cycle.meter, &context, contracts, printer).await?;
    let outcome = match args.every {
        None => Box::pin(cycle.run(&context, &context.run_id, printer, &cancel)).await.map(|summary| summary.exit),
        Some(every) => {
            let teller = Teller::new(&cycle.runner, &args.tell)?;
            let (readers, outcome) = Box::pin(repeat(&context, &cycle, every, teller, printer, &cancel)).await;
            // Readers that still follow end before the process does.
            cancel.cancel();
            if let Some(readers) = readers {
                readers.join().await;
            }
            outcome
        }
    };
    exposition.finish(&context, matches!(outcome, Ok(Exit::Done))).await?;
    outcome
}

/// Says what a cycle would read, build and send now. What is read now is not yet counted in what would be built of it.
async fn preview(
    context: &Context,
    cycle: &Cycle,
    printer: Printer,
    cancel: &CancellationToken,
) -> anyhow::Result<Exit> {
    let mut sources = Vec::new();
    if cycle.reads(context) {
        sources = offsets_ahead(context, &cycle.contracts, printer).await?;
    }
    let options = PlanOptions { as_of_us: context.as_of_us, ..PlanOptions::default() };
    let plan = cycle.runner.plan(&cycle.selection, &options).await?;
    let request = PublishRequest {
        publications: publications(&cycle.runner, &cycle.selection)?,
        run_id: context.run_id.clone(),
        full: false,
        dry_run: true,
    };
    let silent = tidemill_publish::Silent;
    let sent = tidemill_publish::publish(&context.settings, &context.lake, request, &silent, cancel).await?;
    let text = [offsets_text(&sources), plan_text(&plan), super::publish::text(&sent)].join("\n");
    printer.result(&json!({ "dry_run": true, "sources": sources, "plan": plan, "report": sent }), &text);
    Ok(Exit::Done)
}

/// Runs cycle after cycle until one of them cannot be repeated, or a signal comes.
async fn repeat(
    context: &Context,
    cycle: &Cycle,
    every: Duration,
    mut teller: Teller,
    printer: Printer,
    cancel: &CancellationToken,
) -> (Option<Readers>, anyhow::Result<Exit>) {
    let follows = every <= FOLLOW_UP_TO && cycle.reads(context);
    let mut readers: Option<Readers> = None;
    let mut number = 0_u64;
    while !cancel.is_cancelled() {
        number += 1;
        let watch = context.clock.stopwatch();
        let run_id = format!("{}/{number}", context.run_id);
        let done = match &mut readers {
            Some(readers) => Box::pin(cycle.run_beside(readers, context, &run_id, printer, cancel)).await,
            None => Box::pin(cycle.run(context, &run_id, printer, cancel)).await,
        };
        match done {
            Ok(Summary { exit: Exit::Done, .. }) => {
                if let Err(error) = teller.tell(&cycle.runner, context, printer).await {
                    // A row that cannot be told is no reason to stop the work.
                    printer.error(&error);
                }
            }
            // A later cycle may do better; what cannot ends the command.
            Ok(Summary { exit: Exit::Retry, .. }) => printer.note("cycle failed for now; the next one tries again"),
            Ok(Summary { exit, .. }) => return (readers, Ok(exit)),
            Err(error) if report::exit_of(&error) == Exit::Retry => printer.error(&error),
            Err(error) => return (readers, Err(error)),
        }
        // The first cycle drains what stood in the topics; only then somebody waits for the newest events.
        if follows && readers.is_none() && !cancel.is_cancelled() {
            readers = Some(Readers::start(context, &cycle.contracts, &cycle.meter, cancel));
        }
        pause(context, every.saturating_sub(watch.elapsed()), cancel).await;
        if let Some(readers) = &readers {
            // Windows fall due without news, so the wait has an end; without it a short interval would keep a core busy.
            tokio::select! {
                () = readers.news() => {}
                () = pause(context, IDLE, cancel) => {}
            }
        }
    }
    (readers, Ok(Exit::Done))
}

fn counts(arrived: Arrived) -> String {
    format!(
        "{} landed, {} duplicates, {} quarantined",
        thousands(arrived.landed),
        thousands(arrived.duplicates),
        thousands(arrived.quarantined)
    )
}

async fn pause(context: &Context, duration: Duration, cancel: &CancellationToken) {
    tokio::select! {
        () = context.clock.sleep(duration) => {}
        () = cancel.cancelled() => {}
    }
}

/// What one cycle works on, prepared once.
pub(crate) struct Cycle {
    contracts: Vec<Contract>,
    runner: Runner,
    selection: Selection,
    meter: Meter,
}

/// What one cycle did.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Rows that landed.
    pub(crate) landed: u64,
    /// Rows that models wrote.
    pub(crate) built: u64,
    /// Rows sent to the warehouse: inserted, updated, deleted.
    pub(crate) published: u64,
    /// How it ended.
    #[serde(skip)]
    pub(crate) exit: Exit,
}

impl Cycle {
    /// Reads contracts and models. A selection of models takes the sources that they stand on.
    pub(crate) fn new(context: &Context, selection: Selection) -> anyhow::Result<Self> {
        let runner = runner(context)?;
        let mut contracts = context.selected_contracts(&[])?;
        // What only files feed is nothing to wait for.
        contracts.retain(|contract| !contract.topics.is_empty());
        if !selection.select.is_empty() || !selection.exclude.is_empty() {
            let graph = runner.graph();
            let mut wanted = Vec::new();
            for node in graph.select(&selection)? {
                wanted.extend(graph.ancestors(&node, None));
                wanted.push(node);
            }
            contracts.retain(|contract| wanted.contains(&NodeId::Source(contract.name.clone())));
        }
        Ok(Self { contracts, runner, selection, meter: Meter::new(context) })
    }

    /// Whether there is anything to read from a broker.
    fn reads(&self, context: &Context) -> bool {
        context.settings.kafka.is_some() && !self.contracts.is_empty()
    }

    /// Ingests what stands in the topics now, builds what is stale, publishes what changed.
    pub(crate) async fn run(
        &self,
        context: &Context,
        run_id: &str,
        printer: Printer,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Summary> {
        let mut summary_of = Summary { landed: 0, built: 0, published: 0, exit: Exit::Done };
        if self.reads(context) {
            let watch = context.clock.stopwatch();
            let request = IngestRequest {
                contracts: self.contracts.clone(),
                mode: Mode::Drain,
                max_records: None,
                max_duration: None,
                run_id: run_id.to_owned(),
                as_of_us: context.as_of_us,
            };
            let mut report = tidemill_ingest::ingest(
                &context.settings,
                &context.lake,
                request,
                self.meter.ingest(Arc::new(NoObserver)),
                cancel.clone(),
            )
            .await?;
            let arrived = Arrived {
                landed: report.landed(),
                duplicates: report.sources.iter().map(tidemill_ingest::SourceReport::duplicates).sum(),
                quarantined: report.sources.iter().map(tidemill_ingest::SourceReport::quarantined).sum(),
            };
            summary_of.landed = arrived.landed;
            printer.step("ingest", &format!("{} in {:.1?}", counts(arrived), watch.elapsed()));
            if let Some(error) = report.take_error() {
                return Err(error.into());
            }
            self.meter.succeeded("ingest");
        }
        self.build_and_publish(summary_of, context, run_id, printer, cancel).await
    }

    /// A cycle whose sources are read beside it: builds what is stale, publishes what changed.
    async fn run_beside(
        &self,
        readers: &mut Readers,
        context: &Context,
        run_id: &str,
        printer: Printer,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Summary> {
        let arrived = readers.arrived(context, printer, cancel).await?;
        printer.step("ingest", &format!("{} since the last cycle", counts(arrived)));
        let summary_of = Summary { landed: arrived.landed, built: 0, published: 0, exit: Exit::Done };
        self.build_and_publish(summary_of, context, run_id, printer, cancel).await
    }

    async fn build_and_publish(
        &self,
        mut summary_of: Summary,
        context: &Context,
        run_id: &str,
        printer: Printer,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Summary> {
        if cancel.is_cancelled() {
            return Ok(summary_of);
        }
        let options = BuildOptions {
            plan: PlanOptions { as_of_us: context.as_of_us, ..PlanOptions::default() },
            kinds: Kinds::ALL,
            run_id: Some(run_id.to_owned()),
            ..BuildOptions::default()
        };
        let lines = Arc::new(BuildLines::new(printer, true, &self.runner));
        let observer = self.meter.build(&self.runner, lines);
        let mut report = self.runner.build(&self.selection, &options, observer, cancel).await?;
        summary_of.built = report.nodes.iter().map(|node| node.rows_written).sum();
        printer.step("build", summary(&report, Kinds::ALL).trim_start_matches("build: ").trim_end());
        summary_of.exit = outcome_of(&mut report, printer);
        if summary_of.exit != Exit::Done || cancel.is_cancelled() {
            return Ok(summary_of);
        }
        self.meter.succeeded("build");
        let watch = context.clock.stopwatch();
        let publications = publications(&self.runner, &self.selection)?;
        let num_tables = publications.len();
        let request = PublishRequest { publications, run_id: run_id.to_owned(), full: false, dry_run: false };
        let observer = self.meter.publish();
        let sent = tidemill_publish::publish(&context.settings, &context.lake, request, &observer, cancel).await?;
        observer.finish();
        if !sent.cancelled {
            self.meter.succeeded("publish");
            self.meter.succeeded("run");
        }
        let (mut inserted, mut updated, mut deleted) = (0, 0, 0);
        for table in &sent.tables {
            inserted += table.counts.inserted;
            updated += table.counts.updated;
            deleted += table.counts.deleted;
        }
        summary_of.published = inserted + updated + deleted;
        printer.step(
            "publish",
            &format!(
                "{} inserted, {} updated, {} deleted in {num_tables} tables in {:.1?}",
                thousands(inserted),
                thousands(updated),
                thousands(deleted),
                watch.elapsed()
            ),
        );
        if printer.format() == Format::Json {
            printer.result(&json!({ "run_id": run_id, "cycle": summary_of }), "");
        }
        Ok(summary_of)
    }
}
