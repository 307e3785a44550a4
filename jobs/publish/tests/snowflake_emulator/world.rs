//! A lake in a folder, models in it, and publications into a fresh database of the emulator.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use tidemill_lake::Lake;
use tidemill_project::Secret;
use tidemill_project::clock::{Clock, ClockReading};
use tidemill_project::config::{
    IngestSettings, LakeSettings, MaintenanceSettings, Settings, SnowflakeAuth, SnowflakeSettings, TransformSettings,
    WarehouseSettings,
};
use tidemill_publish::snowflake::SnowflakeSink;
use tidemill_publish::{Publication, PublishObserver, PublishReport, PublishRequest, Result, Silent};
use tokio_util::sync::CancellationToken;

use crate::emulator::{Emulator, Proxy};
use crate::support::{Fixture, Models, Row, publication, request};

pub(crate) const PASSWORD: &str = "very-secret-password";

/// Everything of one test.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) proxy: Proxy,
    pub(crate) settings: Arc<Settings>,
    pub(crate) models: Models,
    pub(crate) database: String,
    /// Statements of the last publication.
    pub(crate) recorder: Arc<Recorder>,
}

/// Keeps what is sent, and panics at a chosen step, which is how a process dies here: at that very instruction.
#[derive(Default)]
pub(crate) struct Recorder {
    statements: Mutex<Vec<String>>,
    steps: AtomicU64,
    die_at: Mutex<Option<u64>>,
}

impl Recorder {
    pub(crate) fn statements(&self) -> Vec<String> {
        self.statements.lock().unwrap().clone()
    }

    fn reset(&self, die_at: Option<u64>) {
        self.statements.lock().unwrap().clear();
        self.steps.store(0, Ordering::SeqCst);
        *self.die_at.lock().unwrap() = die_at;
    }
}

impl PublishObserver for Recorder {
    fn statement(&self, sql: &str) {
        self.statements.lock().unwrap().push(sql.to_owned());
    }

    fn step(&self, name: &str) {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        let die = *self.die_at.lock().unwrap() == Some(step);
        assert!(!die, "killed behind step {step}: {name}");
    }
}

/// How a publication ended.
pub(crate) enum End {
    Report(PublishReport),
    Error(tidemill_publish::Error),
    Killed,
}

