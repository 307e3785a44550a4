//! Golden cases: the stories and unit tests of the shipped project, told by the command that its users run.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidemill_tests::installed::repository;
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::tidemill::exit;

/// What switches all systems of the shipped project on.
const SYSTEMS: &str =
    "{activity_enabled: true, activity_alerts_enabled: true, clicks_enabled: true, zentry_enabled: true}";

/// Tells all stories of a system, which must come out as they are written; `cases` are those that must be among them, by the
/// beginning of their names.
fn tell_stories_of(system: &str, cases: &[&str]) -> Result<()> {
    let nodes = run_tests(&format!("test_type:scenario,path:tests/scenarios/{system}.yml"))?;
    for case in cases {
        let is_told = |node: &Value| {
            let name = node["name"].as_str().unwrap_or_default();
            node["test"]["test_type"] == "scenario" && (name == *case || name.starts_with(&format!("{case}_")))
        };
        ensure!(nodes.iter().any(is_told), "nobody tells {case}");
    }
    Ok(())
}

/// Runs tests of the shipped project with every system switched on; each must pass.
fn run_tests(selected: &str) -> Result<Vec<Value>> {
    let project = ProjectBuilder::shipped().build()?;
    let report = project.tidemill().json(&["test", "--vars", SYSTEMS, "--select", selected])?;
    let nodes = report["nodes"].as_array().context("a report has nodes")?;
    for node in nodes {
        ensure!(node["outcome"] == "pass", "{}: {}", node["name"], node["message"]);
    }
    Ok(nodes.clone())
}

#[test]
fn the_stories_of_zoner_come_out_as_they_are_written() -> Result<()> {
    let cases = [
        "GX1", "GX2", "GX3", "GX5", "GZ1", "GZ2", "GZ3", "GZ4", "GZ5", "GZ6", "GZ7", "GZ8", "GZ9", "GZ10", "GZ11",
        "GZ12", "GZ13", "X20", "Z5", "Z15",
    ];
    tell_stories_of("zoner", &cases)
}

#[test]
fn the_stories_of_activity_come_out_as_they_are_written() -> Result<()> {
    let cases = ["GX1", "GA1", "GA2", "GA3", "GA4", "GA5", "GA6", "GA7", "GA8", "GA9"];
    tell_stories_of("activity", &cases)
}

#[test]
fn the_stories_of_clicks_come_out_as_they_are_written() -> Result<()> {
    let cases = ["GX4", "GX5", "GC1", "GC2", "GC3", "GC4", "GC5", "GC6", "GC7", "GC9", "GC11"];
    tell_stories_of("clicks", &cases)
}

#[test]
fn the_stories_of_logins_come_out_as_they_are_written() -> Result<()> {
    let cases =
        ["GX1", "GL1_enrichment_in_UTC", "GL1_enrichment_in_New_York", "GL2", "GL3", "GL5", "GL6", "GL7", "GL8"];
    tell_stories_of("logins", &cases)
}

#[test]
fn the_stories_of_zentry_come_out_as_they_are_written() -> Result<()> {
    let cases =
        ["GX1", "GE1", "GE2", "GE3", "GE4", "GE5", "GE6", "GE7", "E14", "GE8", "GE9", "GE10", "E2", "E6", "E9", "E12"];
    tell_stories_of("zentry", &cases)
}

#[test]
fn the_unit_tests_of_the_shipped_models_pass() -> Result<()> {
    let nodes = run_tests("test_type:unit")?;
    for unit in ["GL8_windows_add", "parts_of_a_window_from_two_processes_add"] {
        ensure!(nodes.iter().any(|node| node["name"] == unit), "nobody tells {unit}");
    }
    Ok(())
}

/// A system that is off is not there: no model, no test, no topic that `ingest` would look for.
#[test]
fn a_system_that_is_off_leaves_no_trace_and_one_variable_switches_it_on() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    let tidemill = project.tidemill();
    let names = |arguments: &[&str]| -> Result<String> {
        Ok(tidemill.succeed(&[&["ls", "--output", "name"], arguments].concat())?.stdout)
    };
    ensure!(!names(&[])?.contains("zentry"), "zentry is off");
    let on = names(&["--vars", SYSTEMS])?;
    for name in ["zentry_feed_fanout", "zentry.sleep_entries", "GE7_celebrity"] {
        ensure!(on.lines().any(|line| line.ends_with(name)), "`{name}` is not there: {on}");
    }
    Ok(())
}

