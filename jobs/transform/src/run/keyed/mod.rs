//! Models that are kept by key: what a run costs follows the keys that changed rows touch.
//!
//! | kept | new rows say | what is computed | what is kept beside the table |
//! | --- | --- | --- | --- |
//! | [`Keeping::Upsert`] | rows with their keys | the incremental SQL | nothing |
//! | [`Keeping::Latest`] | events of keys | the SQL over the new rows | the winner of each key, deletions too |
//! | [`Keeping::Touched`] | which keys they touch | the SQL over the whole, filtered by those keys | nothing |
//! | [`Keeping::Aggregate`] | which groups they belong to | partial states of the new rows | partial states of each group |
//!
//! All but the first give the rows of a full refresh, whatever the order of arrival. Where that cannot be had from the change
//! alone, the whole is computed and the plan says why.

mod aggregate;
mod change;
mod delta;
mod keys;
mod latest;
mod linear;
mod state;
mod touched;
mod upsert;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionContext};
use tidemill_lake::metadata::TransformNote;

pub(crate) use change::{Change, Leaves};
use keys::Touch;
pub(crate) use latest::visible_schema;
pub(crate) use linear::is_linear_in;

use super::cut::within;
use super::execute::Job;
use super::session::Narrowing;
use super::writer::Writer;
use super::{BuildFault, Result};
use crate::plan::{Action, InputDelta, Pinned, TimeRange};
use crate::project::Keeping;

/// What came of building a keyed model.
pub(crate) enum Attempt {
    /// The files are written; committing them is left.
    Ready(Box<Writer>, Box<TransformNote>),
    /// The change alone does not tell the new rows, because of this.
    Whole(String),
    /// Another build was faster.
    Lost,
}

/// One keyed model on its way.
pub(crate) struct Keyed<'a> {
    pub job: &'a Job<'a>,
    pub keeping: Keeping,
    pub inputs: &'a Pinned,
}

