//! `tidemill simulate`: seeded traffic of a system to its topics or to files, and the truth that it implies.

pub(crate) mod compare;
mod verify;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use tidemill_project::config::KafkaSettings;
use tidemill_simulate::{
    FileWriter, Layout, Options, Profile, Record, SchemaIds, Sender, System, Truth, create_topics,
};
use tokio::sync::mpsc::{Receiver, Sender as Queue, channel};

use super::context::{Context, instant, shown};
use super::progress::Progress;
use crate::args::{Destination, GlobalArgs, LayoutArg, Pace, ProfileArg, SimulateCommand, TrafficArgs};
use crate::exit::Exit;
use crate::printer::{Printer, thousands};
use crate::report::UsageError;

/// Records that travel together from the generator to the producer.
const CHUNK: usize = 500;
/// Chunks that may wait between them: memory stays flat however long the stream is.
const WAITING_CHUNKS: usize = 16;
/// Records between two moves of the progress bar.
const STEP: u64 = 10_000;

/// Sends traffic, or compares tables with its truth.
pub(crate) async fn run(global: &GlobalArgs, command: SimulateCommand, printer: Printer) -> anyhow::Result<Exit> {
    match command {
        SimulateCommand::Zoner(args) => simulate(global, System::Zoner, &args, printer).await,
        SimulateCommand::Activity(args) => simulate(global, System::Activity, &args, printer).await,
        SimulateCommand::Clicks(args) => simulate(global, System::Clicks, &args, printer).await,
        SimulateCommand::Logins(args) => simulate(global, System::Logins, &args, printer).await,
        SimulateCommand::Zentry(args) => simulate(global, System::Zentry, &args, printer).await,
        SimulateCommand::Verify(args) => Box::pin(verify::run(global, &args, printer)).await,
    }
}

async fn simulate(global: &GlobalArgs, system: System, args: &TrafficArgs, printer: Printer) -> anyhow::Result<Exit> {
    let options = options(args)?;
    let progress = Progress::new(printer);
    let truth = match (args.to, args.output.clone()) {
        (Destination::Files, Some(dir)) => {
            let bar = progress.spinner(system.name());
            tokio::task::spawn_blocking(move || write_files(system, &options, &dir, &bar)).await??
        }
        (Destination::Files, None) | (Destination::Kafka, _) => {
            let context = Context::load(global)?;
            let settings = context.settings.kafka.clone().ok_or_else(|| UsageError {
                message: format!(
                    "target `{name}` has no broker; add [target.{name}.kafka], or write files: --to files --output DIR",
                    name = context.settings.target
                ),
            })?;
            if args.create_topics {
                create_topics(&settings, &options.topics(system)).await?;
            }
            send(&context, system, options, settings, args.pace, &progress).await?
        }
    };
    progress.clear();
    if let Some(path) = &args.truth {
        write_truth(&truth, path)?;
    }
    report(system, &truth, args, printer);
    Ok(Exit::Done)
}

fn options(args: &TrafficArgs) -> anyhow::Result<Options> {
    let micros = |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let unbounded = if args.duration.is_some() { u64::MAX } else { Options::default().events };
    Ok(Options {
        seed: args.seed,
        events: args.events.unwrap_or(unbounded),
        duration_us: args.duration.map(micros),
        rate: args.rate,
        start_us: instant(&args.start)?,
        users: args.users,
        partitions: args.partitions,
        duplicates: args.duplicates,
        late: args.late,
        out_of_order: args.out_of_order,
        malformed: args.malformed,
        missing: args.missing,
        replay_after_us: args.replay_after.map(micros),
        cross_topic: args.cross_topic,
        cross_partition: args.cross_partition,
        layout: match args.layout {
            LayoutArg::Mixed => Layout::Mixed,
            LayoutArg::PerActivity => Layout::PerActivity,
            LayoutArg::Both => Layout::Both,
        },
        profile: match args.profile {
            ProfileArg::DayPlan => Profile::DayPlan,
            ProfileArg::Demo => Profile::Demo,
        },
        aborted: args.aborted,
        avro: match args.schema_ids[..] {
            [user_action_v1, user_action_v2, transaction, system_metric] => {
                Some(SchemaIds { user_action_v1, user_action_v2, transaction, system_metric })
            }
            _ => None,
        },
        celebrity_threshold: args.celebrity_threshold,
        stamped: args.to == Destination::Kafka,
        truth_rows: args.truth_rows,
    })
}

