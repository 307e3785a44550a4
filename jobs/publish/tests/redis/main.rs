//! Models into a real Redis server. Needs `tests/servers/install redis`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/rows.rs"]
mod rows;
mod server;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the parts that warehouses need")]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_lake::{Lake, TableId};
use tidemill_project::clock::Clock;
use tidemill_project::config::{
    IngestSettings, LakeSettings, MaintenanceSettings, RedisSettings, Settings, SinkSettings, TransformSettings,
    WarehouseSettings,
};
use tidemill_project::{Diagnostic as _, ErrorKind, Secret};
use tidemill_publish::{
    ChangeCounts, CheckedTable, Emit, Outcome, Publication, PublishObserver, PublishRequest, PublishedTable, Result,
    Silent, Target,
};
use tokio_util::sync::CancellationToken;

use crate::rows::{messages, request_of, rows, us};
use crate::server::Server;
use crate::support::Models;

const COLUMNS: &str = "user_id BIGINT, as_of TS, sleep_last_night_s DECIMAL, open_alerts JSON";
const AT: &str = "2025-03-09T12:00:00Z";

struct World {
    _folder: tempfile::TempDir,
    server: Server,
    settings: Settings,
    models: Models,
}

impl World {
    fn new() -> Self {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
        let place = |name: &str| LakeSettings {
            url: url::Url::from_directory_path(folder.path().join(name)).unwrap(),
            options: BTreeMap::new(),
        };
        let maintenance = MaintenanceSettings::default();
        let lake = Lake::connect(&place("lake"), &maintenance, Clock::system()).unwrap();
        let redis = RedisSettings { url: Secret::new(server.url()) };
        let settings = Settings {
            name: "test".into(),
            project_dir: folder.path().to_path_buf(),
            models_dir: folder.path().to_path_buf(),
            target: "test".into(),
            kafka: None,
            lake: place("lake"),
            warehouse: WarehouseSettings::Local(place("warehouse")),
            sinks: SinkSettings { redis: Some(redis), ..SinkSettings::default() },
            collect: None,
            registry: None,
            ingest: IngestSettings::default(),
            transform: TransformSettings::default(),
            maintenance,
        };
        Self { _folder: folder, server, settings, models: Models { lake } }
    }

