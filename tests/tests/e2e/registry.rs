//! Avro on Apache Kafka with a schema registry: versions that mix, ids that nobody knows, a registry that goes away,
//! transactions, and the check before a release.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidemill_simulate::avro::{
    Kind, SYSTEM_METRIC, Status, SystemMetric, TRANSACTION, Transaction, USER_ACTION_V1, USER_ACTION_V2, UserAction,
    UserActionVersion,
};
use tidemill_tests::kafka::Broker;
use tidemill_tests::mutual_tls::MutualTls;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::registry::{Registry, url_at};
use tidemill_tests::shared;
use tidemill_tests::tidemill::{Tidemill, exit};
use tidemill_tests::topics::{Record, Topics};
use tidemill_tests::toxiproxy::Toxiproxy;

use crate::systems::{self, CLICKS};

const SOURCE: &str = "clicks.user_actions";
/// 2025-03-09T12:00:30Z.
const AT_MS: i64 = 1_741_521_630_000;

const DBT_PROJECT: &str = "name: clicks\nversion: '1.0'\nprofile: none\n";
const SOURCES: &str = "
sources:
  - name: clicks
    tables:
      - name: user_actions
        config: {meta: {tidemill: {
          topic: <actions>, format: avro, schema: schemas/user_action.avsc, partition_by: hour, grace: 300s,
          event_time: {column: occurred_at, unit: ms},
          idempotency_key: [{field: event_id}, {header: idempotency-key}]}}}
        columns:
          - {name: event_id, data_type: text}
          - {name: user_id, data_type: text, config: {meta: {tidemill: {required: true}}}}
          - {name: action, data_type: text, config: {meta: {tidemill: {required: true}}}}
          - {name: occurred_at, data_type: timestamp}
          - {name: session_id, data_type: text}
          - {name: page, data_type: text}
          - {name: properties, data_type: json}
          - {name: experiment_id, data_type: text}
          - {name: variant, data_type: text}
      - name: transactions
        config: {meta: {tidemill: {
          topic: <transactions>, format: avro, schema: schemas/transaction.avsc, partition_by: hour,
          event_time: {column: occurred_at, unit: ms}, idempotency_key: event_id}}}
        columns:
          - {name: event_id, data_type: text}
          - {name: transaction_id, data_type: text}
          - {name: user_id, data_type: text}
          - {name: kind, data_type: text, config: {meta: {tidemill: {accepted_values: [order, payment, refund]}}}}
          - {name: status, data_type: text}
          - {name: amount, data_type: 'decimal(18, 4)'}
          - {name: currency, data_type: text}
          - {name: occurred_at, data_type: timestamp}
";
const STAGING: &str =
    "select event_id, user_id, page as page_path, occurred_at from {{ source('clicks', 'user_actions') }}";
const PAGES: &str = "select page_path, count(*) as views from {{ ref('stg_actions') }} group by page_path";
const MODELS: &str = "
models:
  - name: stg_actions
    config: {materialized: view}
  - name: pages
    config:
      materialized: table
      meta: {tidemill: {publish: [{to: snowflake, table: CLICKS_DB.PROCESSED_DATA.PAGES, unique_key: [page_path]}]}}
";

/// Topics of this test alone, a registry, and a project that reads the ones by the other.
struct Scene {
    topics: Topics,
    actions: String,
    transactions: String,
    registry: Registry,
}

impl Scene {
    fn new() -> Result<Self> {
        let topics = Topics::connect(&shared::kafka()?)?;
        let (actions, transactions) = (shared::unique_name("actions"), shared::unique_name("transactions"));
        for topic in [&actions, &transactions] {
            topics.create(topic, 1, &[])?;
        }
        Ok(Self { topics, actions, transactions, registry: Registry::start()? })
    }

    fn project(&self, registry_url: &str) -> Result<Project> {
        self.builder(registry_url)?.build()
    }

    fn builder(&self, registry_url: &str) -> Result<ProjectBuilder> {
        let sources = SOURCES.replace("<actions>", &self.actions).replace("<transactions>", &self.transactions);
        let project = ProjectBuilder::empty()
            .kafka(&shared::kafka()?, &shared::unique_name("group"))
            .registry(registry_url)
            .file("dbt_project.yml", DBT_PROJECT)
            .file("models/_clicks__sources.yml", &sources)
            .file("models/schemas/user_action.avsc", USER_ACTION_V2)
            .file("models/schemas/transaction.avsc", TRANSACTION)
            .file("models/models.yml", MODELS)
            .file("models/stg_actions.sql", STAGING)
            .file("models/pages.sql", PAGES);
        Ok(project)
    }

