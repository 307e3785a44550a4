//! What a plan needs to know of the query itself: how changed SQL differs, and what follows from that.
//!
//! The planner compares texts, which is quick and decides nearly always. Where texts differ the query is planned by the engine
//! (no data is read), and compared column by column with that of the last build.

use super::columns;
use super::described::{describe, difference};
use super::execute::{Executor, Job};
use super::{BuildFault, Result};
use crate::plan::{Action, Planned, Reason, SqlChange};
use crate::project::{Model, NodeId, OnSqlChange};
use crate::render::RenderContext;
use tidemill_lake::metadata::QueryNote;

impl Executor {
    /// Plans one model; of changed SQL it says what changed, and goes by the model's policy.
    pub(crate) async fn plan(&self, model: &Model) -> Result<Planned> {
        let mut planned = Box::pin(self.planner.plan_model(model, false)).await?;
        if planned.plan.reason != Reason::SqlChanged {
            return Ok(planned);
        }
        let now = self.query_note(model).await?;
        let before = planned.pinned.previous.as_ref().and_then(|previous| previous.query.as_ref());
        let change = match before {
            Some(before) => difference(before, &now),
            None => Some(SqlChange::Breaking { columns: Vec::new() }),
        };
        let Some(change) = change else {
            // Other words for the same query: there is nothing to do but to remember them.
            return Box::pin(self.planner.plan_model(model, true)).await.map(noted);
        };
        match policy(model) {
            OnSqlChange::Rebuild => {
                planned.plan.sql_change = Some(change);
                Ok(planned)
            }
            OnSqlChange::Ignore => {
                let mut planned = noted(Box::pin(self.planner.plan_model(model, true)).await?);
                planned.plan.sql_change = Some(change);
                Ok(planned)
            }
            OnSqlChange::Fail => Err(BuildFault::SqlChanged {
                model: model.name.clone(),
                change: change.to_string(),
                location: Some(model.location.clone()),
            }),
        }
    }

    /// The model's query over its inputs as they are, described; for no batch, no watermark and no clock.
    pub(crate) async fn query_note(&self, model: &Model) -> Result<QueryNote> {
        let node = NodeId::Model(model.name.clone());
        let job =
            Job { executor: self, model, node, render: RenderContext::default(), columns: None, may_leave: false };
        let base = job.base(None).await?;
        Ok(describe(job.frame(&base).await?.logical_plan()))
    }
}

/// Sees to it that the new fingerprint is committed.
fn noted(mut planned: Planned) -> Planned {
    if matches!(planned.plan.action, Action::Skip) {
        planned.plan.action = Action::Record;
    }
    planned
}

/// A model that is never to be refreshed, or that says what becomes of other columns, keeps its rows when its SQL changes, unless
/// it says otherwise.
fn policy(model: &Model) -> OnSqlChange {
    let keeps = model.config.full_refresh == Some(false) || columns::policy(model).is_some();
    model.config.on_sql_change.unwrap_or(if keeps { OnSqlChange::Ignore } else { OnSqlChange::Rebuild })
}
