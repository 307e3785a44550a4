//! Golden cases: the stories and unit tests of the shipped project, told by the command that its users run.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::installed::repository;
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::tidemill::exit;

/// What switches all systems of the shipped project on.
const SYSTEMS: &str = "{activity_enabled: true, activity_alerts_enabled: true, clicks_enabled: true}";

/// The cases of the systems that a story must prove, by the beginning of its name.
const STORIES: [&str; 44] = [
    "GX1_key_of_a_zoner_event",
    "GX1_key_of_a_login",
    "GX1_key_of_a_reading",
    "GX2",
    "GX3",
    "GX4",
    "GX5",
    "GX5_lateness_of_clicks",
    "GZ1",
    "GZ2",
    "GZ3",
    "GZ4",
    "GZ5",
    "GZ6",
    "GZ7",
    "GZ8",
    "GZ9",
    "GZ13",
    "X20",
    "GL1_enrichment_in_UTC",
    "GL1_enrichment_in_New_York",
    "GL2",
    "GL3",
    "GL5",
    "GL6",
    "GL7",
    "GA1",
    "GA2",
    "GA3",
    "GA4",
    "GA5",
    "GA6",
    "GA7",
    "GA8",
    "GA9",
    "GC1",
    "GC2",
    "GC3",
    "GC4",
    "GC5",
    "GC6",
    "GC7",
    "GC9",
    "GC11",
];

#[test]
fn the_shipped_stories_and_unit_tests_come_out_as_they_are_written() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    let tidemill = project.tidemill();
    let report = tidemill.json(&["test", "--vars", SYSTEMS, "--select", "test_type:unit test_type:scenario"])?;
    let nodes = report["nodes"].as_array().context("a report has nodes")?;
    for node in nodes {
        ensure!(node["outcome"] == "pass", "{}: {}", node["name"], node["message"]);
    }
    for story in STORIES {
        let is_told = |node: &Value| {
            let name = node["name"].as_str().unwrap_or_default();
            node["test"]["test_type"] == "scenario" && (name == story || name.starts_with(&format!("{story}_")))
        };
        ensure!(nodes.iter().any(is_told), "nobody tells {story}");
    }
    // GL8 is a unit test: windows add.
    ensure!(nodes.iter().any(|node| node["name"] == "windows_add"), "nobody tells GL8");
    Ok(())
}

const SOURCES: &str = "\
sources:
  - name: shop
    tables:
      - name: orders
        config:
          meta:
            tidemill: {topic: orders, event_time: ordered_at, idempotency_key: order_id}
        columns:
          - {name: order_id, data_type: text}
          - {name: ordered_at, data_type: timestamp}
          - {name: amount, data_type: double}
";

const ORDERS_DAILY: &str = "\
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='order_date', batch_size='day', begin='2025-03-01') }}
select cast(ordered_at as date) as order_date, sum(amount) as amount
from {{ source('shop', 'orders') }} group by cast(ordered_at as date)
";

const FCT_ORDERS: &str = "\
{{ config(materialized='table') }}
select 'a' as order_id, 1 as line_number, 3 as total, 2 as net, 1 as tax, date '2024-02-01' as ordered_on, 'open' as status
";

/// The examples of docs/testing.md, in a project that has what they speak of.
#[test]
fn the_examples_of_the_page_on_testing_work() -> Result<()> {
    let page = std::fs::read_to_string(repository().join("docs/testing.md"))?;
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(example, _)| example).collect();
    let [data, unit, scenario] = examples.as_slice() else { anyhow::bail!("{} examples", examples.len()) };
    let project = ProjectBuilder::empty()
        .file("dbt_project.yml", "name: shop\nversion: \"1.0.0\"\nconfig-version: 2\n")
        .file("models/_shop__sources.yml", SOURCES)
        .file("models/orders_daily.sql", ORDERS_DAILY)
        .file("models/fct_orders.sql", FCT_ORDERS)
        .file("models/orders.sql", "{{ config(materialized='table') }} select 'a' as order_id\n")
        .file("seeds/regions.csv", "id,region\n1,north\n")
        .file("models/fct_orders.yml", data)
        .file("models/unit_tests.yml", unit)
        .file("tests/scenarios/stories.yml", scenario)
        .build()?;
    let tidemill = project.tidemill();
    tidemill.succeed(&["build", "--select", "fct_orders orders"])?;
    let report = tidemill.json(&["test", "--full"])?;
    let nodes = report["nodes"].as_array().context("a report has nodes")?;
    for node in nodes {
        ensure!(node["outcome"] == "pass", "{}: {}", node["name"], node["message"]);
    }
    ensure!(nodes.len() == 7, "{} tests", nodes.len());
    Ok(())
}

/// What the terminal says of tests that do not pass.
#[test]
fn a_failed_test_ends_with_3_and_says_where_to_look_and_a_warning_with_0() -> Result<()> {
    let tests = |severity: &str| {
        format!(
            "models: [{{name: bare, columns: [{{name: id, data_tests: [{{not_null: {{config: {{severity: {severity}}}}}}}]}}]}}]"
        )
    };
    let project = ProjectBuilder::empty()
        .file("dbt_project.yml", "name: shop\nversion: \"1.0.0\"\nconfig-version: 2\n")
        .file("models/bare.sql", "{{ config(materialized='table') }} select cast(null as bigint) as id\n")
        .file("models/bare.yml", &tests("error"))
        .build()?;
    let tidemill = project.tidemill();
    tidemill.succeed(&["run-models"])?;
    let finished = tidemill.expect(exit::REJECTED, &["test", "--store-failures"])?;
    for words in [
        "Failure in test not_null_bare_id",
        "got 1 result, configured to fail if != 0",
        "target/compiled/shop/models/bare.yml/not_null_bare_id.sql",
        "see the failing rows: tidemill sql \"select * from main_dbt_test__audit.not_null_bare_id\"",
    ] {
        ensure!(finished.stdout.contains(words), "`{words}` is not told: {}", finished.stdout);
    }
    ensure!(finished.stderr.contains("1 of 1 FAIL 1 not_null_bare_id"), "{}", finished.stderr);
    ensure!(tidemill.number("select count(*) from main_dbt_test__audit.not_null_bare_id")? == 1);
    std::fs::write(project.folder().join("models/bare.yml"), tests("warn"))?;
    let finished = tidemill.succeed(&["test"])?;
    ensure!(finished.stdout.contains("Warning in test not_null_bare_id"), "{}", finished.stdout);
    Ok(())
}
