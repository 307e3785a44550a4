//! Merges configuration with dbt's precedence and gives it types.
//!
//! Layers come in ascending order: folders of `dbt_project.yml`, outermost first, then properties YAML, then the file's own
//! `config(...)`. `tags` add up, `meta` is merged key by key, of everything else the last layer wins.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value as Json;
use tidemill_project::clock::Micros;
use tidemill_project::error::nearest;

use super::batch::BatchSize;
use super::config::{Materialized, ModelConfig, OnSchemaChange, Severity, Storage, Strategy, TestConfig};
use super::keyed::{KEYED_KEYS, read_keyed};
use super::publish::{read_context, read_tidemill_meta};
use super::snapshots;
use super::yaml::{Data, Entry, Node, Place, Reader};
use crate::error::codes;

/// Keys that mean something to us.
pub(super) const MODEL_KEYS: [&str; 35] = [
    "materialized",
    "incremental_strategy",
    "strategy",
    "event_time",
    "batch_size",
    "begin",
    "lookback",
    "context",
    "unique_key",
    "schema",
    "alias",
    "tags",
    "enabled",
    "full_refresh",
    "contract",
    "meta",
    "column_types",
    "delimiter",
    "quote_columns",
    "publish",
    "on_schema_change",
    "pre_hook",
    "post_hook",
    "pre-hook",
    "post-hook",
    "group",
    "access",
    "docs",
    "updated_at",
    "check_cols",
    "hard_deletes",
    "invalidate_hard_deletes",
    "dbt_valid_to_current",
    "snapshot_meta_column_names",
    "target_schema",
];

/// Keys of dbt's that are taken and kept for macros (`config.get`), and mean nothing to our engine.
const OTHER_KEYS: [&str; 27] = [
    "grants",
    "persist_docs",
    "target_database",
    "bind",
    "dist",
    "sort",
    "indexes",
    "unlogged",
    "file_format",
    "location",
    "database",
    "catalog",
    "quoting",
    "sql_header",
    "packages",
    "incremental_predicates",
    "concurrent_batches",
    "cluster_by",
    "partition_by",
    "transient",
    "query_tag",
    "description",
    "freshness",
    "static_analysis",
    "copy_grants",
    "snowflake_warehouse",
    "concat",
];

const TEST_KEYS: [&str; 13] = [
    "severity",
    "error_if",
    "warn_if",
    "where",
    "limit",
    "store_failures",
    "store_failures_as",
    "tags",
    "enabled",
    "meta",
    "fail_calc",
    "alias",
    "schema",
];

/// Whether a key of a model's configuration means something to us.
pub(super) fn is_known(key: &str) -> bool {
    MODEL_KEYS.contains(&key) || KEYED_KEYS.contains(&key)
}

/// Merges one layer into those below it.
pub(super) fn merge(base: &mut Vec<Entry>, layer: &[Entry]) {
    for entry in layer {
        let key = entry.key.strip_prefix('+').unwrap_or(&entry.key);
        let Some(own) = base.iter_mut().find(|own| own.key == key) else {
            base.push(Entry { key: key.to_owned(), ..entry.clone() });
            continue;
        };
        match key {
            "meta" => merge_maps(&mut own.value, &entry.value),
            // These add up.
            "tags" | "pre_hook" | "post_hook" | "pre-hook" | "post-hook" => {
                let mut items = into_items(&own.value);
                items.extend(into_items(&entry.value));
                own.value.data = Data::List(items);
            }
            _ => {
                own.key_place = entry.key_place.clone();
                own.value = entry.value.clone();
            }
        }
    }
}

fn into_items(node: &Node) -> Vec<Node> {
    match &node.data {
        Data::List(items) => items.clone(),
        Data::Scalar(Json::Null) => Vec::new(),
        _ => vec![node.clone()],
    }
}

fn merge_maps(base: &mut Node, layer: &Node) {
    let (Data::Map(own), Data::Map(entries)) = (&mut base.data, &layer.data) else {
        *base = layer.clone();
        return;
    };
    for entry in entries {
        match own.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => merge_maps(&mut known.value, &entry.value),
            None => own.push(entry.clone()),
        }
    }
}

