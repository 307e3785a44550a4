//! Measures the product as a user runs it: the real binary, a real Kafka, its own project folder.
//!
//! `benches/run` builds and starts this. Every measurement checks its result before it counts: what was sent is what landed.
//!
//! - [`throughput`]: (a) ingest of a backlog beside [`limit`], a program that only reads, parses and writes.
//! - [`latency`]: (b) from sending an event to seeing it in the local warehouse.
//! - [`history`]: (c) one micro-batch on tables of different age and size.
//! - [`duplicates`]: (d) ingest with copies, near ones and old ones.
//! - [`projects`]: (e) large projects beside dbt-core.
//! - [`volume`]: (f) a day of clicks, from files and from Kafka, to the warehouse.
//! - [`feeds`]: (g) one event of `zentry` on a million follows.
//! - [`peer`]: (h) shipped models beside dbt-duckdb on the same Parquet files.
//! - [`panes`]: (i) sliding windows by panes beside tumbling ones.
//! - [`traffic`], [`clicks`], [`broker`], [`child`], [`mart`]: events, topics, processes, and a reader of a Delta table.
//! - [`results`], [`machine`], [`stats`]: the committed table.

#![expect(clippy::print_stderr, reason = "whoever watches a measurement of minutes wants to see it move")]

mod broker;
mod child;
mod clicks;
mod collect;
mod duplicates;
mod feeds;
mod history;
mod latency;
mod limit;
mod machine;
mod mart;
mod panes;
mod peer;
mod projects;
mod results;
mod stats;
mod throughput;
mod topics;
mod traffic;
mod volume;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Measures Tidemill and writes benches/RESULTS.md")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where the tables go
    #[arg(long, global = true, default_value = "benches/RESULTS.md")]
    results: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// (a) Ingest of a backlog, beside a program that only reads, parses and writes
    A(ThroughputArgs),
    /// (b) From sending an event to seeing it in the local warehouse
    B(LatencyArgs),
    /// (c) One micro-batch on tables of different age and size
    C(HistoryArgs),
    /// (d) Ingest with copies
    D(DuplicatesArgs),
    /// (e) Large projects: parse, compile, a build that has nothing to do, beside dbt-core
    E(ProjectsArgs),
    /// (f) A day of clicks through all stages
    F(VolumeArgs),
    /// (g) One event of zentry on many follows
    G(FeedsArgs),
    /// (h) Shipped models beside dbt-duckdb on the same Parquet files
    H(PeerArgs),
    /// (i) Sliding windows by panes beside tumbling ones
    I(PanesArgs),
    /// (j) The HTTP door under load
    J(CollectArgs),
    /// (k) From an event to the topic that tells of it
    K(TopicsArgs),
    /// All but (f) and (h), whose days take gigabytes of disk, and (k), which is new
    All,
    /// The program beside which (a) is measured; started by (a)
    #[command(hide = true)]
    Limit(limit::LimitArgs),
}

/// Numbers of (a).
#[derive(Clone, Debug, Args)]
struct ThroughputArgs {
    /// Events in the backlog
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Runs of each program, one after the other in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Partitions of the topics
    #[arg(long, num_args = 1.., default_values_t = [4, 16])]
    partitions: Vec<i32>,
    /// A command that is put before the product, e.g. 'perf record -o FILE --'
    #[arg(long)]
    wrap: Option<String>,
}

/// Numbers of (b).
#[derive(Clone, Debug, Args)]
struct LatencyArgs {
    /// Events per second
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// Length of the measurement in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Events that the hour holds already
    #[arg(long, num_args = 1.., default_values_t = [0, 1_000_000])]
    before: Vec<u64>,
}

