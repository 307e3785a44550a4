//! The transactional producer of one topic, and the reader of its ledger.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tidemill_project::clock::Clock;
use tidemill_project::kafka::client_config;

use super::check::ToTheEnd;
use super::ledger::LedgerRecord;
use super::{KafkaFault, KafkaSink, topics};
use crate::messages::{Message, Transport};
use crate::{Error, Publication, Result};

/// A request to the coordinator or to a leader.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a commit is asked for again before its outcome is called unknown.
const COMMIT_PATIENCE: Duration = Duration::from_mins(2);
/// A transaction's time on the broker: at least this, more for many messages (5,000 a second is slow), at most what brokers
/// allow unless told otherwise.
const LEAST_TRANSACTION: Duration = Duration::from_mins(1);
const LONGEST_TRANSACTION: Duration = Duration::from_mins(15);
/// Messages that wait in the client: bounds its memory.
const QUEUE_KBYTES: &str = "65536";
/// Ledger records that are looked through first; the newest one of a project is mostly the last of all.
const LEDGER_TAIL: i64 = 64;

type TransactionalProducer = ThreadedProducer<DefaultProducerContext>;

/// Owner of one topic until somebody else takes it over.
pub(super) struct Session {
    producer: Arc<TransactionalProducer>,
    reader: ClientConfig,
    clock: Clock,
    topic: String,
    ledger: String,
    project: String,
}

impl Session {
    /// Takes the topic over: transactions of earlier owners are decided when this returns, and they can commit no more.
    pub(super) async fn open(sink: &KafkaSink, publication: &Publication, num_changes: u64) -> Result<Self> {
        let topic = super::KafkaSink::final_name(publication);
        let ledger = format!("{topic}{}", sink.sinks.ledger_suffix);
        let base = client_config(&sink.cluster);
        topics::ensure(&base, &[(&topic, false), (&ledger, true)], sink.sinks.create_topics, sink.lake.clock()).await?;
        let timeout = Duration::from_secs(num_changes / 5_000).clamp(LEAST_TRANSACTION, LONGEST_TRANSACTION);
        let mut config = base.clone();
        config
            .set("transactional.id", format!("tidemill/{}/{topic}", sink.project))
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES);
        let mut reader = base;
        reader
            .set("group.id", format!("tidemill-{}-ledger", sink.project))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        let fault = client_fault("take over the topic", &topic);
        let producer = blocking(move || {
            let producer: TransactionalProducer = config.create()?;
            producer.init_transactions(REQUEST)?;
            Ok(Arc::new(producer))
        })
        .await
        .map_err(fault)?;
        Ok(Self { producer, reader, clock: sink.lake.clock().clone(), topic, ledger, project: sink.project.clone() })
    }

    /// The newest ledger record of the project.
    pub(super) async fn head(&self) -> Result<Option<LedgerRecord>> {
        let (reader, ledger, project, clock) =
            (self.reader.clone(), self.ledger.clone(), self.project.clone(), self.clock.clone());
        let work = tokio::task::spawn_blocking(move || read_head(&reader, &ledger, &project, &clock));
        Ok(work.await.map_err(Error::join("read the ledger"))??)
    }

    pub(super) async fn begin(&self) -> Result<()> {
        let producer = Arc::clone(&self.producer);
        let fault = client_fault("begin a transaction", &self.topic);
        Ok(blocking(move || producer.begin_transaction()).await.map_err(fault)?)
    }

    pub(super) async fn write_ledger(&self, record: &LedgerRecord) -> Result<()> {
        let value = serde_json::to_vec(record).expect("a record of texts and numbers is JSON");
        let message = Message { key: self.project.clone(), value: Some(value) };
        self.put(self.ledger.clone(), vec![message]).await
    }

    /// Commits, asking again while the answer is "not yet".
    ///
    /// # Errors
    /// Kind `OutcomeUnknown` when no answer came; then only a new session knows.
    pub(super) async fn commit(self) -> Result<()> {
        let (producer, clock) = (Arc::clone(&self.producer), self.clock.clone());
        let result = blocking(move || {
            let stopwatch = clock.stopwatch();
            loop {
                match producer.commit_transaction(REQUEST) {
                    Err(KafkaError::Transaction(error))
                        if error.is_retriable() && stopwatch.elapsed() < COMMIT_PATIENCE => {}
                    result => return result,
                }
            }
        })
        .await;
        let Err(source) = result else { return Ok(()) };
        let must_abort = matches!(&source, KafkaError::Transaction(error) if error.txn_requires_abort());
        let fault =
            KafkaFault::Client { act: "commit a transaction", topic: self.topic.clone(), source: source.clone() };
        if must_abort {
            self.abort().await;
            return Err(fault.into());
        }
        if fault.is_fenced() {
            return Err(fault.into());
        }
        Err(KafkaFault::CommitUnknown { topic: self.topic.clone(), source }.into())
    }

    /// Ends the transaction without a trace. Faults are only logged: the next owner, or the broker, ends it too.
    pub(super) async fn abort(self) {
        let producer = Arc::clone(&self.producer);
        if let Err(error) = blocking(move || producer.abort_transaction(REQUEST)).await {
            tracing::warn!(topic = %self.topic, %error, "a transaction could not be aborted, the next publisher does it");
        }
    }

    async fn put(&self, topic: String, messages: Vec<Message>) -> Result<()> {
        let (producer, fault) = (Arc::clone(&self.producer), client_fault("send", &topic));
        Ok(blocking(move || messages.iter().try_for_each(|message| put_one(&producer, &topic, message)))
            .await
            .map_err(fault)?)
    }
}