/// Gives a model's merged configuration types. `at` is where faults go that belong to no key.
pub(super) fn model_config(reader: &mut Reader, merged: Vec<Entry>, at: &Place) -> ModelConfig {
    let node = Node { place: at.clone(), data: Data::Map(merged) };
    report_typos(reader, &node);
    let mut config = ModelConfig { enabled: true, ..ModelConfig::default() };
    config.raw = reader.object(&node, "config").unwrap_or_default();
    if let Some(value) = node.get("materialized") {
        config.materialized = read_materialized(reader, value);
    }
    let is_snapshot = config.materialized == Materialized::Snapshot;
    if is_snapshot {
        config.snapshot = snapshots::snapshot_config(reader, &node);
    } else if let Some(value) = node.get("incremental_strategy").or_else(|| node.get("strategy")) {
        config.incremental_strategy = read_strategy(reader, value);
    } else if config.materialized == Materialized::Incremental && node.get("unique_key").is_some() {
        // dbt's default with a key.
        config.incremental_strategy = Strategy::Merge;
    }
    config.event_time = node.get("event_time").and_then(|value| reader.text(value, "event_time"));
    config.batch_size = node.get("batch_size").and_then(|value| read_batch_size(reader, value));
    config.begin_us = node.get("begin").and_then(|value| read_begin(reader, value));
    if let Some(value) = node.get("lookback") {
        config.lookback =
            reader.count(value, "lookback").and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
    }
    if let Some(value) = node.get("context") {
        config.context = read_context(reader, value);
    }
    config.unique_key = node.get("unique_key").and_then(|v| reader.texts(v, "unique_key")).unwrap_or_default();
    if let Some(value) = node.get("on_schema_change") {
        let words = [
            ("ignore", OnSchemaChange::Ignore),
            ("fail", OnSchemaChange::Fail),
            ("append_new_columns", OnSchemaChange::AppendNewColumns),
            ("sync_all_columns", OnSchemaChange::SyncAllColumns),
        ];
        config.on_schema_change = reader.word(value, "on_schema_change", &words);
    }
    config.pre_hooks = read_hooks(reader, &node, ["pre_hook", "pre-hook"]);
    config.post_hooks = read_hooks(reader, &node, ["post_hook", "post-hook"]);
    config.schema = node
        .get("target_schema")
        .filter(|_| is_snapshot)
        .or_else(|| node.get("schema"))
        .and_then(|value| reader.text(value, "schema"));
    config.alias = node.get("alias").and_then(|value| reader.text(value, "alias"));
    config.tags = node.get("tags").and_then(|value| reader.texts(value, "tags")).unwrap_or_default();
    config.tags.sort();
    config.tags.dedup();
    config.enabled = node.get("enabled").and_then(|value| reader.boolean(value, "enabled")).unwrap_or(true);
    config.full_refresh = node.get("full_refresh").and_then(|value| reader.boolean(value, "full_refresh"));
    config.contract_enforced = node
        .get("contract")
        .and_then(|contract| contract.get("enforced"))
        .and_then(|value| reader.boolean(value, "enforced"))
        .unwrap_or(false);
    read_keyed(reader, &node, &mut config);
    if let Some(meta) = node.get("meta") {
        config.meta = reader.object(meta, "meta").unwrap_or_default();
        if let Some(tidemill) = meta.get("tidemill") {
            read_tidemill_meta(reader, tidemill, &mut config);
        }
    }
    check(reader, &node, &config);
    config
}

/// Statements of hooks: a text, a list, or `{sql: …, transaction: …}`.
fn read_hooks(reader: &mut Reader, node: &Node, keys: [&str; 2]) -> Vec<String> {
    let mut hooks = Vec::new();
    for hook in keys.iter().filter_map(|key| node.get(key)).flat_map(into_items) {
        let statement = match &hook.data {
            Data::Map(_) => hook.get("sql").cloned(),
            // The same as a text, as dbt's `before_begin` makes it.
            Data::Scalar(Json::String(text)) => match serde_json::from_str::<Json>(text) {
                Ok(Json::Object(map)) => map.get("sql").map(|sql| Node::from_json(&hook.place, sql)),
                _ => Some(hook.clone()),
            },
            _ => Some(hook.clone()),
        };
        hooks.extend(statement.and_then(|statement| reader.text(&statement, keys[0])));
    }
    hooks.retain(|hook| !hook.trim().is_empty());
    hooks
}

/// A key that is nearly one of ours is a slip; any other is the project's own and stays readable by `config.get`.
fn report_typos(reader: &mut Reader, node: &Node) {
    for entry in node.entries() {
        let key = entry.key.as_str();
        if is_known(key) || OTHER_KEYS.contains(&key) {
            continue;
        }
        if let Some(near) = nearest(key, MODEL_KEYS.into_iter().chain(KEYED_KEYS)) {
            reader.fault_hint(
                &entry.key_place,
                codes::UNKNOWN_KEY,
                format!("unknown key, key=`{key}`, in=`config`"),
                format!("did you mean `{near}`?"),
            );
        }
    }
}

