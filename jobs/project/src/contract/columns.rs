//! The columns of one source table.

use super::keys::{KeyDeclaration, indispensable_column};
use super::parse::read_meta;
use super::table::{EventTimeDeclaration, UNITS, read_time_zone, unknown_column};
use super::types::{WORDS, parse_type};
use super::vars::resolve;
use super::{ColumnType, ContractColumn, PathsWhen, TextFormat, Vars};
use crate::config::contract_keys;
use crate::document::{Data, Node, Place, Reader, Section, codes, parse_instant};
use crate::error::nearest;

/// The names of the columns that Tidemill adds.
const RESERVED: [&str; 11] = [
    "_key",
    "_topic",
    "_partition",
    "_offset",
    "_timestamp",
    "_ingested_at",
    "_extra",
    "_batch",
    "event_at",
    "event_date",
    "event_hour",
];

const TEXT_FORMATS: [(&str, TextFormat); 3] =
    [("ip", TextFormat::Ip), ("uuid", TextFormat::Uuid), ("time_zone", TextFormat::TimeZone)];

/// What the table says about all of its columns.
pub(super) struct ColumnDefaults<'d> {
    pub(super) event_time: Option<&'d EventTimeDeclaration>,
    pub(super) key: &'d [KeyDeclaration],
    pub(super) on_missing: Option<String>,
}

/// Reads the columns, in order.
pub(super) fn read_columns(
    reader: &mut Reader<'_>,
    vars: &Vars,
    table: &Node,
    defaults: &ColumnDefaults<'_>,
) -> Vec<ContractColumn> {
    let Some(list) = table.get("columns") else {
        reader.missing(table.place, "columns", "a contract declares its columns with their data_type");
        return Vec::new();
    };
    if !matches!(list.data, Data::List(_)) {
        reader.wrong_type("columns", list, "list");
    }
    let mut columns: Vec<ContractColumn> = Vec::with_capacity(list.items().len());
    let mut conditions: Vec<Mention> = Vec::new();
    for node in list.items() {
        let Some(column) = read_column(reader, vars, node, defaults, &mut conditions) else { continue };
        // Readers of Delta tables do not tell names apart by case.
        if columns.iter().any(|known| known.name.eq_ignore_ascii_case(&column.name)) {
            reader.fault(node.place, codes::CONTRADICTION, format!("column is there twice, column=`{}`", column.name));
            continue;
        }
        columns.push(column);
    }
    for mention in conditions {
        check_mention(reader, &mention, &columns);
    }
    columns
}

/// A column's condition on another one.
struct Mention {
    place: Place,
    key: &'static str,
    column: String,
    other: String,
}

fn check_mention(reader: &mut Reader<'_>, mention: &Mention, columns: &[ContractColumn]) {
    let Mention { place, key, column, other } = mention;
    let index = |name: &str| columns.iter().position(|candidate| candidate.name == name);
    let Some(found) = index(other) else {
        unknown_column(reader, *place, key, other, columns);
        return;
    };
    if *key != "required_without" && columns[found].data_type != ColumnType::Text {
        let message = format!("condition needs a text column, key=`{key}`, column=`{other}`");
        reader.fault(*place, codes::WRONG_TYPE, message);
    }
    if *key == "from_when" && index(column).is_some_and(|own| own <= found) {
        let message = format!("column that decides stands behind, key=`{key}`, column=`{column}`, other=`{other}`");
        reader.fault_hint(*place, codes::CONTRADICTION, message, format!("list `{other}` before `{column}`"));
    }
}

/// What a column makes depend on other ones.
struct Conditions {
    required_when: Option<(String, Vec<String>)>,
    required_without: Option<String>,
    paths_when: Option<PathsWhen>,
}

/// Reads them, and notes which columns they mention.
fn read_conditions(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    column: &str,
    place: Place,
    mentions: &mut Vec<Mention>,
) -> Conditions {
    let required_when = section.get("required_when").and_then(|node| read_condition(reader, node));
    let required_without = section.get("required_without").and_then(|node| reader.text("required_without", node));
    let paths_when = section.get("from_when").and_then(|node| read_paths_when(reader, node));
    let others = [
        ("required_when", required_when.as_ref().map(|(other, _)| other)),
        ("required_without", required_without.as_ref()),
        ("from_when", paths_when.as_ref().map(|when| &when.column)),
    ];
    for (key, other) in others {
        let place = section.get(key).map_or(place, |node| node.place);
        mentions.extend(other.map(|other| Mention { place, key, column: column.to_owned(), other: other.clone() }));
    }
    Conditions { required_when, required_without, paths_when }
}

