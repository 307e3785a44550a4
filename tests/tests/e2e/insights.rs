//! What apps read from Redis, from the simulator through the shipped project to a real server: the rows of the model, with
//! their time to live, each version whole, whatever is killed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tidemill_tests::failpoints;
use tidemill_tests::process::Process;
use tidemill_tests::redis::Redis;
use tidemill_tests::wait::PATIENCE;

use crate::systems::{CLICKS, Scene, ZONER};

/// A pattern of keys and the rows that stand under it.
struct Keys {
    prefix: &'static str,
    ttl_s: i64,
    /// A row per key, a column per field, times as texts.
    rows: &'static str,
    documents: &'static [&'static str],
}

const INSIGHTS: Keys = Keys {
    prefix: "zoner:insights:",
    ttl_s: 604_800,
    rows: "select user_id, to_char(as_of, '%Y-%m-%dT%H:%M:%S%.6fZ') as as_of, tz, \
           cast(last_night_date as text) as last_night_date, cast(sleep_last_night_s as double) as sleep_last_night_s, \
           sleep_avg_7n_s, sleep_avg_prev_7n_s, sleep_change_7n_s, sleep_events_24h, meals_24h, light_24h, \
           to_char(last_sleep_at, '%Y-%m-%dT%H:%M:%S%.6fZ') as last_sleep_at, \
           to_char(last_meal_at, '%Y-%m-%dT%H:%M:%S%.6fZ') as last_meal_at, \
           to_char(last_light_at, '%Y-%m-%dT%H:%M:%S%.6fZ') as last_light_at, open_alerts from zoner_insights",
    documents: &["open_alerts"],
};

const FEATURES: Keys = Keys {
    prefix: "clicks:features:",
    ttl_s: 172_800,
    rows: "select user_id, to_char(as_of, '%Y-%m-%dT%H:%M:%S%.6fZ') as as_of, clicks_1h, clicks_24h, active_minutes_24h, \
           orders_24h from clicks_user_features_latest",
    documents: &[],
};

impl Keys {
    /// The server holds the model's rows, each under its key, and each will end.
    fn compare(&self, scene: &Scene, redis: &Redis) -> Result<BTreeMap<String, Value>> {
        let mut expected = BTreeMap::new();
        for mut row in scene.tidemill.query(self.rows)? {
            for name in self.documents {
                let text = row[*name].as_str().with_context(|| format!("{name} is a text"))?.to_owned();
                row[*name] = serde_json::from_str(&text)?;
            }
            let user = row["user_id"].as_str().map_or_else(|| row["user_id"].to_string(), str::to_owned);
            expected.insert(format!("{}{user}", self.prefix), comparable(row));
        }
        let found: BTreeMap<String, Value> = redis
            .values(&format!("{}*", self.prefix))?
            .into_iter()
            .map(|(key, value)| (key, comparable(value)))
            .collect();
        let names = found.keys().chain(expected.keys());
        let differing: Vec<&String> = names.filter(|key| found.get(*key) != expected.get(*key)).take(3).collect();
        ensure!(
            differing.is_empty(),
            "{} keys for {} rows, e.g. {:?} instead of {:?}",
            found.len(),
            expected.len(),
            differing.iter().map(|key| found.get(*key)).collect::<Vec<_>>(),
            differing.iter().map(|key| expected.get(*key)).collect::<Vec<_>>()
        );
        for key in found.keys().take(5) {
            let ttl_s = redis.ttl_s(key)?;
            ensure!((1..=self.ttl_s).contains(&ttl_s), "{key} lives {ttl_s} s, not up to {}", self.ttl_s);
        }
        Ok(found)
    }
}

/// Numbers as doubles: `7` and `7.0` are one value.
fn comparable(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, comparable(value))).collect(),
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        other => other,
    }
}

/// Looks at the published version and some keys at one instant, again and again, for as long as it lives.
struct Watcher {
    process: Process,
    log: std::path::PathBuf,
    num_keys: usize,
}

impl Watcher {
    fn start(redis: &Redis, keys: &[String], folder: &Path) -> Result<Self> {
        let log = folder.join("watched");
        let head = "tidemill:published:zoner:insights:{user_id}";
        let script = "local seen = {redis.call('HGET', ARGV[1], 'record') or '-'} \
                      for _, key in ipairs(KEYS) do table.insert(seen, redis.call('GET', key) or '-') end return seen";
        let mut command = redis.repeated()?;
        command.args(["EVAL", script, &keys.len().to_string()]).args(keys).arg(head);
        Ok(Self { process: Process::start("redis-cli", &mut command, &log)?, log, num_keys: keys.len() })
    }