fn check(reader: &mut Reader, node: &Node, config: &ModelConfig) {
    match config.storage() {
        Storage::Incremental(Strategy::Microbatch) => {
            for (missing, key) in
                [(config.event_time.is_none(), "event_time"), (config.batch_size.is_none(), "batch_size")]
            {
                if missing {
                    reader.fault(
                        &node.place,
                        codes::MISSING_KEY,
                        format!("a microbatch model needs a key, key=`{key}`"),
                    );
                }
            }
        }
        Storage::Incremental(Strategy::Merge | Strategy::DeleteInsert) if config.unique_key.is_empty() => {
            reader.fault(&node.place, codes::MISSING_KEY, "a merge model needs a key, key=`unique_key`");
        }
        Storage::Incremental(Strategy::InsertOverwrite) if config.keyed.partition_by.is_empty() => {
            reader.fault(&node.place, codes::MISSING_KEY, "an insert_overwrite model needs a key, key=`partition_by`");
        }
        _ => {}
    }
}

fn read_materialized(reader: &mut Reader, node: &Node) -> Materialized {
    let words = [
        ("view", Materialized::View),
        ("table", Materialized::Table),
        ("incremental", Materialized::Incremental),
        ("ephemeral", Materialized::Ephemeral),
        ("snapshot", Materialized::Snapshot),
        // Where a database keeps a view's rows by itself, we keep a table.
        ("materialized_view", Materialized::Table),
    ];
    if let Some(name) = node.scalar_text()
        && !words.iter().any(|(word, _)| *word == name.to_lowercase())
        && nearest(&name.to_lowercase(), words.iter().map(|(word, _)| *word)).is_none()
    {
        reader.fault_hint(
            &node.place,
            codes::UNKNOWN_VALUE,
            format!("materialization is not known, materialized=`{name}`"),
            "materializations of a project's own cannot be run; known: view, table, incremental, ephemeral, snapshot",
        );
        return Materialized::default();
    }
    reader.word(node, "materialized", &words).unwrap_or_default()
}

fn read_strategy(reader: &mut Reader, node: &Node) -> Strategy {
    let words = [
        ("append", Strategy::Append),
        ("microbatch", Strategy::Microbatch),
        ("merge", Strategy::Merge),
        ("delete+insert", Strategy::DeleteInsert),
        ("insert_overwrite", Strategy::InsertOverwrite),
        ("aggregate", Strategy::Aggregate),
    ];
    reader.word(node, "incremental_strategy", &words).unwrap_or_default()
}

fn read_batch_size(reader: &mut Reader, node: &Node) -> Option<BatchSize> {
    let words = [
        ("minute", BatchSize::Minute),
        ("hour", BatchSize::Hour),
        ("day", BatchSize::Day),
        ("month", BatchSize::Month),
        ("year", BatchSize::Year),
    ];
    reader.word(node, "batch_size", &words)
}

fn read_begin(reader: &mut Reader, node: &Node) -> Option<Micros> {
    let begin = node.scalar_text().and_then(|text| parse_instant(&text));
    if begin.is_none() {
        reader.wrong_type(node, "begin", "date or timestamp, UTC");
    }
    begin
}

/// A date, or a timestamp with or without offset; UTC without. A bare year is one, too.
pub(crate) fn parse_instant(text: &str) -> Option<Micros> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(local) = NaiveDateTime::parse_from_str(text, format) {
            return Some(local.and_utc().timestamp_micros());
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
}

/// Gives a test's merged configuration types.
pub(super) fn test_config(reader: &mut Reader, merged: Vec<Entry>, at: &Place) -> TestConfig {
    let node = Node { place: at.clone(), data: Data::Map(merged) };
    reader.check_keys(&node, "test config", &TEST_KEYS);
    let mut config = TestConfig::default();
    if let Some(value) = node.get("severity") {
        let words = [("error", Severity::Error), ("warn", Severity::Warn)];
        config.severity = reader.word(value, "severity", &words).unwrap_or_default();
    }
    if let Some(value) = node.get("error_if") {
        config.error_if = reader.text(value, "error_if").unwrap_or_default();
    }
    if let Some(value) = node.get("warn_if") {
        config.warn_if = reader.text(value, "warn_if").unwrap_or_default();
    }
    config.filter = node.get("where").and_then(|value| reader.text(value, "where"));
    config.limit = node.get("limit").and_then(|value| reader.count(value, "limit"));
    config.fail_calc = node.get("fail_calc").and_then(|value| reader.text(value, "fail_calc"));
    if let Some(value) = node.get("store_failures") {
        config.store_failures = reader.boolean(value, "store_failures").unwrap_or_default();
    }
    if let Some(value) = node.get("store_failures_as") {
        let words = [("table", true), ("view", true), ("ephemeral", false)];
        config.store_failures = reader.word(value, "store_failures_as", &words).unwrap_or_default();
    }
    config.tags = node.get("tags").and_then(|value| reader.texts(value, "tags")).unwrap_or_default();
    config.enabled = node.get("enabled").and_then(|value| reader.boolean(value, "enabled")).unwrap_or(true);
    config
}

/// The keys that a test may carry beside `config:` (dbt's older form).
pub(super) fn is_test_config_key(key: &str) -> bool {
    TEST_KEYS.contains(&key) && !["alias", "schema", "meta"].contains(&key)
}
