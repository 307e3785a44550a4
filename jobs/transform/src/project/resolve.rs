//! What a package's YAML and macro files say, with the Jinja in their values resolved.

use serde_json::{Map, Value as Json};

use super::files::{files, read_text};
use super::model::MacroFile;
use super::properties::Properties;
use super::settings::{self, Settings};
use super::yaml::{Data, Node, Place, Reader};
use crate::error::codes;
use crate::render::YamlValues;

pub(super) fn read_macros(reader: &mut Reader, settings: &Settings) -> Vec<MacroFile> {
    let mut found = Vec::new();
    let generic = settings.test_paths.iter().map(|dir| dir.join("generic"));
    for dir in settings.macro_paths.iter().cloned().chain(generic) {
        for path in files(reader, &dir, &["sql"]) {
            if let Some(text) = read_text(reader, &path) {
                found.push(MacroFile { package: settings.name.clone(), path, text });
            }
        }
    }
    found
}

pub(super) fn read_properties(reader: &mut Reader, settings: &Settings, values: &YamlValues) -> Properties {
    let mut properties = Properties::default();
    let dirs = [
        &settings.model_paths,
        &settings.seed_paths,
        &settings.snapshot_paths,
        &settings.test_paths,
        &settings.macro_paths,
    ];
    let mut seen = std::collections::BTreeSet::new();
    for dir in dirs.into_iter().flatten() {
        for path in files(reader, dir, &["yml", "yaml"]) {
            if !seen.insert(path.clone()) {
                continue;
            }
            let Some(text) = read_text(reader, &path) else { continue };
            match Node::parse(&path, &text) {
                Ok(mut root) => {
                    resolve_configs(reader, values, &mut root);
                    properties.read(reader, &root);
                    properties.extras.read(reader, &root);
                }
                Err(fault) => reader.faults.push(fault),
            }
        }
    }
    properties
}

/// Resolves Jinja below every `config:` of models and seeds, and the switches of sources. Contracts of sources are resolved by
/// who reads them; arguments of tests stay as they are, because they may call `ref`.
fn resolve_configs(reader: &mut Reader, values: &YamlValues, root: &mut Node) {
    let Data::Map(top) = &mut root.data else { return };
    for sources in top.iter_mut().filter(|entry| entry.key == "sources") {
        resolve_switches(reader, values, &mut sources.value);
    }
    for entry in top.iter_mut().filter(|entry| matches!(entry.key.as_str(), "models" | "seeds" | "snapshots")) {
        let Data::List(items) = &mut entry.value.data else { continue };
        for item in items {
            let Data::Map(keys) = &mut item.data else { continue };
            for key in keys.iter_mut().filter(|key| matches!(key.key.as_str(), "config" | "meta")) {
                settings::change_configs(&mut key.value, &mut |place, text| resolve_text(reader, values, place, text));
            }
        }
    }
}

/// `config: enabled:` of each source of a list, and of each of its tables.
fn resolve_switches(reader: &mut Reader, values: &YamlValues, sources: &mut Node) {
    let Data::List(items) = &mut sources.data else { return };
    for item in items {
        let Data::Map(keys) = &mut item.data else { continue };
        for key in keys {
            match (key.key.as_str(), &mut key.value.data) {
                ("config", Data::Map(config)) => {
                    for switch in config.iter_mut().filter(|entry| entry.key == "enabled") {
                        switch.value.change_texts(&mut |place, text| resolve_text(reader, values, place, text));
                    }
                }
                ("tables", _) => resolve_switches(reader, values, &mut key.value),
                _ => {}
            }
        }
    }
}

pub(super) fn resolve_text(reader: &mut Reader, values: &YamlValues, place: &Place, text: &str) -> Option<Json> {
    if !text.contains("{{") && !text.contains("{%") {
        return None;
    }
    match values.resolve(text) {
        Ok(value) => Some(value),
        Err(why) => {
            match why.split_once("; ") {
                Some((message, hint)) => reader.fault_hint(place, codes::YAML_EXPRESSION, message, hint),
                None => reader.fault(place, codes::YAML_EXPRESSION, why),
            }
            None
        }
    }
}

/// What a package says about its own variables stands below what the project says about them.
pub(super) fn add_package_vars(vars: &mut Map<String, Json>, package: &Settings) {
    let mut scoped = package.vars.clone();
    for (key, value) in &mut scoped {
        if let Some(global) = vars.get(key) {
            value.clone_from(global);
        }
    }
    if let Some(Json::Object(own)) = vars.get(&package.name) {
        scoped.extend(own.clone());
    }
    if !scoped.is_empty() {
        vars.insert(package.name.clone(), Json::Object(scoped));
    }
}
