//! Rows that land in a source as they are, and rows that change where they lie: what ingest and other writers of a raw table
//! leave behind, without the road to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use serde_json::Value as Json;
use tidemill_lake::metadata::{Act, CommitNote, IngestNote};
use tidemill_lake::{CommitOutcome, CommitRequest, PartitionedBatch, Table, TableId, TableSpec};
use tidemill_project::SourceName;
use tidemill_project::clock::Micros;

use crate::Error;
use crate::project::{FixtureRow, NodeId, Rewrite};
use crate::render::quote;
use crate::run::rows::{into_stored, stored_schema};
use crate::run::session::provider_of;
use crate::run::{BuildFault, Result, Runner};
use crate::test::rows::{Shape, build};
use crate::test::shapes::Shapes;

const PARTITIONS: [&str; 2] = ["event_date", "event_hour"];

/// Lands rows in one commit. `all` are the rows of the whole story, which settle the columns of a source that declares none.
///
/// Of a source with contract `event_at` comes from its column of event time, `_timestamp` and `_ingested_at` from `event_at`,
/// `_key` is made up, unless rows say otherwise.
pub(super) async fn land(
    runner: &Runner,
    source: &SourceName,
    rows: &[FixtureRow],
    all: &[FixtureRow],
    watermark_us: Option<Micros>,
) -> Result<()> {
    let node = NodeId::Source(source.clone());
    let executor = runner.executor(&crate::plan::PlanOptions::default(), "scenario").await?;
    let shape = Shapes::new(&executor.sessions).of(&node).await?;
    let fault = |faults| BuildFault::from(Error::from_faults(faults));
    let columns = build(all, &shape, &source.to_string()).map_err(fault)?.schema();
    let shape = Shape { schema: columns, is_whole: true };
    let id = TableId::Raw(source.clone());
    let existing = runner.lake.open(&id).await.map_err(BuildFault::lake(&id))?;
    let num_before = existing.as_ref().map_or(0, |table| table.version().0);
    let (rows, has_contract) = match runner.project.sources.get(source) {
        Some(declared) if declared.has_contract => {
            let event_time = declared
                .meta
                .get("tidemill")
                .and_then(|meta| meta.get("event_time"))
                .and_then(|named| named.as_str().or_else(|| named.get("column")?.as_str()))
                .unwrap_or("event_at");
            (completed(rows, event_time, num_before, &shape.schema), true)
        }
        _ => (rows.to_vec(), false),
    };
    let batch = build(&rows, &shape, &source.to_string()).map_err(fault)?;
    let stored = stored_schema(&batch.schema()).map_err(|(column, data_type)| BuildFault::ColumnType {
        model: source.to_string(),
        column,
        data_type,
        location: None,
    })?;
    let mut batch = into_stored(&[batch], &stored).map_err(BuildFault::shape(&node))?;
    if has_contract {
        batch = dated(runner, &node, batch).await?;
    }
    let mut table = open(runner, &id, &batch.schema(), existing).await?;
    let add = table.write_files(parts(&node, &batch)?).await.map_err(BuildFault::lake(&id))?;
    commit(runner, &mut table, source, add, Vec::new(), watermark_us).await
}

/// Changes rows where they lie, or takes them away: every file of the table is replaced in one commit.
pub(super) async fn rewrite(runner: &Runner, rewrite: &Rewrite) -> Result<()> {
    let node = NodeId::Source(rewrite.source.clone());
    let id = TableId::Raw(rewrite.source.clone());
    let at = || Some(rewrite.location.clone());
    let executor = runner.executor(&crate::plan::PlanOptions::default(), "scenario").await?;
    let Some(mut table) = runner.lake.open(&id).await.map_err(BuildFault::lake(&id))? else {
        return Err(BuildFault::SourceMissing { source_name: rewrite.source.to_string(), location: at() });
    };
    let context = executor.sessions.empty();
    let provider = provider_of(&context, &table, None)?;
    context.register_table("rows_as_they_are", provider).map_err(BuildFault::plan(&node, at()))?;
    let sql = if rewrite.set.is_empty() {
        format!("select * from rows_as_they_are where not coalesce(({}), false)", rewrite.condition)
    } else {
        let schema = table.schema();
        let columns = schema.fields().iter().map(|field| {
            let name = quote(field.name());
            match rewrite.set.iter().find(|(column, _)| column == field.name()) {
                Some((_, value)) => {
                    format!("case when ({}) then {} else {name} end as {name}", rewrite.condition, literal(value))
                }
                None => name,
            }
        });
        format!("select {} from rows_as_they_are", columns.collect::<Vec<_>>().join(", "))
    };
    let frame = context.sql(&sql).await.map_err(BuildFault::plan(&node, at()))?;
    let rows = frame.collect().await.map_err(BuildFault::execute(&node, at()))?;
    let batch = into_stored(&rows, &table.schema()).map_err(BuildFault::shape(&node))?;
    let remove = table.files();
    let add = table.write_files(parts(&node, &batch)?).await.map_err(BuildFault::lake(&id))?;
    commit(runner, &mut table, &rewrite.source, add, remove, None).await
}

