//! A small project over a lake in memory, for tests of building.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray as _, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt as _;
use tempfile::TempDir;
use tidemill_lake::maintain::{MaintainOptions, maintain};
use tidemill_lake::metadata::{Act, CommitNote, IngestNote};
use tidemill_lake::{CommitOutcome, CommitRequest, Engine, Lake, PartitionedBatch, Table, TableId, TableSpec};
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings, TransformSettings};
use tidemill_project::{Diagnostic as _, Fault, SourceName};
use tokio_util::sync::CancellationToken;

use crate::graph::Selection;
use crate::plan::{Plan, PlanOptions};
use crate::run::{BuildError, BuildOptions, Report, Runner, Silent};
use crate::{LoadOptions, load_project};

pub(super) const MINUTE_US: i64 = 60_000_000;
pub(super) const HOUR_US: i64 = 60 * MINUTE_US;
pub(super) const DAY_US: i64 = 24 * HOUR_US;
/// 2025-03-09T00:00:00Z
pub(super) const START_US: i64 = 1_741_478_400_000_000;

/// One event of the source `shop.events`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub key: String,
    pub user_id: i64,
    pub amount: i64,
    pub at_us: i64,
}

pub(super) fn event(key: &str, user_id: i64, amount: i64, at_us: i64) -> Event {
    Event { key: key.to_owned(), user_id, amount, at_us }
}

pub(super) struct World {
    pub dir: TempDir,
    pub lake: Lake,
    pub engine: Engine,
    pub watermark_us: Option<i64>,
}

impl World {
    pub(super) fn new() -> Self {
        let (clock, _) = Clock::manual(START_US + 30 * DAY_US, 7);
        Self::over("memory:///lake/", clock, TempDir::new().unwrap())
    }

    /// The same over a lake in a folder, whose files a test may take away.
    pub(super) fn in_folder() -> Self {
        let (clock, _) = Clock::manual(START_US + 30 * DAY_US, 7);
        let dir = TempDir::new().unwrap();
        let url = format!("file://{}/lake/", dir.path().display());
        Self::over(&url, clock, dir)
    }

    fn over(url: &str, clock: Clock, dir: TempDir) -> Self {
        let settings = LakeSettings { url: url.parse().unwrap(), options: BTreeMap::new() };
        let care = MaintenanceSettings { compact_min_files: 2, ..MaintenanceSettings::default() };
        let lake = Lake::connect(&settings, &care, clock).unwrap();
        let engine = Engine::local(&TransformSettings::default());
        let world = Self { dir, lake, engine, watermark_us: None };
        world.write("dbt_project.yml", "name: shop\nversion: '1.0'\nprofile: none\n");
        world.write("models/_shop__sources.yml", SOURCES);
        world
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn runner(&self) -> Runner {
        let project =
            load_project(self.root(), LoadOptions::default()).unwrap_or_else(|error| panic!("{}", tell(&error)));
        Runner::new(project, self.lake.clone(), self.engine.clone(), 2)
            .unwrap_or_else(|error| panic!("{}", tell(&error)))
    }

    pub(super) async fn build(&self) -> Report {
        self.build_with(&BuildOptions::default()).await
    }

    pub(super) async fn build_with(&self, options: &BuildOptions) -> Report {
        let report = self.try_build(options).await;
        assert!(report.failure().is_none(), "{report:#?}");
        report
    }

    pub(super) async fn try_build(&self, options: &BuildOptions) -> Report {
        let cancel = CancellationToken::new();
        self.runner()
            .build(&Selection::all(), options, Arc::new(Silent), &cancel)
            .await
            .unwrap_or_else(|error| panic!("{}", tell(&error)))
    }

    /// Why a build of everything does not begin.
    pub(super) async fn refused(&self) -> BuildError {
        let cancel = CancellationToken::new();
        let options = BuildOptions::default();
        let built = self.runner().build(&Selection::all(), &options, Arc::new(Silent), &cancel).await;
        built.map(|report| format!("{report:#?}")).expect_err("the project has faults")
    }

    /// All that is wrong with the project, as a reader of the terminal learns it.
    pub(super) async fn faults(&self) -> String {
        let loaded = load_project(self.root(), LoadOptions::default());
        let project = match loaded {
            Ok(project) => project,
            Err(error) => return crate::project::tests::faults(self.root(), &error),
        };
        let error = match Runner::new(project, self.lake.clone(), self.engine.clone(), 2) {
            Ok(_) => self.refused().await,
            Err(error) => error,
        };
        let single = Fault {
            code: error.code(),
            message: error.to_string(),
            location: error.location().cloned(),
            hint: error.hint(),
        };
        let all = if error.faults().is_empty() { std::slice::from_ref(&single) } else { error.faults() };
        let mut text = String::new();
        for fault in all {
            let code = fault.code.map(|code| code.to_string()).unwrap_or_default();
            let place = fault.location.as_ref().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("{code} {place}: {}\n", fault.message));
            if let Some(hint) = &fault.hint {
                text.push_str(&format!("  hint: {hint}\n"));
            }
        }
        text.replace(&format!("{}/", self.root().display()), "")
    }

    pub(super) async fn build_selected(&self, selection: &Selection, options: &BuildOptions) -> Report {
        let cancel = CancellationToken::new();
        self.runner().build(selection, options, Arc::new(Silent), &cancel).await.unwrap()
    }

