//! The lake's own memory of what is published where: advisory, so that "nothing new" needs no login.
//!
//! The table `ops/publications` has one row per publication for people to query; what the next plan reads are its `txn` actions,
//! which the log keeps one of per name: `publish/<place>/<target>/<table id>/{seq,version,watermark}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use tidemill_lake::maintain;
use tidemill_lake::metadata::{Act, CommitNote};
use tidemill_lake::{CommitOutcome, CommitRequest, Lake, PartitionedBatch, Table, TableId, TableSpec};
use tidemill_project::TableVersion;

use crate::sink::{Applied, Position};
use crate::{Publication, Result};

/// Races with other notes before giving up; the note is advisory.
const MAX_RACES: usize = 5;

fn table_id() -> TableId {
    TableId::Ops("publications".to_owned())
}

fn prefix(place: &str, publication: &Publication) -> String {
    format!("publish/{place}/{}/", publication.target)
}

/// What was written down for `publication`; `None` when nothing was.
pub(crate) async fn read(lake: &Lake, place: &str, publication: &Publication) -> Result<Option<Position>> {
    let table =
        lake.open(&table_id()).await.map_err(crate::Error::lake("read the notes on publications", publication))?;
    Ok(table.and_then(|table| position(&table, &prefix(place, publication))))
}

fn position(table: &Table, prefix: &str) -> Option<Position> {
    let known = table.txns().iter().filter_map(|(name, &value)| {
        let id = name.strip_prefix(prefix)?.strip_suffix("/seq")?;
        Some((u64::try_from(value).ok()?, id))
    });
    let (seq, id) = known.max()?;
    let number = |what: &str| table.txn_version(&format!("{prefix}{id}/{what}"));
    Some(Position {
        table_id: id.to_owned(),
        version: TableVersion(u64::try_from(number("version")?).ok()?),
        seq,
        watermark_us: number("watermark"),
        sent_version: number("sent").and_then(|version| u64::try_from(version).ok()).map(TableVersion),
    })
}

/// One thing to write down.
pub(crate) struct Entry<'a> {
    pub(crate) publication: &'a Publication,
    pub(crate) from: Option<TableVersion>,
    pub(crate) applied: &'a Applied,
}

/// Writes down where targets stand. A fault is only logged: without the note the next publication asks the warehouse.
pub(crate) async fn write(lake: &Lake, place: &str, run_id: &str, entries: &[Entry<'_>]) {
    if let Err(error) = try_write(lake, place, run_id, entries).await {
        tracing::warn!(%error, "the note on a publication could not be written, the next one will ask the warehouse");
    }
}

async fn try_write(lake: &Lake, place: &str, run_id: &str, entries: &[Entry<'_>]) -> tidemill_lake::Result<()> {
    let spec = TableSpec {
        id: table_id(),
        schema: Arc::new(schema()),
        partition_columns: Vec::new(),
        bloom_columns: Vec::new(),
        description: "publications into warehouses, newest known state in the log's txn actions".to_owned(),
    };
    let mut table = lake.open_or_create(&spec, run_id).await?;
    let rows = rows(lake, run_id, entries);
    let batch = PartitionedBatch { partition_values: BTreeMap::new(), batches: vec![rows], tags: BTreeMap::new() };
    let add = table.write_files(vec![batch]).await?;
    let mut txns = BTreeMap::new();
    for entry in entries {
        let (position, prefix) = (&entry.applied.position, prefix(place, entry.publication));
        let mut note = |what: &str, value: i64| txns.insert(format!("{prefix}{}/{what}", position.table_id), value);
        note("seq", i64::try_from(position.seq).unwrap_or(i64::MAX));
        note("version", i64::try_from(position.version.0).unwrap_or(i64::MAX));
        if let Some(watermark) = position.watermark_us {
            note("watermark", watermark);
        }
        if let Some(sent) = position.sent_version {
            note("sent", i64::try_from(sent.0).unwrap_or(i64::MAX));
        }
    }
    for _ in 0..MAX_RACES {
        let request = CommitRequest {
            add: add.clone(),
            remove: Vec::new(),
            txns: txns.clone(),
            operation: "WRITE",
            data_change: true,
            note: CommitNote { commit_id: lake.clock().new_id(), run_id: run_id.to_owned(), act: Act::Create },
        };
        if let CommitOutcome::Committed(_) = table.commit(request).await? {
            maintain::after_commit(&table, run_id).await;
            break;
        }
    }
    Ok(())
}

fn schema() -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Schema::new(vec![
        text("target"),
        text("model"),
        text("run_id"),
        text("table_id"),
        number("from_version"),
        number("to_version"),
        number("seq"),
        number("rows_inserted"),
        number("rows_updated"),
        number("rows_deleted"),
        Field::new("published_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ])
}

fn rows(lake: &Lake, run_id: &str, entries: &[Entry<'_>]) -> RecordBatch {
    let text = |value: &dyn Fn(&Entry<'_>) -> String| -> ArrayRef {
        Arc::new(entries.iter().map(|entry| Some(value(entry))).collect::<StringArray>())
    };
    let number = |value: &dyn Fn(&Entry<'_>) -> Option<u64>| -> ArrayRef {
        Arc::new(
            entries
                .iter()
                .map(|entry| value(entry).and_then(|value| i64::try_from(value).ok()))
                .collect::<Int64Array>(),
        )
    };
    let now = vec![lake.clock().now_us(); entries.len()];
    let columns: Vec<ArrayRef> = vec![
        text(&|entry| entry.publication.target.to_string()),
        text(&|entry| entry.publication.model_name.clone()),
        text(&|_| run_id.to_owned()),
        text(&|entry| entry.applied.position.table_id.clone()),
        number(&|entry| entry.from.map(|version| version.0)),
        number(&|entry| Some(entry.applied.position.version.0)),
        number(&|entry| Some(entry.applied.position.seq)),
        number(&|entry| Some(entry.applied.counts.inserted)),
        number(&|entry| Some(entry.applied.counts.updated)),
        number(&|entry| Some(entry.applied.counts.deleted)),
        Arc::new(TimestampMicrosecondArray::from(now).with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).expect("the columns are the schema's")
}
