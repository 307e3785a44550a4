//! Data tests: queries for rows that should not exist.
//!
//! A test that has passed is not run again while everything that it reads stands at the versions that it saw: then its answer
//! cannot change. The proof of that is kept in the lake, `ops/tests`, as one number per test: the hash of its query and of
//! those versions. A run with nothing new reads no data for tests either, and a test that failed, or that a killed run never
//! came to, runs until it passes.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};
use tidemill_project::Location;
use tokio_util::task::AbortOnDropHandle;

use crate::plan::{is_stored, table_of};
use crate::project::{NodeId, Severity, TestConfig};
use crate::render::{Relation, Relations, RenderContext, SharedRelations};
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

/// What a test found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Pass, warn or fail.
    pub outcome: Outcome,
    /// The number that `fail_calc` makes of the rows found; their count unless configured.
    pub failures: u64,
}

/// A data test as it runs: one query for rows that should not exist, and what it means to find some.
#[derive(Clone, Debug)]
pub(crate) struct CompiledTest {
    /// Its unique name.
    pub name: String,
    /// The query.
    pub sql: String,
    /// Severity, thresholds, limit.
    pub config: TestConfig,
    /// Where it is declared.
    pub location: Option<Location>,
    /// What the query reads, by the names that [`Sessions`] register; the session must know all of it.
    pub inputs: Vec<NodeId>,
}

impl CompiledTest {
    /// The rows that fail, `limit` included: what is stored, shown, and counted.
    pub(crate) fn rows_sql(&self) -> String {
        let sql = self.sql.trim().trim_end_matches(';');
        match self.config.limit {
            Some(limit) => format!("select * from (\n{sql}\n) as dbt_internal_test limit {limit}"),
            None => sql.to_owned(),
        }
    }

    /// Runs the test.
    ///
    /// # Errors
    /// The query does not plan or fails, or `fail_calc`, `warn_if` and `error_if` do not fit it.
    pub(crate) async fn judge(&self, context: &SessionContext) -> Result<Finding> {
        let config = &self.config;
        let sql = format!(
            "select failures, failures {} as should_warn, failures {} as should_error from (\n\
             select cast(coalesce({}, 0) as bigint) as failures from (\n{}\n) as dbt_internal_test\n) as counted",
            config.warn_if,
            config.error_if,
            config.fail_calc.as_deref().unwrap_or("count(*)"),
            self.rows_sql()
        );
        let rows = self.collect(context, &sql).await?;
        let row = rows.iter().find(|rows| rows.num_rows() > 0);
        let failures = row.map_or(0, |row| row.column(0).as_primitive::<Int64Type>().value(0));
        let says = |index: usize| row.is_some_and(|row| row.column(index).as_boolean().value(0));
        let outcome = if config.severity == Severity::Error && says(2) {
            Outcome::Fail
        } else if says(1) {
            Outcome::Warn
        } else {
            Outcome::Pass
        };
        Ok(Finding { outcome, failures: u64::try_from(failures).unwrap_or(0) })
    }

    /// At most `limit` of the rows that fail.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub(crate) async fn failing_rows(&self, context: &SessionContext, limit: usize) -> Result<Vec<RecordBatch>> {
        let sql = format!("select * from (\n{}\n) as dbt_internal_test limit {limit}", self.rows_sql());
        self.collect(context, &sql).await
    }

    fn node(&self) -> NodeId {
        NodeId::Test(self.name.clone())
    }

    async fn collect(&self, context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
        let node = self.node();
        let frame = context.sql(sql).await.map_err(BuildFault::plan(&node, self.location.clone()))?;
        AbortOnDropHandle::new(tokio::spawn(frame.collect()))
            .await
            .map_err(|source| BuildFault::TaskLost { node: node.clone(), source })?
            .map_err(BuildFault::execute(&node, self.location.clone()))
    }
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
        let test = self.compile(name)?;
        let proof = self.proof(&test.node(), &test.sql).await?;
        if passed == Some(proof) {
            return Ok(Verdict { outcome: Outcome::UpToDate, failures: None, proof });
        }
        let context = self.sessions.over(test.inputs.clone(), &self.render, None).await?;
        let Finding { outcome, failures } = test.judge(&context).await?;
        Ok(Verdict { outcome, failures: Some(failures), proof })
    }

    /// A test as it runs on what is stored.
    ///
    /// # Errors
    /// There is no such test, or its template cannot be rendered.
    pub(crate) fn compile(&self, name: &str) -> Result<CompiledTest> {
        self.compile_with(name, &self.sessions.compiler.relations())
    }

    /// The tests of a model, each compiled to read `relation` where it would read the model's table: a view over rows that
    /// are not visible yet. What else a test reads must be registered by the caller, under the names of [`Sessions`];
    /// [`CompiledTest::inputs`] lists it, the model itself included.
    ///
    /// These are the generic tests on the model and its columns, and singular tests that read it. Tests that read anything
    /// that does not lie above the model are left out: they can be answered after the commit only.
    ///
    /// # Errors
    /// A template that cannot be rendered.
    pub(crate) fn compile_against(&self, node: &NodeId, relation: &Relation) -> Result<Vec<CompiledTest>> {
        let relations: SharedRelations = Arc::new(Against {
            inner: self.sessions.compiler.relations(),
            node: node.clone(),
            relation: relation.clone(),
        });
        let graph = &self.sessions.graph;
        let ancestors = graph.ancestors(node, None);
        graph
            .children(node)
            .filter(|child| graph.parents(child).all(|parent| parent == node || ancestors.contains(parent)))
            .filter_map(|child| match child {
                NodeId::Test(name) if self.is_data_test(name) => Some(self.compile_with(name, &relations)),
                _ => None,
            })
            .collect()
    }

    fn is_data_test(&self, name: &str) -> bool {
        let project = &self.sessions.project;
        project.generic_tests.iter().any(|test| test.name == name)
            || project.singular_tests.iter().any(|test| test.name == name)
    }

    fn compile_with(&self, name: &str, relations: &SharedRelations) -> Result<CompiledTest> {
        let project = &self.sessions.project;
        let renderer = self.sessions.compiler.renderer();
        let node = NodeId::Test(name.to_owned());
        let (sql, config, location) = if let Some(test) = project.generic_tests.iter().find(|test| test.name == name) {
            let sql = renderer.generic_test(test, &self.render, relations)?;
            (sql, test.config.clone(), test.location.clone())
        } else if let Some(test) = project.singular_tests.iter().find(|test| test.name == name) {
            let sql = renderer.singular_test(test, &self.render, relations)?;
            (sql, test.config.clone(), Location::new(&test.path, 1, 1))
        } else {
            return Err(BuildFault::UnknownNode { node });
        };
        let inputs = self.sessions.graph.parents(&node).cloned().collect();
        Ok(CompiledTest { name: name.to_owned(), sql, config, location: Some(location), inputs })
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

/// The names of a session with one node elsewhere.
struct Against {
    inner: SharedRelations,
    node: NodeId,
    relation: Relation,
}

impl Relations for Against {
    fn relation(&self, node: &NodeId) -> Option<Relation> {
        if *node == self.node { Some(self.relation.clone()) } else { self.inner.relation(node) }
    }

    fn columns(&self, node: &NodeId) -> Vec<String> {
        self.inner.columns(node)
    }
}
