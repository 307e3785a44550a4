//! The record that says where a topic stands, written in the same transaction as the messages it speaks of.

use serde::{Deserialize, Serialize};
use tidemill_project::TableVersion;

use super::CommitId;
use crate::diff::{ChangeCounts, ChangeSet};
use crate::messages::Written;
use crate::sink::Position;

/// One publication into a topic. The newest one of a project is the truth about what the topic's readers have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LedgerRecord {
    /// Version of this form.
    pub(super) format: u32,
    /// The model.
    pub(super) model: String,
    /// Counts up by one with every publication and never restarts.
    pub(super) seq: u64,
    /// Delta id of the model's table.
    pub(super) table_id: String,
    /// Versions `(from, version]` were sent; without it everything was compared.
    pub(super) from: Option<u64>,
    pub(super) version: TableVersion,
    /// W that rows were held back by, microseconds since the epoch.
    pub(super) watermark_us: Option<i64>,
    /// Version of the table of sent rows that shows what readers have.
    pub(super) sent_version: TableVersion,
    /// Names the attempt that this transaction was.
    pub(super) commit_id: CommitId,
    pub(super) content_hash: String,
    pub(super) run_id: String,
    /// Messages in this transaction, tombstones among them, this record not.
    pub(super) messages: u64,
    /// Messages of all transactions up to this one.
    pub(super) messages_total: u64,
    pub(super) rows: ChangeCounts,
    /// Microseconds since the epoch, UTC, by the publisher's clock.
    pub(super) written_at_us: i64,
}

impl LedgerRecord {
    pub(super) fn new(
        changes: &ChangeSet,
        head: Option<&Self>,
        written: Written,
        messages: u64,
        run_id: &str,
        now_us: i64,
    ) -> Self {
        let next = changes.next_position();
        Self {
            format: 1,
            model: changes.publication().model_name.clone(),
            seq: next.seq,
            table_id: next.table_id,
            from: changes.from().map(|version| version.0),
            version: next.version,
            watermark_us: next.watermark_us,
            sent_version: written.version,
            commit_id: written.commit_id,
            content_hash: changes.content_hash().to_owned(),
            run_id: run_id.to_owned(),
            messages,
            messages_total: head.map_or(0, |head| head.messages_total) + messages,
            rows: changes.counts(),
            written_at_us: now_us,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            table_id: self.table_id.clone(),
            version: self.version,
            seq: self.seq,
            watermark_us: self.watermark_us,
            sent_version: Some(self.sent_version),
        }
    }

    /// Whether this is what `changes` lead to: somebody, perhaps we, brought them already.
    pub(super) fn is(&self, changes: &ChangeSet) -> bool {
        let next = changes.next_position();
        self.seq == next.seq
            && self.table_id == next.table_id
            && self.version == next.version
            && self.content_hash == changes.content_hash()
    }
}

/// Whether the topic stands where `changes` were computed from. The lake's note may have moved over versions that sent nothing;
/// the number says that they are the same place.
pub(super) fn stands_at_base(head: Option<&LedgerRecord>, changes: &ChangeSet) -> bool {
    match (head, changes.base()) {
        (None, None) => true,
        (Some(head), Some(base)) => {
            head.seq == base.seq
                && base.sent_version == Some(head.sent_version)
                && (head.table_id != base.table_id || head.version <= base.version)
        }
        _ => false,
    }
}
