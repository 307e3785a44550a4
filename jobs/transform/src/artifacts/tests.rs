//! Artifacts of small projects. Their schemas are checked against dbt's own in `tests/python`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, json};
use tempfile::TempDir;
use tidemill_lake::{Engine, Lake};
use tidemill_project::Diagnostic as _;
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings, TransformSettings};
use tokio_util::sync::CancellationToken;

use super::{FreshnessStatus, Invocation, PreviousRun, StateDirs, names, run_results, write};
use crate::graph::{Indirect, Selection};
use crate::plan::PlanOptions;
use crate::project::NodeId;
use crate::project::tests::folder;
use crate::run::{BuildOptions, Runner, Silent};
use crate::{LoadOptions, load_project};

/// 2025-03-09T00:00:00Z
const NOW_US: i64 = 1_741_478_400_000_000;

const FILES: [(&str, &str); 6] = [
    ("dbt_project.yml", "name: shop"),
    ("models/a.sql", "select {{ twice('1') }} as id, 'x' as word"),
    ("models/b.sql", "{{ config(materialized='table') }} select id from {{ ref('a') }}"),
    (
        "models/all.yml",
        "models:\n\
         \x20 - {name: a, description: First., columns: [{name: id, data_type: bigint, data_tests: [not_null]}]}\n\
         \x20 - {name: b, columns: [{name: id, data_tests: [accepted_values: {values: [3]}]}]}\n\
         sources: [{name: raw, tables: [{name: codes, loaded_at_field: at, freshness: {warn_after: {count: 1, period: day}, error_after: {count: 3, period: day}}}]}]\n",
    ),
    (
        "macros/m.sql",
        "{% macro twice(x) %}{{ once(x) }} + {{ once(x) }}{% endmacro %}{% macro once(x) %}{{ x }}{% endmacro %}",
    ),
    ("seeds/codes.csv", "code,at\nx,2025-03-07T00:00:00Z\n"),
];

fn lake() -> Lake {
    let (clock, _) = Clock::manual(NOW_US, 7);
    let settings = LakeSettings { url: "memory:///lake/".parse().unwrap(), options: BTreeMap::new() };
    Lake::connect(&settings, &MaintenanceSettings::default(), clock).unwrap()
}

fn runner(dir: &Path, lake: &Lake) -> Runner {
    let project = load_project(dir, LoadOptions::default()).unwrap();
    Runner::new(project, lake.clone(), Engine::local(&TransformSettings::default()), 2).unwrap()
}

fn invocation() -> Invocation {
    Invocation { id: "one".to_owned(), started_at_us: NOW_US, now_us: NOW_US }
}

fn selection(text: &str) -> Selection {
    Selection { select: vec![text.to_owned()], indirect: Indirect::Empty, ..Selection::default() }
}

/// What a selector finds in a project whose files changed since `before` was written.
fn select_since(before: &TempDir, change: &[(&str, &str)], text: &str) -> String {
    let dir = folder(&FILES);
    for (path, content) in change {
        std::fs::write(dir.path().join(path), content).unwrap();
    }
    let runner = runner(dir.path(), &lake());
    let mut selection = selection(text);
    let dirs = StateDirs { state: Some(before.path()), target: &dir.path().join("target") };
    selection.facts = Arc::new(runner.facts(&selection, dirs).unwrap());
    let nodes = runner.graph().select(&selection).unwrap();
    nodes.iter().map(NodeId::name).collect::<Vec<_>>().join(" ")
}

#[test]
fn state_tells_what_changed_since_a_manifest() {
    let dir = folder(&FILES);
    let before = TempDir::new().unwrap();
    let manifest = runner(dir.path(), &lake()).manifest(&invocation(), &BTreeMap::new());
    write(before.path(), names::MANIFEST, &manifest).unwrap();

    let same = select_since(&before, &[], "state:modified");
    assert_eq!(same, "");
    let body = [("models/b.sql", "{{ config(materialized='table') }} select id + 1 as id from {{ ref('a') }}")];
    assert_eq!(select_since(&before, &body, "state:modified"), "b");
    assert_eq!(select_since(&before, &body, "state:modified.body"), "b");
    assert_eq!(select_since(&before, &body, "state:modified.configs"), "");
    let config = [("dbt_project.yml", "name: shop\nmodels: {+meta: {owner: ann}}")];
    assert_eq!(select_since(&before, &config, "state:modified.configs"), "a b");
    let inner = FILES[4].1.replace("{{ x }}", "({{ x }})");
    let nested = [("macros/m.sql", inner.as_str())];
    assert_eq!(select_since(&before, &nested, "state:modified+,resource_type:model"), "a b");
    assert_eq!(select_since(&before, &nested, "state:modified.macros"), "a");
    let added = [("models/c.sql", "select 1 as x")];
    assert_eq!(select_since(&before, &added, "state:new"), "c");
    assert_eq!(select_since(&before, &added, "state:modified"), "c");
    assert_eq!(select_since(&before, &added, "state:old,resource_type:model"), "a b");
    assert_eq!(
        select_since(&before, &[("seeds/codes.csv", "code,at\ny,2025-03-07T00:00:00Z\n")], "state:modified"),
        "codes"
    );
}

