//! The options of one source table.

use std::time::Duration;

use regex::Regex;

use super::columns::{ColumnDefaults, read_columns};
use super::keys::{KeyDeclaration, check_key, read_key};
use super::{
    ColumnType, Contract, ContractColumn, EventTime, Format, KeyRule, OnExtra, PartitionBy, SchemaFile, TimeUnit,
    TopicRule, Vars,
};
use crate::clock::Micros;
use crate::config::contract_keys;
use crate::document::{Data, Node, Place, Reader, Section, codes, parse_instant};
use crate::error::nearest;
use crate::names::SourceName;

/// 2000-01-01: a time before it is a unit mistaken, not an event (X5).
pub(super) const MIN_EVENT_TIME_US: Micros = 946_684_800_000_000;
/// X5.
pub(super) const MAX_FUTURE: Duration = Duration::from_hours(24);
/// X9: what Kafka's own default lets through.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 20;
/// Phones send in bursts after minutes without network; the product's largest grace is this.
pub(super) const GRACE: Duration = Duration::from_mins(15);

/// Words of numeric time units.
pub(super) const UNITS: [(&str, TimeUnit); 8] = [
    ("s", TimeUnit::Second),
    ("ms", TimeUnit::Millisecond),
    ("us", TimeUnit::Microsecond),
    ("ns", TimeUnit::Nanosecond),
    ("second", TimeUnit::Second),
    ("millisecond", TimeUnit::Millisecond),
    ("microsecond", TimeUnit::Microsecond),
    ("nanosecond", TimeUnit::Nanosecond),
];

/// Where the contract says that the event time is.
pub(super) struct EventTimeDeclaration {
    pub(super) column: String,
    pub(super) place: Place,
    pub(super) unit: Option<TimeUnit>,
    pub(super) time_zone: Option<String>,
}

/// Reads a table. `None` when a fault leaves no contract to speak of; the reader has it.
pub(super) fn read_contract(
    reader: &mut Reader<'_>,
    vars: &Vars,
    name: SourceName,
    table: &Node,
    options: &Node,
) -> Option<Contract> {
    let section = reader.section("tidemill", options, &contract_keys(""))?;
    let topics = read_topics(reader, section);
    let event_time = read_event_time(reader, section, table.place);
    let key = section
        .get("idempotency_key")
        .map_or_else(|| vec![KeyDeclaration::coordinates()], |node| read_key(reader, node));
    let on_missing = section.get("on_missing").and_then(|node| reader.spelling("on_missing", node));
    let defaults = ColumnDefaults { event_time: event_time.as_ref(), key: &key, on_missing };
    let columns = read_columns(reader, vars, table, &defaults);

    check_key(reader, &key, &columns);
    check_topics(reader, &topics, &columns);
    let is_fed_by_files_alone = section.get("topic").is_none() && section.get("topics").is_none();
    if is_fed_by_files_alone && key.iter().all(|declaration| declaration.rule == KeyRule::Coordinates) {
        reader.fault_hint(
            table.place,
            codes::MISSING_KEY,
            "table has neither topics nor an idempotency key",
            "name the topic (topic: orders); a table fed by files alone needs a key that its rows carry \
             (idempotency_key: order_id)",
        );
    }
    if let Some(event_time) = &event_time {
        check_event_time(reader, event_time, &columns);
    }

    Some(Contract {
        system: section
            .get("system")
            .and_then(|node| reader.text("system", node))
            .unwrap_or_else(|| name.source.clone()),
        location: reader.location(table.get("name").map_or(table.place, |name| name.place)),
        description: table.get("description").and_then(Node::text).unwrap_or_default().trim().to_owned(),
        topics: topics.into_iter().map(|(rule, _)| rule).collect(),
        schema: section.get("schema").and_then(|node| read_schema(reader, node)),
        format: word(
            reader,
            section,
            "format",
            &[("json", Format::Json), ("avro", Format::Avro), ("json_schema", Format::JsonSchema)],
            Format::Json,
        ),
        event_time: EventTime { column: event_time?.column },
        key: key.into_iter().map(|declaration| declaration.rule).collect(),
        partition_by: word(
            reader,
            section,
            "partition_by",
            &[("day", PartitionBy::Day), ("hour", PartitionBy::Hour)],
            PartitionBy::Day,
        ),
        on_extra: word(
            reader,
            section,
            "on_extra",
            &[("keep", OnExtra::Keep), ("drop", OnExtra::Drop), ("quarantine", OnExtra::Quarantine)],
            OnExtra::Keep,
        ),
        grace: section.get("grace").and_then(|node| reader.seconds("grace", node)).unwrap_or(GRACE),
        max_record_bytes: section
            .get("max_record_bytes")
            .and_then(|node| reader.bytes_in_memory("max_record_bytes", node))
            .unwrap_or(MAX_RECORD_BYTES),
        min_event_time_us: section
            .get("min_event_time")
            .and_then(|node| read_instant(reader, "min_event_time", node))
            .unwrap_or(MIN_EVENT_TIME_US),
        max_future: section.get("max_future").and_then(|node| reader.seconds("max_future", node)).unwrap_or(MAX_FUTURE),
        columns,
        enabled: section.get("enabled").and_then(|node| reader.flag("enabled", node)).unwrap_or(true),
        name,
    })
}

