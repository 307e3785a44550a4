//! `tidemill simulate`: seeded traffic of a system to its topics or to files, and the truth that it implies.

pub(crate) mod compare;
mod verify;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use tidemill_project::clock::Stopwatch;
use tidemill_project::config::KafkaSettings;
use tidemill_simulate::{
    Door, FileWriter, Layout, Options, Poster, Profile, Record, SchemaIds, Sender, System, Truth, create_topics,
};
use tokio::sync::mpsc::{Receiver, Sender as Queue, channel};

use super::context::{Context, instant, shown};
use super::progress::Progress;
use crate::args::{Destination, GlobalArgs, LayoutArg, Pace, ProfileArg, SimulateCommand, TrafficArgs, Via};
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
        (Destination::Kafka, _) if args.via == Some(Via::Collect) => {
            if system != System::Activity {
                return Err(UsageError {
                    message: format!("{} does not go through the HTTP door; only activity does", system.name()),
                }
                .into());
            }
            let context = Context::load(global)?;
            let door = door(&context, args)?;
            post(&context, options, door, args.pace, &progress).await?
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
        via_collect: args.via.is_some(),
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
    let mut timetable = Timetable::new(context, pace);
    while let Some(chunk) = chunks.recv().await {
        let length = chunk.len() as u64;
        for due in split_by_time(chunk, pace) {
            timetable.wait_for(&due).await;
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

/// The door that the command line names, else the target's own.
fn door(context: &Context, args: &TrafficArgs) -> anyhow::Result<Door> {
    let url = match (&args.collect_url, &context.settings.collect) {
        (Some(url), _) => url.clone(),
        (None, Some(own)) => {
            let scheme = if own.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}{}", own.listen, tidemill_collect::ROUTE)
        }
        (None, None) => {
            return Err(UsageError {
                message: format!(
                    "target `{name}` has no HTTP door; add [target.{name}.collect], or name one: --collect-url URL",
                    name = context.settings.target
                ),
            }
            .into());
        }
    };
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path);
        text.with_context(|| format!("failed to read the API key, path=`{}`", path.display()))
    };
    let api_key = args.api_key_file.as_ref().map(read).transpose()?;
    Ok(Door::new(&url, api_key.map(|key| key.trim().to_owned()))?)
}

/// Generates on one thread and posts from the others.
async fn post(
    context: &Context,
    options: Options,
    door: Door,
    pace: Pace,
    progress: &Progress,
) -> anyhow::Result<Truth> {
    let (queue, mut chunks) = channel(WAITING_CHUNKS);
    let generating = tokio::task::spawn_blocking(move || generate(System::Activity, &options, &queue));
    let bar = progress.spinner("posted");
    let mut poster = Poster::new(door, context.clock.clone())?;
    let mut timetable = Timetable::new(context, pace);
    let posted = async {
        while let Some(chunk) = chunks.recv().await {
            let length = chunk.len() as u64;
            for due in split_by_time(chunk, pace) {
                timetable.wait_for(&due).await;
                for record in &due {
                    poster.push(record).await?;
                }
                if pace == Pace::Realtime {
                    poster.flush().await?;
                }
            }
            bar.inc(length);
        }
        anyhow::Ok(poster.flush().await?)
    }
    .await;
    drop(chunks);
    let truth = generating.await.context("the generator stopped")?;
    // When a message is refused, the generator only sees that nobody takes its records.
    posted?;
    truth
}

/// When records are due.
struct Timetable<'c> {
    context: &'c Context,
    pace: Pace,
    watch: Stopwatch,
    first_ms: Option<i64>,
}

impl<'c> Timetable<'c> {
    fn new(context: &'c Context, pace: Pace) -> Self {
        Self { context, pace, watch: context.clock.stopwatch(), first_ms: None }
    }

    /// Waits for the turn of records that leave together; at full pace it is always now.
    async fn wait_for(&mut self, due: &[Record]) {
        let Some(sent_ms) = due.first().map(|record| record.sent_ms) else { return };
        let elapsed_ms = sent_ms - *self.first_ms.get_or_insert(sent_ms);
        if self.pace == Pace::Realtime {
            let at = std::time::Duration::from_millis(u64::try_from(elapsed_ms).unwrap_or_default());
            self.context.clock.sleep(at.saturating_sub(self.watch.elapsed())).await;
        }
    }
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