/// Words that Snowflake takes for its own wherever a column's name may stand.
/// Source: Snowflake's documentation, "Reserved & limited keywords".
const RESERVED_WORDS: &str = "ACCOUNT ALL ALTER AND ANY AS BETWEEN BY CASE CAST CHECK COLUMN CONNECT CONNECTION CONSTRAINT CREATE \
    CROSS CURRENT CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP CURRENT_USER DATABASE DELETE DISTINCT DROP ELSE EXISTS FALSE \
    FOLLOWING FOR FROM FULL GRANT GROUP GSCLUSTER HAVING ILIKE IN INCREMENT INNER INSERT INTERSECT INTO IS ISSUE JOIN LATERAL \
    LEFT LIKE LOCALTIME LOCALTIMESTAMP MINUS NATURAL NOT NULL OF ON OR ORDER ORGANIZATION QUALIFY REGEXP REVOKE RIGHT RLIKE \
    ROW ROWS SAMPLE SCHEMA SELECT SET SOME START TABLE TABLESAMPLE THEN TO TRIGGER TRUE TRY_CAST UNION UNIQUE UPDATE USING \
    VALUES VIEW WHEN WHENEVER WHERE WITH";

/// SYSTEMS.md, notation (X25): tables and columns in Snowflake have names that need no quotes.
#[test]
fn published_names_are_no_reserved_words() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    project.tidemill().succeed(&["parse", "--vars", SYSTEMS])?;
    let manifest = std::fs::read_to_string(project.folder().join("dbt-like-models/target/manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let reserved: Vec<&str> = RESERVED_WORDS.split_whitespace().collect();
    let mut num_tables = 0;
    for (id, node) in manifest["nodes"].as_object().context("a manifest has nodes")? {
        let Some(entries) = node["config"]["meta"]["tidemill"]["publish"].as_array() else { continue };
        for entry in entries.iter().filter(|entry| entry["to"] == "snowflake") {
            let table = entry["table"].as_str().context("a table has a name")?;
            let renamed =
                entry["columns"].as_object().map(|columns| columns.values().filter_map(Value::as_str).collect());
            let declared = || node["columns"].as_object().map(|columns| columns.keys().map(String::as_str).collect());
            let columns: Vec<&str> = renamed.or_else(declared).unwrap_or_default();
            ensure!(!columns.is_empty(), "{id} declares no columns");
            for name in table.split('.').chain(columns) {
                ensure!(!reserved.contains(&name.to_uppercase().as_str()), "{id}: `{name}` is a word of Snowflake's");
            }
            num_tables += 1;
        }
    }
    ensure!(num_tables > 15, "{num_tables} tables");
    Ok(())
}

/// GE9 (E15): pages of a feed, by the query of docs/systems.md.
#[test]
fn ge9_the_documented_query_reads_a_feed_page_by_page() -> Result<()> {
    let page = std::fs::read_to_string(repository().join("docs/systems.md"))?;
    let query = page
        .split("```sql\n")
        .filter_map(|rest| rest.split_once("```"))
        .map(|(query, _)| query.trim())
        .find(|query| query.contains("from zentry_feed"))
        .context("the page has the query")?;
    let project = ProjectBuilder::shipped().build()?;
    let (entries, follows) = (project.folder().join("entries.jsonl"), project.folder().join("follows.jsonl"));
    std::fs::write(&entries, FEED_ENTRIES)?;
    std::fs::write(&follows, FEED_FOLLOWS)?;
    let tidemill = project.tidemill();
    for (file, source) in [(&entries, "zentry.sleep_entries"), (&follows, "zentry.follows")] {
        let file = file.to_str().context("a temporary folder has a plain name")?;
        tidemill.succeed(&["ingest", "--vars", SYSTEMS, "--from-files", file, "--select", source])?;
    }
    tidemill.succeed(&["build", "--vars", SYSTEMS, "--select", "+zentry_feed"])?;
    let ids = |query: &str| -> Result<Vec<i64>> {
        let answer = tidemill.json(&["sql", "--vars", SYSTEMS, query])?;
        let rows = answer.get("rows").unwrap_or(&answer).as_array().context("a query has rows")?;
        rows.iter().map(|row| row["sleep_entry_id"].as_i64().context("a row has an entry")).collect()
    };
    let without = |query: &str, words: &str| -> String {
        query.lines().filter(|line| !line.contains(words)).collect::<Vec<_>>().join("\n")
    };
    let all = without(&without(query, "sleep_start_at >="), "created_at <");
    ensure!(ids(&all)? == [504, 505, 503, 502, 501]);
    ensure!(ids(&all.replace("limit 20", "limit 2"))? == [504, 505]);
    let second = without(query, "sleep_start_at >=").replace("limit 20", "limit 2");
    ensure!(ids(&second)? == [503, 502], "the page after (2025-05-02T07:00Z, 505)");
    let range =
        without(query, "created_at <").replace("'2025-04-01'", "'2025-05-01'").replace("'2025-06-01'", "'2025-05-02'");
    ensure!(ids(&range)? == [503, 502], "[2025-05-01, 2025-05-02)");
    Ok(())
}

/// E18: an entry of a celebrity is written once, one of an ordinary author once per follower, and nothing is computed as a
/// whole for it.
#[test]
fn e18_an_entry_of_a_celebrity_writes_one_row_however_many_followers_there_are() -> Result<()> {
    const FOLLOWERS: u64 = 50;
    let project = ProjectBuilder::shipped().build()?;
    let tidemill = project.tidemill();
    let vars = "{zentry_enabled: true, zentry_celebrity_threshold: 50}";
    let cycle = |source: &str, records: &str| -> Result<Value> {
        let file = project.folder().join("records.jsonl");
        std::fs::write(&file, records)?;
        let file = file.to_str().context("a temporary folder has a plain name")?;
        tidemill.succeed(&["ingest", "--vars", vars, "--from-files", file, "--select", source])?;
        tidemill.json(&["build", "--vars", vars, "--select", "+zentry_feed"])
    };
    let follow = |id: u64, follower: u64, followed: u64| {
        let data =
            json!({"id": id, "follower_id": follower, "followed_id": followed, "created_at": "2025-04-01T00:00:00Z"});
        json!({"event": "follow_created", "occurred_at": "2025-04-01T00:00:00Z", "data": data}).to_string()
    };
    let entry = |id: u64, author: u64| {
        let data = json!({"id": id, "user_id": author, "sleep_duration": 27_000, "sleep_start_at": "2025-04-30T22:00:00Z",
            "created_at": "2025-05-01T06:00:00Z", "updated_at": "2025-05-01T06:00:00Z"});
        json!({"event": "sleep_entry_created", "occurred_at": "2025-05-01T06:00:00Z", "data": data}).to_string()
    };
    // Author 1 has as many followers as the threshold, author 2 one less.
    let follows: Vec<String> = (0..FOLLOWERS)
        .flat_map(|reader| [follow(reader, 100 + reader, 1), follow(100 + reader, 100 + reader, 2)])
        .take(2 * usize::try_from(FOLLOWERS)? - 1)
        .collect();
    cycle("zentry.follows", &follows.join("\n"))?;
    cycle("zentry.sleep_entries", &[entry(1, 1), entry(2, 2)].join("\n"))?;
    for (id, author, copies, single) in [(11, 1, 0, 1), (12, 2, FOLLOWERS - 1, 0)] {
        let report = cycle("zentry.sleep_entries", &entry(id, author))?;
        let nodes = report["nodes"].as_array().context("a report has nodes")?;
        let rows = |model: &str| {
            nodes.iter().find(|node| node["name"] == model).and_then(|node| node["rows_written"].as_u64())
        };
        ensure!(rows("zentry_feed_fanout") == Some(copies), "author {author}: {:?}", rows("zentry_feed_fanout"));
        ensure!(rows("zentry_celebrity_entries") == Some(single), "author {author}");
        let whole: Vec<&Value> = nodes.iter().filter(|node| !node["whole_because"].is_null()).collect();
        ensure!(whole.is_empty(), "{whole:?}");
    }
    Ok(())
}

const FEED_ENTRIES: &str = r#"{"event":"sleep_entry_created","occurred_at":"2025-05-01T06:00:00Z","data":{"id":501,"user_id":20,"sleep_duration":27000,"sleep_start_at":"2025-04-30T22:00:00Z","created_at":"2025-05-01T06:00:00Z","updated_at":"2025-05-01T06:00:00Z"}}
{"event":"sleep_entry_created","occurred_at":"2025-05-02T06:00:00Z","data":{"id":502,"user_id":20,"sleep_duration":27000,"sleep_start_at":"2025-05-01T22:00:00Z","created_at":"2025-05-02T06:00:00Z","updated_at":"2025-05-02T06:00:00Z"}}
{"event":"sleep_entry_created","occurred_at":"2025-05-02T06:00:00Z","data":{"id":503,"user_id":30,"sleep_duration":27000,"sleep_start_at":"2025-05-01T23:00:00Z","created_at":"2025-05-02T06:00:00Z","updated_at":"2025-05-02T06:00:00Z"}}
{"event":"sleep_entry_created","occurred_at":"2025-05-03T06:00:00Z","data":{"id":504,"user_id":30,"sleep_duration":27000,"sleep_start_at":"2025-04-30T23:30:00Z","created_at":"2025-05-03T06:00:00Z","updated_at":"2025-05-03T06:00:00Z"}}
{"event":"sleep_entry_created","occurred_at":"2025-05-02T07:00:00Z","data":{"id":505,"user_id":30,"sleep_duration":27000,"sleep_start_at":"2025-05-02T00:00:00Z","created_at":"2025-05-02T07:00:00Z","updated_at":"2025-05-02T07:00:00Z"}}
"#;
const FEED_FOLLOWS: &str = r#"{"event":"follow_created","occurred_at":"2025-04-01T00:00:00Z","data":{"id":1,"follower_id":10,"followed_id":20,"created_at":"2025-04-01T00:00:00Z"}}
{"event":"follow_created","occurred_at":"2025-04-01T00:00:00Z","data":{"id":2,"follower_id":10,"followed_id":30,"created_at":"2025-04-01T00:00:00Z"}}
"#;

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

/// A19: what the warehouse gets of `activity`, by switches and by selection.
#[test]
fn a19_raw_and_processed_are_published_apart() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    let published = |vars: &str, selected: &str| -> Result<Vec<String>> {
        let vars = format!("{{activity_enabled: true{vars}}}");
        let report = project.tidemill().json(&["publish", "--dry-run", "--vars", &vars, "--select", selected])?;
        let tables = report["report"]["tables"].as_array().context("a report lists tables")?;
        let mut names: Vec<String> =
            tables.iter().filter_map(|table| table["target"]["table"].as_str()).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    };
    let (raw, all) = (["ACTIVITY_RECORDS"], "staging.activity marts.activity");
    let processed = ["ACTIVITY_BOUTS", "ACTIVITY_DAILY", "USER_ACTIVITY_PROCESSED"];
    let mut both: Vec<&str> = raw.into_iter().chain(processed).collect();
    both.sort_unstable();
    ensure!(published("", all)? == both);
    ensure!(published(", activity_publish_raw: false", all)? == processed);
    ensure!(published(", activity_publish_processed: false", all)? == raw);
    ensure!(published("", "activity_records")? == raw);
    ensure!(published("", "activity_windows activity_bouts activity_daily")? == processed);
    Ok(())
}

/// `tidemill lint` has nothing to say of what ships, whatever is switched on.
#[test]
fn the_shipped_project_keeps_the_house_rules() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    // As it ships, and with everything.
    project.tidemill().succeed(&["lint"])?;
    let everything = format!("{{clicks_user_features_enabled: true, {}", &SYSTEMS[1..]);
    project.tidemill().succeed(&["lint", "--vars", &everything])?;
    Ok(())
}