fn literal(value: &Json) -> String {
    match value {
        Json::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

/// Rows with what ingest would add.
fn completed(rows: &[FixtureRow], event_time: &str, num_before: u64, schema: &Schema) -> Vec<FixtureRow> {
    let has = |column: &str| schema.field_with_name(column).is_ok();
    rows.iter()
        .enumerate()
        .map(|(index, row)| {
            let mut row = row.clone();
            let said = |row: &FixtureRow, column: &str| {
                row.cells.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone())
            };
            let at = said(&row, "event_at").or_else(|| said(&row, event_time)).unwrap_or_default();
            for column in ["event_at", "_timestamp", "_ingested_at"] {
                if has(column) && said(&row, column).is_none() {
                    row.cells.push((column.to_owned(), at.clone()));
                }
            }
            if has("_key") && said(&row, "_key").is_none() {
                row.cells.push(("_key".to_owned(), Json::String(format!("row-{num_before}-{index}"))));
            }
            row
        })
        .collect()
}

/// Rows with `event_date` and `event_hour` of their `event_at`.
async fn dated(runner: &Runner, node: &NodeId, batch: RecordBatch) -> Result<RecordBatch> {
    let context = runner.engine.session();
    let schema = batch.schema();
    let table = MemTable::try_new(Arc::clone(&schema), vec![vec![batch]]).map_err(BuildFault::plan(node, None))?;
    context.register_table("rows_to_land", Arc::new(table)).map_err(BuildFault::plan(node, None))?;
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "event_date" => "cast(event_at as date) as event_date".to_owned(),
        "event_hour" => "cast(date_part('hour', event_at) as int) as event_hour".to_owned(),
        name => quote(name),
    });
    let sql = format!("select {} from rows_to_land", columns.collect::<Vec<_>>().join(", "));
    let frame = context.sql(&sql).await.map_err(BuildFault::plan(node, None))?;
    let rows = frame.collect().await.map_err(BuildFault::execute(node, None))?;
    into_stored(&rows, &schema).map_err(BuildFault::shape(node))
}

async fn open(runner: &Runner, id: &TableId, schema: &SchemaRef, existing: Option<Table>) -> Result<Table> {
    if let Some(table) = existing {
        return Ok(table);
    }
    let partitions = PARTITIONS.iter().filter(|column| schema.field_with_name(column).is_ok());
    let spec = TableSpec {
        id: id.clone(),
        schema: Arc::clone(schema),
        partition_columns: partitions.map(|column| (*column).to_owned()).collect(),
        bloom_columns: Vec::new(),
        description: String::new(),
    };
    runner.lake.open_or_create(&spec, "scenario").await.map_err(BuildFault::lake(id))
}

/// Rows by the partitions that they belong to, without the partition columns.
fn parts(node: &NodeId, batch: &RecordBatch) -> Result<Vec<PartitionedBatch>> {
    let shape = BuildFault::shape;
    let schema = batch.schema();
    let (partitions, data): (Vec<usize>, Vec<usize>) =
        (0..schema.fields().len()).partition(|index| PARTITIONS.contains(&schema.field(*index).name().as_str()));
    let mut groups: BTreeMap<Vec<Option<String>>, Vec<u32>> = BTreeMap::new();
    let texts = partitions
        .iter()
        .map(|index| cast_with_options(batch.column(*index), &DataType::Utf8, &CastOptions::default()))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(shape(node))?;
    for row in 0..batch.num_rows() {
        let values = texts.iter().map(|column| {
            let column = arrow::array::AsArray::as_string::<i32>(column.as_ref());
            arrow::array::Array::is_valid(column, row).then(|| column.value(row).to_owned())
        });
        groups.entry(values.collect()).or_default().push(u32::try_from(row).unwrap_or(u32::MAX));
    }
    let rows = batch.project(&data).map_err(shape(node))?;
    groups
        .into_iter()
        .map(|(values, indices)| {
            let names = partitions.iter().map(|index| schema.field(*index).name().clone());
            let rows = take_record_batch(&rows, &UInt32Array::from(indices)).map_err(shape(node))?;
            Ok(PartitionedBatch {
                partition_values: names.zip(values).collect(),
                batches: vec![rows],
                tags: BTreeMap::new(),
            })
        })
        .collect()
}

async fn commit(
    runner: &Runner,
    table: &mut Table,
    source: &SourceName,
    add: Vec<tidemill_lake::DataFile>,
    remove: Vec<tidemill_lake::DataFile>,
    watermark_us: Option<Micros>,
) -> Result<()> {
    let id = TableId::Raw(source.clone());
    let note = IngestNote { source: source.to_string(), watermark_us, ..IngestNote::default() };
    let request = CommitRequest {
        data_change: !add.is_empty() || !remove.is_empty(),
        add,
        remove,
        txns: BTreeMap::new(),
        operation: "WRITE",
        note: CommitNote {
            commit_id: runner.lake.clock().new_id(),
            run_id: "scenario".to_owned(),
            act: Act::Ingest(note),
        },
    };
    match table.commit(request).await.map_err(BuildFault::lake(&id))? {
        // Nobody else writes to a story's lake.
        CommitOutcome::Committed(_) | CommitOutcome::Lost(_) => Ok(()),
    }
}