#[async_trait]
impl Transport for Session {
    async fn send(&mut self, messages: Vec<Message>) -> Result<()> {
        self.put(self.topic.clone(), messages).await
    }
}

fn put_one(producer: &TransactionalProducer, topic: &str, message: &Message) -> Result<(), KafkaError> {
    let mut record = BaseRecord::<str, [u8]>::to(topic).key(message.key.as_str());
    if let Some(value) = &message.value {
        record = record.payload(value.as_slice());
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                // Waits for room; that not everything is out yet is no fault.
                let _ = producer.flush(Duration::from_millis(100));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Runs one of librdkafka's calls that wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The pool is going away with the process.
        Err(_) => Err(KafkaError::Canceled),
    }
}

fn client_fault(act: &'static str, topic: &str) -> impl FnOnce(KafkaError) -> KafkaFault + use<> {
    let topic = topic.to_owned();
    move |source| KafkaFault::Client { act, topic, source }
}

fn read_head(
    config: &ClientConfig,
    ledger: &str,
    project: &str,
    clock: &Clock,
) -> Result<Option<LedgerRecord>, KafkaFault> {
    let fault = || client_fault("read the ledger", ledger);
    let mut all = config.clone();
    all.set("isolation.level", "read_uncommitted");
    let all: BaseConsumer = all.create().map_err(fault())?;
    let (low, end) = all.fetch_watermarks(ledger, 0, REQUEST).map_err(fault())?;
    let consumer: BaseConsumer<ToTheEnd> = config.create_with_context(ToTheEnd).map_err(fault())?;
    // Nobody else writes transactions into this partition, and ours are decided: the two ends meet at once, or as soon as the
    // markers are on all replicas. Reading less would take an older record for the newest.
    let stopwatch = clock.stopwatch();
    while consumer.fetch_watermarks(ledger, 0, REQUEST).map_err(fault())?.1 < end {
        if stopwatch.elapsed() > REQUEST {
            return Err(KafkaFault::Undecided { topic: ledger.to_owned() });
        }
    }
    for start in [(end - LEDGER_TAIL).max(low), low] {
        if let Some(found) = last_of(&consumer, ledger, project, start, end)? {
            return Ok(Some(found));
        }
        if start == low {
            break;
        }
    }
    Ok(None)
}

fn last_of(
    consumer: &BaseConsumer<ToTheEnd>,
    ledger: &str,
    project: &str,
    start: i64,
    end: i64,
) -> Result<Option<LedgerRecord>, KafkaFault> {
    if start >= end {
        return Ok(None);
    }
    let fault = || client_fault("read the ledger", ledger);
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(ledger, 0, Offset::Offset(start)).map_err(fault())?;
    consumer.assign(&place).map_err(fault())?;
    let mut newest = None;
    loop {
        match consumer.poll(REQUEST) {
            Some(Ok(record)) => {
                if record.key() == Some(project.as_bytes()) {
                    let value = record.payload().unwrap_or_default();
                    let parsed = serde_json::from_slice(value).map_err(|source| KafkaFault::Ledger {
                        topic: ledger.to_owned(),
                        offset: record.offset(),
                        source,
                    })?;
                    newest = Some(parsed);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(newest),
            Some(Err(error)) => return Err(fault()(error)),
            None => return Err(fault()(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))),
        }
    }
}
