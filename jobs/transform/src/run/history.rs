//! Snapshots: what was, beside what is.
//!
//! A run compares the query's rows with those of the history that are valid now, by key:
//!
//! | the row | what happens |
//! | --- | --- |
//! | is new, or its key had gone | it is added, valid from its time of change |
//! | has changed | the old row ends where the new one begins |
//! | is the same | nothing |
//! | is no longer there | by `hard_deletes`: nothing, the old row ends now, or a row that says so follows it |
//!
//! The result is the whole history, so that writing it is like writing any table: equal rows leave its files alone, and a run
//! that is killed leaves the old version.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::TableReference;
use datafusion::prelude::{DataFrame, SessionContext};
use tidemill_lake::Table;
use tidemill_project::Location;

use super::ask::type_name;
use super::session::{beside, provider_of, register};
use super::{BuildFault, Result};
use crate::project::{HardDeletes, Model, NodeId, SnapshotConfig, SnapshotStrategy};
use crate::render::quote;

/// The rows of a snapshot's table after this run: `current` is what its query gives, `own` what its table holds.
pub(super) async fn frame(
    base: &SessionContext,
    model: &Model,
    current: DataFrame,
    own: Option<&Table>,
    now_us: i64,
) -> Result<DataFrame> {
    let node = NodeId::Model(model.name.clone());
    let location = Location::new(&model.path, 1, 1);
    let Some(config) = &model.config.snapshot else { return Err(BuildFault::UnknownNode { node }) };
    let context = beside(base);
    let fault = |error| BuildFault::plan(&node, Some(location.clone()))(error);
    let schema = current.schema().as_arrow().clone();
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    register(&context, &TableReference::partial("history", "fresh"), current.into_view()).map_err(fault)?;
    let writer = Writer { config, key: &model.config.unique_key, columns: &columns, now_us };
    let sql = match own {
        Some(own) if !own.files().is_empty() => {
            let provider = provider_of(&context, own, None)?;
            let kept = provider.schema();
            register(&context, &TableReference::partial("history", "kept"), provider).map_err(fault)?;
            writer.continued(&kept)
        }
        _ => writer.first(),
    };
    crate::sql::plan(&context, &sql).await.map_err(fault)
}

/// The columns that a snapshot has beside those of its query, for readers that plan before it was built.
pub(super) fn with_history_columns(schema: &Schema, config: &SnapshotConfig) -> Schema {
    let instant = arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(name(config, "dbt_scd_id"), arrow::datatypes::DataType::Utf8, true));
    for column in ["dbt_updated_at", "dbt_valid_from", "dbt_valid_to"] {
        fields.push(Field::new(name(config, column), instant.clone(), true));
    }
    if config.hard_deletes == HardDeletes::NewRecord {
        fields.push(Field::new(name(config, "dbt_is_deleted"), arrow::datatypes::DataType::Utf8, true));
    }
    Schema::new(fields)
}

fn name<'a>(config: &'a SnapshotConfig, column: &'a str) -> &'a str {
    config.column_names.get(column).map_or(column, String::as_str)
}

struct Writer<'a> {
    config: &'a SnapshotConfig,
    key: &'a [String],
    columns: &'a [String],
    now_us: i64,
}