impl World {
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let emulator = Emulator::shared();
        let proxy = Proxy::before(&emulator).await;
        let folder = tempfile::tempdir().unwrap();
        let place = LakeSettings {
            url: url::Url::from_directory_path(folder.path().join("lake")).unwrap(),
            options: BTreeMap::new(),
        };
        let maintenance = MaintenanceSettings::default();
        let lake = Lake::connect(&place, &maintenance, Clock::system()).unwrap();
        let snowflake = SnowflakeSettings {
            account: "TMORG-TMTEST".into(),
            user: "LOADER".into(),
            role: Some("TIDEMILL_LOADER".into()),
            warehouse: Some("LOAD_WH".into()),
            url: Some(url::Url::parse(&proxy.url).unwrap()),
            auth: SnowflakeAuth::Password(Secret::new(PASSWORD)),
            databases: BTreeMap::new(),
            statement_timeout: std::time::Duration::from_mins(1),
            session_parameters: BTreeMap::from([("nop_regexes".to_owned(), json!(["^\\s*REMOVE\\b"]))]),
        };
        let settings = Settings {
            name: "test".into(),
            project_dir: folder.path().to_path_buf(),
            models_dir: folder.path().to_path_buf(),
            target: "test".into(),
            kafka: None,
            lake: place,
            warehouse: WarehouseSettings::Snowflake(Box::new(snowflake)),
            collect: None,
            registry: None,
            sinks: tidemill_project::config::SinkSettings::default(),
            ingest: IngestSettings::default(),
            transform: TransformSettings::default(),
            maintenance,
        };
        let database = format!("DB{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        Self {
            _folder: folder,
            emulator,
            proxy,
            settings: Arc::new(settings),
            models: Models { lake },
            database,
            recorder: Arc::default(),
        }
    }

    /// Asks the emulator for its clock, with `clock` as ours.
    pub(crate) async fn probe(&self, clock: Clock) -> ClockReading {
        let WarehouseSettings::Snowflake(snowflake) = &self.settings.warehouse else { panic!("a world has Snowflake") };
        let lake = Lake::connect(&self.settings.lake, &self.settings.maintenance, clock).unwrap();
        let sink = SnowflakeSink::new(snowflake.as_ref().clone(), lake);
        sink.probe(&self.database).await.unwrap().expect("the emulator says the time")
    }

    pub(crate) fn publication(&self, model: &str) -> Publication {
        publication(&self.database, model)
    }

    pub(crate) fn request(&self, models: &[&str]) -> PublishRequest {
        request(&self.database, models)
    }

    pub(crate) async fn build(&self, model: &str, batches: &[&str], rows: &[Row]) {
        self.models.build(model, batches, rows).await;
    }

    /// Puts records into the lake's quarantine: source and class.
    pub(crate) async fn quarantine(&self, records: &[(&str, &str)]) {
        let text = |pick: fn(&(&str, &str)) -> String| -> arrow::array::ArrayRef {
            Arc::new(records.iter().map(|record| Some(pick(record))).collect::<arrow::array::StringArray>())
        };
        let columns = [("source", text(|record| record.0.to_owned())), ("class", text(|record| record.1.to_owned()))];
        let rows =
            arrow::array::RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
                .unwrap();
        let spec = tidemill_lake::TableSpec {
            id: tidemill_lake::TableId::quarantine(),
            schema: rows.schema(),
            partition_columns: Vec::new(),
            bloom_columns: Vec::new(),
            description: String::new(),
        };
        let mut table = self.models.lake.open_or_create(&spec, "test").await.unwrap();
        let part = tidemill_lake::PartitionedBatch {
            partition_values: BTreeMap::new(),
            batches: vec![rows],
            tags: BTreeMap::new(),
        };
        let add = table.write_files(vec![part]).await.unwrap();
        let note = tidemill_lake::metadata::CommitNote {
            commit_id: self.models.lake.clock().new_id(),
            run_id: "test".into(),
            act: tidemill_lake::metadata::Act::Create,
        };
        let request = tidemill_lake::CommitRequest {
            add,
            remove: Vec::new(),
            txns: BTreeMap::new(),
            operation: "WRITE",
            data_change: true,
            note,
        };
        table.commit(request).await.unwrap();
    }

    /// Publishes as a process of its own would; `die_at` = the step behind which it is killed.
    pub(crate) async fn run(&self, request: PublishRequest, die_at: Option<u64>) -> End {
        self.recorder.reset(die_at);
        let (settings, lake, recorder) =
            (Arc::clone(&self.settings), self.models.lake.clone(), Arc::clone(&self.recorder));
        let process = tokio::spawn(async move {
            tidemill_publish::publish(&settings, &lake, request, recorder.as_ref(), &CancellationToken::new()).await
        });
        let end = match process.await {
            Ok(Ok(report)) => End::Report(report),
            Ok(Err(error)) => End::Error(error),
            Err(error) if error.is_panic() => End::Killed,
            Err(error) => panic!("{error}"),
        };
        crate::invariants::hold(&self.recorder.statements());
        end
    }

    pub(crate) async fn publish(&self, models: &[&str]) -> PublishReport {
        self.report(self.request(models)).await
    }

    pub(crate) async fn report(&self, request: PublishRequest) -> PublishReport {
        match self.run(request, None).await {
            End::Report(report) => report,
            End::Error(error) => panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)),
            End::Killed => panic!("nobody asked to be killed"),
        }
    }

    /// Asks the target's database; `$DB` stands for its name.
    pub(crate) fn ask(&self, sql: &str) -> Vec<Vec<Value>> {
        self.emulator.ask(&self.database, &sql.replace("$DB", &self.database))
    }

    /// User and minutes of a target, sorted.
    pub(crate) fn rows(&self, model: &str) -> Vec<(String, i64)> {
        let rows = self.ask(&format!("SELECT USER_ID, MINUTES FROM $DB.MARTS.{model} ORDER BY 1, 2"));
        rows.iter().map(|row| (row[0].as_str().unwrap().to_owned(), row[1].as_i64().unwrap())).collect()
    }

    /// `SEQ` of all ledger rows of a target.
    pub(crate) fn ledger(&self, model: &str) -> Vec<i64> {
        let label = format!("MARTS.{}", model.to_uppercase());
        let rows =
            self.ask(&format!("SELECT SEQ FROM $DB.OPS.TIDEMILL_LEDGER WHERE TARGET_TABLE = '{label}' ORDER BY SEQ"));
        rows.iter().map(|row| row[0].as_i64().unwrap()).collect()
    }
}

#[async_trait]
impl Fixture for World {
    fn models(&self) -> &Models {
        &self.models
    }

    fn database(&self) -> &str {
        &self.database
    }

    async fn publish(&self, request: PublishRequest) -> Result<PublishReport> {
        // Not through `run`: two may race, and one recorder cannot tell their statements apart.
        let cancel = CancellationToken::new();
        tidemill_publish::publish(&self.settings, &self.models.lake, request, &Silent, &cancel).await
    }

    async fn target(&self, model: &str) -> Vec<(String, i64)> {
        self.rows(model)
    }
}
