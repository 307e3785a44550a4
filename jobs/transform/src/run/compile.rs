//! From a model's template to its SQL, with the names that sessions of this room use.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, SessionContext};
use serde_json::Value as Json;
use tidemill_lake::store_fault_within;
use tidemill_project::Location;

use super::ask::Asked;
use super::error::SqlTold;
use super::{BuildFault, Result};
use crate::artifacts::template_graph;
use crate::graph::Graph;
use crate::plan::{identifier_of, is_stored, schema_of};
use crate::project::{Keeping, Model, NodeId, Project, Storage, Strategy};
use crate::render::{ColumnFacts, Relation, Relations, RenderContext, Renderer, SharedRelations, TableRows, quote};

/// Compiles models. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    project: Arc<Project>,
    graph: Arc<Graph>,
    renderer: Arc<Renderer>,
    relations: Arc<SessionRelations>,
}

/// `schema.name` for every node, and who answers what templates ask.
#[derive(Clone, Debug)]
struct SessionRelations {
    project: Arc<Project>,
    dag: Arc<Graph>,
    relations: Arc<BTreeMap<NodeId, Relation>>,
    /// `graph`, made when the first template asks for it.
    graph: Arc<OnceLock<Arc<Json>>>,
    asked: Option<Asked>,
}

impl Relations for SessionRelations {
    fn relation(&self, node: &NodeId) -> Option<Relation> {
        self.relations.get(node).cloned()
    }

    fn find(&self, schema: &str, identifier: &str) -> Option<NodeId> {
        let is_it = |relation: &Relation| {
            relation.identifier.eq_ignore_ascii_case(identifier)
                && (schema.is_empty() || relation.schema.eq_ignore_ascii_case(schema))
        };
        self.relations.iter().find(|(_, relation)| is_it(relation)).map(|(node, _)| node.clone())
    }

    fn exists(&self, node: &NodeId) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.exists(node))
    }

    fn columns(&self, node: &NodeId) -> Result<Vec<ColumnFacts>, String> {
        self.asked.as_ref().map_or_else(|| Ok(Vec::new()), |asked| asked.columns(node))
    }

    fn graph(&self) -> Option<Arc<Json>> {
        let made = self.graph.get_or_init(|| Arc::new(template_graph(&self.project, &self.dag, self)));
        Some(Arc::clone(made))
    }

    fn query(&self, sql: &str) -> Result<TableRows, String> {
        match &self.asked {
            Some(asked) => asked.query(sql),
            None => Err("queries cannot be run here".to_owned()),
        }
    }
}

impl Compiler {
    pub(crate) fn new(project: Arc<Project>, graph: Arc<Graph>, renderer: Arc<Renderer>) -> Self {
        let mut relations = BTreeMap::new();
        for name in project.sources.keys() {
            relations.insert(NodeId::Source(name.clone()), relation(&name.source, &name.table));
        }
        for (name, seed) in &project.seeds {
            let schema = seed.schema.as_deref().unwrap_or(&project.target.schema);
            let identifier = seed.alias.as_deref().unwrap_or(name);
            relations.insert(NodeId::Seed(name.clone()), relation(schema, identifier));
        }
        for (name, model) in &project.models {
            relations.insert(NodeId::Model(name.clone()), relation(&schema_of(&project, model), &identifier_of(model)));
        }
        let relations = Arc::new(SessionRelations {
            project: Arc::clone(&project),
            dag: Arc::clone(&graph),
            relations: Arc::new(relations),
            graph: Arc::default(),
            asked: None,
        });
        Self { project, graph, renderer, relations }
    }

    /// The same, with someone who answers what templates ask about tables.
    pub(crate) fn asking(&self, asked: Asked) -> Self {
        let relations = SessionRelations { asked: Some(asked), ..SessionRelations::clone(&self.relations) };
        Self { relations: Arc::new(relations), ..self.clone() }
    }

    /// The names under which a node is registered: schema and table.
    pub(crate) fn relation(&self, node: &NodeId) -> Option<Relation> {
        self.relations.relation(node)
    }

    /// The relations, for templates that are rendered elsewhere.
    pub(crate) fn relations(&self) -> SharedRelations {
        Arc::<SessionRelations>::clone(&self.relations)
    }

    pub(crate) fn renderer(&self) -> &Renderer {
        &self.renderer
    }

