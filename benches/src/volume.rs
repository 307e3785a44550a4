//! (f) One day of clicks: from files and from Kafka, through raw tables and models to the warehouse.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tidemill_tests::project::{Project, ProjectBuilder};

use crate::VolumeArgs;
use crate::broker::Kafka;
use crate::child::{self, Usage};
use crate::results::Section;
use crate::stats::{rate, thousands};

/// The sources of the system and the topics that feed them.
const SOURCES: [(&str, &str); 3] = [
    ("clicks.user_actions", "events.user-actions"),
    ("clicks.transactions", "events.transactions"),
    ("clicks.system", "events.system"),
];
/// All that stands on them.
const MODELS: &str = "source:clicks+";
/// The system is switched off where nobody sends its topics.
const VARS: &str = "{clicks_enabled: true}";
const DAY_S: u64 = 86_400;

/// What one stage of one road cost.
struct Stage {
    road: &'static str,
    name: String,
    usage: Usage,
    /// Bytes that the stage added to the disk.
    disk_bytes: u64,
}

/// Measures both roads, one after the other.
pub(crate) fn measure(args: &VolumeArgs) -> Result<Section> {
    let mut stages = from_files(args)?;
    stages.extend(from_kafka(args)?);
    let rows = stages.iter().map(|stage| {
        vec![
            stage.road.to_owned(),
            stage.name.clone(),
            format!("{:.1} s", stage.usage.wall.as_secs_f64()),
            format!("{:.1} s", stage.usage.cpu.as_secs_f64()),
            thousands(rate(args.events, stage.usage.wall)),
            format!("{} MiB", stage.usage.peak_bytes >> 20),
            format!("{} MiB", stage.disk_bytes >> 20),
        ]
    });
    let mut rows: Vec<_> = rows.collect();
    for road in ["files", "Kafka"] {
        let of_road = || stages.iter().filter(|stage| stage.road == road && stage.name != "simulate");
        let wall: Duration = of_road().map(|stage| stage.usage.wall).sum();
        let cpu: Duration = of_road().map(|stage| stage.usage.cpu).sum();
        let peak = of_road().map(|stage| stage.usage.peak_bytes).max().unwrap_or_default();
        let disk: u64 = of_road().map(|stage| stage.disk_bytes).sum();
        rows.push(vec![
            road.to_owned(),
            "all but simulate".to_owned(),
            format!("{:.1} s", wall.as_secs_f64()),
            format!("{:.1} s", cpu.as_secs_f64()),
            thousands(rate(args.events, wall)),
            format!("{} MiB", peak >> 20),
            format!("{} MiB", disk >> 20),
        ]);
    }
    Ok(Section {
        id: "f",
        title: "Volume: one day of clicks",
        command: format!("benches/run f --events {}", args.events),
        data: format!(
            "`tidemill simulate clicks`: {} base events over one day of virtual time, with its usual copies, late, malformed and\n\
             incomplete ones. Each stage is a process of its own; *events/s* are base events by its time, *disk* is what it\n\
             added to lake and warehouse (simulate: the files). *verify* compares every mart with the simulator's truth: a road from Kafka\n\
             that does not end with equal marts is not in this table.",
            thousands(u32::try_from(args.events).map_or(f64::NAN, f64::from)),
        ),
        heading: vec!["from", "stage", "time", "processor time", "events/s", "peak memory", "disk"],
        rows,
    })
}

