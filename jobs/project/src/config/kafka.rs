//! `[target.NAME.kafka]`: any librdkafka property by its own name, asked of librdkafka itself.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::KafkaSettings;
use super::target::TargetContext;
use crate::document::{Data, Key, Node, Reader, codes};
use crate::error::nearest;
use crate::secret::Secret;

/// Properties that Tidemill's guarantees stand on, and where to turn instead.
const RESERVED: [(&str, &str); 5] = [
    ("group.id", "use `group`"),
    ("enable.auto.commit", "group offsets are committed after the lake"),
    ("enable.auto.offset.store", "group offsets are committed after the lake"),
    ("auto.offset.reset", "use `ingest.start`"),
    ("isolation.level", "only committed records are read"),
];

/// What people mostly set, for "did you mean"; librdkafka knows all of its names but does not list them.
const COMMON: [&str; 40] = [
    "bootstrap.servers",
    "broker.address.family",
    "check.crcs",
    "client.id",
    "client.rack",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group",
    "group.instance.id",
    "heartbeat.interval.ms",
    "linger.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.max.age.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "request.timeout.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
];

/// Reads the section. Dots without quotes nest in TOML; they are joined again, so that both ways of writing work.
pub(super) fn read_kafka(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    name: &str,
    node: &Node,
) -> Option<KafkaSettings> {
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(name, node, "table");
        return None;
    }
    let group = node.get("group").and_then(|group| reader.text(&format!("{name}.group"), group));
    let mut flat = Vec::new();
    flatten("", node, &mut flat);
    let mut properties = BTreeMap::new();
    for (property, key, value) in flat.into_iter().filter(|(property, ..)| property != "group") {
        if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| *reserved == property) {
            let message = format!("property is set by tidemill itself, section=`{name}`, key=`{property}`");
            reader.fault_hint(key.place, codes::CONTRADICTION, message, *instead);
            continue;
        }
        let secret = context.secret(reader, &format!("{name}.{property}"), value);
        // The files of other targets were not read: their place says nothing about the value.
        let known = secret.as_ref().filter(|secret| context.is_chosen || !secret.expose_secret().starts_with("file:"));
        check_property(reader, name, &property, key, value, known);
        if let Some(secret) = secret {
            properties.insert(property, secret);
        }
    }
    if node.get_path(&["bootstrap", "servers"]).or_else(|| node.get("bootstrap.servers")).is_none() {
        let hint = "name the brokers: \"bootstrap.servers\" = \"localhost:9092\"";
        reader.missing(node.place, &format!("{name}.\"bootstrap.servers\""), hint);
    }
    Some(KafkaSettings { group: group.unwrap_or_else(|| format!("tidemill-{}", context.project_name)), properties })
}

fn flatten<'n>(prefix: &str, node: &'n Node, flat: &mut Vec<(String, &'n Key, &'n Node)>) {
    for (key, value) in node.entries() {
        let name = if prefix.is_empty() { key.name.clone() } else { format!("{prefix}.{}", key.name) };
        if matches!(value.data, Data::Map(_)) {
            flatten(&name, value, flat);
        } else {
            flat.push((name, key, value));
        }
    }
}

/// Asks librdkafka whether it takes the property. Its own text is not shown: it quotes the value.
fn check_property(
    reader: &mut Reader<'_>,
    section: &str,
    property: &str,
    key: &Key,
    node: &Node,
    value: Option<&Secret>,
) {
    let mut config = ClientConfig::new();
    config.set(property, value.map_or("", Secret::expose_secret));
    let Err(KafkaError::ClientConfig(result, ..)) = config.create_native_config() else { return };
    match result {
        RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => {
            let message = format!("librdkafka does not know the property, section=`{section}`, key=`{property}`");
            let hint = match nearest(property, COMMON) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "librdkafka's CONFIGURATION.md lists all properties".to_owned(),
            };
            reader.fault_hint(key.place, codes::UNKNOWN_KEY, message, hint);
        }
        // Without a value there is nothing to judge: it waits for a variable, or has a fault of its own.
        _ if value.is_some() => {
            let message = format!("librdkafka does not take the value, key=`{section}.{property}`");
            let hint = "librdkafka's CONFIGURATION.md lists what each property takes";
            reader.fault_hint(node.place, codes::BAD_VALUE, message, hint);
        }
        _ => {}
    }
}
