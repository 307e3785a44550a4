//! The door from outside: a real HTTP client in front, librdkafka's in-process broker behind.

mod requests;
mod shapes;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use serde_json::{Value, json};
use tidemill_project::clock::{Clock, ManualClock};
use tidemill_project::config::{ApiKey, CollectSettings, KafkaSettings};
use tidemill_project::contract::{self, Contract, Vars};
use tidemill_project::metrics::Metrics;
use tidemill_project::secret::Secret;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Collector, Error, ROUTE};

const TOPIC: &str = "raw_sensor_data";
/// 2025-03-09T12:00:10Z, a few seconds behind the readings of the tests.
const NOW_US: i64 = 1_741_521_610_000_000;

/// A collector with its broker. Ends with the test.
struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    address: SocketAddr,
    cancel: CancellationToken,
    served: JoinHandle<Result<(), Error>>,
    http: reqwest::Client,
    metrics: Metrics,
    clock: ManualClock,
}

/// Settings that let everybody in, on a free port.
fn open_door() -> CollectSettings {
    CollectSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        topic: TOPIC.to_owned(),
        max_body_bytes: 64 << 10,
        max_buffered_bytes: 1 << 20,
        max_queued_records: 1_000,
        ack_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(5),
        tls: None,
        keys: Vec::new(),
        oauth: None,
        anonymous: true,
    }
}

fn api_key(id: &str, key: &str) -> ApiKey {
    let hash = crate::hash_key(key);
    let mut sha256 = [0; 32];
    for (index, byte) in sha256.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hash[2 * index..2 * index + 2], 16).unwrap();
    }
    ApiKey { id: id.to_owned(), sha256: vec![sha256], rate: None, burst: None, devices: Vec::new(), expires_at: None }
}

/// The contract that ships, so that these tests and production judge alike.
fn shipped_contracts() -> Vec<Contract> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dbt-like-models");
    let vars = Vars::load(&models, &std::collections::BTreeMap::new()).unwrap();
    contract::load_dir(&models, &vars).unwrap().contracts
}

impl World {
    async fn start(settings: CollectSettings) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 3, 1).unwrap();
        let kafka = KafkaSettings {
            group: "unused".to_owned(),
            properties: [("bootstrap.servers".to_owned(), Secret::new(cluster.bootstrap_servers()))].into(),
        };
        let (clock, hand) = Clock::manual(NOW_US, 1);
        let metrics = Metrics::new();
        let certificate = settings.tls.as_ref().map(|files| std::fs::read(&files.certificate).unwrap());
        let collector = Collector::bind(settings, &kafka, &shipped_contracts(), clock, metrics.clone()).await.unwrap();
        let address = collector.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let served = tokio::spawn(collector.serve(cancel.clone()));
        let mut http = reqwest::Client::builder();
        if let Some(pem) = certificate {
            http = http.add_root_certificate(reqwest::Certificate::from_pem(&pem).unwrap());
        }
        Self { cluster, address, cancel, served, http: http.build().unwrap(), metrics, clock: hand }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http.post(self.url(ROUTE)).body(body)
    }

    /// Posts a body and reads the answer.
    async fn answer(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        read(self.post(body)).await
    }

    /// Every record of the topic as (key, value), by partition and offset.
    fn records(&self) -> Vec<(String, String)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let mut assignment = rdkafka::TopicPartitionList::new();
        for partition in 0..3 {
            assignment.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut records, mut ended) = (Vec::new(), 0);
        while ended < 3 {
            match consumer.poll(Duration::from_secs(10)).expect("the broker answers") {
                Ok(message) => {
                    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
                    records.push((message.partition(), message.offset(), text(message.key()), text(message.payload())));
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("failed to read back: {error}"),
            }
        }
        records.sort();
        records.into_iter().map(|(_, _, key, value)| (key, value)).collect()
    }
}

async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The example of A1.
fn example() -> Value {
    json!({"messageId": 17, "sessionId": "s1", "deviceId": "d1", "payload": [
        {"name": "accelerometer", "time": 1_741_521_605_000_000_000_i64, "accuracy": 3, "values": {"x": 3.0, "y": 4.0, "z": 0.0}},
        {"name": "gyroscope", "time": 1_741_521_605_004_000_000_i64, "values": {"x": 0.01, "y": 0.0, "z": -0.02}}]})
}
