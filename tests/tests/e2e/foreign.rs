//! Other people's projects: contracts as they may be written, none like ours, from the embedded broker to SQL.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidemill_tests::embedded::EmbeddedBroker;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::exit;
use tidemill_tests::topics::Record;

/// 2025-03-09T00:00:00Z in seconds.
const MIDNIGHT_S: i64 = 1_741_478_400;

fn project(broker: &EmbeddedBroker, name: &str, sources: &str) -> ProjectBuilder {
    ProjectBuilder::empty()
        .kafka(&broker.bootstrap(), name)
        .kafka_property("session.timeout.ms", "4000")
        .kafka_property("heartbeat.interval.ms", "500")
        .file(
            "dbt_project.yml",
            &format!("name: {name}\nversion: \"1.0.0\"\nconfig-version: 2\nmodel-paths: [models]\n"),
        )
        .file("models/_sources.yml", sources)
}

fn record(value: &Value) -> Record {
    Record { timestamp_ms: Some(MIDNIGHT_S * 1000), ..Record::value(value.to_string()) }
}

/// The classes in quarantine, sorted.
fn classes(project: &Project) -> Result<Vec<String>> {
    let listed = project.tidemill().json(&["quarantine", "list"])?;
    let entries = listed["entries"].as_array().context("the list has entries")?;
    let mut classes: Vec<String> =
        entries.iter().filter_map(|entry| entry["class"].as_str().map(str::to_owned)).collect();
    classes.sort();
    Ok(classes)
}

const LIBRARY: &str = r"
sources:
  - name: bücherei
    tables:
      - name: ausleihen
        description: Was ausgeliehen wurde.
        config:
          meta:
            tidemill:
              topic: ausleihe.v1
              event_time: {column: wann, time_zone: Europe/Berlin}
              idempotency_key: [leser, select]
              partition_by: hour
              on_missing: unbekannt
              on_extra: keep
        columns:
          - {name: leser, data_type: bigint, config: {meta: {tidemill: {required: true}}}}
          - {name: select, data_type: text}
          - {name: wann, data_type: timestamp}
          - {name: preis, data_type: 'numeric(38, 9)'}
          - {name: größe, data_type: 'decimal(5,1)'}
          - {name: order, data_type: integer, config: {meta: {tidemill: {on_missing: 7}}}}
          - {name: ort, data_type: text}
          - {name: notiz, data_type: text, config: {meta: {tidemill: {on_missing: '', empty_is_missing: false}}}}
          - name: titel
            data_type: 'struct<isbn text, jahr bigint, verfasser array<struct<name text, lebt boolean>>>'
          - {name: zahlen, data_type: 'bigint[]'}
          - {name: anhang, data_type: json}
          - {name: fällig, data_type: date}
          - {name: tief, data_type: double, config: {meta: {tidemill: {from: [daten.tief, daten.alt]}}}}
";

#[test]
fn a_library_with_reserved_words_umlauts_and_nested_columns() -> Result<()> {
    let broker = EmbeddedBroker::start(&[("ausleihe.v1", 2)])?;
    let project = project(&broker, "bibliothek", LIBRARY)
        .file(
            "models/ausleihen_je_ort.sql",
            "{{ config(materialized='table') }}\nselect ort, count(*) as anzahl, sum(preis) as preis\n\
             from {{ source('bücherei', 'ausleihen') }}\ngroup by ort\n",
        )
        .build()?;
    let whole = r#"{"leser":9007199254740993,"select":"A","wann":"2025-03-09 01:30:00.000001",
        "preis":12345678901234567890123456789.123456789,"größe":-1.25,"order":null,"ort":"München",
        "notiz":"","titel":{"isbn":"978","jahr":1999,"verfasser":[{"name":"Ä","lebt":false},{"name":"B"}]},
        "zahlen":[1,null,-9223372036854775808],"anhang":{"a":[1,2.50,{"b":null}]},"fällig":"2025-04-01",
        "daten":{"alt":1e-3,"neu":true},"extra":{"x":1.10}}"#;
    let records = [
        Record::value(whole),
        Record::value(whole).to_partition(1),
        // Summer time begins: 02:30 does not exist that day in Berlin, 03:30 is 01:30 UTC.
        record(&json!({"leser": 1, "select": "B", "wann": "2025-03-30T03:30:00"})),
        record(&json!({"leser": 1, "select": "C", "wann": "2025-03-30T02:30:00"})),
        record(&json!({"leser": 1, "select": "D", "wann": "2025-03-09T00:00:00Z", "preis": 1e30})),
        record(&json!({"select": "E", "wann": "2025-03-09T00:00:00Z"})),
        record(&json!({"leser": 1, "select": "F", "wann": "2025-03-09T00:00:00Z", "titel": {"jahr": "alt"}})),
    ]
    .map(|record| Record { timestamp_ms: Some(1_743_300_000_000), ..record });
    broker.deliver("ausleihe.v1", &records)?;
    let tidemill = project.tidemill();
    tidemill.succeed(&["ingest"])?;
    let rows = tidemill.query(
        "select leser, \"select\", cast(wann as text) as wann, cast(preis as text) as preis, cast(\"größe\" as text) as g, \
         \"order\", ort, notiz, titel['verfasser'][1]['name'] as autor, zahlen[3] as zahl, anhang, \
         cast(\"fällig\" as text) as f, tief, _extra, event_hour \
         from \"bücherei\".ausleihen order by \"select\"",
    )?;
    ensure!(rows.len() == 2, "{rows:?}");
    let expected = json!({
        "leser": 9_007_199_254_740_993_i64, "select": "A", "wann": "2025-03-09T00:30:00.000001Z",
        "preis": "12345678901234567890123456789.123456789", "g": "-1.3", "order": 7, "ort": "München", "notiz": "",
        "autor": "Ä", "zahl": i64::MIN, "anhang": "{\"a\":[1,2.50,{\"b\":null}]}", "f": "2025-04-01", "tief": 0.001,
        "_extra": "{\"daten\":{\"neu\":true},\"extra\":{\"x\":1.10}}", "event_hour": 0,
    });
    ensure!(rows[0] == expected, "{}\n{expected}", rows[0]);
    ensure!(rows[1]["wann"] == "2025-03-30T01:30:00Z" && rows[1]["ort"] == "unbekannt", "{}", rows[1]);
    // An hour that does not exist, a number too long for its column, no reader, a year in words.
    ensure!(
        classes(&project)? == ["bad_event_time", "bad_value", "missing_field", "wrong_type"],
        "{:?}",
        classes(&project)?
    );
    tidemill.succeed(&["reconcile", "--deep"])?;
    tidemill.succeed(&["build"])?;
    ensure!(tidemill.number("select anzahl from ausleihen_je_ort where ort = 'München'")? == 1);
    tidemill.succeed(&["ingest"])?;
    ensure!(tidemill.number("select count(*) from \"bücherei\".ausleihen")? == 2);
    Ok(())
}

