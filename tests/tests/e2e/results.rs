//! What the shipped models send to topics: the messages of the systems' pages, field for field.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::shared;
use tidemill_tests::tidemill::Tidemill;
use tidemill_tests::topics::{Read, Topics};

const VARS: &str =
    "{zentry_enabled: true, zoner_topics_enabled: true, logins_topics_enabled: true, zentry_topics_enabled: true}";
const TOPICS: [&str; 5] =
    ["zoner.alerts", "processed-logins", "aggregated-usage", "zentry.index.sleep_entries", "zentry.index.feeds"];

/// The shipped project with results on topics of this test alone; records come from files.
struct Stage {
    project: Project,
    topics: Topics,
    suffix: String,
}

impl Stage {
    fn new(seed: &str) -> Result<Self> {
        let bootstrap = shared::kafka()?;
        let suffix = shared::unique_name("results");
        let renamed: String = TOPICS.map(|topic| format!("\"{topic}\" = \"{topic}.{suffix}\"\n")).concat();
        let settings = format!(
            "name = \"{suffix}\"\ndefault_target = \"test\"\n[target.test.kafka]\n\"bootstrap.servers\" = \"{bootstrap}\"\n\
             [target.test.lake]\nurl = \"lake\"\n[target.test.warehouse]\ntype = \"local\"\npath = \"warehouse\"\n\
             [target.test.sinks.topics]\n{renamed}"
        );
        let project = ProjectBuilder::shipped()
            .file("tidemill.toml", &settings)
            .file("dbt-like-models/seeds/user_time_zones.csv", &format!("system,user_id,valid_from,tz\n{seed}"))
            .build()?;
        Ok(Self { project, topics: Topics::connect(&bootstrap)?, suffix })
    }

    fn tidemill(&self) -> Tidemill {
        self.project.tidemill()
    }

    /// Lands records from a file at a clock, builds what follows from them and publishes it.
    fn cycle(&self, source: &str, records: &[Value], as_of: &str, models: &str) -> Result<()> {
        let tidemill = self.tidemill();
        let clock = ["--vars", VARS, "--as-of", as_of];
        let file = self.project.folder().join("records.jsonl");
        let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
        fs::write(&file, lines.join("\n"))?;
        let file = file.to_str().context("a temporary folder has a plain name")?;
        tidemill.succeed(&[&clock[..], &["ingest", "--from-files", file, "--select", source]].concat())?;
        tidemill.succeed(&[&clock[..], &["build", "--select", models]].concat())?;
        tidemill.succeed(&[&clock[..], &["publish", "--select", models]].concat())?;
        tidemill.succeed(&[&clock[..], &["publish", "--check", "--select", models]].concat())?;
        Ok(())
    }

    /// All messages of a topic so far: key and value.
    fn read(&self, topic: &str) -> Result<Vec<(String, Option<Value>)>> {
        let messages = self.topics.read_committed(&format!("{topic}.{}", self.suffix))?;
        messages
            .into_iter()
            .map(|Read { key, value }| {
                let key = String::from_utf8(key.context("a message has a key")?)?;
                Ok((key, value.map(|value| serde_json::from_slice(&value)).transpose()?))
            })
            .collect()
    }
}

/// GZ10 (Z15, Z22): a missed window is told when it falls due, and taken back when late light turns it into met.
#[test]
fn gz10_a_missed_window_is_told_and_taken_back() -> Result<()> {
    let stage = Stage::new("zoner,55,2025-01-01T00:00:00Z,Europe/Berlin\n")?;
    let event = |activity: &str, at: &str| json!({"user_id": 55, "activity": activity, "timestamp": at});
    let cycle = |record: Value| {
        stage.cycle("zoner.user_activity", &[record], "2025-03-10T09:15:00Z", "+zoner_key_events +zoner_insights")
    };
    cycle(event("meal", "2025-03-09T20:00:00Z"))?;
    let id = "55/missed_morning_light/2025-03-10T05:00:00.000000Z";
    let alert = json!({"alert_id": id, "user_id": 55, "event_type": "missed_morning_light",
        "window_start": "2025-03-10T05:00:00.000000Z", "window_end": "2025-03-10T09:00:00.000000Z",
        "local_date": "2025-03-10", "tz": "Europe/Berlin", "rule_source": "default", "outcome": "missed",
        "due_at": "2025-03-10T09:15:00.000000Z", "recommendation": "evening_light_adjustment", "flight_id": null});
    let told = (id.to_owned(), Some(alert));
    ensure!(stage.read("zoner.alerts")? == [told.clone()], "{:?}", stage.read("zoner.alerts")?);
    cycle(event("light_exposure", "2025-03-10T08:59:59.5Z"))?;
    ensure!(stage.read("zoner.alerts")? == [told, (id.to_owned(), None)], "{:?}", stage.read("zoner.alerts")?);
    Ok(())
}

