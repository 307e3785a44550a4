//! Data tests: queries for rows that should not exist.
//!
//! A test that has passed is not run again while everything that it reads stands at the versions that it saw: then its answer
//! cannot change. The proof of that is kept in the lake, `ops/tests`, as numbers of the test: the hash of its query and of
//! those versions. A run with nothing new reads no data for tests either, and a test that failed, or that a killed run never
//! came to, runs until it passes.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::common::TableReference;
use datafusion::prelude::SessionContext;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tidemill_project::{Fault, Location};
use tokio_util::task::AbortOnDropHandle;

use super::narrow::Proof;
use super::rows::unknown_column;
use super::unit;
use crate::Error;
use crate::error::codes;
use crate::graph::TestType;
use crate::plan::{is_stored, table_of};
use crate::project::{GenericTest, NodeId, Severity, TestConfig, UnitTest};
use crate::render::{ColumnFacts, Relation, Relations, RenderContext, SharedRelations, TableRows};
use crate::run::{BuildFault, Outcome, Result, Sessions, TestFacts};

/// A test's answer.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub outcome: Outcome,
    /// Rows found; `None` when it was not run.
    pub failures: Option<u64>,
    /// What the ledger keeps when it passed.
    pub proof: Proof,
    /// What is to be told beside the number: how rows differ.
    pub message: Option<String>,
    /// What helps to look into it.
    pub facts: TestFacts,
}

