//! Rows on their way into Parquet files.
//!
//! Files are encoded on blocking threads and stored whole; they belong to nobody until a commit adds them. A crash in
//! between leaves files that vacuum finds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::actions::PartitionValues;
use crate::error::Cause;
use crate::{DataFile, Result, Table, TableId, stats};

/// Rows of a row group: large enough to compress well, small enough that a scan of two cores has two of them to share and
/// that a writer holds little.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// False positives of the bloom filters: one key column in a hundred is read for nothing, at 10 bits a key.
const BLOOM_FPP: f64 = 0.01;
/// Values that are looked at before a file's encodings are chosen.
const SAMPLE_ROWS: usize = 512;
/// Partitions that are encoded and stored at once.
const WRITERS: usize = 2;

/// Rows of one partition, without the partition columns.
#[derive(Clone, Debug)]
pub struct PartitionedBatch {
    /// Partition column -> value as Delta writes it (`2025-03-09`, `7`).
    pub partition_values: BTreeMap<String, Option<String>>,
    /// The rows, several batches of one schema; they go into one file (or more when they exceed the target size).
    pub batches: Vec<RecordBatch>,
    /// Delta `tags` for the files.
    pub tags: BTreeMap<String, String>,
}

impl Table {
    /// Writes Parquet files (zstd, statistics, bloom filters as the table's properties say) of one or several partitions.
    /// They belong to nobody until a commit adds them. Batches must not contain the partition columns.
    ///
    /// Columns are found by name and cast to the table's types where only the representation differs; a nullable column
    /// that a batch lacks is null. Partitions without rows yield no file. Files come in the order of `batches`.
    ///
    /// # Errors
    /// `Invalid` when a column does not fit the table.
    pub async fn write_files(&self, batches: Vec<PartitionedBatch>) -> Result<Vec<DataFile>> {
        self.check_writable()?;
        let files: Vec<Vec<DataFile>> =
            stream::iter(batches).map(|batch| self.write_partition(batch)).buffered(WRITERS).try_collect().await?;
        Ok(files.into_iter().flatten().collect())
    }

    async fn write_partition(&self, partition: PartitionedBatch) -> Result<Vec<DataFile>> {
        let PartitionedBatch { partition_values, batches, tags } = partition;
        let encoder = FileEncoder::new(self);
        let work = move || encoder.encode(batches.into_iter().map(Ok));
        let encoded = tokio::task::spawn_blocking(work)
            .await
            .map_err(|source| Cause::Worker { table: self.store.id.clone(), source })?
            .map_err(|fault| fault.into_error(&self.store.id))?;
        let mut files = Vec::with_capacity(encoded.len());
        for file in encoded {
            files.push(self.store_file(file, &partition_values, &tags).await?);
        }
        Ok(files)
    }

    /// Stores an encoded file under a name that nobody else has.
    pub(crate) async fn store_file(
        &self,
        file: EncodedFile,
        partition_values: &PartitionValues,
        tags: &BTreeMap<String, String>,
    ) -> Result<DataFile> {
        let clock = self.lake.clock();
        let folder = partition_folder(self.partition_columns(), partition_values);
        let relative = format!("{folder}part-{}.zstd.parquet", clock.new_id());
        let path = self.store.path(&relative)?;
        let size = file.bytes.len() as u64;
        self.store
            .object_store()
            .put(&path, file.bytes.into())
            .await
            .map_err(|source| self.store.fault("write", &path, source))?;
        Ok(DataFile {
            path: relative,
            size,
            modified_ms: clock.now_ms(),
            partition_values: self
                .partition_columns()
                .iter()
                .map(|column| (column.clone(), partition_values.get(column).cloned().flatten()))
                .collect(),
            num_records: Some(file.num_rows),
            stats: file.stats,
            tags: tags.clone(),
        })
    }
}

/// `event_date=2025-03-09/event_hour=7/`, special characters escaped as Hive and Delta do.
fn partition_folder(columns: &[String], values: &PartitionValues) -> String {
    let mut folder = String::new();
    for column in columns {
        let value = values.get(column).and_then(Option::as_deref).filter(|value| !value.is_empty());
        folder.push_str(column);
        folder.push('=');
        match value {
            Some(value) => escape_into(&mut folder, value),
            None => folder.push_str("__HIVE_DEFAULT_PARTITION__"),
        }
        folder.push('/');
    }
    folder
}

