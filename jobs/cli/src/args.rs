//! The command line, as typed.

mod doctor;
mod metrics;
mod models;
mod simulate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use doctor::DoctorArgs;
pub(crate) use metrics::MetricsArgs;
pub(crate) use models::{
    CleanArgs, CompileArgs, DocsArgs, DocsCommand, IndirectArg, LintArgs, LsArgs, LsOutput, RetryArgs, SelectArgs,
    ShowArgs, SourceCommand, WorkArgs,
};

pub(crate) use simulate::{Destination, LayoutArg, Pace, ProfileArg, SimulateCommand, TrafficArgs, VerifyArgs};

/// Keeps a data warehouse fresh from Kafka, each event counted once.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 data tests or books failed, 75 temporary: \
                        retry.\nExample: tidemill demo --keep ./demo && tidemill --project-dir ./demo status"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Folder of the project [default: the nearest one upwards with a tidemill.toml or dbt_project.yml]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) project_dir: Option<PathBuf>,
    /// Target of tidemill.toml [default: TIDEMILL_TARGET, else default_target]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Lake to use instead of the target's: a folder or a URL
    #[arg(long, global = true, value_name = "DIR|URL")]
    pub(crate) lake: Option<String>,
    /// Output: text for people, json for machines; `sql` and `show` know csv, `sql` parquet as well (logs go to stderr)
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Form of the logs on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Variables for models and contracts, as YAML or JSON: '{logins_tz: Europe/Berlin}'
    #[arg(long, global = true, value_name = "MAP")]
    pub(crate) vars: Option<String>,
    /// Name of this run in commits and logs [default: made up]
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Clock for watermarks: an instant such as 2025-03-09T12:00:00Z [default: now]
    #[arg(long, global = true, value_name = "INSTANT")]
    pub(crate) as_of: Option<String>,
    /// Nodes that are worked on side by side [default: transform.threads]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// Folder for dbt's artifacts and the docs site [default: target/ of the models project]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) target_path: Option<PathBuf>,
}

/// Output of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[value(alias = "table")]
    Text,
    /// One JSON object; `sql` prints one per row.
    Json,
    /// RFC 4180 with a heading (`sql`, `show`).
    Csv,
    /// A Parquet file (`sql`).
    Parquet,
}

