//! Processes that commit by hand, and settings for those that do not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use futures::TryStreamExt;
use tidemill_lake::{Lake, TableId};
use tidemill_project::clock::{Clock, Micros};
use tidemill_project::config::{
    IngestSettings, KafkaSettings, LakeSettings, MaintenanceSettings, Settings, TransformSettings, WarehouseSettings,
};
use tidemill_project::contract::{ColumnType, Contract, ContractColumn, KeyRule, TimeUnit, TopicRule};
use tidemill_project::{Offset, Secret, SourceName, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Batcher, Limits};
use crate::commit::{Committer, Done, RunContext};
use crate::deadline::Deadline;
use crate::request::NoObserver;
use crate::retry::Retry;
use crate::run::open_committer;
use crate::source::chunk::Chunk;
use crate::source::{Positioned, Slot};

/// 2025-03-09T00:00:00Z in seconds.
pub(super) const MIDNIGHT_S: i64 = 1_741_478_400;

fn column(name: &str, data_type: ColumnType) -> ContractColumn {
    ContractColumn { required: true, ..ContractColumn::plain(name, data_type) }
}

/// `{"id": "a", "at": 1741478400, "n": 1}`, keyed by `id`, from the topics `events` and `more`.
pub(super) fn contract() -> Contract {
    let topic = |name: &str| TopicRule { pattern: name.to_owned(), defaults: Vec::new() };
    let columns = vec![
        column("id", ColumnType::Text),
        ContractColumn { time_unit: Some(TimeUnit::Second), ..column("at", ColumnType::Timestamp) },
        ContractColumn { required: false, ..column("n", ColumnType::BigInt) },
    ];
    Contract {
        description: "Events of a shop.".to_owned(),
        topics: vec![topic("events"), topic("more")],
        key: vec![KeyRule::Field("id".to_owned())],
        grace: Duration::from_mins(5),
        ..Contract::plain(SourceName::new("shop", "events"), "at", columns)
    }
}

/// A column that a later version of the contract declares.
pub(super) fn later_column() -> ContractColumn {
    ContractColumn { required: false, ..column("later", ColumnType::Text) }
}

