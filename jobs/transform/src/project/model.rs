//! What a models project is made of, as plain data: read once by [`crate::load_project`], never changed afterwards.
//!
//! Everything here has been checked as a whole: types are right, configs are merged with dbt's precedence, `ref()` and
//! `source()` calls are collected. Whether they lead somewhere is [`crate::graph::Graph::build`]'s business.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tidemill_project::{Location, SourceName};

use super::config::{ModelConfig, TestConfig};
use super::extras::Extras;
use super::unit_tests::UnitTest;

/// A dbt project, read and checked.
#[derive(Clone, Debug)]
pub struct Project {
    /// `name` of `dbt_project.yml`.
    pub name: String,
    /// The folder that holds `dbt_project.yml`, as it was passed.
    pub root: PathBuf,
    /// Variables in force: `dbt_project.yml` under the overrides of the caller.
    pub vars: Map<String, Json>,
    /// What `env_var` sees.
    pub env: EnvVars,
    /// The target that was asked for.
    pub target: Target,
    /// Enabled models, by name, in the order of their files' paths.
    pub models: IndexMap<String, Model>,
    /// Seeds, by name, in the order of their files' paths.
    pub seeds: IndexMap<String, Seed>,
    /// Source tables, in the order of files and declarations.
    pub sources: IndexMap<SourceName, SourceTable>,
    /// Generic tests from YAML, in the order of files and declarations; their names are unique.
    pub generic_tests: Vec<GenericTest>,
    /// SQL files under `test-paths`.
    pub singular_tests: Vec<SingularTest>,
    /// Unit tests, in the order of files and declarations; their names are unique among all tests.
    pub unit_tests: Vec<UnitTest>,
    /// Macro files, in the order of their paths; the shipped ones are not among them.
    pub macros: Vec<MacroFile>,
    /// Models that are switched off (`enabled: false`): a ref to one is explained, not just "not found".
    pub disabled: Vec<String>,
    /// Exposures, groups, freshness, selectors: what commands read beside the rest.
    pub extras: Extras,
}

impl Project {
    /// A path inside the project as its users name it: without [`Project::root`].
    #[must_use]
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// Environment variables for `env_var`. Values may be secrets, so the debug output shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvVars(pub BTreeMap<String, String>);

impl fmt::Debug for EnvVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A named environment, dbt's `target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name in `tidemill.toml`.
    pub name: String,
    /// The schema of models that name none.
    pub schema: String,
}

impl Default for Target {
    fn default() -> Self {
        Self { name: "local".to_owned(), schema: "main".to_owned() }
    }
}

/// The identity of whatever stands in the graph.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum NodeId {
    /// A source table.
    Source(SourceName),
    /// A seed.
    Seed(String),
    /// A model.
    Model(String),
    /// A generic or singular test.
    Test(String),
    /// A reader outside of the project; it stands at the end of the graph and is never built.
    Exposure(String),
}

impl NodeId {
    /// The name without its kind: `fct_orders`, `shop.orders`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Source(name) => name.to_string(),
            Self::Seed(name) | Self::Model(name) | Self::Test(name) | Self::Exposure(name) => name.clone(),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name) => write!(f, "source.{name}"),
            Self::Seed(name) => write!(f, "seed.{name}"),
            Self::Model(name) => write!(f, "model.{name}"),
            Self::Test(name) => write!(f, "test.{name}"),
            Self::Exposure(name) => write!(f, "exposure.{name}"),
        }
    }
}

/// A `ref('name')` or `ref('package', 'name')` in a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RefCall {
    /// The package, when named.
    pub package: Option<String>,
    /// The model or seed.
    pub name: String,
}

/// What the parse pass found in one template, each list in the order of first use, without repetitions.
///
/// The template is rendered with `is_incremental()` false and once more with true, so that inputs of either branch count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Uses {
    /// `ref` calls.
    pub refs: Vec<RefCall>,
    /// `source` calls.
    pub sources: Vec<SourceName>,
    /// `watermark` calls: the output depends on W of these sources.
    pub watermarks: Vec<SourceName>,
    /// `config(...)` of the file, raw.
    pub config: Map<String, Json>,
    /// Variables read.
    pub vars: Vec<String>,
}