/// A column; its conditions on other ones are checked when all are known.
fn read_column(
    reader: &mut Reader<'_>,
    vars: &Vars,
    node: &Node,
    defaults: &ColumnDefaults<'_>,
    mentions: &mut Vec<Mention>,
) -> Option<ContractColumn> {
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type("columns[]", node, "table");
        return None;
    }
    let Some(name_node) = node.get("name") else {
        reader.missing(node.place, "columns[].name", "give the column a name");
        return None;
    };
    let name = reader.spelling("columns[].name", name_node)?;
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name)) {
        let hint = format!("take another name and read the field by its path: from: {name}");
        let message = format!("column name is reserved, column=`{name}`");
        reader.fault_hint(name_node.place, codes::CONTRADICTION, message, hint);
    }
    let empty = Node { place: node.place, data: Data::Map(Vec::new()) };
    let meta = read_meta(reader, vars, node).unwrap_or(empty);
    let section = reader.section("columns[].tidemill", &meta, &contract_keys("columns[]"))?;
    let event_time = defaults.event_time.filter(|event_time| event_time.column == name);
    let declared_type = read_data_type(reader, vars, node, &name);
    if let Some((data_type, _)) = &declared_type {
        check_fit(reader, section, &name, data_type);
    }
    // After a fault, a type that raises no further ones; nobody sees the contract.
    let stand_in = if event_time.is_some() { ColumnType::Timestamp } else { ColumnType::Text };
    let (data_type, implied_format) = declared_type.unwrap_or((stand_in, None));
    let must_be_there = event_time.is_some() || indispensable_column(defaults.key) == Some(name.as_str());
    let Conditions { required_when, required_without, paths_when } =
        read_conditions(reader, section, &name, node.place, mentions);
    let mut required = section.get("required").and_then(|node| reader.flag("required", node)).unwrap_or(must_be_there);
    if required && required_when.is_some() {
        let message = format!("column is required always and sometimes, column=`{name}`");
        reader.fault_hint(section.place(), codes::CONTRADICTION, message, "keep `required_when`");
        required = false;
    }
    let own_on_missing = section.get("on_missing").and_then(|node| read_on_missing(reader, node, &data_type));
    let is_conditional = required_when.is_some() || required_without.is_some();
    let takes_default = data_type == ColumnType::Text && !required && !is_conditional;
    let on_missing = own_on_missing.or_else(|| defaults.on_missing.clone().filter(|_| takes_default));
    let aliases = section.get("aliases").map(|node| read_aliases(reader, node)).unwrap_or_default();
    let accepted_values =
        section.get("accepted_values").and_then(|node| reader.texts("accepted_values", node)).unwrap_or_default();
    check_aliases(reader, section, &aliases, &accepted_values);
    let own_unit = section.get("unit").and_then(|node| reader.word("unit", node, &UNITS));
    let time_unit = match (own_unit, event_time.and_then(|event_time| event_time.unit)) {
        (Some(own), Some(other)) if own != other => {
            let message = format!("units contradict, key=`event_time.unit`, column=`{name}`");
            reader.fault_hint(section.place(), codes::CONTRADICTION, message, "declare the unit in one place");
            Some(own)
        }
        (own, other) => own.or(other),
    };
    let min = section.get("min").and_then(|node| reader.number("min", node));
    let max = section.get("max").and_then(|node| reader.number("max", node));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = format!("smallest value is above the greatest, column=`{name}`, min=`{min}`, max=`{max}`");
        reader.fault(section.place(), codes::CONTRADICTION, message);
    }

    let column = ContractColumn {
        description: node.get("description").and_then(Node::text).unwrap_or_default().trim().to_owned(),
        paths: match section.get("from") {
            Some(node) => read_paths(reader, "from", node),
            None => vec![vec![name.clone()]],
        },
        paths_when,
        required,
        required_when,
        required_without,
        empty_is_missing: section
            .get("empty_is_missing")
            .and_then(|node| reader.flag("empty_is_missing", node))
            .unwrap_or(data_type != ColumnType::Text || on_missing.is_some() || must_be_there),
        on_missing,
        accept_text: section.get("accept_text").and_then(|node| reader.flag("accept_text", node)).unwrap_or(false),
        aliases,
        accepted_values,
        min,
        max,
        max_bytes: section.get("max_bytes").and_then(|node| reader.bytes_in_memory("max_bytes", node)),
        text_format: section
            .get("text_format")
            .and_then(|node| reader.word("text_format", node, &TEXT_FORMATS))
            .or(implied_format),
        time_unit,
        time_zone: section
            .get("time_zone")
            .and_then(|node| read_time_zone(reader, node))
            .or_else(|| event_time.and_then(|event_time| event_time.time_zone.clone())),
        pii: section.get("pii").and_then(|node| reader.flag("pii", node)).unwrap_or(false),
        data_type,
        name,
    };
    Some(column)
}

fn read_data_type(
    reader: &mut Reader<'_>,
    vars: &Vars,
    node: &Node,
    name: &str,
) -> Option<(ColumnType, Option<TextFormat>)> {
    let Some(mut declared) = node.get("data_type").cloned() else {
        reader.missing(node.place, "data_type", format!("give column `{name}` a type: data_type: text"));
        return None;
    };
    resolve(reader, vars, &mut declared);
    let text = reader.text("data_type", &declared)?;
    match parse_type(&text) {
        Ok(data_type) => Some(data_type),
        Err(why) => {
            let word = text.trim().to_ascii_lowercase();
            let hint = match nearest(&word, WORDS) {
                Some(near) if near != word => format!("{why}; did you mean `{near}`?"),
                _ => why,
            };
            reader.bad_value("data_type", &declared, hint);
            None
        }
    }
}

