//! Redis: one string key per row, written by scripts that check who owns the keys.
//!
//! Beside the values stands a head, the hash `tidemill:published:<key pattern>`: `owner` is the publisher that came last, `record` is
//! the published position as JSON. Every script that writes values looks at `owner` first, so a publisher that was overtaken
//! writes nothing more: an older version never overwrites a newer one. The last script of a publication writes its values and
//! the record at once; a publication of up to 1,000 rows is one script, hence one atomic step for readers.
//!
//! | step | a crash, or a lost answer, behind it |
//! | --- | --- |
//! | take: the owner is set, the record read; it must be where the change was computed from, else plan again | nothing |
//! | full scripts of 1,000 values | some values are new, the record is old: the next publication writes the same values again |
//! | the table of sent rows | as above |
//! | the last script | done; a lost answer is found out by taking again and reading the record |
//!
//! A head that is gone (the server was flushed, or came back without its data) means that everything is written again.

mod check;
mod error;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
pub use error::RedisFault;
use serde::{Deserialize, Serialize};
use tidemill_lake::{Lake, Table};
use tidemill_project::config::RedisSettings;
use tidemill_project::crash;
use uuid::Uuid;

use self::store::Store;
use crate::diff::{ChangeCounts, ChangeSet};
use crate::edits::Edits;
use crate::kafka::skipped;
use crate::messages::{Delivery, Encoder, SentRows};
use crate::sink::{Applied, ApplyContext, Position, Sink};
use crate::{CheckedTable, Error, Publication, Result};

/// A Redis server as a sink.
#[derive(Clone, Debug)]
pub struct RedisSink {
    settings: RedisSettings,
    lake: Lake,
    sent: SentRows,
}

/// What the head says of the newest publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadRecord {
    /// Version of this form.
    format: u32,
    model: String,
    #[serde(flatten)]
    position: Position,
    /// Names the attempt.
    commit_id: Uuid,
    content_hash: String,
    run_id: String,
    rows: ChangeCounts,
    /// Microseconds since the epoch, UTC, by the publisher's clock.
    written_at_us: i64,
}

impl RedisSink {
    /// Publishes into the server of `settings`. Nothing is sent yet.
    #[must_use]
    pub fn new(settings: RedisSettings, lake: Lake) -> Self {
        let sent = SentRows::new(lake.clone(), "redis");
        Self { settings, lake, sent }
    }

    async fn connect(&self, publication: &Publication) -> Result<Store> {
        Ok(Store::connect(&self.settings, publication).await?)
    }

    async fn apply_one(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Applied> {
        let publication = changes.publication();
        let encoder = Arc::new(Encoder::new(publication, changes.shape())?);
        let mut store = self.connect(publication).await?;
        let head = store.take(&self.lake.clock().new_id().to_string()).await?;
        crash::point("publish.redis.after_take");
        context.observer.step("publish.redis.after_take");
        if head.as_ref().map(|head| &head.position) != changes.base() {
            let (expected, found) = (changes.base().map(|base| base.version), head.map(|head| head.position.version));
            return Err(Error::moved(&publication.target, expected, found));
        }
        let (mut table, live) = self.sent.open(changes, context).await?;
        let edits = {
            let mut edits = Edits::new(&table, changes)?;
            let mut delivery =
                Delivery { publication, encoder, edits: &mut edits, transport: &mut store, num_messages: 0 };
            changes.visit(&mut delivery).await?;
            edits.flush().await?;
            (edits.lost, edits.added)
        };
        crash::point("publish.redis.after_rows");
        context.observer.step("publish.redis.after_rows");
        let written = self.sent.commit(&mut table, live, changes, edits, context).await?;
        crash::point("publish.redis.after_sent_rows");
        context.observer.step("publish.redis.after_sent_rows");
        let position = Position { sent_version: Some(written.version), ..changes.next_position() };
        let record = self.record(changes, position.clone(), written.commit_id, changes.counts(), context);
        if let Err(lost) = store.finish(&record).await {
            if lost.is_fenced() {
                return Err(lost.into());
            }
            // The script may have run. Taking again keeps it from running later.
            let owner = self.lake.clock().new_id().to_string();
            let again = async { Ok::<_, Error>(self.connect(publication).await?.take(&owner).await?) };
            match again.await {
                Ok(head) if head.as_ref().is_some_and(|head| head.commit_id == record.commit_id) => {}
                _ => return Err(lost.into()),
            }
        }
        crash::point("publish.redis.after_commit");
        context.observer.step("publish.redis.after_commit");
        Ok(Applied { position, counts: changes.counts() })
    }

    fn record(
        &self,
        changes: &ChangeSet,
        position: Position,
        commit_id: Uuid,
        rows: ChangeCounts,
        context: ApplyContext<'_>,
    ) -> HeadRecord {
        HeadRecord {
            format: 1,
            model: changes.publication().model_name.clone(),
            position,
            commit_id,
            content_hash: changes.content_hash().to_owned(),
            run_id: context.run_id.to_owned(),
            rows,
            written_at_us: self.lake.clock().now_us(),
        }
    }
}

#[async_trait]
impl Sink for RedisSink {
    fn name(&self) -> &'static str {
        "redis"
    }

    /// Values of one pattern are one head's.
    fn group_of(&self, publication: &Publication) -> String {
        publication.target.to_string()
    }

    /// Asked of the server itself: that is one short request, and a server that lost its data is noticed at once.
    async fn position(&self, publication: &Publication) -> Result<Option<Position>> {
        let mut store = self.connect(publication).await?;
        Ok(store.head().await?.map(|head| head.position))
    }

    async fn refresh_position(&self, publication: &Publication) -> Result<Option<Position>> {
        self.position(publication).await
    }

    async fn rows(&self, publication: &Publication, position: Option<&Position>) -> Result<Option<Table>> {
        self.sent.at(publication, position).await
    }

    /// Keys expire, are evicted, and anybody may delete them.
    fn resends_in_full(&self) -> bool {
        true
    }

    async fn apply(&self, changes: &[ChangeSet], context: ApplyContext<'_>) -> Result<Vec<Applied>> {
        let mut applied = Vec::with_capacity(changes.len());
        for changes in changes {
            applied.push(Box::pin(self.apply_one(changes, context)).await?);
        }
        Ok(applied)
    }

    /// The record moves, values stay.
    async fn skip(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Position> {
        let publication = changes.publication();
        let mut store = self.connect(publication).await?;
        let head = store.take(&self.lake.clock().new_id().to_string()).await?;
        let Some(head) = head.filter(|head| Some(&head.position) == changes.base()) else {
            return Err(Error::moved(&publication.target, changes.base().map(|base| base.version), None));
        };
        let position = skipped(changes);
        let record = HeadRecord { content_hash: head.content_hash.clone(), ..self.record(changes, position.clone(), head.commit_id, head.rows, context) };
        store.finish(&record).await?;
        Ok(position)
    }

    async fn check(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        self.compare(publication, model).await
    }
}
