//! The one-row tables that say where targets stand.

use serde::Deserialize;
use tidemill_project::TableVersion;

use super::SnowflakeError;
use super::client::Client;
use super::names::Names;
use super::sql;
use crate::diff::ChangeSet;
use crate::sink::Position;

/// A head as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) label: String,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    /// Delta table and version that the target shows; `None` before the first publication.
    pub(super) shown: Option<Shown>,
    pub(super) content_hash: Option<String>,
}

/// The head's `POSITION`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Shown {
    pub(super) table_id: String,
    pub(super) version: TableVersion,
}

/// Where a head stands as a change set sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Where the change set was computed from.
    AtBase,
    /// Where the change set leads: it was committed already.
    Done,
    /// Somebody else published.
    Elsewhere,
}

impl Head {
    pub(super) fn version(&self) -> Option<TableVersion> {
        self.shown.as_ref().map(|shown| shown.version)
    }

    /// What the next plan starts from. A head that was made again after rows had been published keeps counting where they left
    /// off, and shows nothing that could be trusted.
    pub(super) fn position(&self) -> Option<Position> {
        let (table_id, version) = match &self.shown {
            Some(shown) => (shown.table_id.clone(), shown.version),
            None if self.seq == 0 => return None,
            None => (String::new(), TableVersion(0)),
        };
        Some(Position { table_id, version, seq: self.seq, watermark_us: None, sent_version: None })
    }

    pub(super) fn standing(&self, changes: &ChangeSet) -> Standing {
        let next = changes.next_position();
        let shows = |table_id: &str| self.shown.as_ref().is_some_and(|shown| shown.table_id == table_id);
        if self.seq == next.seq
            && self.content_hash.as_deref() == Some(changes.content_hash())
            && shows(&next.table_id)
            && self.version() == Some(next.version)
        {
            return Standing::Done;
        }
        let at_base = match (changes.base(), self.position()) {
            (None, None) => true,
            // The lake's note may have moved over versions that changed no row; SEQ says that they are the same place.
            (Some(base), Some(found)) => {
                base.seq == found.seq && base.table_id == found.table_id && found.version <= base.version
            }
            _ => false,
        };
        if at_base { Standing::AtBase } else { Standing::Elsewhere }
    }
}

/// Reads several heads with one statement.
pub(super) async fn read_heads(client: &mut Client<'_>, names: &[&Names]) -> Result<Vec<Head>, SnowflakeError> {
    let answer = client.run(&sql::heads(names)).await?;
    answer.rows.iter().map(|row| parse(row)).collect()
}

fn parse(row: &[Option<String>]) -> Result<Head, SnowflakeError> {
    let cell = |index: usize| row.get(index).and_then(Option::as_deref);
    let odd = |what: &str| SnowflakeError::Answer { step: "heads", detail: format!("a head has no readable {what}") };
    let number = |index: usize, what: &str| cell(index).and_then(|text| text.parse().ok()).ok_or_else(|| odd(what));
    Ok(Head {
        label: cell(0).ok_or_else(|| odd("TARGET_TABLE"))?.to_owned(),
        epoch: number(1, "EPOCH")?,
        seq: number(3, "SEQ")?,
        shown: cell(4).map(serde_json::from_str).transpose().map_err(|_| odd("POSITION"))?,
        content_hash: cell(5).map(str::to_owned),
    })
}
