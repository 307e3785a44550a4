//! (h) Shipped models beside dbt-duckdb on the same Parquet files: full refresh and increments.
//!
//! One day of clicks lies in the lake's raw tables. Tidemill builds its shipped marts from them; dbt-duckdb builds the models of
//! `benches/duckdb`, which say the same in DuckDB's words, from links to the very same files. After every step the marts are
//! compared row by row, and no time counts of marts that differ.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tidemill_tests::installed;
use tidemill_tests::project::{Project, ProjectBuilder};

use crate::PeerArgs;
use crate::child::{self, Usage};
use crate::clicks::{self, Day, VARS};
use crate::results::Section;
use crate::stats::{median, thousands};

/// Sources, their topics, and the raw tables' names.
const RAW: [(&str, &str, &str); 2] = [
    ("clicks.user_actions", "events.user-actions", "user_actions"),
    ("clicks.transactions", "events.transactions", "transactions"),
];
const MARTS: [&str; 4] = ["clicks_actions_hourly", "clicks_per_minute", "potential_bots", "transactions_hourly"];
/// Each adds one hundredth of the day: the next of it, and some of the three hours before.
const INCREMENTS: usize = 3;
/// What the first load leaves to the increments.
const FIRST_SHARE: f64 = 0.97;
/// The three hours, as a share of the day.
const LATE_SHARE: f64 = 0.125;
/// One event in so many of these hours comes late, with each of the increments.
const LATE_EVERY: u64 = 125;
/// Hours that dbt-duckdb computes again: those that the late events lie in.
const LOOKBACK_HOURS: u32 = 4;

/// Measures both programs in turn.
pub(crate) fn measure(args: &PeerArgs) -> Result<Section> {
    let bench = Bench::new(args.events)?;
    let parts = bench.deal()?;
    bench.ingest(&parts, 0)?;
    let (mut own, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        bench.forget()?;
        own.push(bench.tidemill()?);
        peer.push(bench.dbt()?);
        eprintln!("full refresh tidemill={:?} dbt-duckdb={:?}", own.last(), peer.last());
        bench.compare()?;
    }
    let mut rows = rows("full refresh", &own, &peer);
    (own, peer) = (Vec::new(), Vec::new());
    for part in 1..=INCREMENTS {
        bench.ingest(&parts, part)?;
        own.push(bench.tidemill()?);
        peer.push(bench.dbt()?);
        eprintln!("increment tidemill={:?} dbt-duckdb={:?}", own.last(), peer.last());
        bench.compare()?;
    }
    rows.extend(self::rows("increment of 1 %", &own, &peer));
    Ok(Section {
        id: "h",
        title: "Models beside dbt-duckdb",
        command: format!("benches/run h --events {} --rounds {}", args.events, args.rounds),
        data: format!(
            "{} simulated base events of one day in the lake's raw tables, {:.2} GB of Parquet in all. *tidemill*: `run-models`\n\
             of the shipped {}. *dbt-duckdb*:\n\
             the models of `benches/duckdb`, `dbt run`, over links to the same files. Whole processes, start included, in turn; medians of\n\
             {} full refreshes of tables that are not there and of {INCREMENTS} increments, each the next 1 % of the day and 0.1 % from the three\n\
             hours before. dbt-duckdb is told to look back {LOOKBACK_HOURS} hours; Tidemill finds the hours itself. After each step all rows of all\n\
             marts were compared and equal.",
            thousands(u32::try_from(args.events).map_or(f64::NAN, f64::from)),
            bench.gigabytes()?,
            MARTS.map(|mart| format!("`{mart}`")).join(", "),
            args.rounds,
        ),
        heading: vec!["task", "program", "time", "times faster", "processor time", "peak memory"],
        rows,
    })
}

fn rows(task: &str, own: &[Usage], peer: &[Usage]) -> Vec<Vec<String>> {
    let wall = |runs: &[Usage]| median(runs.iter().map(|run| run.wall.as_secs_f64()).collect());
    let row = |program: &str, runs: &[Usage]| {
        let cpu = median(runs.iter().map(|run| run.cpu.as_secs_f64()).collect());
        let peak = runs.iter().map(|run| run.peak_bytes).max().unwrap_or_default();
        vec![
            task.to_owned(),
            program.to_owned(),
            format!("{:.2} s", wall(runs)),
            format!("{:.2}", wall(peer) / wall(runs)),
            format!("{cpu:.2} s"),
            format!("{} MiB", peak >> 20),
        ]
    };
    vec![row("dbt-duckdb", peer), row("tidemill", own)]
}

