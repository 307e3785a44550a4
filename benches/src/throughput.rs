//! (a) How fast a backlog is taken in.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tidemill_tests::logins;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill;

use crate::ThroughputArgs;
use crate::broker::Kafka;
use crate::child::{self, Usage};
use crate::results::Section;
use crate::stats::{median, rate, thousands};
use crate::traffic::{self, second_of, write_login};

pub(crate) const SOURCE: &str = "logins.user_login";

/// Measures product and limit in turn, on the same topics.
pub(crate) fn measure(args: &ThroughputArgs) -> Result<Section> {
    let kafka = Kafka::start()?;
    let mut rows = Vec::new();
    for &partitions in &args.partitions {
        let topic = format!("backlog-{partitions}");
        fill(&kafka, &topic, partitions, args.events)?;
        let (mut product, mut limit) = (Vec::new(), Vec::new());
        for round in 0..args.rounds {
            limit.push(run_limit(&kafka, &topic, partitions, args.events)?);
            product.push(run_product(&kafka, &topic, args, round)?);
            eprintln!("partitions={partitions} limit={:?} product={:?}", limit.last(), product.last());
        }
        rows.push(row(partitions, "limit", &limit, &limit, args.events));
        rows.push(row(partitions, "tidemill", &product, &limit, args.events));
        kafka.delete(&topic)?;
    }
    Ok(Section {
        id: "a",
        title: "Ingest throughput",
        command: format!("benches/run a --events {} --rounds {}", args.events, args.rounds),
        data: format!(
            "Apache Kafka 4.1.1 on the same machine, a backlog of {} JSON logins of {} bytes (no compression, no key), the\n\
             shipped `logins` contract and the default settings but for the lake's place. *limit* is `src/limit.rs`. Both are\n\
             processes of their own, measured from start to exit, in turn; medians of {} runs. *processor time* is user and\n\
             system time of the process; a machine with two free cores is bound by it, so its ratio is what other load on the\n\
             machine cannot bend. *2 cores* is the rate that two free cores would give if all of it ran side by side. The\n\
             broker's own time is not in it.",
            thousands(u32::try_from(args.events).map_or(f64::NAN, f64::from)),
            traffic::mean_bytes(),
            args.rounds,
        ),
        heading: vec![
            "partitions",
            "program",
            "events/s",
            "of limit",
            "processor time per event",
            "of limit",
            "2 cores, events/s",
            "peak memory",
        ],
        rows,
    })
}

fn fill(kafka: &Kafka, topic: &str, partitions: i32, events: u64) -> Result<()> {
    kafka.create(topic, partitions)?;
    let mut sender = kafka.sender(partitions)?;
    let mut text = String::new();
    for number in 0..events {
        let second = second_of(number);
        write_login(&mut text, number, second);
        sender.send(topic, &text, Some(second * 1000))?;
    }
    sender.flush()?;
    ensure!(kafka.count(topic, partitions)? == events, "the topic does not hold what was sent");
    Ok(())
}

fn run_limit(kafka: &Kafka, topic: &str, partitions: i32, events: u64) -> Result<Usage> {
    let folder = TempDir::with_prefix("tidemill-limit-")?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["limit", "--bootstrap", &kafka.bootstrap(), "--topic", topic])
        .args(["--partitions", &partitions.to_string(), "--events", &events.to_string()])
        .arg("--folder")
        .arg(folder.path());
    Ok(child::run(command)?.1)
}

fn run_product(kafka: &Kafka, topic: &str, args: &ThroughputArgs, round: usize) -> Result<Usage> {
    let project = project(kafka, topic, &format!("a-{topic}-{round}"))?;
    let (report, usage) = ingest(&project, args.wrap.as_deref())?;
    let counts = Counts::of(&report)?;
    let expected = Counts { landed: args.events, duplicates: 0, quarantined: 0 };
    ensure!(counts == expected, "sent {} events, {counts:?}", args.events);
    Ok(usage)
}

/// The shipped project on a topic, with a lake of its own.
pub(crate) fn project(kafka: &Kafka, topic: &str, group: &str) -> Result<Project> {
    ProjectBuilder::shipped().kafka(&kafka.bootstrap(), group).topic(logins::TOPIC, topic).build()
}

/// Drains the topic; returns the report.
pub(crate) fn ingest(project: &Project, wrap: Option<&str>) -> Result<(Value, Usage)> {
    let plain = project.tidemill().command(&["--format", "json", "ingest", "--select", SOURCE])?;
    let command = match wrap {
        None => plain,
        Some(wrap) => {
            let mut words = wrap.split(' ');
            let mut wrapped = Command::new(words.next().context("an empty wrapper")?);
            wrapped.args(words).arg(tidemill::binary()?).args(plain.get_args());
            wrapped
        }
    };
    let (stdout, usage) = child::run(command)?;
    Ok((serde_json::from_str(&stdout).context("the report is JSON")?, usage))
}

/// What became of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) landed: u64,
    pub(crate) duplicates: u64,
    pub(crate) quarantined: u64,
}

impl Counts {
    /// Adds up the books of all partitions.
    pub(crate) fn of(report: &Value) -> Result<Self> {
        let partitions = report["sources"][0]["partitions"].as_array().context("the report has partitions")?;
        let sum = |name: &str| partitions.iter().filter_map(|books| books[name].as_u64()).sum();
        Ok(Self { landed: sum("landed"), duplicates: sum("duplicates"), quarantined: sum("quarantined") })
    }
}

fn row(partitions: i32, name: &str, runs: &[Usage], limit: &[Usage], events: u64) -> Vec<String> {
    let wall = |runs: &[Usage]| median(runs.iter().map(|run| rate(events, run.wall)).collect());
    let cpu = |runs: &[Usage]| median(runs.iter().map(|run| 1e6 / rate(events, run.cpu)).collect());
    let peak = runs.iter().map(|run| run.peak_bytes).max().unwrap_or_default();
    vec![
        partitions.to_string(),
        name.to_owned(),
        thousands(wall(runs)),
        format!("{:.0} %", 100.0 * wall(runs) / wall(limit)),
        format!("{:.2} us", cpu(runs)),
        format!("{:.0} %", 100.0 * cpu(limit) / cpu(runs)),
        thousands(2e6 / cpu(runs)),
        format!("{} MiB", peak >> 20),
    ]
}
