//! Reads classic checkpoints: one Parquet file, or several parts.
//!
//! A checkpoint is fetched as it lies in the store, in one request, and decoded as far as a table is asked for: at once what
//! the files are, their statistics later (see [`crate::live`]).
//!
//! Tables with newer kinds (sidecars) ask for a table feature that this room does not know and go through delta-rs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{Array, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use tidemill_project::TableVersion;

use crate::Result;
use crate::actions::{Line, Metadata, Protocol, decode_path};
use crate::error::Cause;
use crate::live::{CheckpointRows, CheckpointStats, LiveFile, TextMaps, leaves};
use crate::object_reader::ObjectReader;
use crate::state::State;
use crate::store::TableStore;

/// What a state is made of; `sidecar` only to notice that there is more than this file.
const STATE_COLUMNS: [&str; 4] = ["txn", "metaData", "protocol", "sidecar"];
/// What a live file is made of when a table is opened.
const FILE_COLUMNS: [&str; 5] = ["path", "partitionValues", "size", "modificationTime", "tags"];
const BATCH_ROWS: usize = 8192;

/// The files of one checkpoint, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CheckpointFiles {
    pub(crate) version: u64,
    names: Vec<String>,
}

impl CheckpointFiles {
    /// The names that a hint implies.
    pub(crate) fn named(version: u64, parts: Option<u32>) -> Self {
        let names = match parts {
            None => vec![format!("{version:020}.checkpoint.parquet")],
            Some(parts) => {
                (1..=parts).map(|part| format!("{version:020}.checkpoint.{part:010}.{parts:010}.parquet")).collect()
            }
        };
        Self { version, names }
    }
}

/// Lists the log's complete classic checkpoints, oldest first. Costs a listing of the whole log folder.
pub(crate) async fn list(table: &TableStore) -> Result<Vec<CheckpointFiles>> {
    let objects = table.list(&table.log_folder()).await?;
    Ok(complete(objects.iter().filter_map(|object| object.location.filename())))
}

/// The complete classic checkpoints among names of a log's objects, oldest first.
pub(crate) fn complete<'a>(names: impl Iterator<Item = &'a str>) -> Vec<CheckpointFiles> {
    let mut found = BTreeMap::<CheckpointFiles, usize>::new();
    for files in names.filter_map(parse_name) {
        *found.entry(files).or_default() += 1;
    }
    found.into_iter().filter(|(files, parts)| files.names.len() == *parts).map(|(files, _)| files).collect()
}

fn parse_name(name: &str) -> Option<CheckpointFiles> {
    let (version, rest) = name.split_once(".checkpoint.")?;
    let version = version.parse().ok()?;
    if rest == "parquet" {
        return Some(CheckpointFiles::named(version, None));
    }
    let (_part, parts) = rest.strip_suffix(".parquet")?.split_once('.')?;
    Some(CheckpointFiles::named(version, Some(parts.parse().ok()?)))
}

/// Loads the state that a checkpoint holds; `None` when one of its files is gone.
pub(crate) async fn load(table: &TableStore, files: &CheckpointFiles) -> Result<Option<State>> {
    let mut rows = Rows::default();
    for name in &files.names {
        let path = table.log_folder().join(name.as_str());
        let parquet = |source| Cause::Parquet { act: "read", table: table.id.clone(), path: path.to_string(), source };
        let bytes = match table.object_store().get(&path).await {
            Ok(found) => found.bytes().await.map_err(|source| table.fault("read", &path, source))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(table.fault("read", &path, source).into()),
        };
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::default()).map_err(parquet)?;
        let schema = metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::leaves(schema, leaves(schema, is_of_state));
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(parquet)?;
        let stats = Arc::new(CheckpointStats::new(bytes, metadata));
        let mut first_row = 0;
        for batch in batches {
            let shape = |source| Cause::Arrow { table: table.id.clone(), source };
            let batch = batch.map_err(shape)?;
            if has_sidecars(&batch) {
                return Err(Cause::Feature { table: table.id.clone(), feature: "v2Checkpoint".to_owned() }.into());
            }
            rows.collect(&batch, &stats, first_row).map_err(shape)?;
            first_row += batch.num_rows();
        }
    }
    let (Some(protocol), Some(metadata)) = (rows.protocol, rows.metadata) else {
        let version = TableVersion(files.version);
        return Err(Cause::Headless { table: table.id.clone(), version }.into());
    };
    let mut state = State::new(&table.id, files.version, protocol, metadata)?;
    state.files = Arc::new(rows.files.into_iter().map(|file| (Arc::clone(&file.path), file)).collect());
    state.txns = rows.txns;
    state.checkpoint.store(files.version, Ordering::Relaxed);
    Ok(Some(state))
}

/// Files that the checkpoint remembers as removed, with the time of removal in milliseconds since the epoch; `None` when one
/// of the checkpoint's files is gone.
pub(crate) async fn removed_files(
    table: &TableStore,
    files: &CheckpointFiles,
) -> Result<Option<BTreeMap<String, i64>>> {
    let mut removed = BTreeMap::new();
    for name in &files.names {
        let Some(batches) = read(table, name, &["remove"]).await? else { return Ok(None) };
        for batch in batches {
            collect_removes(&batch, &mut removed).map_err(|source| Cause::Arrow { table: table.id.clone(), source })?;
        }
    }
    Ok(Some(removed))
}

fn collect_removes(batch: &RecordBatch, removed: &mut BTreeMap<String, i64>) -> Result<(), ArrowError> {
    let Some(removes) = structs(batch, "remove") else { return Ok(()) };
    let (paths, times) = (texts(removes, "path")?, integers(removes, "deletionTimestamp")?);
    for row in (0..removes.len()).filter(|row| removes.is_valid(*row) && paths.is_valid(*row)) {
        let path = decode_path(paths.value(row)).map_err(|source| ArrowError::ExternalError(source.into()))?;
        removed.insert(path, if times.is_valid(row) { times.value(row) } else { 0 });
    }
    Ok(())
}

