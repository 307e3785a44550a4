//! Publishing into topics of a real broker: what `read_committed` readers see, whatever was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::Value;
use tidemill_tests::logins::{Plan, Traffic, Truth, traffic};
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::tidemill::{Tidemill, exit};
use tidemill_tests::topics::Read;
use tidemill_tests::wait::{self, PATIENCE};
use tidemill_tests::{failpoints, installed, shared};

use crate::balance::{Scene, assert_models, drain};

const MODELS: &str = "logins_enriched+";
const RANDOM_KILLS: usize = 12;

/// Topics that the two models publish to beside the warehouse.
struct Outputs {
    logins: String,
    usage: String,
}

impl Outputs {
    fn new() -> Self {
        Self { logins: shared::unique_name("processed_logins"), usage: shared::unique_name("aggregated_usage") }
    }

    /// The shipped models with these topics in place of what they publish to.
    fn publish_from(&self, builder: ProjectBuilder) -> Result<ProjectBuilder> {
        let logins = format!("{{to: kafka, topic: {}, key: user_id}}", self.logins);
        let usage = format!("{{to: kafka, topic: {}, emit: on_close}}", self.usage);
        let builder = patch(builder, "dbt-like-models/models/staging/logins/logins_enriched.yml", &logins)?;
        patch(builder, "dbt-like-models/models/marts/logins/logins_usage_window.yml", &usage)
    }
}

/// Replaces the list under `publish:` by one entry.
fn patch(builder: ProjectBuilder, path: &str, entry: &str) -> Result<ProjectBuilder> {
    let text = fs::read_to_string(installed::repository().join(path))?;
    let mut lines = Vec::new();
    let mut skipped_below = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match skipped_below {
            Some(below) if indent > below || line.trim().is_empty() => continue,
            _ => skipped_below = None,
        }
        lines.push(line.to_owned());
        if line.trim() == "publish:" {
            lines.push(format!("{}- {entry}", " ".repeat(indent + 2)));
            skipped_below = Some(indent);
        }
    }
    ensure!(lines.iter().any(|line| line.contains(entry)), "{path} publishes nothing");
    Ok(builder.file(path, &format!("{}\n", lines.join("\n"))))
}

/// Every login was told of once; of every window the newest word is the truth, and no word was said twice in a row.
fn assert_told(scene: &Scene, outputs: &Outputs, truth: &Truth) -> Result<()> {
    let mut keys = BTreeSet::new();
    for Read { value, .. } in scene.topics.read_committed(&outputs.logins)? {
        let login: Value = serde_json::from_slice(&value.context("a login has no end")?)?;
        let key = login["event_key"].as_str().context("a login has a key")?.to_owned();
        ensure!(keys.insert(key), "a login was told of twice: {login}");
    }
    ensure!(i64::try_from(keys.len())? == truth.landed, "{} logins, not {}", keys.len(), truth.landed);
    let mut newest: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for Read { key, value } in scene.topics.read_committed(&outputs.usage)? {
        let (key, value) = (key.context("a window has a key")?, value.context("no window goes")?);
        ensure!(newest.get(&key) != Some(&value), "said twice: {}", String::from_utf8_lossy(&value));
        newest.insert(key, value);
    }
    let mut windows = BTreeMap::new();
    for value in newest.values() {
        let window: Value = serde_json::from_slice(value)?;
        ensure!(window.get("is_final").is_none(), "becoming final is nobody's news: {window}");
        let start = window["current_time"].as_f64().context("a window has an end")? - 10.0;
        #[expect(clippy::cast_possible_truncation, reason = "seconds of 2025")]
        windows.insert(start as i64, window["message_count"].as_i64().context("a window has a count")?);
    }
    ensure!(windows == truth.windows, "{} windows instead of {}", windows.len(), truth.windows.len());
    Ok(())
}

fn kill_at(tidemill: &Tidemill, point: &str) -> Result<()> {
    let mut publisher = tidemill.clone().crash_at(point, 1).spawn(&["publish", "--select", MODELS])?;
    let status = publisher.wait(PATIENCE)?;
    let killed = status.signal() == Some(Signal::SIGKILL as i32);
    ensure!(killed, "{point} was never reached: {status}\n{}", publisher.output()?);
    Ok(())
}

#[test]
fn readers_of_a_topic_see_each_row_once_whatever_is_killed() -> Result<()> {
    let scene = Scene::new(2)?;
    let outputs = Outputs::new();
    let mut random = ChaCha8Rng::seed_from_u64(51);
    let Traffic { records, truth } = traffic(&Plan::new(51, 20_000, 2));
    let project = outputs.publish_from(scene.project())?.build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    let points = failpoints::named("publish.kafka.")?;
    let rounds = points.len() + RANDOM_KILLS;
    for (round, part) in records.chunks(records.len().div_ceil(rounds)).enumerate() {
        producer.deliver(&scene.topic, part)?;
        drain(&tidemill)?;
        tidemill.succeed(&["build", "--select", MODELS])?;
        if let Some(point) = points.get(round) {
            kill_at(&tidemill, point)?;
        } else {
            let mut publisher = tidemill.spawn(&["publish", "--select", MODELS])?;
            wait::pause(Duration::from_millis(50 + random.next_u64() % 900));
            publisher.kill()?;
        }
    }
    tidemill.succeed(&["publish", "--select", MODELS])?;
    assert_models(&tidemill, &truth)?;
    assert_told(&scene, &outputs, &truth)?;
    tidemill.succeed(&["publish", "--check", "--select", MODELS])?;
    tidemill.succeed(&["build", "--full-refresh", "--select", MODELS])?;
    tidemill.succeed(&["publish", "--select", MODELS])?;
    assert_told(&scene, &outputs, &truth)
}

#[test]
fn two_publishers_at_once_tell_readers_everything_once() -> Result<()> {
    let scene = Scene::new(2)?;
    let outputs = Outputs::new();
    let Traffic { records, truth } = traffic(&Plan::new(52, 4_000, 2));
    let project = outputs.publish_from(scene.project())?.build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    for part in records.chunks(records.len().div_ceil(4)) {
        producer.deliver(&scene.topic, part)?;
        drain(&tidemill)?;
        tidemill.succeed(&["build", "--select", MODELS])?;
        let mut publishers = [tidemill.spawn(&["publish", "--select", MODELS])?, tidemill.spawn(&["publish", "--select", MODELS])?];
        for publisher in &mut publishers {
            let status = publisher.wait(PATIENCE)?;
            // One may find that the other was faster; it says so, and a scheduler would come back.
            ensure!(matches!(status.code(), Some(exit::DONE | exit::RETRY)), "{status}\n{}", publisher.output()?);
        }
    }
    tidemill.succeed(&["publish", "--select", MODELS])?;
    assert_told(&scene, &outputs, &truth)
}
