//! A lake in a folder, an in-process broker, and what readers of its topics have seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde_json::Value;
use tidemill_lake::{Lake, TableId};
use tidemill_project::Secret;
use tidemill_project::clock::Clock;
use tidemill_project::config::{
    IngestSettings, KafkaSettings, LakeSettings, MaintenanceSettings, Settings, SinkSettings, TransformSettings,
    WarehouseSettings,
};
use tidemill_publish::{Publication, PublishObserver, PublishRequest, PublishedTable, Result, Silent};
use tokio_util::sync::CancellationToken;

use crate::rows::{request_of, rows, us};
use crate::support::Models;

/// Key and value; a tombstone has none.
pub(crate) type Seen = (String, Option<String>);

pub(crate) struct World {
    _folder: tempfile::TempDir,
    broker: MockCluster<'static, DefaultProducerContext>,
    pub(crate) settings: Settings,
    pub(crate) models: Models,
    /// Topic and partition -> next offset to read.
    read: std::sync::Mutex<BTreeMap<(String, i32), i64>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = MockCluster::new(1).unwrap();
        let place = |name: &str| LakeSettings {
            url: url::Url::from_directory_path(folder.path().join(name)).unwrap(),
            options: BTreeMap::new(),
        };
        let maintenance = MaintenanceSettings::default();
        let lake = Lake::connect(&place("lake"), &maintenance, Clock::system()).unwrap();
        let servers = [("bootstrap.servers".to_owned(), Secret::new(broker.bootstrap_servers()))];
        let settings = Settings {
            name: "test".into(),
            project_dir: folder.path().to_path_buf(),
            models_dir: folder.path().to_path_buf(),
            target: "test".into(),
            kafka: Some(KafkaSettings { group: "test".into(), properties: servers.into() }),
            lake: place("lake"),
            warehouse: WarehouseSettings::Local(place("warehouse")),
            sinks: SinkSettings::default(),
            collect: None,
            registry: None,
            ingest: IngestSettings::default(),
            transform: TransformSettings::default(),
            maintenance,
        };
        Self { _folder: folder, broker, settings, models: Models { lake }, read: std::sync::Mutex::default() }
    }

    /// Replaces the batch of each row's day (`d` when the rows name none) while W stands at `watermark`.
    pub(crate) async fn build(&self, model: &str, columns: &str, all: &Value, watermark: &str) {
        self.models.build_at(model, vec![("d".to_owned(), rows(columns, all))], Some(us(watermark))).await;
    }

    /// W moves, no row does.
    pub(crate) async fn advance(&self, model: &str, watermark: &str) {
        self.models.build_at(model, Vec::new(), Some(us(watermark))).await;
    }

    pub(crate) async fn drop_model(&self, model: &str) {
        self.models.lake.drop_table(&TableId::model("main", model)).await.unwrap();
    }

    pub(crate) async fn run(&self, request: PublishRequest, observer: &dyn PublishObserver) -> Result<PublishedTable> {
        // The in-process broker makes topics only when it is asked for one, after the loader has waited for a better answer.
        let topic = request.publications[0].target.to_string();
        let _ = self.broker.create_topic(&topic, 4, 1);
        let _ = self.broker.create_topic(&format!("{topic}.ledger"), 1, 1);
        let cancel = CancellationToken::new();
        let report = tidemill_publish::publish(&self.settings, &self.models.lake, request, observer, &cancel).await?;
        Ok(report.tables.into_iter().next().unwrap())
    }

    /// Publishes, and returns what the topic's readers see beyond what they saw before, by key.
    pub(crate) async fn publish(&self, publication: &Publication) -> Vec<Seen> {
        self.run(request_of(publication), &Silent).await.unwrap();
        self.seen(&publication.target.to_string())
    }

    /// What is new in a topic, by key and then by offset.
    pub(crate) fn seen(&self, topic: &str) -> Vec<Seen> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.bootstrap_servers())
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()
            .unwrap();
        let limit = Duration::from_secs(20);
        let metadata = consumer.fetch_metadata(Some(topic), limit).unwrap();
        let numbers: BTreeSet<i32> =
            metadata.topics()[0].partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
        let mut read = self.read.lock().unwrap();
        let mut place = TopicPartitionList::new();
        for number in &numbers {
            let next = read.get(&(topic.to_owned(), *number)).copied().unwrap_or(0);
            place.add_partition_offset(topic, *number, Offset::Offset(next)).unwrap();
        }
        consumer.assign(&place).unwrap();
        let (mut open, mut seen) = (numbers, Vec::new());
        while !open.is_empty() {
            match consumer.poll(limit).expect("the broker answers") {
                Ok(record) => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    seen.push((text(record.key().unwrap_or_default()), record.payload().map(text)));
                    read.insert((topic.to_owned(), record.partition()), record.offset() + 1);
                }
                Err(KafkaError::PartitionEOF(number)) => drop(open.remove(&number)),
                Err(error) => panic!("{error}"),
            }
        }
        seen.sort_by(|a, b| a.0.cmp(&b.0));
        seen
    }
}

/// A message as JSON with its key.
pub(crate) fn message(key: &str, value: &str) -> Seen {
    (key.to_owned(), Some(value.to_owned()))
}

/// The end of a row.
pub(crate) fn tombstone(key: &str) -> Seen {
    (key.to_owned(), None)
}
