//! The HTTP door on Apache Kafka: what it acknowledges is in the topic, whatever is killed, and what it says of broken
//! readings is what ingest does with them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidemill_tests::kafka::Broker;
use tidemill_tests::process::Process;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::{Tidemill, exit};
use tidemill_tests::topics::Topics;
use tidemill_tests::{http, ports, shared, wait};

const TOPIC: &str = "raw_sensor_data";
const SOURCES: &str = "dbt-like-models/models/staging/activity/_activity__sources.yml";
/// 2025-03-09T12:00:05Z.
const TIME_NS: i64 = 1_741_521_605_000_000_000;

/// The shipped project with the activity source switched on and its topic renamed.
fn project(bootstrap: &str, topic: &str, port: u16) -> Result<Project> {
    let shipped = std::fs::read_to_string(tidemill_tests::installed::repository().join(SOURCES))?;
    let own = shipped.replace("\"{{ var('activity_enabled') }}\"", "true").replace(TOPIC, topic);
    // The table keeps its name; the topic alone is this test's own.
    let own = own.replace(&format!("- name: {topic}"), &format!("- name: {TOPIC}"));
    let settings = format!(
        "name = \"test\"\ndefault_target = \"test\"\n[target.test.kafka]\ngroup = \"{}\"\n\"bootstrap.servers\" = \"{bootstrap}\"\n\
         [target.test.lake]\nurl = \"lake\"\n[target.test.collect]\nlisten = \"127.0.0.1:{port}\"\ntopic = \"{topic}\"\n\
         anonymous = true\nack_timeout = \"10s\"\n",
        shared::unique_name("group")
    );
    ProjectBuilder::shipped().file(SOURCES, &own).file("tidemill.toml", &settings).build()
}

fn start(tidemill: &Tidemill, port: u16) -> Result<Process> {
    let mut process = tidemill.spawn(&["collect"])?;
    process.wait_ready(wait::PATIENCE, || ports::is_open(port))?;
    Ok(process)
}

fn post(port: u16, body: &Value) -> Result<http::Answer> {
    http::send("POST", &format!("http://127.0.0.1:{port}/sensor-logger"), Some(body))
}

fn message(number: u64) -> Value {
    let reading =
        |axis: u64| json!({"name": "accelerometer", "time": TIME_NS, "values": {"x": axis, "y": 0.5, "z": number}});
    json!({"messageId": number, "sessionId": format!("s{number}"), "deviceId": format!("d{}", number % 7),
        "payload": [reading(1), reading(2), reading(3)]})
}

/// How often each message's readings are in the topic.
fn messages_in(topics: &Topics, topic: &str) -> Result<BTreeSet<(u64, u64)>> {
    let mut found = BTreeSet::new();
    for record in topics.read_committed(topic)? {
        let value: Value = serde_json::from_slice(&record.value.context("a reading has a value")?)?;
        let number = |name: &str| value[name].as_u64().with_context(|| format!("{name} in {value}"));
        found.insert((number("message_id")?, number("x")?));
    }
    Ok(found)
}

#[test]
fn what_is_acknowledged_is_in_kafka_over_kills_of_the_door_and_of_the_broker() -> Result<()> {
    let mut broker = Broker::start()?;
    let topics = Topics::connect(&broker.bootstrap())?;
    let topic = shared::unique_name("readings");
    topics.create(&topic, 3, &[])?;
    let port = ports::free_port();
    let project = project(&broker.bootstrap(), &topic, port)?;
    let tidemill = project.tidemill();
    let mut door = start(&tidemill, port)?;

    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let acknowledged = Mutex::new(BTreeSet::new());
    let refused = AtomicU64::new(0);
    thread::scope(|scope| -> Result<()> {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    // As the app does: the same body again until it is acknowledged, unless the test is over.
                    while !stop.load(Ordering::SeqCst) {
                        match post(port, &message(number)) {
                            Ok(answer) if answer.status == 200 => {
                                acknowledged.lock().expect("no thread panics").insert(number);
                                break;
                            }
                            _ => {
                                refused.fetch_add(1, Ordering::SeqCst);
                                wait::pause(Duration::from_millis(20));
                            }
                        }
                    }
                }
            });
        }
        let count = || acknowledged.lock().expect("no thread panics").len();
        let more = |by: usize| {
            let wanted = count() + by;
            wait::until(&format!("{wanted} acknowledged messages"), wait::PATIENCE, || {
                Ok((count() >= wanted).then_some(()))
            })
        };
        let story = (|| {
            more(100)?;
            for _ in 0..3 {
                door.kill()?;
                door = start(&tidemill, port)?;
                more(50)?;
            }
            broker.kill()?;
            broker.restart()?;
            more(50)?;
            broker.stop()?;
            broker.restart()?;
            more(50)
        })();
        stop.store(true, Ordering::SeqCst);
        story
    })?;
    let acknowledged = acknowledged.into_inner().expect("no thread panics");
    let found = messages_in(&topics, &topic)?;
    let lost: Vec<u64> =
        acknowledged.iter().copied().filter(|number| !(1..=3).all(|axis| found.contains(&(*number, axis)))).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} acknowledged messages are not in Kafka: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    ensure!(refused.load(Ordering::SeqCst) > 0, "no request was refused: nothing was killed under load");
    Ok(())
}

