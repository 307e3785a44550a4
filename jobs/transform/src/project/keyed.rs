//! Configuration of models that are kept by key, of the audit, and of what a changed model comes to.

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

use super::config::{ModelConfig, Storage, Strategy};
use super::yaml::{Data, Node, Reader};
use crate::error::codes;

/// Output column -> column of the input that holds the same value.
pub type KeyColumns = IndexMap<String, String>;

/// How an incremental model is kept by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeping {
    /// dbt's `merge`, `delete+insert` and `insert_overwrite`: the incremental SQL says which rows come, the key which go.
    Upsert,
    /// The SQL gives events; of each key the latest is kept, unless it is a deletion.
    Latest,
    /// The SQL is a function of its inputs; rows are computed again for the keys that changed rows of the inputs touch.
    Touched,
    /// The SQL groups; partial states of touched groups are merged.
    Aggregate,
}

/// What happens when a model's SQL is another than that of the table's last build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSqlChange {
    /// The table is rebuilt.
    #[default]
    Rebuild,
    /// The build of the model fails; `--full-refresh` is the way on.
    Fail,
    /// Rows that are there stay, new ones follow the new SQL: what dbt does.
    Ignore,
}

/// The part of a model's configuration that speaks of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyedConfig {
    /// By input: which output rows a changed row of it touches. An input with several entries touches by each of them.
    #[serde(serialize_with = "in_order")]
    pub touched_by: IndexMap<String, Vec<KeyColumns>>,
    /// Output columns whose greatest values, in this order, make an event the latest of its key; nulls are least.
    pub latest_by: Vec<String>,
    /// Boolean output column: the event deletes its key.
    pub deleted: Option<String>,
    /// A deleted key never comes back, whatever arrives later.
    pub deletion_is_final: bool,
    /// dbt's `merge_update_columns`: what a match overwrites; everything when empty.
    pub merge_update_columns: Vec<String>,
    /// dbt's `merge_exclude_columns`: what a match leaves alone.
    pub merge_exclude_columns: Vec<String>,
    /// Columns whose values are replaced as a whole, for `insert_overwrite`.
    pub partition_by: Vec<String>,
}

fn in_order<S: Serializer>(map: &IndexMap<String, Vec<KeyColumns>>, serializer: S) -> Result<S::Ok, S::Error> {
    let entries = map.iter().map(|(input, keys)| (input, keys.iter().map(pairs).collect::<Vec<_>>()));
    serializer.collect_map(entries)
}

fn pairs(columns: &KeyColumns) -> Vec<(&String, &String)> {
    columns.iter().collect()
}

impl ModelConfig {
    /// How the model is kept by key; `None` when it is not.
    #[must_use]
    pub fn keeping(&self) -> Option<Keeping> {
        let Storage::Incremental(strategy) = self.storage() else { return None };
        match strategy {
            Strategy::Aggregate => Some(Keeping::Aggregate),
            Strategy::Merge if !self.keyed.touched_by.is_empty() => Some(Keeping::Touched),
            Strategy::Merge if !self.keyed.latest_by.is_empty() || self.event_time.is_some() => Some(Keeping::Latest),
            Strategy::Merge | Strategy::DeleteInsert | Strategy::InsertOverwrite => Some(Keeping::Upsert),
            Strategy::Append | Strategy::Microbatch => None,
        }
    }

    /// The columns by which rows of the table lie together: those that touch first, then the key.
    #[must_use]
    pub fn cluster_columns(&self) -> Vec<String> {
        let touching = self.keyed.touched_by.values().flatten().next();
        let mut columns: Vec<String> = touching.into_iter().flat_map(KeyColumns::keys).cloned().collect();
        columns.extend(self.keyed.partition_by.iter().cloned());
        for column in &self.unique_key {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        columns
    }
}

/// Keys of configuration that this file reads.
pub(super) const KEYED_KEYS: [&str; 9] = [
    "touched_by",
    "latest_by",
    "deleted",
    "deletion",
    "merge_update_columns",
    "merge_exclude_columns",
    "partition_by",
    "on_sql_change",
    "audit",
];

/// Fills `config` from those keys of `node`.
pub(super) fn read_keyed(reader: &mut Reader, node: &Node, config: &mut ModelConfig) {
    if let Some(value) = node.get("touched_by") {
        config.keyed.touched_by = read_touched_by(reader, value);
    }
    let mut texts = |key: &str, into: &mut Vec<String>| {
        if let Some(found) = node.get(key).and_then(|value| reader.texts(value, key)) {
            *into = found;
        }
    };
    texts("latest_by", &mut config.keyed.latest_by);
    texts("merge_update_columns", &mut config.keyed.merge_update_columns);
    texts("merge_exclude_columns", &mut config.keyed.merge_exclude_columns);
    if config.incremental_strategy == Strategy::InsertOverwrite {
        // BigQuery's form names the column with its type: `{field: day, data_type: date}`.
        match node.get("partition_by").and_then(|mapping| mapping.get("field")) {
            Some(field) => config.keyed.partition_by.extend(reader.text(field, "partition_by")),
            None => texts("partition_by", &mut config.keyed.partition_by),
        }
    }
    if let Some(value) = node.get("deleted") {
        config.keyed.deleted = reader.text(value, "deleted");
    }
    if let Some(value) = node.get("deletion") {
        let words = [("final", true), ("latest", false)];
        config.keyed.deletion_is_final = reader.word(value, "deletion", &words).unwrap_or_default();
    }
    if let Some(value) = node.get("on_sql_change") {
        let words = [("rebuild", OnSqlChange::Rebuild), ("fail", OnSqlChange::Fail), ("ignore", OnSqlChange::Ignore)];
        config.on_sql_change = reader.word(value, "on_sql_change", &words);
    }
    if let Some(value) = node.get("audit") {
        let words = [("before", true), ("after", false)];
        config.audit_before = reader.word(value, "audit", &words).unwrap_or_default();
    }
}

/// `touched_by: {input: {output_column: input_column}}`; an input may have a list of such mappings, a mapping of equal names
/// may be a list of columns or one column.
fn read_touched_by(reader: &mut Reader, node: &Node) -> IndexMap<String, Vec<KeyColumns>> {
    let mut touched_by = IndexMap::new();
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(node, "touched_by", "mapping of inputs");
        return touched_by;
    }
    for entry in node.entries() {
        let keys = match &entry.value.data {
            Data::List(items) if items.iter().any(|item| matches!(item.data, Data::Map(_))) => {
                items.iter().filter_map(|item| read_columns(reader, item)).collect()
            }
            _ => read_columns(reader, &entry.value).into_iter().collect(),
        };
        touched_by.insert(entry.key.clone(), keys);
    }
    touched_by
}

fn read_columns(reader: &mut Reader, node: &Node) -> Option<KeyColumns> {
    let columns: KeyColumns = match &node.data {
        Data::Map(entries) => entries
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), reader.text(&entry.value, "touched_by")?)))
            .collect(),
        _ => reader.texts(node, "touched_by")?.into_iter().map(|column| (column.clone(), column)).collect(),
    };
    if columns.is_empty() {
        reader.fault(&node.place, codes::MISSING_KEY, "list is empty, in=`touched_by`");
        return None;
    }
    Some(columns)
}