    fn subject(&self) -> String {
        format!("{}-value", self.actions)
    }

    /// Both versions' ids.
    fn register_versions(&self) -> Result<(u32, u32)> {
        let subject = self.subject();
        Ok((self.registry.register(&subject, USER_ACTION_V1)?, self.registry.register(&subject, USER_ACTION_V2)?))
    }

    fn send(&self, records: &[Record]) -> Result<()> {
        self.topics.producer()?.deliver(&self.actions, records)
    }
}

fn click(event_id: &str, schema_id: u32, version: UserActionVersion) -> Record {
    let mut value = Vec::new();
    let action = UserAction {
        event_id,
        user_id: "u1",
        action: "click",
        occurred_at_ms: AT_MS,
        session_id: None,
        page: Some("/cart"),
        properties: &[("a \"quoted\" name", "é")],
        experiment_id: Some("e1"),
        variant: Some("on"),
    };
    action.write(schema_id, version, &mut value);
    Record { timestamp_ms: Some(AT_MS), ..Record::value(value) }.to_partition(0)
}

fn ingest(tidemill: &Tidemill) -> Result<Value> {
    tidemill.json(&["ingest", "--select", SOURCE])
}

fn quarantined(tidemill: &Tidemill) -> Result<Vec<String>> {
    let listed = tidemill.json(&["quarantine", "list"])?;
    let entries = listed["entries"].as_array().cloned().unwrap_or_default();
    Ok(entries
        .iter()
        .map(|entry| {
            format!(
                "{}: {}",
                entry["class"].as_str().unwrap_or_default(),
                entry["message"].as_str().unwrap_or_default()
            )
        })
        .collect())
}

