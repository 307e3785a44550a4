//! Tests of testing: small projects in a folder, a lake in memory.

mod data;
mod scenario;
mod unit;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tempfile::TempDir;
use tidemill_lake::{Engine, Lake};
use tidemill_project::clock::Clock;
use tidemill_project::config::{LakeSettings, MaintenanceSettings, TransformSettings};
use tidemill_project::{Diagnostic as _, Fault};
use tokio_util::sync::CancellationToken;

use super::TestOptions;
use crate::graph::Selection;
use crate::project::tests::{faults, folder};
use crate::run::{BuildOptions, Report, Runner, Silent};
use crate::{LoadOptions, load_project};

/// A project and its lake.
struct World {
    dir: TempDir,
    lake: Lake,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        Self::over(folder(files), "memory:///lake/")
    }

    /// With a lake in the folder `lake` beside the project's files, for tests that look at its files.
    fn on_disk(files: &[(&str, &str)]) -> Self {
        let dir = folder(files);
        let lake = dir.path().join("lake");
        std::fs::create_dir_all(&lake).unwrap();
        let url = format!("file://{}/", lake.display());
        Self::over(dir, &url)
    }

    fn over(dir: TempDir, url: &str) -> Self {
        let (clock, _) = Clock::manual(1_741_478_400_000_000, 11);
        let settings = LakeSettings { url: url.parse().unwrap(), options: BTreeMap::new() };
        let lake = Lake::connect(&settings, &MaintenanceSettings::default(), clock).unwrap();
        Self { dir, lake }
    }

    /// Deletes the data files of one batch of a model's table from the lake on disk, behind its back; says how many there were.
    fn lose_batch(&self, model: &str, batch: &str) -> usize {
        let batch = self.dir.path().join(format!("lake/models/main/{model}/_batch={batch}"));
        let files = std::fs::read_dir(&batch).unwrap().count();
        std::fs::remove_dir_all(batch).unwrap();
        files
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn runner(&self) -> Runner {
        let project = load_project(self.dir.path(), LoadOptions::default())
            .unwrap_or_else(|error| panic!("{}", faults(self.dir.path(), &error)));
        let engine = Engine::local(&TransformSettings::default());
        Runner::new(project, self.lake.clone(), engine, 2).unwrap()
    }

    /// What the project's files are told when they are wrong.
    fn fault(&self) -> String {
        match load_project(self.dir.path(), LoadOptions::default()) {
            Ok(_) => "none".to_owned(),
            Err(error) => faults(self.dir.path(), &error),
        }
    }

    async fn build(&self) -> Report {
        let cancel = CancellationToken::new();
        let options = BuildOptions::default();
        self.runner().build(&Selection::all(), &options, Arc::new(Silent), &cancel).await.unwrap()
    }

    async fn test(&self) -> Report {
        self.test_with(&TestOptions::default()).await
    }

    async fn test_with(&self, options: &TestOptions) -> Report {
        self.select(&[], options).await
    }

    async fn select(&self, select: &[&str], options: &TestOptions) -> Report {
        let selection =
            Selection { select: select.iter().map(|text| (*text).to_owned()).collect(), ..Selection::default() };
        self.runner().test(&selection, options, Arc::new(Silent), &CancellationToken::new()).await.unwrap()
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        let context = self.runner().query_context().await.unwrap();
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        let mut rows: Vec<String> = text
            .lines()
            .skip(3)
            .filter(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" | "))
            .collect();
        rows.sort();
        rows
    }
}

/// A report as a person reads it: one line per test, by name, with what else is said below.
fn told(report: &Report) -> String {
    let mut nodes: Vec<_> = report.nodes.iter().filter(|node| node.kind == "test").collect();
    nodes.sort_by_key(|node| &node.name);
    let mut text = String::new();
    for node in nodes {
        let failures = node.failures.map(|count| format!(" {count}")).unwrap_or_default();
        let looked =
            node.test.as_ref().and_then(|test| test.looked_at).map(|at| format!(" ({at})")).unwrap_or_default();
        writeln!(text, "{:?}{failures}{looked} {}", node.outcome, node.name).unwrap();
        match (&node.error, &node.message) {
            (Some(error), message) => {
                let single = Fault {
                    code: error.code(),
                    message: message.clone().unwrap_or_default(),
                    location: error.location().cloned(),
                    hint: error.hint(),
                };
                let all = if error.faults().is_empty() { vec![single] } else { error.faults().to_vec() };
                for fault in all {
                    let code = fault.code.map(|code| code.to_string()).unwrap_or_default();
                    let place = fault.location.as_ref().map(|at| {
                        let file = at.file.to_string_lossy();
                        let at_models = ["models/", "tests/"].iter().find_map(|part| file.find(part));
                        format!("{}:{}", &file[at_models.unwrap_or(0)..], at.line)
                    });
                    writeln!(text, "  {code} {}: {}", place.unwrap_or_default(), fault.message).unwrap();
                    if let Some(hint) = fault.hint {
                        writeln!(text, "    hint: {hint}").unwrap();
                    }
                }
            }
            (None, Some(message)) => {
                for line in message.lines() {
                    writeln!(text, "{}", format!("  {line}").trim_end()).unwrap();
                }
            }
            (None, None) => {}
        }
    }
    text
}
