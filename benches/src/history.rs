//! (c) One micro-batch on tables of different age and size.

use std::time::Duration;

use anyhow::{Result, ensure};
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
        for (step, first) in measured.iter().zip(&tables[0]) {
            let (wall, cpu) = (middle(step, |usage| usage.wall), middle(step, |usage| usage.cpu));
            row.push(format!("{wall:.0} ms / {cpu:.0} ms ({:.2}x)", cpu / middle(first, |usage| usage.cpu)));
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
             own, start included: time / processor time, medians, and processor time as a multiple of the first row's.\n\
             *build* is four models with their tests; *run* is all three for the next {MICRO_BATCH} events.",
            args.rounds,
        ),
        heading: vec!["commits", "days", "ingest", "build", "publish", "run"],
        rows,
    })
}

fn run(kafka: &Kafka, topic: &str, commits: u64, days: u32, rounds: usize) -> Result<Vec<Vec<Usage>>> {
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
    for round in 0..rounds {
        for (step, name) in STEPS.iter().enumerate() {
            if matches!(*name, "ingest" | "run") {
                send(&mut sender, topic, &mut sent)?;
            }
            let select = if *name == "ingest" { SOURCE } else { MODELS };
            let (_, usage) = child::run(project.tidemill().command(&[name, "--select", select])?)?;
            eprintln!("commits={commits} days={days} round={round} {name} {usage:?}");
            usages[step].push(usage);
        }
    }
    let counted = project.tidemill().number("select sum(message_count) from logins_usage_window")?;
    ensure!(u64::try_from(counted) == Ok(sent), "{sent} events were sent, the model counts {counted}");
    kafka.delete(topic)?;
    Ok(usages)
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
