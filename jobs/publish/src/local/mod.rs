//! The local warehouse: Delta tables in a folder (or bucket), the embedded default.
//!
//! A target table is `<warehouse>/<database>/<schema>/<table>/`, partitioned as its model's table is. Where it stands is in the
//! note of its newest publish commit, which is the commit that brought the rows, so that neither can be there without the
//! other.
//!
//! | step | process dies after it |
//! | --- | --- |
//! | new rows, and the rest of files that lose rows, are written as Parquet files | files that nobody refers to; vacuum takes them |
//! | one commit adds and removes files and carries the position | done; publishing again finds the position and does nothing |

mod apply;
mod check;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use tidemill_lake::metadata::{Act, PublishNote};
use tidemill_lake::{Lake, Table, TableId};
use tidemill_project::TableVersion;

use crate::diff::ChangeSet;
use crate::sink::{Applied, ApplyContext, Position, Sink};
use crate::{CheckedTable, Error, Publication, Result, TargetTable};

/// The local warehouse.
#[derive(Clone, Debug)]
pub struct LocalSink {
    warehouse: Lake,
}

impl LocalSink {
    /// Publishes into `warehouse`, a store of its own beside the lake.
    #[must_use]
    pub fn new(warehouse: Lake) -> Self {
        Self { warehouse }
    }

    async fn open(&self, publication: &Publication) -> Result<Option<Table>> {
        self.warehouse
            .open(&table_of(publication.table()))
            .await
            .map_err(Error::lake("open the target table", publication))
    }
}

/// The place of a target table.
pub(crate) fn table_of(target: &TargetTable) -> TableId {
    TableId::Warehouse { database: target.database.clone(), schema: target.schema.clone(), table: target.table.clone() }
}

/// The newest publish note of a target table; `None` when nothing was ever published into it.
async fn last_publication(table: &Table, publication: &Publication) -> Result<Option<PublishNote>> {
    let note = table
        .last_note(|note| matches!(note.act, Act::Publish(_)))
        .await
        .map_err(Error::lake("read the log of the target table", publication))?;
    Ok(note.and_then(|(_, note)| match note.act {
        Act::Publish(note) => Some(note),
        _ => None,
    }))
}

/// Another model under the same target counts as another table: everything is compared then.
fn position_of(note: PublishNote, publication: &Publication) -> Position {
    let same = note.table == publication.model.path();
    Position {
        table_id: if same { note.table_id } else { String::new() },
        version: TableVersion(note.to),
        seq: note.seq,
        watermark_us: note.watermark_us,
        sent_version: None,
    }
}

#[async_trait]
impl Sink for LocalSink {
    fn name(&self) -> &'static str {
        "local"
    }

    /// Delta commits one table at a time.
    fn group_of(&self, publication: &Publication) -> String {
        publication.target.to_string()
    }

    async fn position(&self, publication: &Publication) -> Result<Option<Position>> {
        let Some(table) = self.open(publication).await? else { return Ok(None) };
        Ok(last_publication(&table, publication).await?.map(|note| position_of(note, publication)))
    }

    async fn refresh_position(&self, publication: &Publication) -> Result<Option<Position>> {
        self.position(publication).await
    }

    async fn rows(&self, publication: &Publication, _position: Option<&Position>) -> Result<Option<Table>> {
        self.open(publication).await
    }

    /// A commit names itself: one that landed is found by its note.
    fn names_changes(&self) -> bool {
        false
    }

    async fn apply(&self, changes: &[ChangeSet], context: ApplyContext<'_>) -> Result<Vec<Applied>> {
        let mut applied = Vec::with_capacity(changes.len());
        for change in changes {
            applied.push(self.apply_one(change, context).await?);
        }
        Ok(applied)
    }

    /// A commit without files: the next plan starts here and reads none of these versions again.
    async fn skip(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Position> {
        Ok(self.apply_one(changes, context).await?.position)
    }

    async fn check(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        self.compare(publication, model).await
    }
}
