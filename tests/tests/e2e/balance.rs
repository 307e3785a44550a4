//! What must hold at the end of every test, whatever happened before.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::logins::{TOPIC, Traffic, Truth, WINDOW_S};
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::shared;
use tidemill_tests::tidemill::Tidemill;
use tidemill_tests::topics::Topics;

/// The contract's name on the command line and in SQL.
pub(crate) const SOURCE: &str = "logins.user_login";

/// A topic of this test alone and the shipped project reading it.
pub(crate) struct Scene {
    pub(crate) topics: Topics,
    pub(crate) topic: String,
    pub(crate) bootstrap: String,
}

impl Scene {
    /// On the shared broker.
    pub(crate) fn new(partitions: i32) -> Result<Self> {
        Self::on(&shared::kafka()?, partitions)
    }

    /// On a given broker.
    pub(crate) fn on(bootstrap: &str, partitions: i32) -> Result<Self> {
        let topics = Topics::connect(bootstrap)?;
        let topic = shared::unique_name("logins");
        topics.create(&topic, partitions, &[("message.timestamp.type", "CreateTime")])?;
        Ok(Self { topics, topic, bootstrap: bootstrap.to_owned() })
    }

    /// The shipped project, reading this topic in a group of its own.
    pub(crate) fn project(&self) -> ProjectBuilder {
        ProjectBuilder::shipped()
            .kafka(&self.bootstrap, &shared::unique_name("group"))
            // The least that the broker allows: a process that was killed leaves its partitions soon.
            .kafka_property("session.timeout.ms", "6000")
            .topic(TOPIC, &self.topic)
    }

    /// Sends all records.
    pub(crate) fn send(&self, traffic: &Traffic) -> Result<()> {
        self.topics.producer()?.deliver(&self.topic, &traffic.records)
    }
}

/// Ingests what there is.
pub(crate) fn drain(tidemill: &Tidemill) -> Result<()> {
    tidemill.succeed(&["ingest", "--select", SOURCE])?;
    Ok(())
}

/// Every login landed once, every broken record is in quarantine, and the books say so too.
pub(crate) fn assert_landed(tidemill: &Tidemill, truth: &Truth) -> Result<()> {
    tidemill.succeed(&["reconcile", "--deep", "--source", SOURCE])?;
    let counts = tidemill.query(&format!(
        "select count(*) as num_rows, count(distinct _key) as num_keys, sum(\"timestamp\") as timestamp_sum from {SOURCE}"
    ))?;
    let counts = counts.first().context("an aggregate yields one row")?;
    let expected = [("num_rows", truth.landed), ("num_keys", truth.landed), ("timestamp_sum", truth.timestamp_sum)];
    for (name, expected) in expected {
        ensure!(counts[name].as_i64() == Some(expected), "{name} should be {expected}: {counts}");
    }
    let books = books(tidemill)?;
    let sum = |name: &str| books.iter().filter_map(|part| part[name].as_i64()).sum::<i64>();
    ensure!(sum("landed") == truth.landed, "landed should be {}: {books:?}", truth.landed);
    ensure!(sum("duplicates") == truth.duplicates, "duplicates should be {}: {books:?}", truth.duplicates);
    ensure!(sum("quarantined") == truth.quarantined, "quarantined should be {}: {books:?}", truth.quarantined);
    // The table comes into being with the first broken record.
    let listed = tidemill.json(&["quarantine", "list"])?;
    let in_quarantine = if is_empty(&listed) { 0 } else { tidemill.number("select count(*) from ops.quarantine")? };
    ensure!(in_quarantine == truth.quarantined, "{in_quarantine} records in quarantine, not {}", truth.quarantined);
    Ok(())
}

/// The login models say what the traffic was.
pub(crate) fn assert_models(tidemill: &Tidemill, truth: &Truth) -> Result<()> {
    let windows = tidemill.query(
        "select cast(window_start as bigint) / 1000000 as start, message_count, late_count from logins_usage_window",
    )?;
    let mut found = BTreeMap::new();
    let mut late = 0;
    for row in &windows {
        let start = row["start"].as_i64().context("a start is a number")?;
        ensure!(start % WINDOW_S == 0, "{start} is no start of a window");
        let before = found.insert(start, row["message_count"].as_i64().context("a count is a number")?);
        ensure!(before.is_none(), "two rows for the window {start}");
        late += row["late_count"].as_i64().context("a count is a number")?;
    }
    ensure!(found == truth.windows, "windows differ: {}", difference(&found, &truth.windows));
    ensure!(late == truth.late, "{late} late logins, not {}", truth.late);
    let rows =
        tidemill.query("select device_type, sum(logins) as logins from logins_usage_hourly group by device_type")?;
    let devices: BTreeMap<String, i64> = rows
        .iter()
        .filter_map(|row| Some((row["device_type"].as_str()?.to_owned(), row["logins"].as_i64()?)))
        .collect();
    ensure!(devices == truth.devices, "devices differ: {devices:?} instead of {:?}", truth.devices);
    Ok(())
}

/// The partitions of `reconcile`: objects with `topic`, `partition` and the outcomes.
pub(crate) fn books(tidemill: &Tidemill) -> Result<Vec<Value>> {
    partitions_of(&tidemill.json(&["reconcile", "--source", SOURCE])?)
}

/// The partitions in a report of `reconcile`.
pub(crate) fn partitions_of(report: &Value) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    collect_books(report, &mut found);
    ensure!(!found.is_empty(), "reconcile knows no partition: {report}");
    Ok(found)
}

/// Whether a report holds no item in any of its lists.
fn is_empty(report: &Value) -> bool {
    match report {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => true,
    }
}

fn collect_books(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_books(item, found)),
        Value::Object(fields) if fields.contains_key("landed") && fields.contains_key("partition") => {
            found.push(value.clone());
        }
        Value::Object(fields) => fields.values().for_each(|item| collect_books(item, found)),
        _ => {}
    }
}

fn difference(found: &BTreeMap<i64, i64>, expected: &BTreeMap<i64, i64>) -> String {
    let starts: Vec<&i64> = found.keys().chain(expected.keys()).collect();
    let lines: Vec<String> = starts
        .into_iter()
        .filter(|start| found.get(start) != expected.get(start))
        .take(10)
        .map(|start| format!("{start}: {:?} instead of {:?}", found.get(start), expected.get(start)))
        .collect();
    lines.join(", ")
}
