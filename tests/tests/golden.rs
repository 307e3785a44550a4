//! Golden cases: inputs to expected rows, for every case of `tests/golden/*.yml`, through the binary and an in-process broker.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use saphyr::{LoadableYamlNode, ScalarOwned, YamlOwned};
use serde_json::{Map, Value, json};
use tidemill_tests::installed::repository;
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::tidemill::Tidemill;

const TOPICS: [&str; 6] = ["user_activity", "sleep", "meals", "meal", "light_exposure", "user-login"];
const PARTITIONS: i32 = 4;

macro_rules! golden {
    ($($test:ident: $file:literal, $case:literal;)*) => {
        $(
            #[test]
            fn $test() -> Result<()> {
                run($file, $case)
            }
        )*

        /// A case that is written down and not run would prove nothing.
        #[test]
        fn every_case_is_run() -> Result<()> {
            let run: BTreeSet<(String, String)> = [$(($file.to_owned(), $case.to_owned())),*].into();
            let mut written = BTreeSet::new();
            for file in ["zoner.yml", "logins.yml"] {
                for case in cases(file)? {
                    written.insert((file.to_owned(), text(&case["name"])?));
                }
            }
            ensure!(run == written, "not run: {:?}; not written: {:?}", &written - &run, &run - &written);
            Ok(())
        }
    };
}

golden! {
    gx1_zoner: "zoner.yml", "GX1 key of a zoner event";
    gx2: "zoner.yml", "GX2 five forms of one time are one event";
    gx3: "zoner.yml", "GX3 range of event times";
    gx5: "zoner.yml", "GX5 lateness";
    gz1: "zoner.yml", "GZ1 duplicate on mixed and separate topics";
    gz2: "zoner.yml", "GZ2 hour boundary";
    gz3: "zoner.yml", "GZ3 late event shortens a night";
    gz4: "zoner.yml", "GZ4 cap of 14 hours";
    gz5: "zoner.yml", "GZ5 overlap counts once";
    gz6: "zoner.yml", "GZ6 broken pairs";
    gz7: "zoner.yml", "GZ7 clock changes";
    gz8: "zoner.yml", "GZ8 flight and the noon boundary";
    gz9: "zoner.yml", "GZ9 names and missing fields";
    gz13: "zoner.yml", "GZ13 today's bare stream";
    x20: "zoner.yml", "X20 a late zone changes the zone of later events";
    gx1_logins: "logins.yml", "GX1 key of a login";
    gl1_utc: "logins.yml", "GL1 enrichment in UTC";
    gl1_new_york: "logins.yml", "GL1 enrichment in New York";
    gl2: "logins.yml", "GL2 missing fields";
    gl3_gl4: "logins.yml", "GL3 window, and GL4 the window's end";
    gl5: "logins.yml", "GL5 duplicate as text and as number, in another partition";
    gl6: "logins.yml", "GL6 clock change";
    gl7: "logins.yml", "GL7 late login";
}

fn run(file: &str, name: &str) -> Result<()> {
    let case = cases(file)?
        .into_iter()
        .find(|case| case["name"] == name)
        .with_context(|| format!("{file} has no `{name}`"))?;
    let broker = MockCluster::new(1)?;
    for topic in TOPICS {
        broker.create_topic(topic, PARTITIONS, 1)?;
    }
    let mut project = ProjectBuilder::shipped().kafka(&broker.bootstrap_servers(), "golden");
    if let Some(zones) = case["time_zones"].as_array() {
        let mut csv = "system,user_id,valid_from,tz\n".to_owned();
        for row in zones {
            let cells: Result<Vec<String>> = row.as_array().context("a zone is a list")?.iter().map(text).collect();
            csv.push_str(&format!("{}\n", cells?.join(",")));
        }
        project = project.file("dbt-like-models/seeds/user_time_zones.csv", &csv);
    }
    let project = project.build()?;
    let vars = case["vars"].as_object().cloned().unwrap_or_default();
    let vars = Value::Object(vars).to_string();
    let tidemill = project.tidemill();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap_servers()).create()?;

    let mut books = Books::default();
    for (number, step) in case["steps"].as_array().context("a case has steps")?.iter().enumerate() {
        for record in step["send"].as_array().into_iter().flatten() {
            send(&producer, record)?;
        }
        producer.flush(Duration::from_secs(10))?;
        let as_of = step["as_of"].as_str().unwrap_or("2030-01-01T00:00:00Z");
        tidemill.succeed(&["--vars", &vars, "--as-of", as_of, "run"])?;
        let now = Books::read(&tidemill)?;
        if let Some(expected) = step["books"].as_object() {
            let found = now.since(&books);
            for (outcome, count) in expected {
                ensure!(
                    found[outcome.as_str()] == *count,
                    "{name}, step {number}: books are {found}, not {expected:?}"
                );
            }
        }
        books = now;
        for (table, rows) in step["expect"].as_object().into_iter().flatten() {
            let rows = rows.as_array().context("a table has a list of rows")?;
            check(&tidemill, table, rows).with_context(|| format!("{name}, step {number}, table {table}"))?;
        }
    }
    tidemill.succeed(&["reconcile", "--deep"])?;
    tidemill.succeed(&["publish", "--check"])?;
    Ok(())
}

