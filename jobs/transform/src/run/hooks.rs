//! Hooks: statements before and after a model, and before and after a run.
//!
//! A query is run and its rows are thrown away, which is what a hook that checks or logs by a query wants. Statements that
//! change a database (grants, indexes, vacuum, …) have no meaning here: tables are files that their commits describe. They are
//! passed over with a warning, so that a project which carries them builds.

use super::ask::Asked;
use super::execute::Executor;
use super::{BuildFault, Result};
use crate::project::Model;
use crate::render::RenderContext;

impl Executor {
    /// Runs hooks of a model, in order; `when` is for messages: `pre_hook`.
    pub(crate) async fn run_hooks(&self, model: &Model, hooks: &[String], when: &str) -> Result<()> {
        for hook in hooks {
            let sql = self.sessions.compiler.statement(Some(model), hook, &self.looking())?;
            self.run_statements(&sql, when, &model.name).await?;
        }
        Ok(())
    }

    /// Runs `on-run-start` or `on-run-end`, in order.
    pub(crate) async fn run_project_hooks(&self, hooks: &[String], when: &str) -> Result<()> {
        for hook in hooks {
            let sql = self.sessions.compiler.statement(None, hook, &self.looking())?;
            self.run_statements(&sql, when, &self.planner.project.name).await?;
        }
        Ok(())
    }

    fn looking(&self) -> RenderContext {
        RenderContext {
            watermarks: self.planner.watermarks.clone(),
            as_of_us: self.planner.as_of_us,
            run_id: self.run_id.clone(),
            ..RenderContext::default()
        }
    }

    async fn run_statements(&self, sql: &str, when: &str, owner: &str) -> Result<()> {
        for statement in crate::sql::statements(sql) {
            if !is_query(statement) {
                tracing::warn!(%when, %owner, statement, "hook has no meaning here and is passed over");
                continue;
            }
            let asked = Asked::new(self.sessions.clone(), self.looking());
            asked.rows(statement).await.map_err(|why| BuildFault::Hook {
                when: when.to_owned(),
                owner: owner.to_owned(),
                why,
            })?;
        }
        Ok(())
    }
}

fn is_query(statement: &str) -> bool {
    let bare = statement.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '(');
    let word: String = bare.chars().take_while(char::is_ascii_alphabetic).collect();
    matches!(word.to_ascii_lowercase().as_str(), "select" | "with" | "values")
}
