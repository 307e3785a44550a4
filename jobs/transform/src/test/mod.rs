//! Data tests: queries for rows that should not exist.
//!
//! A test that has passed is not run again while everything that it reads stands at the versions that it saw: then its answer
//! cannot change. The proof of that is kept in the lake, `ops/tests`, as one number per test: the hash of its query and of
//! those versions. A run with nothing new reads no data for tests either, and a test that failed, or that a killed run never
//! came to, runs until it passes.

mod audit;
mod ledger;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};
use tidemill_project::Location;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use audit::Audited;
pub(crate) use ledger::Ledger;

use crate::plan::{is_stored, table_of};
use crate::project::{NodeId, Severity, TestConfig};
use crate::render::RenderContext;
use crate::run::{BuildFault, Outcome, Result, Sessions};

/// A test's answer.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub outcome: Outcome,
    /// Rows found; `None` when it was not run.
    pub failures: Option<u64>,
    /// What the ledger keeps when it passed.
    pub proof: i64,
}

/// Runs tests of one run.
#[derive(Clone, Debug)]
pub(crate) struct Tester {
    pub sessions: Sessions,
    pub render: RenderContext,
}

impl Tester {
    /// Runs one test, unless `passed` is the proof that it need not.
    pub(crate) async fn run(&self, name: &str, passed: Option<i64>) -> Result<Verdict> {
        let node = NodeId::Test(name.to_owned());
        let (sql, config, location) = self.compile(name)?;
        let proof = self.proof(&node, &sql).await?;
        if passed == Some(proof) {
            return Ok(Verdict { outcome: Outcome::UpToDate, failures: None, proof });
        }
        let parents: Vec<NodeId> = self.sessions.graph.parents(&node).cloned().collect();
        let context = self.sessions.over(parents, &self.render, None).await?;
        let failures = count(&context, &node, &sql, &config, location.clone()).await?;
        let is_error = holds(&context, &node, failures, &config.error_if, location.clone()).await?;
        let outcome = if config.severity == Severity::Error && is_error {
            Outcome::Fail
        } else if holds(&context, &node, failures, &config.warn_if, location).await? {
            Outcome::Warn
        } else {
            Outcome::Pass
        };
        Ok(Verdict { outcome, failures: Some(failures), proof })
    }

    /// The query of a test.
    pub(crate) fn compile(&self, name: &str) -> Result<(String, TestConfig, Option<Location>)> {
        let project = &self.sessions.project;
        let compiler = &self.sessions.compiler;
        if let Some(test) = project.generic_tests.iter().find(|test| test.name == name) {
            let sql = compiler.renderer().generic_test(test, &self.render, &compiler.relations())?;
            return Ok((sql, test.config.clone(), Some(test.location.clone())));
        }
        if let Some(test) = project.singular_tests.iter().find(|test| test.name == name) {
            let sql = compiler.renderer().singular_test(test, &self.render, &compiler.relations())?;
            return Ok((sql, test.config.clone(), Some(Location::new(&test.path, 1, 1))));
        }
        Err(BuildFault::UnknownNode { node: NodeId::Test(name.to_owned()) })
    }

    /// Hashes all that a test's answer follows from. Views count with their SQL and with what they read.
    async fn proof(&self, node: &NodeId, sql: &str) -> Result<i64> {
        let mut hasher = Sha256::new();
        hasher.update(sql);
        let mut waiting: Vec<NodeId> = self.sessions.graph.parents(node).cloned().collect();
        while let Some(input) = waiting.pop() {
            if !is_stored(&self.sessions.project, &input) {
                if let Some(view) = self.sessions.project.models.get(&input.name()) {
                    hasher.update(self.sessions.compiler.sql(view, &self.render)?);
                }
                waiting.extend(self.sessions.graph.parents(&input).cloned());
                continue;
            }
            let Some(id) = table_of(&self.sessions.project, &input) else { continue };
            if let Some(table) = self.sessions.snapshots.get(&id).await? {
                hasher.update(format!("\n{id}={}@{}", table.table_id(), table.version()));
            }
        }
        let digest = hasher.finalize();
        let bytes: [u8; 8] = digest[..8].try_into().expect("a SHA-256 has 32 bytes");
        // A `txn` version is not negative.
        Ok(i64::from_be_bytes(bytes) & i64::MAX)
    }
}

async fn count(
    context: &SessionContext,
    node: &NodeId,
    sql: &str,
    config: &TestConfig,
    location: Option<Location>,
) -> Result<u64> {
    let mut frame = context.sql(sql).await.map_err(BuildFault::plan(node, location.clone()))?;
    if let Some(limit) = config.limit {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        frame = frame.limit(0, Some(limit)).map_err(BuildFault::plan(node, location.clone()))?;
    }
    let num_rows = AbortOnDropHandle::new(tokio::spawn(frame.count()))
        .await
        .map_err(|source| BuildFault::TaskLost { node: node.clone(), source })?
        .map_err(BuildFault::execute(node, location))?;
    Ok(num_rows as u64)
}

/// `error_if` and `warn_if` are what stands right of the number of failures: `!= 0`, `between 1 and 5`.
async fn holds(
    context: &SessionContext,
    node: &NodeId,
    failures: u64,
    condition: &str,
    location: Option<Location>,
) -> Result<bool> {
    if condition.trim() == "!= 0" {
        return Ok(failures != 0);
    }
    let sql = format!("select case when {failures} {condition} then 1 else 0 end as verdict");
    let rows = context
        .sql(&sql)
        .await
        .map_err(BuildFault::plan(node, location.clone()))?
        .collect()
        .await
        .map_err(BuildFault::execute(node, location))?;
    Ok(rows.first().is_some_and(|rows| rows.column(0).as_primitive::<Int64Type>().value(0) == 1))
}