    /// Deletes raw rows by key, rewriting the files that hold them.
    pub(super) async fn delete(&self, keys: &[&str]) {
        let mut table = self.raw().await;
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for file in table.files() {
            let schema = table.schema();
            let columns = schema.fields().iter().map(|field| field.name().clone());
            let columns = columns.filter(|name| name != "event_date").collect();
            let rows: Vec<RecordBatch> =
                table.read_files(vec![file.clone()], Some(columns)).try_collect().await.unwrap();
            let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
            let held = rows.column_by_name("_key").unwrap().as_string::<i32>();
            let stays: BooleanArray = held.iter().map(|key| Some(!keys.contains(&key.unwrap()))).collect();
            if stays.true_count() < rows.num_rows() {
                let batches = vec![arrow::compute::filter_record_batch(&rows, &stays).unwrap()];
                let partition_values = file.partition_values.clone();
                let part = PartitionedBatch { partition_values, batches, tags: BTreeMap::new() };
                add.extend(table.write_files(vec![part]).await.unwrap());
                remove.push(file);
            }
        }
        let request = CommitRequest {
            data_change: !remove.is_empty(),
            add,
            remove,
            txns: BTreeMap::new(),
            operation: "DELETE",
            note: CommitNote { commit_id: self.lake.clock().new_id(), run_id: "test".to_owned(), act: Act::Maintain },
        };
        assert!(matches!(table.commit(request).await.unwrap(), CommitOutcome::Committed(_)));
    }

    /// Compacts every table.
    pub(super) async fn compact(&self) {
        let options = MaintainOptions::light("test", std::time::Duration::from_mins(1));
        for id in self.lake.list().await.unwrap() {
            maintain(&self.lake, &id, &options).await.unwrap();
        }
    }

    pub(super) async fn plan(&self) -> Plan {
        self.runner().plan(&Selection::all(), &PlanOptions::default()).await.unwrap()
    }

    pub(super) async fn full_refresh(&self) -> Report {
        let plan = PlanOptions { full_refresh: true, ..PlanOptions::default() };
        self.build_with(&BuildOptions { plan, ..BuildOptions::default() }).await
    }

    /// Lands events in one commit, as ingest would.
    pub(super) async fn land(&self, events: &[Event]) {
        let mut table = self.raw().await;
        let mut days: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
        for event in events {
            days.entry(event.at_us.div_euclid(DAY_US)).or_default().push(event);
        }
        let schema = Arc::new(Schema::new(
            raw_schema().fields().iter().filter(|field| field.name() != "event_date").cloned().collect::<Vec<_>>(),
        ));
        let batches = days.into_iter().map(|(day, events)| {
            let at = || {
                TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| event.at_us)).with_timezone("UTC")
            };
            let rows = RecordBatch::try_new(
                Arc::clone(&schema),
                vec![
                    Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.user_id))),
                    Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.amount))),
                    Arc::new(StringArray::from_iter_values(events.iter().map(|event| &event.key))),
                    Arc::new(at()),
                    Arc::new(at()),
                ],
            )
            .unwrap();
            let date = chrono::DateTime::from_timestamp_micros(day * DAY_US).unwrap().format("%Y-%m-%d").to_string();
            PartitionedBatch {
                partition_values: BTreeMap::from([("event_date".to_owned(), Some(date))]),
                batches: vec![rows],
                tags: BTreeMap::new(),
            }
        });
        let add = table.write_files(batches.collect()).await.unwrap();
        let note =
            IngestNote { source: "shop.events".to_owned(), watermark_us: self.watermark_us, ..IngestNote::default() };
        let request = CommitRequest {
            data_change: !add.is_empty(),
            add,
            remove: Vec::new(),
            txns: BTreeMap::new(),
            operation: "WRITE",
            note: CommitNote {
                commit_id: self.lake.clock().new_id(),
                run_id: "test".to_owned(),
                act: Act::Ingest(note),
            },
        };
        assert!(matches!(table.commit(request).await.unwrap(), CommitOutcome::Committed(_)));
    }

    /// The raw table.
    pub(super) async fn raw(&self) -> Table {
        let spec = TableSpec {
            id: TableId::Raw(SourceName::new("shop", "events")),
            schema: raw_schema(),
            partition_columns: vec!["event_date".to_owned()],
            bloom_columns: vec!["_key".to_owned()],
            description: String::new(),
        };
        self.lake.open_or_create(&spec, "test").await.unwrap()
    }

    /// All rows of a relation as text, sorted.
    pub(super) async fn rows(&self, sql: &str) -> Vec<String> {
        rows_of(&self.runner(), sql).await
    }

    pub(super) async fn versions(&self) -> BTreeMap<String, u64> {
        let mut versions = BTreeMap::new();
        for id in self.lake.list().await.unwrap() {
            versions.insert(id.path(), self.lake.open(&id).await.unwrap().unwrap().version().0);
        }
        versions
    }
}

/// Rows of a query as text, sorted.
pub(super) async fn rows_of(runner: &Runner, sql: &str) -> Vec<String> {
    let context = runner.query_context().await.unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    rows.sort();
    rows
}

pub(super) fn raw_schema() -> Arc<Schema> {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Int64, true),
        Field::new("amount", DataType::Int64, true),
        Field::new("_key", DataType::Utf8, true),
        Field::new("_timestamp", instant.clone(), true),
        Field::new("event_at", instant, true),
        Field::new("event_date", DataType::Date32, true),
    ]))
}

pub(super) fn tell(error: &dyn tidemill_project::Diagnostic) -> String {
    let mut text = format!("{error} {:?} {:?} {:?}", error.location(), error.hint(), error.faults());
    let mut at = std::error::Error::source(error);
    while let Some(source) = at {
        text.push_str(": ");
        text.push_str(&source.to_string());
        at = source.source();
    }
    text
}

const SOURCES: &str = r"
sources:
  - name: shop
    tables:
      - name: events
        config:
          meta:
            tidemill:
              topics: [events]
              format: json
              event_time: event_at
              partition_by: day
        columns:
          - {name: user_id, data_type: bigint}
          - {name: amount, data_type: bigint}
";
