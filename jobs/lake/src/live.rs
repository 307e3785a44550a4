//! A live file, as cheap as its place: what a checkpoint says of it is looked up when somebody asks.
//!
//! A table with a file for each hour of a year has thousands of live files, and a small batch asks for a handful of them. A
//! file of a checkpoint is therefore no more than its path and the number of its row: partition values and tags are read from
//! the checkpoint's columns, which the files share, and statistics, the bulk of a checkpoint, stay encoded until the first
//! question about a file of their row group.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array as _, AsArray as _, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::errors::{ParquetError, Result};

use crate::actions::{Add, PartitionValues};
use crate::{DataFile, stats};

/// A live file.
#[derive(Debug)]
pub(crate) struct LiveFile {
    /// Path under the table's root, percent-decoded.
    pub(crate) path: Arc<str>,
    pub(crate) size: u64,
    pub(crate) modified_ms: i64,
    source: Source,
    parsed: OnceLock<Box<DataFile>>,
}

/// Who knows the rest.
#[derive(Debug)]
enum Source {
    /// An entry of the log.
    Entry { partition_values: PartitionValues, stats: Option<String>, tags: BTreeMap<String, String> },
    /// A row of a checkpoint.
    Checkpoint { rows: Arc<CheckpointRows>, row: u32 },
    /// The parsed form, from which it was made.
    Parsed,
}

impl LiveFile {
    pub(crate) fn from_add(add: Add) -> Self {
        let tags = add.tags.unwrap_or_default();
        let source = Source::Entry {
            partition_values: add.partition_values,
            stats: add.stats,
            tags: tags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        };
        Self::new(add.path.into(), add.size, add.modification_time, source)
    }

    pub(crate) fn from_checkpoint(
        path: Arc<str>,
        size: u64,
        modified_ms: i64,
        rows: &Arc<CheckpointRows>,
        row: u32,
    ) -> Self {
        Self::new(path, size, modified_ms, Source::Checkpoint { rows: Arc::clone(rows), row })
    }

    fn new(path: Arc<str>, size: u64, modified_ms: i64, source: Source) -> Self {
        Self { path, size, modified_ms, source, parsed: OnceLock::new() }
    }

    /// Value of a partition column as Delta writes it; `None` is null, and a column that the table is not partitioned by.
    pub(crate) fn partition_value(&self, column: &str) -> Option<&str> {
        match &self.source {
            Source::Entry { partition_values, .. } => partition_values.get(column)?.as_deref(),
            Source::Checkpoint { rows, row } => rows.values.as_ref()?.entry(*row as usize, column)?.1,
            Source::Parsed => self.data_file().partition_values.get(column)?.as_deref(),
        }
    }

    /// Whether the log gives the file a value for each of these columns, and that one.
    pub(crate) fn is_in(&self, values: &PartitionValues) -> bool {
        values.iter().all(|(column, value)| match &self.source {
            Source::Entry { partition_values, .. } => partition_values.get(column) == Some(value),
            Source::Checkpoint { rows, row } => {
                let found = rows.values.as_ref().and_then(|values| values.entry(*row as usize, column));
                found.is_some_and(|(_, found)| found == value.as_deref())
            }
            Source::Parsed => self.data_file().partition_values.get(column) == Some(value),
        })
    }

    /// Partition column -> value.
    pub(crate) fn partition_values(&self) -> PartitionValues {
        match &self.source {
            Source::Entry { partition_values, .. } => partition_values.clone(),
            Source::Checkpoint { rows, row } => {
                let values = rows.values.iter().flat_map(|values| values.entries(*row as usize));
                values.map(|(column, value)| (column.to_owned(), value.map(str::to_owned))).collect()
            }
            Source::Parsed => self.data_file().partition_values.clone(),
        }
    }

    /// Statistics as the log writes them.
    pub(crate) fn stats_text(&self) -> Option<String> {
        match &self.source {
            Source::Entry { stats, .. } => stats.clone(),
            Source::Checkpoint { rows, row } => rows.stats(*row).map(str::to_owned),
            Source::Parsed => {
                let file = self.data_file();
                stats::format(file.num_records, &file.stats)
            }
        }
    }

    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        match &self.source {
            Source::Entry { tags, .. } => tags.clone(),
            Source::Checkpoint { rows, row } => {
                let tags = rows.tags.iter().flat_map(|tags| tags.entries(*row as usize));
                tags.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
            }
            Source::Parsed => self.data_file().tags.clone(),
        }
    }

    pub(crate) fn has_tag(&self, key: &str) -> bool {
        match &self.source {
            Source::Entry { tags, .. } => tags.contains_key(key),
            Source::Checkpoint { rows, row } => {
                rows.tags.as_ref().and_then(|tags| tags.entry(*row as usize, key)?.1).is_some()
            }
            Source::Parsed => self.data_file().tags.contains_key(key),
        }
    }

    /// Rows of the file, when the log says.
    pub(crate) fn num_records(&self) -> Option<u64> {
        if let Some(file) = self.parsed.get() {
            return file.num_records;
        }
        match &self.source {
            Source::Entry { stats, .. } => stats::num_records(stats.as_deref()),
            Source::Checkpoint { rows, row } => stats::num_records(rows.stats(*row)),
            Source::Parsed => self.data_file().num_records,
        }
    }

    /// The file with its statistics.
    pub(crate) fn data_file(&self) -> &DataFile {
        self.parsed.get_or_init(|| {
            let (num_records, columns) = match &self.source {
                Source::Entry { stats, .. } => stats::parse(stats.as_deref()),
                Source::Checkpoint { rows, row } => stats::parse(rows.stats(*row)),
                Source::Parsed => unreachable!("`parsed` was set when the source was"),
            };
            Box::new(DataFile {
                path: self.path.to_string(),
                size: self.size,
                modified_ms: self.modified_ms,
                partition_values: self.partition_values(),
                num_records,
                stats: columns,
                tags: self.tags(),
            })
        })
    }
}

