//! The whole road from librdkafka's in-process broker: real client code, real groups, real rebalances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use tidemill_lake::{Lake, TableId};
use tidemill_project::config::{OnGap, Settings, StartOffsets};
use tidemill_project::{Diagnostic, ErrorKind, SourceName, TableVersion, TopicPartition};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::support::{Process, assert_closed, contract, event, keys, memory_lake, settings};
use crate::{BatchSummary, IngestObserver, IngestReport, IngestRequest, Mode, NoObserver};

struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Broker {
    /// A broker with `events` of `num_partitions` partitions; `more` does not exist.
    fn start(num_partitions: i32) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", num_partitions, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let producer = ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create().unwrap();
        Self { cluster, producer }
    }

    fn settings(&self, group: &str) -> Settings {
        settings(Some(&self.cluster.bootstrap_servers()), group)
    }

    fn send(&self, partition: i32, values: impl IntoIterator<Item = String>) {
        for value in values {
            let record: BaseRecord<'_, (), str> = BaseRecord::to("events").partition(partition).payload(&value);
            self.producer.send(record).unwrap();
        }
        self.producer.flush(Duration::from_secs(10)).unwrap();
    }
}

fn request(mode: Mode) -> IngestRequest {
    IngestRequest {
        contracts: vec![contract()],
        mode,
        max_records: None,
        max_duration: None,
        run_id: "test".to_owned(),
        as_of_us: None,
    }
}

async fn drain(settings: &Settings, lake: &Lake) -> IngestReport {
    let cancel = CancellationToken::new();
    crate::ingest(settings, lake, request(Mode::Drain), Arc::new(NoObserver), cancel).await.unwrap()
}

async fn version(lake: &Lake) -> TableVersion {
    lake.open(&TableId::Raw(SourceName::new("shop", "events"))).await.unwrap().unwrap().version()
}

