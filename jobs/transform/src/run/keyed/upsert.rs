//! dbt's `merge`, `delete+insert` and `insert_overwrite`: the incremental SQL says which rows come, their keys which rows go.
//!
//! As in dbt these models are what their runs made them: a row that the SQL no longer gives stays. A merge with two rows for one
//! key is an error, a null in a key matches nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, interleave, is_not_null};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};

use super::keys::Touch;
use super::{Done, Keyed};
use crate::project::{Storage, Strategy};
use crate::run::writer::Writer;
use crate::run::{BuildFault, Result};

impl Keyed<'_> {
    pub(super) async fn upsert(&self, schema: &SchemaRef, writer: &mut Writer) -> Result<Done> {
        let config = &self.job.model.config;
        let is_merge = config.storage() == Storage::Incremental(Strategy::Merge);
        let key = if config.storage() == Storage::Incremental(Strategy::InsertOverwrite) {
            &config.keyed.partition_by
        } else {
            &config.unique_key
        };
        let job = self.job.incremental();
        let base = job.base(None).await?;
        let rows = job.collect(job.frame(&base).await?, schema).await?;
        let fault = || BuildFault::shape(&self.job.node);
        let keyed = filter_record_batch(&rows, &has_key(&rows, key).map_err(fault())?).map_err(fault())?;
        let touch = Touch::of(&keyed, key).map_err(fault())?;
        if is_merge && touch.keys.len() < keyed.num_rows() {
            return Err(BuildFault::RepeatedKey {
                model: self.job.model.name.clone(),
                key: key.join(", "),
                rows: keyed.num_rows() - touch.keys.len(),
                location: Some(self.job.location()),
            });
        }
        let touches = [touch];
        let rows = if is_merge && self.kept_columns(schema).next().is_some() {
            let old = writer.leaves()?.read(&touches).await?;
            self.keep_columns(&rows, &old, key).map_err(fault())?
        } else {
            rows
        };
        let change = writer.leaves()?.replace(&touches, &rows).await?;
        writer.apply(change);
        Ok(Done::Ready)
    }

    /// The columns that a match leaves alone.
    fn kept_columns<'a>(&'a self, schema: &'a SchemaRef) -> impl Iterator<Item = usize> + 'a {
        let keyed = &self.job.model.config.keyed;
        let key = &self.job.model.config.unique_key;
        schema.fields().iter().enumerate().filter_map(move |(index, field)| {
            let updated = if keyed.merge_update_columns.is_empty() {
                !keyed.merge_exclude_columns.contains(field.name())
            } else {
                keyed.merge_update_columns.contains(field.name())
            };
            (!updated && !key.contains(field.name())).then_some(index)
        })
    }

    /// New rows with the kept columns of the old rows of the same key.
    fn keep_columns(
        &self,
        rows: &RecordBatch,
        old: &RecordBatch,
        key: &[String],
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let schema = rows.schema();
        let columns_of = |batch: &RecordBatch| -> Result<Vec<ArrayRef>, arrow::error::ArrowError> {
            key.iter().map(|column| Ok(Arc::clone(batch.column(batch.schema().index_of(column)?)))).collect()
        };
        let new_keys = columns_of(rows)?;
        let fields = new_keys.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let old_rows = converter.convert_columns(&columns_of(old)?)?;
        let known: HashMap<&[u8], usize> =
            (0..old.num_rows()).map(|index| (old_rows.row(index).data(), index)).collect();
        let new_rows = converter.convert_columns(&new_keys)?;
        let origins: Vec<(usize, usize)> = (0..rows.num_rows())
            .map(|index| known.get(new_rows.row(index).data()).map_or((1, index), |old| (0, *old)))
            .collect();
        let mut columns = rows.columns().to_vec();
        for index in self.kept_columns(&schema) {
            columns[index] = interleave(&[old.column(index).as_ref(), rows.column(index).as_ref()], &origins)?;
        }
        RecordBatch::try_new(schema, columns)
    }
}

/// Rows without a null in the key.
fn has_key(rows: &RecordBatch, key: &[String]) -> Result<BooleanArray, arrow::error::ArrowError> {
    let mut all = BooleanArray::from(vec![true; rows.num_rows()]);
    for column in key {
        let column = rows.column(rows.schema().index_of(column)?);
        all = arrow::compute::and(&all, &is_not_null(column)?)?;
    }
    Ok(all)
}
