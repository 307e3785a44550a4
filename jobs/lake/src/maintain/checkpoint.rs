//! Checkpoints: what keeps opening a table cheap.
//!
//! A checkpoint is written from the state in memory; only the removals since the last one are read from the log. Going
//! through delta-rs would read all of it twice and cost a quarter of a second instead of some milliseconds, in the middle of
//! an ingest that commits every quarter of a second.
//! Source: Delta protocol, "V1 Checkpoints", "Last Checkpoint File".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use object_store::ObjectStoreExt as _;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use crate::actions::{Add, Line, Remove, Txn};
use crate::error::Cause;
use crate::state::State;
use crate::write::EncodeFault;
use crate::{Result, Table, replay};

/// Rows that become Arrow at once; text of statistics makes them wide.
const CHUNK_ROWS: usize = 4096;
/// Rows of a row group. A table that is asked for the statistics of some files decodes those of their row groups, and files
/// stand by path, so those of one partition stand together.
const GROUP_ROWS: usize = 1024;
/// Removals stay in checkpoints at least this long, so that vacuum of other Delta writers knows them. The protocol's default
/// for `delta.deletedFileRetentionDuration`.
const LEAST_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Makes a checkpoint at the table's version when one is due; says whether it did.
///
/// Meant to be called after each commit: most calls compare two numbers. Writers of one table agree without talking, because
/// each makes the checkpoint of the versions that are multiples of the interval; one that was missed is made up for when the
/// newest is one and a half intervals behind. A commit of many files is due at once: as text every reader would parse it anew.
///
/// # Errors
/// The store's faults. The table is as good as before; the next call tries again.
pub async fn maybe_checkpoint(table: &Table) -> Result<bool> {
    if !is_due(table).await? {
        return Ok(false);
    }
    create(table).await?;
    Ok(true)
}

pub(super) async fn is_due(table: &Table) -> Result<bool> {
    let (version, interval) = (table.state.version, table.lake.maintenance().checkpoint_interval.max(1));
    let behind = version.saturating_sub(table.state.checkpoint.load(Ordering::Relaxed));
    if table.pinned || version == 0 || behind == 0 {
        return Ok(false);
    }
    let is_large_behind = table.state.large_commit > table.state.checkpoint.load(Ordering::Relaxed);
    if version.is_multiple_of(interval) || is_large_behind {
        return Ok(true);
    }
    if behind < interval + interval / 2 {
        return Ok(false);
    }
    // Another writer may have made one that we have not heard of.
    let newest = replay::hinted_version(&table.store).await?.unwrap_or(0);
    table.state.checkpoint.fetch_max(newest, Ordering::Relaxed);
    Ok(version.saturating_sub(newest) >= interval + interval / 2)
}

/// Makes a checkpoint at the table's version; nothing when the log has one that is as new.
///
/// The file comes first and the hint after it, so that a hint never names what is not there.
pub(crate) async fn create(table: &Table) -> Result<()> {
    table.check_writable()?;
    let (store, version) = (&table.store, table.state.version);
    let newest = replay::hinted_version(store).await?.unwrap_or(0);
    if newest < version {
        let removed = replay::removed_files(store, version).await?;
        let retention = table.lake.maintenance().retention.max(LEAST_RETENTION);
        let cutoff_ms = table.lake.clock().now_ms() - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let removed = removed.into_iter().filter(|(_, removed_ms)| *removed_ms >= cutoff_ms).collect();
        let state = table.state.clone();
        let encoded = tokio::task::spawn_blocking(move || encode(&state, removed))
            .await
            .map_err(|source| Cause::Worker { table: store.id.clone(), source })?
            .map_err(|fault| fault.into_error(&store.id))?;
        let hint = json!({
            "version": version,
            "size": encoded.num_actions,
            "sizeInBytes": encoded.bytes.len(),
            "numOfAddFiles": table.state.files.len(),
        });
        let file = store.log_folder().join(format!("{version:020}.checkpoint.parquet"));
        let hint_file = store.log_folder().join("_last_checkpoint");
        for (path, bytes) in [(file, encoded.bytes), (hint_file, hint.to_string().into_bytes())] {
            let put = store.object_store().put(&path, bytes.into()).await;
            put.map_err(|source| store.fault("write", &path, source))?;
        }
        tracing::debug!(table = %store.id, version, num_actions = encoded.num_actions, "checkpoint made");
    }
    table.state.checkpoint.fetch_max(version.max(newest), Ordering::Relaxed);
    Ok(())
}

