//! Looking without building: compiled SQL, rows of a model, lists, sessions for analysts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result as QueryResult};
use datafusion::prelude::SessionContext;
use serde::Serialize;
use tidemill_lake::{TableId, TableSpec};
use tidemill_project::Diagnostic as _;
use tokio_util::task::AbortOnDropHandle;

use super::execute::Executor;
use super::query::collect;
use super::session::provider_of;
use super::{BuildError, BuildFault, Runner, Sessions};
use crate::graph::Selection;
use crate::plan::PlanOptions;
use crate::project::{NodeId, Storage};
use crate::render::RenderContext;
use crate::test::Tester;

/// SQL as it would run.
#[derive(Clone, Debug, Serialize)]
pub struct Compiled {
    /// Model or test.
    pub node: String,
    /// Its name.
    pub name: String,
    /// The file of its template, relative to the project.
    pub path: String,
    /// The SQL, for the whole of its inputs.
    pub sql: String,
}

/// A node as `ls` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// `model.fct_orders`.
    pub node: String,
    /// `model`, `seed`, `source`, `test`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The file that declares it, relative to the project.
    pub path: String,
    /// How it is kept, for models.
    pub storage: Option<Storage>,
    /// Its tags.
    pub tags: Vec<String>,
    /// What it reads, directly.
    pub parents: Vec<String>,
}

impl Runner {
    /// The selected nodes, parents before children.
    ///
    /// # Errors
    /// The selection.
    pub fn ls(&self, selection: &Selection) -> Result<Vec<Listed>, BuildError> {
        let selected = self.graph.select(selection)?;
        let listed = selected.into_iter().filter_map(|id| {
            let node = self.graph.get(&id)?;
            let (kind, storage) = match &id {
                NodeId::Source(_) => ("source", None),
                NodeId::Seed(_) => ("seed", None),
                NodeId::Model(name) => {
                    (node.kind(&id), self.project.models.get(name).map(|model| model.config.storage()))
                }
                NodeId::Test(_) => ("test", None),
                NodeId::Exposure(_) => ("exposure", None),
            };
            Some(Listed {
                node: id.to_string(),
                kind,
                name: id.name(),
                path: node.path.clone(),
                storage,
                tags: node.tags.clone(),
                parents: node.parents.iter().map(ToString::to_string).collect(),
            })
        });
        Ok(listed.collect())
    }

    /// The SQL of the selected models and tests.
    ///
    /// # Errors
    /// The selection, and templates that cannot be rendered.
    pub async fn compile(&self, selection: &Selection, options: &PlanOptions) -> Result<Vec<Compiled>, BuildError> {
        let selected = self.graph.select(selection)?;
        let executor = self.executor(options, "compile").await?;
        let render = Self::looking(&executor);
        let tester = Tester { sessions: executor.sessions.clone(), render: render.clone() };
        let all = CompileAll { runner: self.clone(), executor, tester, render };
        // Templates are rendered side by side: most of the command's time goes there.
        let num_each = selected.len().div_ceil(self.threads).max(1);
        let parts = selected.chunks(num_each).map(|part| {
            let (all, part) = (all.clone(), part.to_vec());
            AbortOnDropHandle::new(tokio::spawn(async move { all.compile(&part) }))
        });
        let mut compiled = Vec::with_capacity(selected.len());
        for part in parts.collect::<Vec<_>>() {
            let node = NodeId::Model("unknown".to_owned());
            compiled.extend(part.await.map_err(|source| BuildFault::TaskLost { node, source })??);
        }
        Ok(compiled)
    }

    /// The first rows that a model's SQL gives on what its inputs hold now; nothing is stored. Without `ORDER BY` in the model
    /// it is any rows.
    ///
    /// # Errors
    /// There is no such model or seed, its inputs were not built, its SQL fails.
    pub async fn show(&self, name: &str, limit: usize, options: &PlanOptions) -> Result<Vec<RecordBatch>, BuildError> {
        let executor = self.executor(options, "show").await?;
        let render = Self::looking(&executor);
        let node = if self.project.models.contains_key(name) {
            NodeId::Model(name.to_owned())
        } else {
            NodeId::Seed(name.to_owned())
        };
        let Some(relation) = self.compiler.relation(&node) else {
            return Err(BuildFault::UnknownNode { node }.into());
        };
        let frame = if let Some(model) = self.project.models.get(name) {
            let parents: Vec<NodeId> = self.graph.parents(&node).cloned().collect();
            let context = executor.sessions.over(parents, &render, None).await?;
            executor.sessions.compiler.frame(&context, model, &render).await?
        } else {
            let context = executor.sessions.over([node.clone()], &render, None).await?;
            let sql = format!("select * from {}", relation.sql);
            crate::sql::plan(&context, &sql).await.map_err(BuildFault::plan(&node, None))?
        };
        let frame = frame.limit(0, Some(limit)).map_err(BuildFault::plan(&node, None))?;
        Ok(collect(frame).await.map_err(BuildFault::execute(&node, None))?)
    }

