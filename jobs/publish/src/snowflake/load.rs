//! One target's load: everything that its statements are rendered from.

use super::SnowflakeError;
use super::names::{Names, quoted};
use super::types::{ColumnType, column_type};
use crate::diff::ChangeSet;
use crate::{Strategy, TargetTable};

/// A column under its three names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoadColumn {
    /// In files and staging tables: `C000`. Generated, so that COPY meets no identifier of the user's.
    pub(super) staged: String,
    /// In the target, quoted.
    pub(super) target: String,
    /// In the target, as `INFORMATION_SCHEMA` spells it.
    pub(super) name: String,
    /// How it travels.
    pub(super) column_type: ColumnType,
}

/// What is loaded into one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) names: Names,
    pub(super) columns: Vec<LoadColumn>,
    /// Indexes of the key's columns.
    pub(super) key: Vec<usize>,
    pub(super) strategy: Strategy,
    /// Whether everything is staged and rows that are not must go.
    pub(super) full: bool,
    /// The publication's number: `N` in SNOWFLAKE.md.
    pub(super) seq: u64,
}

impl Load {
    pub(super) fn new(changes: &ChangeSet) -> Result<Self, SnowflakeError> {
        let publication = changes.publication();
        Ok(Self {
            names: Names::new(publication.table()),
            columns: columns(changes, publication.table())?,
            key: changes.shape().key.clone(),
            strategy: publication.strategy,
            full: changes.is_full(),
            seq: changes.next_position().seq,
        })
    }

    /// Whether the load replaces rows by place (all, or by batch) instead of by key.
    pub(super) fn replaces(&self) -> bool {
        self.strategy == Strategy::ReplaceBatches || (self.full && self.key.is_empty())
    }
}

fn columns(changes: &ChangeSet, target: &TargetTable) -> Result<Vec<LoadColumn>, SnowflakeError> {
    let json = &changes.shape().json;
    let fields = changes.schema().fields().iter().enumerate();
    fields
        .map(|(index, field)| {
            let column_type =
                column_type(field.data_type(), json.contains(&index)).ok_or_else(|| SnowflakeError::Type {
                    target: target.to_string(),
                    column: field.name().clone(),
                    data_type: field.data_type().to_string(),
                })?;
            Ok(LoadColumn {
                staged: format!("C{index:03}"),
                target: quoted(field.name()),
                name: field.name().to_uppercase(),
                column_type,
            })
        })
        .collect()
}
