//! `test`: runs tests of all kinds, side by side, and builds nothing.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::scenario::{self, Feeder};
use super::{Ledger, Manner, Proof, Tester, Verdict};
use crate::graph::{Selection, TestType};
use crate::plan::PlanOptions;
use crate::project::NodeId;
use crate::run::{BuildError, BuildFault, NodeReport, Observer, Outcome, Report, Result, Runner, TestFacts};

/// How to test.
#[derive(Clone, Debug, Default)]
pub struct TestOptions {
    /// The clock and the watermarks that templates see.
    pub plan: PlanOptions,
    /// Look at all rows, also at those that have passed before.
    pub full: bool,
    /// Start nothing more after the first failure.
    pub fail_fast: bool,
    /// Keep the rows that fail, whatever the tests' configuration says.
    pub store_failures: bool,
    /// The folder for the SQL of tests that do not pass; dbt's is `target/compiled`.
    pub compiled_dir: Option<PathBuf>,
    /// The run's id; a fresh one unless given.
    pub run_id: Option<String>,
    /// Brings records of stories the real road; stories that send some cannot be told without.
    pub feeder: Option<Arc<dyn Feeder>>,
}

impl Runner {
    /// Runs the tests of the selection. Data tests look at what is stored: those whose answer cannot have changed are not run,
    /// and those that have passed before look at what is new since. Unit tests need no lake and open none.
    ///
    /// # Errors
    /// The selection, and what every test needs. What goes wrong with one test stands in the report.
    pub async fn test(
        &self,
        selection: &Selection,
        options: &TestOptions,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<Report, BuildError> {
        let watch = self.lake.clock().stopwatch();
        let run_id = options.run_id.clone().unwrap_or_else(|| self.lake.clock().new_id().to_string());
        let mut selected = self.graph.select(selection)?;
        selected.retain(|node| matches!(node, NodeId::Test(_)));
        observer.begin(selected.len());
        let is_data =
            |node: &NodeId| matches!(self.graph.test_type(node), Some(TestType::Generic | TestType::Singular));
        let mut plan = options.plan.clone();
        let mut ledger = None;
        if selected.iter().any(is_data) {
            ledger = Some(Ledger::open(&self.lake, &run_id).await?);
        } else {
            plan.watermarks.get_or_insert_with(BTreeMap::new);
        }
        let executor = self.executor(&plan, &run_id).await?;
        let as_of_us = executor.planner.as_of_us;
        let tester = Tester { sessions: executor.sessions.clone(), render: Self::looking(&executor) };
        let mut waiting: VecDeque<NodeId> = selected.into();
        let mut running: JoinSet<(NodeReport, Option<Proof>)> = JoinSet::new();
        let mut nodes = Vec::new();
        loop {
            while running.len() < self.threads && !cancel.is_cancelled() {
                let Some(node) = waiting.pop_front() else { break };
                observer.started(&node);
                let seen = ledger.as_ref().filter(|_| !options.full && is_data(&node));
                let manner = Manner {
                    seen: seen.and_then(|ledger| ledger.proof(&node.name())),
                    store_failures: options.store_failures,
                    compiled_dir: options.compiled_dir.clone(),
                    run_id: run_id.clone(),
                };
                let work = Work {
                    runner: self.clone(),
                    tester: tester.clone(),
                    feeder: options.feeder.clone(),
                    manner,
                    cancel: cancel.clone(),
                    node,
                };
                running.spawn(work.run());
            }
            let Some(ended) = running.join_next().await else { break };
            let (report, proof) =
                ended.map_err(|source| BuildFault::TaskLost { node: NodeId::Test("unknown".to_owned()), source })?;
            let is_data = is_data(&NodeId::Test(report.name.clone()));
            if let (Some(ledger), Some(proof)) = (ledger.as_mut().filter(|_| is_data), proof) {
                ledger.pass(&report.name, proof);
            }
            let is_bad = matches!(report.outcome, Outcome::Fail | Outcome::Error);
            observer.finished(&report);
            nodes.push(report);
            if is_bad && options.fail_fast {
                break;
            }
        }
        running.shutdown().await;
        for node in waiting {
            let report = stopped(&node);
            observer.finished(&report);
            nodes.push(report);
        }
        if let Some(ledger) = ledger {
            ledger.commit().await?;
        }
        let elapsed_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Report { run_id, as_of_us, elapsed_ms, nodes })
    }
}

/// One test, in a task of its own.
struct Work {
    runner: Runner,
    tester: Tester,
    feeder: Option<Arc<dyn Feeder>>,
    manner: Manner,
    cancel: CancellationToken,
    node: NodeId,
}

impl Work {
    async fn run(self) -> (NodeReport, Option<Proof>) {
        let watch = self.runner.lake.clock().stopwatch();
        let ended = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return (stopped(&self.node), None),
            ended = Box::pin(self.attempt()) => ended,
        };
        let (mut report, proof) = match ended {
            Ok(verdict) => {
                let proof = (verdict.outcome == Outcome::Pass).then_some(verdict.proof);
                let report = NodeReport {
                    failures: verdict.failures,
                    message: verdict.message,
                    test: Some(verdict.facts),
                    ..NodeReport::new(&self.node, verdict.outcome)
                };
                (report, proof)
            }
            Err(BuildFault::UpstreamMissing { upstream }) => {
                let message = format!("`{upstream}` was not built yet");
                (NodeReport { message: Some(message), ..NodeReport::new(&self.node, Outcome::Skipped) }, None)
            }
            Err(fault) => (NodeReport::failed(&self.node, fault.into()), None),
        };
        report.elapsed_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        (report, proof)
    }

    async fn attempt(&self) -> Result<Verdict> {
        let name = self.node.name();
        let Some(story) = self.runner.project.scenario_tests.iter().find(|test| test.name == name) else {
            return self.tester.run(&name, &self.manner).await;
        };
        let departure = scenario::tell(&self.runner, story, self.feeder.as_ref()).await?;
        let outcome = if departure.is_some() { Outcome::Fail } else { Outcome::Pass };
        Ok(Verdict {
            outcome,
            failures: Some(departure.as_ref().map_or(0, |departure| departure.num_rows)),
            proof: Proof::default(),
            message: departure.map(|departure| departure.message),
            facts: TestFacts::new(TestType::Scenario),
        })
    }
}

fn stopped(node: &NodeId) -> NodeReport {
    NodeReport { message: Some("the run was stopped".to_owned()), ..NodeReport::new(node, Outcome::Skipped) }
}
