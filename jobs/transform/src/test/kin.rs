//! Which files of a table may hold a row of the same key as one of some files.
//!
//! The answer comes from the log alone: from the batch that a file belongs to, where the key holds the model's event time, and
//! from the least and greatest values of each column of the key. It may name a file too many, never one too few.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use tidemill_lake::{DataFile, Table};

use crate::plan::BATCH_COLUMN;

/// A table as a test finds it: at its version, or as a commit in the making would leave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The table at its version.
    pub table: &'a Table,
    /// Files that the commit would add.
    pub add: &'a [DataFile],
    /// Files that it would take away.
    pub remove: &'a [DataFile],
}

impl Subject<'_> {
    /// Files that came since a version and are there; `None` when the log does not say, or says that columns changed.
    ///
    /// Files of maintenance count: they hold rows of files that came since and are gone.
    pub(super) async fn fresh(&self, since: tidemill_project::TableVersion) -> Option<Vec<DataFile>> {
        if since > self.table.version() {
            return None;
        }
        let commits = self.table.commits(Some(since), self.table.version()).await.ok()?;
        if commits.iter().any(|commit| commit.changes_schema) {
            return None;
        }
        let goes = self.removed();
        let came: BTreeSet<String> = commits.into_iter().flat_map(|commit| commit.add).map(|file| file.path).collect();
        let stays = came.iter().filter(|path| !goes.contains(path.as_str()));
        let fresh = stays.filter_map(|path| self.table.live_file(path)).map(|file| file.data_file());
        Some(fresh.chain(self.add.iter().cloned()).collect())
    }

    /// The files beside `fresh` that may hold a row that shares the values of all `columns` with a row of `fresh`; null equals
    /// null. `event_time` is the column that decides in which batch a row of the table lies, if one does.
    pub(super) fn kin_of(&self, fresh: &[DataFile], columns: &[String], event_time: Option<&str>) -> Vec<DataFile> {
        let known: BTreeSet<&str> = fresh.iter().map(|file| file.path.as_str()).collect();
        let goes = self.removed();
        let is_batched = self.table.partition_columns().iter().any(|column| column == BATCH_COLUMN);
        let is_by_batch = is_batched && event_time.is_some_and(|time| columns.iter().any(|column| column == time));
        let batch = |file: &DataFile| file.partition_values.get(BATCH_COLUMN).cloned().flatten();
        let batches: BTreeSet<Option<String>> = fresh.iter().map(batch).collect();
        let schema = self.table.schema();
        let ranges: Vec<KeyRange> = fresh.iter().map(|file| KeyRange::of(file, columns, &schema)).collect();
        self.table
            .live_files()
            .filter(|file| !known.contains(file.path()) && !goes.contains(file.path()))
            .filter(|file| !is_by_batch || batches.contains(&file.partition_value(BATCH_COLUMN).map(str::to_owned)))
            .map(|file| file.data_file())
            .filter(|file| {
                let range = KeyRange::of(file, columns, &schema);
                ranges.iter().any(|fresh| fresh.may_share(&range))
            })
            .collect()
    }

    fn removed(&self) -> BTreeSet<&str> {
        self.remove.iter().map(|file| file.path.as_str()).collect()
    }
}

/// What the log says of the keys of one file, column by column.
struct KeyRange(Vec<ColumnRange>);

struct ColumnRange {
    /// Least and greatest value; `None` when the log does not say.
    bounds: Option<(ScalarValue, ScalarValue)>,
    may_be_null: bool,
}

impl KeyRange {
    fn of(file: &DataFile, columns: &[String], schema: &SchemaRef) -> Self {
        let range = |column: &String| {
            let data_type = schema.field_with_name(column).ok().map(arrow::datatypes::Field::data_type);
            // Not a number is equal to itself in a key, and outside of all bounds.
            let ordered = data_type.filter(|data_type| !matches!(data_type, DataType::Float32 | DataType::Float64));
            ColumnRange {
                bounds: ordered.and_then(|data_type| file.bounds(column, data_type)),
                may_be_null: file.stats.get(column).and_then(|stats| stats.null_count) != Some(0),
            }
        };
        Self(columns.iter().map(range).collect())
    }

    fn may_share(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(ours, theirs)| ours.may_share(theirs))
    }
}

impl ColumnRange {
    fn may_share(&self, other: &Self) -> bool {
        let (Some((least, greatest)), Some((other_least, other_greatest))) = (&self.bounds, &other.bounds) else {
            return true;
        };
        // Values that cannot be compared may be equal.
        let is_less = |left: &ScalarValue, right: &ScalarValue| left.partial_cmp(right) == Some(Ordering::Less);
        let are_apart = is_less(greatest, other_least) || is_less(other_greatest, least);
        !are_apart || (self.may_be_null && other.may_be_null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(bounds: Option<(i64, i64)>, may_be_null: bool) -> ColumnRange {
        let bounds = bounds.map(|(min, max)| (ScalarValue::Int64(Some(min)), ScalarValue::Int64(Some(max))));
        ColumnRange { bounds, may_be_null }
    }

    #[test]
    fn ranges_share_a_value_where_they_touch_where_both_hold_null_and_where_nothing_is_known() {
        let known = |min, max| range(Some((min, max)), false);
        let nullable = |min, max| range(Some((min, max)), true);
        assert!(known(1, 5).may_share(&known(5, 9)));
        assert!(!known(1, 4).may_share(&known(5, 9)));
        assert!(!known(5, 9).may_share(&nullable(1, 4)));
        assert!(nullable(5, 9).may_share(&nullable(1, 4)));
        assert!(range(None, false).may_share(&known(5, 9)));
    }

    #[test]
    fn a_key_is_shared_when_each_of_its_columns_may_be() {
        let key = |ranges: [(i64, i64); 2]| KeyRange(ranges.map(|bounds| range(Some(bounds), false)).into());
        assert!(key([(1, 5), (1, 5)]).may_share(&key([(5, 6), (3, 4)])));
        assert!(!key([(1, 5), (1, 5)]).may_share(&key([(5, 6), (6, 7)])));
    }
}
