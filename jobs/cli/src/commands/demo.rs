//! `tidemill demo`: the whole road on embedded defaults, in front of your eyes.
//!
//! An in-process broker, a seeded simulator that sends sleep, activities and logins with every fault that producers make,
//! and the real code: ingest, build, publish to tables and topics, in micro-batches while producers still send. At the end the
//! books are balanced from the topics to what the sinks hold, and the marts compared with what the simulator knows to be true.

mod project;
mod samples;
mod sinks;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::mocking::MockCluster;
use serde_json::json;
use tidemill_project::Secret;
use tidemill_project::clock::Clock;
use tidemill_project::config::{IngestSettings, KafkaSettings, Settings, TransformSettings};
use tidemill_simulate::{Options, Record, Sender, System, Truth};
use tidemill_transform::graph::Selection;
use tokio_util::sync::CancellationToken;

use super::build::runner;
use super::context::{Context, shown};
use super::cycle::Cycle;
use super::progress::Progress;
use super::reconcile;
use super::simulate::compare::{self, Compared};
use crate::args::{DemoArgs, Format, GlobalArgs, SystemArg};
use crate::exit::Exit;
use crate::printer::{Printer, thousands};
use crate::signals;

/// Records handed to the broker at once: small enough that micro-batches see producers at work.
const SEND_CHUNK: usize = 500;