/// S1: what the phone app's body cannot carry is left out of the faults, and lateness of the truth.
#[test]
fn simulated_phones_post_through_the_door_and_come_to_their_truth() -> Result<()> {
    let broker = Broker::start()?;
    Topics::connect(&broker.bootstrap())?.create(TOPIC, 3, &[])?;
    let port = ports::free_port();
    let project = project(&broker.bootstrap(), TOPIC, port)?;
    let tidemill = project.tidemill().vars("{activity_enabled: true}");
    let _door = start(&tidemill, port)?;
    let truth = project.folder().join("truth.json").display().to_string();
    let faults = ["--duplicates", "0.1", "--malformed", "0.02", "--missing", "0.05"];
    let traffic = ["simulate", "activity", "--events", "9000", "--via", "collect", "--truth", &truth];
    let report = tidemill.json(&[&traffic[..], &faults].concat())?;
    ensure!(report["quarantined"].as_u64().is_some_and(|count| count > 400), "{report}");
    tidemill.succeed(&["ingest", "--select", "activity"])?;
    let as_of = report["as_of"].as_str().context("the report tells its clock")?;
    tidemill.succeed(&["build", "--select", "source:activity+", "+activity_daily", "--as-of", as_of])?;
    let verdict = tidemill.json(&["simulate", "verify", "--truth", &truth])?;
    ensure!(verdict["models"].as_array().is_some_and(|models| models.len() == 3), "{verdict}");

    // Only phones have a door, and one that is not there is named.
    tidemill.expect(exit::USAGE, &["simulate", "logins", "--via", "collect"])?;
    let nobody = format!("http://127.0.0.1:{}/sensor-logger", ports::free_port());
    let failed = tidemill.run(&["simulate", "activity", "--via", "collect", "--collect-url", &nobody])?;
    ensure!(failed.code != Some(exit::DONE) && failed.stderr.contains(&nobody), "{}", failed.stderr);
    Ok(())
}

/// Readings with one fault or several, and some without.
fn broken_readings() -> Vec<Value> {
    let good = json!({"name": "accelerometer", "time": TIME_NS, "x": 1.0, "y": 2.0, "z": 3.0});
    let with = |changes: &[(&str, Value)]| {
        let mut reading = good.clone();
        for (name, value) in changes {
            reading[*name] = value.clone();
        }
        reading
    };
    let mut readings = vec![good.clone()];
    for name in [json!(null), json!(17), json!(true), json!(["a"]), json!({}), json!("gyroscope")] {
        readings.push(with(&[("name", name)]));
    }
    for time in [
        json!(null),
        json!(""),
        json!("yesterday"),
        json!("2025-03-09"),
        json!("2025-03-09T12:00:05Z"),
        json!(TIME_NS.to_string()),
        json!(1_741_521_605),
        json!(-5),
        json!(9_000_000_000_000_000_000_i64),
        json!(1.5e18),
        json!(true),
        json!({"at": 1}),
        json!([]),
    ] {
        readings.push(with(&[("time", time)]));
    }
    for axis in [
        json!(null),
        json!("fast"),
        json!("1.5"),
        json!(""),
        json!(true),
        json!([1]),
        json!({}),
        json!(1e308),
        json!(-0.0),
    ] {
        readings.push(with(&[("x", axis)]));
    }
    // Axes in `values`, and of another sensor, for which none is required.
    readings.push(json!({"name": "accelerometer", "time": TIME_NS, "values": {"x": 1, "y": 2}}));
    readings.push(json!({"name": "gravity", "time": TIME_NS, "values": {"x": 1, "y": 2}}));
    // Several faults: the class of the first in X9's order.
    readings.push(with(&[("time", json!("yesterday")), ("x", json!("fast"))]));
    readings.push(with(&[("time", json!(7)), ("x", json!("fast"))]));
    readings.push(with(&[("time", json!("yesterday")), ("z", json!(null))]));
    readings.push(with(&[("name", json!(17)), ("time", json!(null))]));
    readings.extend([json!(7), json!("no object"), json!(null), json!([]), json!({})]);
    readings
}

