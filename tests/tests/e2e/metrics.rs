//! What Prometheus and a log collector see of the jobs: the numbers of X31, the lines of X33.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::http;
use tidemill_tests::logins::{Plan, traffic};
use tidemill_tests::ports;
use tidemill_tests::project::ProjectBuilder;
use tidemill_tests::tidemill::exit;
use tidemill_tests::topics::Record;
use tidemill_tests::wait::{self, PATIENCE};

use crate::balance::{SOURCE, Scene};

/// A page of metrics.
struct Page(String);

impl Page {
    fn scrape(port: u16) -> Result<Self> {
        http::succeed("GET", &format!("http://127.0.0.1:{port}/metrics"), None).map(Self)
    }

    /// The values of all series of a name whose labels hold all of `labels`, as in `source="logins.user_login"`.
    fn values(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = self.0.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
    }

    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.values(name, labels).iter().sum()
    }

    fn has(&self, name: &str, labels: &[&str]) -> Result<()> {
        ensure!(!self.values(name, labels).is_empty(), "no series {name} {labels:?} in\n{}", self.0);
        Ok(())
    }
}

fn is(found: f64, expected: i64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
    let expected = expected as f64;
    (found - expected).abs() < 0.5
}

#[test]
fn a_follower_counts_what_it_reads_and_its_lag_is_zero_at_the_end_behind_markers_too() -> Result<()> {
    let scene = Scene::new(2)?;
    let traffic = traffic(&Plan::new(31, 5_000, 2));
    let truth = &traffic.truth;
    scene.send(&traffic)?;
    // The last offset of a partition becomes a marker, which no consumer is ever handed.
    let producer = scene.topics.transactional_producer(&scene.topic)?;
    producer.transaction(&scene.topic, &[one_more()], true)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let port = ports::free_port();
    let address = format!("127.0.0.1:{port}");
    let mut follower = tidemill.spawn(&["ingest", "--follow", "--select", SOURCE, "--metrics-addr", &address])?;
    let source = format!("source=\"{SOURCE}\"");
    let page = wait::until("lag of zero in both partitions", PATIENCE, || {
        ensure!(follower.try_wait()?.is_none(), "{}", follower.output()?);
        // Nobody listens in the first moment.
        let Ok(page) = Page::scrape(port) else { return Ok(None) };
        let landed = page.sum("tidemill_records_total", &[&source, "outcome=\"landed\""]);
        let lags = page.values("kafka_consumer_lag", &[&format!("topic=\"{}\"", scene.topic), "group="]);
        let is_there = is(landed, truth.landed + 1) && lags.len() == 2 && lags.iter().all(|lag| is(*lag, 0));
        Ok(is_there.then_some(page))
    })?;
    let records = |outcome: &str| page.sum("tidemill_records_total", &[&source, &format!("outcome=\"{outcome}\"")]);
    ensure!(is(records("duplicate"), truth.duplicates), "{}", page.0);
    ensure!(is(records("quarantined"), truth.quarantined), "{}", page.0);
    ensure!(is(page.sum("tidemill_quarantined_total", &[&source, "class="]), truth.quarantined), "{}", page.0);
    ensure!(is(page.sum("tidemill_late_records_total", &[&source]), truth.late), "{}", page.0);
    ensure!(page.sum("tidemill_watermark_timestamp_seconds", &[&source]) > 1.7e9, "{}", page.0);
    page.has("tidemill_step_seconds_count", &["step=\"ingest\"", &format!("name=\"{SOURCE}\"")])?;
    page.has("tidemill_event_latency_seconds_bucket", &[&format!("table=\"{SOURCE}\""), "stage=\"landed\""])?;
    ensure!(page.0.ends_with("# EOF\n"));
    let ended = follower.terminate(PATIENCE)?;
    ensure!(ended.code() == Some(exit::DONE), "{}", follower.output()?);
    Ok(())
}