/// One `*.sql` file under `model-paths`.
#[derive(Clone, Debug)]
pub struct Model {
    /// File name without `.sql`.
    pub name: String,
    /// The file, below [`Project::root`] as it was passed.
    pub path: PathBuf,
    /// The file's text, Jinja and all.
    pub raw_sql: String,
    /// Configuration after merging: folder < YAML < file.
    pub config: ModelConfig,
    /// What the template uses.
    pub uses: Uses,
    /// Columns that YAML describes, in its order.
    pub columns: IndexMap<String, Column>,
    /// From YAML.
    pub description: String,
    /// The YAML entry, or the start of the SQL file when there is none.
    pub location: Location,
}

/// A column that YAML describes.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// From YAML.
    pub description: String,
    /// `data_type`, as written.
    pub data_type: Option<String>,
    /// `meta` and `config.meta`, merged.
    pub meta: Map<String, Json>,
    /// Where it is declared.
    pub location: Location,
}

/// One CSV file under `seed-paths`. First line: column names.
#[derive(Clone, Debug)]
pub struct Seed {
    /// File name without `.csv`.
    pub name: String,
    /// The file, below [`Project::root`] as it was passed.
    pub path: PathBuf,
    /// `column_types`: column -> SQL type, as written; other columns are inferred.
    pub column_types: IndexMap<String, String>,
    /// Columns that YAML describes; `text_format: time_zone` in a column's `meta.tidemill` asks for IANA names.
    pub columns: IndexMap<String, Column>,
    /// Field separator.
    pub delimiter: char,
    /// The schema; the target's unless configured.
    pub schema: Option<String>,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// `event_time`, for microbatch models that read the seed batch by batch.
    pub event_time: Option<String>,
    /// From YAML.
    pub description: String,
    /// The YAML entry, or the start of the CSV file when there is none.
    pub location: Location,
}

/// One table of a source.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// dbt's source and table.
    pub name: SourceName,
    /// Columns that YAML describes.
    pub columns: IndexMap<String, Column>,
    /// `loaded_at_field`.
    pub loaded_at_field: Option<String>,
    /// The column of event time in the raw table: `event_time` of the config, else `event_at` when there is a contract.
    pub event_time: Option<String>,
    /// Whether the table is declared with `config.meta.tidemill`, i.e. ingest lands it.
    pub has_contract: bool,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// `config.meta` (or `meta`), raw.
    pub meta: Map<String, Json>,
    /// From YAML.
    pub description: String,
    /// Where it is declared.
    pub location: Location,
}

/// A generic test of YAML: `not_null` on a column, `relationships` with arguments.
#[derive(Clone, Debug)]
pub struct GenericTest {
    /// Unique name: the declared one, else `<test>_<node>_<column or arguments>`, with a hash at the end when it would be long.
    pub name: String,
    /// Name of the test macro without its `test_`: `not_null`. `package.name` loses the package.
    pub test: String,
    /// What it stands on.
    pub attached_to: NodeId,
    /// The column, for tests below `columns:`.
    pub column: Option<String>,
    /// Keyword arguments, raw: texts may hold Jinja (`ref('x')`).
    pub args: Map<String, Json>,
    /// Severity, thresholds, `where`.
    pub config: TestConfig,
    /// What the rendered test uses, the tested node included.
    pub uses: Uses,
    /// From YAML.
    pub description: String,
    /// Where it is declared.
    pub location: Location,
}

/// A SQL file that returns the rows that should not exist.
#[derive(Clone, Debug)]
pub struct SingularTest {
    /// File name without `.sql`.
    pub name: String,
    /// The file, below [`Project::root`] as it was passed.
    pub path: PathBuf,
    /// The file's text.
    pub raw_sql: String,
    /// Severity, thresholds, `where`.
    pub config: TestConfig,
    /// What the template uses.
    pub uses: Uses,
    /// The start of the file.
    pub location: Location,
}

/// One file under `macro-paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacroFile {
    /// The file, below [`Project::root`] as it was passed.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}
