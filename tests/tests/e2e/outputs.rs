//! Every result topic of the shipped project, from the simulator to a `read_committed` reader, with a kill at each step of
//! publishing: each row's newest word is the model's row, no word is said twice, what went is taken back, and a rebuild says
//! nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use tidemill_tests::failpoints;
use tidemill_tests::topics::{Read, Topics};
use tidemill_tests::wait::PATIENCE;

use crate::systems::{ACTIVITY, CLICKS, LOGINS, Scene, ZENTRY, ZONER};

/// A topic and what its readers should know in the end.
struct Output {
    topic: &'static str,
    /// Yields a row per row that readers should have, a column per field of its message; `@` wraps a time as messages show it.
    rows: &'static str,
    /// The fields that name a row. Without any, rows neither change nor go: each is told of once.
    identity: &'static [&'static str],
    /// Columns that hold JSON.
    documents: &'static [&'static str],
}

const ALERTS_OF_ZONER: Output = Output {
    topic: "zoner.alerts",
    rows: "select concat(cast(user_id as text), '/', event_type, '/', @window_start) as alert_id, user_id, event_type, \
           @window_start as window_start, @window_end as window_end, cast(local_date as text) as local_date, tz, \
           rule_source, outcome, @due_at as due_at, recommendation, flight_id \
           from zoner_key_events where outcome in ('missed', 'delayed')",
    identity: &["alert_id"],
    documents: &[],
};

const WINDOWS_OF_ACTIVITY: Output = Output {
    topic: "processed_activity",
    rows: "select session_id, device_id, @window_start as window_start, @window_end as window_end, activity, confidence, \
           avg_magnitude, sample_count, late_samples from activity_windows",
    identity: &["session_id", "device_id", "window_start"],
    documents: &[],
};

const ALERTS_OF_ACTIVITY: Output = Output {
    topic: "activity.alerts",
    rows: "select concat(rule_id, '/', session_id, '/', device_id, '/', @bout_start) as alert_id, rule_id, session_id, \
           device_id, activity, min_seconds, seconds, @bout_start as bout_start, @bout_end as bout_end, \
           @over_at as over_at from activity_alerts",
    identity: &["alert_id"],
    documents: &[],
};

const ALERTS_OF_CLICKS: Output = Output {
    topic: "alerts.potential-bots",
    rows: "select concat(user_id, '/', @window_start) as alert_id, user_id, @window_start as window_start, \
           @window_end as window_end, clicks, threshold, late_clicks from potential_bots",
    identity: &["alert_id"],
    documents: &[],
};

const LOGINS_ENRICHED: Output = Output {
    topic: "processed-logins",
    rows: "select user_id, app_version, ip, locale, device_id, \"timestamp\", device_type, processed_timestamp, \
           readable_timestamp, hour_of_day, time_zone from logins_enriched",
    identity: &[],
    documents: &[],
};

const USAGE_OF_LOGINS: Output = Output {
    topic: "aggregated-usage",
    rows: "select \"current_time\", time_window, batch_size, location_stats, device_stats, version_stats, message_count, \
           @window_start as window_start, @window_end as window_end, late_count from logins_usage_window",
    identity: &["window_start"],
    documents: &["location_stats", "device_stats", "version_stats"],
};

const INDEX_OF_ENTRIES: Output = Output {
    topic: "zentry.index.sleep_entries",
    rows: "select sleep_entry_id as id, user_id, sleep_entry_id, sleep_duration, @sleep_start_at as sleep_start_at, \
           @created_at as created_at, @updated_at as updated_at from zentry_sleep_entries",
    identity: &["id"],
    documents: &[],
};

const INDEX_OF_FEEDS: Output = Output {
    topic: "zentry.index.feeds",
    rows: "select user_id, author_id, sleep_entry_id, sleep_duration, @sleep_start_at as sleep_start_at, \
           @created_at as created_at, @updated_at as updated_at from zentry_feed_fanout",
    identity: &["user_id", "sleep_entry_id"],
    documents: &[],
};