fn escape_into(folder: &mut String, value: &str) {
    for character in value.chars() {
        if character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.' | '+' | '@' | ',') {
            folder.push(character);
        } else {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                let digits = b"0123456789ABCDEF";
                folder.push('%');
                folder.push(char::from(digits[usize::from(byte >> 4)]));
                folder.push(char::from(digits[usize::from(byte & 15)]));
            }
        }
    }
}

/// A Parquet file in memory.
#[derive(Debug)]
pub(crate) struct EncodedFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) num_rows: u64,
    pub(crate) stats: BTreeMap<String, crate::ColumnStats>,
}

/// What can go wrong while a file is encoded; the table's name is added where it is known.
#[derive(Debug)]
pub(crate) enum EncodeFault {
    Arrow(ArrowError),
    Parquet(ParquetError),
    Source(crate::Error),
}

impl EncodeFault {
    pub(crate) fn into_error(self, table: &TableId) -> crate::Error {
        let table = table.clone();
        match self {
            Self::Arrow(source) => Cause::Arrow { table, source }.into(),
            Self::Parquet(source) => Cause::Encode { table, source }.into(),
            Self::Source(error) => error,
        }
    }
}

impl From<ArrowError> for EncodeFault {
    fn from(source: ArrowError) -> Self {
        Self::Arrow(source)
    }
}

impl From<ParquetError> for EncodeFault {
    fn from(source: ParquetError) -> Self {
        Self::Parquet(source)
    }
}

/// Turns batches into files of one table, on the calling thread.
#[derive(Clone, Debug)]
pub(crate) struct FileEncoder {
    schema: SchemaRef,
    bloom_columns: Vec<String>,
    target_bytes: usize,
}

impl FileEncoder {
    pub(crate) fn new(table: &Table) -> Self {
        Self {
            schema: Arc::new(Schema::new(table.state.file_fields.clone())),
            bloom_columns: table.state.bloom_columns.clone(),
            target_bytes: usize::try_from(table.lake.maintenance().target_file_bytes).unwrap_or(usize::MAX),
        }
    }

    /// Encodes all batches, in order. A file is closed when it reaches the target size.
    pub(crate) fn encode(
        &self,
        batches: impl IntoIterator<Item = Result<RecordBatch>>,
    ) -> Result<Vec<EncodedFile>, EncodeFault> {
        let mut files = Vec::new();
        let mut writer = None;
        for batch in batches {
            let batch = batch.map_err(EncodeFault::Source)?;
            if batch.num_rows() == 0 {
                continue;
            }
            let batch = self.fit(&batch)?;
            let mut open = match writer.take() {
                Some(open) => open,
                None => self.open(&batch)?,
            };
            open.write(&batch)?;
            if open.bytes_written() + open.in_progress_size() >= self.target_bytes {
                files.push(self.close(open)?);
            } else {
                writer = Some(open);
            }
        }
        if let Some(open) = writer {
            files.push(self.close(open)?);
        }
        Ok(files)
    }

    /// Begins a file whose first rows are those of `batch`.
    fn open(&self, batch: &RecordBatch) -> Result<ArrowWriter<Vec<u8>>, ParquetError> {
        let level = ZstdLevel::try_new(1)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_created_by(concat!("tidemill version ", env!("CARGO_PKG_VERSION")).to_owned());
        // Of values that hardly repeat a dictionary would be built, found useless and thrown away. Whole numbers and instants
        // that do not repeat mostly ascend, as offsets do: then their differences are all that is stored.
        for (field, values) in self.schema.fields().iter().zip(batch.columns()) {
            let column = ColumnPath::from(vec![field.name().clone()]);
            match repetition(values) {
                Repetition::Unknown => {}
                Repetition::None => properties = properties.set_column_dictionary_enabled(column, false),
                Repetition::NoneOfNumbers => {
                    properties = properties
                        .set_column_dictionary_enabled(column.clone(), false)
                        .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
                }
            }
        }
        for name in &self.bloom_columns {
            let column = ColumnPath::from(vec![name.clone()]);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_bloom_filter_enabled(column.clone(), true)
                .set_column_bloom_filter_fpp(column.clone(), BLOOM_FPP)
                .set_column_bloom_filter_max_ndv(column, ROW_GROUP_ROWS as u64);
        }
        ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties.build()))
    }

    fn close(&self, mut writer: ArrowWriter<Vec<u8>>) -> Result<EncodedFile, ParquetError> {
        let metadata: ParquetMetaData = writer.finish()?;
        // The footer is written and flushed; `into_inner` would write it once more.
        let bytes = std::mem::take(writer.inner_mut());
        let num_rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
        Ok(EncodedFile { bytes, num_rows, stats: stats::from_parquet(&self.schema, &metadata)? })
    }

    fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if batch.schema_ref() == &self.schema {
            return Ok(batch.clone());
        }
        let known = |name: &str| self.schema.field_with_name(name).is_ok();
        if let Some(field) = batch.schema_ref().fields().iter().find(|field| !known(field.name())) {
            return Err(ArrowError::SchemaError(format!(
                "column is not in the table's files, column=`{}`",
                field.name()
            )));
        }
        let columns =
            self.schema.fields().iter().map(|field| column_of(batch, field)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// What the first values of a column say about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repetition {
    /// Some repeat, or there are too few to tell, or the type is another one.
    Unknown,
    /// All texts differ.
    None,
    /// All numbers differ.
    NoneOfNumbers,
}

