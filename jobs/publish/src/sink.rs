//! The seam between "what changed" and "where it goes".

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidemill_lake::Table;
use tidemill_project::TableVersion;

use crate::diff::{ChangeCounts, ChangeSet};
use crate::{CheckedTable, Publication, PublishObserver, Result};

/// Where a target table stands, as it is kept with the target's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Delta id of the model's table. Versions restart when a table is made again; the id tells.
    pub table_id: String,
    /// The version that the target shows.
    pub version: TableVersion,
    /// Counts up by one with every publication of the target and never restarts.
    pub seq: u64,
    /// W of the model at `version`, microseconds since the epoch, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_us: Option<i64>,
    /// Sinks of messages: the version of the table of sent rows that belongs to this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_version: Option<TableVersion>,
}

/// What a sink made of one change set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where the target stands now.
    pub position: Position,
    /// Rows by what happened to them in the target.
    pub counts: ChangeCounts,
}

/// What an apply needs beside the changes.
#[derive(Clone, Copy)]
pub struct ApplyContext<'a> {
    /// One invocation of the binary.
    pub run_id: &'a str,
    /// Hears statements and steps.
    pub observer: &'a dyn PublishObserver,
}

impl std::fmt::Debug for ApplyContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplyContext").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

/// A place where target tables live.
///
/// # Guarantee
/// An apply is a compare-and-swap: it happens as a whole, together with the new position, or not at all; and only on a target
/// that stands where the change set was computed from. Applying the same change set twice changes nothing the second time:
/// the target has moved, and the caller plans again.
#[async_trait]
pub trait Sink: Send + Sync {
    /// `local`, `snowflake`, `kafka` or `redis`.
    fn name(&self) -> &'static str;

    /// Change sets with the same group are applied atomically together; sets of other groups are not handed in with them.
    fn group_of(&self, publication: &Publication) -> String;

    /// Where the target stands as far as can be told without waking a warehouse; `None` when nothing was published. It may
    /// lag behind the truth (then [`Sink::apply`] says that the target moved) but is never ahead of it by itself.
    async fn position(&self, publication: &Publication) -> Result<Option<Position>>;

    /// The truth about the position, for planning again after a conflict.
    async fn refresh_position(&self, publication: &Publication) -> Result<Option<Position>>;

    /// The target's rows at `position` as a Delta table, when the sink can show them: a full comparison then happens here,
    /// else in the warehouse.
    async fn rows(&self, publication: &Publication, position: Option<&Position>) -> Result<Option<Table>>;

    /// Whether `--full` writes every row again, for targets that may lose rows without anybody noticing.
    fn resends_in_full(&self) -> bool {
        false
    }

    /// Whether it tells changes by their content hash, which costs a read of all changed rows.
    fn names_changes(&self) -> bool {
        true
    }

    /// Applies the change sets of one group and moves their positions, atomically.
    ///
    /// # Errors
    /// Kind `Conflict` when a target stands elsewhere than its change set assumes.
    async fn apply(&self, changes: &[ChangeSet], context: ApplyContext<'_>) -> Result<Vec<Applied>>;

    /// The version moved and no row changed: remembers that, as cheaply as the sink can, so that the next plan need not look
    /// again. Doing nothing is correct.
    async fn skip(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Position>;

    /// Compares the target with the model's table.
    async fn check(&self, publication: &Publication, model: std::sync::Arc<Table>) -> Result<CheckedTable>;

    /// Ends sessions. Called once, whatever happened before.
    async fn close(&self) {}
}
