//! Kafka topics: rows and the ledger record in one transaction, so that `read_committed` readers see each message once.
//!
//! Each topic has a ledger topic beside it (`<topic>.ledger`, one partition, compacted). A transaction writes the messages and
//! one ledger record, whose key is the project's name: model's version, W, number of the publication, version of the table of
//! sent rows. The transactional id is the topic's own, so that Kafka itself keeps publishers of one topic apart:
//! whoever calls `init_transactions` ends what was left open and fences whoever came before.
//!
//! | step | a crash, or a lost answer, behind it |
//! | --- | --- |
//! | `init_transactions` | nothing; the producer before us can commit no more |
//! | the ledger is read: it stands where the change was computed from, else plan again | nothing |
//! | `begin`, messages, table of sent rows, ledger record | an open transaction: aborted by the next `init_transactions`, or by the broker when its time is up |
//! | `commit` | unknown: a new producer takes over, after which the old transaction is decided, and the ledger tells |
//! | the lake's note | nothing: the ledger is asked |
//!
//! | file | what it does |
//! | --- | --- |
//! | `session.rs` | the transactional producer |
//! | `ledger.rs` | the record, and how it is found |
//! | `topics.rs` | topics that are not there yet |
//! | `check.rs` | topic against sent rows |

mod check;
mod error;
mod ledger;
mod session;
mod topics;

use std::sync::Arc;

use async_trait::async_trait;
pub use error::KafkaFault;
use tidemill_lake::{Lake, Table};
use tidemill_project::config::{KafkaSettings, SinkSettings};
use tidemill_project::crash;
use uuid::Uuid;

use self::ledger::LedgerRecord;
use self::session::Session;
use crate::diff::{ChangeCounts, ChangeSet};
use crate::edits::Edits;
use crate::messages::{Delivery, Encoder, SentRows};
use crate::note;
use crate::request::Target;
use crate::sink::{Applied, ApplyContext, Position, Sink};
use crate::{CheckedTable, Error, Publication, Result};

/// A Kafka cluster as a sink.
#[derive(Clone, Debug)]
pub struct KafkaSink {
    cluster: KafkaSettings,
    sinks: SinkSettings,
    project: String,
    lake: Lake,
    sent: SentRows,
}

impl KafkaSink {
    /// Publishes into `cluster` in the name of `project`. Nothing is sent yet.
    #[must_use]
    pub fn new(cluster: KafkaSettings, sinks: SinkSettings, project: impl Into<String>, lake: Lake) -> Self {
        let sent = SentRows::new(lake.clone(), "kafka");
        Self { cluster, sinks, project: project.into(), lake, sent }
    }

    /// Names the cluster in notes. A cluster under another name asks its ledgers once.
    fn place(&self) -> String {
        let servers = self.cluster.property("bootstrap.servers").unwrap_or_default();
        format!("kafka/{:016x}", xxhash_rust::xxh3::xxh3_64(servers.as_bytes()))
    }

