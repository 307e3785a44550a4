//! Where a source stands: lag, last event, last commit, sums.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::Serialize;
use tidemill_lake::metadata::{OtherTotals, PartitionTotals};
use tidemill_lake::{Lake, TableId};
use tidemill_project::clock::Micros;
use tidemill_project::config::Settings;
use tidemill_project::contract::Contract;
use tidemill_project::{SourceName, TableVersion, TopicPartition};

use crate::books::Standing;
use crate::error::Cause;
use crate::source::kafka::{TopicRules, client_config};
use crate::{Error, Result};

const REQUEST: Duration = Duration::from_secs(5);

/// Where a source stands.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    /// The source.
    pub source: String,
    /// Version of the raw table; `None` before the first run.
    pub version: Option<TableVersion>,
    /// When that version was committed, milliseconds UTC.
    pub committed_ms: Option<i64>,
    /// Per partition, sorted.
    pub partitions: Vec<PartitionStatus>,
    /// Sum of the partitions' lags; `None` when the broker was not asked or did not answer.
    pub lag: Option<u64>,
    /// Newest event that landed, microseconds UTC.
    pub last_event_at_us: Option<Micros>,
    /// W (X12), microseconds UTC.
    pub watermark_us: Option<Micros>,
    /// Rows that landed, files and replays included.
    pub landed: u64,
    /// Copies that were dropped.
    pub duplicates: u64,
    /// Records that went to quarantine.
    pub quarantined: u64,
    /// Sums over files.
    pub files: OtherTotals,
    /// Why the broker's side is missing.
    pub broker_fault: Option<String>,
}

/// Where a partition stands.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset that the lake will read; `None` when it has never seen the partition.
    pub next: Option<i64>,
    /// The last stable offset, when the broker answered.
    pub end: Option<i64>,
    /// Offsets between the two: 0 at the end of the partition, also when its last offsets are markers (X31).
    pub lag: Option<u64>,
    /// Newest event that landed from here, microseconds UTC.
    pub last_event_at_us: Option<Micros>,
}

/// Tells where a source stands. A broker that does not answer within seconds leaves the lags out.
///
/// # Errors
/// When the lake cannot be read.
pub async fn status(settings: &Settings, lake: &Lake, contract: &Contract) -> Result<SourceStatus> {
    let name = &contract.name;
    let lake_error =
        |source| Error::from(Cause::Lake { act: "read the newest commit", source_name: name.clone(), source });
    let table = lake.open(&TableId::Raw(name.clone())).await.map_err(lake_error)?;
    let mut standing = Standing::default();
    let (mut version, mut committed_ms) = (None, None);
    if let Some(table) = &table {
        standing = Standing::load(table).await.map_err(lake_error)?;
        version = Some(table.version());
        let before = table.version().0.checked_sub(1).map(TableVersion);
        committed_ms = match table.commits(before, table.version()).await {
            Ok(commits) => commits.last().map(|commit| commit.timestamp_ms),
            Err(error) if error.is_version_gone() => None,
            Err(error) => return Err(lake_error(error)),
        };
    }
    let (ends, broker_fault) = match read_ends(settings, contract).await {
        Ok(ends) => (ends, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let partitions = partitions_of(&standing, ends.as_deref());
    let totals = || standing.partitions.values();
    Ok(SourceStatus {
        source: name.to_string(),
        version,
        committed_ms,
        lag: ends.is_some().then(|| partitions.iter().filter_map(|of| of.lag).sum()),
        last_event_at_us: standing.newest_event_at_us(),
        watermark_us: standing.watermark_us,
        landed: totals().map(|of| of.landed).sum::<u64>() + standing.files.landed + standing.replays.landed,
        duplicates: totals().map(|of| of.duplicates).sum::<u64>() + standing.files.duplicates,
        quarantined: totals().map(|of| of.quarantined).sum::<u64>() + standing.files.quarantined,
        files: standing.files,
        partitions,
        broker_fault,
    })
}

type Ends = Vec<(TopicPartition, i64, i64)>;

fn partitions_of(standing: &Standing, ends: Option<&[(TopicPartition, i64, i64)]>) -> Vec<PartitionStatus> {
    let next_of = |totals: &PartitionTotals| (totals.offsets > 0).then_some(totals.to);
    let status = |partition: &TopicPartition, end: Option<(i64, i64)>| {
        let totals = standing.partitions.get(partition);
        let next = totals.and_then(next_of);
        let lag = end.map(|(low, high)| u64::try_from(high - next.unwrap_or(low).max(low)).unwrap_or_default());
        PartitionStatus {
            topic: partition.topic.0.clone(),
            partition: partition.partition,
            next,
            end: end.map(|(_, high)| high),
            lag,
            last_event_at_us: totals.and_then(|totals| totals.max_event_at_us),
        }
    };
    match ends {
        Some(ends) => ends.iter().map(|(partition, low, high)| status(partition, Some((*low, *high)))).collect(),
        None => standing.partitions.keys().map(|partition| status(partition, None)).collect(),
    }
}

/// First and last stable offset of every partition of the contract's topics; `None` when the target has no broker.
async fn read_ends(settings: &Settings, contract: &Contract) -> Result<Option<Ends>> {
    let Some(kafka) = &settings.kafka else { return Ok(None) };
    let config = client_config(kafka, settings.ingest.memory_budget_bytes);
    let rules = TopicRules::new(&contract.name, &contract.topics)?;
    let name: SourceName = contract.name.clone();
    let ask = move || -> Result<Ends> {
        let kafka_error = |source| Cause::Kafka { act: "ask for the ends", source_name: name.clone(), source };
        // It asks and never subscribes, so it does not join the group.
        let consumer: BaseConsumer = config.create().map_err(kafka_error)?;
        let metadata = consumer.fetch_metadata(None, REQUEST).map_err(kafka_error)?;
        let mut ends = Vec::new();
        for topic in metadata.topics().iter().filter(|topic| rules.rule_of(topic.name()).is_some()) {
            for number in topic.partitions() {
                let (low, high) = consumer.fetch_watermarks(topic.name(), number.id(), REQUEST).map_err(kafka_error)?;
                ends.push((TopicPartition::new(topic.name(), number.id()), low, high));
            }
        }
        ends.sort();
        Ok(ends)
    };
    let gone = |_| Cause::StageGone { source_name: contract.name.clone(), stage: "status" };
    Ok(Some(tokio::task::spawn_blocking(ask).await.map_err(gone)??))
}