/// L12, L13 (GL1): a login with its readable times, and the window that it lies in when the window is closed.
#[test]
fn gl1_a_login_and_its_window_have_the_fields_of_the_page() -> Result<()> {
    let stage = Stage::new("")?;
    let login = json!({"user_id": "9f0c2a7e-1111-4000-8000-000000000001", "app_version": "2.4.1", "device_type": "android",
        "ip": "203.0.113.9", "locale": "MI", "device_id": "5c1d8f00-2222-4000-8000-000000000002", "timestamp": "1730570189"});
    let models = "logins_enriched logins_usage_window";
    stage.cycle("logins.user_login", &[login], "2024-11-02T17:56:29.5Z", models)?;
    let sent = stage.read("processed-logins")?;
    let [(key, Some(message))] = sent.as_slice() else { anyhow::bail!("one login is sent: {sent:?}") };
    ensure!(key == "9f0c2a7e-1111-4000-8000-000000000001");
    let mut message = message.clone();
    let processed = message["processed_timestamp"].take();
    ensure!(processed.as_str().is_some_and(|text| text.len() == "2024-11-02T17:56:31.204118".len()), "{processed}");
    let expected = json!({"user_id": "9f0c2a7e-1111-4000-8000-000000000001", "app_version": "2.4.1", "ip": "203.0.113.9",
        "locale": "MI", "device_id": "5c1d8f00-2222-4000-8000-000000000002", "timestamp": 1_730_570_189,
        "device_type": "android", "processed_timestamp": null, "readable_timestamp": "2024-11-02T17:56:29",
        "hour_of_day": 17, "time_zone": "UTC"});
    ensure!(message == expected, "{message}");
    ensure!(stage.read("aggregated-usage")?.is_empty(), "the window is open");
    let late = json!({"user_id": "u2", "app_version": "2.3.0", "device_type": "iOS", "ip": "203.0.113.8", "locale": "CA",
        "device_id": "d2", "timestamp": "1730570180"});
    stage.cycle("logins.user_login", &[late], "2024-11-02T17:56:30Z", models)?;
    let window = json!({"current_time": 1_730_570_190.0, "time_window": 10.0, "batch_size": 0.2,
        "location_stats": {"CA": 1, "MI": 1}, "device_stats": {"android": 1, "iOS": 1},
        "version_stats": {"2.3.0": 1, "2.4.1": 1}, "message_count": 2, "window_start": "2024-11-02T17:56:20.000000Z",
        "window_end": "2024-11-02T17:56:30.000000Z", "late_count": 0});
    let sent = stage.read("aggregated-usage")?;
    ensure!(sent == [("2024-11-02T17:56:20.000000Z".to_owned(), Some(window))], "{sent:?}");
    Ok(())
}

/// GE1, GE5 (E19 to E24): documents of both indices as an entry is logged, changed and deleted; every table of the warehouse
/// holds what its model does.
#[test]
fn ge1_an_entry_is_indexed_with_its_copy_and_both_end_with_it() -> Result<()> {
    let stage = Stage::new("")?;
    let models = "+zentry_feed +zentry_sleep_stats";
    let as_of = "2025-05-01T00:00:00Z";
    let follow = json!({"event": "follow_created", "occurred_at": "2025-04-30T05:00:00Z",
        "data": {"id": 77, "follower_id": 10, "followed_id": 20, "created_at": "2025-04-30T05:00:00Z"}});
    stage.cycle("zentry.follows", &[follow], as_of, models)?;
    let entry = |event: &str, duration: u32, updated_at: &str| {
        json!({"event": event, "occurred_at": updated_at, "data": {"id": 9001, "user_id": 20, "sleep_duration": duration,
            "sleep_start_at": "2025-04-29T22:30:00Z", "created_at": "2025-04-30T06:12:03.412Z", "updated_at": updated_at}})
    };
    let events = [
        entry("sleep_entry_created", 27_000, "2025-04-30T06:12:03.412Z"),
        entry("sleep_entry_updated", 28_800, "2025-04-30T07:00:00Z"),
        json!({"event": "sleep_entry_deleted", "occurred_at": "2025-04-30T08:00:00Z", "data": {"id": 9001}}),
    ];
    for event in events {
        stage.cycle("zentry.sleep_entries", &[event], as_of, models)?;
    }
    let fields = |duration: u32, updated_at: &str, mut first: Value| {
        let common = json!({"sleep_entry_id": 9001, "sleep_duration": duration, "sleep_start_at": "2025-04-29T22:30:00.000000Z",
            "created_at": "2025-04-30T06:12:03.412000Z", "updated_at": updated_at});
        if let (Some(first), Value::Object(common)) = (first.as_object_mut(), common) {
            first.extend(common);
        }
        Some(first)
    };
    let states = [(27_000, "2025-04-30T06:12:03.412000Z"), (28_800, "2025-04-30T07:00:00.000000Z")];
    let documents = |key: &str, first: &Value| -> Vec<(String, Option<Value>)> {
        let sent = states.iter().map(|(duration, at)| (key.to_owned(), fields(*duration, at, first.clone())));
        sent.chain([(key.to_owned(), None)]).collect()
    };
    let entries = stage.read("zentry.index.sleep_entries")?;
    ensure!(entries == documents("9001", &json!({"id": 9001, "user_id": 20})), "{entries:?}");
    let feeds = stage.read("zentry.index.feeds")?;
    ensure!(feeds == documents("10/9001", &json!({"user_id": 10, "author_id": 20})), "{feeds:?}");
    Ok(())
}
