//! The guarantees of every sink, held by the local warehouse.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use futures::TryStreamExt;
use tidemill_lake::{Lake, TableId};
use tidemill_project::clock::Clock;
use tidemill_project::config::{
    IngestSettings, LakeSettings, MaintenanceSettings, Settings, TransformSettings, WarehouseSettings,
};
use tidemill_publish::{PublishReport, PublishRequest, Result, Silent};
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, Models, conformance};

struct Local {
    _folder: tempfile::TempDir,
    settings: Settings,
    models: Models,
    warehouse: Lake,
}

impl Local {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| LakeSettings {
            url: url::Url::from_directory_path(folder.path().join(name)).unwrap(),
            options: BTreeMap::new(),
        };
        let maintenance = MaintenanceSettings::default();
        let connect = |name| Lake::connect(&place(name), &maintenance, Clock::system()).unwrap();
        let (models, warehouse) = (Models { lake: connect("lake") }, connect("warehouse"));
        let settings = Settings {
            name: "test".into(),
            project_dir: folder.path().to_path_buf(),
            models_dir: folder.path().to_path_buf(),
            target: "test".into(),
            kafka: None,
            lake: place("lake"),
            warehouse: WarehouseSettings::Local(place("warehouse")),
            collect: None,
            registry: None,
            sinks: tidemill_project::config::SinkSettings::default(),
            ingest: IngestSettings::default(),
            transform: TransformSettings::default(),
            maintenance,
        };
        Self { _folder: folder, settings, models, warehouse }
    }
}

#[async_trait]
impl Fixture for Local {
    fn models(&self) -> &Models {
        &self.models
    }

    fn database(&self) -> &'static str {
        "DB"
    }

    async fn publish(&self, request: PublishRequest) -> Result<PublishReport> {
        tidemill_publish::publish(&self.settings, &self.models.lake, request, &Silent, &CancellationToken::new()).await
    }

    async fn target(&self, model: &str) -> Vec<(String, i64)> {
        let id = TableId::Warehouse { database: "DB".into(), schema: "MARTS".into(), table: model.into() };
        let table = self.warehouse.open(&id).await.unwrap().unwrap();
        let batches: Vec<RecordBatch> = table.read_files(table.files(), None).try_collect().await.unwrap();
        let mut rows = Vec::new();
        for batch in &batches {
            let users = batch.column_by_name("user_id").unwrap().as_string::<i32>();
            let minutes = batch.column_by_name("minutes").unwrap().as_primitive::<Int64Type>();
            rows.extend((0..batch.num_rows()).map(|row| (users.value(row).to_owned(), minutes.value(row))));
        }
        rows.sort();
        rows
    }
}

#[tokio::test]
async fn sends_all_then_nothing() {
    conformance::sends_all_then_nothing(&Local::new()).await;
}

#[tokio::test]
async fn follows_every_change() {
    conformance::follows_every_change(&Local::new()).await;
}

#[tokio::test]
async fn the_last_of_duplicate_keys_wins() {
    conformance::the_last_of_duplicate_keys_wins(&Local::new()).await;
}

#[tokio::test]
async fn refuses_null_keys() {
    conformance::refuses_null_keys(&Local::new()).await;
}

#[tokio::test]
async fn compares_a_model_that_was_made_again() {
    conformance::compares_a_model_that_was_made_again(&Local::new()).await;
}

#[tokio::test]
async fn replaces_batches_without_a_key() {
    conformance::replaces_batches_without_a_key(&Local::new()).await;
}

#[tokio::test]
async fn appends_only() {
    conformance::appends_only(&Local::new()).await;
}

#[tokio::test]
async fn survives_a_race() {
    conformance::survives_a_race(&Local::new()).await;
}