/// A lake, a peer's database, and the events that go into the lake.
struct Bench {
    project: Project,
    day: Day,
}

impl Bench {
    fn new(events: u64) -> Result<Self> {
        let project = ProjectBuilder::shipped().build()?;
        let day = Day::simulate(&project, events)?;
        Ok(Self { project, day })
    }

    /// The lines of each topic: those of the first load, then those of each increment.
    fn deal(&self) -> Result<Vec<Vec<PathBuf>>> {
        let part_of = |share: f64, number: u64| -> usize {
            if share >= FIRST_SHARE {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of one")]
                let part = ((share - FIRST_SHARE) * 100.0) as usize;
                return 1 + part.min(INCREMENTS - 1);
            }
            match usize::try_from(number % LATE_EVERY) {
                Ok(part) if part < INCREMENTS && share >= FIRST_SHARE - LATE_SHARE => 1 + part,
                _ => 0,
            }
        };
        RAW.iter().map(|(_, topic, _)| self.day.deal(topic, 1 + INCREMENTS, part_of)).collect()
    }

    fn ingest(&self, parts: &[Vec<PathBuf>], part: usize) -> Result<()> {
        for ((source, _, table), files) in RAW.iter().zip(parts) {
            clicks::ingest(&self.project, source, &files[part])?;
            fs::remove_file(&files[part])?;
            clicks::link_live_files(&self.project.lake().join("raw/clicks").join(table), &self.links(table))?;
        }
        Ok(())
    }

    /// Where the peer finds a raw table, and the comparison a mart.
    fn links(&self, table: &str) -> PathBuf {
        self.project.folder().join("links").join(table)
    }

    fn database(&self) -> PathBuf {
        self.project.folder().join("peer.duckdb")
    }

    /// Removes both programs' marts.
    fn forget(&self) -> Result<()> {
        for mart in MARTS {
            let folder = self.project.lake().join("models/main").join(mart);
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        if self.database().exists() {
            fs::remove_file(self.database())?;
        }
        Ok(())
    }

    fn tidemill(&self) -> Result<Usage> {
        let tidemill = self.project.tidemill().vars(VARS).as_of(&self.day.as_of);
        Ok(child::run(tidemill.command(&[&["run-models", "--select"][..], &MARTS].concat())?)?.1)
    }

    fn dbt(&self) -> Result<Usage> {
        let project = installed::repository().join("benches/duckdb");
        let vars = format!(
            "{{user_actions: '{}', transactions: '{}', lookback_hours: {LOOKBACK_HOURS}}}",
            self.links("user_actions").display(),
            self.links("transactions").display(),
        );
        let mut command = Command::new(installed::path_of("dbt")?.join("bin/dbt"));
        command
            .args(["run", "--vars", &vars, "--project-dir"])
            .arg(&project)
            .arg("--profiles-dir")
            .arg(&project)
            .arg("--target-path")
            .arg(self.project.folder().join("peer-target"))
            .arg("--log-path")
            .arg(self.project.folder().join("peer-logs"))
            .env("PEER_DATABASE", self.database())
            .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "0");
        Ok(child::run(command)?.1)
    }

    /// Fails when any row of any mart differs.
    fn compare(&self) -> Result<()> {
        let mut command = Command::new(installed::path_of("dbt")?.join("bin/python"));
        command.arg(installed::repository().join("benches/duckdb/compare.py")).arg(self.database());
        for mart in MARTS {
            let links = self.links(mart);
            clicks::link_live_files(&self.project.lake().join("models/main").join(mart), &links)?;
            command.arg(format!("{mart}={}", links.display()));
        }
        let (counts, _) = child::run(command).context("the marts of the two programs differ")?;
        eprint!("{counts}");
        ensure!(
            counts.lines().filter(|line| !line.ends_with(" 0")).count() == MARTS.len(),
            "a mart is empty:\n{counts}"
        );
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes of a lake")]
    fn gigabytes(&self) -> Result<f64> {
        let mut bytes = 0;
        for (_, _, table) in RAW {
            let scratch = self.project.folder().join("links/counted");
            bytes += clicks::link_live_files(&self.project.lake().join("raw/clicks").join(table), &scratch)?;
        }
        Ok(bytes as f64 / 1e9)
    }
}
