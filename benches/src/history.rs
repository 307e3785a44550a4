//! (c) One micro-batch on tables of different age and size.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::logins;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::wait;

use crate::HistoryArgs;
use crate::broker::{Kafka, Sender};
use crate::child::{self, Usage};
use crate::results::Section;
use crate::stats::median;
use crate::throughput::{SOURCE, ingest};
use crate::traffic::{START_S, write_login};

const PARTITIONS: i32 = 4;
/// Events of a commit of the history, about; and of the micro-batch that is measured.
const STEP: u64 = 20;
const MICRO_BATCH: u64 = 1_000;
/// The models that stand on the source, and what is published of them.
const MODELS: &str = "source:logins.user_login+";
const STEPS: [&str; 4] = ["ingest", "build", "publish", "run"];

/// What one table cost.
#[derive(Debug)]
struct Measured {
    /// By step.
    usages: Vec<Vec<Usage>>,
    models_ms: f64,
    tests_ms: f64,
}

/// Measures on one table after the other.
pub(crate) fn measure(args: &HistoryArgs) -> Result<Section> {
    let kafka = Kafka::start()?;
    let mut tables = Vec::new();
    for (index, &(commits, days)) in args.tables.iter().enumerate() {
        tables.push(run(&kafka, &format!("history-{index}"), commits, days, args.rounds)?);
    }
    let middle = |usages: &[Usage], pick: fn(&Usage) -> Duration| {
        1e3 * median(usages.iter().map(|usage| pick(usage).as_secs_f64()).collect())
    };
    let mut rows = Vec::new();
    for (&(commits, days), measured) in args.tables.iter().zip(&tables) {
        let mut row = vec![commits.to_string(), days.to_string()];
        for ((name, step), first) in STEPS.iter().zip(&measured.usages).zip(&tables[0].usages) {
            let (wall, cpu) = (middle(step, |usage| usage.wall), middle(step, |usage| usage.cpu));
            row.push(format!("{wall:.0} / {cpu:.0} ({:.2}x)", cpu / middle(first, |usage| usage.cpu)));
            if *name == "build" {
                row.push(format!("{:.0} + {:.0}", measured.models_ms, measured.tests_ms));
            }
        }
        rows.push(row);
    }
    Ok(Section {
        id: "c",
        title: "One micro-batch on old tables",
        command: format!(
            "benches/run c --rounds {} --tables {}",
            args.rounds,
            args.tables.iter().map(|(commits, days)| format!("{commits},{days}")).collect::<Vec<_>>().join(" ")
        ),
        data: format!(
            "A history of so many commits of the raw table, made by `tidemill ingest --follow` from Kafka, about {STEP} events\n\
             a commit, evenly over so many days (hourly partitions), checkpoints and compaction as they come; then all login\n\
             models built and published. Measured: {MICRO_BATCH} new events of one hour, {} times, each command a process of its\n\
             own, start included: milliseconds / milliseconds of processor time, medians, and processor time as a multiple of\n\
             the first row's. *build* is four models with their tests, *models + tests* the time that either took inside it, added\n\
             up over the nodes; *run* is all three for the next {MICRO_BATCH} events.",
            args.rounds,
        ),
        heading: vec!["commits", "days", "ingest", "build", "models + tests", "publish", "run"],
        rows,
    })
}

fn run(kafka: &Kafka, topic: &str, commits: u64, days: u32, rounds: usize) -> Result<Measured> {
    kafka.create(topic, PARTITIONS)?;
    let project = ProjectBuilder::shipped()
        .kafka(&kafka.bootstrap(), topic)
        .topic(logins::TOPIC, topic)
        .ingest("max_batch_age", "\"1ms\"")
        .build()?;
    let mut sender = kafka.sender(PARTITIONS)?;
    let mut sent = grow_old(&project, &mut sender, topic, commits, days)?;
    ingest(&project, None)?;
    child::run(project.tidemill().command(&["run", "--select", MODELS])?)?;
    let mut usages = vec![Vec::new(); STEPS.len()];
    let (mut models, mut tests) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for (step, name) in STEPS.iter().enumerate() {
            if matches!(*name, "ingest" | "run") {
                send(&mut sender, topic, &mut sent)?;
            }
            let select = if *name == "ingest" { SOURCE } else { MODELS };
            let (stdout, usage) =
                child::run(project.tidemill().command(&["--format", "json", name, "--select", select])?)?;
            if *name == "build" {
                let report: Value = serde_json::from_str(&stdout).context("the report is JSON")?;
                models.push(milliseconds(&report, |kind| kind != "test"));
                tests.push(milliseconds(&report, |kind| kind == "test"));
            }
            eprintln!("commits={commits} days={days} round={round} {name} {usage:?}");
            usages[step].push(usage);
        }
    }
    let counted = project.tidemill().number("select sum(message_count) from logins_usage_window")?;
    ensure!(u64::try_from(counted) == Ok(sent), "{sent} events were sent, the model counts {counted}");
    kafka.delete(topic)?;
    Ok(Measured { usages, models_ms: median(models), tests_ms: median(tests) })
}

/// Time that a build spent on nodes of some kind, all of them added up.
fn milliseconds(report: &Value, wanted: impl Fn(&str) -> bool) -> f64 {
    let nodes = report["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_kind = nodes.iter().filter(|node| node["kind"].as_str().is_some_and(&wanted));
    of_kind.filter_map(|node| node["elapsed_ms"].as_f64()).sum()
}

/// Makes the history; returns how many events it has.
fn grow_old(project: &Project, sender: &mut Sender, topic: &str, commits: u64, days: u32) -> Result<u64> {
    let log = project.lake().join("raw/logins/user_login/_delta_log");
    let mut follower = project.tidemill().spawn(&["ingest", "--follow", "--select", SOURCE])?;
    let (mut version, mut sent, mut text) = (0, 0, String::new());
    while version < commits {
        for _ in 0..STEP {
            // Where in the history the next commit stands, the place inside the step included.
            let done = version * STEP + sent % STEP;
            let age_s = u64::from(days) * 86_400 * (commits * STEP).saturating_sub(done) / (commits * STEP);
            write_login(&mut text, sent, START_S - i64::try_from(age_s)?);
            sender.send(topic, &text, None)?;
            sent += 1;
        }
        sender.flush()?;
        while log.join(format!("{:020}.json", version + 1)).exists() {
            version += 1;
        }
        ensure!(follower.try_wait()?.is_none(), "{}", follower.output()?);
    }
    let ended = follower.terminate(wait::PATIENCE)?;
    ensure!(ended.success(), "{}", follower.output()?);
    Ok(sent)
}

fn send(sender: &mut Sender, topic: &str, sent: &mut u64) -> Result<()> {
    let mut text = String::new();
    for _ in 0..MICRO_BATCH {
        write_login(&mut text, *sent, START_S + i64::try_from(*sent % 600)?);
        sender.send(topic, &text, None)?;
        *sent += 1;
    }
    sender.flush()
}