/// A login beside the traffic's, some time after it.
fn one_more() -> Record {
    let login = r#"{"user_id":"one-more","app_version":"1","device_type":"iOS","ip":"203.0.113.9","locale":"CA","device_id":"one-more","timestamp":"1741400000"}"#;
    Record { partition: Some(0), value: Some(login.into()), timestamp_ms: Some(1_741_400_000_000), ..Record::default() }
}

#[test]
fn a_cycle_leaves_its_numbers_in_a_file_and_one_that_fails_leaves_the_file_alone() -> Result<()> {
    let scene = Scene::new(2)?;
    let traffic = traffic(&Plan::new(32, 2_000, 2));
    scene.send(&traffic)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let file = project.folder().join("tidemill.prom");
    let path = file.display().to_string();
    tidemill.succeed(&["run", "--select", "+logins_usage_window", "--metrics-file", &path])?;
    let page = Page(fs::read_to_string(&file)?);
    for job in ["ingest", "build", "publish", "run"] {
        page.has("tidemill_last_success_timestamp_seconds", &[&format!("job=\"{job}\"")])?;
    }
    for (step, name) in [("ingest", SOURCE), ("build", "logins_usage_window"), ("publish", "local")] {
        page.has("tidemill_step_seconds_count", &[&format!("step=\"{step}\""), &format!("name=\"{name}\"")])?;
    }
    let table = "LOGINS_DB.PROCESSED_DATA.AGGREGATED_USAGE";
    for (table, stage) in [(SOURCE, "landed"), ("logins_usage_window", "modelled"), (table, "visible")] {
        let labels = [format!("table=\"{table}\""), format!("stage=\"{stage}\"")];
        page.has("tidemill_event_latency_seconds_count", &[&labels[0], &labels[1]])?;
    }
    // The traffic is of March 2025: what is visible is older than that many seconds.
    ensure!(page.sum("tidemill_freshness_seconds", &[&format!("table=\"{table}\"")]) > 1e7, "{}", page.0);
    let lags = page.values("kafka_consumer_lag", &[&scene.topic]);
    ensure!(lags.len() == 2 && lags.iter().all(|lag| is(*lag, 0)), "{}", page.0);

    let before = page.0;
    fs::write(
        project.folder().join("dbt-like-models/models/broken.sql"),
        "select no_such_column from {{ ref('logins_enriched') }}",
    )?;
    let failed = tidemill.run(&["build", "--metrics-file", &path])?;
    ensure!(failed.code != Some(exit::DONE), "{}", failed.stdout);
    ensure!(fs::read_to_string(&file)? == before, "a failed run has written over the numbers of the one before");
    Ok(())
}

#[test]
fn a_taken_address_is_refused_with_the_way_out() -> Result<()> {
    let scene = Scene::new(1)?;
    let project = scene.project().build()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let refused =
        project.tidemill().expect(exit::USAGE, &["ingest", "--select", SOURCE, "--metrics-addr", &address])?;
    ensure!(refused.stderr.contains(&address) && refused.stderr.contains("--metrics-addr"), "{}", refused.stderr);
    Ok(())
}

fn lines(stderr: &str) -> Result<Vec<Value>> {
    stderr.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no JSON object: {line}"))).collect()
}

#[test]
fn with_logs_as_json_every_line_is_an_object_that_names_run_source_and_offsets_and_no_payload() -> Result<()> {
    let scene = Scene::new(2)?;
    let traffic = traffic(&Plan::new(33, 2_000, 2));
    scene.send(&traffic)?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill().env("TIDEMILL_LOG", "trace");
    let run = ["--log-format", "json", "--run-id", "run-33", "run", "--select", "+logins_usage_window"];
    let ended = tidemill.succeed(&run)?;
    let lines = lines(&ended.stderr)?;
    for line in &lines {
        ensure!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')) && line["level"].is_string(), "{line}");
        ensure!(line["run_id"] == "run-33" || line["run_id"].is_null(), "{line}");
    }
    let committed: Vec<_> = lines.iter().filter(|line| line["message"] == "offsets committed").collect();
    let offsets = |line: &&Value| Some(line["to"].as_i64()? - line["from"].as_i64()?);
    let sum: i64 = committed.iter().filter_map(offsets).sum();
    ensure!(sum == traffic.truth.records(), "{sum} offsets are told, not {}", traffic.truth.records());
    for line in committed {
        ensure!(line["run_id"] == "run-33" && line["system"] == "logins" && line["source"] == SOURCE, "{line}");
        ensure!(line["topic"] == scene.topic.as_str() && line["partition"].is_i64(), "{line}");
    }
    // Addresses, users and devices are personal data; they stay out of logs however talkative these are.
    for payload in ["203.0.113.", "9f0c2a7e-1111", "5c1d8f00-2222"] {
        ensure!(!ended.stderr.contains(payload), "`{payload}` is in the logs");
    }
    Ok(())
}

