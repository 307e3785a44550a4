//! `[ingest]`, `[transform]`, `[maintenance]`: project-wide, or of one target on top of that.

use std::collections::BTreeMap;

use super::reference::settings_keys;
use super::{IngestSettings, MaintenanceSettings, OnGap, StartOffsets, TransformSettings};
use crate::document::{Data, Node, Reader, parse_instant};

/// Reads `[ingest]` over `settings`.
pub(super) fn read_ingest(
    reader: &mut Reader<'_>,
    name: &str,
    node: &Node,
    mut settings: IngestSettings,
) -> IngestSettings {
    let Some(section) = reader.section(name, node, &settings_keys("ingest")) else { return settings };
    if let Some(node) = section.get("max_batch_rows") {
        set(&mut settings.max_batch_rows, reader.count(&section.path("max_batch_rows"), node, 1));
    }
    if let Some(node) = section.get("max_batch_bytes") {
        set(&mut settings.max_batch_bytes, reader.bytes_in_memory(&section.path("max_batch_bytes"), node));
    }
    if let Some(node) = section.get("max_batch_age") {
        set(&mut settings.max_batch_age, reader.duration(&section.path("max_batch_age"), node));
    }
    if let Some(node) = section.get("memory_budget") {
        set(&mut settings.memory_budget_bytes, reader.bytes_in_memory(&section.path("memory_budget"), node));
    }
    if let Some(node) = section.get("start") {
        set(&mut settings.start, read_start(reader, &section.path("start"), node));
    }
    if let Some(node) = section.get("on_gap") {
        let words = [("stop", OnGap::Stop), ("skip", OnGap::Skip)];
        set(&mut settings.on_gap, reader.word(&section.path("on_gap"), node, &words));
    }
    settings
}

/// Reads `[transform]` over `settings`.
pub(super) fn read_transform(
    reader: &mut Reader<'_>,
    name: &str,
    node: &Node,
    mut settings: TransformSettings,
) -> TransformSettings {
    let Some(section) = reader.section(name, node, &settings_keys("transform")) else { return settings };
    if let Some(node) = section.get("threads") {
        set(&mut settings.threads, reader.count(&section.path("threads"), node, 1));
    }
    if let Some(node) = section.get("memory_budget") {
        set(&mut settings.memory_budget_bytes, reader.bytes_in_memory(&section.path("memory_budget"), node));
    }
    settings
}

/// Reads `[maintenance]` over `settings`.
pub(super) fn read_maintenance(
    reader: &mut Reader<'_>,
    name: &str,
    node: &Node,
    mut settings: MaintenanceSettings,
) -> MaintenanceSettings {
    let Some(section) = reader.section(name, node, &settings_keys("maintenance")) else { return settings };
    if let Some(node) = section.get("checkpoint_interval") {
        set(&mut settings.checkpoint_interval, reader.integer(&section.path("checkpoint_interval"), node, 1));
    }
    if let Some(node) = section.get("compact_min_files") {
        set(&mut settings.compact_min_files, reader.count(&section.path("compact_min_files"), node, 2));
    }
    if let Some(node) = section.get("target_file_bytes") {
        set(&mut settings.target_file_bytes, reader.bytes(&section.path("target_file_bytes"), node));
    }
    if let Some(node) = section.get("retention") {
        set(&mut settings.retention, reader.duration(&section.path("retention"), node));
    }
    settings
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

fn read_start(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<StartOffsets> {
    if let Data::Map(entries) = &node.data {
        let mut offsets = BTreeMap::new();
        for (partition, offset) in entries {
            let number = partition.name.rsplit_once('/').and_then(|(_, number)| number.parse::<u32>().ok());
            if number.is_none() {
                let name = &partition.name;
                reader.fault_hint(
                    partition.place,
                    crate::document::codes::BAD_VALUE,
                    format!("partition is not usable, key=`{key}`, value=`{name}`"),
                    "write \"topic/partition\" = offset",
                );
            }
            let offset = reader.integer(key, offset, 0).and_then(|offset| i64::try_from(offset).ok());
            if let (Some(_), Some(offset)) = (number, offset) {
                offsets.insert(partition.name.clone(), offset);
            }
        }
        return Some(StartOffsets::Offsets(offsets));
    }
    let text = reader.text(key, node)?;
    match text.as_str() {
        "earliest" => Some(StartOffsets::Earliest),
        "latest" => Some(StartOffsets::Latest),
        _ => {
            let instant = parse_instant(&text).map(|instant_us| StartOffsets::Timestamp(instant_us.div_euclid(1000)));
            if instant.is_none() {
                reader.bad_value(
                    key,
                    node,
                    "earliest, latest, a time such as 2025-03-09T00:00:00Z, or a table of offsets",
                );
            }
            instant
        }
    }
}
