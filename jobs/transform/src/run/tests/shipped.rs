//! The shipped models, on the golden cases of the systems that they serve.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::take_record_batch;
use arrow::datatypes::{Date32Type, Int32Type};
use tidemill_lake::metadata::{Act, CommitNote, IngestNote};
use tidemill_lake::{CommitRequest, Engine, Lake, PartitionedBatch, TableId, TableSpec};
use tidemill_project::SourceName;
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings, TransformSettings};
use tokio_util::sync::CancellationToken;

use super::world::{DAY_US, rows_of, tell};
use crate::graph::Selection;
use crate::run::rows::into_stored;
use crate::run::session::declared_schema;
use crate::run::{BuildOptions, Report, Runner, Silent};
use crate::{LoadOptions, load_project};

struct Shipped {
    lake: Lake,
    runner: Runner,
    num_landed: i64,
}

impl Shipped {
    fn new() -> Self {
        let (clock, _) = Clock::manual(1_767_225_600_000_000, 3);
        let settings = LakeSettings { url: "memory:///lake/".parse().unwrap(), options: BTreeMap::new() };
        let lake = Lake::connect(&settings, &MaintenanceSettings::default(), clock).unwrap();
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dbt-like-models");
        let project = load_project(&dir, LoadOptions::default()).unwrap_or_else(|error| panic!("{}", tell(&error)));
        let engine = Engine::local(&TransformSettings::default());
        let runner = Runner::new(project, lake.clone(), engine, 2).unwrap_or_else(|error| panic!("{}", tell(&error)));
        Self { lake, runner, num_landed: 0 }
    }

    /// Lands rows, given as a query of some columns; others are null. `event_at` gives partition and, unless given, the
    /// record's timestamp.
    async fn land(&mut self, source: &str, table: &str, rows: &[&str]) {
        let name = SourceName::new(source, table);
        let executor = self.runner.executor(&crate::plan::PlanOptions::default(), "test").await.unwrap();
        let context = executor.sessions.empty();
        let schema = declared_schema(&context, self.runner.project().sources.get(&name).unwrap()).await;
        let by_hour = schema.field_with_name("event_hour").is_ok();
        let partition_columns: Vec<String> =
            if by_hour { vec!["event_date".into(), "event_hour".into()] } else { vec!["event_date".into()] };
        let spec = TableSpec {
            id: TableId::Raw(name.clone()),
            schema: Arc::clone(&schema),
            partition_columns,
            bloom_columns: vec!["_key".to_owned()],
            description: String::new(),
        };
        let mut raw = self.lake.open_or_create(&spec, "test").await.unwrap();
        let mut parts = Vec::new();
        for row in rows {
            self.num_landed += 1;
            let given = format!("select {row}");
            let frame = context.sql(&given).await.unwrap();
            let has = |column: &str| frame.schema().field_with_unqualified_name(column).is_ok();
            let columns: Vec<String> = schema
                .fields()
                .iter()
                .map(|field| match field.name().as_str() {
                    name if has(name) => format!("\"{name}\""),
                    "_key" => format!("'k{:05}' as _key", self.num_landed),
                    "_timestamp" | "_ingested_at" | "timestamp" if field.data_type().is_temporal() => {
                        format!("event_at as \"{}\"", field.name())
                    }
                    "event_date" => "cast(event_at as date) as event_date".to_owned(),
                    "event_hour" => "cast(date_part('hour', event_at) as int) as event_hour".to_owned(),
                    name => format!("null as \"{name}\""),
                })
                .collect();
            let sql = format!("select {} from ({given})", columns.join(", "));
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            let rows = into_stored(&batches, &schema).unwrap();
            let days = rows.column_by_name("event_date").unwrap().as_primitive::<Date32Type>().value(0);
            let day = chrono::DateTime::from_timestamp_micros(i64::from(days) * DAY_US)
                .unwrap()
                .format("%Y-%m-%d")
                .to_string();
            let mut partition_values = BTreeMap::from([("event_date".to_owned(), Some(day))]);
            if let Some(hours) = rows.column_by_name("event_hour") {
                let hour = hours.as_primitive::<Int32Type>().value(0).to_string();
                partition_values.insert("event_hour".to_owned(), Some(hour));
            }
            let kept: Vec<usize> = (0..schema.fields().len())
                .filter(|index| !["event_date", "event_hour"].contains(&schema.field(*index).name().as_str()))
                .collect();
            let rows =
                take_record_batch(&rows, &arrow::array::UInt32Array::from(vec![0])).unwrap().project(&kept).unwrap();
            parts.push(PartitionedBatch { partition_values, batches: vec![rows], tags: BTreeMap::new() });
        }
        let add = raw.write_files(parts).await.unwrap();
        let note = IngestNote { source: name.to_string(), ..IngestNote::default() };
        let request = CommitRequest {
            add,
            remove: Vec::new(),
            txns: BTreeMap::new(),
            operation: "WRITE",
            data_change: true,
            note: CommitNote {
                commit_id: self.lake.clock().new_id(),
                run_id: "test".to_owned(),
                act: Act::Ingest(note),
            },
        };
        raw.commit(request).await.unwrap();
    }