/// Numbers of (c).
#[derive(Clone, Debug, Args)]
struct HistoryArgs {
    /// Commits and days of each table: `10,1`
    #[arg(long, num_args = 1.., value_parser = pair, default_values = ["10,1", "1000,1", "10000,1", "1000,30", "1000,365"])]
    tables: Vec<(u64, u32)>,
    /// Micro-batches that are measured on each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Numbers of (d).
#[derive(Clone, Debug, Args)]
struct DuplicatesArgs {
    /// Records that are sent in each case
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Runs of each case
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Numbers of (e).
#[derive(Clone, Debug, Args)]
struct ProjectsArgs {
    /// Models of the project that is parsed and compiled
    #[arg(long, default_value_t = 1_000)]
    models: u32,
    /// Models of the project that is built
    #[arg(long, default_value_t = 200)]
    built: u32,
    /// Runs of each program, one after the other in turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Numbers of (f).
#[derive(Clone, Debug, Args)]
struct VolumeArgs {
    /// Base events of the day
    #[arg(long, default_value_t = 50_000_000)]
    events: u64,
    /// Partitions of each topic
    #[arg(long, default_value_t = 6)]
    partitions: i32,
}

/// Numbers of (g).
#[derive(Clone, Debug, Args)]
struct FeedsArgs {
    /// People, a power of ten
    #[arg(long, default_value_t = 100_000)]
    users: u64,
    /// Follows, about
    #[arg(long, default_value_t = 1_000_000)]
    follows: u64,
    /// Entries that are there before
    #[arg(long, default_value_t = 200_000)]
    entries: u64,
    /// Followers from which on an author is a celebrity
    #[arg(long, default_value_t = 10_000)]
    threshold: u64,
    /// Events that are measured of each kind
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Numbers of (h).
#[derive(Clone, Debug, Args)]
struct PeerArgs {
    /// Base events of the day
    #[arg(long, default_value_t = 50_000_000)]
    events: u64,
    /// Full refreshes of each program
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Numbers of (i).
#[derive(Clone, Debug, Args)]
struct PanesArgs {
    /// Base events of the day
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Runs of each kind of windows
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Numbers of (j).
#[derive(Clone, Debug, Args)]
struct CollectArgs {
    /// Seconds of each row but the last
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Minutes of the last row, at half of the greatest rate
    #[arg(long, default_value_t = 1)]
    minutes: u64,
    /// Connections of the closed loops
    #[arg(long, num_args = 1.., default_values_t = [1, 16, 128])]
    connections: Vec<u64>,
    /// Readings of a batch
    #[arg(long, default_value_t = 60)]
    readings: usize,
}

/// Numbers of (k).
#[derive(Clone, Debug, Args)]
struct TopicsArgs {
    /// Seconds of traffic that are measured, warm-up included
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only these systems
    #[arg(long, num_args = 1..)]
    systems: Vec<String>,
}

fn pair(text: &str) -> Result<(u64, u32), String> {
    let parsed = text.split_once(',').and_then(|(commits, days)| Some((commits.parse().ok()?, days.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{text}` is not COMMITS,DAYS"))
}

/// The default numbers of a measurement.
fn defaults<T: Args>() -> T {
    let command = T::augment_args(clap::Command::new("defaults").no_binary_name(true));
    let matches = command.get_matches_from(std::iter::empty::<&str>());
    T::from_arg_matches(&matches).expect("every number has a default")
}

fn main() -> Result<()> {
    let Cli { command, results } = Cli::parse();
    let write = |section: results::Section| results::write(&results, &section);
    match command {
        Command::A(args) => write(throughput::measure(&args)?),
        Command::B(args) => write(latency::measure(&args)?),
        Command::C(args) => write(history::measure(&args)?),
        Command::D(args) => write(duplicates::measure(&args)?),
        Command::E(args) => write(projects::measure(&args)?),
        Command::F(args) => write(volume::measure(&args)?),
        Command::G(args) => write(feeds::measure(&args)?),
        Command::H(args) => write(peer::measure(&args)?),
        Command::I(args) => write(panes::measure(&args)?),
        Command::J(args) => write(collect::measure(&args)?),
        Command::K(args) => write(topics::measure(&args)?),
        Command::All => {
            write(throughput::measure(&defaults())?)?;
            write(latency::measure(&defaults())?)?;
            write(history::measure(&defaults())?)?;
            write(duplicates::measure(&defaults())?)?;
            write(projects::measure(&defaults())?)?;
            write(feeds::measure(&defaults())?)?;
            write(panes::measure(&defaults())?)?;
            write(collect::measure(&defaults())?)
        }
        Command::Limit(args) => limit::run(&args),
    }
}
