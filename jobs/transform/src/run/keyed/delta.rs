//! The rows in which an input differs between two versions.
//!
//! An input that has only grown shows its new files. Where files were rewritten, rows that merely moved to another file are
//! left out: what is in the old and in the new files is counted against each other, so that a reader's work follows the rows
//! that changed and not the files that they lie in.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use tidemill_lake::{DataFile, Table};

use super::change::RowCoder;
use crate::plan::{BATCH_COLUMN, InputDelta};
use crate::project::NodeId;
use crate::run::rows::into_stored;
use crate::run::session::{Narrowing, provider_of};
use crate::run::{BuildFault, Result};

/// One input as a session shows it instead of the whole: the rows that changed.
#[derive(Debug)]
pub(crate) struct ChangedRows {
    pub narrowing: Narrowing,
    /// Whether rows went away: then the rows shown are old and new ones together.
    pub has_removed: bool,
}

/// Shows the changed rows of an input. Reads data only where files were removed.
pub(crate) async fn changed_rows(
    context: &SessionContext,
    node: &NodeId,
    table: &Table,
    delta: &InputDelta,
) -> Result<ChangedRows> {
    if delta.removed.is_empty() {
        let narrowing = Narrowing::files(context, table, delta.added.clone())?;
        return Ok(ChangedRows { narrowing, has_removed: false });
    }
    let added = read(node, table, &delta.added).await?;
    let removed = read(node, table, &delta.removed).await?;
    let fault = || BuildFault::shape(node);
    let coder = RowCoder::new(&added).map_err(fault())?;
    let mut there: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
    let codes = coder.code(&added).map_err(fault())?;
    for index in 0..u32::try_from(added.num_rows()).unwrap_or(u32::MAX) {
        there.entry(Box::from(codes.row(index as usize).data())).or_default().push(index);
    }
    let codes = coder.code(&removed).map_err(fault())?;
    let gone: UInt32Array = (0..u32::try_from(removed.num_rows()).unwrap_or(u32::MAX))
        .filter(|index| there.get_mut(codes.row(*index as usize).data()).and_then(Vec::pop).is_none())
        .collect();
    let mut came: Vec<u32> = there.into_values().flatten().collect();
    came.sort_unstable();
    let has_removed = !gone.is_empty();
    let came = take_record_batch(&added, &UInt32Array::from(came)).map_err(fault())?;
    let gone = take_record_batch(&removed, &gone).map_err(fault())?;
    let mut rows = concat_batches(&added.schema(), [&came, &gone]).map_err(fault())?;
    if let Ok(index) = rows.schema().index_of(BATCH_COLUMN)
        && table.partition_columns().iter().any(|column| column == BATCH_COLUMN)
    {
        rows.remove_column(index);
    }
    let shown: Arc<dyn TableProvider> =
        Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(BuildFault::plan(node, None))?);
    Ok(ChangedRows { narrowing: Narrowing::rows(table, shown), has_removed })
}

async fn read(node: &NodeId, table: &Table, files: &[DataFile]) -> Result<RecordBatch> {
    let batches: Vec<RecordBatch> =
        table.read_files(files.to_vec(), None).try_collect().await.map_err(BuildFault::lake(table.id()))?;
    into_stored(&batches, &table.schema()).map_err(BuildFault::shape(node))
}

impl Narrowing {
    /// Some files of a table in place of all.
    pub(crate) fn files(context: &SessionContext, table: &Table, files: Vec<DataFile>) -> Result<Self> {
        let base = table.provider_over(files).map_err(BuildFault::lake(table.id()))?;
        let shown = provider_of(context, table, Some(Arc::clone(&base)))?;
        Ok(Self { path: table.id().path(), shown, base })
    }

    /// Rows in memory in place of a table's.
    pub(crate) fn rows(table: &Table, rows: Arc<dyn TableProvider>) -> Self {
        Self { path: table.id().path(), shown: Arc::clone(&rows), base: rows }
    }
}