    async fn build(&self) -> Report {
        let cancel = CancellationToken::new();
        let report =
            self.runner.build(&Selection::all(), &BuildOptions::default(), Arc::new(Silent), &cancel).await.unwrap();
        assert!(report.failure().is_none(), "{report:#?}");
        report
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        rows_of(&self.runner, sql).await
    }
}

fn zoner(user_id: i64, activity: &str, at: &str, sent: &str) -> String {
    format!(
        "{user_id} as user_id, '{activity}' as activity, arrow_cast('{at}', 'Timestamp(Microsecond, Some(\"UTC\"))') as event_at, \
         arrow_cast('{sent}', 'Timestamp(Microsecond, Some(\"UTC\"))') as _timestamp"
    )
}

/// GZ3
#[tokio::test]
async fn a_late_event_shortens_a_night() {
    let mut shipped = Shipped::new();
    let first = zoner(7, "sleep", "2025-03-10T22:00:00Z", "2025-03-10T22:00:00Z");
    let second = zoner(7, "meal", "2025-03-11T06:30:00Z", "2025-03-11T06:30:00Z");
    shipped.land("zoner", "user_activity", &[&first, &second]).await;
    shipped.build().await;
    let night = "select night_date, sleep_seconds, interval_count from zoner_sleep_nightly";
    assert_eq!(shipped.rows(night).await, ["2025-03-10 | 30600.000000 | 1"]);

    let late = zoner(7, "light_exposure", "2025-03-11T06:00:00Z", "2025-03-11T08:30:00Z");
    shipped.land("zoner", "user_activity", &[&late]).await;
    shipped.build().await;
    assert_eq!(shipped.rows(night).await, ["2025-03-10 | 28800.000000 | 1"]);
    let hourly = "select user_id, activity, events, late_events from zoner_activity_counts_hourly where activity = 'light_exposure'";
    assert_eq!(shipped.rows(hourly).await, ["7 | light_exposure | 1 | 1"]);
    let before = shipped.rows("select * from zoner_sleep_intervals").await;
    let report = shipped.build().await;
    assert!(report.nodes.iter().all(|node| node.rows_written == 0));
    assert_eq!(shipped.rows("select * from zoner_sleep_intervals").await, before);
}

/// GL7
#[tokio::test]
async fn a_late_login_changes_its_window() {
    let mut shipped = Shipped::new();
    let login = |at: &str, sent: &str| {
        format!(
            "'u' as user_id, '2.3.0' as app_version, 'android' as device_type, 'MI' as locale, 'd' as device_id, \
             '203.0.113.9' as ip, 1730653301 as \"timestamp\", arrow_cast('{at}', 'Timestamp(Microsecond, Some(\"UTC\"))') as event_at, \
             arrow_cast('{sent}', 'Timestamp(Microsecond, Some(\"UTC\"))') as _timestamp"
        )
    };
    shipped.land("logins", "user_login", &[&login("2024-11-03T17:01:41Z", "2024-11-03T17:01:41Z")]).await;
    shipped.build().await;
    let window = "select message_count, batch_size, late_count from logins_usage_window";
    assert_eq!(shipped.rows(window).await, ["1 | 0.1 | 0"]);
    shipped.land("logins", "user_login", &[&login("2024-11-03T17:01:45Z", "2024-11-03T17:01:55Z")]).await;
    shipped.build().await;
    assert_eq!(shipped.rows(window).await, ["2 | 0.2 | 0"]);
    shipped.land("logins", "user_login", &[&login("2024-11-03T17:01:46Z", "2024-11-03T17:02:05Z")]).await;
    shipped.build().await;
    assert_eq!(shipped.rows(window).await, ["3 | 0.3 | 1"]);
}