#[test]
fn gc6_versions_mix_in_one_batch_and_an_unknown_id_waits_in_quarantine() -> Result<()> {
    let scene = Scene::new()?;
    let (first, second) = scene.register_versions()?;
    let project = scene.project(&scene.registry.url())?;
    let tidemill = project.tidemill();
    scene.send(&[
        click("a1", first, UserActionVersion::V1),
        click("a2", second, UserActionVersion::V2),
        click("a3", 99_999, UserActionVersion::V2),
        click("a2", first, UserActionVersion::V1),
    ])?;
    let report = ingest(&tidemill)?;
    ensure!(report["sources"][0]["commits"] == 1, "one batch: {report}");
    let rows = tidemill.query(&format!(
        "select event_id, experiment_id, variant, page, properties, cast(occurred_at as text) as at, _key from {SOURCE} order by 1"
    ))?;
    let row = |id: &str, experiment: Value, variant: Value| {
        json!({"event_id": id, "experiment_id": experiment, "variant": variant, "page": "/cart",
            "properties": r#"{"a \"quoted\" name":"é"}"#, "at": "2025-03-09T12:00:30Z", "_key": id})
    };
    ensure!(rows == [row("a1", Value::Null, Value::Null), row("a2", json!("e1"), json!("on"))], "{rows:#?}");
    ensure!(quarantined(&tidemill)? == ["unknown_schema: schema 99999 is not in the registry"]);
    tidemill.succeed(&["reconcile", "--deep"])?;
    // Replayed with the registry as it is, the record stays where it is.
    let replayed = tidemill.json(&["quarantine", "replay"])?;
    ensure!(replayed["entries"][0]["outcome"] == "refused", "{replayed}");
    Ok(())
}

#[test]
fn c6_a_registry_that_is_away_stops_the_run_with_a_retryable_exit_and_quarantines_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let (first, second) = scene.register_versions()?;
    let toxiproxy = Toxiproxy::start()?;
    let proxy = toxiproxy.proxy("registry", &scene.registry.address())?;
    let project = scene.project(&url_at(proxy.address()))?;
    let tidemill = project.tidemill();
    scene.send(&[click("a1", first, UserActionVersion::V1)])?;
    ingest(&tidemill)?;

    proxy.set_enabled(false)?;
    scene.send(&[click("a2", first, UserActionVersion::V1), click("a3", second, UserActionVersion::V2)])?;
    let ended = tidemill.expect(exit::RETRY, &["ingest", "--select", SOURCE, "--max-duration", "3s"])?;
    ensure!(ended.stderr.contains("TM0410"), "{}", ended.stderr);
    tidemill.expect(exit::FAILED, &["doctor"])?;

    // It comes back while a run is waiting for it.
    let mut waiting = tidemill.spawn(&["ingest", "--select", SOURCE])?;
    let asks_again = |process: &tidemill_tests::process::Process| -> Result<Option<()>> {
        Ok(process.output()?.contains("schema registry does not answer").then_some(()))
    };
    tidemill_tests::wait::until("the run to ask again", tidemill_tests::wait::PATIENCE, || asks_again(&waiting))?;
    proxy.set_enabled(true)?;
    ensure!(waiting.wait(tidemill_tests::wait::PATIENCE)?.code() == Some(exit::DONE), "{}", waiting.output()?);
    ensure!(tidemill.number(&format!("select count(*) from {SOURCE}"))? == 3);
    ensure!(quarantined(&tidemill)?.is_empty());
    tidemill.succeed(&["reconcile", "--deep"])?;
    Ok(())
}

#[test]
fn gc8_records_of_an_aborted_transaction_are_skipped_and_the_rest_lands() -> Result<()> {
    let scene = Scene::new()?;
    let (first, second) = scene.register_versions()?;
    let project = scene.project(&scene.registry.url())?;
    let tidemill = project.tidemill();
    let records: Vec<Record> =
        (0..6).map(|number| click(&format!("a{number}"), second, UserActionVersion::V2)).collect();
    let producer = scene.topics.transactional_producer(&scene.actions)?;
    producer.transaction(&scene.actions, &records[..2], true)?;
    producer.transaction(&scene.actions, &records[2..5], false)?;
    scene.send(&[click("a7", first, UserActionVersion::V1)])?;
    let report = ingest(&tidemill)?;
    let books = &report["sources"][0]["partitions"][0];
    ensure!(
        books["landed"] == 3 && books["skipped"] == 5 && books["from"] == 0 && books["to"] == 8,
        "landed 3, skipped 5, next offset 8: {books}"
    );
    let status = tidemill.json(&["status"])?;
    let source = status["sources"].as_array().and_then(|all| all.iter().find(|one| one["source"] == SOURCE));
    ensure!(source.is_some_and(|source| source["lag"] == 0), "{status}");
    let keys = tidemill.query(&format!("select _key from {SOURCE} order by 1"))?;
    ensure!(keys == [json!({"_key": "a0"}), json!({"_key": "a1"}), json!({"_key": "a7"})], "{keys:?}");
    Ok(())
}

#[test]
fn c4_amounts_and_symbols_of_transactions_land_exactly() -> Result<()> {
    let scene = Scene::new()?;
    let id = scene.registry.register(&format!("{}-value", scene.transactions), TRANSACTION)?;
    let project = scene.project(&scene.registry.url())?;
    let tidemill = project.tidemill();
    let record = |event_id: &str, kind, status, amount| {
        let mut value = Vec::new();
        let transaction = Transaction {
            event_id,
            transaction_id: "o1",
            user_id: "u1",
            kind,
            status,
            amount,
            currency: "USD",
            occurred_at_ms: AT_MS,
        };
        transaction.write(id, &mut value);
        Record::value(value)
    };
    let records = [
        record("t1", Kind::Order, Status::Completed, 199_900),
        record("t2", Kind::Refund, Status::Failed, -1),
        record("t3", Kind::Payment, Status::Pending, 999_999_999_999_999_999),
    ];
    scene.topics.producer()?.deliver(&scene.transactions, &records)?;
    tidemill.succeed(&["ingest", "--select", "clicks.transactions"])?;
    let rows = tidemill.query(
        "select event_id, kind, status, cast(amount as text) as amount from clicks.transactions order by event_id",
    )?;
    let row = |id: &str, kind: &str, status: &str, amount: &str| json!({"event_id": id, "kind": kind, "status": status, "amount": amount});
    ensure!(
        rows == [
            row("t1", "order", "completed", "19.9900"),
            row("t2", "refund", "failed", "-0.0001"),
            row("t3", "payment", "pending", "99999999999999.9999"),
        ],
        "{rows:#?}"
    );
    Ok(())
}

#[test]
fn c5_a_schema_is_checked_against_registry_contract_models_and_warehouse_and_then_registered() -> Result<()> {
    let scene = Scene::new()?;
    let project = scene.project(&scene.registry.url())?;
    let tidemill = project.tidemill();
    let subject = scene.subject();
    let check = |code: i32, text: &str, arguments: &[&str]| -> Result<Value> {
        std::fs::write(project.folder().join("user_action.avsc"), text)?;
        let file = project.folder().join("user_action.avsc").display().to_string();
        let arguments = [&["--format", "json", "schema", "check", &file], arguments].concat();
        Ok(serde_json::from_str(&tidemill.expect(code, &arguments)?.stdout)?)
    };
    // The first version: nothing is there yet. Without --register it stays so.
    let v2_before = check(exit::DONE, USER_ACTION_V2, &[])?;
    ensure!(v2_before["ok"] == true && scene.registry.versions(&subject)? == json!([]));
    let registered = check(exit::DONE, USER_ACTION_V2, &["--register"])?;
    ensure!(registered["schemas"][0]["subjects"][0]["registered"].is_u64(), "{registered}");
    ensure!(scene.registry.versions(&subject)? == json!([1]));

    // A field without default: the registry refuses, and so nothing is registered.
    let field = r#"{"name": "variant", "type": ["null", "string"], "default": null}"#;
    let with = |text: &str| USER_ACTION_V2.replace(field, &format!("{field}, {text}"));
    let refused = check(exit::REJECTED, &with(r#"{"name": "device", "type": "string"}"#), &["--register"])?;
    let found = &refused["schemas"][0];
    ensure!(found["subjects"][0]["compatible"] == false && found["columns"] == json!([]), "{refused}");
    ensure!(scene.registry.versions(&subject)? == json!([1]));

    // A field that is gone: the registry allows it, the contract's column, a model and a column in Snowflake break.
    let page = r#"{"name": "page", "type": ["null", "string"], "default": null},"#;
    ensure!(USER_ACTION_V2.contains(page));
    let gone = check(exit::REJECTED, &USER_ACTION_V2.replace(page, ""), &["--register"])?;
    let found = &gone["schemas"][0];
    ensure!(found["subjects"][0]["compatible"] == true, "{gone}");
    ensure!(found["columns"][0]["column"] == "page", "{gone}");
    let models: Vec<&str> =
        found["models"].as_array().into_iter().flatten().filter_map(|model| model["model"].as_str()).collect();
    ensure!(models == ["stg_actions", "pages"], "{gone}");
    ensure!(
        found["targets"]
            == json!([{"target": "CLICKS_DB.PROCESSED_DATA.PAGES", "model": "pages", "columns": ["PAGE_PATH", "VIEWS"]}]),
        "{gone}"
    );
    ensure!(scene.registry.versions(&subject)? == json!([1]));

    // A field with default is the next version.
    let next = check(
        exit::DONE,
        &with(r#"{"name": "device", "type": ["null", "string"], "default": null}"#),
        &["--register"],
    )?;
    ensure!(next["ok"] == true && scene.registry.versions(&subject)? == json!([1, 2]), "{next}");
    tidemill.expect(exit::USAGE, &["schema", "check", "no-such-file.avsc", "--select", "clicks.nothing"])?;
    Ok(())
}

#[test]
fn c3_the_shipped_contracts_read_what_producers_write_in_avro() -> Result<()> {
    // A broker of its own: the shipped contracts name their topics.
    let broker = Broker::start()?;
    let topics = Topics::connect(&broker.bootstrap())?;
    let registry = Registry::start()?;
    let id = |topic: &str, schema: &str| -> Result<u32> {
        topics.create(topic, 1, &[])?;
        registry.register(&format!("{topic}-value"), schema)
    };
    let action = id("events.user-actions", USER_ACTION_V2)?;
    let transaction = id("events.transactions", TRANSACTION)?;
    let metric = id("events.system", SYSTEM_METRIC)?;
    let value = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut value = Vec::new();
        write(&mut value);
        Record::value(value)
    };
    let payment = Transaction {
        event_id: "t1",
        transaction_id: "o1",
        user_id: "u1",
        kind: Kind::Payment,
        status: Status::Completed,
        amount: 75_000,
        currency: "USD",
        occurred_at_ms: AT_MS,
    };
    // Producers of metrics give no id: each sample counts, also one that equals another.
    let sample =
        SystemMetric { event_id: None, service: "api", metric: "load", value: 0.5, occurred_at_ms: AT_MS, tags: &[] };
    let producer = topics.producer()?;
    let click = click("a1", action, UserActionVersion::V2);
    producer.deliver("events.user-actions", &[click.clone(), click])?;
    producer.deliver("events.transactions", &[value(&|out| payment.write(transaction, out))])?;
    producer.deliver("events.system", &vec![value(&|out| sample.write(metric, out)); 2])?;

    let project = ProjectBuilder::shipped()
        .kafka(&broker.bootstrap(), &shared::unique_name("group"))
        .registry(&registry.url())
        .build()?;
    let tidemill = project.tidemill();
    let vars = "{clicks_enabled: true, clicks_format: avro}";
    tidemill.succeed(&["ingest", "--select", "clicks", "--vars", vars])?;
    let count = |table: &str| tidemill.json(&["sql", "--vars", vars, &format!("select count(*) as n from {table}")]);
    for (table, rows) in [("stg_clicks__user_actions", 1), ("stg_clicks__transactions", 1), ("stg_clicks__system", 2)] {
        let counted = count(table)?;
        ensure!(counted == json!([{"n": rows}]), "{table}: {counted}");
    }
    tidemill.succeed(&["schema", "check", "--select", "clicks", "--vars", vars])?;
    tidemill.succeed(&["reconcile", "--deep", "--vars", vars])?;
    Ok(())
}

#[test]
fn x34_a_registry_that_asks_for_a_certificate_is_read_with_ours_and_with_no_other() -> Result<()> {
    let scene = Scene::new()?;
    let (_, second) = scene.register_versions()?;
    scene.send(&[click("a1", second, UserActionVersion::V2)])?;
    let front = MutualTls::before(&scene.registry.address())?;
    let url = url_at(&front.address()).replacen("http:", "https:", 1);
    for identity in [None, Some(front.stranger())] {
        let project = scene.builder(&url)?.registry_tls(front.authority(), identity).build()?;
        let tidemill = project.tidemill();
        tidemill.expect(exit::FAILED, &["doctor"])?;
        let ended = tidemill.expect(exit::RETRY, &["ingest", "--select", SOURCE, "--max-duration", "3s"])?;
        ensure!(ended.stderr.contains("TM0410"), "{}", ended.stderr);
        ensure!(quarantined(&tidemill)?.is_empty());
    }
    let project = scene.builder(&url)?.registry_tls(front.authority(), Some(front.client())).build()?;
    let tidemill = project.tidemill();
    tidemill.succeed(&["doctor"])?;
    ingest(&tidemill)?;
    ensure!(tidemill.number(&format!("select count(*) from {SOURCE}"))? == 1);
    tidemill.succeed(&["schema", "check", "--select", SOURCE])?;
    Ok(())
}

/// C3, C6, S9: half of the actions in version 1, half in version 2, some under ids that nobody knows.
#[test]
fn clicks_in_avro_come_to_their_truth_by_way_of_the_registry() -> Result<()> {
    let registry = Registry::start()?;
    let id = |topic: &str, schema: &str| registry.register(&format!("{topic}-value"), schema);
    let ids = [
        id("events.user-actions", USER_ACTION_V1)?,
        id("events.user-actions", USER_ACTION_V2)?,
        id("events.transactions", TRANSACTION)?,
        id("events.system", SYSTEM_METRIC)?,
    ];
    let ids = ids.map(|id| id.to_string());
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let traffic = [&CLICKS[..], &["--schema-ids"], &ids, &["--malformed", "0.01"]].concat();
    let scene = systems::Scene::open_with("clicks", &traffic, &["clicks_format: avro"], |project| {
        project.registry(&registry.url())
    })?;
    scene.comes_to_its_truth_in_any_batches()?;
    let unknown = scene.tidemill.number("select count(*) from ops.quarantine where class = 'unknown_schema'")?;
    ensure!(unknown > 0, "the traffic has ids that nobody knows");
    Ok(())
}