    async fn apply_one(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Applied> {
        let publication = changes.publication();
        let encoder = Arc::new(Encoder::new(publication, changes.shape())?);
        let mut session = Session::open(self, publication, changes.num_changes()).await?;
        step("publish.kafka.after_init", context);
        let head = session.head().await?;
        if let Some(head) = head.as_ref().filter(|head| head.is(changes)) {
            return Ok(Applied { position: head.position(), counts: changes.counts() });
        }
        if !ledger::stands_at_base(head.as_ref(), changes) {
            let (expected, found) = (changes.base().map(|base| base.version), head.map(|head| head.version));
            return Err(Error::moved(&publication.target, expected, found));
        }
        session.begin().await?;
        step("publish.kafka.after_begin", context);
        match self.send(&mut session, encoder, changes, head.as_ref(), context).await {
            Ok(record) => self.conclude(session, changes, record, context).await,
            Err(error) => {
                session.abort().await;
                Err(error)
            }
        }
    }

    /// Messages, sent rows and the ledger record, all inside the open transaction.
    async fn send(
        &self,
        session: &mut Session,
        encoder: Arc<Encoder>,
        changes: &ChangeSet,
        head: Option<&LedgerRecord>,
        context: ApplyContext<'_>,
    ) -> Result<LedgerRecord> {
        let publication = changes.publication();
        let (mut table, live) = self.sent.open(changes, context).await?;
        let (edits, num_messages) = {
            let mut edits = Edits::new(&table, changes)?;
            let mut delivery =
                Delivery { publication, encoder, edits: &mut edits, transport: session, num_messages: 0 };
            changes.visit(&mut delivery).await?;
            let num_messages = delivery.num_messages;
            edits.flush().await?;
            ((edits.lost, edits.added), num_messages)
        };
        step("publish.kafka.after_rows", context);
        let written = self.sent.commit(&mut table, live, changes, edits, context).await?;
        step("publish.kafka.after_sent_rows", context);
        let record =
            LedgerRecord::new(changes, head, written, num_messages, context.run_id, self.lake.clock().now_us());
        session.write_ledger(&record).await?;
        step("publish.kafka.after_ledger", context);
        Ok(record)
    }

    /// Commits. When the answer is lost a new producer takes over: then the transaction is decided, and the ledger tells how.
    async fn conclude(
        &self,
        session: Session,
        changes: &ChangeSet,
        record: LedgerRecord,
        context: ApplyContext<'_>,
    ) -> Result<Applied> {
        let applied = Applied { position: record.position(), counts: changes.counts() };
        let lost = match session.commit().await {
            Ok(()) => {
                step("publish.kafka.after_commit", context);
                return Ok(applied);
            }
            Err(error) => error,
        };
        if !lost.is_outcome_unknown() {
            return Err(lost);
        }
        tracing::warn!(target = %changes.publication().target, error = %lost, "asking the ledger whether a transaction was committed");
        let again = Session::open(self, changes.publication(), 0).await;
        let head = match again {
            Ok(again) => again.head().await,
            Err(error) => Err(error),
        };
        match head {
            Ok(head) if head.as_ref().is_some_and(|head| head.commit_id == record.commit_id) => Ok(applied),
            Ok(head) => {
                let (expected, found) = (changes.base().map(|base| base.version), head.map(|head| head.version));
                Err(Error::moved(&changes.publication().target, expected, found))
            }
            Err(error) => {
                tracing::warn!(%error, "the ledger cannot be asked either");
                Err(lost)
            }
        }
    }

    fn final_name(publication: &Publication) -> String {
        match &publication.target {
            Target::Topic { topic } => topic.clone(),
            other => other.to_string(),
        }
    }
}

fn step(name: &'static str, context: ApplyContext<'_>) {
    crash_at(name);
    context.observer.step(name);
}

/// Each point is written out, so that the kill tests find it in the source.
fn crash_at(name: &'static str) {
    match name {
        "publish.kafka.after_init" => crash::point("publish.kafka.after_init"),
        "publish.kafka.after_begin" => crash::point("publish.kafka.after_begin"),
        "publish.kafka.after_rows" => crash::point("publish.kafka.after_rows"),
        "publish.kafka.after_sent_rows" => crash::point("publish.kafka.after_sent_rows"),
        "publish.kafka.after_ledger" => crash::point("publish.kafka.after_ledger"),
        "publish.kafka.after_commit" => crash::point("publish.kafka.after_commit"),
        _ => {}
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn name(&self) -> &'static str {
        "kafka"
    }

    /// A transaction per topic: a topic that is large, or whose broker is slow, holds up no other.
    fn group_of(&self, publication: &Publication) -> String {
        publication.target.to_string()
    }

    async fn position(&self, publication: &Publication) -> Result<Option<Position>> {
        note::read(&self.lake, &self.place(), publication).await
    }

    async fn refresh_position(&self, publication: &Publication) -> Result<Option<Position>> {
        let session = Session::open(self, publication, 0).await?;
        Ok(session.head().await?.map(|head| head.position()))
    }

    async fn rows(&self, publication: &Publication, position: Option<&Position>) -> Result<Option<Table>> {
        self.sent.at(publication, position).await
    }

    async fn apply(&self, changes: &[ChangeSet], context: ApplyContext<'_>) -> Result<Vec<Applied>> {
        let mut applied = Vec::with_capacity(changes.len());
        for changes in changes {
            let one = Box::pin(self.apply_one(changes, context)).await?;
            let entry = note::Entry { publication: changes.publication(), from: changes.from(), applied: &one };
            note::write(&self.lake, &self.place(), context.run_id, &[entry]).await;
            applied.push(one);
        }
        Ok(applied)
    }

    /// Only the note moves: readers have nothing new to hear.
    async fn skip(&self, changes: &ChangeSet, context: ApplyContext<'_>) -> Result<Position> {
        let position = skipped(changes);
        let applied = Applied { position: position.clone(), counts: ChangeCounts::default() };
        let entry = note::Entry { publication: changes.publication(), from: changes.from(), applied: &applied };
        note::write(&self.lake, &self.place(), context.run_id, &[entry]).await;
        Ok(position)
    }

    async fn check(&self, publication: &Publication, model: Arc<Table>) -> Result<CheckedTable> {
        self.compare(publication, model).await
    }
}

/// The position after a version that changed nothing for readers: the publication keeps its number.
pub(crate) fn skipped(changes: &ChangeSet) -> Position {
    let next = changes.next_position();
    let base = changes.base();
    Position { seq: base.map_or(0, |base| base.seq), sent_version: base.and_then(|base| base.sent_version), ..next }
}

/// Names an attempt in a sink's record.
pub(crate) type CommitId = Uuid;