fn named(prefix: &str, range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|number| event(&format!("{prefix}{number:04}"), number)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_reads_all_that_stood_at_start_and_a_second_one_finds_nothing() {
    let broker = Broker::start(3);
    for partition in 0..3 {
        broker.send(partition, named("k", i64::from(partition) * 500..i64::from(partition) * 500 + 600));
    }
    broker.send(0, ["bad".to_owned()]);
    let (lake, settings) = (memory_lake(), broker.settings("drain"));
    let mut report = drain(&settings, &lake).await;
    assert!(report.take_error().is_none());
    let source = &report.sources[0];
    assert_eq!((source.landed(), source.duplicates(), source.quarantined()), (1_600, 200, 1));
    assert_eq!(source.warnings, ["topic does not exist, topic=`more`"]);
    let before = source.watermark_us.expect("a drained source has a watermark");
    assert_eq!(keys(&lake).await.len(), 1_600);
    assert_closed(&lake).await;

    let status = crate::status::status(&settings, &lake, &contract()).await.unwrap();
    assert_eq!((status.lag, status.landed, status.partitions.len()), (Some(0), 1_600, 3));

    let version_before = version(&lake).await;
    let mut report = drain(&settings, &lake).await;
    assert!(report.take_error().is_none());
    assert_eq!(report.landed(), 0);
    // These events are days older than the clock: W needs no further commits, so nothing at all is written.
    assert_eq!(version(&lake).await, version_before);
    assert!(report.sources[0].watermark_us >= Some(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_one_group_share_the_work() {
    let broker = Broker::start(4);
    for partition in 0..4 {
        broker.send(partition, named("k", i64::from(partition) * 200..i64::from(partition) * 200 + 300));
    }
    let (lake, settings) = (memory_lake(), broker.settings("shared"));
    let (mut one, mut two) = tokio::join!(drain(&settings, &lake), drain(&settings, &lake));
    for report in [&mut one, &mut two] {
        assert!(report.take_error().is_none());
    }
    assert_eq!(one.landed() + two.landed(), 900);
    assert_eq!(keys(&lake).await.len(), 900);
    assert_closed(&lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_on_one_table_lose_and_double_nothing() {
    let broker = Broker::start(2);
    for partition in 0..2 {
        broker.send(partition, named("k", i64::from(partition) * 2_000..i64::from(partition) * 2_000 + 3_000));
        broker.send(partition, ["bad".to_owned()]);
    }
    let lake = memory_lake();
    let (mut one, mut two) = (broker.settings("one"), broker.settings("two"));
    for settings in [&mut one, &mut two] {
        settings.ingest.max_batch_rows = 300;
    }
    let (mut one, mut two) = tokio::join!(drain(&one, &lake), drain(&two, &lake));
    for report in [&mut one, &mut two] {
        assert!(report.take_error().is_none());
    }
    assert_eq!(one.landed() + two.landed(), 5_000);
    assert_eq!(keys(&lake).await.len(), 5_000);
    assert_eq!(assert_closed(&lake).await.quarantined(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_stops_its_partition_and_only_that() {
    let broker = Broker::start(2);
    broker.send(0, named("a", 0..10));
    broker.send(1, named("b", 0..10));
    let lake = memory_lake();
    let mut process = Process::start(&lake, &contract()).await;
    let ahead = TopicPartition::new("events", 0);
    process.take(&ahead).await;
    process.land(&[(&ahead, 999, None)]).await;

    let mut settings = broker.settings("gap");
    let mut report = drain(&settings, &lake).await;
    assert_eq!(report.landed(), 10, "the other partition goes on");
    let error = report.take_error().expect("the run ends with the gap");
    assert_eq!((error.kind(), error.is_gap()), (ErrorKind::Invalid, true));
    assert!(error.to_string().contains("next_offset=`1000`, log_end=`10`"), "{error}");
    assert!(error.hint().unwrap().contains("--on-gap skip"));

    settings.ingest.on_gap = OnGap::Skip;
    let mut report = drain(&settings, &lake).await;
    assert!(report.take_error().is_none());
    assert_eq!(keys(&lake).await.len(), 20);
    assert_closed(&lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_topic_at_all_is_an_error() {
    let broker = Broker::start(1);
    let mut elsewhere = contract();
    elsewhere.topics.iter_mut().for_each(|topic| topic.pattern = format!("^no-{}", topic.pattern));
    let request = IngestRequest { contracts: vec![elsewhere], ..request(Mode::Drain) };
    let (lake, settings) = (memory_lake(), broker.settings("none"));
    let observer = Arc::new(NoObserver);
    let mut report = crate::ingest(&settings, &lake, request, observer, CancellationToken::new()).await.unwrap();
    let error = report.take_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "none of the topics exists, source=`shop.events`, topics=`^no-events, ^no-more`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_at_the_end_is_pinned() {
    let broker = Broker::start(1);
    broker.send(0, named("before", 0..5));
    let (lake, mut settings) = (memory_lake(), broker.settings("latest"));
    settings.ingest.start = StartOffsets::Latest;
    assert_eq!(drain(&settings, &lake).await.landed(), 0);
    broker.send(0, named("after", 0..5));
    assert_eq!(drain(&settings, &lake).await.landed(), 5, "the first run's end is where the second one starts");
    assert_closed(&lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_offsets_and_a_limit_are_kept() {
    let broker = Broker::start(1);
    broker.send(0, named("k", 0..50));
    let (lake, mut settings) = (memory_lake(), broker.settings("limit"));
    settings.ingest.start = StartOffsets::Offsets(BTreeMap::from([("events/0".to_owned(), 10)]));
    let limited = IngestRequest { max_records: Some(15), ..request(Mode::Drain) };
    let observer = Arc::new(NoObserver);
    let report = crate::ingest(&settings, &lake, limited, observer, CancellationToken::new()).await.unwrap();
    let books = &report.sources[0].partitions[0];
    assert_eq!((books.from, books.to, books.landed), (10, 25, 15));
}

/// Counts what landed and wakes whoever waits for more.
#[derive(Default)]
struct Counter {
    landed: AtomicU64,
    changed: Notify,
}

impl IngestObserver for Counter {
    fn batch_committed(&self, summary: &BatchSummary) {
        let landed = summary.partitions.iter().map(|books| books.landed).sum();
        self.landed.fetch_add(landed, Ordering::SeqCst);
        self.changed.notify_one();
    }
}

impl Counter {
    async fn wait_for(&self, landed: u64) {
        while self.landed.load(Ordering::SeqCst) < landed {
            self.changed.notified().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_goes_through_rebalances_and_stops_in_order() {
    let broker = Broker::start(4);
    let (lake, settings) = (memory_lake(), broker.settings("follow"));
    let counter = Arc::new(Counter::default());
    let start = |cancel: &CancellationToken| {
        let (settings, lake, cancel) = (settings.clone(), lake.clone(), cancel.clone());
        let observer = Arc::<Counter>::clone(&counter);
        tokio::spawn(
            async move { crate::ingest(&settings, &lake, request(Mode::Follow), observer, cancel).await.unwrap() },
        )
    };
    let (cancel_one, cancel_two) = (CancellationToken::new(), CancellationToken::new());
    let one = start(&cancel_one);
    let send = |from: i64| {
        for partition in 0..4_i64 {
            let start = from + partition * 25;
            broker.send(i32::try_from(partition).unwrap(), named("k", start..start + 25));
        }
    };
    send(0);
    counter.wait_for(100).await;
    let two = start(&cancel_two);
    for round in 1..10 {
        send(round * 100);
    }
    counter.wait_for(1_000).await;
    cancel_one.cancel();
    let mut report = one.await.unwrap();
    assert!(report.take_error().is_none());
    for round in 10..20 {
        send(round * 100);
    }
    counter.wait_for(2_000).await;
    cancel_two.cancel();
    let mut report = two.await.unwrap();
    assert!(report.take_error().is_none());
    assert_eq!(keys(&lake).await.len(), 2_000);
    assert_closed(&lake).await;
}

/// The in-process broker keeps the last 5 MB of a partition, so what expires is real.
#[tokio::test(flavor = "multi_thread")]
async fn expired_offsets_stop_the_partition_or_are_recorded() {
    let broker = Broker::start(1);
    broker.send(0, named("a", 0..10));
    let (lake, mut settings) = (memory_lake(), broker.settings("expired"));
    assert_eq!(drain(&settings, &lake).await.landed(), 10);
    let padded = event("same", 1).replace('}', &format!(r#","pad":"{}"}}"#, "x".repeat(4_096)));
    for _ in 0..4 {
        broker.send(0, std::iter::repeat_n(padded.clone(), 500));
    }
    let mut report = drain(&settings, &lake).await;
    let error = report.take_error().expect("the run ends with the gap");
    assert!(error.to_string().starts_with("offsets were deleted before they were read"), "{error}");

    settings.ingest.on_gap = OnGap::Skip;
    let mut report = drain(&settings, &lake).await;
    assert!(report.take_error().is_none());
    let books = &report.sources[0].partitions[0];
    assert_eq!((books.from, books.to, books.landed), (10, 2_010, 1));
    assert!(books.gap > 0 && books.skipped == books.gap, "{books:?}");
    assert_closed(&lake).await;
}

/// Two clusters with a topic of the same name stand for a topic that was deleted, created again and filled beyond our offset.
/// Before, its first records were never read, without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_created_anew_and_has_grown_past_us_is_noticed() {
    let (old, new) = (Broker::start(2), Broker::start(2));
    for (broker, prefix) in [(&old, "old"), (&new, "new")] {
        broker.send(0, named(prefix, 0..10));
    }
    new.send(0, named("new", 10..30));
    for broker in [&old, &new] {
        broker.send(1, named("same", 100..110));
    }
    let lake = memory_lake();
    assert_eq!(drain(&old.settings("again"), &lake).await.landed(), 20);

    let mut settings = new.settings("again");
    let mut report = drain(&settings, &lake).await;
    assert_eq!(report.landed(), 0, "nothing of a log that nobody knows");
    let mut errors = Vec::new();
    while let Some(error) = report.take_error() {
        assert_eq!((error.kind(), error.is_gap()), (ErrorKind::Invalid, true));
        errors.push(error.to_string());
    }
    assert_eq!(
        errors,
        ["partition holds another log than the one that was read, was the topic re-created?, partition=`events/0`, \
          next_offset=`10`, log_start=`0`, log_end=`30`"]
    );

    settings.ingest.on_gap = OnGap::Skip;
    let mut report = drain(&settings, &lake).await;
    assert!(report.take_error().is_none());
    let books = &report.sources[0].partitions[0];
    assert_eq!((books.from, books.to, books.landed, books.restarted_from), (0, 30, 30, Some(10)));
    assert_eq!(keys(&lake).await.len(), 50);
    // From here on the new log is the one that is known.
    new.send(0, named("new", 30..35));
    assert_eq!(drain(&settings, &lake).await.landed(), 5);
    assert_closed(&lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_on_is_known_again() {
    let broker = Broker::start(1);
    let (lake, settings) = (memory_lake(), broker.settings("known"));
    for round in 0..3 {
        broker.send(0, named("k", round * 10..round * 10 + 10));
        let mut report = drain(&settings, &lake).await;
        assert!(report.take_error().is_none());
        assert_eq!(report.landed(), 10);
    }
    assert_closed(&lake).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_in_time_although_the_broker_is_down() {
    let lake = memory_lake();
    let settings = settings(Some("127.0.0.1:1"), "down");
    for mode in [Mode::Drain, Mode::Follow] {
        let request = IngestRequest { max_duration: Some(Duration::from_millis(700)), ..request(mode) };
        let observer = Arc::new(NoObserver);
        let mut report = crate::ingest(&settings, &lake, request, observer, CancellationToken::new()).await.unwrap();
        let error = report.take_error().expect("nothing could be read");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.hint().unwrap().contains("tidemill doctor"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_while_the_broker_is_down_ends_well() {
    let (lake, cancel) = (memory_lake(), CancellationToken::new());
    let settings = settings(Some("127.0.0.1:1"), "down");
    cancel.cancel();
    let observer = Arc::new(NoObserver);
    let mut report = crate::ingest(&settings, &lake, request(Mode::Follow), observer, cancel).await.unwrap();
    assert!(report.take_error().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_appears_while_following_is_taken_up() {
    let broker = Broker::start(1);
    let (lake, settings) = (memory_lake(), broker.settings("appears"));
    let counter = Arc::new(Counter::default());
    let cancel = CancellationToken::new();
    let following = {
        let (settings, lake, cancel) = (settings.clone(), lake.clone(), cancel.clone());
        let observer = Arc::<Counter>::clone(&counter);
        let mut contract = contract();
        // A dialect that librdkafka's own expressions do not know.
        contract.topics[0].pattern = r"^(?i:EVENTS)(\.\d{2})?$".to_owned();
        let request = IngestRequest { contracts: vec![contract], ..request(Mode::Follow) };
        tokio::spawn(async move { crate::ingest(&settings, &lake, request, observer, cancel).await.unwrap() })
    };
    broker.send(0, named("a", 0..5));
    counter.wait_for(5).await;
    for (topic, prefix) in [("events.25", "b"), ("events.x", "c"), ("more", "d")] {
        broker.cluster.create_topic(topic, 1, 1).unwrap();
        for value in named(prefix, 10..15) {
            let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(0).payload(&value);
            broker.producer.send(record).unwrap();
        }
    }
    broker.producer.flush(Duration::from_secs(10)).unwrap();
    counter.wait_for(15).await;
    cancel.cancel();
    assert!(following.await.unwrap().take_error().is_none());
    assert!(keys(&lake).await.iter().all(|key| !key.starts_with('c')));
    assert_closed(&lake).await;
}
