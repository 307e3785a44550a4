//! `run_results.json`: how the nodes of a command ended, and what `retry` reads out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::ids::Ids;
use super::{ArtifactError, Invocation, instant, names, read};
use crate::project::NodeId;
use crate::run::{NodeReport, Outcome, Report, Runner};

/// The results of one command. `args` are what it was called with; `which` among them is the verb.
#[must_use]
pub fn run_results(runner: &Runner, report: &Report, invocation: &Invocation, args: &Map<String, Json>) -> Json {
    let ids = Ids::of(runner.graph());
    let by_name: BTreeMap<String, &NodeId> = runner.graph().order().map(|node| (node.to_string(), node)).collect();
    let results: Vec<Json> = report
        .nodes
        .iter()
        .filter_map(|node| Some((node, *by_name.get(&node.node)?)))
        .map(|(node, id)| result(runner, &ids, id, node, invocation))
        .collect();
    json!({
        "metadata": invocation.metadata("run-results/v6"),
        "results": results,
        "elapsed_time": seconds(report.elapsed_ms),
        "args": args,
    })
}

fn result(runner: &Runner, ids: &Ids, id: &NodeId, node: &NodeReport, invocation: &Invocation) -> Json {
    let began_us = node.started_at_us.unwrap_or(invocation.started_at_us);
    let ended_us = began_us.saturating_add_unsigned(node.elapsed_ms.saturating_mul(1000));
    let mut response = json!({"rows_affected": node.rows_written});
    if let Some(version) = node.version {
        response["version"] = json!(version);
    }
    let timing = if node.outcome == Outcome::Skipped {
        Vec::new()
    } else {
        vec![json!({"name": "execute", "started_at": instant(began_us), "completed_at": instant(ended_us)})]
    };
    json!({
        "status": status(node),
        "timing": timing,
        "thread_id": "tidemill",
        "execution_time": seconds(node.elapsed_ms),
        "adapter_response": response,
        "message": node.message.clone().or_else(|| node.reason.as_ref().map(ToString::to_string)),
        "failures": node.failures,
        "unique_id": ids.get(id),
        "compiled": Json::Null,
        "compiled_code": Json::Null,
        "relation_name": runner.table_of(id).and_then(|_| runner.compiler.relation(id)).map(|relation| relation.sql),
        "batch_results": batches(runner, id, node),
    })
}

/// The windows of the batches that a model's report names.
fn batches(runner: &Runner, id: &NodeId, node: &NodeReport) -> Json {
    let NodeId::Model(name) = id else { return Json::Null };
    if node.batches.is_none() && node.failed_batches.is_empty() {
        return Json::Null;
    }
    let Some(size) = runner.project().models.get(name).and_then(|model| model.config.batch_size) else {
        return Json::Null;
    };
    let windows = |names: &[String]| -> Vec<Json> {
        let windows = names.iter().filter_map(|name| size.parse_name(name));
        windows.map(|window| json!([instant(window.start_us), instant(window.end_us)])).collect()
    };
    json!({
        "successful": windows(node.batches.as_deref().unwrap_or_default()),
        "failed": windows(&node.failed_batches),
    })
}

/// The names of the batches that a result calls failed.
fn failed_batches_of(runner: &Runner, node: &NodeId, result: &Json) -> Vec<String> {
    let model = runner.project().models.get(&node.name());
    let Some(size) = model.and_then(|model| model.config.batch_size) else { return Vec::new() };
    let windows = result["batch_results"]["failed"].as_array().into_iter().flatten();
    let starts = windows.filter_map(|window| chrono::DateTime::parse_from_rfc3339(window[0].as_str()?).ok());
    starts.map(|start| size.name(size.window_of(start.timestamp_micros()))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a run takes less than 2^52 milliseconds")]
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// dbt's word.
fn status(node: &NodeReport) -> &'static str {
    match node.outcome {
        Outcome::UpToDate if node.kind.ends_with("test") => "pass",
        Outcome::Success | Outcome::UpToDate => "success",
        Outcome::Pass => "pass",
        Outcome::Warn => "warn",
        Outcome::Fail => "fail",
        Outcome::Error if node.batches.as_ref().is_some_and(|batches| !batches.is_empty()) => "partial success",
        Outcome::Error => "error",
        Outcome::Skipped => "skipped",
    }
}

/// What the command that left its results in a folder was called with; empty when they do not say.
///
/// # Errors
/// The file is not there, or is no artifact.
pub fn previous_args(dir: &Path) -> Result<Map<String, Json>, ArtifactError> {
    Ok(read(dir, names::RUN_RESULTS)?["args"].as_object().cloned().unwrap_or_default())
}

/// A command as its `run_results.json` tells it.
#[derive(Clone, Debug)]
pub struct PreviousRun {
    /// The verb: `build`, `run-models`, `test`, `seed`, …
    pub which: String,
    /// What it was called with.
    pub args: Map<String, Json>,
    /// Nodes by dbt's status; ids that the project no longer has are left out.
    pub by_status: BTreeMap<String, BTreeSet<NodeId>>,
    /// Model -> names of batches that could not be computed, for [`crate::plan::PlanOptions::batches`].
    pub failed_batches: BTreeMap<String, Vec<String>>,
}

impl PreviousRun {
    /// Reads the results of a folder.
    ///
    /// # Errors
    /// The file is not there, or is no artifact.
    pub fn read(runner: &Runner, dir: &Path) -> Result<Self, ArtifactError> {
        let artifact = read(dir, names::RUN_RESULTS)?;
        let ids = Ids::of(runner.graph());
        let nodes = ids.nodes();
        let mut by_status: BTreeMap<String, BTreeSet<NodeId>> = BTreeMap::new();
        let mut failed_batches = BTreeMap::new();
        for result in artifact["results"].as_array().into_iter().flatten() {
            let (Some(id), Some(status)) = (result["unique_id"].as_str(), result["status"].as_str()) else { continue };
            if let Some(node) = nodes.get(id) {
                by_status.entry(status.to_owned()).or_default().insert((*node).clone());
                let failed = failed_batches_of(runner, node, result);
                if !failed.is_empty() {
                    failed_batches.insert(node.name(), failed);
                }
            }
        }
        let args = artifact["args"].as_object().cloned().unwrap_or_default();
        let which = args.get("which").and_then(Json::as_str).unwrap_or("build").to_owned();
        Ok(Self { which, args, by_status, failed_batches })
    }

    /// What `retry` works on: nodes that failed or were never come to.
    #[must_use]
    pub fn unfinished(&self) -> BTreeSet<NodeId> {
        ["error", "fail", "skipped", "runtime error", "partial success"]
            .iter()
            .filter_map(|status| self.by_status.get(*status))
            .flatten()
            .cloned()
            .collect()
    }
}
