//! What the inputs of a model look like, without a lake: from contracts, declarations and the plans of the models above.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::DataFrame;
use futures::future::BoxFuture;
use indexmap::IndexMap;

use super::rows::Shape;
use crate::plan::is_stored;
use crate::project::{Column, NodeId};
use crate::render::RenderContext;
use crate::run::rows::stored_schema;
use crate::run::session::{declared_schema, register, sql_type};
use crate::run::{Result, Sessions, seed};

/// Finds the shapes of nodes and remembers them.
#[derive(Debug)]
pub(crate) struct Shapes<'a> {
    sessions: &'a Sessions,
    known: Mutex<HashMap<NodeId, Shape>>,
}

impl<'a> Shapes<'a> {
    pub(crate) fn new(sessions: &'a Sessions) -> Self {
        Self { sessions, known: Mutex::default() }
    }

    /// The columns of a node, as its readers see them.
    ///
    /// A source without contract has the columns that its declaration gives a type, and perhaps others. A model's columns are
    /// those that its SQL gives over the shapes of its inputs; where that cannot be planned, because a source above is not
    /// wholly known, those of its declaration.
    ///
    /// # Errors
    /// A seed that cannot be read, a template that cannot be rendered.
    pub(crate) fn of<'b>(&'b self, node: &'b NodeId) -> BoxFuture<'b, Result<Shape>> {
        Box::pin(async move {
            if let Some(shape) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(node) {
                return Ok(shape.clone());
            }
            let shape = self.find(node).await?;
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), shape.clone());
            Ok(shape)
        })
    }

    async fn find(&self, node: &NodeId) -> Result<Shape> {
        let project = &self.sessions.project;
        let context = self.sessions.empty();
        match node {
            NodeId::Source(name) => {
                let Some(source) = project.sources.get(name) else { return Ok(unknown()) };
                if source.has_contract {
                    return Ok(whole(declared_schema(&context, source).await));
                }
                if project.seeds.contains_key(&name.table) {
                    return self.of(&NodeId::Seed(name.table.clone())).await;
                }
                self.declared(&source.columns).await
            }
            NodeId::Seed(name) => match project.seeds.get(name) {
                Some(seed) => Ok(whole(seed::rows_of(project, seed, &context).await?.schema())),
                None => Ok(unknown()),
            },
            NodeId::Model(name) => match project.models.get(name) {
                Some(model) => match self.planned(node).await? {
                    Some(schema) => Ok(whole(schema)),
                    None => self.declared(&model.columns).await,
                },
                None => Ok(unknown()),
            },
            NodeId::Test(_) | NodeId::Exposure(_) => Ok(unknown()),
        }
    }

    /// The columns that a model's SQL gives; `None` when it does not plan.
    async fn planned(&self, node: &NodeId) -> Result<Option<SchemaRef>> {
        let sessions = self.sessions;
        let Some(model) = sessions.project.models.get(&node.name()) else { return Ok(None) };
        let context = sessions.empty();
        for parent in sessions.graph.parents(node) {
            let shape = self.of(parent).await?;
            let Some(relation) = sessions.compiler.relation(parent) else { continue };
            let name = TableReference::partial(relation.schema, relation.identifier);
            if register(&context, &name, Arc::new(EmptyTable::new(shape.schema))).is_err() {
                return Ok(None);
            }
        }
        let sql = sessions.compiler.sql(model, &RenderContext::default())?;
        // Optimized, because the types of a union are settled on that way only.
        let Ok(plan) = context.sql(&sql).await.and_then(DataFrame::into_optimized_plan) else { return Ok(None) };
        let schema = plan.schema().as_arrow();
        Ok(if is_stored(&sessions.project, node) { stored_schema(schema).ok() } else { Some(Arc::new(schema.clone())) })
    }

    async fn declared(&self, columns: &IndexMap<String, Column>) -> Result<Shape> {
        let context = self.sessions.empty();
        let mut fields = Vec::new();
        for column in columns.values() {
            let Some(text) = &column.data_type else { continue };
            if let Some(data_type) = sql_type(&context, text).await {
                fields.push(Field::new(&column.name, data_type, true));
            }
        }
        Ok(Shape { schema: Arc::new(Schema::new(fields)), is_whole: false })
    }
}

fn whole(schema: SchemaRef) -> Shape {
    Shape { schema, is_whole: true }
}

fn unknown() -> Shape {
    Shape { schema: Arc::new(Schema::empty()), is_whole: false }
}
