//! Every selected model is planned before anything runs.
//!
//! Tables stand in for the models above: empty, with the columns that those models will have. So a column that is misspelt in
//! the last of fifty models is told before the first is built, with file, line and column; no row is read. What cannot be
//! known yet is not guessed: a template that asks for rows of a model which was not built, and all that stands on it, is
//! planned when its turn comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::datasource::empty::EmptyTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};
use tidemill_project::{Diagnostic as _, Fault, SourceName};

use super::execute::Executor;
use super::lineage::{self, Lineage};
use super::rows::stored_schema;
use super::session::{beside, register};
use super::{BuildFault, Result, contract, history, seed};
use crate::plan::is_stored;
use crate::project::{Materialized, Model, NodeId};
use crate::render::RenderContext;

/// Columns by node; `None` where they cannot be known yet.
type Known = BTreeMap<NodeId, Option<SchemaRef>>;

impl Executor {
    /// All faults of the selected seeds and models, in the order of the graph.
    pub(crate) async fn check(&self, selected: &[NodeId]) -> Vec<Fault> {
        Box::pin(self.look_at(selected, Known::new())).await.faults
    }

    /// Where the columns of these models come from; of those that can be planned.
    pub(crate) async fn lineage(&self, nodes: &[NodeId]) -> Lineage {
        Box::pin(self.look_at(nodes, Known::new())).await.lineage
    }

    async fn look_at(&self, nodes: &[NodeId], known: Known) -> Check<'_> {
        let mut check = Check::new(self, known);
        check.all(nodes).await;
        check
    }

    /// The plans of the selected models, over stand-ins for all that they read. `sources` are columns of sources that nothing
    /// may have landed in yet. A model that cannot be planned is left out.
    pub(crate) async fn plans(
        &self,
        selected: &[NodeId],
        sources: &BTreeMap<SourceName, SchemaRef>,
    ) -> BTreeMap<NodeId, LogicalPlan> {
        let given = sources.iter().map(|(name, schema)| (NodeId::Source(name.clone()), Some(Arc::clone(schema))));
        Box::pin(self.look_at(selected, given.collect())).await.plans
    }

    /// A number that changes with everything that [`Self::check`] looks at in files.
    pub(crate) fn check_key(&self, selected: &[NodeId]) -> i64 {
        let project = &self.planner.project;
        let mut hasher = Sha256::new();
        for node in selected {
            hasher.update(node.to_string());
            match node {
                NodeId::Model(name) => {
                    let Some(model) = project.models.get(name) else { continue };
                    hasher.update(&model.raw_sql);
                    hasher.update(serde_json::to_string(&model.config.raw).unwrap_or_default());
                    for column in model.columns.values() {
                        hasher.update(format!("{}:{:?}:{:?}", column.name, column.data_type, column.constraints));
                    }
                }
                NodeId::Seed(name) => {
                    let Some(seed) = project.seeds.get(name) else { continue };
                    let stamp = std::fs::metadata(&seed.path).ok().map(|file| (file.len(), file.modified().ok()));
                    hasher.update(format!("{stamp:?}{:?}", seed.column_types));
                }
                NodeId::Source(_) | NodeId::Test(_) | NodeId::Exposure(_) => {}
            }
        }
        for file in &project.macros {
            hasher.update(&file.text);
        }
        hasher.update(format!("{:?}", project.vars));
        let digest = hasher.finalize();
        let bytes: [u8; 8] = digest[..8].try_into().expect("a SHA-256 has 32 bytes");
        i64::from_be_bytes(bytes) & i64::MAX
    }
}

struct Check<'a> {
    executor: &'a Executor,
    /// Functions and settings, no tables.
    base: SessionContext,
    known: Known,
    faults: Vec<Fault>,
    plans: BTreeMap<NodeId, LogicalPlan>,
    lineage: Lineage,
}

impl<'a> Check<'a> {
    fn new(executor: &'a Executor, known: Known) -> Self {
        Self {
            executor,
            base: executor.sessions.empty(),
            known,
            faults: Vec::new(),
            plans: BTreeMap::new(),
            lineage: Lineage::new(),
        }
    }

    async fn all(&mut self, selected: &[NodeId]) {
        for node in selected {
            let checked = match node {
                NodeId::Seed(_) => Box::pin(self.seed(node)).await,
                NodeId::Model(_) => Box::pin(self.model(node)).await,
                NodeId::Source(_) | NodeId::Test(_) | NodeId::Exposure(_) => continue,
            };
            let columns = match checked {
                Ok(columns) => columns,
                Err(fault) => {
                    self.note(&fault);
                    None
                }
            };
            self.known.insert(node.clone(), columns);
        }
    }