#[test]
fn with_logs_as_json_a_line_about_a_source_names_the_system_of_its_contract() -> Result<()> {
    const SOURCES: &str = "\
sources:
  - name: shop
    tables:
      - name: orders
        config:
          meta:
            tidemill: {system: till, topic: orders, event_time: {column: at, unit: s}, idempotency_key: id}
        columns:
          - {name: id, data_type: text}
          - {name: at, data_type: timestamp}
";
    let project = ProjectBuilder::empty()
        .file("dbt_project.yml", "name: shop\nversion: \"1.0.0\"\nconfig-version: 2\nmodel-paths: [models]\n")
        .file("models/_sources.yml", SOURCES)
        .file("orders.jsonl", "{\"id\":\"a\",\"at\":1741478400}\n{\"id\":\"b\",\"at\":\"never\"}\n")
        .build()?;
    let file = project.folder().join("orders.jsonl").display().to_string();
    let ended = project.tidemill().succeed(&["--log-format", "json", "ingest", "--from-files", &file])?;
    let lines = lines(&ended.stderr)?;
    let about: Vec<_> = lines.iter().filter(|line| line["source"] == "shop.orders").collect();
    for message in ["batch committed", "records quarantined"] {
        ensure!(about.iter().any(|line| line["message"] == message), "`{message}` is not told: {}", ended.stderr);
    }
    ensure!(about.iter().all(|line| line["system"] == "till"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn with_logs_as_json_a_failure_is_an_object_with_its_code() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    let refused = project.tidemill().expect(exit::USAGE, &["--log-format", "json", "ingest"])?;
    let lines = lines(&refused.stderr)?;
    let last = lines.last().context("a failure is told")?;
    ensure!(last["level"] == "ERROR" && last["error_code"] == "TM0401", "{last}");
    Ok(())
}

#[test]
fn a_continuous_run_tells_the_newest_window_on_the_terminal_and_in_the_log() -> Result<()> {
    let scene = Scene::new(1)?;
    scene.send(&traffic(&Plan::new(34, 500, 1)))?;
    let project = scene.project().build()?;
    let tidemill = project.tidemill();
    let told = ["run", "--every", "1s", "--select", "+logins_usage_window", "--tell", "logins_usage_window"];
    for form in [&[][..], &["--format", "json", "--log-format", "json"]] {
        let mut run = tidemill.spawn(&[form, &told].concat())?;
        wait::until("the newest window is told", PATIENCE, || {
            ensure!(run.try_wait()?.is_none(), "{}", run.output()?);
            let output = run.output()?;
            let has_all = |line: &str| {
                ["logins_usage_window", "batch_size=", "device_stats=", "location_stats=", "version_stats="]
                    .iter()
                    .all(|part| line.contains(part))
            };
            Ok(output.lines().any(has_all).then_some(()))
        })?;
        let ended = run.terminate(PATIENCE)?;
        ensure!(ended.code() == Some(exit::DONE), "{}", run.output()?);
    }
    let refused = tidemill.expect(exit::USAGE, &["run", "--every", "1s", "--tell", "logins_usage_windw"])?;
    ensure!(refused.stderr.contains("did you mean `logins_usage_window`"), "{}", refused.stderr);
    Ok(())
}
