//! All systems against the simulator's truth: books per topic, quarantine by class, marts row by row, the warehouse.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_simulate::Truth;
use tidemill_tests::installed;
use tidemill_tests::project::Project;
use tidemill_tests::tidemill::Tidemill;

use crate::balance::partitions_of;

/// Nothing is lost, nothing is doubled: the books close, in the commits and in the rows, and say per topic what was sent.
pub(crate) fn assert_books(tidemill: &Tidemill, truth: &Truth) -> Result<()> {
    let report = tidemill.json(&["reconcile", "--deep"])?;
    let books = partitions_of(&report)?;
    for (topic, expected) in &truth.topics {
        let of_topic: Vec<&Value> = books.iter().filter(|part| part["topic"] == topic.as_str()).collect();
        let sum = |name: &str| of_topic.iter().filter_map(|part| part[name].as_u64()).sum::<u64>();
        let found = [sum("offsets"), sum("landed"), sum("duplicates"), sum("quarantined")];
        let quarantined: u64 = expected.quarantined.values().sum();
        let expected = [expected.records, expected.landed, expected.duplicates, quarantined];
        ensure!(
            found == expected,
            "{topic}: records, landed, duplicates, quarantined {found:?} instead of {expected:?}"
        );
    }
    for table in ["zoner.user_activity", "logins.user_login"] {
        let rows = tidemill.query(&format!(
            "select _topic as topic, count(*) as num_rows, count(distinct _key) as num_keys from {table} group by _topic"
        ))?;
        for row in &rows {
            let topic = row["topic"].as_str().context("a topic is a text")?;
            let expected = truth.topics.get(topic).with_context(|| format!("nothing was sent to {topic}"))?;
            for name in ["num_rows", "num_keys"] {
                ensure!(
                    row[name].as_u64() == Some(expected.landed),
                    "{name} of {topic} is not {}: {row}",
                    expected.landed
                );
            }
        }
    }
    assert_quarantine(tidemill, truth)
}

/// Every record that cannot land is in quarantine once, under the class that the simulator meant.
fn assert_quarantine(tidemill: &Tidemill, truth: &Truth) -> Result<()> {
    let mut expected: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (topic, books) in &truth.topics {
        for (class, count) in &books.quarantined {
            expected.insert((topic.clone(), class.clone()), *count);
        }
    }
    let rows = tidemill.query(
        "select topic, class, count(*) as num_rows, count(distinct partition * 1000000000 + \"offset\") as num_records \
         from ops.quarantine group by topic, class",
    )?;
    let mut found = BTreeMap::new();
    for row in &rows {
        let text =
            |name: &str| row[name].as_str().map(str::to_owned).with_context(|| format!("{name} is a text: {row}"));
        ensure!(row["num_rows"] == row["num_records"], "a record is in quarantine twice: {row}");
        found.insert((text("topic")?, text("class")?), row["num_rows"].as_u64().context("a count")?);
    }
    ensure!(found == expected, "quarantine holds {found:?} instead of {expected:?}");
    Ok(())
}

/// Every mart that the shipped project has is equal to the truth, row by row.
pub(crate) fn assert_marts(tidemill: &Tidemill, truth: &Truth) -> Result<()> {
    let mut faults = Vec::new();
    for (model, truth) in &truth.models {
        let differences = truth.differences(&tidemill.query(&truth.query(model))?);
        if !differences.is_empty() {
            let (count, examples) = (differences.len(), differences.examples(3).join("; "));
            faults.push(format!("{model}: {count} of {} rows differ, e.g. {examples}", truth.num_rows));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// The local warehouse holds the rows of the models: by our own check, and by readers of another house.
pub(crate) fn assert_warehouse(project: &Project) -> Result<()> {
    project.tidemill().succeed(&["publish", "--check"])?;
    let script = installed::repository().join("tests/python/same_rows.py");
    let output = Command::new(installed::path_of("python")?.join("bin/python"))
        .arg(script)
        .arg(project.folder())
        .output()
        .context("failed to start Python")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "the warehouse differs:\n{}{}", text(&output.stdout), text(&output.stderr));
    Ok(())
}
