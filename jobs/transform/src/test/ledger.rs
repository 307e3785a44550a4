//! Which tests have passed on what.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use tidemill_lake::maintain;
use tidemill_lake::metadata::{Act, CommitNote};
use tidemill_lake::{CommitOutcome, CommitRequest, Lake, Table, TableId, TableSpec};

use super::narrow::Proof;
use crate::run::{BuildFault, Result};

/// What [`Proof`] keeps under which name.
const WHOLE: &str = "test";
const REST: &str = "test-rest";
const CLEAN_AT: &str = "test-clean-at";
/// In the place of a version: some rows failed, and that was allowed.
const NEVER: i64 = -1;

/// The table `ops/tests`: it holds no rows, only `txn` actions of each test, the proof of its last pass.
#[derive(Debug)]
pub(crate) struct Ledger {
    lake: Lake,
    table: Option<Table>,
    passed: BTreeMap<String, i64>,
    run_id: String,
}

impl Ledger {
    /// Opens the ledger; one that does not exist yet is empty.
    pub(crate) async fn open(lake: &Lake, run_id: &str) -> Result<Self> {
        let id = id();
        let table = lake.open(&id).await.map_err(BuildFault::lake(&id))?;
        Ok(Self { lake: lake.clone(), table, passed: BTreeMap::new(), run_id: run_id.to_owned() })
    }

    /// The proof of a test's last pass.
    pub(crate) fn proof(&self, test: &str) -> Option<Proof> {
        let table = self.table.as_ref()?;
        let kept = |part: &str| table.txn_version(&app_id(part, test));
        Some(Proof {
            whole: kept(WHOLE)?,
            rest: kept(REST).unwrap_or_default(),
            clean_at: kept(CLEAN_AT).filter(|version| *version != NEVER),
        })
    }

    /// The proofs of all tests that passed, by name.
    pub(crate) fn proofs(&self) -> BTreeMap<String, Proof> {
        let prefix = app_id(WHOLE, "");
        let names = self.table.iter().flat_map(|table| table.txns().keys()).filter_map(|key| key.strip_prefix(&prefix));
        names.filter_map(|name| Some((name.to_owned(), self.proof(name)?))).collect()
    }

    /// Notes a pass; [`Self::commit`] makes it last.
    pub(crate) fn pass(&mut self, test: &str, proof: Proof) {
        if self.proof(test) == Some(proof) {
            return;
        }
        self.passed.insert(app_id(WHOLE, test), proof.whole);
        if proof.clean_at.is_some() || self.proof(test).is_some_and(|known| known.clean_at.is_some()) {
            self.passed.insert(app_id(REST, test), proof.rest);
            self.passed.insert(app_id(CLEAN_AT, test), proof.clean_at.unwrap_or(NEVER));
        }
    }

    /// Commits all passes at once; nothing when there are none.
    ///
    /// A lost race is given up: whoever won has noted passes of its own, and a test whose pass is not noted runs once more.
    pub(crate) async fn commit(mut self) -> Result<()> {
        if self.passed.is_empty() {
            return Ok(());
        }
        let (id, run_id) = (id(), self.run_id);
        let mut table = if let Some(table) = self.table.take() {
            table
        } else {
            let spec = TableSpec {
                id: id.clone(),
                schema: Arc::new(Schema::new(vec![Field::new("test", DataType::Utf8, true)])),
                partition_columns: Vec::new(),
                bloom_columns: Vec::new(),
                description: "Data tests that passed, as txn actions: what each of them has seen.".to_owned(),
            };
            self.lake.open_or_create(&spec, &run_id).await.map_err(BuildFault::lake(&id))?
        };
        let request = CommitRequest {
            add: Vec::new(),
            remove: Vec::new(),
            txns: self.passed,
            operation: "WRITE",
            data_change: false,
            note: CommitNote { commit_id: self.lake.clock().new_id(), run_id: run_id.clone(), act: Act::Maintain },
        };
        match table.commit(request).await.map_err(BuildFault::lake(&id))? {
            CommitOutcome::Committed(_) => maintain::after_commit(&table, &run_id).await,
            CommitOutcome::Lost(_) => {}
        }
        Ok(())
    }
}

fn id() -> TableId {
    TableId::Ops("tests".to_owned())
}

fn app_id(part: &str, test: &str) -> String {
    format!("{part}/{test}")
}
