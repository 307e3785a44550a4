//! How commands end: in time, with the code that schedulers go by, and with words that say what to do.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tidemill_tests::embedded::EmbeddedBroker;
use tidemill_tests::ports;
use tidemill_tests::project::{Project, ProjectBuilder};
use tidemill_tests::tidemill::exit;
use tidemill_tests::topics::Record;
use tidemill_tests::wait::{self, PATIENCE};

/// The promise is ten seconds; a loaded machine gets some more to end a process.
const STOP: Duration = Duration::from_secs(15);

fn shop(bootstrap: Option<&str>) -> ProjectBuilder {
    let contract = "{topic: orders, event_time: {column: at, unit: s}, idempotency_key: id}";
    let project = ProjectBuilder::shop(contract, &[("id", "text"), ("at", "timestamp")]).file(
        "models/orders.sql",
        "{{ config(materialized='table') }} select id, at from {{ source('shop', 'orders') }}\n",
    );
    match bootstrap {
        Some(bootstrap) => project.kafka(bootstrap, "shop"),
        None => project,
    }
}

fn nobody() -> String {
    format!("127.0.0.1:{}", ports::free_port())
}

fn with_orders(project: &Project) -> Result<()> {
    let file = project.folder().join("orders.jsonl");
    fs::write(&file, "{\"id\":\"a\",\"at\":1741478400}\n{\"id\":\"b\",\"at\":1741478401}\n")?;
    project.tidemill().succeed(&["ingest", "--from-files", &file.display().to_string()])?;
    Ok(())
}

#[test]
fn without_a_broker_ingest_says_what_to_do_and_a_cycle_builds_and_publishes_what_files_brought() -> Result<()> {
    let project = shop(None).build()?;
    let tidemill = project.tidemill();
    for command in [&["ingest"][..], &["ingest", "--dry-run"]] {
        let refused = tidemill.expect(exit::USAGE, command)?;
        for word in ["TM0401", "bootstrap.servers", "--target", "--from-files"] {
            ensure!(refused.stderr.contains(word), "{word} is not named: {}", refused.stderr);
        }
    }
    with_orders(&project)?;
    tidemill.succeed(&["run"])?;
    ensure!(tidemill.number("select count(*) from orders")? == 2);
    Ok(())
}

#[test]
fn a_broker_that_is_down_asks_for_a_retry_within_the_runs_time_and_warns_meanwhile() -> Result<()> {
    let project = shop(Some(&nobody())).build()?;
    let ended = project.tidemill().expect(exit::RETRY, &["ingest", "--max-duration", "3s"])?;
    ensure!(ended.stderr.contains("WARN") && ended.stderr.contains("trying again"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("tidemill doctor"), "{}", ended.stderr);
    // What does not need the broker works, and says what is missing.
    let status = project.tidemill().succeed(&["status"])?;
    ensure!(status.stderr.contains("lag is not known"), "{}", status.stderr);
    Ok(())
}

#[test]
fn a_store_that_is_down_asks_for_a_retry_whatever_the_command() -> Result<()> {
    let project = shop(Some(&nobody())).s3(&format!("http://{}", nobody()), "none").build()?;
    let tidemill = project.tidemill();
    let ended = tidemill.expect(exit::RETRY, &["ingest", "--max-duration", "2s"])?;
    ensure!(ended.stderr.contains("TM0409"), "{}", ended.stderr);
    for command in [&["build"][..], &["sql", "select * from orders"], &["status"]] {
        let ended = tidemill.expect(exit::RETRY, command)?;
        ensure!(ended.stderr.contains("backing off"), "no warning while it tries: {}", ended.stderr);
    }
    Ok(())
}

#[test]
fn signals_end_every_long_command_with_success() -> Result<()> {
    let broker = EmbeddedBroker::start(&[("orders", 1)])?;
    broker.deliver("orders", &[Record::value("{\"id\":\"a\",\"at\":1741478400}")])?;
    let there = shop(Some(&broker.bootstrap())).build()?;
    let tidemill = there.tidemill();
    tidemill.succeed(&["run"])?;
    for (command, signal) in
        [(&["ingest", "--follow"][..], Signal::SIGINT), (&["run", "--every", "1s"], Signal::SIGTERM)]
    {
        let next = format!("{{\"id\":\"{signal}\",\"at\":1741478400}}");
        let before = tidemill.number("select count(*) from shop.orders")?;
        let mut process = tidemill.spawn(command)?;
        broker.deliver("orders", &[Record::value(next)])?;
        wait::until("the next order", PATIENCE, || {
            Ok((tidemill.number("select count(*) from shop.orders")? > before).then_some(()))
        })?;
        process.signal(signal)?;
        let status = process.wait(STOP)?;
        ensure!(status.code() == Some(exit::DONE), "{command:?} ended with {status}: {}", process.output()?);
    }
    // While the broker is looked for in vain.
    let down = shop(Some(&nobody())).build()?;
    let mut process = down.tidemill().spawn(&["ingest", "--follow"])?;
    process.wait_ready(PATIENCE, || down.lake().join("raw/shop/orders/_delta_log").is_dir())?;
    process.signal(Signal::SIGTERM)?;
    let status = process.wait(STOP)?;
    ensure!(status.code() == Some(exit::DONE), "ended with {status}: {}", process.output()?);
    Ok(())
}

#[test]
fn dry_runs_write_nothing() -> Result<()> {
    let broker = EmbeddedBroker::start(&[("orders", 1)])?;
    broker.deliver("orders", &[Record::value("{\"id\":\"a\",\"at\":1741478400}")])?;
    let project = shop(Some(&broker.bootstrap())).build()?;
    let tidemill = project.tidemill();
    let file = project.folder().join("orders.jsonl");
    fs::write(&file, "{\"id\":\"a\",\"at\":1741478400}\n")?;
    let planned = tidemill.json(&["ingest", "--dry-run"])?;
    ensure!(planned["sources"][0]["lag"] == 1, "{planned}");
    let planned = tidemill.json(&["ingest", "--dry-run", "--from-files", &file.display().to_string()])?;
    ensure!(planned["files"][0]["records"].is_null(), "{planned}");
    for command in [&["build", "--dry-run"][..], &["publish", "--dry-run"], &["maintain", "--dry-run"]] {
        tidemill.json(command)?;
    }
    let is_empty = !project.lake().exists() || fs::read_dir(project.lake())?.next().is_none();
    ensure!(is_empty, "a dry run wrote into the lake");
    tidemill.succeed(&["ingest", "--from-files", &file.display().to_string()])?;
    let planned = tidemill.json(&["ingest", "--dry-run", "--from-files", &file.display().to_string()])?;
    ensure!(planned["files"][0]["records"] == 1, "{planned}");
    Ok(())
}

#[test]
fn every_object_names_its_version_and_its_command() -> Result<()> {
    let project = shop(None).build()?;
    with_orders(&project)?;
    let tidemill = project.tidemill();
    for (command, name) in [
        (&["status"][..], "status"),
        (&["quarantine", "list"], "quarantine list"),
        (&["reconcile"], "reconcile"),
        (&["doctor"], "doctor"),
        (&["maintain"], "maintain"),
    ] {
        let object = tidemill.json(command)?;
        ensure!(object["version"] == 1 && object["command"] == name, "{object}");
    }
    Ok(())
}
