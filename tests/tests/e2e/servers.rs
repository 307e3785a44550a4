//! The servers themselves: what the other tests take for granted about them.

use anyhow::{Result, ensure};
use serde_json::json;
use tidemill_tests::faulty::FaultyHttp;
use tidemill_tests::kafka::Broker;
use tidemill_tests::shared;
use tidemill_tests::topics::{Record, Topics};
use tidemill_tests::toxiproxy::{Direction, Toxiproxy};
use tidemill_tests::{http, wait};

#[test]
fn a_broker_that_is_killed_keeps_its_records() -> Result<()> {
    let mut broker = Broker::start()?;
    let topics = Topics::connect(&broker.bootstrap())?;
    topics.create("kept", 1, &[])?;
    let records: Vec<Record> = (0..100).map(|number| Record::value(number.to_string())).collect();
    topics.producer()?.deliver("kept", &records)?;
    topics.delete_records("kept", 0, 40)?;
    wait::until("the log start on disk", wait::PATIENCE, || {
        let checkpoint = std::fs::read_to_string(broker.folder().join("data/log-start-offset-checkpoint"));
        Ok(checkpoint.unwrap_or_default().contains("kept 0 40").then_some(()))
    })?;
    broker.kill()?;
    broker.restart()?;
    ensure!(topics.watermarks("kept", 0)? == (40, 100));
    Ok(())
}

#[test]
fn a_broker_is_reached_through_a_proxy_and_lost_when_that_is_cut() -> Result<()> {
    let broker = Broker::start()?;
    let toxiproxy = Toxiproxy::start()?;
    let (bootstrap, upstream) = broker.proxied_bootstrap();
    let proxy = toxiproxy.proxy_at("kafka", &bootstrap, &upstream)?;
    let topics = Topics::connect(&bootstrap)?;
    topics.create("proxied", 1, &[])?;
    topics.producer()?.deliver("proxied", &[Record::value("1")])?;
    ensure!(topics.watermarks("proxied", 0)? == (0, 1));
    proxy.set_enabled(false)?;
    // Every byte goes through the proxy: the broker did not send its clients round it.
    ensure!(Topics::connect(&bootstrap)?.num_brokers().is_err());
    Ok(())
}

#[test]
fn an_answer_that_is_cut_off_leaves_the_put_done() -> Result<()> {
    let endpoint = shared::s3()?;
    let toxiproxy = Toxiproxy::start()?;
    let proxy = toxiproxy.proxy("s3", endpoint.trim_start_matches("http://"))?;
    let health = format!("http://{}/healthz", proxy.address());
    http::succeed("GET", &health, None)?;
    proxy.add("timeout", Direction::Downstream, &json!({"timeout": 100}))?;
    ensure!(http::succeed("GET", &health, None).is_err());
    proxy.remove("timeout")?;
    http::succeed("GET", &health, None)?;
    Ok(())
}

#[test]
fn a_faulty_front_answers_with_its_status_and_passes_on_again() -> Result<()> {
    let endpoint = shared::s3()?;
    let front = FaultyHttp::start(endpoint.trim_start_matches("http://"))?;
    let health = format!("http://{}/healthz", front.address());
    http::succeed("GET", &health, None)?;
    front.answer_with(503);
    ensure!(http::send("GET", &health, None)?.status == 503 && front.refused() == 1);
    front.pass();
    http::succeed("GET", &health, None)?;
    Ok(())
}

#[test]
fn the_emulator_keeps_databases_apart() -> Result<()> {
    let snowflake = shared::snowflake()?;
    let (one, two) = (shared::unique_name("one"), shared::unique_name("two"));
    snowflake.query(&one, &["CREATE TABLE T (K VARCHAR)", "INSERT INTO T VALUES ('a'), ('b')"])?;
    let rows = snowflake.query(&one, &["SELECT COUNT(*) AS N FROM T"])?;
    ensure!(rows[0]["N"] == 2, "{rows:?}");
    ensure!(snowflake.query(&two, &["SELECT * FROM T"]).is_err());
    Ok(())
}
