//! What a run tells: one line per node while it works, plain data at the end.

use serde::Serialize;
use tidemill_project::clock::Micros;
use tidemill_project::{Diagnostic as _, ErrorKind};

use super::BuildError;
use crate::graph::TestType;
use crate::plan::{ModelPlan, Reason};
use crate::project::NodeId;

/// Is told what happens, as it happens; from several tasks at once. Must not block.
pub trait Observer: Send + Sync {
    /// The run is about to work on this many nodes.
    fn begin(&self, num_nodes: usize) {
        let _ = num_nodes;
    }

    /// A node's turn has come.
    fn started(&self, node: &NodeId) {
        let _ = node;
    }

    /// What will be done with a model is known.
    fn planned(&self, plan: &ModelPlan) {
        let _ = plan;
    }

    /// One more batch of a model is computed.
    fn batch_done(&self, model: &str, num_done: usize, num_batches: usize) {
        let _ = (model, num_done, num_batches);
    }

    /// A node is done, or was skipped.
    fn finished(&self, report: &NodeReport) {
        let _ = report;
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Built; its table shows what its inputs hold.
    Success,
    /// There was nothing to do.
    UpToDate,
    /// A test found nothing wrong.
    Pass,
    /// A test found rows, and they are a warning.
    Warn,
    /// A test found rows.
    Fail,
    /// It could not be built or tested.
    Error,
    /// Something that it stands on failed.
    Skipped,
}

/// What a report says of a test beside its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestFacts {
    /// Which kind of test it is.
    pub test_type: TestType,
    /// What it looked at, when that was not everything.
    pub looked_at: Option<&'static str>,
    /// The condition over the number of failures that held: `!= 0`.
    pub condition: Option<String>,
    /// The file with its SQL, when it did not pass.
    pub compiled_path: Option<String>,
    /// The table with the rows that failed, as SQL names it, when they were kept.
    pub stored_in: Option<String>,
}

impl TestFacts {
    pub(crate) fn new(test_type: TestType) -> Self {
        Self { test_type, looked_at: None, condition: None, compiled_path: None, stored_in: None }
    }
}

/// What became of one node.
#[derive(Debug, Serialize)]
pub struct NodeReport {
    /// The node, `model.fct_orders`.
    pub node: String,
    /// `model`, `snapshot`, `seed`, `test`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was (not) built.
    pub reason: Option<Reason>,
    /// Why the whole was computed although only parts of the inputs changed.
    pub whole_because: Option<String>,
    /// Rows written; for models that are kept by key, rows that are new or others than before.
    pub rows_written: u64,
    /// Batches whose rows changed; `None` for tables without batches.
    pub batches: Option<Vec<String>>,
    /// Batches that could not be computed; the others were committed. `retry` builds them with
    /// [`crate::plan::PlanOptions::batches`].
    pub failed_batches: Vec<String>,
    /// The version that was committed.
    pub version: Option<u64>,
    /// Rows that a test found.
    pub failures: Option<u64>,
    /// What else there is to say of a test that was run.
    pub test: Option<TestFacts>,
    /// What it says: the error and its causes, or why it was skipped.
    pub message: Option<String>,
    /// When its turn came, microseconds UTC; `None` for one that was never come to.
    pub started_at_us: Option<Micros>,
    /// Milliseconds from its turn to its end.
    pub elapsed_ms: u64,
    /// The error, for printers that show places and hints.
    #[serde(skip)]
    pub error: Option<BuildError>,
}

impl NodeReport {
    pub(crate) fn new(node: &NodeId, outcome: Outcome) -> Self {
        let kind = match node {
            NodeId::Source(_) => "source",
            NodeId::Seed(_) => "seed",
            NodeId::Model(_) => "model",
            NodeId::Test(_) => "test",
            NodeId::Exposure(_) => "exposure",
        };
        Self {
            node: node.to_string(),
            kind,
            name: node.name(),
            outcome,
            reason: None,
            whole_because: None,
            rows_written: 0,
            failed_batches: Vec::new(),
            batches: None,
            version: None,
            failures: None,
            test: None,
            message: None,
            started_at_us: None,
            elapsed_ms: 0,
            error: None,
        }
    }

    pub(crate) fn failed(node: &NodeId, error: BuildError) -> Self {
        Self { message: Some(chain(&error)), error: Some(error), ..Self::new(node, Outcome::Error) }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(source) = at {
        text.push_str(": ");
        text.push_str(&source.to_string());
        at = source.source();
    }
    text
}

/// What became of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The run's id, which all its commits carry.
    pub run_id: String,
    /// The run's clock, microseconds UTC.
    pub as_of_us: Micros,
    /// Milliseconds that the run took.
    pub elapsed_ms: u64,
    /// Nodes in the order in which they ended.
    pub nodes: Vec<NodeReport>,
}

impl Report {
    /// How many nodes ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.nodes.iter().filter(|node| node.outcome == outcome).count()
    }

    /// What the run failed with; `None` when all is well (warnings are). An error counts before a failed test, as a retry may
    /// mend the one and not the other.
    #[must_use]
    pub fn failure(&self) -> Option<ErrorKind> {
        let first = self.nodes.iter().find_map(|node| node.error.as_ref());
        if let Some(error) = first {
            return Some(error.kind());
        }
        (self.count(Outcome::Fail) > 0).then_some(ErrorKind::Rejected)
    }

    /// A node by its name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| node.name == name)
    }
}