#[test]
fn a_state_that_is_not_there_is_told() {
    let dir = folder(&FILES);
    let runner = runner(dir.path(), &lake());
    let empty = TempDir::new().unwrap();
    let ask = |text: &str, state: &Path| {
        let dirs = StateDirs { state: Some(state), target: &dir.path().join("target") };
        let error = runner.facts(&selection(text), dirs).unwrap_err();
        let hint = error.hint().unwrap_or_default();
        let code = error.code().map(|code| code.to_string()).unwrap_or_default();
        format!("{code}: {error}: {hint}").replace(&empty.path().display().to_string(), "DIR")
    };
    std::fs::write(empty.path().join("run_results.json"), "{").unwrap();
    let told = [
        ask("a", &empty.path().join("nowhere")),
        ask("state:modified", empty.path()),
        ask("result:error", empty.path()),
        ask("source_status:fresher+", empty.path()),
    ];
    insta::assert_snapshot!(told.join("\n"), @"
    TM0307: the folder of earlier artifacts is not there, state=`DIR/nowhere`: name a folder that holds artifacts of an earlier run
    TM0307: artifact is not there, path=`DIR/manifest.json`: run `tidemill parse` on what to compare with, or name another folder with `--state DIR`
    : artifact is not JSON, path=`DIR/run_results.json`: write it again: `tidemill parse`
    TM0307: artifact is not there, path=`DIR/sources.json`: name a folder that holds artifacts of an earlier run
    ");
}

#[tokio::test]
async fn results_of_a_run_select_what_to_repeat() {
    let dir = folder(&FILES);
    let lake = lake();
    let runner = runner(dir.path(), &lake);
    let report = runner
        .build(&Selection::all(), &BuildOptions::default(), Arc::new(Silent), &CancellationToken::new())
        .await
        .unwrap();
    let args = json!({"which": "build", "full_refresh": false}).as_object().cloned().unwrap_or_else(Map::new);
    let results = run_results(&runner, &report, &invocation(), &args);
    let target = TempDir::new().unwrap();
    write(target.path(), names::RUN_RESULTS, &results).unwrap();

    let previous = PreviousRun::read(&runner, target.path()).unwrap();
    assert_eq!(previous.which, "build");
    let unfinished: Vec<String> = previous.unfinished().iter().map(ToString::to_string).collect();
    assert_eq!(unfinished, ["test.accepted_values_b_id__3"]);
    let mut failed = selection("1+result:fail result:success,resource_type:seed");
    let dirs = StateDirs { state: None, target: target.path() };
    failed.facts = Arc::new(runner.facts(&failed, dirs).unwrap());
    let nodes: Vec<String> = runner.graph().select(&failed).unwrap().iter().map(NodeId::name).collect();
    assert_eq!(nodes, ["codes", "b", "accepted_values_b_id__3"]);
    let model = results["results"].as_array().unwrap().iter().find(|result| result["unique_id"] == "model.shop.b");
    insta::assert_json_snapshot!(model.unwrap()["adapter_response"], @r#"
    {
      "rows_affected": 1,
      "version": 1
    }
    "#);
}

#[tokio::test]
async fn catalog_lists_what_the_lake_holds() {
    let dir = folder(&FILES);
    let lake = lake();
    let runner = runner(dir.path(), &lake);
    let empty = runner.catalog(&invocation(), &PlanOptions::default()).await.unwrap();
    assert!(empty["nodes"].get("model.shop.b").is_none(), "{empty}");
    runner
        .build(&Selection::all(), &BuildOptions::default(), Arc::new(Silent), &CancellationToken::new())
        .await
        .unwrap();
    let catalog = runner.catalog(&invocation(), &PlanOptions::default()).await.unwrap();
    assert_eq!(catalog["nodes"]["model.shop.b"]["stats"]["num_rows"]["value"], 1);
    assert_eq!(catalog["nodes"]["model.shop.a"]["metadata"]["type"], "VIEW");
    insta::assert_json_snapshot!(catalog["nodes"]["model.shop.a"]["columns"], @r#"
    {
      "id": {
        "type": "bigint",
        "index": 1,
        "name": "id",
        "comment": null
      },
      "word": {
        "type": "varchar",
        "index": 2,
        "name": "word",
        "comment": null
      }
    }
    "#);
}

#[tokio::test]
async fn freshness_compares_the_newest_row_with_its_limits() {
    let dir = folder(&FILES);
    let lake = lake();
    let runner = runner(dir.path(), &lake);
    runner
        .build(&Selection::all(), &BuildOptions::default(), Arc::new(Silent), &CancellationToken::new())
        .await
        .unwrap();
    let mut verdicts = Vec::new();
    for days in [1, 2, 3, 5] {
        let at_us = Some(NOW_US - 2 * 86_400_000_000 + days * 86_400_000_000);
        let options = PlanOptions { as_of_us: at_us, ..PlanOptions::default() };
        let results = runner.source_freshness(&Selection::all(), &options).await.unwrap();
        assert_eq!(results.len(), 1);
        verdicts.push(results[0].status);
    }
    let expected = [FreshnessStatus::Pass, FreshnessStatus::Warn, FreshnessStatus::Warn, FreshnessStatus::Error];
    assert_eq!(verdicts, expected);
}
