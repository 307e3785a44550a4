//! Target against model, row by row.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use tidemill_lake::Table;

use super::LocalSink;
use crate::diff::{ChangeBatch, ChangeConsumer, ChangeKind, MAX_KEYS_IN_MEMORY, PlanRequest, plan};
use crate::sink::Sink;
use crate::{CheckedTable, Error, Publication, Result};

/// Keys that are named; more would not help a person.
const MAX_EXAMPLES: usize = 10;

impl LocalSink {
    pub(super) async fn compare(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        let target = self.rows(publication, None).await?.map(Arc::new);
        let target_rows =
            target.as_ref().map_or(0, |table| table.live_files().filter_map(|file| file.num_records()).sum());
        let request = PlanRequest {
            publication: publication.clone(),
            model,
            base: None,
            target,
            watermark_us: None,
            full: true,
            resend: false,
            max_keys: MAX_KEYS_IN_MEMORY,
            names_rows: false,
        };
        let changes = plan(request).await?;
        let counts = changes.counts();
        let mut examples = Examples { key: changes.shape().key.clone(), lines: Vec::new(), publication };
        changes.visit(&mut examples).await?;
        Ok(CheckedTable {
            model: publication.model_name.clone(),
            target: publication.target.clone(),
            sink: self.name(),
            model_rows: (target_rows + counts.inserted).saturating_sub(counts.deleted),
            target_rows,
            missing: counts.inserted,
            extra: counts.deleted,
            different: counts.updated,
            examples: examples.lines,
        })
    }
}

struct Examples<'a> {
    key: Vec<usize>,
    lines: Vec<String>,
    publication: &'a Publication,
}

#[async_trait]
impl ChangeConsumer for Examples<'_> {
    async fn consume(&mut self, batch: ChangeBatch) -> Result<()> {
        let what = match batch.kind {
            ChangeKind::Upsert => "missing or different in the target",
            ChangeKind::Delete => "not in the model",
            ChangeKind::MoveOut => return Ok(()),
        };
        for row in 0..batch.rows.num_rows().min(MAX_EXAMPLES.saturating_sub(self.lines.len())) {
            let key = describe(&batch.rows, &self.key, row).map_err(Error::arrow(self.publication))?;
            self.lines.push(format!("{what}: {key}"));
        }
        Ok(())
    }
}

/// `user_id=7, night=2025-03-09`; all columns for rows without a key.
fn describe(rows: &RecordBatch, key: &[usize], row: usize) -> Result<String, arrow::error::ArrowError> {
    let all: Vec<usize> = (0..rows.num_columns()).collect();
    let columns = if key.is_empty() { &all } else { key };
    let options = FormatOptions::default().with_null("null");
    let cells = columns
        .iter()
        .map(|&column| {
            let text = ArrayFormatter::try_new(rows.column(column), &options)?.value(row).try_to_string()?;
            Ok(format!("{}={text}", rows.schema().field(column).name()))
        })
        .collect::<Result<Vec<_>, arrow::error::ArrowError>>()?;
    Ok(cells.join(", "))
}