async fn read(table: &TableStore, name: &str, columns: &[&str]) -> Result<Option<Vec<RecordBatch>>> {
    let path = table.log_folder().join(name);
    let parquet = |source| Cause::Parquet { act: "read", table: table.id.clone(), path: path.to_string(), source };
    let size = match table.object_store().head(&path).await {
        Ok(meta) => meta.size,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(source) => return Err(table.fault("read", &path, source).into()),
    };
    let reader = ObjectReader::new(Arc::clone(table.object_store()), path.clone(), size);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(parquet)?;
    let roots = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
    let roots: Vec<_> = roots.filter(|(_, field)| columns.contains(&field.name())).map(|(index, _)| index).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let stream = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(parquet)?;
    Ok(Some(stream.try_collect().await.map_err(parquet)?))
}

/// Whether a leaf column is read when a table is opened.
fn is_of_state(path: &[String]) -> bool {
    match path {
        [root, field, ..] if root == "add" => FILE_COLUMNS.contains(&field.as_str()),
        [root, ..] => STATE_COLUMNS.contains(&root.as_str()),
        [] => false,
    }
}

fn has_sidecars(batch: &RecordBatch) -> bool {
    batch.column_by_name("sidecar").is_some_and(|column| column.null_count() < column.len())
}

/// What the rows of a checkpoint add up to.
#[derive(Default)]
struct Rows {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    /// In the order of the checkpoint: ours have them by path, so that the map of them is made in one go.
    files: Vec<Arc<LiveFile>>,
    txns: BTreeMap<String, i64>,
}

impl Rows {
    /// Takes a batch whose first row has the number `first_row` in its file.
    fn collect(
        &mut self,
        batch: &RecordBatch,
        stats: &Arc<CheckpointStats>,
        first_row: usize,
    ) -> Result<(), ArrowError> {
        if let Some(adds) = structs(batch, "add") {
            self.collect_adds(adds, stats, first_row)?;
        }
        if let Some(txns) = structs(batch, "txn") {
            let (ids, versions) = (texts(txns, "appId")?, integers(txns, "version")?);
            for row in (0..txns.len()).filter(|row| txns.is_valid(*row) && ids.is_valid(*row)) {
                self.txns.insert(ids.value(row).to_owned(), versions.value(row));
            }
        }
        for name in ["protocol", "metaData"] {
            let Some(column) = structs(batch, name) else { continue };
            for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
                let line = line_of(batch, name, row)?;
                self.protocol = line.protocol.or(self.protocol.take());
                self.metadata = line.meta_data.or(self.metadata.take());
            }
        }
        Ok(())
    }

    fn collect_adds(
        &mut self,
        adds: &StructArray,
        stats: &Arc<CheckpointStats>,
        first_row: usize,
    ) -> Result<(), ArrowError> {
        let paths = texts(adds, "path")?;
        let (sizes, times) = (integers(adds, "size")?, integers(adds, "modificationTime")?);
        let (values, tags) = (text_maps(adds, "partitionValues")?, text_maps(adds, "tags")?);
        let rows = Arc::new(CheckpointRows::new(values, tags, stats, first_row));
        self.files.reserve(adds.len());
        for row in (0..adds.len()).filter(|row| adds.is_valid(*row) && paths.is_valid(*row)) {
            let path = decode_path(paths.value(row)).map_err(|source| ArrowError::ExternalError(source.into()))?;
            let size = u64::try_from(sizes.value(row)).unwrap_or_default();
            let number = u32::try_from(row).expect("a batch has a few thousand rows");
            let file = LiveFile::from_checkpoint(path.into(), size, times.value(row), &rows, number);
            self.files.push(Arc::new(file));
        }
        Ok(())
    }
}

fn structs<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StructArray> {
    batch.column_by_name(name)?.as_struct_opt()
}

fn field(of: &StructArray, name: &str) -> Result<ArrayRef, ArrowError> {
    of.column_by_name(name)
        .map(Arc::clone)
        .ok_or_else(|| ArrowError::SchemaError(format!("checkpoint has no column, name=`{name}`")))
}

/// Writers differ in the width of text; it is cast to one.
fn texts(of: &StructArray, name: &str) -> Result<StringArray, ArrowError> {
    Ok(cast(&field(of, name)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn integers(of: &StructArray, name: &str) -> Result<Int64Array, ArrowError> {
    Ok(cast(&field(of, name)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// A column of maps; `None` when the checkpoint has no such column, or not as maps.
fn text_maps(of: &StructArray, name: &str) -> Result<Option<TextMaps>, ArrowError> {
    let Some(maps) = of.column_by_name(name).and_then(|column| column.as_map_opt()) else { return Ok(None) };
    Ok(Some(TextMaps {
        offsets: maps.offsets().clone(),
        nulls: maps.nulls().cloned(),
        keys: cast(maps.keys(), &DataType::Utf8)?.as_string::<i32>().clone(),
        values: cast(maps.values(), &DataType::Utf8)?.as_string::<i32>().clone(),
    }))
}

/// One rare row as a line of the log, through JSON: `protocol` and `metaData` occur once in a checkpoint.
fn line_of(batch: &RecordBatch, name: &str, row: usize) -> Result<Line, ArrowError> {
    let index = batch.schema().index_of(name)?;
    let one = batch.project(&[index])?.slice(row, 1);
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(&one)?;
    writer.finish()?;
    serde_json::from_slice(&writer.into_inner()).map_err(|source| ArrowError::JsonError(source.to_string()))
}
