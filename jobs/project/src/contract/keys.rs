//! The rules that find a record's idempotency key.

use super::table::unknown_column;
use super::{ColumnType, ContractColumn, KeyRule};
use crate::config::contract_keys;
use crate::document::{Data, Node, Place, Reader, codes};

/// Words for the coordinates of a record.
const COORDINATES: [&str; 2] = ["coordinates", "topic_partition_offset"];

/// A rule and the places of the columns it names.
pub(super) struct KeyDeclaration {
    pub(super) rule: KeyRule,
    place: Place,
    columns: Vec<(String, Place)>,
}

impl KeyDeclaration {
    /// The rule of a source that declares none.
    pub(super) fn coordinates() -> Self {
        Self { rule: KeyRule::Coordinates, place: Place::default(), columns: Vec::new() }
    }

    fn field(column: String, place: Place) -> Self {
        Self { rule: KeyRule::Field(column.clone()), place, columns: vec![(column, place)] }
    }

    /// Whether every record gets a key by this rule.
    fn always_yields(&self) -> bool {
        matches!(self.rule, KeyRule::Hash(_) | KeyRule::Coordinates)
    }
}

/// The column that every record needs because no other rule gives it a key: the one of a field rule that stands last.
pub(super) fn indispensable_column(key: &[KeyDeclaration]) -> Option<&str> {
    match key.last().map(|declaration| &declaration.rule) {
        Some(KeyRule::Field(column)) => Some(column),
        _ => None,
    }
}

/// Reads the rules, in order. A column alone is a field, a list of columns a hash; a list with anything else in it is a
/// list of rules.
pub(super) fn read_key(reader: &mut Reader<'_>, node: &Node) -> Vec<KeyDeclaration> {
    let Data::List(items) = &node.data else { return read_rule(reader, node).into_iter().collect() };
    let is_column = |item: &Node| item.text().is_some_and(|text| !COORDINATES.contains(&text));
    if items.is_empty() {
        reader.bad_value("idempotency_key", node, "name a column, or leave the key out for coordinates");
        return Vec::new();
    }
    let key: Vec<KeyDeclaration> = if items.iter().all(is_column) {
        read_columns_rule(reader, node).into_iter().collect()
    } else {
        items.iter().filter_map(|item| read_rule(reader, item)).collect()
    };
    for pair in key.windows(2) {
        if pair[0].always_yields() {
            reader.fault_hint(
                pair[1].place,
                codes::CONTRADICTION,
                "key rule is never reached, key=`idempotency_key`",
                "the rule before it gives every record a key; put it last",
            );
        }
    }
    key
}

fn read_rule(reader: &mut Reader<'_>, node: &Node) -> Option<KeyDeclaration> {
    match &node.data {
        Data::List(_) => read_columns_rule(reader, node),
        Data::Map(entries) => {
            reader.section("idempotency_key", node, &contract_keys("idempotency_key"))?;
            let [(key, value)] = entries.as_slice() else {
                reader.fault_hint(
                    node.place,
                    codes::CONTRADICTION,
                    "key rule needs exactly one key, key=`idempotency_key`",
                    "write a list of rules: [{field: event_id}, {hash: [user_id, created_at]}]",
                );
                return None;
            };
            match key.name.as_str() {
                "field" => reader.text("field", value).map(|column| KeyDeclaration::field(column, value.place)),
                "header" => reader.text("header", value).map(|header| KeyDeclaration {
                    rule: KeyRule::Header(header),
                    place: value.place,
                    columns: Vec::new(),
                }),
                "hash" => read_hash(reader, value),
                "coordinates" => reader
                    .flag("coordinates", value)
                    .map(|_| KeyDeclaration { place: value.place, ..KeyDeclaration::coordinates() }),
                _ => None,
            }
        }
        _ => {
            let text = reader.text("idempotency_key", node)?;
            if COORDINATES.contains(&text.as_str()) {
                Some(KeyDeclaration { place: node.place, ..KeyDeclaration::coordinates() })
            } else {
                Some(KeyDeclaration::field(text, node.place))
            }
        }
    }
}

fn read_columns_rule(reader: &mut Reader<'_>, node: &Node) -> Option<KeyDeclaration> {
    match node.items() {
        [only] => reader.text("idempotency_key", only).map(|column| KeyDeclaration::field(column, only.place)),
        _ => read_hash(reader, node),
    }
}

fn read_hash(reader: &mut Reader<'_>, node: &Node) -> Option<KeyDeclaration> {
    let items = match &node.data {
        Data::List(items) if !items.is_empty() => items.as_slice(),
        Data::Scalar(_) => std::slice::from_ref(node),
        _ => {
            reader.wrong_type("hash", node, "list of columns");
            return None;
        }
    };
    let columns: Option<Vec<_>> =
        items.iter().map(|item| reader.text("hash", item).map(|column| (column, item.place))).collect();
    let columns = columns?;
    let rule = KeyRule::Hash(columns.iter().map(|(column, _)| column.clone()).collect());
    Some(KeyDeclaration { rule, place: node.place, columns })
}

/// Checks that the rules' columns exist, have one spelling for one value, and are there when no other rule helps.
pub(super) fn check_key(reader: &mut Reader<'_>, key: &[KeyDeclaration], columns: &[ContractColumn]) {
    for declaration in key {
        for (name, place) in &declaration.columns {
            let Some(column) = columns.iter().find(|column| &column.name == name) else {
                unknown_column(reader, *place, "idempotency_key", name, columns);
                continue;
            };
            let fits = match declaration.rule {
                KeyRule::Field(_) => matches!(column.data_type, ColumnType::Text | ColumnType::BigInt),
                _ => !matches!(
                    column.data_type,
                    ColumnType::Double | ColumnType::Json | ColumnType::Struct(_) | ColumnType::List(_)
                ),
            };
            if !fits {
                reader.fault_hint(
                    *place,
                    codes::WRONG_TYPE,
                    format!("column cannot be part of a key, key=`idempotency_key`, column=`{name}`"),
                    "one value has several spellings in this type; a field is text or bigint, a hash takes times, dates, \
                     booleans and decimals too",
                );
            }
        }
    }
    if let Some((name, place)) =
        key.last().filter(|_| indispensable_column(key).is_some()).and_then(|k| k.columns.first())
        && let Some(column) = columns.iter().find(|column| &column.name == name)
        && (!column.required || column.on_missing.is_some())
    {
        reader.fault_hint(
            *place,
            codes::CONTRADICTION,
            format!("records without this column have no key, key=`idempotency_key`, column=`{name}`"),
            format!("leave it required, or add a rule: [{{field: {name}}}, coordinates]"),
        );
    }
}