/// Form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole road on an in-process broker and show the result
    #[command(after_help = "Example: tidemill demo --events 50000 --keep ./demo")]
    Demo(DemoArgs),
    /// Write a small working project
    #[command(after_help = "Example: tidemill init ./mine && cd ./mine && tidemill ingest --from-files events.jsonl")]
    Init(InitArgs),
    /// Check configuration, connections, rights, clocks and topics, and say what to do
    #[command(after_help = "Example: tidemill doctor --target prod --probe-kafka")]
    Doctor(DoctorArgs),
    /// Pull topics or files into raw tables, each event once
    #[command(after_help = "Example: tidemill ingest --select logins.user_login --max-records 100000")]
    Ingest(IngestArgs),
    /// Take readings by HTTP and send them to Kafka, each acknowledged before it is answered
    #[command(after_help = "Example: tidemill collect --listen 0.0.0.0:8080")]
    Collect(CollectArgs),
    /// Build seeds and models and run their tests, only what is stale
    #[command(after_help = "Example: tidemill build --select +zoner_sleep_nightly --dry-run")]
    Build(BuildArgs),
    /// Build models without seeds and tests, only what is stale; dbt's `run`
    #[command(after_help = "Example: tidemill run-models --select tag:nightly+")]
    RunModels(BuildArgs),
    /// Load seeds
    #[command(after_help = "Example: tidemill seed --select user_time_zones")]
    Seed(WorkArgs),
    /// Bring snapshots up to date: the history of other relations' rows
    #[command(after_help = "Example: tidemill snapshot --select orders_snapshot")]
    Snapshot(WorkArgs),
    /// Run data tests, unit tests and scenario tests
    #[command(
        after_help = "Examples: tidemill test --select zoner_sleep_nightly\n          tidemill test --select test_type:unit"
    )]
    Test(TestArgs),
    /// Render models to SQL
    #[command(after_help = "Example: tidemill compile --select logins_usage_window")]
    Compile(CompileArgs),
    /// Run a model's SQL and print rows without storing them
    #[command(after_help = "Example: tidemill show --select logins_usage_window --limit 5")]
    Show(ShowArgs),
    /// List models, seeds, sources, tests and exposures
    #[command(alias = "list", after_help = "Example: tidemill ls --select tag:nightly+ --output name")]
    Ls(LsArgs),
    /// Read and check the models project and write manifest.json
    #[command(after_help = "Example: tidemill parse --target-path /tmp/state")]
    Parse,
    /// Write the documentation site
    #[command(subcommand)]
    Docs(DocsCommand),
    /// Compare the newest row of sources with their `freshness`
    #[command(after_help = "Example: tidemill source-freshness --select source:logins")]
    SourceFreshness(SelectArgs),
    /// dbt's spelling of source-freshness
    #[command(subcommand, hide = true)]
    Source(SourceCommand),
    /// Do again what failed or was skipped in the last command, with that command's arguments
    #[command(after_help = "Example: tidemill retry")]
    Retry(RetryArgs),
    /// Check names, layers and descriptions of the models project
    #[command(after_help = "Example: tidemill lint --off TL012")]
    Lint(LintArgs),
    /// Delete the target folder and the project's clean-targets
    #[command(after_help = "Example: tidemill clean --dry-run")]
    Clean(CleanArgs),
    /// Merge what changed in models into the warehouse
    #[command(after_help = "Example: tidemill publish --select zoner_sleep_nightly --dry-run")]
    Publish(PublishArgs),
    /// Ingest, build and publish, once or again and again
    #[command(after_help = "Example: tidemill run --every 5s")]
    Run(RunArgs),
    /// Prove from the lake's own commits that every offset has exactly one outcome
    #[command(after_help = "Example: tidemill reconcile --source logins.user_login --deep")]
    Reconcile(ReconcileArgs),
    /// Show lag, freshness and published versions
    #[command(after_help = "Example: tidemill status --format json")]
    Status(SelectArgs),
    /// Look at records that could not land, and let them in again
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Check schemas of topics against the registry, the contracts and what stands on them
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Query raw tables, models and quarantine; without a query, a prompt
    #[command(after_help = "Example: tidemill sql \"select * from logins_usage_window limit 5\" --format csv")]
    Sql(SqlArgs),
    /// Send seeded traffic of a system, and compare tables with what it implies
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Compact, checkpoint, clean up and vacuum tables
    #[command(after_help = "Example: tidemill maintain --dry-run")]
    Maintain(MaintainArgs),
}

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// Seed of the simulated traffic: same seed, same events
    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,
    /// Systems whose traffic is sent
    #[arg(long, value_enum, num_args = 1.., default_values_t = [SystemArg::All])]
    pub(crate) system: Vec<SystemArg>,
    /// Base events to send, shared among the systems
    #[arg(long, default_value_t = 30_000)]
    pub(crate) events: u64,
    /// Records per second that producers send
    #[arg(long, default_value_t = 10_000)]
    pub(crate) rate: u64,
    /// Folder for lake and warehouse, kept afterwards [default: ./.tidemill/demo]
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// A system of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SystemArg {
    /// Sleep, meals and light of families.
    Zoner,
    /// Motion readings of phones.
    Activity,
    /// Clicks, orders and metrics of a product.
    Clicks,
    /// Logins of an app's users.
    Logins,
    /// Sleep entries and who follows whom.
    Zentry,
    /// All five.
    All,
}

/// Arguments of `init`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to write into; must not hold a project yet
    pub(crate) dir: PathBuf,
}

/// Arguments of `test`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Look at all rows, not only at those that are new since a test last passed
    #[arg(long)]
    pub(crate) full: bool,
    /// Keep the rows that fail in tables, for `tidemill sql`
    #[arg(long)]
    pub(crate) store_failures: bool,
    /// Start no more tests after the first failure
    #[arg(long, short = 'x')]
    pub(crate) fail_fast: bool,
}

/// Arguments of `ingest`.
#[derive(Clone, Debug, Args)]
pub(crate) struct IngestArgs {
    /// Sources: `logins`, `logins.user_login` [default: all that are enabled]
    #[arg(long, short = 's', value_name = "SOURCE", num_args = 1..)]
    pub(crate) select: Vec<String>,
    /// Go on until a signal comes, instead of draining to the offsets that stood at start
    #[arg(long)]
    pub(crate) follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    pub(crate) max_records: Option<u64>,
    /// Stop after this long, e.g. 10m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) max_duration: Option<std::time::Duration>,
    /// What a gap in the offsets does
    #[arg(long, value_enum)]
    pub(crate) on_gap: Option<OnGapArg>,
    /// Read files instead of topics: JSONL, CSV, Parquet or Avro containers, also .gz and .zst; progress is kept per file
    #[arg(long, value_name = "GLOB", num_args = 1.., conflicts_with_all = ["follow", "max_records", "max_duration", "on_gap"])]
    pub(crate) from_files: Vec<String>,
    /// Say what would be read and read nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
}

/// What a gap does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnGapArg {
    /// The partition stops with an error.
    Stop,
    /// The gap is recorded and reading goes on.
    Skip,
}

/// Arguments of `collect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CollectArgs {
    /// Address and port to listen on [default: the target's `collect.listen`]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// Read an API key from stdin and print the SHA-256 that the settings want
    #[arg(long, conflicts_with = "listen")]
    pub(crate) hash_key: bool,
}

