//! Walks the graph.

use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::execute::Executor;
use super::schedule::Schedule;
use super::{BuildError, BuildFault, NodeReport, Observer, Outcome, Report, Result, Runner, seed};
use crate::graph::{Selection, TestType};
use crate::plan::{Action, PlanOptions, table_of};
use crate::project::{NodeId, Project};
use crate::test::{Ledger, Manner, Proof, Tester, Verdict};

/// Which kinds of nodes a run works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a set: each kind is in it or not")]
pub struct Kinds {
    /// Load seeds.
    pub seeds: bool,
    /// Build models.
    pub models: bool,
    /// Bring the history of rows up to date.
    pub snapshots: bool,
    /// Run data tests.
    pub tests: bool,
}

impl Kinds {
    /// `build`.
    pub const ALL: Self = Self { seeds: true, models: true, snapshots: true, tests: true };
    const NONE: Self = Self { seeds: false, models: false, snapshots: false, tests: false };
    /// `seed`.
    pub const SEEDS: Self = Self { seeds: true, ..Self::NONE };
    /// `run-models`.
    pub const MODELS: Self = Self { models: true, ..Self::NONE };
    /// `snapshot`.
    pub const SNAPSHOTS: Self = Self { snapshots: true, ..Self::NONE };
    /// `test`.
    pub const TESTS: Self = Self { tests: true, ..Self::NONE };

    fn contains(self, kind: &str) -> bool {
        match kind {
            "seed" => self.seeds,
            "model" => self.models,
            "snapshot" => self.snapshots,
            "test" | "unit_test" => self.tests,
            _ => false,
        }
    }

    /// Whether tables are written.
    fn writes(self) -> bool {
        self.seeds || self.models || self.snapshots
    }
}

/// How to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// What is stale.
    pub plan: PlanOptions,
    /// What is worked on.
    pub kinds: Kinds,
    /// Start nothing more after the first failure.
    pub fail_fast: bool,
    /// Run tests whose answer cannot have changed, too: `test` does, `build` does not.
    pub all_tests: bool,
    /// Run the unit tests of what is built.
    pub unit_tests: bool,
    /// The run's id; a fresh one unless given.
    pub run_id: Option<String>,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            plan: PlanOptions::default(),
            kinds: Kinds::ALL,
            fail_fast: false,
            all_tests: false,
            unit_tests: true,
            run_id: None,
        }
    }
}

/// Under this name the ledger keeps that all models were planned, so that a run with nothing new does not plan them again.
const CHECK: &str = "every model was planned before anything ran";

