//! The published shape of a model: which columns, under which names, with which key.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use tidemill_lake::Table;

use crate::error::Cause;
use crate::request::{BATCH_COLUMN, FINAL_COLUMN};
use crate::{Error, Publication, Result, Strategy};

/// Columns of a publication, resolved against the model's table.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Target names, the model's Arrow types, all nullable.
    pub schema: SchemaRef,
    /// Model columns, in the same order.
    pub(crate) model_columns: Vec<String>,
    /// Indexes of the key's columns in `schema`; empty when rows have no key.
    pub key: Vec<usize>,
    /// Indexes of the columns that hold JSON text.
    pub json: Vec<usize>,
    /// Partition columns that the target may keep: (name in the model, name in the target).
    pub(crate) partition_columns: Vec<(String, String)>,
    /// Columns at the end of `schema` that are no fields of messages: they name rows, or make the message's key.
    pub(crate) hidden: usize,
}

impl Shape {
    /// Resolves `publication` against `table`.
    ///
    /// # Errors
    /// Kind `Configuration` for a column that is not there, a merge without key, two columns of one name.
    pub(crate) fn resolve(publication: &Publication, table: &Table) -> Result<Self> {
        let known = table.schema();
        let is_left_out = |name: &str| {
            name == BATCH_COLUMN || (publication.messages.is_some() && name == FINAL_COLUMN)
        };
        let mut pairs: Vec<(String, String)> = match &publication.columns {
            Some(columns) => columns.clone(),
            None => known
                .fields()
                .iter()
                .filter(|field| !is_left_out(field.name()))
                .map(|field| (field.name().clone(), field.name().clone()))
                .collect(),
        };
        let num_fields = pairs.len();
        if let Some(messages) = &publication.messages {
            let pattern = messages.key_pattern(&publication.unique_key);
            for column in publication.unique_key.iter().map(String::as_str).chain(columns_of(&pattern)) {
                if pairs.iter().all(|(from, _)| from != column) {
                    pairs.push((column.to_owned(), format!("_key_{column}")));
                }
            }
        }
        let hidden = pairs.len() - num_fields;
        let fail = |cause| Error::new(cause).at(&publication.location);
        let model = || publication.model_name.clone();
        let mut fields = Vec::with_capacity(pairs.len());
        for (position, (from, to)) in pairs.iter().enumerate() {
            let Ok(field) = known.field_with_name(from) else {
                return Err(fail(Cause::NoColumn { model: model(), column: from.clone() }));
            };
            // Snowflake folds case, so two names that differ in case alone cannot stand side by side.
            if pairs[..position].iter().any(|(_, other)| other.eq_ignore_ascii_case(to)) {
                return Err(fail(Cause::SameName { model: model(), column: to.clone() }));
            }
            fields.push(Field::new(to, field.data_type().clone(), true));
        }
        let index_of = |column: &String| {
            pairs
                .iter()
                .position(|(from, _)| from == column)
                .ok_or_else(|| fail(Cause::NoColumn { model: model(), column: column.clone() }))
        };
        let key = publication.unique_key.iter().map(index_of).collect::<Result<Vec<_>>>()?;
        let json = publication.json_columns.iter().map(index_of).collect::<Result<Vec<_>>>()?;
        if key.is_empty() && publication.strategy == Strategy::Merge {
            return Err(fail(Cause::NoKey { model: model() }));
        }
        let partition_columns = table
            .partition_columns()
            .iter()
            .filter_map(|column| match pairs.iter().find(|(from, _)| from == column) {
                Some((from, to)) => Some((from.clone(), to.clone())),
                None if column == BATCH_COLUMN => Some((column.clone(), column.clone())),
                None => None,
            })
            .collect();
        let model_columns = pairs.into_iter().map(|(from, _)| from).collect();
        Ok(Self { schema: Arc::new(Schema::new(fields)), model_columns, key, json, partition_columns, hidden })
    }

    /// Names of the published columns in the target.
    pub(crate) fn target_columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }
}

/// The columns that a pattern such as `{user_id}/{night_date}` names.
pub(crate) fn columns_of(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(column, _)| column))
}
