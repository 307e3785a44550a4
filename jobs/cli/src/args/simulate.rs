//! Arguments of `simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::parse_duration;

/// Whose traffic, or the comparison with it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SimulateCommand {
    /// Sleep, meals and light of families
    #[command(
        after_help = "Example: tidemill simulate zoner --events 10000 --to files --output ./traffic --truth truth.json"
    )]
    Zoner(TrafficArgs),
    /// Motion readings of phones
    #[command(after_help = "Example: tidemill simulate activity --users 100 --duration 10m --pace realtime")]
    Activity(TrafficArgs),
    /// Clicks, orders and metrics of a product
    #[command(
        after_help = "Example: tidemill simulate clicks --duration 1d --to files --output ./day --truth truth.json"
    )]
    Clicks(TrafficArgs),
    /// Logins of an app's users
    #[command(after_help = "Example: tidemill simulate logins --rate 1000 --events 100000 --cross-partition")]
    Logins(TrafficArgs),
    /// Sleep entries and who follows whom
    #[command(after_help = "Example: tidemill simulate zentry --events 50000 --celebrity-threshold 100")]
    Zentry(TrafficArgs),
    /// Compare the lake with a truth file; exit 3 when they differ
    #[command(after_help = "Example: tidemill simulate verify --truth truth.json --warehouse")]
    Verify(VerifyArgs),
}

/// What is sent, and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct TrafficArgs {
    /// Same seed, same bytes
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Base events: those that would be sent if nothing ever went wrong [default: 10000, with --duration no limit]
    #[arg(long, value_name = "N")]
    pub(crate) events: Option<u64>,
    /// Virtual time that is covered, e.g. 90m or 7d
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Base events per second of virtual time [default: the system's own; zoner: as many users as live at it]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Virtual time of the first event
    #[arg(long, value_name = "INSTANT", default_value = "2025-03-08T00:00:00Z")]
    pub(crate) start: String,
    /// Users, or phones [default: the system's own number]
    #[arg(long, value_name = "N")]
    pub(crate) users: Option<u64>,
    /// Partitions of each topic [default: the system's own number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: Option<i32>,
    /// Share of events of which a copy is sent
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = parse_share)]
    pub(crate) duplicates: f64,
    /// Share of events that are sent later than the grace
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, value_parser = parse_share)]
    pub(crate) late: f64,
    /// Share of events that are sent up to half the grace later
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = parse_share)]
    pub(crate) out_of_order: f64,
    /// Extra records that no contract accepts, as a share of the events
    #[arg(long, value_name = "SHARE", default_value_t = 0.001, value_parser = parse_share)]
    pub(crate) malformed: f64,
    /// Share of events that lack a field
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, value_parser = parse_share)]
    pub(crate) missing: f64,
    /// Batches of clicks in transactions that are aborted, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.001, value_parser = parse_share)]
    pub(crate) aborted: f64,
    /// Send all records once more, this much later
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) replay_after: Option<Duration>,
    /// Send copies of zoner's events to another topic of the contract
    #[arg(long)]
    pub(crate) cross_topic: bool,
    /// Send copies of logins to another partition
    #[arg(long)]
    pub(crate) cross_partition: bool,
    /// Topics of zoner
    #[arg(long, value_enum, default_value_t = LayoutArg::Both)]
    pub(crate) layout: LayoutArg,
    /// Shape of zoner's traffic
    #[arg(long, value_enum, default_value_t = ProfileArg::DayPlan)]
    pub(crate) profile: ProfileArg,
    /// Followers from which an author of zentry is a celebrity; build with the same `zentry_celebrity_threshold`
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) celebrity_threshold: u64,
    /// Send clicks as Avro under these ids of the schema registry: user action v1, v2, transaction, system metric
    #[arg(long, value_name = "ID", num_args = 4, value_delimiter = ',')]
    pub(crate) schema_ids: Vec<u32>,
    /// Where records go
    #[arg(long, value_enum, default_value_t = Destination::Kafka)]
    pub(crate) to: Destination,
    /// Folder for one `<topic>.jsonl` a topic
    #[arg(long, value_name = "DIR", required_if_eq("to", "files"))]
    pub(crate) output: Option<PathBuf>,
    /// Send readings (activity) through the HTTP door; lateness is then no part of the truth
    #[arg(long, value_enum, conflicts_with_all = ["output", "create_topics"])]
    pub(crate) via: Option<Via>,
    /// The door's route [default: that of the target]
    #[arg(long, value_name = "URL", requires = "via")]
    pub(crate) collect_url: Option<String>,
    /// File with the API key for the door
    #[arg(long, value_name = "FILE", requires = "via")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Create the topics first; those that exist stay as they are
    #[arg(long)]
    pub(crate) create_topics: bool,
    /// How fast to send: as fast as it goes, or one second of virtual time a second
    #[arg(long, value_enum, default_value_t = Pace::Max)]
    pub(crate) pace: Pace,
    /// File for what tables must hold afterwards
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    /// Rows up to which the truth keeps a mart whole
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) truth_rows: usize,
}

/// Arguments of `simulate verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The truth file that `simulate` wrote
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) truth: Vec<PathBuf>,
    /// Only these models
    #[arg(long, short = 's', value_name = "MODEL", num_args = 1..)]
    pub(crate) select: Vec<String>,
    /// Compare the target's warehouse with the lake as well
    #[arg(long)]
    pub(crate) warehouse: bool,
    /// Differences to print of each model
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
}

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Destination {
    /// The target's topics.
    Kafka,
    /// JSONL files, without keys, partitions and timestamps.
    Files,
}

/// What stands before the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// `tidemill collect`.
    Collect,
}

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    /// As fast as it goes.
    Max,
    /// One second of virtual time a second.
    Realtime,
}

/// Topics of zoner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutArg {
    /// All on `user_activity`.
    Mixed,
    /// Each on the topic of its activity.
    PerActivity,
    /// Some users the one, some the other.
    Both,
}

/// Shape of zoner's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileArg {
    /// Everybody lives a day plan.
    DayPlan,
    /// User 123 does something every two seconds, as the system's own producer.
    Demo,
}

/// Reads a share.
fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}
