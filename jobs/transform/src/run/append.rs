//! Appended rows in parts: what a topic holds on the first day may be more than memory does.
//!
//! The rows that some files of the input make are computed, written and forgotten before the next files are read. Together they
//! are the rows of one query over all files exactly when the query passes the input's rows on one by one, which is proven from
//! the plan (`keyed::linear`); a query that looks at other rows is computed at once.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_lake::{DataFile, Table};

use super::Result;
use super::execute::Job;
use super::keyed::is_linear_in;
use super::session::Narrowing;
use super::writer::Writer;
use crate::plan::{Action, Leaf};
use crate::project::{NodeId, Storage, Strategy};

/// Input rows of one part, whose output is sorted in memory: about 300 MB of wide rows. Small in tests, so that these go through
/// several parts.
const MAX_PART_ROWS: u64 = if cfg!(test) { 8 } else { 500_000 };

/// The stored tables under a model; `None` for one that nothing has landed in yet.
type Inputs = [(Leaf, Option<Arc<Table>>)];

impl Job<'_> {
    /// The files whose rows an append model passes on, when they are worth being computed in parts: all of its one input for the
    /// whole, the new ones for an append.
    pub(super) async fn files_in_parts(
        &self,
        action: &Action,
        inputs: &Inputs,
    ) -> Result<Option<(Arc<Table>, Vec<Vec<DataFile>>)>> {
        if self.model.config.storage() != Storage::Incremental(Strategy::Append) {
            return Ok(None);
        }
        let mut others = inputs.iter().filter(|(leaf, _)| !matches!(leaf.node, NodeId::Seed(_)));
        let (Some((_, Some(input))), None) = (others.next(), others.next()) else { return Ok(None) };
        let files = match action {
            Action::Whole => input.files(),
            Action::Append { files, .. } => files.clone(),
            _ => return Ok(None),
        };
        let parts = parts(files);
        if parts.len() < 2 || !self.passes_on(input).await? {
            return Ok(None);
        }
        Ok(Some((Arc::clone(input), parts)))
    }

    /// Adds the rows that the parts make, one part after the other.
    pub(super) async fn append_parts(
        &self,
        input: &Table,
        parts: Vec<Vec<DataFile>>,
        schema: &SchemaRef,
        writer: &mut Writer,
    ) -> Result<()> {
        for files in parts {
            let rows = self.rows_of(input, files, schema).await?;
            writer.append(self.canonical(&rows)?).await?;
        }
        Ok(())
    }

    /// The rows that some files of an input make.
    async fn rows_of(&self, input: &Table, files: Vec<DataFile>, schema: &SchemaRef) -> Result<RecordBatch> {
        let narrowing = Narrowing::files(&self.executor.sessions.empty(), input, files)?;
        let base = self.base(Some(&[narrowing])).await?;
        self.collect(self.frame(&base).await?, schema).await
    }

    /// Whether the query passes the rows of this input on one by one.
    async fn passes_on(&self, input: &Table) -> Result<bool> {
        let narrowing = Narrowing::files(&self.executor.sessions.empty(), input, Vec::new())?;
        let scanned = Arc::clone(&narrowing.base);
        let base = self.base(Some(&[narrowing])).await?;
        let frame = self.frame(&base).await?;
        Ok(is_linear_in(frame.logical_plan(), &scanned))
    }
}

/// Files in runs of about [`MAX_PART_ROWS`] rows, in their order. A file whose rows are not known is a part of its own.
fn parts(files: Vec<DataFile>) -> Vec<Vec<DataFile>> {
    let mut parts: Vec<Vec<DataFile>> = Vec::new();
    let mut num_rows = u64::MAX;
    for file in files {
        let more = file.num_records.unwrap_or(MAX_PART_ROWS);
        match parts.last_mut() {
            Some(part) if num_rows.saturating_add(more) <= MAX_PART_ROWS => part.push(file),
            _ => {
                parts.push(vec![file]);
                num_rows = 0;
            }
        }
        num_rows = num_rows.saturating_add(more);
    }
    parts
}
