//! The room's door: a project, a lake and an engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_lake::metadata::{Act, IngestNote};
use tidemill_lake::{Engine, Lake, TableId};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

use super::ask::Asked;
use super::execute::Executor;
use super::{BuildError, BuildFault, Compiler, Result, Sessions, Snapshots};
use crate::graph::{Graph, Selection};
use crate::plan::{Plan, PlanOptions, Planner, is_stored, table_of};
use crate::project::{NodeId, Project};
use crate::render::{RenderContext, Renderer};

/// Everything that can be done with a models project. Cheap to clone; one serves all commands of a process.
#[derive(Clone, Debug)]
pub struct Runner {
    pub(crate) project: Arc<Project>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) compiler: Compiler,
    pub(crate) lake: Lake,
    pub(crate) engine: Engine,
    pub(crate) threads: usize,
}

impl Runner {
    /// Builds a runner. `threads` models are worked on side by side.
    ///
    /// # Errors
    /// References that lead nowhere, cycles, macros that are no Jinja.
    pub fn new(project: Project, lake: Lake, engine: Engine, threads: usize) -> Result<Self, BuildError> {
        let graph = Arc::new(Graph::build(&project)?);
        let renderer = Arc::new(Renderer::new(&project)?);
        let project = Arc::new(project);
        let compiler = Compiler::new(Arc::clone(&project), Arc::clone(&graph), renderer);
        Ok(Self { project, graph, compiler, lake, engine, threads: threads.max(1) })
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Its graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Where a node's rows are kept; `None` for tests, and for views and ephemeral models, which are kept nowhere.
    #[must_use]
    pub fn table_of(&self, node: &NodeId) -> Option<TableId> {
        if is_stored(&self.project, node) { table_of(&self.project, node) } else { None }
    }

    /// What a build would do now: `--dry-run`, `status`. Reads logs only, writes nothing.
    ///
    /// A model that stands on others which will be built is planned with what is known, and names them in `after`.
    ///
    /// # Errors
    /// The selection, the lake, templates.
    pub async fn plan(&self, selection: &Selection, options: &PlanOptions) -> Result<Plan, BuildError> {
        let executor = self.executor(options, "plan").await?;
        let mut models = Vec::new();
        let mut stale: Vec<NodeId> = Vec::new();
        for node in self.graph.select(selection)? {
            let Some(model) = (match &node {
                NodeId::Model(name) => self.project.models.get(name),
                _ => None,
            }) else {
                continue;
            };
            let mut plan = executor.plan(model).await?.plan;
            let ancestors = self.graph.ancestors(&node, None);
            plan.after = stale.iter().filter(|node| ancestors.contains(*node)).map(NodeId::name).collect();
            if !plan.is_fresh() {
                stale.push(node);
            }
            models.push(plan);
        }
        let planner = &executor.planner;
        Ok(Plan::new(models, planner.as_of_us, options, &planner.watermarks))
    }

    pub(crate) async fn executor(&self, options: &PlanOptions, run_id: &str) -> Result<Executor> {
        let now_us = self.lake.clock().now_us();
        let as_of_us = options.as_of_us.unwrap_or(now_us);
        let snapshots = Arc::new(Snapshots::new(self.lake.clone()));
        let watermarks = match &options.watermarks {
            Some(given) => given.clone(),
            None => self.watermarks(&snapshots).await?,
        };
        let watermarks = watermarks.into_iter().map(|(source, at_us)| (source, at_us.min(as_of_us))).collect();
        let mut sessions = Sessions {
            project: Arc::clone(&self.project),
            graph: Arc::clone(&self.graph),
            compiler: self.compiler.clone(),
            snapshots: Arc::clone(&snapshots),
            engine: self.engine.clone(),
        };
        let watermarks: BTreeMap<SourceName, Micros> = watermarks;
        let render = RenderContext {
            watermarks: watermarks.clone(),
            as_of_us,
            run_id: run_id.to_owned(),
            ..RenderContext::default()
        };
        sessions.compiler = self.compiler.asking(Asked::new(sessions.clone(), render));
        let planner = Planner {
            project: Arc::clone(&self.project),
            graph: Arc::clone(&self.graph),
            compiler: sessions.compiler.clone(),
            snapshots,
            options: options.clone(),
            as_of_us,
            watermarks,
        };
        Ok(Executor {
            planner: Arc::new(planner),
            sessions,
            threads: self.threads,
            run_id: run_id.to_owned(),
            passed: Arc::default(),
        })
    }

    /// What templates know about a run that builds nothing.
    pub(crate) fn looking(executor: &Executor) -> RenderContext {
        RenderContext {
            watermarks: executor.planner.watermarks.clone(),
            as_of_us: executor.planner.as_of_us,
            run_id: executor.run_id.clone(),
            ..RenderContext::default()
        }
    }

    /// W of every source with a contract, from the newest ingest commit of its raw table (X12).
    async fn watermarks(&self, snapshots: &Snapshots) -> Result<BTreeMap<SourceName, Micros>> {
        let mut watermarks = BTreeMap::new();
        for (name, source) in &self.project.sources {
            if !source.has_contract {
                continue;
            }
            let id = TableId::Raw(name.clone());
            let Some(table) = snapshots.get(&id).await? else { continue };
            let known = |note: &IngestNote| note.watermark_us.is_some();
            let found = table
                .last_note(|note| matches!(&note.act, Act::Ingest(ingest) if known(ingest)))
                .await
                .map_err(BuildFault::lake(&id))?;
            if let Some((_, note)) = found
                && let Act::Ingest(IngestNote { watermark_us: Some(at_us), .. }) = note.act
            {
                watermarks.insert(name.clone(), at_us);
            }
        }
        Ok(watermarks)
    }
}