    async fn build(&self, all: &[(u32, f64)]) {
        let all = all.iter().map(|(user, slept)| {
            json!({"user_id": user, "as_of": AT, "sleep_last_night_s": slept, "open_alerts": r#"["missed_nap"]"#})
        });
        let rows = rows(COLUMNS, &Value::Array(all.collect()));
        self.models.build_at("zoner_insights", vec![("d".to_owned(), rows)], Some(us(AT))).await;
    }

    async fn run(&self, request: PublishRequest, observer: &dyn PublishObserver) -> Result<PublishedTable> {
        let cancel = CancellationToken::new();
        let report = tidemill_publish::publish(&self.settings, &self.models.lake, request, observer, &cancel).await?;
        Ok(report.tables.into_iter().next().unwrap())
    }

    async fn publish(&self) -> PublishedTable {
        self.run(request_of(&insights()), &Silent).await.unwrap()
    }

    async fn check(&self) -> CheckedTable {
        let cancel = CancellationToken::new();
        tidemill_publish::check(&self.settings, &self.models.lake, &[insights()], &cancel).await.unwrap().remove(0)
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await.unwrap()
    }

    async fn value(&self, user: u32) -> Option<String> {
        self.ask(&["GET", &format!("zoner:insights:{user}")]).await
    }
}

/// Z21.
fn insights() -> Publication {
    let pattern = "zoner:insights:{user_id}";
    let mut publication =
        messages("zoner_insights", Target::Keys { keys: pattern.into() }, &["user_id"], Emit::OnChange, Some(pattern));
    publication.json_columns = vec!["open_alerts".into()];
    publication.messages.as_mut().unwrap().ttl = Some(Duration::from_hours(168));
    publication
}

/// What the key of a user holds, in the form of an answer of the server.
#[expect(clippy::unnecessary_wraps, reason = "compared with answers that may be empty")]
fn value(user: u32, slept: &str) -> Option<String> {
    Some(format!(
        r#"{{"user_id":{user},"as_of":"2025-03-09T12:00:00.000000Z","sleep_last_night_s":{slept},"open_alerts":["missed_nap"]}}"#
    ))
}

fn counts(inserted: u64, updated: u64, deleted: u64) -> ChangeCounts {
    ChangeCounts { inserted, updated, deleted }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_become_values_that_live_for_a_week_and_go_with_their_rows() {
    let world = World::new();
    world.build(&[(1, 27_000.5), (2, 100.0)]).await;
    assert_eq!(world.publish().await.counts, counts(2, 0, 0));
    assert_eq!((world.value(1).await, world.value(2).await), (value(1, "27000.500000"), value(2, "100.000000")));
    let ttl: i64 = world.ask(&["TTL", "zoner:insights:1"]).await;
    assert!((604_700..=604_800).contains(&ttl), "{ttl}");
    world.build(&[(1, 28_000.0)]).await;
    assert_eq!(world.publish().await.counts, counts(0, 1, 1));
    assert_eq!((world.value(1).await, world.value(2).await), (value(1, "28000.000000"), None));
    assert_eq!(world.publish().await.outcome, Outcome::UpToDate);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_version_stands_beside_the_values() {
    let world = World::new();
    world.build(&[(1, 1.0)]).await;
    let published = world.publish().await;
    let record: String = world.ask(&["HGET", "tidemill:published:zoner:insights:{user_id}", "record"]).await;
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!((record["version"].as_u64(), record["seq"].as_u64()), (published.to.map(|version| version.0), Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_made_again_with_the_same_rows_writes_nothing() {
    let world = World::new();
    world.build(&[(1, 1.0), (2, 2.0)]).await;
    world.publish().await;
    world.models.lake.drop_table(&TableId::model("main", "zoner_insights")).await.unwrap();
    world.build(&[(1, 1.0), (3, 3.0)]).await;
    assert_eq!(world.publish().await.counts, counts(1, 0, 1), "2 left, 3 came");
    assert_eq!((world.value(2).await, world.value(3).await), (None, value(3, "3.000000")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_data_gets_all_of_it_again() {
    let world = World::new();
    world.build(&[(1, 1.0), (2, 2.0)]).await;
    world.publish().await;
    let _: String = world.ask(&["FLUSHALL"]).await;
    assert_eq!(world.publish().await.counts, counts(2, 0, 0));
    assert_eq!(world.value(2).await, value(2, "2.000000"));
}

/// Dies at a step, as a process does: at that very instruction.
struct DiesAt(&'static str);

impl PublishObserver for DiesAt {
    fn step(&self, name: &str) {
        assert_ne!(name, self.0, "killed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_next_run_makes_it_whole() {
    for step in ["after_take", "after_rows", "after_sent_rows", "after_commit"] {
        let world = World::new();
        let many: Vec<(u32, f64)> = (0..2_500).map(|user| (user, 1.0)).collect();
        world.build(&many).await;
        world.publish().await;
        let changed: Vec<(u32, f64)> = (100..2_600).map(|user| (user, 2.0)).collect();
        world.build(&changed).await;
        let (settings, lake) = (world.settings.clone(), world.models.lake.clone());
        let name: &'static str = Box::leak(format!("publish.redis.{step}").into_boxed_str());
        let process = tokio::spawn(async move {
            let cancel = CancellationToken::new();
            tidemill_publish::publish(&settings, &lake, request_of(&insights()), &DiesAt(name), &cancel).await
        });
        assert!(process.await.is_err_and(|error| error.is_panic()), "{name}");
        world.publish().await;
        let checked = world.check().await;
        assert!(checked.is_equal() && checked.target_rows == 2_500, "{name}: {checked:?}");
        assert_eq!((world.value(0).await, world.value(100).await), (None, value(100, "2.000000")), "{name}");
    }
}

/// Stops between taking the keys and writing, and lets another publisher go first.
struct Overtaken<'a> {
    world: &'a World,
    done: std::sync::atomic::AtomicBool,
}

impl PublishObserver for Overtaken<'_> {
    fn step(&self, name: &str) {
        let is_first = name == "publish.redis.after_take" && !self.done.swap(true, std::sync::atomic::Ordering::SeqCst);
        if is_first {
            let handle = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| {
                handle.block_on(async {
                    self.world.build(&[(1, 9.0)]).await;
                    self.world.publish().await;
                });
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_never_overwrites_a_newer_one() {
    let world = World::new();
    world.build(&[(1, 1.0)]).await;
    world.publish().await;
    world.build(&[(1, 2.0)]).await;
    let overtaken = Overtaken { world: &world, done: std::sync::atomic::AtomicBool::new(false) };
    world.run(request_of(&insights()), &overtaken).await.unwrap();
    assert_eq!(world.value(1).await, value(1, "9.000000"), "the slower publisher wrote nothing and planned again");
    assert!(world.check().await.is_equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_foreign_values_and_full_repairs_them() {
    let world = World::new();
    world.build(&[(1, 1.0), (2, 2.0)]).await;
    world.publish().await;
    let _: String = world.ask(&["SET", "zoner:insights:1", "{}"]).await;
    let _: String = world.ask(&["SET", "zoner:insights:99", "{}"]).await;
    let checked = world.check().await;
    assert_eq!((checked.missing, checked.different, checked.extra), (0, 1, 1), "{checked:?}");
    let mut full = request_of(&insights());
    full.full = true;
    world.run(full, &Silent).await.unwrap();
    assert_eq!(world.value(1).await, value(1, "1.000000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tells_the_servers_version() {
    let world = World::new();
    let sink = tidemill_publish::RedisSink::new(world.settings.sinks.redis.clone().unwrap(), world.models.lake.clone());
    assert!(sink.probe().await.unwrap().starts_with("6."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_asks_for_a_retry_and_tells_no_password() {
    let mut world = World::new();
    world.build(&[(1, 1.0)]).await;
    world.settings.sinks.redis = Some(RedisSettings { url: Secret::new("redis://:very-secret@127.0.0.1:1/0") });
    let error = world.run(request_of(&insights()), &Silent).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!format!("{error} {error:?}").contains("very-secret"));
}
