//! `[target.NAME.sinks]`: topics and Redis that models publish to, beside the warehouse.

use std::collections::BTreeMap;

use super::kafka::read_kafka;
use super::reference::settings_keys;
use super::target::TargetContext;
use super::{RedisSettings, SinkSettings};
use crate::document::{Data, Node, Reader, Section, codes};

/// Reads the section over the defaults. `None` when a fault leaves nothing to publish with.
pub(super) fn read_sinks(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    name: &str,
    node: &Node,
) -> Option<SinkSettings> {
    let section = reader.section(name, node, &settings_keys("target.<name>.sinks"))?;
    let mut sinks = SinkSettings::default();
    if let Some(node) = section.get("ledger_suffix") {
        sinks.ledger_suffix = read_suffix(reader, &section.path("ledger_suffix"), node)?;
    }
    if let Some(node) = section.get("create_topics") {
        sinks.create_topics = reader.flag(&section.path("create_topics"), node)?;
    }
    sinks.topics = read_topics(reader, section);
    if let Some(node) = section.get("kafka") {
        sinks.kafka = Some(read_kafka(reader, context, &section.path("kafka"), node)?);
    }
    if let Some(node) = section.get("redis") {
        sinks.redis = Some(read_redis(reader, context, &section.path("redis"), node)?);
    }
    Some(sinks)
}

/// An empty one would make the ledger the topic itself.
fn read_suffix(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<String> {
    let text = reader.text(key, node)?;
    let is_usable = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !is_usable {
        reader.bad_value(key, node, "letters, digits, `.`, `_` and `-`, at least one");
    }
    is_usable.then_some(text)
}

fn read_topics(reader: &mut Reader<'_>, section: Section<'_>) -> BTreeMap<String, String> {
    let Some(node) = section.get("topics") else { return BTreeMap::new() };
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(&section.path("topics"), node, "table");
    }
    let names = node.entries().iter();
    names.filter_map(|(name, value)| Some((name.name.clone(), reader.text(&section.path(&name.name), value)?))).collect()
}

fn read_redis(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    name: &str,
    node: &Node,
) -> Option<RedisSettings> {
    let section = reader.section(name, node, &settings_keys("target.<name>.sinks.redis"))?;
    let Some(node) = section.get("url") else {
        reader.missing(section.place(), &section.path("url"), "write url = \"redis://host:6379\"");
        return None;
    };
    let key = section.path("url");
    let url = context.secret(reader, &key, node)?;
    // A file of another target was not read: its place says nothing about the value.
    let is_known = context.is_chosen || !url.expose_secret().starts_with("file:");
    if is_known && !["redis://", "rediss://", "redis+unix://", "unix://"].iter().any(|scheme| url.expose_secret().starts_with(scheme)) {
        let message = format!("address is not usable, key=`{key}`");
        reader.fault_hint(node.place, codes::BAD_VALUE, message, "write redis://user:password@host:6379/0");
        return None;
    }
    Some(RedisSettings { url })
}