fn write_files(system: System, options: &Options, dir: &Path, bar: &indicatif::ProgressBar) -> anyhow::Result<Truth> {
    let fault = || format!("failed to write traffic, folder=`{}`", dir.display());
    let mut files = FileWriter::new(dir).with_context(fault)?;
    let mut num_written = 0_u64;
    let truth = tidemill_simulate::stream(system, options, &mut |record| {
        num_written += 1;
        if num_written.is_multiple_of(STEP) {
            bar.inc(STEP);
        }
        files.write(&record)
    });
    let truth = truth.map_err(anyhow::Error::from_boxed).with_context(fault)?;
    files.finish().with_context(fault)?;
    Ok(truth)
}

/// Generates on one thread and sends from another; the queue between them is short.
async fn send(
    context: &Context,
    system: System,
    options: Options,
    settings: KafkaSettings,
    pace: Pace,
    progress: &Progress,
) -> anyhow::Result<Truth> {
    let (queue, chunks) = channel(WAITING_CHUNKS);
    let generating = tokio::task::spawn_blocking(move || generate(system, &options, &queue));
    let sent = produce(context, settings, chunks, pace, progress).await;
    let truth = generating.await.context("the generator stopped")?;
    // When the producer fails, the generator only sees that nobody takes its records.
    sent?;
    truth
}

fn generate(system: System, options: &Options, queue: &Queue<Vec<Record>>) -> anyhow::Result<Truth> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let truth = tidemill_simulate::stream(system, options, &mut |record| {
        chunk.push(record);
        if chunk.len() == CHUNK {
            queue.blocking_send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)))?;
        }
        Ok(())
    });
    let truth = truth.map_err(anyhow::Error::from_boxed)?;
    queue.blocking_send(chunk).context("the producer stopped")?;
    Ok(truth)
}

async fn produce(
    context: &Context,
    settings: KafkaSettings,
    mut chunks: Receiver<Vec<Record>>,
    pace: Pace,
    progress: &Progress,
) -> anyhow::Result<()> {
    let bar = progress.spinner("sent");
    let mut sender = tokio::task::spawn_blocking(move || Sender::new(&settings)).await??;
    let watch = context.clock.stopwatch();
    let mut first_ms = None;
    while let Some(chunk) = chunks.recv().await {
        let length = chunk.len() as u64;
        for due in split_by_time(chunk, pace) {
            let Some(sent_ms) = due.first().map(|record| record.sent_ms) else { continue };
            let elapsed_ms = sent_ms - *first_ms.get_or_insert(sent_ms);
            if pace == Pace::Realtime {
                let due = std::time::Duration::from_millis(u64::try_from(elapsed_ms).unwrap_or_default());
                context.clock.sleep(due.saturating_sub(watch.elapsed())).await;
            }
            sender = tokio::task::spawn_blocking(move || {
                due.iter().try_for_each(|record| sender.push(record))?;
                if pace == Pace::Realtime {
                    sender.flush()?;
                }
                Ok::<_, anyhow::Error>(sender)
            })
            .await??;
        }
        bar.inc(length);
    }
    tokio::task::spawn_blocking(move || sender.flush()).await??;
    Ok(())
}

/// Records that are due together: in real time those of the same tenth of a second.
fn split_by_time(chunk: Vec<Record>, pace: Pace) -> Vec<Vec<Record>> {
    if pace == Pace::Max {
        return vec![chunk];
    }
    let mut parts: Vec<Vec<Record>> = Vec::new();
    for record in chunk {
        let is_together =
            |part: &Vec<Record>| part.first().is_some_and(|first| first.sent_ms / 100 == record.sent_ms / 100);
        match parts.last_mut() {
            Some(part) if is_together(part) => part.push(record),
            _ => parts.push(vec![record]),
        }
    }
    parts
}

fn write_truth(truth: &Truth, path: &Path) -> anyhow::Result<()> {
    let fault = || format!("failed to write the truth, path=`{}`", path.display());
    let file = File::create(path).with_context(fault)?;
    serde_json::to_writer_pretty(BufWriter::new(file), truth).with_context(fault)
}

fn report(system: System, truth: &Truth, args: &TrafficArgs, printer: Printer) {
    let (records, landed, duplicates, quarantined) = truth.totals();
    let as_of = truth.as_of();
    let mut text = format!(
        "{}: {} records; {} will land, {} are duplicates, {} belong into quarantine\n",
        system.name(),
        thousands(records),
        thousands(landed),
        thousands(duplicates),
        thousands(quarantined),
    );
    if let Some(path) = &args.truth {
        text.push_str(&format!(
            "truth in {}, for tables that are built with --as-of {as_of}; compare with `tidemill simulate verify`\n",
            shown(&std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        ));
    }
    let object = json!({
        "system": system.name(),
        "records": records,
        "landed": landed,
        "duplicates": duplicates,
        "quarantined": quarantined,
        "as_of": as_of,
        "truth": args.truth,
    });
    printer.result(&object, &text);
}