    /// A session for analysts: all models and seeds by bare name and as `schema.name`, sources as `source.table`, and
    /// `ops.quarantine` with the other tables under `ops/`. Tables are opened when a query first names them and stay at that
    /// version for the life of the session.
    ///
    /// # Errors
    /// The lake's store.
    pub async fn query_context(&self) -> Result<SessionContext, BuildError> {
        let executor = self.executor(&PlanOptions::default(), "sql").await?;
        let context = executor.sessions.empty();
        let mut schemas: BTreeMap<String, BTreeMap<String, Entry>> = BTreeMap::new();
        for spec in tidemill_lake::ops::all() {
            if let TableId::Ops(name) = &spec.id {
                schemas.entry("ops".to_owned()).or_default().insert(name.clone(), Entry::Ops(Arc::new(spec)));
            }
        }
        for id in self.graph.order() {
            let Some(relation) = self.compiler.relation(id) else { continue };
            let entry = Entry::Node(id.clone());
            if !matches!(id, NodeId::Source(_)) {
                // The default schema, so that bare names are found.
                schemas.entry("public".to_owned()).or_default().insert(relation.identifier.clone(), entry.clone());
            }
            schemas.entry(relation.schema).or_default().insert(relation.identifier, entry);
        }
        for id in self.lake.list().await.map_err(BuildFault::lake(&TableId::Ops("*".to_owned())))? {
            match &id {
                TableId::Ops(name) => {
                    let tables = schemas.entry("ops".to_owned()).or_default();
                    tables.entry(name.clone()).or_insert_with(|| Entry::Table(id.clone()));
                }
                TableId::Model { schema, name } => {
                    schemas
                        .entry(schema.clone())
                        .or_default()
                        .entry(name.clone())
                        .or_insert_with(|| Entry::Table(id.clone()));
                }
                TableId::Raw(source) => {
                    let tables = schemas.entry(source.source.clone()).or_default();
                    tables.entry(source.table.clone()).or_insert_with(|| Entry::Table(id.clone()));
                }
                TableId::Warehouse { .. } => {}
            }
        }
        let render = Self::looking(&executor);
        let executor = Arc::new(executor);
        if let Some(catalog) = context.catalog("datafusion") {
            for (name, tables) in schemas {
                let schema = LazySchema { tables, executor: Arc::clone(&executor), render: render.clone() };
                catalog
                    .register_schema(&name, Arc::new(schema))
                    .map_err(BuildFault::plan(&NodeId::Model(name.clone()), None))?;
            }
        }
        Ok(context)
    }
}

/// What it takes to compile a project.
#[derive(Clone)]
struct CompileAll {
    runner: Runner,
    executor: Executor,
    tester: Tester,
    render: RenderContext,
}

impl CompileAll {
    fn compile(&self, nodes: &[NodeId]) -> Result<Vec<Compiled>, BuildError> {
        let mut compiled = Vec::with_capacity(nodes.len());
        for id in nodes {
            let sql = match id {
                NodeId::Model(name) => match self.runner.project.models.get(name) {
                    Some(model) => self.executor.sessions.compiler.sql(model, &self.render)?,
                    None => continue,
                },
                NodeId::Test(name) => match self.tester.compiled_sql(name)? {
                    Some(sql) => sql,
                    None => continue,
                },
                NodeId::Source(_) | NodeId::Seed(_) | NodeId::Exposure(_) => continue,
            };
            let path = self.runner.graph.get(id).map(|node| node.path.clone()).unwrap_or_default();
            compiled.push(Compiled { node: id.to_string(), name: id.name(), path, sql });
        }
        Ok(compiled)
    }
}

#[derive(Clone, Debug)]
enum Entry {
    Node(NodeId),
    Table(TableId),
    /// Empty as long as nobody has written to it.
    Ops(Arc<TableSpec>),
}

/// Tables that are opened when they are asked for.
#[derive(Debug)]
struct LazySchema {
    tables: BTreeMap<String, Entry>,
    executor: Arc<Executor>,
    render: RenderContext,
}

#[async_trait]
impl SchemaProvider for LazySchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        let Some(entry) = self.tables.get(name) else { return Ok(None) };
        let sessions: &Sessions = &self.executor.sessions;
        let opened = |id| self.executor.planner.snapshots.get(id);
        let found = match entry {
            Entry::Node(node) => sessions.one(node, &self.render).await,
            Entry::Table(id) => match opened(id).await {
                Ok(Some(table)) => provider_of(&sessions.empty(), &table, None),
                Ok(None) => return Ok(None),
                Err(fault) => Err(fault),
            },
            Entry::Ops(spec) => match opened(&spec.id).await {
                Ok(Some(table)) => provider_of(&sessions.empty(), &table, None),
                Ok(None) => return Ok(Some(Arc::new(EmptyTable::new(Arc::clone(&spec.schema))))),
                Err(fault) => Err(fault),
            },
        };
        found.map(Some).map_err(|fault| {
            let text = match fault.hint() {
                Some(hint) => format!("{fault} ({hint})"),
                None => fault.to_string(),
            };
            DataFusionError::Context(text, Box::new(DataFusionError::External(Box::new(BuildError::from(fault)))))
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
