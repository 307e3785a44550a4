//! Snowflake, through `snowflake-api` and one middleware below it. SNOWFLAKE.md is the ground that this module stands on.
//!
//! | file | what it does |
//! | --- | --- |
//! | `protocol.rs` | one cycle = one transaction for all targets of a database; begins again after a lost answer |
//! | `heads.rs`, `target.rs` | where a target stands, and whether it is still as we left it |
//! | `sql.rs`, `ddl.rs`, `load.rs`, `names.rs`, `types.rs` | statements as pure functions |
//! | `parts.rs`, `upload.rs` | rows as Parquet parts in the stage |
//! | `client.rs`, `shim.rs`, `answer.rs`, `auth.rs` | the session; nothing of the crate leaves these four |
//! | `ops.rs` | rows that tell people about publications |
//! | `check.rs` | target against model |
//! | `probe.rs` | whether the account lets us in |

mod answer;
mod auth;
mod check;
mod client;
#[cfg(test)]
mod client_tests;
mod ddl;
mod error;
mod heads;
mod load;
mod names;
mod ops;
mod parts;
mod probe;
mod protocol;
mod shim;
mod sql;
#[cfg(test)]
mod sql_tests;
mod statement;
mod target;
mod types;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
pub use error::SnowflakeError;
use tidemill_lake::{Lake, Table};
use tidemill_project::config::SnowflakeSettings;

use self::client::{Client, Purpose};
use self::names::Names;
use self::protocol::Cycle;
use crate::diff::{ChangeCounts, ChangeSet};
use crate::note;
use crate::sink::{Applied, ApplyContext, Position, Sink};
use crate::{CheckedTable, Publication, Result, Silent};

/// A Snowflake account as a sink. Sessions live as long as one apply.
#[derive(Clone, Debug)]
pub struct SnowflakeSink {
    settings: SnowflakeSettings,
    lake: Lake,
}

impl SnowflakeSink {
    /// Publishes with `settings`; `lake` keeps the advisory notes. Nothing is sent yet.
    #[must_use]
    pub fn new(settings: SnowflakeSettings, lake: Lake) -> Self {
        Self { settings, lake }
    }

    /// Names the account in notes, so that two targets of one project do not read each other's.
    fn place(&self) -> String {
        format!("snowflake/{}", self.settings.account.to_uppercase())
    }

    async fn note(&self, changes: &[ChangeSet], applied: &[Applied], run_id: &str) {
        let pairs = changes.iter().zip(applied);
        let entries: Vec<_> = pairs
            .map(|(changes, applied)| note::Entry { publication: changes.publication(), from: changes.from(), applied })
            .collect();
        note::write(&self.lake, &self.place(), run_id, &entries).await;
    }
}

#[async_trait]
impl Sink for SnowflakeSink {
    fn name(&self) -> &'static str {
        "snowflake"
    }

    /// A transaction spans the tables of one database.
    fn group_of(&self, publication: &Publication) -> String {
        publication.table().database.to_uppercase()
    }

    async fn position(&self, publication: &Publication) -> Result<Option<Position>> {
        note::read(&self.lake, &self.place(), publication).await
    }

    async fn refresh_position(&self, publication: &Publication) -> Result<Option<Position>> {
        let names = Names::new(publication.table());
        let purpose = Purpose { database: &names.database, run_id: "position" };
        let mut client = Client::new(&self.settings, purpose, self.lake.clock().clone(), &Silent)?;
        let heads = heads::read_heads(&mut client, &[&names]).await;
        client.close().await;
        match heads {
            Ok(heads) => Ok(heads.first().and_then(heads::Head::position)),
            Err(fault) if fault.is_missing_object() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The warehouse compares by itself.
    async fn rows(&self, _publication: &Publication, _position: Option<&Position>) -> Result<Option<Table>> {
        Ok(None)
    }

    async fn apply(&self, changes: &[ChangeSet], context: ApplyContext<'_>) -> Result<Vec<Applied>> {
        // Advisory: a quarantine that cannot be read does not keep rows from being published.
        let quarantine = ops::quarantine(&self.lake).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the quarantine could not be counted");
            None
        });
        let cycle = Cycle { settings: &self.settings, clock: self.lake.clock(), changes, context, quarantine };
        let applied = Box::pin(cycle.run()).await?;
        self.note(changes, &applied, context.run_id).await;
        Ok(applied)
    }

    /// Only the note moves: no statement is worth sending for rows that did not change.
    async fn skip(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Position> {
        let next = changes.next_position();
        let position = Position { seq: changes.base().map_or(0, |base| base.seq), ..next };
        let applied = Applied { position: position.clone(), counts: ChangeCounts::default() };
        self.note(std::slice::from_ref(changes), &[applied], context.run_id).await;
        Ok(position)
    }

    async fn check(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        self.compare(publication, model).await
    }
}