fn from_files(args: &VolumeArgs) -> Result<Vec<Stage>> {
    let project = ProjectBuilder::shipped().build()?;
    let mut road = Road { name: "files", project: &project, stages: Vec::new() };
    let traffic = TempDir::with_prefix("tidemill-volume-")?;
    let output = traffic.path().display().to_string();
    let truth = project.folder().join("truth.json").display().to_string();
    let mut simulate = simulate(args, &truth);
    simulate.extend(["--to", "files", "--output", &output].map(str::to_owned));
    let as_of = as_of(&road.run_watching("simulate", &simulate, traffic.path())?)?;
    for (source, topic) in SOURCES {
        let file = traffic.path().join(format!("{topic}.jsonl"));
        ensure!(file.is_file(), "the simulator has written no {}", file.display());
        let command = ["ingest", "--select", source, "--from-files", &file.display().to_string()].map(str::to_owned);
        road.run(&format!("ingest {source}"), &command)?;
    }
    // Metrics of applications have no id of their own and need Kafka's coordinates, which files do not carry: the truth is not theirs.
    road.run_models(&as_of)?;
    Ok(road.stages)
}

fn from_kafka(args: &VolumeArgs) -> Result<Vec<Stage>> {
    let kafka = Kafka::start()?;
    for (_, topic) in SOURCES {
        kafka.create(topic, args.partitions)?;
    }
    let project = ProjectBuilder::shipped().kafka(&kafka.bootstrap(), "volume").build()?;
    let mut road = Road { name: "Kafka", project: &project, stages: Vec::new() };
    let truth = project.folder().join("truth.json").display().to_string();
    let mut simulate = simulate(args, &truth);
    simulate.extend(["--to", "kafka", "--partitions", &args.partitions.to_string()].map(str::to_owned));
    let as_of = as_of(&road.run("simulate", &simulate)?)?;
    road.run("ingest", &["ingest", "--select", "clicks"].map(str::to_owned))?;
    road.run_models(&as_of)?;
    road.run("verify", &["simulate", "verify", "--truth", &truth].map(str::to_owned))?;
    Ok(road.stages)
}

fn simulate(args: &VolumeArgs, truth: &str) -> Vec<String> {
    #[expect(clippy::cast_precision_loss, reason = "events are millions")]
    let per_second = args.events as f64 / DAY_S as f64;
    let (events, rate) = (args.events.to_string(), format!("{per_second:.6}"));
    ["simulate", "clicks", "--events", &events, "--rate", &rate, "--truth", truth].map(str::to_owned).into()
}

/// The clock at which the truth was told.
fn as_of(report: &str) -> Result<String> {
    let report: Value = serde_json::from_str(report).context("the simulator's report is JSON")?;
    Ok(report["as_of"].as_str().context("the simulator tells its clock")?.to_owned())
}

/// The stages of one way to the warehouse.
struct Road<'a> {
    name: &'static str,
    project: &'a Project,
    stages: Vec<Stage>,
}

impl Road<'_> {
    fn run_models(&mut self, as_of: &str) -> Result<()> {
        self.run("build", &["build", "--select", MODELS, "--as-of", as_of].map(str::to_owned))?;
        self.run("publish", &["publish", "--select", MODELS].map(str::to_owned))?;
        Ok(())
    }

    /// Returns what the command printed.
    fn run(&mut self, name: &str, command: &[String]) -> Result<String> {
        let folder = self.project.folder().to_path_buf();
        self.run_watching(name, command, &folder)
    }

    /// Runs a command and looks how much a folder grew by it.
    fn run_watching(&mut self, name: &str, command: &[String], folder: &Path) -> Result<String> {
        let before = bytes_below(folder)?;
        let global = ["--format", "json", "--vars", VARS];
        let words: Vec<&str> = global.into_iter().chain(command.iter().map(String::as_str)).collect();
        let (stdout, usage) = child::run(self.project.tidemill().command(&words)?)?;
        eprintln!("{} {name} {usage:?}", self.name);
        let disk_bytes = bytes_below(folder)?.saturating_sub(before);
        self.stages.push(Stage { road: self.name, name: name.to_owned(), usage, disk_bytes });
        Ok(stdout)
    }
}

/// The size of all files in a folder and those below it.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("failed to look into {}", folder.display()))? {
        let entry = entry?;
        let facts = entry.metadata()?;
        bytes += if facts.is_dir() { bytes_below(&entry.path())? } else { facts.len() };
    }
    Ok(bytes)
}
