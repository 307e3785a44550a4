//! What selectors and artifacts know about a node beyond its edges.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::Node;
use crate::project::{GenericTest, Model, NodeId, Project, SourceTable, TestConfig};

/// Facts about one node, from files alone.
#[derive(Clone, Debug, Default)]
pub struct Traits {
    /// The package that brings it: the project's own name.
    pub package: String,
    /// dbt's fully qualified name: package, folders below the model path, name; the source and the table for source tables.
    pub fqn: Vec<String>,
    /// The YAML file that describes it, relative to the project, when it is another than the node's own.
    pub patch_path: Option<String>,
    /// Configuration in force, defaults of the most asked-for keys filled in.
    pub config: Map<String, Json>,
    /// `access` of a model; dbt's default is `protected`.
    pub access: Option<String>,
    /// `group` of a model.
    pub group: Option<String>,
    /// Where a model's version stands: `latest`, `old` or `prerelease`; `None` for models without versions.
    pub version: Option<&'static str>,
    /// Whether a model is the history of another relation's rows.
    pub is_snapshot: bool,
    /// The generic test that a test calls; `None` for singular tests and everything else.
    pub test_name: Option<String>,
}

impl Traits {
    /// Collects what the project says about every node.
    pub(super) fn fill(project: &Project, nodes: &mut BTreeMap<NodeId, Node>) {
        let generic = project.generic_tests.iter().map(|test| (test.name.as_str(), test)).collect();
        for (id, node) in nodes {
            node.traits = Self::of(project, &generic, id, &node.path);
        }
    }

    fn of(project: &Project, generic: &HashMap<&str, &GenericTest>, id: &NodeId, path: &str) -> Self {
        let mut traits = Self::default();
        traits.package = package_of(project, generic, id);
        traits.fqn = fqn(&traits.package, id, path);
        match id {
            NodeId::Model(name) => {
                if let Some(model) = project.models.get(name) {
                    traits.patch_path = patch_of(project, &model.location.file, &model.path);
                    traits.config = model_config(model);
                    traits.is_snapshot = model.config.snapshot.is_some();
                    traits.version = version_of(project, name);
                    let extras = project.extras.models.get(name);
                    let raw = |key: &str| model.config.raw.get(key).and_then(Json::as_str).map(str::to_owned);
                    let declared = extras.and_then(|extras| extras.access.clone()).or_else(|| raw("access"));
                    traits.access = Some(declared.unwrap_or_else(|| "protected".to_owned()));
                    traits.group = extras.and_then(|extras| extras.group.clone()).or_else(|| raw("group"));
                }
            }
            NodeId::Seed(name) => {
                if let Some(seed) = project.seeds.get(name) {
                    traits.patch_path = patch_of(project, &seed.location.file, &seed.path);
                    traits.config = map(json!({
                        "enabled": true,
                        "materialized": "seed",
                        "tags": seed.tags,
                        "schema": seed.schema,
                        "column_types": seed.column_types.iter().collect::<std::collections::BTreeMap<_, _>>(),
                        "delimiter": seed.delimiter.to_string(),
                        "event_time": seed.event_time,
                    }));
                }
            }
            NodeId::Source(name) => {
                if let Some(source) = project.sources.get(name) {
                    traits.config = source_config(source);
                }
            }
            NodeId::Test(name) => {
                if let Some(test) = generic.get(name.as_str()) {
                    traits.test_name = Some(test.test.clone());
                    traits.config = test_config(&test.config);
                } else if let Some(test) = project.singular_tests.iter().find(|test| test.name == *name) {
                    traits.config = test_config(&test.config);
                } else if let Some(test) = project.unit_tests.iter().find(|test| test.name == *name) {
                    traits.config = map(json!({"enabled": true, "tags": test.tags}));
                }
            }
            NodeId::Exposure(name) => {
                if let Some(exposure) = project.extras.exposures.get(name) {
                    traits.config = map(json!({"enabled": true, "tags": exposure.tags, "meta": exposure.meta}));
                }
            }
        }
        traits
    }
}

/// The package that brings a node; what packages do not note is taken for the project's.
fn package_of(project: &Project, generic: &HashMap<&str, &GenericTest>, id: &NodeId) -> String {
    let found = match id {
        NodeId::Model(name) => project.models.get(name).map(|model| model.package.clone()),
        NodeId::Test(name) => generic.get(name.as_str()).map(|test| test.declared_by.clone()).or_else(|| {
            let singular = project.singular_tests.iter().find(|test| test.name == *name);
            singular.map(|test| test.package.clone())
        }),
        _ => None,
    };
    found.filter(|package| !package.is_empty()).unwrap_or_else(|| project.name.clone())
}

fn fqn(package: &str, id: &NodeId, path: &str) -> Vec<String> {
    let mut fqn = vec![package.to_owned()];
    // The first folder is the model path itself; the last part is the file.
    let parts: Vec<&str> = path.split('/').collect();
    fqn.extend(parts.iter().skip(1).take(parts.len().saturating_sub(2)).map(|part| (*part).to_owned()));
    match id {
        NodeId::Source(name) => fqn.extend([name.source.clone(), name.table.clone()]),
        other => fqn.push(other.name()),
    }
    fqn
}

/// `orders.v2` and, for the latest, `orders` lead to a model of versions. One behind the latest is no release yet.
fn version_of(project: &Project, model: &str) -> Option<&'static str> {
    let versions = &project.latest_versions;
    let (base, own) =
        versions.iter().filter(|(_, named)| *named == model).find_map(|(key, _)| key.rsplit_once(".v"))?;
    let latest = versions.get(base)?;
    if latest == model {
        return Some("latest");
    }
    let number = |text: &str| text.parse::<f64>().ok();
    let latest = versions.iter().filter(|(_, named)| *named == latest).find_map(|(key, _)| key.rsplit_once(".v"));
    let is_later = match latest.map(|(_, latest)| (number(own), number(latest), latest)) {
        Some((Some(own), Some(latest), _)) => own > latest,
        Some((_, _, latest)) => own > latest,
        None => false,
    };
    Some(if is_later { "prerelease" } else { "old" })
}

fn patch_of(project: &Project, described: &Path, own: &Path) -> Option<String> {
    (described != own).then(|| project.relative(described).display().to_string())
}

fn map(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

fn model_config(model: &Model) -> Map<String, Json> {
    let config = &model.config;
    let mut merged = map(json!({
        "enabled": config.enabled,
        "materialized": config.materialized,
        "tags": config.tags,
        "full_refresh": config.full_refresh,
        "contract": {"enforced": config.contract_enforced},
    }));
    if config.materialized == crate::project::Materialized::Incremental {
        merged.insert("incremental_strategy".to_owned(), json!(config.incremental_strategy));
    }
    merged.extend(config.raw.iter().filter(|(key, _)| *key != "tags").map(|(key, value)| (key.clone(), value.clone())));
    merged
}

fn source_config(source: &SourceTable) -> Map<String, Json> {
    map(json!({
        "enabled": true,
        "event_time": source.event_time,
        "tags": source.tags,
        "meta": source.meta,
        "loaded_at_field": source.loaded_at_field,
    }))
}

fn test_config(config: &TestConfig) -> Map<String, Json> {
    map(json!({
        "enabled": config.enabled,
        "materialized": "test",
        "severity": config.severity,
        "warn_if": config.warn_if,
        "error_if": config.error_if,
        "where": config.filter,
        "limit": config.limit,
        "store_failures": config.store_failures,
        "tags": config.tags,
    }))
}
