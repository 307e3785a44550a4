//! What readers of result topics are told of the shipped models, step by step: alerts of bots, windows of motion.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use tidemill_project::config::parse_instant;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::Tidemill;
use tidemill_tests::topics::{Record, Topics};
use tidemill_tests::{installed, shared};

/// One model, from one topic to another.
struct Scene {
    topics: Topics,
    input: String,
    output: String,
    source: &'static str,
    model: &'static str,
    vars: &'static str,
    _project: Project,
    tidemill: Tidemill,
}

/// What the shipped YAML calls them.
struct Shipped {
    contract: &'static str,
    input: &'static str,
    properties: &'static str,
    output: &'static str,
}

impl Scene {
    fn new(shipped: &Shipped, source: &'static str, model: &'static str, vars: &'static str) -> Result<Self> {
        let bootstrap = shared::kafka()?;
        let topics = Topics::connect(&bootstrap)?;
        let (input, output) = (shared::unique_name("input"), shared::unique_name("output"));
        topics.create(&input, 1, &[("message.timestamp.type", "CreateTime")])?;
        let project = ProjectBuilder::shipped()
            .kafka(&bootstrap, &shared::unique_name("group"))
            .file(
                shipped.contract,
                &renamed(shipped.contract, &format!("topics: [{}]", shipped.input), &format!("topics: [{input}]"))?,
            )
            .file(
                shipped.properties,
                &renamed(shipped.properties, &format!("topic: {}", shipped.output), &format!("topic: {output}"))?,
            )
            .build()?;
        let tidemill = project.tidemill();
        Ok(Self { topics, input, output, source, model, vars, _project: project, tidemill })
    }

    /// Sends records (the instant of the record, its value), lets the clock be `as_of`, and brings everything through.
    fn step(&self, as_of: &str, records: &[(String, String)]) -> Result<()> {
        let records = records
            .iter()
            .map(|(at, value)| {
                let at_us = parse_instant(at).with_context(|| format!("no instant: {at}"))?;
                Ok(Record { timestamp_ms: Some(at_us.div_euclid(1000)), ..Record::value(value.as_bytes()) })
            })
            .collect::<Result<Vec<_>>>()?;
        self.topics.producer()?.deliver(&self.input, &records)?;
        self.run(as_of, &["ingest", "--select", self.source])?;
        self.run(as_of, &["build", "--select", &format!("+{}", self.model)])?;
        self.publish(as_of)
    }

    /// Builds everything again and publishes.
    fn rebuild(&self, as_of: &str) -> Result<()> {
        self.run(as_of, &["build", "--full-refresh", "--select", &format!("+{}", self.model)])?;
        self.publish(as_of)
    }

    fn publish(&self, as_of: &str) -> Result<()> {
        self.run(as_of, &["publish", "--select", self.model])
    }

    fn run(&self, as_of: &str, arguments: &[&str]) -> Result<()> {
        let switched = ["--as-of", as_of, "--vars", self.vars];
        self.tidemill.succeed(&[arguments, &switched].concat())?;
        Ok(())
    }

    /// Keys and values of all messages so far.
    fn told(&self) -> Result<Vec<(String, String)>> {
        let text = |bytes: Option<Vec<u8>>| anyhow::Ok(String::from_utf8(bytes.context("no tombstone is sent")?)?);
        let messages = self.topics.read_committed(&self.output)?;
        messages.into_iter().map(|read| Ok((text(read.key)?, text(read.value)?))).collect()
    }
}

/// A shipped file with one text in place of another.
fn renamed(path: &str, shipped: &str, own: &str) -> Result<String> {
    let text = fs::read_to_string(installed::repository().join(path))?;
    anyhow::ensure!(text.contains(shipped), "{path} does not say `{shipped}`");
    Ok(text.replace(shipped, own))
}