    /// Ends it; of one version it has seen one state alone, and of no person an older one after a newer one. Returns the number
    /// of versions.
    fn finish(self) -> Result<usize> {
        drop(self.process);
        let text = fs::read_to_string(&self.log)?;
        let lines: Vec<&str> = text.lines().collect();
        let mut states: BTreeMap<u64, &[&str]> = BTreeMap::new();
        let mut newest: Vec<String> = vec![String::new(); self.num_keys];
        let looks: Vec<&[&str]> = lines.chunks_exact(self.num_keys + 1).collect();
        // The end may have come in the middle of the last one.
        for look in &looks[..looks.len().saturating_sub(1)] {
            let record: Value = serde_json::from_str(look[0]).with_context(|| format!("no record: {}", look[0]))?;
            let version = record["version"].as_u64().context("a record names a version")?;
            let values = &look[1..];
            let known = states.entry(version).or_insert(values);
            ensure!(*known == values, "version {version} was seen as {known:?} and as {values:?}");
            for (value, newest) in values.iter().zip(&mut newest) {
                let row: Value = serde_json::from_str(value).with_context(|| format!("not whole: {value}"))?;
                let as_of = row["as_of"].as_str().context("insights have an instant")?;
                ensure!(as_of >= newest.as_str(), "{as_of} came after {newest}");
                as_of.clone_into(newest);
            }
        }
        Ok(states.len())
    }
}

/// Z21, X29.
#[test]
fn redis_holds_the_insights_of_every_person_whole_and_newest_whatever_is_killed() -> Result<()> {
    let redis = Redis::start()?;
    let scene = Scene::open_with("zoner", &ZONER, &[], |project| project.redis(&redis.url()))?;
    let points = failpoints::named("publish.redis.")?;
    let part = scene.num_records / (points.len() as u64 + 2);
    scene.step(part)?;
    let first = INSIGHTS.compare(&scene, &redis)?;
    let watched: Vec<String> = first.keys().take(8).cloned().collect();
    ensure!(watched.len() == 8, "few people: {watched:?}");
    let watcher = Watcher::start(&redis, &watched, scene.project.folder())?;
    for point in &points {
        scene.tidemill.succeed(&["ingest", "--select", "zoner", "--max-records", &part.to_string()])?;
        scene.tidemill.succeed(&["build"])?;
        let mut publisher = scene.tidemill.clone().crash_at(point, 1).spawn(&["publish"])?;
        let status = publisher.wait(PATIENCE)?;
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        ensure!(killed, "{point} was never reached: {status}\n{}", publisher.output()?);
        scene.tidemill.succeed(&["publish"])?;
        INSIGHTS.compare(&scene, &redis)?;
    }
    scene.drain()?;
    scene.verify()?;
    let last = INSIGHTS.compare(&scene, &redis)?;
    ensure!(last != first, "nothing changed on the way");
    let versions = watcher.finish()?;
    ensure!(versions >= 2, "the watcher saw {versions} versions");
    scene.balance_from_outside_with(Some(&redis))?;
    let written = redis.ask(&["HGET", "tidemill:published:zoner:insights:{user_id}", "record"])?;
    scene.tidemill.succeed(&["build", "--full-refresh"])?;
    let report = scene.tidemill.json(&["publish", "--select", "zoner_insights"])?;
    let tables = report["report"]["tables"].as_array().context("a report lists tables")?;
    let to_redis = tables.iter().find(|table| table["sink"] == "redis").context("redis is a sink")?;
    let counts = ["inserted", "updated", "deleted"].map(|name| to_redis["counts"][name].as_u64());
    ensure!(counts == [Some(0); 3], "a rebuild changes no value: {to_redis}, {written:?}");
    ensure!(INSIGHTS.compare(&scene, &redis)? == last, "a rebuild changed what apps read");
    Ok(())
}

/// C24.
#[test]
fn redis_holds_the_newest_features_of_every_user() -> Result<()> {
    let redis = Redis::start()?;
    let vars = ["clicks_user_features_enabled: true"];
    let scene = Scene::open_with("clicks", &CLICKS, &vars, |project| project.redis(&redis.url()))?;
    scene.step(scene.num_records / 2)?;
    FEATURES.compare(&scene, &redis)?;
    scene.drain()?;
    let last = FEATURES.compare(&scene, &redis)?;
    ensure!(!last.is_empty(), "no user has features");
    scene.balance_from_outside_with(Some(&redis))
}
