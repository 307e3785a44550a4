//! The lake's own tables that a person may ask for before anything is in them.
//!
//! A room that writes one takes its shape from here, and so does whoever lets people query it: `ops.quarantine` is an empty
//! table with its columns, not an error, as long as no record was bad.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use crate::{TableId, TableSpec};

/// All of them.
#[must_use]
pub fn all() -> [TableSpec; 2] {
    [quarantine(), quarantine_replays()]
}

/// Records that no contract could take. Grain: one row per record of one source. Partitioned by `quarantined_date` (UTC).
#[must_use]
pub fn quarantine() -> TableSpec {
    spec(
        TableId::quarantine(),
        "Records that no contract could take, with their original bytes. One row per record.",
        vec![
            text("id"),
            text("source"),
            text("class"),
            text("message"),
            Field::new("payload", DataType::Binary, true),
            Field::new("key", DataType::Binary, true),
            text("headers"),
            text("topic"),
            Field::new("partition", DataType::Int32, true),
            Field::new("offset", DataType::Int64, true),
            text("path"),
            Field::new("record", DataType::Int64, true),
            instant("_timestamp"),
            instant("quarantined_at"),
        ],
        "quarantined_date",
        &["id"],
    )
}

/// Entries of the quarantine that were replayed with success. Grain: one row per replay. Partitioned by `replayed_date`
/// (UTC).
#[must_use]
pub fn quarantine_replays() -> TableSpec {
    spec(
        TableId::Ops("quarantine_replays".to_owned()),
        "Entries of the quarantine that were replayed with success. One row per replay.",
        vec![text("id"), text("source"), text("outcome"), instant("replayed_at")],
        "replayed_date",
        &[],
    )
}

fn spec(id: TableId, description: &str, mut fields: Vec<Field>, date: &str, bloom_columns: &[&str]) -> TableSpec {
    fields.push(Field::new(date, DataType::Date32, true));
    TableSpec {
        id,
        schema: Arc::new(Schema::new(fields)),
        partition_columns: vec![date.to_owned()],
        bloom_columns: bloom_columns.iter().map(|column| (*column).to_owned()).collect(),
        description: description.to_owned(),
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn instant(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}
