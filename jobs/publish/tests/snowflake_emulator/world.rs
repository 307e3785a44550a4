//! A lake in a folder, models in it, and publications into a fresh database of the emulator.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};
use tidemill_lake::metadata::{Act, CommitNote, TransformNote};
use tidemill_lake::{CommitRequest, Lake, PartitionedBatch, TableId, TableSpec};
use tidemill_project::clock::Clock;
use tidemill_project::config::{
    IngestSettings, LakeSettings, MaintenanceSettings, Settings, SnowflakeAuth, SnowflakeSettings, TransformSettings,
    WarehouseSettings,
};
use tidemill_project::{Location, Secret};
use tidemill_publish::{
    BATCH_COLUMN, Publication, PublishObserver, PublishReport, PublishRequest, Strategy, TargetTable,
};
use tokio_util::sync::CancellationToken;

use crate::emulator::{Emulator, Proxy};

pub(crate) const PASSWORD: &str = "very-secret-password";

/// One row of a model: batch, user, minutes.
pub(crate) type Row = (&'static str, Option<&'static str>, i64);

pub(crate) struct World {
    _folder: tempfile::TempDir,
    pub(crate) emulator: Arc<Emulator>,
    pub(crate) proxy: Proxy,
    pub(crate) settings: Arc<Settings>,
    pub(crate) lake: Lake,
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
            lake,
            database,
            recorder: Arc::default(),
        }
    }

    pub(crate) fn publication(&self, model: &str) -> Publication {
        Publication {
            model: TableId::model("main", model),
            model_name: model.into(),
            target: TargetTable { database: self.database.clone(), schema: "MARTS".into(), table: model.into() },
            unique_key: vec!["user_id".into()],
            strategy: Strategy::Merge,
            columns: None,
            json_columns: Vec::new(),
            location: Location::new("models.yml", 1, 1),
        }
    }

    /// Replaces whole batches of a model, as a microbatch build does.
    pub(crate) async fn build(&self, model: &str, batches: &[&str], rows: &[Row]) {
        let schema = Schema::new(vec![
            Field::new("user_id", DataType::Utf8, true),
            Field::new("minutes", DataType::Int64, true),
        ]);
        let parts = batches.iter().map(|batch| {
            let rows: Vec<_> = rows.iter().filter(|row| row.0 == *batch).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
            ];
            ((*batch).to_owned(), RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap())
        });
        self.build_batches(model, parts.collect()).await;
    }

    pub(crate) async fn build_batches(&self, model: &str, parts: Vec<(String, RecordBatch)>) {
        let mut fields: Vec<_> = parts[0].1.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new(BATCH_COLUMN, DataType::Utf8, true));
        let spec = TableSpec {
            id: TableId::model("main", model),
            schema: Arc::new(Schema::new(fields)),
            partition_columns: vec![BATCH_COLUMN.to_owned()],
            bloom_columns: Vec::new(),
            description: String::new(),
        };
        let mut table = self.lake.open_or_create(&spec, "test").await.unwrap();
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for (batch, rows) in parts {
            let partition_values = BTreeMap::from([(BATCH_COLUMN.to_owned(), Some(batch))]);
            remove.extend(table.files_of(&partition_values));
            if rows.num_rows() > 0 {
                let files = table.write_files(vec![PartitionedBatch {
                    partition_values,
                    batches: vec![rows],
                    tags: BTreeMap::new(),
                }]);
                add.extend(files.await.unwrap());
            }
        }
        let note = CommitNote {
            commit_id: self.lake.clock().new_id(),
            run_id: "build".into(),
            act: Act::Transform(TransformNote {
                watermark_us: Some(1_700_000_000_000_000),
                ..TransformNote::default()
            }),
        };
        let request = CommitRequest { add, remove, txns: BTreeMap::new(), operation: "WRITE", data_change: true, note };
        table.commit(request).await.unwrap();
    }

    pub(crate) fn request(&self, models: &[&str]) -> PublishRequest {
        PublishRequest {
            publications: models.iter().map(|model| self.publication(model)).collect(),
            run_id: "run-1".into(),
            full: false,
            dry_run: false,
        }
    }

    /// Publishes as a process of its own would; `die_at` = the step behind which it is killed.
    pub(crate) async fn run(&self, request: PublishRequest, die_at: Option<u64>) -> End {
        self.recorder.reset(die_at);
        let (settings, lake, recorder) = (Arc::clone(&self.settings), self.lake.clone(), Arc::clone(&self.recorder));
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
