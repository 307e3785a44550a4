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
use tidemill_project::{Fault, Location, SourceName};

use super::config::{ModelConfig, TestConfig};
use super::extras::Extras;
use super::scenarios::ScenarioTest;
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
    /// Scenario tests, in the order of files and declarations; their names are unique among all tests.
    pub scenario_tests: Vec<ScenarioTest>,
    /// Macro files, in the order of their paths; the shipped ones are not among them.
    pub macros: Vec<MacroFile>,
    /// Names of the packages that the project brings along, in the order in which they were found.
    pub packages: Vec<String>,
    /// Of models with versions: `orders.v2`, and `orders` for the latest -> the model's name.
    pub latest_versions: BTreeMap<String, String>,
    /// `dispatch`: namespace of a macro -> packages to search, in order.
    pub dispatch: BTreeMap<String, Vec<String>>,
    /// `{% docs %}` blocks: name -> text.
    pub docs: BTreeMap<String, String>,
    /// `on-run-start`: statements with Jinja, in order.
    pub on_run_start: Vec<String>,
    /// `on-run-end`: statements with Jinja, in order.
    pub on_run_end: Vec<String>,
    /// Whether documentation of columns that do not exist is a fault throughout: in a project that is ours.
    pub strict: bool,
    /// What a person may want to know and nothing depends on: keys that we pass over, documentation without a file.
    pub notes: Vec<Fault>,
    /// Models, seeds and tables of sources (`source.table`) that are switched off (`enabled: false`): a ref to one is
    /// explained, not just "not found", and a story about one is left out.
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
    /// The version, when named (`v=2`).
    pub version: Option<String>,
}

impl fmt::Display for RefCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(package) = &self.package {
            write!(f, "{package}.")?;
        }
        f.write_str(&self.name)?;
        match &self.version {
            Some(version) => write!(f, ".v{version}"),
            None => Ok(()),
        }
    }
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
    /// The package that it belongs to: the project itself, or one that it brings along.
    pub package: String,
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
    /// `constraints` of the whole model.
    pub constraints: Vec<Constraint>,
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
    /// `constraints` of the column, by type: `not_null`, `unique`, `primary_key`, `check`, …
    pub constraints: Vec<Constraint>,
    /// Where it is declared.
    pub location: Location,
}

/// dbt's constraint of a column or a model; enforced under `contract: {enforced: true}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Constraint {
    /// `not_null`, `unique`, `primary_key`, `foreign_key`, `check` or `custom`.
    pub kind: String,
    /// The condition of a check.
    pub expression: Option<String>,
    /// Columns, for constraints of a model.
    pub columns: Vec<String>,
}

/// One CSV file under `seed-paths`. First line: column names.
#[derive(Clone, Debug)]
pub struct Seed {
    /// What stands in place of the file's text: rows that a scenario gives the seed.
    pub text: Option<String>,
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
    /// Names of columns keep their case (`quote_columns: true`); else they are folded to lower case, as SQL does.
    pub quote_columns: bool,
    /// The schema; the target's unless configured.
    pub schema: Option<String>,
    /// The table's name; the file's unless configured.
    pub alias: Option<String>,
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
    /// Name of the test macro without its `test_` and its package: `not_null`.
    pub test: String,
    /// The package that its name was written with; a test of that package then, when it has one of that name.
    pub package: Option<String>,
    /// The package that declares it, whose variables it sees.
    pub declared_by: String,
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
    /// The package that it belongs to.
    pub package: String,
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
    /// The package that it belongs to.
    pub package: String,
    /// The file, below [`Project::root`] as it was passed.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl MacroFile {
    /// Whether the file defines a macro of that name.
    #[must_use]
    pub fn defines(&self, name: &str) -> bool {
        crate::render::tags(&self.text).any(|tag| {
            tag.word == "macro"
                && tag.rest.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('('))
        })
    }
}
