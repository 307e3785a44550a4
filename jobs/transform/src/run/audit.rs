//! Tests before rows are visible: `audit: before`.
//!
//! The new rows are written to files that belong to nobody yet, and the model's data tests run on the table as the commit would
//! make it. When one of severity `error` finds rows, nothing is committed: readers keep the old version, the rows found are
//! kept in `ops/audit_failures`, and what stands on the model is skipped.
//!
//! A test takes part when it reads the model and nothing that is computed from it. One that has found nothing wrong with the
//! rows before looks at the new ones only, as it does after a commit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value as Json};
use tidemill_lake::metadata::{Act, CommitNote};
use tidemill_lake::{CommitOutcome, CommitRequest, PartitionedBatch, TableId, TableSpec};

use super::execute::Executor;
use super::writer::Writer;
use super::{BuildFault, Outcome, Result, Runner};
use crate::project::{Model, NodeId};
use crate::test::{CompiledTest, Finding, Proof, Tester};

/// Rows of one test that are kept; a test that refuses millions is understood from a few.
const MAX_KEPT_ROWS: usize = 1_000;
/// Others may add failures at the same time.
const MAX_RACES: usize = 20;

/// Tests that refused new rows.
#[derive(Clone, Debug)]
pub(crate) struct AuditFailure {
    /// Test -> rows found.
    pub tests: Vec<(String, u64)>,
    /// Rows found by all of them.
    pub failures: u64,
}

impl fmt::Display for AuditFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tests: Vec<String> = self.tests.iter().map(|(test, found)| format!("{test} found {found}")).collect();
        write!(f, "audit refused the new rows, the old version stays: {}; see ops.audit_failures", tests.join(", "))
    }
}

impl Executor {
    /// Runs the model's tests on what the writer is about to commit; `None` when all is well.
    pub(crate) async fn audit(&self, model: &Model, writer: &Writer) -> Result<Option<AuditFailure>> {
        let node = NodeId::Model(model.name.clone());
        let tester = Tester { sessions: self.sessions.clone(), render: Runner::looking(self) };
        let Some(relation) = self.sessions.compiler.relation(&node) else { return Ok(None) };
        let tests = tester.compile_against(&node, &relation)?;
        if tests.is_empty() {
            return Ok(None);
        }
        if !writer.changes_rows() {
            return Ok(None);
        }
        let mut preview = None;
        let mut failure = AuditFailure { tests: Vec::new(), failures: 0 };
        let mut kept = Vec::new();
        for test in tests {
            if self.passes_on_new_rows(&tester, &test, writer).await? {
                continue;
            }
            if preview.is_none() {
                preview = writer.preview(&self.sessions.empty())?;
            }
            let context = self.sessions.over(test.inputs.clone(), &tester.render, Some(preview.as_slice())).await?;
            let Finding { outcome, failures } = test.judge(&context).await?;
            if outcome == Outcome::Fail {
                let rows = test.failing_rows(&context, MAX_KEPT_ROWS).await?;
                failure.failures += failures;
                kept.extend(rows.iter().flat_map(texts).map(|row| (test.name.clone(), row)));
                failure.tests.push((test.name, failures));
            }
        }
        if failure.tests.is_empty() {
            return Ok(None);
        }
        self.keep_failures(model, &kept).await?;
        Ok(Some(failure))
    }

    /// Whether a test that found nothing in the rows before finds nothing in those to come. `false` says nothing.
    async fn passes_on_new_rows(&self, tester: &Tester, test: &CompiledTest, writer: &Writer) -> Result<bool> {
        let generic = self.sessions.project.generic_tests.iter().find(|generic| generic.name == test.name);
        let (Some(generic), Some(subject)) = (generic, writer.subject()) else { return Ok(false) };
        let Some(Proof { rest, clean_at: Some(clean_at), .. }) = self.passed.get(&test.name).copied() else {
            return Ok(false);
        };
        if tester.proof(test, Some(generic)).await?.rest != rest {
            return Ok(false);
        }
        let Some(narrow) = tester.narrow_on(subject, generic, test, clean_at).await? else { return Ok(false) };
        let Finding { outcome, failures } = narrow.test.judge(&narrow.context).await?;
        Ok(failures == 0 && outcome == Outcome::Pass)
    }

    async fn keep_failures(&self, model: &Model, rows: &[(String, String)]) -> Result<()> {
        let lake = self.planner.snapshots.lake();
        let id = TableId::Ops("audit_failures".to_owned());
        let fault = || BuildFault::lake(&id);
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = ["run_id", "model", "test"].map(|name| Field::new(name, DataType::Utf8, true));
        let mut fields = fields.to_vec();
        fields.push(Field::new("failed_at", instant, true));
        fields.push(Field::new("row", DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields));
        let spec = TableSpec {
            id: id.clone(),
            schema: Arc::clone(&schema),
            partition_columns: Vec::new(),
            bloom_columns: Vec::new(),
            description: "Rows that data tests refused before they became visible, as JSON.".to_owned(),
        };
        let mut table = lake.open_or_create(&spec, &self.run_id).await.map_err(fault())?;
        let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows.len()])) };
        let at = TimestampMicrosecondArray::from(vec![lake.clock().now_us(); rows.len()]).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            same(&self.run_id),
            same(&model.name),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(test, _)| test))),
            Arc::new(at),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, row)| row))),
        ];
        let node = NodeId::Model(model.name.clone());
        let batch = RecordBatch::try_new(schema, columns).map_err(BuildFault::shape(&node))?;
        let part = PartitionedBatch { partition_values: BTreeMap::new(), batches: vec![batch], tags: BTreeMap::new() };
        let add = table.write_files(vec![part]).await.map_err(fault())?;
        for _ in 0..MAX_RACES {
            let request = CommitRequest {
                add: add.clone(),
                remove: Vec::new(),
                txns: BTreeMap::new(),
                operation: "WRITE",
                data_change: true,
                note: CommitNote { commit_id: lake.clock().new_id(), run_id: self.run_id.clone(), act: Act::Maintain },
            };
            if let CommitOutcome::Committed(_) = table.commit(request).await.map_err(fault())? {
                return Ok(());
            }
        }
        Err(BuildFault::Contended { model: model.name.clone(), attempts: MAX_RACES })
    }
}

/// Rows as JSON objects.
fn texts(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default();
    let schema = rows.schema();
    (0..rows.num_rows())
        .map(|row| {
            let values = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
                let text = ArrayFormatter::try_new(column, &options).map(|format| format.value(row).to_string());
                let value = match text {
                    Ok(_) if column.is_null(row) => Json::Null,
                    Ok(text) if field.data_type().is_numeric() || *field.data_type() == DataType::Boolean => {
                        serde_json::from_str(&text).unwrap_or(Json::String(text))
                    }
                    Ok(text) => Json::String(text),
                    Err(_) => Json::Null,
                };
                (field.name().clone(), value)
            });
            Json::Object(values.collect::<Map<_, _>>()).to_string()
        })
        .collect()
}