/// The table holds exactly these rows, as far as their columns go.
fn check(tidemill: &Tidemill, table: &str, expected: &[Value]) -> Result<()> {
    let columns: BTreeSet<&String> = expected.iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    let list: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    let found = tidemill.query(&format!("select {} from {table}", list.join(", ")))?;
    // A row of a case may name fewer columns than its neighbours.
    let matches = |candidate: &Value, row: &Value| {
        row.as_object().is_some_and(|row| row.iter().all(|(column, value)| same(&candidate[column], value)))
    };
    let mut missing: Vec<&Value> = Vec::new();
    let mut left: Vec<&Value> = found.iter().collect();
    for row in expected {
        match left.iter().position(|candidate| matches(candidate, row)) {
            Some(index) => drop(left.swap_remove(index)),
            None => missing.push(row),
        }
    }
    ensure!(
        missing.is_empty() && left.is_empty(),
        "not found: {}\nfound instead: {}",
        missing.into_iter().cloned().collect::<Value>(),
        left.into_iter().cloned().collect::<Value>()
    );
    Ok(())
}

/// Numbers compare to 1e-9, whether written as number or text; instants by their microseconds; all else exactly.
fn same(found: &Value, expected: &Value) -> bool {
    if found == expected {
        return true;
    }
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    if let (Some(found), Some(expected)) = (number(found), number(expected)) {
        return (found - expected).abs() <= 1e-9 * expected.abs().max(1.0);
    }
    match (found.as_str(), expected.as_str()) {
        (Some(found), Some(expected)) => instant(found).is_some() && instant(found) == instant(expected),
        _ => false,
    }
}

/// `2025-03-09T00:00:00.5Z` with all six digits of its fraction.
fn instant(text: &str) -> Option<String> {
    let text = text.strip_suffix('Z')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    (seconds.len() == "2025-03-09T00:00:00".len()).then(|| format!("{seconds}.{fraction:0<6}"))
}

/// Sums over all sources since the project began.
#[derive(Default)]
struct Books {
    landed: i64,
    duplicates: i64,
    quarantined: Map<String, Value>,
}

impl Books {
    fn read(tidemill: &Tidemill) -> Result<Self> {
        let status = tidemill.json(&["status"])?;
        let sum = |outcome: &str| -> i64 {
            status["sources"].as_array().into_iter().flatten().filter_map(|source| source[outcome].as_i64()).sum()
        };
        let mut quarantined = Map::new();
        for entry in
            tidemill.json(&["quarantine", "list", "--limit", "1000"])?["entries"].as_array().into_iter().flatten()
        {
            let class = text(&entry["class"])?;
            let count = quarantined.get(&class).and_then(Value::as_i64).unwrap_or(0);
            quarantined.insert(class, json!(count + 1));
        }
        Ok(Self { landed: sum("landed"), duplicates: sum("duplicates"), quarantined })
    }

    fn since(&self, before: &Self) -> Value {
        let mut quarantined = Map::new();
        for (class, count) in &self.quarantined {
            let earlier = before.quarantined.get(class).and_then(Value::as_i64).unwrap_or(0);
            let count = count.as_i64().unwrap_or(0) - earlier;
            if count > 0 {
                quarantined.insert(class.clone(), json!(count));
            }
        }
        json!({
            "landed": self.landed - before.landed,
            "duplicates": self.duplicates - before.duplicates,
            "quarantined": quarantined,
        })
    }
}

fn send(producer: &BaseProducer, record: &Value) -> Result<()> {
    let payload = match record["raw"].as_str() {
        Some(raw) => raw.to_owned(),
        None => record["value"].to_string(),
    };
    let at_ms = match record["at"].as_str() {
        Some(at) => millis(at)?,
        None => event_ms(&serde_json::from_str(&payload)?)?,
    };
    let partition = i32::try_from(record["partition"].as_i64().unwrap_or(0))?;
    let topic = text(&record["topic"])?;
    producer
        .send(BaseRecord::<str, str>::to(&topic).partition(partition).timestamp(at_ms).payload(&payload))
        .map_err(|(error, _)| error)?;
    Ok(())
}

/// A record is sent at its event's time unless the case says otherwise.
fn event_ms(value: &Value) -> Result<i64> {
    match &value["timestamp"] {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds since the epoch fit")]
        Value::Number(seconds) => Ok((seconds.as_f64().context("a time is finite")? * 1000.0).floor() as i64),
        Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(digits.parse::<i64>()? * 1000),
        Value::String(text) => millis(text),
        other => anyhow::bail!("the record needs `at`: its time is {other}"),
    }
}

/// Milliseconds since the epoch of an instant in UTC, `2025-03-09T00:00:00.5Z`.
fn millis(text: &str) -> Result<i64> {
    let padded = instant(text).with_context(|| format!("`{text}` is no instant in UTC"))?;
    let number =
        |range: std::ops::Range<usize>| padded[range].parse::<i64>().with_context(|| format!("`{text}` is no instant"));
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days from civil, by Howard Hinnant's algorithm: years begin in March, so that leap days come last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3_600 + number(14..16)? * 60 + number(17..19)?;
    Ok(seconds * 1000 + number(20..23)?)
}

fn cases(file: &str) -> Result<Vec<Value>> {
    let path = repository().join("tests/golden").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let documents = YamlOwned::load_from_str(&text).with_context(|| format!("{} is no YAML", file_name(&path)))?;
    let cases = documents.first().map(to_json).context("the file holds a document")?;
    Ok(cases.as_array().context("a file is a list of cases")?.clone())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn to_json(node: &YamlOwned) -> Value {
    match node {
        YamlOwned::Value(ScalarOwned::Boolean(value)) => json!(value),
        YamlOwned::Value(ScalarOwned::Integer(value)) => json!(value),
        YamlOwned::Value(ScalarOwned::FloatingPoint(value)) => json!(value.into_inner()),
        YamlOwned::Value(ScalarOwned::String(value)) => json!(value),
        YamlOwned::Sequence(items) => items.iter().map(to_json).collect(),
        YamlOwned::Mapping(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (to_json(key).as_str().unwrap_or_default().to_owned(), to_json(value)))
                .collect(),
        ),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"))
}
