//! A models project with what the command line selects of it, and the target folder that the command leaves its artifacts in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tidemill_project::clock::Micros;
use tidemill_transform::Runner;
use tidemill_transform::artifacts::{self, ArtifactError, Invocation, StateDirs, names};
use tidemill_transform::graph::Selection;
use tidemill_transform::plan::PlanOptions;
use tidemill_transform::project::{NodeId, build_folders};
use tidemill_transform::run::Report;
use tokio_util::task::AbortOnDropHandle;

use super::build::{runner, selection};
use super::context::Context;
use crate::args::{GlobalArgs, SelectArgs};
use crate::printer::Printer;
use crate::report;

/// One command's project.
pub(crate) struct Workspace {
    pub(crate) context: Context,
    pub(crate) runner: Runner,
    pub(crate) target: PathBuf,
    started_at_us: Micros,
}

impl Workspace {
    /// Reads the project that the global flags name.
    pub(crate) fn load(global: &GlobalArgs) -> anyhow::Result<Self> {
        let context = Context::load(global)?;
        let target = target_dir(&context, global);
        let runner = runner(&context)?;
        let started_at_us = context.clock.now_us();
        Ok(Self { context, runner, target, started_at_us })
    }

    /// What is selected, with the facts of earlier runs that it asks for. What is odd about it is said on stderr.
    pub(crate) fn select(&self, args: &SelectArgs, printer: Printer) -> anyhow::Result<Selection> {
        let mut selection = selection(args.clone());
        let dirs = StateDirs { state: args.state.as_deref(), target: &self.target };
        selection.facts = Arc::new(self.runner.facts(&selection, dirs)?);
        self.warn(&selection, printer)?;
        Ok(selection)
    }

    /// Says which selectors match nothing.
    pub(crate) fn warn(&self, selection: &Selection, printer: Printer) -> anyhow::Result<()> {
        for warning in self.runner.graph().resolve(selection).map_err(anyhow::Error::new)?.warnings {
            let code = warning.code.map(|code| format!("[{code}]")).unwrap_or_default();
            let hint = warning.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            printer.note(&format!("warning{code}: {}{hint}", warning.message));
        }
        Ok(())
    }

    /// How the run's clock stands.
    pub(crate) fn plan_options(&self) -> PlanOptions {
        PlanOptions { as_of_us: self.context.as_of_us, ..PlanOptions::default() }
    }

    /// The command as its artifacts name it.
    pub(crate) fn invocation(&self) -> Invocation {
        Invocation {
            id: self.context.run_id.clone(),
            started_at_us: self.started_at_us,
            now_us: self.context.clock.now_us(),
        }
    }

    /// Writes `manifest.json`. A folder that cannot be written to is said and does not fail the command.
    pub(crate) fn write_manifest(&self, compiled: &BTreeMap<NodeId, String>, printer: Printer) {
        self.write(names::MANIFEST, &self.runner.manifest(&self.invocation(), compiled), printer);
    }

    /// Makes `manifest.json` on another thread, so that it is ready when what the command does is done.
    pub(crate) fn prepare_manifest(&self) -> Manifest {
        let (runner, invocation) = (self.runner.clone(), self.invocation());
        let made =
            tokio::task::spawn_blocking(move || artifacts::bytes(&runner.manifest(&invocation, &BTreeMap::new())));
        Manifest(AbortOnDropHandle::new(made))
    }

    /// Writes a manifest that was made meanwhile.
    pub(crate) async fn write_prepared(&self, manifest: Manifest, printer: Printer) {
        match manifest.0.await {
            Ok(bytes) => tell(artifacts::write_bytes(&self.target, names::MANIFEST, &bytes), printer),
            // The runtime ends: nobody waits for the file.
            Err(error) => printer.note(&format!("warning: {error}")),
        }
    }

    /// Writes `run_results.json`. `args` are what the command was called with.
    pub(crate) fn write_results(&self, report: &Report, args: &Map<String, Json>, printer: Printer) {
        let results = artifacts::run_results(&self.runner, report, &self.invocation(), args);
        self.write(names::RUN_RESULTS, &results, printer);
    }

    fn write(&self, name: &str, artifact: &Json, printer: Printer) {
        tell(artifacts::write(&self.target, name, artifact), printer);
    }
}

/// A folder that cannot be written to is said and does not fail the command.
fn tell(written: Result<(), ArtifactError>, printer: Printer) {
    if let Err(error) = written {
        printer.note(&format!("warning: {}", report::one_line(&error)));
    }
}

/// A manifest in the making.
pub(crate) struct Manifest(AbortOnDropHandle<Vec<u8>>);

/// `--target-path`, else `target/` of the models project.
pub(crate) fn target_dir(context: &Context, global: &GlobalArgs) -> PathBuf {
    match &global.target_path {
        Some(dir) => dir.clone(),
        None => default_target(&context.settings.models_dir),
    }
}

/// `target-path` of `dbt_project.yml`, else `target/` beside it.
pub(crate) fn default_target(models_dir: &std::path::Path) -> PathBuf {
    build_folders(models_dir).target.unwrap_or_else(|| models_dir.join("target"))
}

/// The arguments of a command as `run_results.json` keeps them; `retry` reads them back.
pub(crate) fn recorded_args(which: &str, global: &GlobalArgs, selection: &SelectArgs) -> Map<String, Json> {
    let args = json!({
        "which": which,
        "select": selection.select,
        "exclude": selection.exclude,
        "selector": selection.selector,
        "resource_types": selection.resource_type,
        "exclude_resource_types": selection.exclude_resource_type,
        "vars": global.vars,
        "target": global.target,
        "threads": global.threads,
        "as_of": global.as_of,
    });
    match args {
        Json::Object(args) => args,
        _ => Map::new(),
    }
}