fn word<T: Copy>(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    key: &str,
    words: &[(&'static str, T)],
    default: T,
) -> T {
    section.get(key).and_then(|node| reader.word(key, node, words)).unwrap_or(default)
}

/// Reads the reader's schema, whose path counts from the folder of the contract's file.
///
/// It may stand beside `format: json`, too, where it means nothing: a variable can then switch between the formats.
fn read_schema(reader: &mut Reader<'_>, node: &Node) -> Option<SchemaFile> {
    let name = reader.text("schema", node)?;
    let path = reader.folder().join(&name);
    match std::fs::read_to_string(&path) {
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() => Some(SchemaFile { path, text }),
        Ok(_) => {
            reader.bad_value("schema", node, "the file is not JSON; a schema in its usual form (.avsc, .json) is");
            None
        }
        Err(error) => {
            reader.bad_value("schema", node, format!("the file cannot be read, path=`{}`: {error}", path.display()));
            None
        }
    }
}

fn read_instant(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Micros> {
    let text = reader.text(key, node)?;
    let instant = parse_instant(&text);
    if instant.is_none() {
        reader.bad_value(key, node, "write a date or a time: 2000-01-01, 2000-01-01T00:00:00Z");
    }
    instant
}

/// Reads a time zone's name.
pub(super) fn read_time_zone(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text("time_zone", node)?;
    if text.parse::<chrono_tz::Tz>().is_err() {
        let hint = match nearest(&text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write a name of the IANA data base, such as Europe/Berlin".to_owned(),
        };
        reader.bad_value("time_zone", node, hint);
        return None;
    }
    Some(text)
}

fn read_event_time(reader: &mut Reader<'_>, section: Section<'_>, place: Place) -> Option<EventTimeDeclaration> {
    let Some(node) = section.get("event_time") else {
        reader.missing(place, "event_time", "name the column that says when an event happened: event_time: created_at");
        return None;
    };
    if !matches!(node.data, Data::Map(_)) {
        let column = reader.text("event_time", node)?;
        return Some(EventTimeDeclaration { column, place: node.place, unit: None, time_zone: None });
    }
    let inner = reader.section("event_time", node, &contract_keys("event_time"))?;
    let Some(column) = inner.get("column") else {
        reader.missing(node.place, "event_time.column", "name the column that says when an event happened");
        return None;
    };
    Some(EventTimeDeclaration {
        place: column.place,
        column: reader.text("event_time.column", column)?,
        unit: inner.get("unit").and_then(|node| reader.word("event_time.unit", node, &UNITS)),
        time_zone: inner.get("time_zone").and_then(|node| read_time_zone(reader, node)),
    })
}

fn check_event_time(reader: &mut Reader<'_>, event_time: &EventTimeDeclaration, columns: &[ContractColumn]) {
    let Some(column) = columns.iter().find(|column| column.name == event_time.column) else {
        unknown_column(reader, event_time.place, "event_time", &event_time.column, columns);
        return;
    };
    match column.data_type {
        ColumnType::Timestamp | ColumnType::Date => {}
        ColumnType::BigInt if column.time_unit.is_some() => {}
        ColumnType::BigInt => reader.fault_hint(
            event_time.place,
            codes::MISSING_KEY,
            format!("event time is an integer without a unit, column=`{}`", column.name),
            format!("write event_time: {{column: {}, unit: s}}, with s, ms, us or ns", column.name),
        ),
        _ => reader.fault_hint(
            event_time.place,
            codes::WRONG_TYPE,
            format!("event time is no time, column=`{}`", column.name),
            "declare the column as timestamp, as date, or as bigint with a unit",
        ),
    }
}

/// Notes that a rule names a column that the table does not have.
pub(super) fn unknown_column(reader: &mut Reader<'_>, place: Place, key: &str, name: &str, columns: &[ContractColumn]) {
    let known = columns.iter().map(|column| column.name.as_str());
    let hint = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add `{name}` to `columns:`"),
    };
    reader.fault_hint(
        place,
        codes::UNKNOWN_COLUMN,
        format!("column does not exist, key=`{key}`, column=`{name}`"),
        hint,
    );
}

type PlacedTopic = (TopicRule, Vec<(String, Place)>);

/// Topics with the places of their defaults' columns. None at all: the table is fed by files alone.
fn read_topics(reader: &mut Reader<'_>, section: Section<'_>) -> Vec<PlacedTopic> {
    let nodes = match (section.get("topic"), section.get("topics")) {
        (Some(one), Some(_)) => {
            reader.fault_hint(
                one.place,
                codes::CONTRADICTION,
                "topics are declared twice, key=`topic`, other=`topics`",
                "keep `topics`, a list",
            );
            return Vec::new();
        }
        (None, Some(many)) if matches!(many.data, Data::List(_)) => many.items(),
        (Some(one), None) | (None, Some(one)) => std::slice::from_ref(one),
        (None, None) => &[],
    };
    let mut topics: Vec<PlacedTopic> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(topic) = read_topic(reader, node) else { continue };
        if topics.iter().any(|(known, _)| known.pattern == topic.0.pattern) {
            reader.fault(
                node.place,
                codes::CONTRADICTION,
                format!("topic is there twice, topic=`{}`", topic.0.pattern),
            );
        } else {
            topics.push(topic);
        }
    }
    topics
}

fn read_topic(reader: &mut Reader<'_>, node: &Node) -> Option<PlacedTopic> {
    if !matches!(node.data, Data::Map(_)) {
        let pattern = read_pattern(reader, node)?;
        return Some((TopicRule { pattern, defaults: Vec::new() }, Vec::new()));
    }
    let section = reader.section("topics[]", node, &contract_keys("topics[]"))?;
    let Some(name) = section.get("name") else {
        reader.missing(
            node.place,
            "topics[].name",
            "give the topic's name, or a regular expression that begins with ^",
        );
        return None;
    };
    let pattern = read_pattern(reader, name)?;
    let mut defaults = Vec::new();
    let mut places = Vec::new();
    if let Some(set) = section.get("set") {
        if !matches!(set.data, Data::Map(_)) {
            reader.wrong_type("topics[].set", set, "table");
        }
        for (key, value) in set.entries() {
            if let Some(value) = reader.spelling(&key.name, value) {
                defaults.push((key.name.clone(), value));
                places.push((key.name.clone(), key.place));
            }
        }
    }
    Some((TopicRule { pattern, defaults }, places))
}

fn read_pattern(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let pattern = reader.spelling("topic", node)?;
    if pattern.starts_with('^') {
        if let Err(error) = Regex::new(&pattern) {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            reader.bad_value("topic", node, format!("the regular expression is not valid: {why}"));
            return None;
        }
        return Some(pattern);
    }
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if pattern.is_empty() || pattern.len() > 249 || !pattern.chars().all(legal) || [".", ".."].contains(&&*pattern) {
        reader.bad_value("topic", node, "letters, digits, `.`, `_`, `-`; a regular expression begins with ^");
        return None;
    }
    Some(pattern)
}

fn check_topics(reader: &mut Reader<'_>, topics: &[PlacedTopic], columns: &[ContractColumn]) {
    for (name, place) in topics.iter().flat_map(|(_, places)| places) {
        match columns.iter().find(|column| &column.name == name) {
            None => unknown_column(reader, *place, "topics[].set", name, columns),
            Some(column) if column.data_type != ColumnType::Text => reader.fault_hint(
                *place,
                codes::WRONG_TYPE,
                format!("a topic can set text columns only, column=`{name}`"),
                "declare the column as text",
            ),
            Some(_) => {}
        }
    }
}