/// A click of u7 on 2025-03-09, sent when it happens.
fn click(id: &str, at: &str) -> (String, String) {
    let at = format!("2025-03-09T{at}Z");
    let value = format!(r#"{{"event_id":"{id}","user_id":"u7","action":"click","occurred_at":"{at}"}}"#);
    (at, value)
}

/// GC11. The alert's last word is the truth, and no word is said twice.
#[test]
fn a_bot_is_told_of_once_and_corrected_when_its_window_is_closed_and_when_late_clicks_come() -> Result<()> {
    let shipped = Shipped {
        contract: "dbt-like-models/models/staging/clicks/_clicks__sources.yml",
        input: "events.user-actions",
        properties: "dbt-like-models/models/marts/clicks/potential_bots.yml",
        output: "alerts.potential-bots",
    };
    let vars = "{clicks_enabled: true, clicks_topics_enabled: true, clicks_bot_slide_s: 60}";
    let scene = Scene::new(&shipped, "clicks.user_actions", "potential_bots", vars)?;
    let message = |clicks: u32, late_clicks: u32| {
        let value = format!(
            concat!(
                r#"{{"alert_id":"u7/2025-03-09T12:00:00.000000Z","user_id":"u7","window_start":"2025-03-09T12:00:00.000000Z","#,
                r#""window_end":"2025-03-09T12:01:00.000000Z","clicks":{},"threshold":100,"late_clicks":{}}}"#
            ),
            clicks, late_clicks
        );
        ("u7".to_owned(), value)
    };
    let burst = |name: &str, count: u32, second: u32| -> Vec<(String, String)> {
        (0..count).map(|index| click(&format!("{name}{index}"), &format!("12:00:{second}.{index:03}"))).collect()
    };
    scene.step("2025-03-09T12:00:40Z", &burst("a", 101, 30))?;
    assert_eq!(scene.told()?, [message(101, 0)], "at the crossing");
    scene.step("2025-03-09T12:00:55Z", &burst("b", 20, 50))?;
    assert_eq!(scene.told()?, [message(101, 0)], "the window is open");
    scene.step("2025-03-09T12:01:00Z", &[])?;
    assert_eq!(scene.told()?, [message(101, 0), message(121, 0)], "the window is closed");
    scene.step("2025-03-09T12:06:00Z", &[])?;
    scene.rebuild("2025-03-09T12:06:00Z")?;
    assert_eq!(scene.told()?, [message(101, 0), message(121, 0)], "final, and rebuilt");
    let late = ("2025-03-09T12:20:00Z".to_owned(), click("c", "12:00:40").1);
    scene.step("2025-03-09T12:20:00Z", &[late])?;
    assert_eq!(scene.told()?, [message(101, 0), message(121, 0), message(122, 1)], "a late click");
    Ok(())
}

/// GA6, and A17: a window is sent when it is closed, again when a late reading has changed it, and not when it has not.
#[test]
fn a_window_is_told_of_when_it_is_closed_and_again_when_a_late_reading_changes_it() -> Result<()> {
    let shipped = Shipped {
        contract: "dbt-like-models/models/staging/activity/_activity__sources.yml",
        input: "raw_sensor_data",
        properties: "dbt-like-models/models/marts/activity/activity_windows.yml",
        output: "processed_activity",
    };
    let vars = "{activity_enabled: true, activity_topics_enabled: true}";
    let scene = Scene::new(&shipped, "activity.raw_sensor_data", "activity_windows", vars)?;
    let reading = |second: i64, x: f64| {
        let time_ns = (1_741_521_600 + second) * 1_000_000_000;
        let value = format!(
            r#"{{"session_id":"s1","device_id":"d1","sensor":"accelerometer","time":{time_ns},"x":{x:?},"y":0.0,"z":0.0}}"#
        );
        (format!("2025-03-09T12:00:0{second}Z"), value)
    };
    let summary = |(key, value): (String, String)| -> Result<String> {
        let window: Value = serde_json::from_str(&value)?;
        let start = window["window_start"].as_str().context("a window has a start")?;
        Ok(format!(
            "{key} {} {} {} {}",
            &start[11..19],
            window["sample_count"],
            window["avg_magnitude"],
            window["late_samples"]
        ))
    };
    // Windows start from 11:59:52 to 12:00:02; those that end by 12:00:06 are closed.
    scene.step("2025-03-09T12:00:06Z", &[reading(1, 1.0), reading(2, 2.0)])?;
    let told = scene.told()?;
    assert_eq!(
        told.first().map(|(_, value)| value.as_str()),
        Some(concat!(
            r#"{"session_id":"s1","device_id":"d1","window_start":"2025-03-09T11:59:52.000000Z","#,
            r#""window_end":"2025-03-09T12:00:02.000000Z","activity":"Stationary","confidence":1.0,"avg_magnitude":1.0,"#,
            r#""sample_count":1,"late_samples":0}"#
        ))
    );
    let closed = ["s1/d1 11:59:52 1 1.0 0", "s1/d1 11:59:54 2 1.5 0", "s1/d1 11:59:56 2 1.5 0"];
    assert_eq!(told.into_iter().map(summary).collect::<Result<Vec<_>>>()?, closed);
    scene.step("2025-03-09T12:00:12Z", &[])?;
    let rest = ["s1/d1 11:59:58 2 1.5 0", "s1/d1 12:00:00 2 1.5 0", "s1/d1 12:00:02 1 2.0 0"];
    let summaries = || scene.told()?.into_iter().map(summary).collect::<Result<Vec<_>>>();
    assert_eq!(summaries()?, [closed, rest].concat());
    let late = ("2025-03-09T12:00:45Z".to_owned(), reading(3, 6.0).1);
    scene.step("2025-03-09T12:01:00Z", &[late])?;
    let changed = [
        "s1/d1 11:59:54 3 3.0 1",
        "s1/d1 11:59:56 3 3.0 1",
        "s1/d1 11:59:58 3 3.0 1",
        "s1/d1 12:00:00 3 3.0 1",
        "s1/d1 12:00:02 2 4.0 1",
    ];
    assert_eq!(summaries()?, [closed.as_slice(), &rest, &changed].concat());
    scene.rebuild("2025-03-09T12:01:00Z")?;
    assert_eq!(summaries()?.len(), 11, "a rebuild sends nothing");
    Ok(())
}