impl Output {
    /// `@name` as the text that messages show of a time.
    fn query(&self) -> String {
        let mut parts = self.rows.split('@');
        let mut sql = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(part.len());
            let (column, rest) = part.split_at(end);
            sql.push_str(&format!("to_char({column}, '%Y-%m-%dT%H:%M:%S%.6fZ'){rest}"));
        }
        sql
    }

    /// The model's rows, as messages.
    fn expected(&self, scene: &Scene) -> Result<Vec<Value>> {
        let mut rows = scene.tidemill.query(&self.query())?;
        for row in &mut rows {
            for name in self.documents {
                let text = row[*name].as_str().with_context(|| format!("{name} is a text"))?.to_owned();
                row[*name] = serde_json::from_str(&text)?;
            }
        }
        Ok(rows)
    }

    fn name_of(&self, message: &Value) -> String {
        let fields: Vec<String> = self.identity.iter().map(|field| message[*field].to_string()).collect();
        fields.join("/")
    }

    /// All messages so far, decoded.
    fn told(&self, scene: &Scene) -> Result<Vec<(String, Option<Value>)>> {
        let topics = Topics::connect(&scene.broker.bootstrap())?;
        let messages = topics.read_committed(self.topic)?;
        messages
            .into_iter()
            .map(|Read { key, value }| {
                let key = String::from_utf8(key.context("a message has a key")?)?;
                Ok((key, value.map(|value| serde_json::from_slice(&value)).transpose()?))
            })
            .collect()
    }

    /// Holds what readers know against the model; returns how many rows were taken back on the way.
    fn compare(&self, scene: &Scene) -> Result<usize> {
        let (told, expected) = (self.told(scene)?, self.expected(scene)?);
        ensure!(!expected.is_empty(), "{}: the model has no row: nothing is proven", self.topic);
        if self.identity.is_empty() {
            let texts = |values: &mut dyn Iterator<Item = String>| {
                let mut texts: Vec<String> = values.collect();
                texts.sort();
                texts
            };
            let found = texts(&mut told.iter().map(|(_, value)| sorted(value.as_ref().unwrap_or(&Value::Null))));
            let expected = texts(&mut expected.iter().map(sorted));
            ensure!(found == expected, "{}: {} messages of {} rows", self.topic, found.len(), expected.len());
            return Ok(0);
        }
        // A tombstone speaks by its key, which then names one row; it ends what the key's last message told.
        let (mut newest, mut by_key, mut ends) = (BTreeMap::<String, Value>::new(), BTreeMap::new(), 0);
        for (key, value) in told {
            let Some(value) = value else {
                let name: String = by_key.remove(&key).with_context(|| format!("{}: {key} ended twice", self.topic))?;
                newest.remove(&name);
                ends += 1;
                continue;
            };
            let name = self.name_of(&value);
            ensure!(newest.get(&name) != Some(&value), "{}: said twice in a row: {value}", self.topic);
            by_key.insert(key, name.clone());
            newest.insert(name, value);
        }
        let expected: BTreeMap<String, Value> = expected.into_iter().map(|row| (self.name_of(&row), row)).collect();
        let names = newest.keys().chain(expected.keys());
        let differing: Vec<&String> = names.filter(|name| newest.get(*name) != expected.get(*name)).take(3).collect();
        ensure!(
            differing.is_empty(),
            "{}: {} rows are told of and {} are there, e.g. {:?} instead of {:?}",
            self.topic,
            newest.len(),
            expected.len(),
            differing.iter().map(|name| newest.get(*name)).collect::<Vec<_>>(),
            differing.iter().map(|name| expected.get(*name)).collect::<Vec<_>>()
        );
        Ok(ends)
    }
}

/// A flat object as a text that does not depend on the order of its fields.
fn sorted(value: &Value) -> String {
    let fields = value.as_object().into_iter().flatten();
    format!("{:?}", fields.map(|(name, value)| (name.as_str(), value.to_string())).collect::<BTreeMap<_, _>>())
}

