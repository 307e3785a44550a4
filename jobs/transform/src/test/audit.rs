//! A test on rows that are not visible yet.

use arrow::array::RecordBatch;
use tokio_util::task::AbortOnDropHandle;

use super::{Tester, holds};
use crate::project::{NodeId, Severity};
use crate::run::{BuildFault, Narrowing, Result};

/// What a test says of rows to come.
#[derive(Debug)]
pub(crate) struct Audited {
    /// Rows found.
    pub failures: u64,
    /// Whether they forbid the commit.
    pub is_error: bool,
    /// Some of the rows.
    pub rows: Vec<RecordBatch>,
}

impl Tester {
    /// Runs one test with `shown` in place of tables' contents; at most `keep` of the rows found are handed back.
    pub(crate) async fn audit(&self, name: &str, shown: &[Narrowing], keep: usize) -> Result<Audited> {
        let node = NodeId::Test(name.to_owned());
        let (sql, config, location) = self.compile(name)?;
        let parents: Vec<NodeId> = self.sessions.graph.parents(&node).cloned().collect();
        let context = self.sessions.over(parents, &self.render, Some(shown)).await?;
        let frame = context.sql(&sql).await.map_err(BuildFault::plan(&node, location.clone()))?;
        let found = AbortOnDropHandle::new(tokio::spawn(frame.collect()))
            .await
            .map_err(|source| BuildFault::TaskLost { node: node.clone(), source })?
            .map_err(BuildFault::execute(&node, location.clone()))?;
        let found_rows: usize = found.iter().map(RecordBatch::num_rows).sum();
        let most = config.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let failures = found_rows.min(most) as u64;
        let is_error = config.severity == Severity::Error
            && holds(&context, &node, failures, &config.error_if, location).await?;
        let mut rows = Vec::new();
        let mut left = keep;
        for batch in found {
            let taken = batch.num_rows().min(left);
            left -= taken;
            rows.push(batch.slice(0, taken));
        }
        Ok(Audited { failures, is_error, rows })
    }
}