impl Runner {
    /// Builds what is stale in the selection and tests it, in the order of the graph. What stands on a failed node, or on one
    /// whose test of severity `error` failed, is skipped; the rest goes on.
    ///
    /// Cancelling throws away what is not committed, and starts nothing more.
    ///
    /// # Errors
    /// The selection, and what every node needs: the lake's store, templates of macros. What goes wrong with one node stands
    /// in the report; [`Report::failure`] says what the run comes to.
    pub async fn build(
        &self,
        selection: &Selection,
        options: &BuildOptions,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<Report, BuildError> {
        let watch = self.lake.clock().stopwatch();
        let run_id = options.run_id.clone().unwrap_or_else(|| self.lake.clock().new_id().to_string());
        let mut selected = self.graph.select(selection)?;
        // Stories have lakes of their own; `test` tells them.
        let is_wanted = |node: &NodeId| options.kinds.contains(self.kind(node));
        selected.retain(|node| is_wanted(node) && self.graph.test_type(node) != Some(TestType::Scenario));
        observer.begin(selected.len());
        let mut executor = self.executor(&options.plan, &run_id).await?;
        let mut ledger = Ledger::open(&self.lake, &run_id).await?;
        if !options.all_tests {
            executor.passed = Arc::new(ledger.proofs());
        }
        let as_of_us = executor.planner.as_of_us;
        let tester = Tester { sessions: executor.sessions.clone(), render: Self::looking(&executor) };
        if options.kinds.writes() {
            let key = Proof { whole: executor.check_key(&selected), ..Proof::default() };
            if ledger.proof(CHECK) != Some(key) {
                let faults = Box::pin(executor.check(&selected)).await;
                if !faults.is_empty() {
                    return Err(BuildFault::Checked(faults).into());
                }
                ledger.pass(CHECK, key);
            }
            executor.run_project_hooks(&self.project.on_run_start, "on-run-start").await?;
        }
        let mut schedule = Schedule::new(&self.graph, &selected);
        let mut nodes = Vec::new();
        let mut running: JoinSet<(NodeId, NodeReport, Option<Proof>)> = JoinSet::new();
        loop {
            while running.len() < self.threads && !cancel.is_cancelled() {
                let Some(node) = schedule.start_next() else { break };
                observer.started(&node);
                let passed = match &node {
                    NodeId::Test(name) if !options.all_tests => ledger.proof(name),
                    _ => None,
                };
                let work = Work {
                    executor: executor.clone(),
                    tester: tester.clone(),
                    observer: Arc::clone(&observer),
                    cancel: cancel.clone(),
                    full_refresh: options.plan.full_refresh,
                    passed,
                    node,
                };
                running.spawn(work.run());
            }
            let Some(ended) = running.join_next().await else { break };
            let (node, report, proof) = match ended {
                Ok(ended) => ended,
                Err(source) => {
                    return Err(BuildFault::TaskLost { node: NodeId::Model("unknown".to_owned()), source }.into());
                }
            };
            if let (NodeId::Test(name), Some(proof)) = (&node, proof) {
                ledger.pass(name, proof);
            }
            let failed = matches!(report.outcome, Outcome::Fail | Outcome::Error);
            observer.finished(&report);
            nodes.push(report);
            let mut skipped = Vec::new();
            if failed {
                skipped = schedule.fail(&node);
                if options.fail_fast {
                    skipped.extend(schedule.stop());
                }
            } else {
                schedule.finish(&node);
            }
            for lost in skipped {
                let message = format!("`{}` failed", node.name());
                let report = NodeReport { message: Some(message), ..NodeReport::new(&lost, Outcome::Skipped) };
                observer.finished(&report);
                nodes.push(report);
            }
        }
        for left in schedule.stop() {
            let report = stopped(&left);
            observer.finished(&report);
            nodes.push(report);
        }
        if options.kinds.writes() {
            executor.run_project_hooks(&self.project.on_run_end, "on-run-end").await?;
        }
        ledger.commit().await?;
        for node in nodes.iter_mut().filter(|node| node.outcome == Outcome::Skipped && node.kind == "model") {
            node.kind = self.kind(&NodeId::Model(node.name.clone()));
        }
        Ok(Report { run_id, as_of_us, elapsed_ms: millis(watch.elapsed()), nodes })
    }
}

fn stopped(node: &NodeId) -> NodeReport {
    NodeReport { message: Some("the run was stopped".to_owned()), ..NodeReport::new(node, Outcome::Skipped) }
}

fn millis(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// One node's work, in a task of its own.
struct Work {
    executor: Executor,
    tester: Tester,
    observer: Arc<dyn Observer>,
    cancel: CancellationToken,
    full_refresh: bool,
    passed: Option<Proof>,
    node: NodeId,
}

impl Work {
    /// The third part is the proof of a test's pass.
    async fn run(self) -> (NodeId, NodeReport, Option<Proof>) {
        let clock = self.executor.planner.snapshots.lake().clock().clone();
        let (watch, started_at_us) = (clock.stopwatch(), clock.now_us());
        // A dropped attempt has committed or not; files without a commit belong to nobody.
        let attempt = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Ok((stopped(&self.node), None)),
            attempt = Box::pin(self.attempt()) => attempt,
        };
        let (mut report, proof) = match attempt {
            Ok(ended) => ended,
            Err(BuildFault::UpstreamMissing { upstream }) if matches!(self.node, NodeId::Test(_)) => {
                let message = format!("`{upstream}` was not built yet");
                (NodeReport { message: Some(message), ..NodeReport::new(&self.node, Outcome::Skipped) }, None)
            }
            Err(fault) => (NodeReport::failed(&self.node, fault.into()), None),
        };
        if let Some(node) = self.executor.planner.graph.get(&self.node).filter(|node| node.traits.is_snapshot) {
            report.kind = node.kind(&self.node);
        }
        report.elapsed_ms = millis(watch.elapsed());
        report.started_at_us = Some(started_at_us);
        (self.node, report, proof)
    }

    async fn attempt(&self) -> Result<(NodeReport, Option<Proof>)> {
        let project: &Project = &self.executor.planner.project;
        match &self.node {
            NodeId::Model(name) => {
                let model =
                    project.models.get(name).ok_or_else(|| BuildFault::UnknownNode { node: self.node.clone() })?;
                let built = Box::pin(self.executor.build(model, self.observer.as_ref())).await?;
                let idle = matches!(built.plan.action, Action::Skip);
                if let Some(audit) = built.audit {
                    let report = NodeReport {
                        reason: Some(built.plan.reason),
                        failures: Some(audit.failures),
                        message: Some(audit.to_string()),
                        ..NodeReport::new(&self.node, Outcome::Fail)
                    };
                    return Ok((report, None));
                }
                let failed = match built.fault {
                    Some(fault) => NodeReport::failed(&self.node, fault.into()),
                    None => NodeReport::new(&self.node, if idle { Outcome::UpToDate } else { Outcome::Success }),
                };
                let report = NodeReport {
                    failed_batches: built.failed,
                    reason: Some(built.plan.reason),
                    whole_because: built.plan.whole_because,
                    rows_written: built.written.rows,
                    batches: built.written.batches,
                    version: built.written.version.map(|version| version.0),
                    ..failed
                };
                Ok((report, None))
            }
            NodeId::Seed(name) => {
                let seed =
                    project.seeds.get(name).ok_or_else(|| BuildFault::UnknownNode { node: self.node.clone() })?;
                let id =
                    table_of(project, &self.node).ok_or_else(|| BuildFault::UnknownNode { node: self.node.clone() })?;
                let snapshots = &self.executor.planner.snapshots;
                let context = self.executor.sessions.empty();
                let run_id = &self.executor.run_id;
                let written =
                    seed::load(project, seed, id.clone(), snapshots.lake(), &context, run_id, self.full_refresh)
                        .await?;
                snapshots.forget([&id]);
                let outcome = if written.version.is_some() { Outcome::Success } else { Outcome::UpToDate };
                let report = NodeReport {
                    rows_written: written.rows,
                    version: written.version.map(|version| version.0),
                    ..NodeReport::new(&self.node, outcome)
                };
                Ok((report, None))
            }
            NodeId::Test(name) => {
                let manner = Manner { seen: self.passed, run_id: self.executor.run_id.clone(), ..Manner::default() };
                let Verdict { outcome, failures, proof, message, facts } = self.tester.run(name, &manner).await?;
                let report =
                    NodeReport { failures, message, test: Some(facts), ..NodeReport::new(&self.node, outcome) };
                Ok((report, (outcome == Outcome::Pass).then_some(proof)))
            }
            NodeId::Source(_) | NodeId::Exposure(_) => Err(BuildFault::UnknownNode { node: self.node.clone() }),
        }
    }
}