/// Arguments of `build`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Rebuild everything that is selected
    #[arg(long)]
    pub(crate) full_refresh: bool,
    /// Start nothing more after the first failure
    #[arg(long, short = 'x')]
    pub(crate) fail_fast: bool,
    /// Print the plan and do nothing; with `--format json` it is a file for `--plan`
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do exactly what the plan in this file says, and nothing when the lake has moved since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "full_refresh", "event_time_start", "event_time_end"])]
    pub(crate) plan: Option<std::path::PathBuf>,
    /// Rebuild batches from this event time on (included)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) event_time_start: Option<String>,
    /// Rebuild batches before this event time (excluded)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) event_time_end: Option<String>,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
}

/// Arguments of `publish`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Compare everything with the target and repair it
    #[arg(long)]
    pub(crate) full: bool,
    /// Say what would be sent and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Compare lake and target and send nothing; exit 3 when they differ
    #[arg(long, conflicts_with_all = ["full", "dry_run"])]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Start a cycle this often until a signal comes, e.g. 5s
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) every: Option<std::time::Duration>,
    /// Print the newest row of these models every 10 seconds while cycles go on
    #[arg(long, value_name = "MODEL", num_args = 1.., requires = "every")]
    pub(crate) tell: Vec<String>,
    /// Say what a cycle would read, build and send now, and do nothing
    #[arg(long, conflicts_with = "every")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) metrics: MetricsArgs,
}

/// Arguments of `reconcile`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReconcileArgs {
    /// Sources: `logins`, `logins.user_login` [default: all]
    #[arg(long, alias = "select", value_name = "SOURCE", num_args = 1..)]
    pub(crate) source: Vec<String>,
    /// Count rows and distinct keys as well
    #[arg(long)]
    pub(crate) deep: bool,
}

/// Commands of `quarantine`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List records
    #[command(after_help = "Example: tidemill quarantine list --class missing_field")]
    List(QuarantineListArgs),
    /// Show one record with its bytes
    #[command(after_help = "Example: tidemill quarantine show user-login/0/17")]
    Show(QuarantineShowArgs),
    /// Let records in again through the present contract, optionally with a JSON merge patch
    #[command(after_help = "Example: tidemill quarantine replay --class bad_value --select logins")]
    Replay(QuarantineReplayArgs),
}

/// Arguments of `quarantine list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct QuarantineListArgs {
    /// Sources
    #[arg(long, short = 's', value_name = "SOURCE", num_args = 1..)]
    pub(crate) select: Vec<String>,
    /// Only this class
    #[arg(long)]
    pub(crate) class: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
}

/// Arguments of `quarantine show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct QuarantineShowArgs {
    /// The record's id, as `list` prints it
    pub(crate) id: String,
}

/// Arguments of `quarantine replay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct QuarantineReplayArgs {
    /// The records' ids [default: all that the filters leave]
    pub(crate) ids: Vec<String>,
    /// Sources
    #[arg(long, short = 's', value_name = "SOURCE", num_args = 1..)]
    pub(crate) select: Vec<String>,
    /// Only this class
    #[arg(long)]
    pub(crate) class: Option<String>,
    /// JSON merge patch (RFC 7396) for each record
    #[arg(long, value_name = "JSON")]
    pub(crate) patch: Option<String>,
    /// Say what would happen and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Commands of `schema`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Say whether schemas may become the next version of their subjects, and what breaks if not; for CI
    #[command(
        after_help = "A file is a schema of the contract whose own schema has the same name, or of the one that --select names. \
                      Exit 3 when anything breaks.\nExample: tidemill schema check new/user_action.avsc --register"
    )]
    Check(SchemaCheckArgs),
}

/// Arguments of `schema check`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SchemaCheckArgs {
    /// Schema files to check [default: the `schema` of each contract]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Sources: `clicks`, `clicks.user_actions` [default: all that are enabled]
    #[arg(long, short = 's', value_name = "SOURCE", num_args = 1..)]
    pub(crate) select: Vec<String>,
    /// Register the schemas when nothing breaks
    #[arg(long)]
    pub(crate) register: bool,
}

/// Arguments of `sql`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SqlArgs {
    /// The query; without it, a prompt opens (or stdin is read when it is no terminal)
    pub(crate) query: Option<String>,
    /// File to write Parquet to [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Arguments of `maintain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MaintainArgs {
    /// Tables by their path in the lake [default: all]
    pub(crate) tables: Vec<String>,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Reads a duration such as `250ms`, `5s`, `10m`, `2h`, `7d`.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    tidemill_project::config::parse_duration(text)
        .ok_or_else(|| "write it with a unit, like 250ms, 5s, 10m, 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|inner| check(inner, &path));
            } else if command.get_name() != "doctor" || command.get_after_help().is_some() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("tidemill "), "no example in the help of{path}");
            }
        }
        Cli::command().get_subcommands().for_each(|command| check(command, ""));
    }
}