/// How a test is to be run, beyond what it says itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// What stood when it passed last; nothing when it must look at everything.
    pub seen: Option<Proof>,
    /// Keep the rows that fail, whatever the test's configuration says.
    pub store_failures: bool,
    /// The folder for the SQL of tests that do not pass.
    pub compiled_dir: Option<PathBuf>,
    /// Goes into commits.
    pub run_id: String,
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
        let frame = crate::sql::plan(context, sql).await.map_err(BuildFault::plan(&node, self.location.clone()))?;
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
    /// Runs one test. What has passed before under the very same circumstances is not run again, and of a table that has only
    /// grown since, only what is new is looked at.
    pub(crate) async fn run(&self, name: &str, manner: &Manner) -> Result<Verdict> {
        if let Some(test) = self.sessions.project.unit_tests.iter().find(|test| test.name == name) {
            return Box::pin(self.run_unit(test, manner)).await;
        }
        let test = self.compile(name)?;
        let generic = self.sessions.project.generic_tests.iter().find(|test| test.name == name);
        let mut proof = self.proof(&test, generic).await?;
        let mut facts = TestFacts::new(self.test_type(name));
        if manner.seen.is_some_and(|seen| seen.whole == proof.whole) {
            return Ok(Verdict { outcome: Outcome::UpToDate, failures: None, proof, message: None, facts });
        }
        if let (Some(generic), Some(Proof { rest, clean_at: Some(clean_at), .. })) = (generic, manner.seen)
            && rest == proof.rest
            && let Some(narrow) = self.narrow(generic, &test, clean_at).await?
        {
            let found = narrow.test.judge(&narrow.context).await?;
            // Whoever finds something wants to know how much there is of it.
            if found.failures == 0 && found.outcome == Outcome::Pass {
                facts.looked_at = Some("new rows");
                return Ok(Verdict { outcome: Outcome::Pass, failures: Some(0), proof, message: None, facts });
            }
        }
        let context = self.sessions.over(test.inputs.clone(), &self.render, None).await?;
        if let Some(fault) = self.column_fault(generic, &context).await {
            return Err(Error::from_faults(vec![fault]).into());
        }
        let Finding { outcome, failures } = test.judge(&context).await?;
        if failures > 0 {
            proof.clean_at = None;
        }
        if test.config.store_failures || manner.store_failures {
            let rows = if failures > 0 { test.collect(&context, &test.rows_sql()).await? } else { Vec::new() };
            facts.stored_in = self.store_failures(&test, rows, &manner.run_id).await?.filter(|_| failures > 0);
        }
        if outcome != Outcome::Pass {
            facts.compiled_path = self.write_compiled(name, &test.rows_sql(), manner).await?;
            let is_error = outcome == Outcome::Fail;
            facts.condition = Some(if is_error { test.config.error_if.clone() } else { test.config.warn_if.clone() });
        }
        Ok(Verdict { outcome, failures: Some(failures), proof, message: None, facts })
    }

    /// A unit test's answer follows from its entry and the model's SQL alone.
    async fn run_unit(&self, test: &UnitTest, manner: &Manner) -> Result<Verdict> {
        let compiled = unit::compile(&self.sessions, test)?;
        let whole = digest(&[&compiled.sql, &format!("{test:?}"), env!("CARGO_PKG_VERSION")]);
        let proof = Proof { whole, rest: whole, clean_at: None };
        let mut facts = TestFacts::new(TestType::Unit);
        if manner.seen.is_some_and(|seen| seen.whole == whole) {
            return Ok(Verdict { outcome: Outcome::UpToDate, failures: None, proof, message: None, facts });
        }
        Ok(match unit::run(&self.sessions, test).await? {
            None => Verdict { outcome: Outcome::Pass, failures: Some(0), proof, message: None, facts },
            Some(difference) => {
                facts.compiled_path = self.write_compiled(&test.name, &compiled.sql, manner).await?;
                let failures = Some(difference.num_rows);
                Verdict { outcome: Outcome::Fail, failures, proof, message: Some(difference.text), facts }
            }
        })
    }

    fn test_type(&self, name: &str) -> TestType {
        let node = NodeId::Test(name.to_owned());
        self.sessions.graph.test_type(&node).unwrap_or(TestType::Generic)
    }

    /// Keeps the SQL where people look for it: `target/compiled/<project>/<file that declares it>/<test>.sql`.
    async fn write_compiled(&self, name: &str, sql: &str, manner: &Manner) -> Result<Option<String>> {
        let Some(dir) = &manner.compiled_dir else { return Ok(None) };
        let node = NodeId::Test(name.to_owned());
        let declared = self.sessions.graph.get(&node).map(|node| node.path.clone()).unwrap_or_default();
        let mut path = dir.join(&self.sessions.project.name).join(declared);
        // A singular test is a file of its own.
        if self.test_type(name) == TestType::Singular {
            path.set_extension("sql");
        } else {
            path.push(format!("{name}.sql"));
        }
        let text = format!("{sql}\n");
        let file = path.clone();
        let written = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(file.parent().unwrap_or(&file))?;
            std::fs::write(&file, text)
        })
        .await
        .map_err(|source| BuildFault::TaskLost { node, source })?;
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "compiled SQL cannot be written");
            return Ok(None);
        }
        Ok(Some(path.display().to_string()))
    }

    /// The fault of a test on a column that its node does not have.
    async fn column_fault(&self, test: Option<&GenericTest>, context: &SessionContext) -> Option<Fault> {
        let test = test?;
        let column = test.column.as_deref()?;
        let is_name = column.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        let relation = self.sessions.compiler.relation(&test.attached_to).filter(|_| is_name)?;
        let name = TableReference::partial(relation.schema, relation.identifier);
        let schema = context.table_provider(name).await.ok()?.schema();
        if schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(column)) {
            return None;
        }
        let mut fault = unknown_column(column, &schema, &test.attached_to.name(), &test.location);
        fault.message = format!(
            "test is on a column that is not there, {}",
            fault.message.trim_start_matches("no column of that name, ")
        );
        Some(fault.code(codes::TEST_COLUMN))
    }

    /// The SQL of a test: of rows that should not exist, or of a unit test's model; `None` for tests that have no one query.
    pub(crate) fn compiled_sql(&self, name: &str) -> Result<Option<String>> {
        if let Some(test) = self.sessions.project.unit_tests.iter().find(|test| test.name == name) {
            return Ok(Some(unit::compile(&self.sessions, test)?.sql));
        }
        if self.sessions.graph.test_type(&NodeId::Test(name.to_owned())) == Some(TestType::Scenario) {
            return Ok(None);
        }
        Ok(Some(self.compile(name)?.sql))
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
        let relations = self.against(node, relation);
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

    /// One test with another relation in the place of a node.
    pub(super) fn compile_over(&self, name: &str, node: &NodeId, relation: &Relation) -> Result<CompiledTest> {
        self.compile_with(name, &self.against(node, relation))
    }

    fn against(&self, node: &NodeId, relation: &Relation) -> SharedRelations {
        let inner = self.sessions.compiler.relations();
        Arc::new(Against { inner, node: node.clone(), relation: relation.clone() })
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
    pub(crate) async fn proof(&self, test: &CompiledTest, generic: Option<&GenericTest>) -> Result<Proof> {
        let tested = generic.map(|test| &test.attached_to).filter(|node| is_stored(&self.sessions.project, node));
        let mut texts = vec![test.sql.clone(), format!("{:?}", test.config)];
        let mut own = String::new();
        let mut clean_at = None;
        let mut waiting: Vec<(NodeId, bool)> = test.inputs.iter().map(|input| (input.clone(), true)).collect();
        while let Some((input, is_direct)) = waiting.pop() {
            if !is_stored(&self.sessions.project, &input) {
                if let Some(view) = self.sessions.project.models.get(&input.name()) {
                    texts.push(self.sessions.compiler.sql(view, &self.render)?);
                }
                waiting.extend(self.sessions.graph.parents(&input).map(|parent| (parent.clone(), false)));
                continue;
            }
            let Some(id) = table_of(&self.sessions.project, &input) else { continue };
            let Some(table) = self.sessions.snapshots.get(&id).await? else { continue };
            let version = format!("{id}={}@{}", table.table_id(), table.version());
            if is_direct && tested == Some(&input) {
                texts.push(format!("{id}={}", table.table_id()));
                clean_at = i64::try_from(table.version().0).ok();
                own = version;
            } else {
                texts.push(version);
            }
        }
        let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let rest = digest(&texts);
        texts.push(&own);
        Ok(Proof { whole: digest(&texts), rest, clean_at })
    }
}

/// One number for texts. A `txn` version, as which it is kept, is not negative.
pub(super) fn digest(texts: &[&str]) -> i64 {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    let digest = hasher.finalize();
    let bytes: [u8; 8] = digest[..8].try_into().expect("a SHA-256 has 32 bytes");
    i64::from_be_bytes(bytes) & i64::MAX
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

    fn find(&self, schema: &str, identifier: &str) -> Option<NodeId> {
        self.inner.find(schema, identifier)
    }

    fn exists(&self, node: &NodeId) -> bool {
        self.inner.exists(node)
    }

    fn columns(&self, node: &NodeId) -> Result<Vec<ColumnFacts>, String> {
        self.inner.columns(node)
    }

    fn graph(&self) -> Option<Arc<Json>> {
        self.inner.graph()
    }

    fn query(&self, sql: &str) -> Result<TableRows, String> {
        self.inner.query(sql)
    }
}