impl Keyed<'_> {
    /// Computes what the action says. The writer starts from `own`, the model's table.
    pub(crate) async fn build(&self, action: &Action, mut note: TransformNote) -> Result<Attempt> {
        let base = self.job.base(None).await?;
        let schema = self.job.output_schema(&base).await?;
        let visible = latest::visible_schema(self.keeping, &schema, &self.job.model.config);
        if let Some(column) = self.job.model.config.cluster_columns().iter().find(|key| visible.index_of(key).is_err())
        {
            return Err(BuildFault::NoKeyColumn {
                model: self.job.model.name.clone(),
                column: column.clone(),
                location: Some(self.job.model.location.clone()),
            });
        }
        let aggregate = match self.keeping {
            Keeping::Aggregate => Some(aggregate::Shape::of(self, &base).await?),
            _ => None,
        };
        let cluster = match &aggregate {
            Some(shape) if self.job.model.config.unique_key.is_empty() => shape.keys.clone(),
            _ => self.job.model.config.cluster_columns(),
        };
        let mut writer = self.job.keyed_writer(&visible, self.inputs.own.clone(), &cluster).await?;
        if !matches!(action, Action::Whole) && writer.reshapes() {
            return Ok(Attempt::Whole("its columns changed".to_owned()));
        }
        let done = match (action, self.keeping, &aggregate) {
            // The rows stay; only the note of what they were computed from moves on.
            (Action::Record, ..) => Done::Ready,
            (Action::Whole, Keeping::Upsert | Keeping::Touched, _) => {
                let rows = self.job.collect(self.job.frame(&base).await?, &schema).await?;
                writer.replace(None, self.job.canonical_by(&rows, &cluster)?).await?;
                Done::Ready
            }
            (Action::Whole, Keeping::Latest, _) => self.latest_whole(&base, &schema, &mut writer, &mut note).await?,
            (Action::Whole, _, Some(shape)) => self.aggregate_whole(shape, &mut writer, &mut note).await?,
            (Action::Upsert, ..) => self.upsert(&schema, &mut writer).await?,
            (Action::Keys { changes, due }, Keeping::Touched, _) => {
                self.recompute_touched(&base, &schema, changes, *due, &mut writer).await?
            }
            (Action::Keys { changes, due }, Keeping::Latest, _) => {
                self.latest_of_changes(&base, &schema, changes, *due, &mut writer, &mut note).await?
            }
            (Action::Keys { changes, due }, _, Some(shape)) => {
                self.aggregate_changes(shape, &base, changes, *due, &mut writer, &mut note).await?
            }
            _ => return Err(BuildFault::UnknownNode { node: self.job.node.clone() }),
        };
        if matches!(action, Action::Whole) {
            writer.remove_the_rest();
        }
        Ok(match done {
            Done::Ready => Attempt::Ready(Box::new(writer), Box::new(note)),
            Done::Whole(because) => Attempt::Whole(because),
            Done::Lost => Attempt::Lost,
        })
    }

    /// Sessions in which the changed inputs show their changed rows only. The flag says whether rows went away.
    async fn narrowed(&self, base: &SessionContext, changes: &[InputDelta]) -> Result<(Vec<Narrowing>, bool)> {
        let mut narrowings = Vec::new();
        let mut has_removed = false;
        for change in changes {
            let input = self.inputs.inputs.iter().find(|(leaf, _)| leaf.table.path() == change.table);
            let Some((leaf, Some(table))) = input else { continue };
            let rows = delta::changed_rows(base, &leaf.node, table, change).await?;
            has_removed |= rows.has_removed;
            narrowings.push(rows.narrowing);
        }
        Ok((narrowings, has_removed))
    }

    /// The parts of a query that the changed rows of each input make. The error says why that is not to be had.
    fn parts(&self, plan: &LogicalPlan, narrowings: &[Narrowing]) -> Result<Result<Vec<LogicalPlan>, String>> {
        let mut parts = Vec::new();
        for narrowing in narrowings.iter().filter(|narrowing| linear::reads(plan, &narrowing.base)) {
            let part = linear::without_foreign_branches(plan.clone(), &narrowing.base)
                .map_err(BuildFault::plan(&self.job.node, Some(self.job.location())))?;
            let meets = |other: &&Narrowing| other.path != narrowing.path && linear::reads(&part, &other.base);
            if let Some(other) = narrowings.iter().find(meets) {
                return Ok(Err(format!("{} and {}, which are joined, both changed", narrowing.path, other.path)));
            }
            if !linear::is_linear_in(&part, &narrowing.base) {
                return Ok(Err(format!("rows of {} do not pass one by one", narrowing.path)));
            }
            parts.push(part);
        }
        Ok(Ok(parts))
    }

    fn frame_of(context: &SessionContext, plan: LogicalPlan) -> DataFrame {
        DataFrame::new(context.state(), plan)
    }

    /// The keys of rows of the model's table whose event time lies in `due`.
    async fn due_keys(
        &self,
        context: &SessionContext,
        writer: &Writer,
        due: Option<TimeRange>,
        keys: &[String],
    ) -> Result<Option<Touch>> {
        let (Some(due), Some(table)) = (due, writer.table()) else { return Ok(None) };
        let fault = |error| BuildFault::plan(&self.job.node, Some(self.job.location()))(error);
        let provider: Arc<dyn TableProvider> = table.provider().map_err(BuildFault::lake(table.id()))?;
        let mut frame = context.read_table(provider).map_err(fault)?;
        if let Some(column) = self.job.model.config.event_time.as_deref()
            && table.schema().index_of(column).is_ok()
        {
            frame = within(frame, column, due, true).map_err(fault)?;
        }
        let columns: Vec<&str> = keys.iter().map(String::as_str).collect();
        let frame = frame.select_columns(&columns).and_then(DataFrame::distinct).map_err(fault)?;
        let rows = self.job.collect_as_is(frame).await?;
        let touch = Touch::of(&rows, keys).map_err(BuildFault::shape(&self.job.node))?;
        Ok((!touch.keys.is_empty()).then_some(touch))
    }

    fn join(&self, schema: &SchemaRef, parts: &[RecordBatch]) -> Result<RecordBatch> {
        concat_batches(schema, parts).map_err(BuildFault::shape(&self.job.node))
    }
}

/// How a way of keeping ended.
enum Done {
    Ready,
    Whole(String),
    Lost,
}
