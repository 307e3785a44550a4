//! Publishing to Snowflake, on the emulator, looked at through Snowflake's own Python connector.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tidemill_tests::logins::{Plan, Traffic, Truth, traffic};
use tidemill_tests::shared;
use tidemill_tests::snowflake::Address;
use tidemill_tests::tidemill::exit;
use tidemill_tests::wait::PATIENCE;

use crate::balance::{SOURCE, Scene, assert_models, drain};

const MODELS: &str = "logins_enriched+";

/// The statements of a publication that adds to tables, in their order; `setup` only where nothing is there yet.
const STEPS: [&str; 21] = [
    "setup",
    "put",
    "take",
    "heads",
    "columns",
    "state",
    "create_staging",
    "truncate_staging",
    "copy",
    "staged",
    "rollback",
    "begin",
    "head",
    "merge",
    "count",
    "ledger",
    "runs",
    "freshness",
    "commit",
    "proof",
    "clean",
];

/// Rows of the published tables are those of the traffic, each once.
fn assert_published(address: Address, database: &str, truth: &Truth) -> Result<()> {
    let logins = address.query(
        database,
        &["SELECT COUNT(*) AS N, COUNT(DISTINCT EVENT_KEY) AS K, SUM(\"TIMESTAMP\") AS S FROM PROCESSED_DATA.PROCESSED_LOGINS"],
    )?;
    let logins = logins.first().context("an aggregate yields one row")?;
    for (column, expected) in [("N", truth.landed), ("K", truth.landed), ("S", truth.timestamp_sum)] {
        ensure!(number(&logins[column])? == expected, "{column} should be {expected}: {logins:?}");
    }
    let rows = address.query(
        database,
        &["SELECT DATE_PART(EPOCH_SECOND, WINDOW_START) AS START, MESSAGE_COUNT AS N FROM PROCESSED_DATA.AGGREGATED_USAGE"],
    )?;
    let mut windows = BTreeMap::new();
    for row in &rows {
        let before = windows.insert(number(&row["START"])?, number(&row["N"])?);
        ensure!(before.is_none(), "a window is there twice: {row:?}");
    }
    ensure!(windows == truth.windows, "{} windows instead of {}", windows.len(), truth.windows.len());
    Ok(())
}

/// Whole numbers arrive as such, as decimals or as text.
fn number(value: &Value) -> Result<i64> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let whole = text.strip_suffix(".0").unwrap_or(&text);
    whole.parse().with_context(|| format!("{value} is no whole number"))
}

#[test]
fn what_is_published_equals_the_models_and_a_second_time_sends_nothing() -> Result<()> {
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(41, 4_000, 2));
    let (address, database) = (shared::snowflake()?, shared::unique_name("db").to_uppercase());
    let project = scene.project().snowflake(address, &database).build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    for part in records.chunks(records.len().div_ceil(3)) {
        producer.deliver(&scene.topic, part)?;
        tidemill.succeed(&["run", "--select", MODELS])?;
    }
    assert_models(&tidemill, &truth)?;
    assert_published(address, &database, &truth)?;
    tidemill.succeed(&["publish", "--select", MODELS])?;
    tidemill.succeed(&["publish", "--check", "--select", MODELS])?;
    assert_published(address, &database, &truth)
}

#[test]
fn a_kill_between_any_two_statements_loses_and_doubles_nothing() -> Result<()> {
    let scene = Scene::new(2)?;
    let Traffic { records, truth } = traffic(&Plan::new(42, 6_000, 2));
    let (address, database) = (shared::snowflake()?, shared::unique_name("db").to_uppercase());
    let project = scene.project().snowflake(address, &database).build()?;
    let tidemill = project.tidemill();
    let producer = scene.topics.producer()?;
    for (step, part) in STEPS.iter().zip(records.chunks(records.len().div_ceil(STEPS.len()))) {
        producer.deliver(&scene.topic, part)?;
        drain(&tidemill)?;
        tidemill.succeed(&["build", "--select", MODELS])?;
        let point = format!("publish.snowflake.{step}");
        let mut publisher = tidemill.clone().crash_at(&point, 1).spawn(&["publish", "--select", MODELS])?;
        let status = publisher.wait(PATIENCE)?;
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        ensure!(killed, "{point} was never reached: {status}\n{}", publisher.output()?);
    }
    tidemill.succeed(&["publish", "--select", MODELS])?;
    assert_models(&tidemill, &truth)?;
    assert_published(address, &database, &truth)
}

#[test]
fn a_warehouse_that_is_not_there_asks_for_a_retry_and_the_lake_is_built_all_the_same() -> Result<()> {
    let scene = Scene::new(1)?;
    let Traffic { records, truth } = traffic(&Plan::new(43, 500, 1));
    scene.topics.producer()?.deliver(&scene.topic, &records)?;
    let nobody = Address { port: tidemill_tests::ports::free_port() };
    let project = scene.project().snowflake(nobody, "NONE").build()?;
    let tidemill = project.tidemill();
    tidemill.expect(exit::RETRY, &["run", "--select", MODELS])?;
    tidemill.succeed(&["reconcile", "--source", SOURCE])?;
    assert_models(&tidemill, &truth)
}