    /// The SQL of a model.
    pub(crate) fn sql(&self, model: &Model, context: &RenderContext) -> Result<String> {
        Ok(self.renderer.model(model, context, &self.relations())?)
    }

    /// The SQL that a model's rows follow from: its own and that of the views under it, rendered for no batch, no watermark
    /// and no clock, so that only what people wrote counts.
    pub(crate) fn fingerprint_sql(&self, model: &Model) -> Result<Vec<String>> {
        let context = RenderContext::default();
        let mut texts = vec![self.text_of(model, &context)?];
        let is_incremental = model.config.storage() == Storage::Incremental(Strategy::Append)
            || model.config.keeping() == Some(Keeping::Upsert);
        if is_incremental {
            texts.push(self.text_of(model, &RenderContext { incremental: true, ..context.clone() })?);
        }
        let mut views = Vec::new();
        self.views_under(model, &mut views);
        for view in views {
            texts.push(self.text_of(view, &context)?);
        }
        Ok(texts)
    }

    /// The SQL of a model; its template where it asks for rows of models that were not built yet.
    fn text_of(&self, model: &Model, context: &RenderContext) -> Result<String> {
        match self.sql(model, context) {
            Err(_) if self.waits_for_rows(model) => Ok(model.raw_sql.clone()),
            sql => sql,
        }
    }

    /// Whether a template asks about tables that are not there yet.
    pub(crate) fn waits_for_rows(&self, model: &Model) -> bool {
        let node = NodeId::Model(model.name.clone());
        self.renderer.asks(model) && self.graph.parents(&node).any(|parent| !self.relations.exists(parent))
    }

    /// The SQL of a hook; `model` is whose hook it is.
    pub(crate) fn statement(&self, model: Option<&Model>, text: &str, context: &RenderContext) -> Result<String> {
        Ok(self.renderer.statement(model, text, context, &self.relations())?)
    }

    /// The plan of a model's SQL. A fault tells file, line and column of the template.
    pub(crate) async fn frame(
        &self,
        context: &SessionContext,
        model: &Model,
        render: &RenderContext,
    ) -> Result<DataFrame> {
        let sql = self.sql(model, render)?;
        crate::sql::plan(context, &sql).await.map_err(|error| self.explain(model, render, &sql, error))
    }

    fn explain(&self, model: &Model, render: &RenderContext, sql: &str, source: DataFusionError) -> BuildFault {
        let node = NodeId::Model(model.name.clone());
        if store_fault_within(&source).is_some() {
            // The SQL is not at fault: the lake could not be read while it was planned.
            return BuildFault::plan(&node, None)(source);
        }
        let found = crate::sql::trouble(&source);
        let place = found
            .at
            .and_then(|(line, column)| self.renderer.locate(model, render, &self.relations(), sql, line, column));
        let location = place.or_else(|| word_in(model, found.word.as_deref()?));
        let told =
            SqlTold { hint: found.hint, location: Some(location.unwrap_or_else(|| Location::new(&model.path, 1, 1))) };
        BuildFault::Sql { node, message: found.message, told: Box::new(told) }
    }

    fn views_under<'a>(&'a self, model: &Model, found: &mut Vec<&'a Model>) {
        for parent in self.graph.parents(&NodeId::Model(model.name.clone())) {
            if is_stored(&self.project, parent) {
                continue;
            }
            let Some(view) = self.project.models.get(&parent.name()) else { continue };
            if found.iter().all(|known| known.name != view.name) {
                found.push(view);
                self.views_under(view, found);
            }
        }
    }
}

/// The first line of a model's file that holds a word.
fn word_in(model: &Model, word: &str) -> Option<Location> {
    model.raw_sql.lines().enumerate().find_map(|(index, line)| {
        let whole = |at: usize| {
            let beside = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_');
            beside(line[..at].chars().next_back()) && beside(line[at + word.len()..].chars().next())
        };
        let at = line.match_indices(word).map(|(at, _)| at).find(|at| whole(*at))?;
        Some(Location::new(&model.path, index + 1, line[..at].chars().count() + 1))
    })
}

fn relation(schema: &str, identifier: &str) -> Relation {
    Relation {
        sql: format!("{}.{}", quote(schema), quote(identifier)),
        schema: schema.to_owned(),
        identifier: identifier.to_owned(),
    }
}
