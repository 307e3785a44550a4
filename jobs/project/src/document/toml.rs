//! TOML as a tree of [`Node`]s.

use std::path::Path;

use toml_edit::{Document, Item, Table, TableLike, Value};

use super::{Data, Key, Node, Place, ScalarKind, codes};
use crate::error::{Fault, Location};

/// Parses a TOML file.
///
/// # Errors
/// The first break of the grammar. Its text never quotes the line, which may hold a password.
pub(crate) fn parse_toml(file: &Path, text: &str) -> Result<Node, Fault> {
    let lines = Lines::new(text);
    let document = Document::parse(text).map_err(|error| {
        let place = error.span().map(|span| lines.place(span.start)).unwrap_or_default();
        Fault::new(format!("file is not valid TOML: {}", error.message().replace('\n', ", ")))
            .code(codes::SYNTAX)
            .at(Location::new(file, place.line, place.column))
    })?;
    Ok(lines.table_node(document.as_table(), Place { line: 1, column: 1 }))
}

struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, offset_bytes: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset_bytes);
        let before = self.text.get(self.starts[line - 1]..offset_bytes).unwrap_or_default();
        Place { line, column: before.chars().count() + 1 }
    }

    fn table_node(&self, table: &Table, fallback: Place) -> Node {
        let place = table.span().map_or(fallback, |span| self.place(span.start));
        Node { place, data: Data::Map(self.entries(table)) }
    }

    fn entries(&self, table: &dyn TableLike) -> Vec<(Key, Node)> {
        table
            .iter()
            .filter(|(_, item)| !item.is_none())
            .map(|(name, item)| {
                let span = table.get_key_value(name).and_then(|(key, _)| key.span());
                let place = span.map(|span| self.place(span.start)).unwrap_or_default();
                (Key { name: name.to_owned(), place }, self.item_node(item, place))
            })
            .collect()
    }

    fn item_node(&self, item: &Item, fallback: Place) -> Node {
        match item {
            Item::None => Node::scalar(fallback, ScalarKind::Null, ""),
            Item::Value(value) => self.value_node(value, fallback),
            Item::Table(table) => self.table_node(table, fallback),
            Item::ArrayOfTables(tables) => {
                let items = tables.iter().map(|table| self.table_node(table, fallback)).collect();
                Node { place: fallback, data: Data::List(items) }
            }
        }
    }

    fn value_node(&self, value: &Value, fallback: Place) -> Node {
        let place = value.span().map_or(fallback, |span| self.place(span.start));
        match value {
            Value::String(text) => Node::scalar(place, ScalarKind::Text, text.value()),
            Value::Integer(number) => Node::scalar(place, ScalarKind::Integer, number.value().to_string()),
            Value::Float(number) => Node::scalar(place, ScalarKind::Float, number.value().to_string()),
            Value::Boolean(flag) => Node::scalar(place, ScalarKind::Bool, flag.value().to_string()),
            Value::Datetime(time) => Node::scalar(place, ScalarKind::Text, time.value().to_string()),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.value_node(item, place)).collect();
                Node { place, data: Data::List(items) }
            }
            Value::InlineTable(table) => Node { place, data: Data::Map(self.entries(table)) },
        }
    }
}
