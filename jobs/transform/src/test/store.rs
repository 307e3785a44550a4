//! Keeps rows that failed a test, so that people can look at them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use tidemill_lake::TableId;
use tidemill_lake::metadata::TransformNote;

use super::data::{CompiledTest, Tester};
use crate::project::NodeId;
use crate::run::rows::{canonical, into_stored, stored_schema};
use crate::run::writer::{Target, Writer};
use crate::run::{BuildFault, Result};

/// Schemas of stored failures end so, as dbt's do.
const SUFFIX: &str = "dbt_test__audit";

impl Tester {
    /// Replaces what is kept of a test by the rows that fail it now. Returns the table as SQL names it; `None` when there were
    /// never any.
    pub(crate) async fn store_failures(
        &self,
        test: &CompiledTest,
        rows: Vec<RecordBatch>,
        run_id: &str,
    ) -> Result<Option<String>> {
        let schema = format!("{}_{SUFFIX}", self.sessions.project.target.schema);
        let id = TableId::model(schema.clone(), test.name.clone());
        let node = NodeId::Test(test.name.clone());
        let lake = self.sessions.snapshots.lake();
        let own = lake.open(&id).await.map_err(BuildFault::lake(&id))?;
        let columns = match (rows.first(), &own) {
            (Some(first), _) => stored_schema(&first.schema()).map_err(|(column, data_type)| {
                BuildFault::ColumnType { model: test.name.clone(), column, data_type, location: test.location.clone() }
            })?,
            (None, Some(table)) => table.schema(),
            (None, None) => return Ok(None),
        };
        let columns = Arc::new(Schema::new(columns.fields().clone()));
        let target = Target {
            id,
            node: node.clone(),
            description: "Rows that failed a test, as of its last run.",
            columns: &columns,
            key: &[],
            keyed: false,
            batched: false,
            run_id,
        };
        let stored = into_stored(&rows, &columns).and_then(|rows| canonical(&rows, &[]));
        let mut writer = Writer::begin(lake, target, own).await?;
        writer.replace(None, stored.map_err(BuildFault::shape(&node))?).await?;
        let note = TransformNote { model: test.name.clone(), ..TransformNote::default() };
        // Who lost the race was overtaken by a run of the same test.
        writer.commit(note, false).await?;
        Ok(Some(format!("{schema}.{}", crate::render::quote(&test.name))))
    }
}
