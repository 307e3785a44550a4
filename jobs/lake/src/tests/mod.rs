//! The room's behaviour as a whole: a lake in memory or in a folder, several handles, a store that fails by script.

mod commits;
mod faults;
mod live;
mod maintenance;
mod model;
mod queries;
mod shapes;
mod stores;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tidemill_project::clock::{Clock, ManualClock};
use tidemill_project::config::{LakeSettings, MaintenanceSettings};
use tidemill_project::{SourceName, TableVersion};
use url::Url;

use crate::metadata::{Act, CommitNote, IngestNote};
use crate::{CommitOutcome, CommitRequest, DataFile, Lake, PartitionedBatch, Table, TableId, TableSpec};

/// 2025-03-09T00:00:00Z in microseconds.
const MIDNIGHT_US: i64 = 1_741_478_400_000_000;

/// A lake under test and what moves its time.
struct World {
    lake: Lake,
    clock: ManualClock,
    store: Arc<dyn ObjectStore>,
}

fn settings() -> MaintenanceSettings {
    MaintenanceSettings {
        checkpoint_interval: 10,
        compact_min_files: 4,
        target_file_bytes: 1 << 20,
        retention: Duration::from_hours(7 * 24),
    }
}

fn memory() -> World {
    over(Arc::new(InMemory::new()))
}

fn over(store: Arc<dyn ObjectStore>) -> World {
    // Stores stamp objects with the machine's time, so the clock starts there and is moved on by hand.
    let (clock, hand) = Clock::manual(Clock::system().now_us(), 7);
    let url = Url::parse("memory:///lake/").unwrap();
    let lake = Lake::over(Arc::clone(&store), &url, &settings(), clock).unwrap();
    World { lake, clock: hand, store }
}

impl World {
    /// A second lake on the same store, as another process would have it: other ids, same time.
    fn neighbour(&self) -> Lake {
        self.client(8)
    }

    fn client(&self, seed: u64) -> Lake {
        let (clock, _) = Clock::manual(self.lake.clock().now_us(), seed);
        Lake::over(Arc::clone(&self.store), self.lake.store().url(), &settings(), clock).unwrap()
    }

    fn pass(&self, days: i64) {
        self.clock.set_us(self.lake.clock().now_us() + days * 24 * 3600 * 1_000_000);
    }
}

fn folder() -> (Lake, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(dir.path()).unwrap();
    let settings_of = LakeSettings { url, options: BTreeMap::new() };
    (Lake::connect(&settings_of, &settings(), Clock::system()).unwrap(), dir)
}

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn id() -> TableId {
    TableId::Raw(SourceName::new("zoner", "user_activity"))
}

fn spec() -> TableSpec {
    let schema = Schema::new(vec![
        Field::new("value", DataType::Int64, true),
        Field::new("_key", DataType::Utf8, true),
        Field::new("event_at", utc(), true),
        Field::new("event_date", DataType::Date32, true),
    ]);
    TableSpec {
        id: id(),
        schema: Arc::new(schema),
        partition_columns: vec!["event_date".to_owned()],
        bloom_columns: vec!["_key".to_owned()],
        description: "activity".to_owned(),
    }
}

fn day(number: u32) -> String {
    format!("2025-03-{number:02}")
}

/// Rows whose keys are `k<value>` and whose event times lie in the given day of March 2025.
fn rows(number: u32, values: impl IntoIterator<Item = i64>) -> PartitionedBatch {
    let values: Vec<i64> = values.into_iter().collect();
    let start = MIDNIGHT_US + (i64::from(number) - 9) * 24 * 3600 * 1_000_000;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("value", Arc::new(Int64Array::from(values.clone()))),
        ("_key", Arc::new(StringArray::from_iter_values(values.iter().map(|value| format!("k{value}"))))),
        (
            "event_at",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(values.iter().map(|value| start + value % 86_400_000))
                    .with_timezone("UTC"),
            ),
        ),
    ];
    PartitionedBatch {
        partition_values: partition(number),
        batches: vec![RecordBatch::try_from_iter(columns).unwrap()],
        tags: BTreeMap::new(),
    }
}

fn partition(number: u32) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([("event_date".to_owned(), Some(day(number)))])
}

fn note(lake: &Lake) -> CommitNote {
    let act = Act::Ingest(IngestNote { source: "zoner.user_activity".to_owned(), ..IngestNote::default() });
    CommitNote { commit_id: lake.clock().new_id(), run_id: "test".to_owned(), act }
}

fn request(lake: &Lake, add: Vec<DataFile>, remove: Vec<DataFile>) -> CommitRequest {
    CommitRequest { add, remove, txns: BTreeMap::new(), operation: "WRITE", data_change: true, note: note(lake) }
}

async fn append(table: &mut Table, batch: PartitionedBatch) -> CommitOutcome {
    let add = table.write_files(vec![batch]).await.unwrap();
    let lake = table.lake().clone();
    table.commit(request(&lake, add, Vec::new())).await.unwrap()
}

fn committed(outcome: CommitOutcome) -> TableVersion {
    match outcome {
        CommitOutcome::Committed(version) => version,
        CommitOutcome::Lost(commits) => panic!("lost to {} commits", commits.len()),
    }
}

/// All values of the table, sorted.
async fn values(table: &Table) -> Vec<i64> {
    let stream = table.read_files(table.files(), Some(vec!["value".to_owned()]));
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    let mut values: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    values.sort_unstable();
    values
}