/// Brings the traffic through in parts; publishing is killed at another step each time. Returns how many rows each topic's
/// readers were told the end of.
fn told_whatever_is_killed(
    system: &'static str,
    traffic: &[&str],
    vars: &[&str],
    outputs: &[&Output],
) -> Result<BTreeMap<&'static str, usize>> {
    let topics = format!("{system}_topics_enabled: true");
    let vars = [&[topics.as_str()], vars].concat();
    let scene = Scene::open_with(system, traffic, &vars, |project| project)?;
    let points = failpoints::named("publish.kafka.")?;
    let part = (scene.num_records / (points.len() as u64 + 1)).to_string();
    let mut kills = 0;
    for (round, point) in points.iter().enumerate() {
        scene.tidemill.succeed(&["ingest", "--select", system, "--max-records", &part])?;
        scene.tidemill.succeed(&["build"])?;
        // Where a system has two topics, the second one's turn comes as well.
        let pass = u32::try_from(round % outputs.len())? + 1;
        let mut publisher = scene.tidemill.clone().crash_at(point, pass).spawn(&["publish"])?;
        let status = publisher.wait(PATIENCE)?;
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        ensure!(killed || status.success(), "{point}: {status}\n{}", publisher.output()?);
        kills += usize::from(killed);
        // Some rounds are made whole at once, others only with what comes after them.
        if round % 2 == 0 {
            scene.tidemill.succeed(&["publish"])?;
        }
    }
    // A round without news kills nobody: windows that close with the watermark wait for the slowest partition. Each step of
    // the sink is killed in `readers_of_a_topic_see_each_row_once_whatever_is_killed`.
    ensure!(kills > 0, "none of {} kills came: {points:?}", points.len());
    scene.drain()?;
    scene.verify()?;
    let ends = outputs.iter().map(|output| Ok((output.topic, output.compare(&scene)?))).collect::<Result<_>>()?;
    scene.tidemill.succeed(&["publish", "--check"])?;
    scene.balance_from_outside()?;
    let count = |output: &Output| anyhow::Ok(output.told(&scene)?.len());
    let before = outputs.iter().map(|output| count(output)).collect::<Result<Vec<_>>>()?;
    scene.tidemill.succeed(&["build", "--full-refresh"])?;
    scene.tidemill.succeed(&["publish"])?;
    let after = outputs.iter().map(|output| count(output)).collect::<Result<Vec<_>>>()?;
    ensure!(before == after, "a rebuild was told of: {before:?} messages before, {after:?} after");
    Ok(ends)
}

#[test]
fn alerts_of_zoner_are_told_once_whatever_is_killed() -> Result<()> {
    told_whatever_is_killed("zoner", &ZONER, &[], &[&ALERTS_OF_ZONER])?;
    Ok(())
}

#[test]
fn windows_and_alerts_of_activity_are_told_once_whatever_is_killed() -> Result<()> {
    let outputs = [&WINDOWS_OF_ACTIVITY, &ALERTS_OF_ACTIVITY];
    told_whatever_is_killed("activity", &ACTIVITY, &["activity_alerts_enabled: true"], &outputs)?;
    Ok(())
}

#[test]
fn alerts_of_clicks_are_told_once_whatever_is_killed() -> Result<()> {
    told_whatever_is_killed("clicks", &CLICKS, &[], &[&ALERTS_OF_CLICKS])?;
    Ok(())
}

#[test]
fn logins_and_their_windows_are_told_once_whatever_is_killed() -> Result<()> {
    told_whatever_is_killed("logins", &LOGINS, &[], &[&LOGINS_ENRICHED, &USAGE_OF_LOGINS])?;
    Ok(())
}

#[test]
fn both_indices_of_zentry_follow_their_tables_whatever_is_killed() -> Result<()> {
    let ends = told_whatever_is_killed("zentry", &ZENTRY, &[], &[&INDEX_OF_ENTRIES, &INDEX_OF_FEEDS])?;
    ensure!(ends.values().sum::<usize>() > 0, "a deletion ends an entry or its copies: {ends:?}");
    Ok(())
}
