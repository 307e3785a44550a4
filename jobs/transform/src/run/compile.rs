//! From a model's template to its SQL, with the names that sessions of this room use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Result;
use crate::graph::Graph;
use crate::plan::{identifier_of, is_stored, schema_of};
use crate::project::{Keeping, Model, NodeId, Project, Storage, Strategy};
use crate::render::{Relation, Relations, RenderContext, Renderer, SharedRelations, quote};

/// Compiles models. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    project: Arc<Project>,
    graph: Arc<Graph>,
    renderer: Arc<Renderer>,
    relations: Arc<SessionRelations>,
}

/// `schema.name` for every node.
#[derive(Debug)]
struct SessionRelations {
    relations: BTreeMap<NodeId, Relation>,
    columns: BTreeMap<NodeId, Vec<String>>,
}

impl Relations for SessionRelations {
    fn relation(&self, node: &NodeId) -> Option<Relation> {
        self.relations.get(node).cloned()
    }

    fn columns(&self, node: &NodeId) -> Vec<String> {
        self.columns.get(node).cloned().unwrap_or_default()
    }
}

impl Compiler {
    pub(crate) fn new(project: Arc<Project>, graph: Arc<Graph>, renderer: Arc<Renderer>) -> Self {
        let mut relations = BTreeMap::new();
        let mut columns = BTreeMap::new();
        for name in project.sources.keys() {
            relations.insert(NodeId::Source(name.clone()), relation(&name.source, &name.table));
        }
        for (name, source) in &project.sources {
            columns.insert(NodeId::Source(name.clone()), source.columns.keys().cloned().collect());
        }
        for (name, seed) in &project.seeds {
            let schema = seed.schema.as_deref().unwrap_or(&project.target.schema);
            relations.insert(NodeId::Seed(name.clone()), relation(schema, name));
        }
        for (name, model) in &project.models {
            relations.insert(NodeId::Model(name.clone()), relation(&schema_of(&project, model), &identifier_of(model)));
            columns.insert(NodeId::Model(name.clone()), model.columns.keys().cloned().collect());
        }
        Self { project, graph, renderer, relations: Arc::new(SessionRelations { relations, columns }) }
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
        let mut texts = vec![self.sql(model, &context)?];
        let is_incremental = model.config.storage() == Storage::Incremental(Strategy::Append)
            || model.config.keeping() == Some(Keeping::Upsert);
        if is_incremental {
            texts.push(self.sql(model, &RenderContext { incremental: true, ..context.clone() })?);
        }
        let mut views = Vec::new();
        self.views_under(model, &mut views);
        for view in views {
            texts.push(self.sql(view, &context)?);
        }
        Ok(texts)
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

fn relation(schema: &str, identifier: &str) -> Relation {
    Relation {
        sql: format!("{}.{}", quote(schema), quote(identifier)),
        schema: schema.to_owned(),
        identifier: identifier.to_owned(),
    }
}