const MACHINES: &str = r"
sources:
  - name: plant
    config: {meta: {tidemill: {event_time: {column: ts, unit: us}, on_extra: quarantine}}}
    tables:
      - name: readings
        config:
          meta:
            tidemill:
              topics:
                - {name: '^plant\.(?<line>[a-z]+)\.\d+$'}
                - {name: plant.special, set: {kind: special}}
              idempotency_key: [{header: ce_id}, {field: id}, {coordinates: true}]
        columns:
          - {name: ts, data_type: timestamp}
          - {name: id, data_type: uuid}
          - {name: kind, data_type: text, config: {meta: {tidemill: {accepted_values: [plain, special], aliases: {PLAIN: plain}}}}}
          - {name: ok, data_type: boolean, config: {meta: {tidemill: {accept_text: true}}}}
          - {name: value, data_type: double, config: {meta: {tidemill: {min: -1.5, max: 1.5}}}}
      - name: days
        config:
          meta: {tidemill: {topic: days, event_time: {column: seen, unit: ns}, idempotency_key: coordinates, on_extra: drop}}
        columns:
          - {name: seen, data_type: bigint}
          - {name: day, data_type: date}
      - name: not_ours
        config: {meta: {tidemill: {topic: not.there, enabled: false}}}
        columns: [{name: ts, data_type: timestamp}]
";

