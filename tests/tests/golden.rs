//! Golden cases: the stories and unit tests of the shipped project, told by the command that its users run.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidemill_tests::project::ProjectBuilder;

/// The cases of the systems that a story must prove, by the beginning of its name.
const STORIES: [&str; 23] = [
    "GX1_key_of_a_zoner_event",
    "GX1_key_of_a_login",
    "GX2",
    "GX3",
    "GX5",
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
];

#[test]
fn the_shipped_stories_and_unit_tests_come_out_as_they_are_written() -> Result<()> {
    let project = ProjectBuilder::shipped().build()?;
    let tidemill = project.tidemill();
    let report = tidemill.json(&["test", "--select", "test_type:unit test_type:scenario"])?;
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
