//! What a batch reads of its inputs.
//!
//! Its direct inputs around its window, as its model's `context` says. Views among them are queries of their own over tables
//! that no condition on their output may narrow (a date that is made of a text, a join by key, a window function): of these
//! tables a batch reads as much as the views' own `context` says, which is also what decides which batches a change makes
//! stale. A view that declares nothing about an input reads it whole.

use datafusion::common::TableReference;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::future::BoxFuture;

use super::cut::{Cut, Openings};
use super::execute::Job;
use super::prepared::Prepared;
use super::session::{beside, register};
use super::{BuildFault, Result, columns};
use crate::plan::{Reach, event_time_of, is_stored};
use crate::project::{BatchWindow, ContextSpan, Model, NodeId};
use crate::render::RenderContext;

impl Job<'_> {
    /// The model's query over inputs that are cut for a batch, in the columns that its rows are to have, and of these rows
    /// those whose event time lies in the batch.
    pub(super) async fn windowed(
        &self,
        base: &SessionContext,
        cut: Cut<'_>,
        render: &RenderContext,
    ) -> Result<DataFrame> {
        let fault = |error| BuildFault::plan(&self.node, Some(self.location()))(error);
        let context = beside(base);
        let planner = &self.executor.planner;
        for input in planner.graph.parents(&self.node) {
            let Some(name) = self.table_name(input) else { continue };
            let frame = match event_time_of(&planner.project, input) {
                Some(column) => {
                    let reach = Reach::from(self.model.config.context.of(&input.name()));
                    let frame = self.narrowed(base, input, reach, cut).await?;
                    cut.within(frame, column, reach, false).map_err(fault)?
                }
                None => base.table(name.clone()).await.map_err(fault)?,
            };
            register(&context, &name, frame.into_view()).map_err(fault)?;
        }
        let mut frame = self.executor.sessions.compiler.frame(&context, self.model, render).await?;
        if let Some(columns) = &self.columns {
            frame = columns::select(frame, columns).map_err(fault)?;
        }
        cut.within(frame, self.event_time()?, Reach::default(), false).map_err(fault)
    }

    /// The query for any batch, of which so many run side by side; `None` when each batch has one of its own.
    pub(super) async fn prepare(
        &self,
        base: &SessionContext,
        windows: [BatchWindow; 2],
        side_by_side: usize,
    ) -> Option<Prepared> {
        let compiler = &self.executor.sessions.compiler;
        let [one, other] = windows.map(|window| self.render_for(window));
        let sql = compiler.sql(self.model, &one).ok()?;
        if compiler.sql(self.model, &other).ok()? != sql {
            return None;
        }
        // What cannot be planned fails again with the batches, and is told there.
        let openings = Openings::default();
        let frame = self.windowed(base, Cut::Open(&openings), &one).await.ok()?;
        Prepared::new(sql, frame, openings, side_by_side).ok()?
    }

    /// What templates know while a batch is built.
    pub(super) fn render_for(&self, window: BatchWindow) -> RenderContext {
        RenderContext { batch: Some(window), ..self.render.clone() }
    }

    /// An input of which rows so far around the batch are wanted: a table as it is, a view over its own inputs cut as it
    /// declares to read them.
    fn narrowed<'a>(
        &'a self,
        base: &'a SessionContext,
        node: &'a NodeId,
        reach: Reach,
        cut: Cut<'a>,
    ) -> BoxFuture<'a, Result<DataFrame>> {
        Box::pin(async move {
            let fault = |error| BuildFault::plan(&self.node, Some(self.location()))(error);
            let planner = &self.executor.planner;
            let Some(view) = self.view(node).filter(|view| self.is_narrower(view)) else {
                let Some(name) = self.table_name(node) else {
                    return Err(BuildFault::UnknownNode { node: node.clone() });
                };
                return base.table(name).await.map_err(fault);
            };
            let context = beside(base);
            for input in planner.graph.parents(node) {
                let Some(name) = self.table_name(input) else { continue };
                let frame = match event_time_of(&planner.project, input) {
                    Some(column) => {
                        let reach = reach.then(Reach::from(view.config.context.of(&input.name())));
                        let frame = self.narrowed(base, input, reach, cut).await?;
                        if declares(view, input) {
                            cut.within(frame, column, reach, true).map_err(fault)?
                        } else {
                            frame
                        }
                    }
                    None => base.table(name.clone()).await.map_err(fault)?,
                };
                register(&context, &name, frame.into_view()).map_err(fault)?;
            }
            self.executor.sessions.compiler.frame(&context, view, &self.render).await
        })
    }

    /// Whether an input shows other rows when its own inputs are cut for a batch.
    pub(super) fn is_narrowed(&self, node: &NodeId) -> bool {
        self.view(node).is_some_and(|view| self.is_narrower(view))
    }

    fn view(&self, node: &NodeId) -> Option<&Model> {
        let project = &self.executor.planner.project;
        project.models.get(&node.name()).filter(|_| !is_stored(project, node))
    }

    /// Whether a view, or one under it, declares how much of an input it reads.
    fn is_narrower(&self, view: &Model) -> bool {
        let planner = &self.executor.planner;
        let node = NodeId::Model(view.name.clone());
        planner.graph.parents(&node).any(|input| {
            event_time_of(&planner.project, input).is_some() && (declares(view, input) || self.is_narrowed(input))
        })
    }

    fn table_name(&self, node: &NodeId) -> Option<TableReference> {
        let relation = self.executor.sessions.compiler.relation(node)?;
        Some(TableReference::partial(relation.schema, relation.identifier))
    }
}

/// Whether a view says how much it reads of an input.
fn declares(view: &Model, input: &NodeId) -> bool {
    let context = &view.config.context;
    context.inputs.contains_key(&input.name()) || context.default != ContextSpan::default()
}