    fn note(&mut self, fault: &BuildFault) {
        if fault.faults().is_empty() {
            self.faults.push(Fault {
                code: fault.code(),
                message: fault.to_string(),
                location: fault.location().cloned(),
                hint: fault.hint(),
            });
        } else {
            self.faults.extend(fault.faults().iter().cloned());
        }
    }

    fn render(&self) -> RenderContext {
        RenderContext {
            watermarks: self.executor.planner.watermarks.clone(),
            as_of_us: self.executor.planner.as_of_us,
            run_id: self.executor.run_id.clone(),
            ..RenderContext::default()
        }
    }

    /// What a node that is not selected, or was checked already, shows its readers.
    async fn columns_of(&mut self, node: &NodeId) -> Option<SchemaRef> {
        if let Some(known) = self.known.get(node) {
            return known.clone();
        }
        let found = self.executor.sessions.one(node, &self.render()).await.ok().map(|provider| provider.schema());
        self.known.insert(node.clone(), found.clone());
        found
    }

    async fn seed(&mut self, node: &NodeId) -> Result<Option<SchemaRef>> {
        let project = &self.executor.planner.project;
        let Some(seed) = project.seeds.get(&node.name()) else { return Ok(None) };
        let rows = seed::rows_of(project, seed, &self.base).await?;
        Ok(Some(rows.schema()))
    }

    async fn model(&mut self, node: &NodeId) -> Result<Option<SchemaRef>> {
        let executor = self.executor;
        let Some(model) = executor.planner.project.models.get(&node.name()) else { return Ok(None) };
        let context = beside(&self.base);
        let mut tables = BTreeMap::new();
        for parent in executor.planner.graph.parents(node).cloned().collect::<Vec<_>>() {
            let (Some(columns), Some(relation)) =
                (self.columns_of(&parent).await, executor.sessions.compiler.relation(&parent))
            else {
                return Ok(None);
            };
            let name = TableReference::partial(relation.schema, relation.identifier);
            register(&context, &name, Arc::new(EmptyTable::new(columns))).map_err(BuildFault::plan(node, None))?;
            tables.insert(name.to_string(), parent);
        }
        if executor.sessions.compiler.waits_for_rows(model) {
            return Ok(None);
        }
        let render = self.render();
        let frame = executor.sessions.compiler.frame(&context, model, &render).await?;
        self.lineage.insert(node.clone(), lineage::trace(frame.logical_plan(), &tables));
        let columns = self.shown(model, node, frame.schema().as_arrow())?;
        self.plans.insert(node.clone(), frame.logical_plan().clone());
        self.faults.extend(contract::check(model, &columns, &self.base, executor.planner.project.strict).await);
        if model.config.materialized == Materialized::Incremental {
            self.incremental(model, node, &context, &columns).await?;
        }
        Ok(Some(columns))
    }

    /// The branch of `is_incremental()`, with the model's own table as it will be.
    async fn incremental(
        &self,
        model: &Model,
        node: &NodeId,
        context: &SessionContext,
        columns: &SchemaRef,
    ) -> Result<()> {
        if !model.raw_sql.contains("is_incremental") {
            return Ok(());
        }
        let Some(relation) = self.executor.sessions.compiler.relation(node) else { return Ok(()) };
        let name = TableReference::partial(relation.schema, relation.identifier);
        register(context, &name, Arc::new(EmptyTable::new(Arc::clone(columns))))
            .map_err(BuildFault::plan(node, None))?;
        let render = RenderContext { incremental: true, ..self.render() };
        self.executor.sessions.compiler.frame(context, model, &render).await?;
        Ok(())
    }

    /// The columns that readers of a model see: those of its table, where it has one.
    fn shown(&self, model: &Model, node: &NodeId, query: &arrow::datatypes::Schema) -> Result<SchemaRef> {
        if !is_stored(&self.executor.planner.project, node) {
            return Ok(Arc::new(query.clone()));
        }
        let query = match &model.config.snapshot {
            Some(config) => history::with_history_columns(query, config),
            None => query.clone(),
        };
        stored_schema(&query).map_err(|(column, data_type)| BuildFault::ColumnType {
            model: model.name.clone(),
            column,
            data_type,
            location: Some(tidemill_project::Location::new(&model.path, 1, 1)),
        })
    }
}