/// Numbers that a JSON library of the test would not write.
const ODD_NUMBERS: [&str; 6] = ["1e400", "-1e400", "9223372036854775808", "1741521605000000000.5", "1e30", "1E2"];

#[test]
fn the_door_and_ingest_give_the_same_verdict_on_every_broken_reading() -> Result<()> {
    let topics = Topics::connect(&shared::kafka()?)?;
    let topic = shared::unique_name("readings");
    topics.create(&topic, 1, &[])?;
    let port = ports::free_port();
    let project = project(&shared::kafka()?, &topic, port)?;
    let tidemill = project.tidemill();
    let _door = start(&tidemill, port)?;

    let mut readings: Vec<String> = broken_readings().iter().map(ToString::to_string).collect();
    for number in ODD_NUMBERS {
        for field in ["time", "x"] {
            let other = if field == "time" { "\"x\": 1".to_owned() } else { format!("\"time\": {TIME_NS}") };
            readings.push(format!(r#"{{"name": "accelerometer", "{field}": {number}, {other}, "y": 2, "z": 3}}"#));
        }
    }
    // One recording each, so that no reading is a copy of another; the number of the message is judged as well.
    let mut verdicts = Vec::new();
    let mut bodies: Vec<String> = readings
        .iter()
        .enumerate()
        .map(|(at, reading)| {
            format!(r#"{{"messageId": {at}, "sessionId": "s{at}", "deviceId": "d", "payload": [{reading}]}}"#)
        })
        .collect();
    for (at, message_id) in
        ["\"abc\"", "1.5", "1e30", "9223372036854775808", "9.2e18", "null", "true", "1e400"].iter().enumerate()
    {
        bodies.push(format!(
            r#"{{"messageId": {message_id}, "sessionId": "m{at}", "deviceId": "d", "payload": [{{"name": "gravity", "time": {TIME_NS}}}]}}"#
        ));
    }
    let url = format!("http://127.0.0.1:{port}/sensor-logger");
    for body in &bodies {
        let answer = post_text(&url, body)?;
        let rejected = answer["rejected"].as_array().with_context(|| format!("{answer} to {body}"))?;
        let class =
            rejected.first().and_then(|entry| entry["error"].as_str()).and_then(|error| error.split(':').next());
        verdicts.push(class.unwrap_or("accepted").to_owned());
    }
    tidemill.succeed(&["ingest", "--select", "activity.raw_sensor_data"])?;
    let mut judged = vec!["accepted".to_owned(); bodies.len()];
    for entry in tidemill.query("select \"offset\", class from ops.quarantine")? {
        let offset =
            entry["offset"].as_u64().and_then(|at| usize::try_from(at).ok()).context("an offset is a number")?;
        judged[offset] = entry["class"].as_str().unwrap_or_default().to_owned();
    }
    let differing: Vec<String> = (0..bodies.len())
        .filter(|at| verdicts[*at] != judged[*at])
        .map(|at| format!("{}\n  door {}, ingest {}", bodies[at], verdicts[at], judged[at]))
        .collect();
    ensure!(differing.is_empty(), "{} verdicts differ:\n{}", differing.len(), differing.join("\n"));
    let classes: BTreeSet<&str> = judged.iter().map(String::as_str).collect();
    let all = ["accepted", "bad_event_time", "bad_value", "event_time_out_of_range", "missing_field", "wrong_type"];
    ensure!(classes == BTreeSet::from(all), "the matrix does not cover all classes: {classes:?}");
    Ok(())
}

/// Posts a text as it is.
fn post_text(url: &str, body: &str) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let response = reqwest::Client::builder().no_proxy().build()?.post(url).body(body.to_owned()).send().await?;
        ensure!(response.status() == 200, "{} to {body}", response.status());
        Ok(serde_json::from_str(&response.text().await?)?)
    })
}
