//! Text from the command line in place of a model's file: `compile --inline`, `show --inline`.

use std::path::Path;

use arrow::array::RecordBatch;
use tidemill_project::Location;

use super::query::collect;
use super::{BuildError, BuildFault, Runner};
use crate::plan::PlanOptions;
use crate::project::NodeId;

/// What the text is called in errors.
const NAME: &str = "inline";

impl Runner {
    /// The SQL of a template that may use `ref`, `source`, `var` and macros of the project.
    ///
    /// # Errors
    /// The template cannot be rendered, or uses what is not there.
    pub async fn compile_inline(&self, template: &str, options: &PlanOptions) -> Result<String, BuildError> {
        let executor = self.executor(options, "compile").await?;
        Ok(self.compiler.renderer().inline(template, &Self::looking(&executor), &self.compiler.relations())?)
    }

    /// The first rows that a template's SQL gives on what its inputs hold now; nothing is stored.
    ///
    /// # Errors
    /// The template cannot be rendered, its inputs were not built, its SQL fails.
    pub async fn show_inline(
        &self,
        template: &str,
        limit: usize,
        options: &PlanOptions,
    ) -> Result<Vec<RecordBatch>, BuildError> {
        let executor = self.executor(options, "show").await?;
        let render = Self::looking(&executor);
        let compiler = &executor.sessions.compiler;
        let sql = compiler.renderer().inline(template, &render, &compiler.relations())?;
        let uses = self.compiler.renderer().parse("", NAME, Path::new(NAME), template)?;
        let refs = uses.refs.iter().filter_map(|call| self.project().find_ref(call));
        let inputs: Vec<NodeId> = refs.chain(uses.sources.into_iter().map(NodeId::Source)).collect();
        let context = executor.sessions.over(inputs, &render, None).await?;
        let node = NodeId::Model(NAME.to_owned());
        let location = Some(Location::new(NAME, 1, 1));
        let frame = crate::sql::plan(&context, &sql).await.map_err(BuildFault::plan(&node, location.clone()))?;
        let frame = frame.limit(0, Some(limit)).map_err(BuildFault::plan(&node, location.clone()))?;
        Ok(collect(frame).await.map_err(BuildFault::execute(&node, location))?)
    }
}
