//! Publishing of raw and of processed rows is switched and scheduled apart (A19).

use std::fs;

use anyhow::{Context, Result, ensure};
use tidemill_tests::project::{Project, ProjectBuilder};

const RAW: &str = "ACTIVITY_DB/RAW_DATA/ACTIVITY_RECORDS";
const WINDOWS: &str = "ACTIVITY_DB/PROCESSED_DATA/USER_ACTIVITY_PROCESSED";
const BOUTS: &str = "ACTIVITY_DB/PROCESSED_DATA/ACTIVITY_BOUTS";

/// Commits of a table of the local warehouse; 0 when it is not there.
fn commits(project: &Project, table: &str) -> usize {
    let log = project.warehouse().join(table).join("_delta_log");
    let entries = fs::read_dir(log).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json")).count()
}

/// Sends so many seconds of readings and brings them into the models.
fn readings(project: &Project, seconds: &str) -> Result<()> {
    let tidemill = project.tidemill().vars("{activity_enabled: true}");
    let traffic = project.folder().join(format!("traffic-{seconds}"));
    let output = traffic.to_str().context("a path is UTF-8")?;
    tidemill.succeed(&["simulate", "activity", "--duration", seconds, "--to", "files", "--output", output])?;
    let file = traffic.join("raw_sensor_data.jsonl");
    let file = file.to_str().context("a path is UTF-8")?;
    tidemill.succeed(&["ingest", "--select", "activity.raw_sensor_data", "--from-files", file])?;
    tidemill.succeed(&["build", "--select", "source:activity+", "+activity_daily"])?;
    Ok(())
}

#[test]
fn raw_and_processed_readings_are_published_and_switched_off_apart() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    let publish = |vars: &str, select: &str| -> Result<[usize; 3]> {
        let vars = format!("{{activity_enabled: true{vars}}}");
        project.tidemill().vars(&vars).succeed(&["publish", "--select", select])?;
        Ok([RAW, WINDOWS, BOUTS].map(|table| commits(&project, table)))
    };
    readings(&project, "20s")?;
    let [raw, windows, bouts] = publish(", activity_publish_processed: false", "source:activity+")?;
    ensure!(raw > 0 && (windows, bouts) == (0, 0), "raw alone: {raw} {windows} {bouts}");
    let second = publish(", activity_publish_raw: false", "source:activity+")?;
    ensure!(second[0] == raw && second[1] > 0 && second[2] > 0, "processed alone: {second:?}");

    // One schedule takes the raw rows, another the windows.
    readings(&project, "40s")?;
    let third = publish("", "activity_records")?;
    ensure!(third[0] > raw && third[1..] == second[1..], "{third:?} after {second:?}");
    let fourth = publish("", "activity_windows")?;
    ensure!(fourth[1] > third[1] && [fourth[0], fourth[2]] == [third[0], third[2]], "{fourth:?} after {third:?}");
    Ok(())
}
