//! The rooms of the house: who may know whom, and which foreign crate lives where.
//!
//! The tables are DESIGN's "Top level" and STYLE's "Rooms", see docs/decisions/0001-rooms.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Room -> rooms that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("tidemill-project", &[]),
    ("tidemill-lake", &["tidemill-project"]),
    ("tidemill-simulate", &["tidemill-project"]),
    ("tidemill-collect", &["tidemill-project"]),
    ("tidemill-ingest", &["tidemill-lake", "tidemill-project"]),
    ("tidemill-transform", &["tidemill-lake", "tidemill-project"]),
    ("tidemill-publish", &["tidemill-lake", "tidemill-project"]),
    (
        "tidemill-cli",
        &[
            "tidemill-collect",
            "tidemill-ingest",
            "tidemill-lake",
            "tidemill-project",
            "tidemill-publish",
            "tidemill-simulate",
            "tidemill-transform",
        ],
    ),
];

/// Not rooms of the product: tests and benches may use all of it, and the list of shared features names foreign crates
/// without using them.
const OUTSIDE: &[&str] = &["tidemill-tests", "tidemill-benches", "tidemill-features"];

/// Foreign crate -> rooms that may use it in production code.
const FOREIGN: &[(&str, &[&str])] = &[
    ("anyhow", &["tidemill-cli"]),
    ("arrow-avro", &["tidemill-ingest"]),
    ("axum", &["tidemill-collect"]),
    ("clap", &["tidemill-cli"]),
    ("datafusion", &["tidemill-lake", "tidemill-transform"]),
    ("deltalake", &["tidemill-lake"]),
    ("indicatif", &["tidemill-cli"]),
    ("miette", &["tidemill-cli"]),
    ("minijinja", &["tidemill-transform"]),
    ("redis", &["tidemill-publish"]),
    ("reqwest", &["tidemill-ingest", "tidemill-publish", "tidemill-simulate"]),
    ("rustyline", &["tidemill-cli"]),
    ("snowflake-api", &["tidemill-publish"]),
];

struct Package {
    name: String,
    /// (name, whether it is for tests only)
    dependencies: Vec<(String, bool)>,
}

fn workspace() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(tidemill_tests::installed::repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            dependencies: package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
                .collect(),
        })
        .collect()
}

#[test]
fn arrows_point_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in workspace() {
        if OUTSIDE.contains(&package.name.as_str()) {
            continue;
        }
        let Some(may_use) = allowed.get(package.name.as_str()) else {
            faults.push(format!("{} is no room that the design knows", package.name));
            continue;
        };
        for (dependency, _) in &package.dependencies {
            let is_room = dependency.starts_with("tidemill-") && dependency != "tidemill-features";
            if is_room && dependency != &package.name && !may_use.contains(&dependency.as_str()) {
                faults.push(format!("{} must not use {dependency}", package.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn foreign_crates_stay_in_their_room() {
    let homes: BTreeMap<&str, &[&str]> = FOREIGN.iter().copied().collect();
    let mut faults = Vec::new();
    for package in workspace() {
        if OUTSIDE.contains(&package.name.as_str()) {
            continue;
        }
        for (dependency, tests_only) in &package.dependencies {
            if let Some(rooms) = homes.get(dependency.as_str())
                && !tests_only
                && !rooms.contains(&package.name.as_str())
            {
                faults.push(format!("{dependency} does not belong into {}", package.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_room_of_the_table_exists() {
    let names: BTreeSet<String> = workspace().into_iter().map(|package| package.name).collect();
    let missing: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