/// Refuses options that mean nothing for the column's type, so that nobody believes in a check that is not made.
fn check_fit(reader: &mut Reader<'_>, section: Section<'_>, name: &str, data_type: &ColumnType) {
    let is_text = *data_type == ColumnType::Text;
    let is_number = matches!(data_type, ColumnType::BigInt | ColumnType::Double | ColumnType::Decimal(..));
    let is_time = *data_type == ColumnType::Timestamp;
    let rules = [
        ("aliases", is_text, "text"),
        ("accepted_values", is_text, "text"),
        ("text_format", is_text, "text"),
        ("max_bytes", is_text || *data_type == ColumnType::Json, "text and json"),
        ("empty_is_missing", is_text, "text; other types always take an empty text as missing"),
        ("min", is_number, "numbers"),
        ("max", is_number, "numbers"),
        ("accept_text", is_number || *data_type == ColumnType::Boolean, "numbers and booleans"),
        ("unit", is_time || *data_type == ColumnType::BigInt, "timestamp and bigint"),
        ("time_zone", is_time, "timestamp"),
        ("on_missing", !matches!(data_type, ColumnType::Struct(_) | ColumnType::List(_)), "single values"),
    ];
    for (key, fits, what) in rules {
        if let Some(node) = section.get(key).filter(|_| !fits) {
            let message = format!("option does not fit the column's type, column=`{name}`, key=`{key}`");
            reader.fault_hint(node.place, codes::CONTRADICTION, message, format!("`{key}` is for {what}"));
        }
    }
}

fn read_paths(reader: &mut Reader<'_>, key: &str, node: &Node) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for path in reader.texts(key, node).unwrap_or_default() {
        let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            reader.fault_hint(
                node.place,
                codes::BAD_VALUE,
                format!("path is not usable, key=`{key}`, value=`{path}`"),
                "write the keys of the objects with dots: data.id",
            );
        }
        paths.push(keys);
    }
    paths
}

fn read_paths_when(reader: &mut Reader<'_>, node: &Node) -> Option<PathsWhen> {
    let section = reader.section("from_when", node, &contract_keys("columns[].from_when"))?;
    let (Some(column), Some(values), Some(from)) = (section.get("column"), section.get("in"), section.get("from"))
    else {
        reader.missing(node.place, "from_when", "write {column: kind, in: [deleted], from: deleted_at}");
        return None;
    };
    Some(PathsWhen {
        column: reader.text("from_when.column", column)?,
        values: reader.texts("from_when.in", values)?,
        paths: read_paths(reader, "from_when.from", from),
    })
}

fn read_condition(reader: &mut Reader<'_>, node: &Node) -> Option<(String, Vec<String>)> {
    let section = reader.section("required_when", node, &contract_keys("columns[].required_when"))?;
    let (Some(column), Some(values)) = (section.get("column"), section.get("in")) else {
        reader.missing(node.place, "required_when", "write {column: kind, in: [created, updated]}");
        return None;
    };
    Some((reader.text("required_when.column", column)?, reader.texts("required_when.in", values)?))
}

fn read_on_missing(reader: &mut Reader<'_>, node: &Node, data_type: &ColumnType) -> Option<String> {
    let text = reader.spelling("on_missing", node)?;
    let fits = match data_type {
        ColumnType::Text | ColumnType::Struct(_) | ColumnType::List(_) => true,
        ColumnType::BigInt => text.parse::<i64>().is_ok(),
        ColumnType::Double | ColumnType::Decimal(..) => text.parse::<f64>().is_ok_and(f64::is_finite),
        ColumnType::Boolean => text == "true" || text == "false",
        ColumnType::Date => text.parse::<chrono::NaiveDate>().is_ok(),
        ColumnType::Timestamp => parse_instant(&text).is_some(),
        ColumnType::Json => serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(),
    };
    if !fits {
        reader.bad_value("on_missing", node, "the value must be one of the column's type");
        return None;
    }
    Some(text)
}

fn read_aliases(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, String)> {
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type("aliases", node, "table");
    }
    node.entries()
        .iter()
        .filter_map(|(key, value)| Some((key.name.clone(), reader.spelling("aliases", value)?)))
        .collect()
}

/// An alias that leads out of the accepted values would quarantine what it was written to save.
fn check_aliases(reader: &mut Reader<'_>, section: Section<'_>, aliases: &[(String, String)], accepted: &[String]) {
    for (_, target) in aliases.iter().filter(|(_, target)| !accepted.is_empty() && !accepted.contains(target)) {
        let place = section.get("aliases").map_or(section.place(), |node| node.place);
        let hint = match nearest(target, accepted.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "add it to `accepted_values`".to_owned(),
        };
        let message = format!("alias leads to a value that is not accepted, key=`aliases`, value=`{target}`");
        reader.fault_hint(place, codes::CONTRADICTION, message, hint);
    }
}
