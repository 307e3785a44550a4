//! Jinja: from a template to SQL.
//!
//! Two passes over each template. The *parse* pass ([`Renderer::parse`]) collects what it uses; `execute` is false and
//! relations have made-up names. The *compile* pass ([`Renderer::model`] and its siblings) gives the SQL that runs; relations
//! are asked for through [`Relations`], so that the caller decides what a `ref` reads: a table, a batch of it, a fixture.

mod callables;
mod constant;
mod context;
mod explain;
mod macros;
mod marks;
mod modules;
mod mutable;
mod pycompat;
mod relation;
mod renderer;
mod scan;
mod session;
mod signature;
mod statement;
mod sums;
mod translate;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

pub use renderer::Renderer;
pub(crate) use values::YamlValues;

use crate::project::{BatchWindow, NodeId, Target};

/// The one database there is.
pub(crate) const DATABASE: &str = "datafusion";

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

/// A column that a template asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its type in words that SQL takes: `bigint`, `varchar`, `decimal(16, 2)`.
    pub data_type: String,
}

/// The answer of a query that a template asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableRows {
    /// Names and types.
    pub columns: Vec<ColumnFacts>,
    /// One entry per column; dates and timestamps as text.
    pub rows: Vec<Vec<Json>>,
}

/// Tells what each input is called in the session in which the SQL will run, and answers what templates ask about tables.
pub trait Relations: Send + Sync {
    /// The relation of a node; `None` when the session has none, which fails the render with a suggestion.
    fn relation(&self, node: &NodeId) -> Option<Relation>;

    /// The node whose relation has that schema and name (`adapter.get_relation`).
    fn find(&self, schema: &str, identifier: &str) -> Option<NodeId> {
        let _ = (schema, identifier);
        None
    }

    /// Whether the node can be read now: it was built, or is a view over what was.
    fn exists(&self, node: &NodeId) -> bool {
        let _ = node;
        false
    }

    /// Columns of a node, for macros that ask (`dbt_utils.star`, `adapter.get_columns_in_relation`); empty when it was not
    /// built yet.
    ///
    /// # Errors
    /// The node cannot be read, in a person's words.
    fn columns(&self, node: &NodeId) -> Result<Vec<ColumnFacts>, String> {
        let _ = node;
        Ok(Vec::new())
    }

    /// `graph`: what there is to say about all nodes, by unique id; `None` when there is no project behind the render.
    fn graph(&self) -> Option<Arc<Json>> {
        None
    }

    /// Runs a query that a template asks (`run_query`) over the tables as this run sees them.
    ///
    /// # Errors
    /// What is wrong with the query, in a person's words; also when there is no engine behind the render.
    fn query(&self, sql: &str) -> Result<TableRows, String> {
        let _ = sql;
        Err("queries cannot be run here".to_owned())
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
    /// `invocation_id`.
    pub run_id: String,
}

/// A `{% word rest %}` of a template: bytes `start..end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag<'a> {
    pub word: &'a str,
    pub rest: &'a str,
    pub start: usize,
    pub end: usize,
}

/// All block tags of a template; those in comments and raw text are none.
pub(crate) fn tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    scan::pieces(text).into_iter().filter(|piece| piece.kind == scan::Kind::Block).map(|piece| {
        let part = &text[piece.start..piece.end];
        let word = scan::first_word(part);
        let rest = part.split_once(word).map_or("", |(_, rest)| rest);
        Tag { word, rest, start: piece.start, end: piece.end }
    })
}

/// Relations as they are shared with a template.
pub type SharedRelations = Arc<dyn Relations>;

#[cfg(test)]
#[path = "shipped/tests.rs"]
mod shipped_tests;
#[cfg(test)]
mod tests;
