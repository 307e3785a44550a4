//! Snapshots: blocks in SQL files, entries in YAML, and their configuration.

use std::collections::BTreeMap;

use super::config::{HardDeletes, SnapshotConfig, SnapshotStrategy};
use serde_json::Value as Json;

use super::yaml::{Data, Entry, Node, Place, Reader};
use crate::error::codes;

/// A `{% snapshot name %}` block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) name: String,
    /// What stands inside, behind as many line breaks as stand in front of it in the file.
    pub(super) sql: String,
    /// The line of the block's tag.
    pub(super) line: usize,
}

/// The blocks of a file, in its order.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize, usize)> = None;
    for tag in crate::render::tags(text) {
        match tag.word {
            "snapshot" => {
                let name =
                    tag.rest.split_whitespace().next().unwrap_or_default().trim_end_matches("%}").trim_end_matches('-');
                open = Some((name.to_owned(), tag.start, tag.end));
            }
            "endsnapshot" => {
                if let Some((name, start, end)) = open.take() {
                    let lines = text[..end].matches('\n').count();
                    let sql = format!("{}{}", "\n".repeat(lines), &text[end..tag.start]);
                    found.push(Block { name, sql, line: text[..start].matches('\n').count() + 1 });
                }
            }
            _ => {}
        }
    }
    found
}

/// The one config that says that it is a snapshot.
pub(super) fn materialized(place: &Place) -> Vec<Entry> {
    let value = Node { place: place.clone(), data: Data::Scalar(Json::String("snapshot".to_owned())) };
    vec![Entry { key: "materialized".to_owned(), key_place: place.clone(), value }]
}

/// Reads what tells changed rows from others; faults when the strategy lacks what it needs.
pub(super) fn snapshot_config(reader: &mut Reader, node: &Node) -> Option<SnapshotConfig> {
    let need = |reader: &mut Reader, key: &str| {
        if node.get(key).is_none() {
            reader.fault(&node.place, codes::MISSING_KEY, format!("a snapshot needs a key, key=`{key}`"));
        }
    };
    need(reader, "unique_key");
    need(reader, "strategy");
    let updated_at = node.get("updated_at").and_then(|value| reader.text(value, "updated_at"));
    let timestamp = reader.word(node.get("strategy")?, "strategy", &[("timestamp", true), ("check", false)])?;
    let strategy = if timestamp {
        need(reader, "updated_at");
        SnapshotStrategy::Timestamp { updated_at: updated_at? }
    } else {
        need(reader, "check_cols");
        let columns = node.get("check_cols")?;
        let columns = match &columns.data {
            Data::Scalar(_) if columns.scalar_text().as_deref() == Some("all") => None,
            _ => Some(reader.texts(columns, "check_cols")?),
        };
        SnapshotStrategy::Check { columns, updated_at }
    };
    let words = [
        ("ignore", HardDeletes::Ignore),
        ("invalidate", HardDeletes::Invalidate),
        ("new_record", HardDeletes::NewRecord),
    ];
    let mut hard_deletes =
        node.get("hard_deletes").and_then(|value| reader.word(value, "hard_deletes", &words)).unwrap_or_default();
    // The older form.
    if let Some(value) = node.get("invalidate_hard_deletes")
        && reader.boolean(value, "invalidate_hard_deletes") == Some(true)
    {
        hard_deletes = HardDeletes::Invalidate;
    }
    let mut column_names = BTreeMap::new();
    for entry in node.get("snapshot_meta_column_names").map(Node::entries).unwrap_or_default() {
        if let Some(name) = reader.text(&entry.value, &entry.key) {
            column_names.insert(entry.key.clone(), name);
        }
    }
    let valid_to_current =
        node.get("dbt_valid_to_current").and_then(|value| reader.text(value, "dbt_valid_to_current"));
    Some(SnapshotConfig { strategy, hard_deletes, valid_to_current, column_names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_lines() {
        let text =
            "{# c #}\n{% snapshot a %}\nselect 1\n{% endsnapshot %}\n{%- snapshot b -%} select 2 {%- endsnapshot -%}";
        let found = blocks(text);
        assert_eq!(found[0], Block { name: "a".to_owned(), sql: "\n\nselect 1\n".to_owned(), line: 2 });
        assert_eq!((found[1].name.as_str(), found[1].line, found[1].sql.trim()), ("b", 5, "select 2"));
        assert_eq!(found[1].sql.matches('\n').count(), 4);
    }
}
