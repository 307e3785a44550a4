//! `tidemill retry`: what failed or was skipped in the last command, once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use tidemill_transform::artifacts::{self, PreviousRun};
use tidemill_transform::graph::{Facts, Indirect, Selection};
use tidemill_transform::plan::PlanOptions;
use tidemill_transform::run::{BuildOptions, Kinds};

use super::build::{build_in, event_time, plan_text};
use super::context::Context;
use super::workspace::{Workspace, recorded_args, target_dir};
use crate::args::{GlobalArgs, MetricsArgs, RetryArgs, SelectArgs};
use crate::exit::Exit;
use crate::printer::Printer;

/// Goes on from the last `run_results.json` with that command's arguments.
pub(crate) async fn run(global: &GlobalArgs, args: RetryArgs, printer: Printer) -> anyhow::Result<Exit> {
    // The variables of that command shape the project, so its arguments are read before the project is.
    let dir = match &args.state {
        Some(dir) => dir.clone(),
        None => target_dir(&Context::load(global)?, global),
    };
    let before = artifacts::previous_args(&dir)?;
    let text = |key: &str| before.get(key).and_then(Json::as_str).map(str::to_owned);
    let mut global = global.clone();
    global.vars = global.vars.or_else(|| text("vars"));
    global.target = global.target.or_else(|| text("target"));
    global.as_of = global.as_of.or_else(|| text("as_of"));
    let workspace = Workspace::load(&global)?;
    let previous = PreviousRun::read(&workspace.runner, &dir)?;
    let unfinished = previous.unfinished();
    if unfinished.is_empty() {
        printer.note(&format!("nothing to retry: the last `tidemill {}` left nothing undone", previous.which));
        printer.result(&serde_json::json!({ "nodes": [] }), "");
        return Ok(Exit::Done);
    }
    let selection = Selection {
        select: vec!["result:error".to_owned()],
        indirect: Indirect::Empty,
        facts: Arc::new(Facts {
            results: Some(BTreeMap::from([("error".to_owned(), unfinished)])),
            ..Facts::default()
        }),
        ..Selection::default()
    };
    let plan = PlanOptions {
        full_refresh: before.get("full_refresh").and_then(Json::as_bool).unwrap_or(false),
        as_of_us: workspace.context.as_of_us,
        event_time: event_time(text("event_time_start").as_deref(), text("event_time_end").as_deref())?,
        batches: previous.failed_batches.clone(),
        ..PlanOptions::default()
    };
    if args.dry_run {
        let plan = workspace.runner.plan(&selection, &plan).await?;
        printer.result(&plan, &plan_text(&plan));
        return Ok(Exit::Done);
    }
    let kinds = match previous.which.as_str() {
        "run-models" | "run" => Kinds::MODELS,
        "seed" => Kinds::SEEDS,
        "snapshot" => Kinds::SNAPSHOTS,
        "test" => Kinds::TESTS,
        _ => Kinds::ALL,
    };
    let options = BuildOptions {
        plan,
        kinds,
        fail_fast: args.fail_fast,
        all_tests: true,
        run_id: Some(workspace.context.run_id.clone()),
        ..BuildOptions::default()
    };
    let mut recorded = recorded_args(&previous.which, &global, &SelectArgs::default());
    for key in ["select", "exclude", "selector", "full_refresh", "event_time_start", "event_time_end"] {
        if let Some(value) = before.get(key) {
            recorded.insert(key.to_owned(), value.clone());
        }
    }
    Box::pin(build_in(&workspace, &selection, &options, recorded, &MetricsArgs::default(), printer)).await
}
