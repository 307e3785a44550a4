//! Reads what stands below `meta.tidemill` of a model: `publish`, `watermark`, `context`.

use indexmap::IndexMap;
use tidemill_project::SourceName;

use super::config::{
    BatchContext, ContextSpan, Emit, ModelConfig, PublishEntry, PublishStrategy, SinkKind, Span, WatermarkRule,
};
use super::keyed::{KEYED_KEYS, read_keyed};
use super::yaml::{Data, Node, Reader};
use crate::error::codes;

/// Keys of an entry, each with the sinks that it is for; none = all.
const ENTRY_KEYS: [(&str, &[SinkKind]); 16] = [
    ("to", &[]),
    ("table", &[SinkKind::Snowflake, SinkKind::Local]),
    ("unique_key", &[]),
    ("strategy", &[SinkKind::Snowflake, SinkKind::Local]),
    ("columns", &[SinkKind::Snowflake, SinkKind::Local]),
    ("json_columns", &[]),
    ("cluster_by", &[SinkKind::Snowflake, SinkKind::Local]),
    ("topic", &[SinkKind::Kafka]),
    ("key", &[SinkKind::Kafka, SinkKind::Redis]),
    ("fields", &[SinkKind::Kafka, SinkKind::Redis]),
    ("emit", &[SinkKind::Kafka, SinkKind::Redis]),
    ("window_end", &[SinkKind::Kafka, SinkKind::Redis]),
    ("ttl", &[SinkKind::Redis]),
    ("where", &[]),
    ("enabled", &[]),
    ("meta", &[]),
];

/// Fills `config` from `meta.tidemill`.
pub(super) fn read_tidemill_meta(reader: &mut Reader, node: &Node, config: &mut ModelConfig) {
    let known: Vec<&str> = ["publish", "watermark", "context"].into_iter().chain(KEYED_KEYS).collect();
    reader.check_keys(node, "meta.tidemill", &known);
    read_keyed(reader, node, config);
    if let Some(context) = node.get("context") {
        config.context = read_context(reader, context);
    }
    if let Some(watermark) = node.get("watermark") {
        config.watermark = read_watermark(reader, watermark);
    }
    if let Some(publish) = node.get("publish") {
        match &publish.data {
            Data::List(items) => {
                let entries: Vec<PublishEntry> =
                    items.iter().filter_map(|item| read_entry(reader, item, &config.unique_key)).collect();
                config.publish.extend(entries);
            }
            _ => reader.wrong_type(publish, "publish", "list"),
        }
    }
}

/// `context: {before: 14h, after: 14h}`, and spans for inputs by name beside them.
pub(super) fn read_context(reader: &mut Reader, node: &Node) -> BatchContext {
    let mut context = BatchContext::default();
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(node, "context", "mapping with before and after");
        return context;
    }
    for entry in node.entries() {
        match entry.key.as_str() {
            "before" => context.default.before = read_span(reader, &entry.value, "before"),
            "after" => context.default.after = read_span(reader, &entry.value, "after"),
            input => {
                reader.check_keys(&entry.value, "context", &["before", "after"]);
                let mut span = ContextSpan::default();
                if let Some(before) = entry.value.get("before") {
                    span.before = read_span(reader, before, "before");
                }
                if let Some(after) = entry.value.get("after") {
                    span.after = read_span(reader, after, "after");
                }
                context.inputs.insert(input.to_owned(), span);
            }
        }
    }
    context
}

fn read_span(reader: &mut Reader, node: &Node, key: &str) -> Span {
    if node.scalar_text().as_deref() == Some("unbounded") {
        return Span::Unbounded;
    }
    reader.duration(node, key).map_or(Span::NONE, Span::Bounded)
}

fn read_watermark(reader: &mut Reader, node: &Node) -> Option<WatermarkRule> {
    reader.check_keys(node, "watermark", &["sources", "due_after"]);
    let Some(sources) = node.get("sources") else {
        reader.fault(&node.place, codes::MISSING_KEY, "key is missing, key=`sources`, in=`watermark`");
        return None;
    };
    let names = reader.texts(sources, "sources")?;
    let mut parsed = Vec::with_capacity(names.len());
    for name in names {
        match name.split_once('.') {
            Some((source, table)) => parsed.push(SourceName::new(source, table)),
            None => reader.fault(
                &sources.place,
                codes::UNKNOWN_VALUE,
                format!("source is not `source.table`, value=`{name}`"),
            ),
        }
    }
    if parsed.is_empty() {
        if sources.items().is_empty() {
            reader.fault(&sources.place, codes::MISSING_KEY, "list is empty, key=`sources`, in=`watermark`");
        }
        return None;
    }
    let due_after = match node.get("due_after") {
        Some(due_after) => reader.duration(due_after, "due_after")?,
        None => std::time::Duration::ZERO,
    };
    Some(WatermarkRule { sources: parsed, due_after })
}