#[test]
fn a_plant_with_topics_by_pattern_keys_from_headers_and_no_keys() -> Result<()> {
    let broker = EmbeddedBroker::start(&[
        ("plant.press.1", 1),
        ("plant.weld.22", 1),
        ("plant.special", 1),
        ("plant.X.1", 1),
        ("days", 1),
    ])?;
    let project = project(&broker, "plant", MACHINES).build()?;
    let at_us = MIDNIGHT_S * 1_000_000;
    let id = "0188d4e2-5f7a-7c3e-9f1a-0123456789ab";
    let with_header = |value: &Value, header: &str| Record {
        headers: vec![("other".to_owned(), b"x".to_vec()), ("ce_id".to_owned(), header.as_bytes().to_vec())],
        ..record(value)
    };
    broker.deliver(
        "plant.press.1",
        &[
            with_header(&json!({"ts": at_us, "kind": "PLAIN", "ok": "true", "value": -1.5}), "one"),
            with_header(&json!({"ts": at_us + 1, "kind": "plain"}), "one"),
            record(&json!({"ts": at_us, "id": id, "kind": "plain"})),
            record(&json!({"ts": at_us, "kind": "plain", "value": 1.500_001})),
            record(&json!({"ts": at_us, "kind": "odd"})),
            record(&json!({"ts": at_us, "kind": "plain", "new_field": 1})),
            record(&json!({"ts": at_us, "kind": "plain", "id": "no uuid"})),
        ],
    )?;
    broker.deliver("plant.weld.22", &[record(&json!({"ts": at_us, "id": id, "kind": "plain"}))])?;
    // No key of any kind: its place in the topic makes it one of its own.
    broker.deliver("plant.special", &[record(&json!({"ts": at_us})), record(&json!({"ts": at_us}))])?;
    broker.deliver("plant.X.1", &[record(&json!({"ts": at_us, "kind": "plain"}))])?;
    let day = json!({"seen": at_us * 1000 + 999, "day": "2024-02-29", "more": 1});
    broker.deliver("days", &[record(&day), record(&day)])?;

    let tidemill = project.tidemill();
    tidemill.succeed(&["ingest"])?;
    let rows = tidemill.query("select kind, count(*) as n from plant.readings group by kind order by kind")?;
    ensure!(rows == [json!({"kind": "plain", "n": 2}), json!({"kind": "special", "n": 2})], "{rows:?}");
    ensure!(
        tidemill.number("select count(distinct _topic) from plant.readings")? == 2,
        "a copy of another topic landed"
    );
    ensure!(tidemill.number("select count(*) from plant.days where day = date '2024-02-29' and _extra is null")? == 2);
    ensure!(tidemill.number("select max(seen) from plant.days")? == at_us * 1000 + 999);
    ensure!(classes(&project)? == ["bad_value"; 4], "{:?}", classes(&project)?);
    let status = tidemill.json(&["status"])?;
    let sources: Vec<_> = status["sources"].as_array().context("sources")?.iter().map(|of| &of["source"]).collect();
    ensure!(sources == ["plant.readings", "plant.days"], "{sources:?}");
    tidemill.succeed(&["reconcile", "--deep"])?;
    // A patch for what is in quarantine, twice: the second time nothing is left to do.
    let patch = "{\"value\": 0, \"kind\": \"plain\", \"id\": null, \"new_field\": null}";
    tidemill.succeed(&["quarantine", "replay", "--class", "bad_value", "--patch", patch])?;
    tidemill.succeed(&["quarantine", "replay", "--class", "bad_value", "--patch", patch])?;
    ensure!(tidemill.number("select count(*) from plant.readings")? == 8);
    tidemill.succeed(&["reconcile", "--deep"])?;
    Ok(())
}

#[test]
fn a_table_of_two_hundred_columns_from_a_project_that_lies_elsewhere() -> Result<()> {
    const COLUMNS: usize = 200;
    let mut sources = String::from(
        "sources:\n  - name: wide\n    tables:\n      - name: rows\n        config: {meta: {tidemill: {topic: wide, event_time: {column: at, unit: ms}, idempotency_key: c0}}}\n        columns:\n          - {name: at, data_type: timestamp}\n",
    );
    let types = ["text", "bigint", "double", "boolean", "date", "numeric(20,4)", "json", "timestamp"];
    for number in 0..COLUMNS {
        let data_type = types[number % types.len()];
        let unit = if data_type == "timestamp" { ", config: {meta: {tidemill: {unit: s}}}" } else { "" };
        writeln!(sources, "          - {{name: c{number}, data_type: '{data_type}'{unit}}}")?;
    }
    let broker = EmbeddedBroker::start(&[("wide", 3)])?;
    let project = project(&broker, "wide", &sources).build()?;
    let value = |row: i64| {
        let mut object = serde_json::Map::from_iter([("at".to_owned(), json!(MIDNIGHT_S * 1000 + row))]);
        for number in 0..COLUMNS {
            let value = match number % types.len() {
                0 => json!(format!("text {row} {number}")),
                1 => json!(row * 1000 + i64::try_from(number).unwrap_or_default()),
                2 => json!(0.5),
                3 => json!(row % 2 == 0),
                4 => json!("2025-03-09"),
                5 => json!(12.3456),
                6 => json!({"n": [number]}),
                _ => json!(MIDNIGHT_S),
            };
            object.insert(format!("c{number}"), value);
        }
        record(&Value::Object(object)).to_partition(i32::try_from(row % 3).unwrap_or_default())
    };
    let records: Vec<Record> = (0..300).map(value).collect();
    broker.deliver("wide", &records)?;
    // From a folder that has nothing to do with the project, by a relative path.
    let elsewhere = tempfile::tempdir()?;
    let link = elsewhere.path().join("project");
    std::os::unix::fs::symlink(project.folder(), &link)?;
    let mut command = std::process::Command::new(tidemill_tests::tidemill::binary()?);
    let output = command.current_dir(elsewhere.path()).args(["--project-dir", "project", "ingest"]).output()?;
    ensure!(output.status.code() == Some(exit::DONE), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(fs::read_dir(elsewhere.path())?.count() == 1, "something was written beside the project");

    let tidemill = project.tidemill();
    ensure!(tidemill.number("select sum(c1) from wide.rows")? == (0..300).map(|row| row * 1000 + 1).sum::<i64>());
    ensure!(tidemill.number("select count(*) from wide.rows where c198 = '{\"n\":[198]}' and c197 = 12.3456")? == 300);
    tidemill.succeed(&["reconcile", "--deep"])?;
    Ok(())
}
