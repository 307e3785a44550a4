//! Changed rows as Parquet parts in the stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef};
use arrow::temporal_conversions::date32_to_datetime;
use async_trait::async_trait;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::SnowflakeError;
use super::client::Client;
use super::load::Load;
use super::names::STAGE;
use super::sql::{self, BATCH, KeyRange, OP, ORDER};
use super::types::stage;
use super::upload::Place;
use crate::diff::{ChangeBatch, ChangeConsumer, ChangeKind, PartitionValues};
use crate::{Error, Publication, Result};

/// A part is closed at this size. The service likes 100-250 MB; a third of that keeps one part in memory affordable, and several
/// parts let a COPY work in parallel.
const PART_BYTES: usize = 64 << 20;
/// Rows in a row group: what the writer holds uncompressed.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// Uploads of one part before giving up; the credentials are asked for anew each time.
const MAX_UPLOADS: usize = 3;

/// What was staged: the numbers that COPY and the staging table are checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// File name -> rows.
    pub(super) parts: BTreeMap<String, u64>,
    pub(super) num_rows: u64,
    pub(super) ranges: Vec<KeyRange>,
}

/// The label of a partition in the staging table and in the target; never null, so that it can be compared with `IN`.
pub(super) fn batch_label(partition: &PartitionValues) -> String {
    partition.values().map(|value| value.as_deref().unwrap_or_default()).collect::<Vec<_>>().join("/")
}

/// Encodes changed rows and uploads each part when it is full, so that memory holds one part.
pub(super) struct Stager<'s, 'c> {
    client: &'s mut Client<'c>,
    publication: &'s Publication,
    load: &'s Load,
    directory: String,
    schema: SchemaRef,
    writer: Option<ArrowWriter<Vec<u8>>>,
    rows_in_part: u64,
    order: i64,
    ranges: BTreeMap<usize, (i32, i32)>,
    manifest: Manifest,
}

impl<'s, 'c> Stager<'s, 'c> {
    pub(super) fn new(
        client: &'s mut Client<'c>,
        publication: &'s Publication,
        load: &'s Load,
        directory: String,
    ) -> Self {
        let mut fields: Vec<_> = load
            .columns
            .iter()
            .map(|column| Field::new(&column.staged, column.column_type.staged.clone(), true))
            .collect();
        fields.extend([
            Field::new(OP, DataType::Utf8, false),
            Field::new(ORDER, DataType::Int64, false),
            Field::new(BATCH, DataType::Utf8, false),
        ]);
        Self {
            client,
            publication,
            load,
            directory,
            schema: Arc::new(Schema::new(fields)),
            writer: None,
            rows_in_part: 0,
            order: 0,
            ranges: BTreeMap::new(),
            manifest: Manifest::default(),
        }
    }

    /// Closes and uploads the last part.
    pub(super) async fn finish(mut self) -> Result<Manifest> {
        self.close_part().await?;
        let text = |day: i32| date32_to_datetime(day).map(|time| time.date().to_string());
        self.manifest.ranges = std::mem::take(&mut self.ranges)
            .into_iter()
            .filter_map(|(column, (least, greatest))| {
                Some(KeyRange { column, least: text(least)?, greatest: text(greatest)? })
            })
            .collect();
        Ok(self.manifest)
    }

    fn staged_rows(&mut self, batch: &ChangeBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
        let num_rows = batch.rows.num_rows();
        let mut arrays = batch
            .rows
            .columns()
            .iter()
            .zip(&self.load.columns)
            .map(|(array, column)| stage(array, &column.column_type))
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        for &key in &self.load.key {
            if let Some(days) = arrays[key].as_primitive_opt::<Date32Type>() {
                for day in days.iter().flatten() {
                    let range = self.ranges.entry(key).or_insert((day, day));
                    *range = (range.0.min(day), range.1.max(day));
                }
            }
        }
        let op = if batch.kind == ChangeKind::Upsert { "U" } else { "D" };
        let rows = i64::try_from(num_rows).expect("a batch has less rows than i64 counts");
        arrays.push(Arc::new(StringArray::from(vec![op; num_rows])));
        // Deletes come first in every visit, so a greater number is always the later word on a key.
        arrays.push(Arc::new(Int64Array::from_iter_values(self.order..self.order + rows)));
        arrays.push(Arc::new(StringArray::from(vec![batch_label(&batch.partition); num_rows])));
        self.order += rows;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays)
    }

    async fn write(&mut self, rows: RecordBatch) -> Result<(), parquet::errors::ParquetError> {
        let mut writer = if let Some(writer) = self.writer.take() {
            writer
        } else {
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
                .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                .build();
            ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties))?
        };
        let written = tokio::task::spawn_blocking(move || writer.write(&rows).map(|()| writer)).await;
        self.writer = Some(written.map_err(|error| parquet::errors::ParquetError::External(Box::new(error)))??);
        Ok(())
    }

    async fn close_part(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let data = tokio::task::spawn_blocking(move || writer.into_inner())
            .await
            .map_err(|error| self.encode(error))?
            .map_err(|error| self.encode(error))?;
        let file = format!("part-{:05}.parquet", self.manifest.parts.len());
        let data = bytes::Bytes::from(data);
        let mut tries = 1;
        loop {
            let answer = self.client.run(&sql::put(&file, &self.directory)).await?;
            let info: Value = answer.cell(0, 0).and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| {
                SnowflakeError::Answer { step: "put", detail: "it names no place to upload to".to_owned() }
            })?;
            let place = Place::new(&info, &file, &format!("{}.{STAGE}.FILES", self.load.names.database))?;
            match place.upload(self.client.http(), data.clone()).await {
                Ok(()) => break,
                Err(error) if tries < MAX_UPLOADS => {
                    tracing::warn!(file, %error, "an upload failed, asking for a place again");
                }
                Err(error) => return Err(error.into()),
            }
            tries += 1;
        }
        self.manifest.parts.insert(file, self.rows_in_part);
        self.manifest.num_rows += std::mem::take(&mut self.rows_in_part);
        Ok(())
    }

    fn encode(&self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        SnowflakeError::Encode { target: self.publication.target.to_string(), source: Box::new(source) }.into()
    }
}

#[async_trait]
impl ChangeConsumer for Stager<'_, '_> {
    async fn consume(&mut self, batch: ChangeBatch) -> Result<()> {
        // The key is still there, under another partition that the warehouse does not know.
        if batch.kind == ChangeKind::MoveOut {
            return Ok(());
        }
        let rows = self.staged_rows(&batch).map_err(Error::arrow(self.publication))?;
        self.rows_in_part += rows.num_rows() as u64;
        self.write(rows).await.map_err(|error| self.encode(error))?;
        let is_full =
            self.writer.as_ref().is_some_and(|writer| writer.bytes_written() + writer.in_progress_size() >= PART_BYTES);
        if is_full { self.close_part().await } else { Ok(()) }
    }
}