fn read_entry(reader: &mut Reader, node: &Node, model_key: &[String]) -> Option<PublishEntry> {
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(node, "publish", "mapping");
        return None;
    }
    reader.check_keys(node, "publish", &ENTRY_KEYS.map(|(key, _)| key));
    let kinds = [
        ("snowflake", SinkKind::Snowflake),
        ("kafka", SinkKind::Kafka),
        ("redis", SinkKind::Redis),
        ("local", SinkKind::Local),
    ];
    let Some(to) = node.get("to") else {
        reader.fault_hint(
            &node.place,
            codes::MISSING_KEY,
            "key is missing, key=`to`, in=`publish`",
            "say where: to: snowflake",
        );
        return None;
    };
    let to = reader.word(to, "to", &kinds)?;
    let strategies = [
        ("merge", PublishStrategy::Merge),
        ("replace_batches", PublishStrategy::ReplaceBatches),
        ("append_only", PublishStrategy::AppendOnly),
    ];
    let emits = [
        ("on_change", Emit::OnChange),
        ("on_close", Emit::OnClose),
        ("on_final", Emit::OnFinal),
        ("alert", Emit::Alert),
    ];
    let mut text = |key: &str| node.get(key).and_then(|value| reader.text(value, key));
    let (table, topic, key, window_end, filter) =
        (text("table"), text("topic"), text("key"), text("window_end"), text("where"));
    let unique_key = node.get("unique_key").and_then(|value| reader.texts(value, "unique_key"));
    let entry = PublishEntry {
        to,
        table,
        unique_key: unique_key.unwrap_or_else(|| model_key.to_vec()),
        strategy: node.get("strategy").and_then(|v| reader.word(v, "strategy", &strategies)).unwrap_or_default(),
        columns: node.get("columns").map(|value| read_columns(reader, value, "columns")).unwrap_or_default(),
        json_columns: node.get("json_columns").and_then(|v| reader.texts(v, "json_columns")).unwrap_or_default(),
        cluster_by: node.get("cluster_by").and_then(|v| reader.texts(v, "cluster_by")).unwrap_or_default(),
        topic,
        key,
        fields: node.get("fields").map(|value| read_columns(reader, value, "fields")).unwrap_or_default(),
        emit: node.get("emit").and_then(|value| reader.word(value, "emit", &emits)).unwrap_or_default(),
        window_end,
        ttl: node.get("ttl").and_then(|value| reader.duration(value, "ttl")),
        filter,
        enabled: node.get("enabled").and_then(|value| reader.boolean(value, "enabled")).unwrap_or(true),
    };
    check_entry(reader, node, &entry);
    Some(entry)
}

/// `columns: {model_column: TARGET_COLUMN}` (`fields: {field: model_column}`), or a list of names that stay as they are.
fn read_columns(reader: &mut Reader, node: &Node, key: &str) -> IndexMap<String, String> {
    match &node.data {
        Data::List(_) => {
            reader.texts(node, key).unwrap_or_default().into_iter().map(|name| (name.clone(), name)).collect()
        }
        Data::Map(entries) => {
            entries.iter().filter_map(|entry| Some((entry.key.clone(), reader.text(&entry.value, key)?))).collect()
        }
        Data::Scalar(_) => {
            reader.wrong_type(node, key, "mapping or list");
            IndexMap::new()
        }
    }
}

fn check_entry(reader: &mut Reader, node: &Node, entry: &PublishEntry) {
    for (key, sinks) in ENTRY_KEYS {
        if let Some(value) = node.get(key)
            && !sinks.is_empty()
            && !sinks.contains(&entry.to)
        {
            let message = format!("key means nothing to this sink, key=`{key}`, to=`{}`", word_of(entry.to));
            let hint = match (key, entry.to) {
                ("columns", _) => "name the fields of the message: fields: {field: model_column}".to_owned(),
                ("fields", _) => "name the columns of the table: columns: {model_column: TABLE_COLUMN}".to_owned(),
                _ => format!("it is for: {}", sinks.iter().map(|sink| word_of(*sink)).collect::<Vec<_>>().join(", ")),
            };
            reader.fault_hint(&value.place, codes::UNKNOWN_KEY, message, hint);
        }
    }
    if let (Some(key), Some(value)) = (&entry.key, node.get("key"))
        && !is_pattern(key)
    {
        reader.fault_hint(
            &value.place,
            codes::UNKNOWN_VALUE,
            format!("key is no pattern, value=`{key}`"),
            "each column stands in braces of its own: \"{user_id}/{night_date}\"",
        );
    }
    let mut need = |missing: bool, key: &str| {
        if missing {
            reader.fault(&node.place, codes::MISSING_KEY, format!("key is missing, key=`{key}`, in=`publish`"));
        }
    };
    match entry.to {
        SinkKind::Snowflake | SinkKind::Local => {
            need(entry.table.is_none(), "table");
            need(entry.strategy == PublishStrategy::Merge && entry.unique_key.is_empty(), "unique_key");
        }
        SinkKind::Kafka => {
            need(entry.topic.is_none(), "topic");
            need(entry.unique_key.is_empty(), "unique_key");
        }
        SinkKind::Redis => {
            need(entry.key.is_none(), "key");
            need(entry.unique_key.is_empty(), "unique_key");
        }
    }
}

fn word_of(sink: SinkKind) -> &'static str {
    match sink {
        SinkKind::Snowflake => "snowflake",
        SinkKind::Kafka => "kafka",
        SinkKind::Redis => "redis",
        SinkKind::Local => "local",
    }
}

/// A name, or text with columns in braces, each closed before the next one opens and none empty.
fn is_pattern(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (_, tail) = rest.split_at(at);
        let Some((column, after)) = tail.strip_prefix('{').and_then(|tail| tail.split_once('}')) else { return false };
        if column.is_empty() || column.contains('{') {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}