impl From<DataFile> for LiveFile {
    fn from(file: DataFile) -> Self {
        Self {
            path: file.path.as_str().into(),
            size: file.size,
            modified_ms: file.modified_ms,
            source: Source::Parsed,
            parsed: OnceLock::from(Box::new(file)),
        }
    }
}

/// The add actions among some rows of a checkpoint.
#[derive(Debug)]
pub(crate) struct CheckpointRows {
    values: Option<TextMaps>,
    tags: Option<TextMaps>,
    stats: Arc<CheckpointStats>,
    /// The number of the first row in the checkpoint's file.
    first_row: usize,
}

impl CheckpointRows {
    pub(crate) fn new(
        values: Option<TextMaps>,
        tags: Option<TextMaps>,
        stats: &Arc<CheckpointStats>,
        first_row: usize,
    ) -> Self {
        Self { values, tags, stats: Arc::clone(stats), first_row }
    }

    fn stats(&self, row: u32) -> Option<&str> {
        self.stats.text(self.first_row + row as usize)
    }
}

/// The column `add.stats` of one file of a checkpoint, decoded row group by row group when it is asked for.
#[derive(Debug)]
pub(crate) struct CheckpointStats {
    file: Bytes,
    metadata: ArrowReaderMetadata,
    /// By row group: the number of its first row, and its column once it was decoded; `None` when there is none.
    groups: Vec<(usize, OnceLock<Option<StringArray>>)>,
}

impl CheckpointStats {
    pub(crate) fn new(file: Bytes, metadata: ArrowReaderMetadata) -> Self {
        let mut first_row = 0;
        let mut groups = Vec::with_capacity(metadata.metadata().num_row_groups());
        for group in metadata.metadata().row_groups() {
            groups.push((first_row, OnceLock::new()));
            first_row += usize::try_from(group.num_rows()).unwrap_or_default();
        }
        Self { file, metadata, groups }
    }

    /// Statistics of a row. A column that cannot be decoded says nothing, which is always right.
    fn text(&self, row: usize) -> Option<&str> {
        let index = self.groups.partition_point(|(first_row, _)| *first_row <= row).checked_sub(1)?;
        let (first_row, texts) = &self.groups[index];
        let texts = texts.get_or_init(|| {
            self.decode(index).unwrap_or_else(|error| {
                tracing::warn!(%error, "statistics of a checkpoint cannot be read, files are not told apart by them");
                None
            })
        });
        let texts = texts.as_ref()?;
        let row = row - first_row;
        (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row))
    }

    fn decode(&self, group: usize) -> Result<Option<StringArray>> {
        let schema = self.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::leaves(schema, leaves(schema, |path| path == ["add", "stats"]));
        let num_rows = self.metadata.metadata().row_group(group).num_rows();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(usize::try_from(num_rows).unwrap_or(usize::MAX))
            .build()?;
        let Some(batch) = reader.into_iter().next().transpose()? else { return Ok(None) };
        let texts = batch.column_by_name("add").and_then(|adds| adds.as_struct_opt()?.column_by_name("stats"));
        let texts = texts.map(|texts| arrow::compute::cast(texts, &DataType::Utf8)).transpose()?;
        let short = |texts: &StringArray| ParquetError::General(format!("{} rows instead of {num_rows}", texts.len()));
        match texts.map(|texts| texts.as_string::<i32>().clone()) {
            Some(texts) if i64::try_from(texts.len()) != Ok(num_rows) => Err(short(&texts)),
            texts => Ok(texts),
        }
    }
}

/// Numbers of the leaf columns whose path is `wanted`.
pub(crate) fn leaves(
    schema: &parquet::schema::types::SchemaDescriptor,
    wanted: impl Fn(&[String]) -> bool,
) -> Vec<usize> {
    let columns = schema.columns().iter().enumerate();
    columns.filter(|(_, column)| wanted(column.path().parts())).map(|(index, _)| index).collect()
}

/// A column of maps from text to text.
#[derive(Debug)]
pub(crate) struct TextMaps {
    pub(crate) offsets: OffsetBuffer<i32>,
    pub(crate) nulls: Option<NullBuffer>,
    pub(crate) keys: StringArray,
    pub(crate) values: StringArray,
}

impl TextMaps {
    /// The entries of a row, in the writer's order.
    fn entries(&self, row: usize) -> impl DoubleEndedIterator<Item = (&str, Option<&str>)> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let range = if is_null { 0..0 } else { offset(&self.offsets, row)..offset(&self.offsets, row + 1) };
        range.map(|at| (self.keys.value(at), self.values.is_valid(at).then(|| self.values.value(at))))
    }

    /// The entry of a key in a row; of a key that stands there twice the last, as in a map.
    fn entry(&self, row: usize, key: &str) -> Option<(&str, Option<&str>)> {
        self.entries(row).rev().find(|(found, _)| *found == key)
    }
}

fn offset(offsets: &OffsetBuffer<i32>, at: usize) -> usize {
    usize::try_from(offsets[at]).expect("offsets of an Arrow array are never negative")
}
