//! Arguments of the commands that work on models.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What to work on.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SelectArgs {
    /// dbt selectors: names, paths, tag:, source:, config.x:, state:, …, +x, x+, 2+x, @x; a comma intersects
    #[arg(long, short = 's', alias = "models", short_alias = 'm', value_name = "SELECTOR", num_args = 1..)]
    pub(crate) select: Vec<String>,
    /// dbt selectors to leave out
    #[arg(long, value_name = "SELECTOR", num_args = 1..)]
    pub(crate) exclude: Vec<String>,
    /// A selection of selectors.yml
    #[arg(long, value_name = "NAME", conflicts_with = "select")]
    pub(crate) selector: Option<String>,
    /// Only these kinds: model, seed, source, test, exposure
    #[arg(long, alias = "resource-types", value_name = "KIND", num_args = 1..)]
    pub(crate) resource_type: Vec<String>,
    /// All but these kinds
    #[arg(long, alias = "exclude-resource-types", value_name = "KIND", num_args = 1..)]
    pub(crate) exclude_resource_type: Vec<String>,
    /// Which tests come along with the nodes that they test
    #[arg(long, value_enum, default_value_t = IndirectArg::Eager)]
    pub(crate) indirect_selection: IndirectArg,
    /// Folder of an earlier run's artifacts, for state:, result: and source_status:
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// Which tests come along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum IndirectArg {
    /// Those that test any selected node.
    #[default]
    Eager,
    /// Those that test selected nodes only.
    Cautious,
    /// Those that test selected nodes and what these stand on.
    Buildable,
    /// None.
    Empty,
}

/// Arguments of `seed` and `snapshot`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Do it again even when nothing changed
    #[arg(long)]
    pub(crate) full_refresh: bool,
    /// Start nothing more after the first failure
    #[arg(long, short = 'x')]
    pub(crate) fail_fast: bool,
    /// Read and check the files, say which would be loaded, and load nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Arguments of `compile`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Compile this text instead of models
    #[arg(long, value_name = "SQL", conflicts_with_all = ["select", "exclude", "selector"])]
    pub(crate) inline: Option<String>,
}

/// Arguments of `show`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Run this text, which may use ref and source, instead of models
    #[arg(long, value_name = "SQL", conflicts_with_all = ["select", "exclude", "selector"])]
    pub(crate) inline: Option<String>,
    /// Rows per model
    #[arg(long, default_value_t = 10)]
    pub(crate) limit: usize,
}

/// Arguments of `ls`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// What is printed of each node
    #[arg(long, value_enum, default_value_t = LsOutput::Selector)]
    pub(crate) output: LsOutput,
    /// Keys of the manifest to print with `--output json`
    #[arg(long, value_name = "KEY", num_args = 1..)]
    pub(crate) output_keys: Vec<String>,
}

/// dbt's forms of `ls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LsOutput {
    /// The text that selects it.
    Selector,
    /// Its name.
    Name,
    /// Its file.
    Path,
    /// One JSON object a line, keys of the manifest.
    Json,
}

/// Arguments of `retry`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RetryArgs {
    /// Folder of the run_results.json to go on from [default: the target folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Start nothing more after the first failure
    #[arg(long, short = 'x')]
    pub(crate) fail_fast: bool,
    /// Say what would be done and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Commands of `docs`.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DocsCommand {
    /// Write one HTML page that shows models, columns, tests, lineage and freshness, and catalog.json
    #[command(after_help = "Example: tidemill docs generate && xdg-open target/index.html")]
    Generate(DocsArgs),
}

/// Arguments of `docs generate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DocsArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Leave compiled SQL out
    #[arg(long)]
    pub(crate) no_compile: bool,
}

/// Commands of `source`, dbt's spelling.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Compare the newest row of sources with their `freshness`
    #[command(after_help = "Example: tidemill source-freshness --select source:logins")]
    Freshness(SelectArgs),
}

/// Arguments of `lint`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LintArgs {
    #[command(flatten)]
    pub(crate) selection: SelectArgs,
    /// Rules to leave out, by id or name
    #[arg(long, value_name = "RULE", num_args = 1..)]
    pub(crate) off: Vec<String>,
    /// List the rules and do nothing
    #[arg(long)]
    pub(crate) rules: bool,
}

/// Arguments of `clean`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CleanArgs {
    /// Say what would be deleted and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