/// Looks at the first values of a column. Wrong guesses cost space, never a value.
fn repetition(values: &ArrayRef) -> Repetition {
    if values.len() < SAMPLE_ROWS || values.null_count() > 0 {
        return Repetition::Unknown;
    }
    match values.data_type() {
        DataType::Int64 => numbers(values.as_primitive::<Int64Type>().values()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            numbers(values.as_primitive::<TimestampMicrosecondType>().values())
        }
        DataType::Utf8 => {
            let texts = values.as_string::<i32>();
            let mut seen = HashSet::with_capacity(SAMPLE_ROWS);
            let differ = (0..SAMPLE_ROWS).all(|row| seen.insert(texts.value(row)));
            if differ { Repetition::None } else { Repetition::Unknown }
        }
        _ => Repetition::Unknown,
    }
}

fn numbers(values: &[i64]) -> Repetition {
    let mut seen = HashSet::with_capacity(SAMPLE_ROWS);
    if values[..SAMPLE_ROWS].iter().all(|value| seen.insert(value)) {
        Repetition::NoneOfNumbers
    } else {
        Repetition::Unknown
    }
}

/// A column of a batch in a field's type; null when the batch lacks it.
pub(crate) fn column_of(batch: &RecordBatch, field: &FieldRef) -> Result<ArrayRef, ArrowError> {
    match batch.column_by_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(column) => to_type(column, field.data_type()),
    }
}

/// A column in another representation of the same type. A cast that loses a value is an error, not a null.
pub(crate) fn to_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == data_type {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, data_type, &options)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Field;
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    #[test]
    fn values_that_do_not_repeat_get_no_dictionary_and_read_back() {
        let rows = 2_000_i64;
        let texts = |text: fn(i64) -> String| Arc::new((0..rows).map(|row| Some(text(row))).collect::<StringArray>());
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("offset", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| 10 * row)))),
            ("partition", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % 4)))),
            ("device_id", texts(|row| format!("device-{row}"))),
            ("locale", texts(|row| format!("locale-{}", row % 6))),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let columns = columns.into_iter().map(|(_, values)| values).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let encoder = FileEncoder { schema, bloom_columns: Vec::new(), target_bytes: 1 << 30 };
        let mut files = encoder.encode([Ok(batch.clone())]).unwrap();
        let file = Bytes::from(files.pop().unwrap().bytes);

        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let group = builder.metadata().row_group(0);
        let has_dictionary: Vec<bool> =
            group.columns().iter().map(|column| column.dictionary_page_offset().is_some()).collect();
        assert_eq!(has_dictionary, [false, true, false, true]);
        assert!(group.column(0).encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED));
        let read = builder.with_batch_size(4_096).build().unwrap().next().unwrap().unwrap();
        assert_eq!(read.columns(), batch.columns());
    }

    #[test]
    fn partition_values_are_escaped_in_paths() {
        let columns = ["_batch".to_owned(), "hour".to_owned()];
        let values = PartitionValues::from([
            ("_batch".to_owned(), Some("2025-03-09T12:34".to_owned())),
            ("hour".to_owned(), None),
        ]);
        assert_eq!(partition_folder(&columns, &values), "_batch=2025-03-09T12%3A34/hour=__HIVE_DEFAULT_PARTITION__/");
    }
}