impl Writer<'_> {
    fn meta(&self, column: &str) -> String {
        quote(name(self.config, column))
    }

    fn now(&self) -> String {
        format!("arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))')", self.now_us)
    }

    fn marks_deletes(&self) -> bool {
        self.config.hard_deletes == HardDeletes::NewRecord
    }

    /// The row's time of change.
    fn changed_at(&self) -> String {
        match &self.config.strategy {
            SnapshotStrategy::Timestamp { updated_at } => updated_at.clone(),
            SnapshotStrategy::Check { updated_at, .. } => updated_at.clone().unwrap_or_else(|| self.now()),
        }
    }

    /// The fresh rows with their key, their time of change and that they are there.
    fn fresh(&self) -> String {
        format!(
            "select *, {}, {} as __changed_at, true as __is_there from history.fresh",
            self.keys(),
            self.changed_at()
        )
    }

    fn keys(&self) -> String {
        let keys: Vec<String> =
            self.key.iter().enumerate().map(|(index, key)| format!("{key} as __key_{index}")).collect();
        keys.join(", ")
    }

    fn same_key(&self, left: &str, right: &str) -> String {
        let keys: Vec<String> =
            (0..self.key.len()).map(|index| format!("{left}.__key_{index} = {right}.__key_{index}")).collect();
        keys.join(" and ")
    }

    /// MD5 over the key and the time of change, as dbt has it.
    fn row_id(&self, table: &str, at: &str) -> String {
        let mut parts: Vec<String> =
            (0..self.key.len()).map(|index| format!("coalesce(cast({table}.__key_{index} as varchar), '')")).collect();
        parts.push(format!("coalesce(cast({at} as varchar), '')"));
        format!("md5({})", parts.join(" || '|' || "))
    }

    /// What stands in `dbt_valid_to` of a row that is valid now, of the type of `like`.
    fn open_end(&self, like: &str) -> String {
        match &self.config.valid_to_current {
            Some(end) => format!("coalesce(nullif({like}, {like}), {end})"),
            None => format!("nullif({like}, {like})"),
        }
    }

    fn new_rows(&self, columns: &str, from: &str) -> String {
        let deleted =
            if self.marks_deletes() { format!(", 'False' as {}", self.meta("dbt_is_deleted")) } else { String::new() };
        format!(
            "select {columns}, {id} as {scd}, c.__changed_at as {updated}, c.__changed_at as {valid_from}, {end} as {valid_to}{deleted} {from}",
            id = self.row_id("c", "c.__changed_at"),
            scd = self.meta("dbt_scd_id"),
            updated = self.meta("dbt_updated_at"),
            valid_from = self.meta("dbt_valid_from"),
            end = self.open_end("c.__changed_at"),
            valid_to = self.meta("dbt_valid_to"),
        )
    }

    fn first(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!("c.{}", quote(column))).collect();
        format!("with c as ({}) {}", self.fresh(), self.new_rows(&columns.join(", "), "from c"))
    }

    fn continued(&self, kept: &Arc<Schema>) -> String {
        let meta = ["dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to", "dbt_is_deleted"];
        let is_meta = |column: &str| meta.iter().any(|known| name(self.config, known) == column);
        let gone = kept
            .fields()
            .iter()
            .map(|field| field.name())
            .filter(|column| !self.columns.contains(column) && !is_meta(column));
        let all: Vec<&String> = self.columns.iter().chain(gone).collect();
        let of = |table: &str, has: &dyn Fn(&str) -> bool| {
            let columns: Vec<String> = all
                .iter()
                .map(|column| {
                    if has(column) {
                        format!("{table}.{0} as {0}", quote(column))
                    } else {
                        format!("null as {}", quote(column))
                    }
                })
                .collect();
            columns.join(", ")
        };
        let fresh_columns = of("c", &|column| self.columns.iter().any(|known| known == column));
        let kept_columns = |table: &str| of(table, &|column| kept.field_with_name(column).is_ok());
        let valid_to = self.meta("dbt_valid_to");
        let is_open = match &self.config.valid_to_current {
            Some(end) => format!("({valid_to} is null or {valid_to} = {end})"),
            None => format!("{valid_to} is null"),
        };
        let had_marks = kept.field_with_name(name(self.config, "dbt_is_deleted")).is_ok();
        let was_deleted = |table: &str| {
            if had_marks {
                format!("coalesce({table}.{} = 'True', false)", self.meta("dbt_is_deleted"))
            } else {
                "false".to_owned()
            }
        };
        let instant = |name: &str| {
            kept.field_with_name(name).map_or_else(|_| "timestamptz".to_owned(), |field| type_name(field.data_type()))
        };
        let time_type = instant(name(self.config, "dbt_valid_from"));
        let now = format!("cast({} as {time_type})", self.now());
        let changed = format!("({} or {})", self.differs(kept), was_deleted("h"));
        let ends = match self.config.hard_deletes {
            HardDeletes::Ignore => String::new(),
            HardDeletes::Invalidate | HardDeletes::NewRecord => {
                format!(" when h.__is_open and c.__is_there is null and not {} then {now}", was_deleted("h"))
            }
        };
        let deleted_kept = match (self.marks_deletes(), had_marks) {
            (true, true) => format!(", h.{0} as {0}", self.meta("dbt_is_deleted")),
            (true, false) => format!(", 'False' as {}", self.meta("dbt_is_deleted")),
            (false, _) => String::new(),
        };
        let mut sql = format!(
            "with c as ({fresh}), h as (select *, {keys}, {is_open} as __is_open from history.kept)
            select {kept_all}, h.{scd} as {scd}, h.{updated} as {updated}, h.{valid_from} as {valid_from},
                case when h.__is_open and c.__is_there and {changed} then cast(c.__changed_at as {time_type}){ends} else h.{valid_to} end as {valid_to}{deleted_kept}
            from h left join c on {same}
            union all
            {new_rows}",
            fresh = self.fresh(),
            keys = self.keys(),
            kept_all = kept_columns("h"),
            scd = self.meta("dbt_scd_id"),
            updated = self.meta("dbt_updated_at"),
            valid_from = self.meta("dbt_valid_from"),
            same = self.same_key("h", "c"),
            new_rows = self.new_rows(
                &fresh_columns,
                &format!(
                    "from c left join (select * from h where __is_open) as h on {} where h.__is_open is null or {changed}",
                    self.same_key("h", "c")
                ),
            ),
        );
        if self.marks_deletes() {
            sql.push_str(&format!(
                " union all select {kept_all}, {id} as {scd}, {now} as {updated}, {now} as {valid_from}, {end} as {valid_to}, 'True' as {deleted}
                from (select * from h where __is_open) as h left join c on {same} where c.__is_there is null and not {was_deleted}",
                kept_all = kept_columns("h"),
                id = self.row_id("h", &now),
                scd = self.meta("dbt_scd_id"),
                updated = self.meta("dbt_updated_at"),
                valid_from = self.meta("dbt_valid_from"),
                end = self.open_end(&now),
                deleted = self.meta("dbt_is_deleted"),
                same = self.same_key("h", "c"),
                was_deleted = was_deleted("h"),
            ));
        }
        sql
    }

    /// Whether the row has changed, of `h` joined with `c`.
    fn differs(&self, kept: &Arc<Schema>) -> String {
        match &self.config.strategy {
            SnapshotStrategy::Timestamp { .. } => format!("h.{} < c.__changed_at", self.meta("dbt_valid_from")),
            SnapshotStrategy::Check { columns, .. } => {
                let checked: Vec<String> = match columns {
                    Some(columns) => columns.clone(),
                    None => self.columns.to_vec(),
                };
                let compared: Vec<String> = checked
                    .iter()
                    .filter(|column| kept.field_with_name(column).is_ok())
                    .map(|column| format!("h.{0} is distinct from c.{0}", quote(column)))
                    .collect();
                // A column that the history lacks has changed for every row.
                if compared.len() < checked.len() { "true".to_owned() } else { format!("({})", compared.join(" or ")) }
            }
        }
    }
}