/// One event, `second` seconds after midnight.
pub(super) fn event(id: &str, second: i64) -> String {
    format!(r#"{{"id":"{id}","at":{}}}"#, MIDNIGHT_S + second)
}

pub(super) fn memory_lake() -> Lake {
    let url = url::Url::parse("memory:///lake/").unwrap();
    let settings = LakeSettings { url, options: BTreeMap::new() };
    Lake::connect(&settings, &MaintenanceSettings::default(), Clock::system()).unwrap()
}

/// Settings whose broker is at `brokers`, if any.
pub(super) fn settings(brokers: Option<&str>, group: &str) -> Settings {
    let store = LakeSettings { url: url::Url::parse("memory:///unused/").unwrap(), options: BTreeMap::new() };
    Settings {
        name: "test".to_owned(),
        project_dir: PathBuf::from("."),
        models_dir: PathBuf::from("."),
        target: "test".to_owned(),
        kafka: brokers.map(|brokers| KafkaSettings {
            group: group.to_owned(),
            // The in-process broker waits for a session less a second before it lets a group go on without a member.
            properties: [
                ("bootstrap.servers", brokers),
                ("session.timeout.ms", "4000"),
                ("heartbeat.interval.ms", "500"),
            ]
            .map(|(key, value)| (key.to_owned(), Secret::new(value)))
            .into(),
        }),
        collect: None,
        registry: None,
        lake: store.clone(),
        warehouse: WarehouseSettings::Local(store),
        sinks: tidemill_project::config::SinkSettings::default(),
        ingest: IngestSettings { max_batch_age: Duration::from_millis(50), ..IngestSettings::default() },
        transform: TransformSettings::default(),
        maintenance: MaintenanceSettings::default(),
    }
}

/// A process of ingest whose source is the test.
pub(super) struct Process {
    pub(super) committer: Committer,
    batcher: Batcher,
    slots: BTreeMap<TopicPartition, Slot>,
    next_slot: Slot,
}

/// A record for [`Process::batch`]: partition, offset, value.
pub(super) type Record<'a> = (&'a TopicPartition, i64, Option<&'a str>);

impl Process {
    pub(super) async fn start(lake: &Lake, contract: &Contract) -> Self {
        Self::with_budget(lake, contract, 64 << 20).await
    }

    /// `dedup_budget_bytes = 0` keeps no fingerprints: everything is asked of the files.
    pub(super) async fn with_budget(lake: &Lake, contract: &Contract, dedup_budget_bytes: usize) -> Self {
        let clock = lake.clock().clone();
        let run = RunContext {
            run_id: "test".to_owned(),
            clock: clock.clone(),
            as_of_us: None,
            observer: Arc::new(NoObserver),
            retry: Retry {
                deadline: Deadline::new(&clock, None),
                clock: clock.clone(),
                cancel: CancellationToken::new(),
            },
        };
        let limits = Limits { rows: 1_000_000, bytes: 1 << 30, age: Duration::MAX };
        Self {
            committer: open_committer(lake, contract, run, dedup_budget_bytes).await.unwrap(),
            batcher: Batcher::new(contract, limits, clock, false, None).unwrap(),
            slots: BTreeMap::new(),
            next_slot: 0,
        }
    }

    /// Takes a partition from where the lake stands; returns that offset.
    pub(super) async fn take(&mut self, partition: &TopicPartition) -> i64 {
        let lake = self.committer.lake_offsets(std::slice::from_ref(partition)).await.unwrap();
        let base = lake[partition].next;
        let from = base.unwrap_or(Offset(0));
        self.take_at(partition, base, from, from, false);
        from.0
    }

    pub(super) fn take_at(
        &mut self,
        partition: &TopicPartition,
        base: Option<Offset>,
        from: Offset,
        start: Offset,
        restarted: bool,
    ) {
        self.next_slot += 1;
        let slot = self.next_slot;
        self.slots.insert(partition.clone(), slot);
        let positioned = Positioned { slot, partition: partition.clone(), base, from, start, restarted };
        self.batcher.begin(&positioned);
        self.committer.begin(positioned);
    }

    /// Decodes a batch of records in this order.
    pub(super) fn batch(&mut self, records: &[Record<'_>]) -> Batch {
        self.batch_up_to(records, &[])
    }

    /// The same; then nothing more up to the given offsets.
    pub(super) fn batch_up_to(&mut self, records: &[Record<'_>], ends: &[(&TopicPartition, i64)]) -> Batch {
        let mut chunk = Chunk::default();
        for (partition, offset, value) in records {
            let timestamp_us = Some((MIDNIGHT_S + 3_600) * 1_000_000);
            let value = value.map(str::as_bytes);
            chunk.push(self.slots[partition], *offset, timestamp_us, value, Some(b"k"), std::iter::empty());
        }
        self.batcher.take(&chunk);
        for (partition, end) in ends {
            self.batcher.advance(self.slots[partition], Offset(*end));
        }
        self.batcher.close().unwrap().expect("records open a batch")
    }

    pub(super) async fn commit(&mut self, batch: Batch) -> Done {
        self.committer.commit(batch).await.unwrap()
    }

    /// Decodes and commits.
    pub(super) async fn land(&mut self, records: &[Record<'_>]) -> Done {
        let batch = self.batch(records);
        self.commit(batch).await
    }

    /// Says that a partition was seen fully read.
    pub(super) fn drained(&self, partition: &TopicPartition, next: i64, at_us: Micros) -> (Slot, Offset, Micros) {
        (self.slots[partition], Offset(next), at_us)
    }
}

/// The keys of the raw table, sorted, with repetitions.
pub(super) async fn keys(lake: &Lake) -> Vec<String> {
    let Some(table) = lake.open(&TableId::Raw(SourceName::new("shop", "events"))).await.unwrap() else {
        return Vec::new();
    };
    let batches: Vec<_> = table.read_files(table.files(), Some(vec!["_key".to_owned()])).try_collect().await.unwrap();
    let mut keys = Vec::new();
    for batch in batches {
        let column = batch.column(0).as_string::<i32>();
        keys.extend((0..column.len()).map(|row| column.value(row).to_owned()));
    }
    keys.sort();
    keys
}

/// Reconciles down to the rows and insists on closed books.
pub(super) async fn assert_closed(lake: &Lake) -> crate::reconcile::Reconciliation {
    let proof = crate::reconcile::reconcile(lake, &SourceName::new("shop", "events"), true).await.unwrap();
    assert_eq!(proof.faults, Vec::<String>::new());
    proof
}
