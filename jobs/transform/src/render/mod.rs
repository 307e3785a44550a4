//! Jinja: from a template to SQL.
//!
//! Two passes over each template. The *parse* pass ([`Renderer::parse`]) collects what it uses; `execute` is false and
//! relations have made-up names. The *compile* pass ([`Renderer::model`] and its siblings) gives the SQL that runs; relations
//! are asked for through [`Relations`], so that the caller decides what a `ref` reads: a table, a batch of it, a fixture.

mod constant;
mod context;
mod explain;
mod macros;
mod pycompat;
mod renderer;
mod session;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

pub use renderer::Renderer;
pub(crate) use values::YamlValues;

use crate::project::{BatchWindow, NodeId, Target};

/// What stands in SQL for a model, a seed or a source table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relation {
    /// The text that goes into the SQL, quoted where it must be: `"main"."orders"`.
    pub sql: String,
    /// Its schema, for `{{ this.schema }}`.
    pub schema: String,
    /// Its name, for `{{ this.identifier }}`.
    pub identifier: String,
}

/// Tells what each input is called in the session in which the SQL will run.
pub trait Relations: Send + Sync {
    /// The relation of a node; `None` when the session has none, which fails the render with a suggestion.
    fn relation(&self, node: &NodeId) -> Option<Relation>;

    /// Columns of a node, for macros that ask (`dbt_utils.star`, `adapter.get_columns_in_relation`); empty when unknown.
    fn columns(&self, node: &NodeId) -> Vec<String> {
        let _ = node;
        Vec::new()
    }
}

/// `schema.name` for every node: what `compile` shows.
#[derive(Clone, Debug, Default)]
pub struct PlainRelations {
    /// Schema by node name; `main` for nodes that are not listed.
    pub schemas: BTreeMap<String, String>,
}

impl Relations for PlainRelations {
    fn relation(&self, node: &NodeId) -> Option<Relation> {
        let (schema, identifier) = match node {
            NodeId::Source(name) => (name.source.clone(), name.table.clone()),
            other => {
                let name = other.name();
                (self.schemas.get(&name).cloned().unwrap_or_else(|| "main".to_owned()), name)
            }
        };
        Some(Relation { sql: format!("{}.{}", quote(&schema), quote(&identifier)), schema, identifier })
    }
}

/// Quotes an identifier for DataFusion: as it is when lower case and plain, else in double quotes.
#[must_use]
pub fn quote(identifier: &str) -> String {
    let mut letters = identifier.chars();
    let plain = letters.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if plain { identifier.to_owned() } else { format!("\"{}\"", identifier.replace('"', "\"\"")) }
}

/// What a compile pass knows about the run.
#[derive(Clone, Debug, Default)]
pub struct RenderContext {
    /// `is_incremental()`: the model's table exists, and this is no full refresh.
    pub incremental: bool,
    /// `flags.FULL_REFRESH`.
    pub full_refresh: bool,
    /// The batch that is built: `model.batch.event_time_start`, `model.batch.event_time_end`.
    pub batch: Option<BatchWindow>,
    /// W by source, microseconds UTC; `watermark()` of a source that is not here is a null timestamp.
    pub watermarks: BTreeMap<SourceName, Micros>,
    /// The run's clock: `run_started_at`, `as_of()`.
    pub as_of_us: Micros,
    /// Variables that override those of the project, e.g. of a unit test.
    pub vars: Map<String, Json>,
    /// Macros that answer with a constant, e.g. of a unit test.
    pub macros: Map<String, Json>,
    /// Environment variables that override those of the project, e.g. of a unit test.
    pub env: BTreeMap<String, String>,
    /// The target; the project's unless given.
    pub target: Option<Target>,
    /// `this`; asked from the relations unless given.
    pub this: Option<Relation>,
}

/// Relations as they are shared with a template.
pub type SharedRelations = Arc<dyn Relations>;

#[cfg(test)]
#[path = "shipped/tests.rs"]
mod shipped_tests;
#[cfg(test)]
mod tests;
