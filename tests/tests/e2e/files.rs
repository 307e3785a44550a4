//! Shipped contracts fed from files.

use std::fs;

use anyhow::{Context, Result, ensure};
use tidemill_tests::project::ProjectBuilder;

/// C8, X19: samples without an id are known by their place in the file, as they are by their place in the topic.
#[test]
fn c8_samples_without_an_id_come_from_a_file_once_however_often_it_is_read() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    let tidemill = project.tidemill().vars("{clicks_enabled: true}").as_of("2025-03-09T13:00:00Z");
    let sample = |second: u32| {
        format!(
            "{{\"service\":\"api\",\"metric\":\"load\",\"value\":0.5,\"occurred_at\":\"2025-03-09T12:00:{second:02}Z\"}}\n"
        )
    };
    // Two that are equal are two samples.
    let short = [sample(1), sample(1), sample(2)].concat();
    let steps = [
        ("metrics.jsonl", short.clone(), 3),
        ("metrics.jsonl", short.clone(), 3),
        ("copy.jsonl", short.clone(), 3),
        ("metrics.jsonl", short.clone() + &sample(3), 4),
        // The next day's file under the old name.
        ("metrics.jsonl", sample(4) + &sample(1), 6),
    ];
    for (name, text, expected) in steps {
        let path = project.folder().join(name);
        fs::write(&path, text)?;
        let path = path.to_str().context("a path is UTF-8")?;
        tidemill.succeed(&["ingest", "--from-files", path, "--select", "clicks.system"])?;
        let samples = tidemill.number("select count(*) from stg_clicks__system")?;
        ensure!(samples == expected, "{name}: {samples} samples instead of {expected}");
    }
    tidemill.succeed(&["build", "--select", "+clicks_system_minutely"])?;
    let counted = tidemill.number("select samples from clicks_system_minutely")?;
    ensure!(counted == 6, "{counted} samples in the minute");
    ensure!(tidemill.number("select count(*) from ops.quarantine")? == 0);
    tidemill.succeed(&["reconcile", "--deep"])?;
    Ok(())
}
