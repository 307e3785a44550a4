//! Rows that are a function of their inputs, computed again for the keys that changed rows touch.
//!
//! `touched_by` says of each input: a changed row touches the output rows in which these output columns hold the values of
//! those input columns. Rows of the touched keys are computed from the whole inputs, with the keys as a condition on the
//! output; the optimizer carries it through projections, joins on the key, groups and windows that contain it, down to the
//! files of the inputs. The condition never changes a row, so a key that cannot be carried down costs time and nothing else.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use datafusion::prelude::{DataFrame, Expr, SessionContext, ident};

use super::keys::{KeySet, Touch};
use super::{Done, Keyed, linear};
use crate::plan::{InputDelta, TimeRange};
use crate::project::{KeyColumns, NodeId};
use crate::run::writer::Writer;
use crate::run::{BuildFault, Result};

/// More keys than this share of a million-row table are computed as a whole: then nothing is saved by leaving rows out.
const MAX_KEYS: usize = 2_000_000;

impl Keyed<'_> {
    pub(super) async fn recompute_touched(
        &self,
        base: &SessionContext,
        schema: &SchemaRef,
        changes: &[InputDelta],
        due: Option<TimeRange>,
        writer: &mut Writer,
    ) -> Result<Done> {
        let mut touches = match self.touches(base, schema, changes).await? {
            Ok(touches) => touches,
            Err(because) => return Ok(Done::Whole(because)),
        };
        touches.extend(self.due_keys(base, writer, due, &self.job.model.config.unique_key).await?);
        if touches.iter().map(|touch| touch.keys.len()).sum::<usize>() > MAX_KEYS {
            return Ok(Done::Whole("most keys are touched".to_owned()));
        }
        let rows = self.rows_of_keys(base, schema, &touches).await?;
        let change = writer.leaves()?.replace(&touches, &rows).await?;
        writer.apply(change);
        Ok(Done::Ready)
    }

    /// The rows of the model's query that are touched.
    pub(super) async fn rows_of_keys(
        &self,
        base: &SessionContext,
        schema: &SchemaRef,
        touches: &[Touch],
    ) -> Result<arrow::array::RecordBatch> {
        let mut parts = Vec::new();
        for (index, touch) in touches.iter().enumerate() {
            let mut filter = touch.filter();
            // A row that an earlier touch has brought does not come twice.
            for earlier in &touches[..index] {
                filter = filter.and(earlier.exact().is_not_true());
            }
            let frame = self.job.frame(base).await?;
            let frame = frame.filter(filter).map_err(BuildFault::plan(&self.job.node, Some(self.job.location())))?;
            parts.push(self.job.collect(frame, schema).await?);
        }
        self.join(schema, &parts)
    }

    /// The keys that the changed rows touch; the error says why they cannot be told.
    async fn touches(
        &self,
        base: &SessionContext,
        schema: &SchemaRef,
        changes: &[InputDelta],
    ) -> Result<Result<Vec<Touch>, String>> {
        let fault = |error| BuildFault::plan(&self.job.node, Some(self.job.location()))(error);
        let executor = self.job.executor;
        let (narrowings, _) = self.narrowed(base, changes).await?;
        let mut collected: Vec<(Vec<String>, Vec<DataType>, Vec<arrow::array::RecordBatch>)> = Vec::new();
        for parent in executor.planner.graph.parents(&self.job.node) {
            let context =
                executor.sessions.over([parent.clone()], &self.job.render, Some(narrowings.as_slice())).await?;
            let Some(relation) = executor.sessions.compiler.relation(parent) else { continue };
            let name = TableReference::partial(relation.schema, relation.identifier);
            let plan = context.table(name).await.map_err(fault)?.logical_plan().clone();
            if !narrowings.iter().any(|narrowing| linear::reads(&plan, &narrowing.base)) {
                continue;
            }
            let Some(mappings) = self.mappings(parent) else {
                return Ok(Err(format!("{} changed, and no `touched_by` says what it touches", parent.name())));
            };
            let parts = match self.parts(&plan, &narrowings)? {
                Ok(parts) => parts,
                Err(because) => return Ok(Err(because)),
            };
            for part in parts {
                for columns in mappings {
                    let output: Vec<String> = columns.keys().cloned().collect();
                    let types = self.types(schema, &output)?;
                    let exprs: Vec<Expr> = columns.values().map(ident).collect();
                    let keys = Self::frame_of(&context, part.clone()).select(exprs).and_then(DataFrame::distinct);
                    let keys = self.job.collect_as_is(keys.map_err(fault)?).await?;
                    match collected.iter_mut().find(|(known, ..)| *known == output) {
                        Some((_, _, batches)) => batches.push(keys),
                        None => collected.push((output, types, vec![keys])),
                    }
                }
            }
        }
        let mut touches = Vec::new();
        for (columns, types, batches) in collected {
            let keys = KeySet::collect(&batches, &types).map_err(BuildFault::shape(&self.job.node))?;
            if !keys.is_empty() {
                touches.push(Touch { columns, keys });
            }
        }
        Ok(Ok(touches))
    }

    fn mappings(&self, input: &NodeId) -> Option<&[KeyColumns]> {
        self.job.model.config.keyed.touched_by.get(&input.name()).map(Vec::as_slice)
    }

    fn types(&self, schema: &SchemaRef, columns: &[String]) -> Result<Vec<DataType>> {
        let data_type = |column: &String| match schema.field_with_name(column) {
            Ok(field) => Ok(field.data_type().clone()),
            Err(_) => Err(BuildFault::NoKeyColumn {
                model: self.job.model.name.clone(),
                column: column.clone(),
                location: Some(self.job.model.location.clone()),
            }),
        };
        columns.iter().map(data_type).collect()
    }
}