struct Encoded {
    bytes: Vec<u8>,
    num_actions: usize,
}

fn encode(state: &State, removed: BTreeMap<String, i64>) -> Result<Encoded, EncodeFault> {
    let schema = Arc::new(checkpoint_schema());
    // Snappy is what every Delta reader expects in checkpoints.
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    let mut num_actions = 0;
    let mut lines = lines(state, removed).peekable();
    while lines.peek().is_some() {
        let chunk: Vec<Line> = lines.by_ref().take(CHUNK_ROWS).collect();
        num_actions += chunk.len();
        let mut decoder =
            arrow::json::ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(CHUNK_ROWS).build_decoder()?;
        decoder.serialize(&chunk)?;
        let batch = decoder.flush()?;
        writer.write(&batch.ok_or_else(|| ArrowError::JsonError("a chunk of actions yields no rows".to_owned()))?)?;
    }
    writer.finish()?;
    // The footer is written and flushed; `into_inner` would write it once more.
    Ok(Encoded { bytes: std::mem::take(writer.inner_mut()), num_actions })
}

/// What the log adds up to, as lines of a log. `dataChange` is false in checkpoints: they change nothing.
fn lines(state: &State, removed: BTreeMap<String, i64>) -> impl Iterator<Item = Line> {
    let head = [
        Line { protocol: Some(state.protocol.clone()), ..Line::default() },
        Line { meta_data: Some(state.metadata.clone()), ..Line::default() },
    ];
    let txns = state.txns.iter().map(|(app_id, version)| Line {
        txn: Some(Txn { app_id: app_id.clone(), version: *version, last_updated: None }),
        ..Line::default()
    });
    let adds = state.files.values().map(|file| Line {
        add: Some(Add {
            path: file.path.to_string(),
            partition_values: file.partition_values(),
            size: file.size,
            modification_time: file.modified_ms,
            data_change: false,
            stats: file.stats_text(),
            tags: tags_as_written(file.tags()),
        }),
        ..Line::default()
    });
    let removes = removed.into_iter().map(|(path, removed_ms)| Line {
        remove: Some(Remove {
            path,
            deletion_timestamp: Some(removed_ms),
            data_change: false,
            extended_file_metadata: Some(false),
            partition_values: None,
            size: None,
            tags: None,
        }),
        ..Line::default()
    });
    head.into_iter().chain(txns).chain(adds).chain(removes)
}

fn tags_as_written(tags: BTreeMap<String, String>) -> Option<BTreeMap<String, Option<String>>> {
    (!tags.is_empty()).then(|| tags.into_iter().map(|(key, value)| (key, Some(value))).collect())
}

fn checkpoint_schema() -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let flag = |name: &str| Field::new(name, DataType::Boolean, true);
    let texts = |name: &str| Field::new(name, DataType::new_list(DataType::Utf8, true), true);
    let map = |name: &str| {
        let (key, value) = (Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true));
        Field::new_map(name, "key_value", key, value, false, true)
    };
    let group = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), true);
    Schema::new(vec![
        group("txn", vec![text("appId"), long("version"), long("lastUpdated")]),
        group(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                long("size"),
                long("modificationTime"),
                flag("dataChange"),
                text("stats"),
                map("tags"),
            ],
        ),
        group(
            "remove",
            vec![
                text("path"),
                long("deletionTimestamp"),
                flag("dataChange"),
                flag("extendedFileMetadata"),
                map("partitionValues"),
                long("size"),
                map("tags"),
            ],
        ),
        group(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                group("format", vec![text("provider"), map("options")]),
                text("schemaString"),
                texts("partitionColumns"),
                map("configuration"),
                long("createdTime"),
            ],
        ),
        group(
            "protocol",
            vec![int("minReaderVersion"), int("minWriterVersion"), texts("readerFeatures"), texts("writerFeatures")],
        ),
    ])
}