/// Runs the demo.
pub(crate) async fn run(global: &GlobalArgs, args: DemoArgs, printer: Printer) -> anyhow::Result<Exit> {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    let cancel = signals::cancel_on_signal()?;
    let dir = demo_dir(&args)?;
    let systems = systems(&args.system);
    let models_dir = project::prepare(&dir, &systems)?;

    let mut traffic = Vec::new();
    let mut truth = Truth::default();
    for system in &systems {
        let made = tidemill_simulate::generate(*system, &options(*system, &args, systems.len()));
        truth.merge(made.truth);
        traffic.push(made.records);
    }
    let records = tidemill_simulate::interleave(traffic);
    let (num_sent, ..) = truth.totals();

    let broker = MockCluster::new(1).context("failed to start the in-process broker")?;
    // Those of the others too: a system that is always on reads its topics, whether the demo is about it or not.
    for (topic, partitions) in System::ALL.iter().flat_map(|system| system.topics()) {
        broker.create_topic(topic, *partitions, 1).with_context(|| format!("failed to create topic `{topic}`"))?;
    }
    let settings = settings(&dir, models_dir, &broker.bootstrap_servers())?;
    let mut context = Context::with_settings(global, settings)?;
    // Traffic is of the past; rows that fall due by time are those that the truth knows.
    context.as_of_us = context.as_of_us.or(Some(truth.as_of_us));
    printer.note(&format!(
        "sending {} records (seed {}, {} a second) to an in-process broker; lake and warehouse in {}",
        thousands(num_sent),
        args.seed,
        thousands(args.rate),
        shown(&dir)
    ));

    let publications = sinks::prepare(&context, &broker)?;
    let progress = Progress::new(printer);
    let producing = produce(&context, &clock, records, args.rate, &progress, &cancel);
    let cycling = cycle(&context, printer, &producing.done, &progress, num_sent, &cancel);
    let (sent, cycles) = tokio::join!(producing.task, cycling);
    sent.context("the producer stopped")??;
    let num_cycles = cycles?;
    progress.clear();
    if cancel.is_cancelled() {
        printer.note("stopped by a signal; what was committed is in the folder");
        return Ok(Exit::Done);
    }

    let proofs = reconcile::prove(&context, &[], true).await?;
    let landed: u64 = proofs.iter().map(tidemill_ingest::reconcile::Reconciliation::landed).sum();
    let duplicates: u64 = proofs.iter().flat_map(|proof| &proof.partitions).map(|totals| totals.duplicates).sum();
    let quarantined: u64 = proofs.iter().map(tidemill_ingest::reconcile::Reconciliation::quarantined).sum();
    let closed = proofs.iter().all(tidemill_ingest::reconcile::Reconciliation::is_closed);
    let runner = runner(&context)?;
    let session = runner.query_context().await?;
    let models = &runner.project().models;
    let compared = compare::models(&session, &truth, |model| models.contains_key(model)).await?;
    let held = sinks::Held::of(&context, &publications, &cancel).await?;
    let elapsed = watch.elapsed();

    let (_, true_landed, true_duplicates, true_quarantined) = truth.totals();
    let balanced = closed && (landed, duplicates, quarantined) == (true_landed, true_duplicates, true_quarantined);
    let object = json!({
        "seed": args.seed,
        "sent": num_sent,
        "landed": landed,
        "duplicates": duplicates,
        "quarantined": quarantined,
        "balanced": balanced,
        "truth": { "landed": true_landed, "duplicates": true_duplicates, "quarantined": true_quarantined },
        "marts": compared,
        "sinks": held,
        "cycles": num_cycles,
        "dir": dir,
        "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    });
    let mut text = samples::samples(&session, &systems, printer).await?;
    text.push_str(&format!(
        "\nbooks   sent {} = landed {} + duplicates {} + quarantined {}: {}\n",
        thousands(num_sent),
        thousands(landed),
        thousands(duplicates),
        thousands(quarantined),
        if balanced { "balanced, and equal to the simulator's truth" } else { "NOT balanced" }
    ));
    text.push_str(&held.to_string());
    text.push_str(&marts(&compared));
    text.push_str(&next_steps(&dir, &systems, num_cycles, elapsed));
    printer.result(&object, &text);
    let is_true = balanced && held.is_closed() && compared.iter().all(Compared::is_equal);
    Ok(if is_true { Exit::Done } else { Exit::Rejected })
}

/// The systems that were asked for, each once.
fn systems(wanted: &[SystemArg]) -> Vec<System> {
    let is_wanted = |system: &System| {
        wanted.iter().any(|wanted| match wanted {
            SystemArg::Zoner => *system == System::Zoner,
            SystemArg::Activity => *system == System::Activity,
            SystemArg::Clicks => *system == System::Clicks,
            SystemArg::Logins => *system == System::Logins,
            SystemArg::Zentry => *system == System::Zentry,
            SystemArg::All => true,
        })
    };
    System::ALL.into_iter().filter(is_wanted).collect()
}

/// A system's share of the traffic. Clicks come slowly, so that an hour with its bots is seen.
fn options(system: System, args: &DemoArgs, num_systems: usize) -> Options {
    let (rate, users) = if system == System::Clicks { (Some(4.0), Some(2_000)) } else { (None, None) };
    Options {
        seed: args.seed,
        events: args.events / num_systems.max(1) as u64,
        rate,
        users,
        celebrity_threshold: project::CELEBRITY_THRESHOLD,
        // The in-process broker knows no transactions.
        aborted: 0.0,
        ..Options::default()
    }
}

/// A line per mart: its rows, and whether they are the true ones.
fn marts(compared: &[Compared]) -> String {
    let line = |mart: &Compared| {
        let verdict = if mart.is_equal() {
            "equal to the truth".to_owned()
        } else {
            let (count, examples) = (mart.differences.len() as u64, mart.differences.examples(2).join("; "));
            format!("{} rows DIFFER, e.g. {examples}", thousands(count))
        };
        format!("marts   {:<29} {:>8} rows, {verdict}\n", mart.model, thousands(mart.differences.num_rows))
    };
    compared.iter().map(line).collect()
}

/// The folder that is kept; a demo's folder may be used again, another's may not.
fn demo_dir(args: &DemoArgs) -> anyhow::Result<PathBuf> {
    let dir = match &args.keep {
        Some(dir) => dir.clone(),
        None => PathBuf::from(".tidemill").join("demo"),
    };
    Ok(std::path::absolute(dir)?)
}

fn settings(dir: &std::path::Path, models_dir: PathBuf, servers: &str) -> anyhow::Result<Settings> {
    let mut settings = project::settings(dir)?;
    settings.models_dir = models_dir;
    settings.kafka = Some(KafkaSettings {
        group: "tidemill-demo".to_owned(),
        // The mock broker holds a group's first assignment back for the session timeout less a second; a short one lets
        // each micro-batch begin at once.
        properties: [
            ("bootstrap.servers".to_owned(), Secret::new(servers)),
            ("session.timeout.ms".to_owned(), Secret::new("4000")),
            ("heartbeat.interval.ms".to_owned(), Secret::new("500")),
        ]
        .into(),
    });
    settings.ingest = IngestSettings {
        max_batch_age: Duration::from_millis(500),
        memory_budget_bytes: 64 << 20,
        ..IngestSettings::default()
    };
    settings.transform = TransformSettings { memory_budget_bytes: 256 << 20, ..TransformSettings::default() };
    Ok(settings)
}

struct Producing {
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    done: Arc<AtomicBool>,
}

/// Sends at a steady rate on a task of its own. The mock broker keeps the last 5 MB of a partition only, so producers must not
/// run ahead of ingest; the rate and the number of partitions see to that.
fn produce(
    context: &Context,
    clock: &Clock,
    records: Vec<Record>,
    rate: u64,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Producing {
    let done = Arc::new(AtomicBool::new(false));
    let finished = Arc::clone(&done);
    let settings = context.settings.kafka.clone();
    let (clock, cancel) = (clock.clone(), cancel.clone());
    let bar = progress.bar("produce", records.len() as u64);
    let task = tokio::spawn(async move {
        let result = async {
            let settings = settings.context("the demo has a broker")?;
            let mut sender = tokio::task::spawn_blocking(move || Sender::new(&settings)).await??;
            let watch = clock.stopwatch();
            let mut sent = 0_u64;
            let mut chunks = records.into_iter().peekable();
            while chunks.peek().is_some() && !cancel.is_cancelled() {
                let chunk: Vec<Record> = chunks.by_ref().take(SEND_CHUNK).collect();
                let length = chunk.len() as u64;
                (sender, _) =
                    tokio::task::spawn_blocking(move || sender.send(&chunk).map(|count| (sender, count))).await??;
                sent += length;
                bar.inc(length);
                let due = Duration::from_secs_f64(
                    f64::from(u32::try_from(sent).unwrap_or(u32::MAX))
                        / f64::from(u32::try_from(rate.max(1)).unwrap_or(u32::MAX)),
                );
                clock.sleep(due.saturating_sub(watch.elapsed())).await;
            }
            bar.finish_and_clear();
            Ok(())
        }
        .await;
        finished.store(true, Ordering::SeqCst);
        result
    });
    Producing { task, done }
}

/// Cycles while producers send, and once more after they have finished.
async fn cycle(
    context: &Context,
    printer: Printer,
    done: &AtomicBool,
    progress: &Progress,
    num_sent: u64,
    cancel: &CancellationToken,
) -> anyhow::Result<u64> {
    let cycle = Cycle::new(context, Selection::all())?;
    let bar = progress.bar("land, build, publish", num_sent);
    let quiet = printer.quiet();
    let mut number = 0_u64;
    loop {
        let last = done.load(Ordering::SeqCst);
        number += 1;
        let run_id = format!("demo/{number}");
        let summary = Box::pin(cycle.run(context, &run_id, quiet, cancel)).await?;
        bar.inc(summary.landed);
        bar.set_message(format!(
            "cycle {number}: {} rows built, {} published",
            thousands(summary.built),
            thousands(summary.published)
        ));
        if !printer.is_interactive() && printer.format() == Format::Text {
            printer.note(&format!(
                "cycle {number}: {} landed, {} rows built, {} published",
                thousands(summary.landed),
                thousands(summary.built),
                thousands(summary.published)
            ));
        }
        anyhow::ensure!(summary.exit == Exit::Done, "cycle {number} ended with exit code {}", summary.exit.code());
        if last || cancel.is_cancelled() {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(number)
}

fn next_steps(dir: &std::path::Path, systems: &[System], cycles: u64, elapsed: Duration) -> String {
    let dir = shown(dir);
    let query = systems.first().map_or("select 1", |system| samples::query_to_try(*system));
    format!(
        "files   lake {dir}/lake, warehouse {dir}/warehouse ({cycles} cycles in {:.1} s)\n\ntry next:\n  \
         tidemill --project-dir {dir} sql \"{query}\"\n  \
         tidemill --project-dir {dir} status\n  \
         tidemill --project-dir {dir} quarantine list\n",
        elapsed.as_secs_f64()
    )
}
