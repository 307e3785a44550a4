//! The nodes of a manifest.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::ids::Ids;
use super::manifest::MacroBlock;
use crate::graph::{Graph, Node};
use crate::plan::{identifier_of, schema_of};
use crate::project::{Column, NodeId, Project, RefCall};
use crate::render::Relations;
use crate::run::hex;

/// The part of the manifest that a node stands in.
pub(super) fn class_of(node: &NodeId) -> &'static str {
    match node {
        NodeId::Source(_) => "sources",
        NodeId::Exposure(_) => "exposures",
        NodeId::Seed(_) | NodeId::Model(_) | NodeId::Test(_) => "nodes",
    }
}

/// Which macros of the project a text calls, by name.
#[derive(Debug)]
pub(super) struct Uses<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Uses<'a> {
    pub(super) fn of(macros: &'a [MacroBlock]) -> Self {
        Self(macros.iter().map(|block| (block.name.as_str(), block.id.as_str())).collect())
    }

    /// Ids of macros whose name stands before a parenthesis, sorted. Names inside of strings count, too: a macro too many
    /// makes `state:modified` select a little more, one too few would hide a change.
    fn calls(&self, text: &str) -> Vec<&'a str> {
        let mut found = Vec::new();
        for (name, id) in &self.0 {
            let called = text.match_indices(name).any(|(at, _)| {
                let before = text[..at].chars().next_back();
                let after = text[at + name.len()..].trim_start();
                after.starts_with('(') && !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
            });
            if called {
                found.push(*id);
            }
        }
        found
    }
}

pub(super) struct NodeWriter<'a> {
    pub(super) project: &'a Project,
    pub(super) graph: &'a Graph,
    pub(super) relations: &'a dyn Relations,
    pub(super) ids: &'a Ids,
    pub(super) compiled: &'a BTreeMap<NodeId, String>,
    pub(super) macros: Uses<'a>,
}

impl NodeWriter<'_> {
    pub(super) fn node(&self, id: &NodeId, node: &Node) -> Json {
        let mut object = self.common(id, node);
        match id {
            NodeId::Model(name) => self.model(&mut object, id, node, name),
            NodeId::Seed(name) => self.seed(&mut object, id, node, name),
            NodeId::Test(name) => self.test(&mut object, id, node, name),
            NodeId::Source(_) => self.source(&mut object, id, node),
            NodeId::Exposure(name) => self.exposure(&mut object, node, name),
        }
        Json::Object(object)
    }

    pub(super) fn macro_block(&self, block: &MacroBlock) -> Json {
        let project = self.project;
        let description = project.extras.macros.get(&block.name).cloned().unwrap_or_default();
        let calls: Vec<&str> = self.macros.calls(&block.sql).into_iter().filter(|id| *id != block.id).collect();
        json!({
            "name": block.name,
            "resource_type": "macro",
            "package_name": project.name,
            "path": block.path,
            "original_file_path": block.path,
            "unique_id": block.id,
            "macro_sql": block.sql,
            "depends_on": {"macros": calls},
            "description": description,
            "meta": {},
            "arguments": [],
        })
    }

    fn common(&self, id: &NodeId, node: &Node) -> Map<String, Json> {
        let name = match id {
            NodeId::Source(name) => name.table.clone(),
            other => other.name(),
        };
        // dbt's `path` leaves the model path out.
        let path = node.path.split_once('/').map_or(node.path.as_str(), |(_, inner)| inner);
        into_map(json!({
            "name": name,
            "resource_type": node.kind(id),
            "package_name": node.traits.package,
            "path": path,
            "original_file_path": node.path,
            "unique_id": self.ids.get(id),
            "fqn": node.traits.fqn,
            "tags": node.tags,
        }))
    }

    fn relation_of(&self, id: &NodeId) -> Option<String> {
        self.relations.relation(id).map(|relation| relation.sql)
    }

    fn model(&self, object: &mut Map<String, Json>, id: &NodeId, node: &Node, name: &str) {
        let project = self.project;
        let Some(model) = project.models.get(name) else { return };
        let extras = project.extras.models.get(name).cloned().unwrap_or_default();
        let compiled = self.compiled.get(id);
        object.extend(into_map(json!({
            "database": Json::Null,
            "schema": schema_of(project, model),
            "alias": identifier_of(model),
            "relation_name": self.relation_of(id),
            "checksum": checksum(&model.raw_sql),
            "config": config(&node.traits.config),
            "unrendered_config": config(&model.config.raw),
            "description": model.description,
            "columns": columns(&model.columns),
            "meta": model.config.meta,
            "group": node.traits.group,
            "access": node.traits.access,
            "patch_path": Self::patch_path(node),
            "raw_code": model.raw_sql,
            "language": "sql",
            "refs": refs(&model.uses.refs),
            "sources": model.uses.sources.iter().map(|name| json!([name.source, name.table])).collect::<Vec<_>>(),
            "depends_on": self.depends_on(node, &model.raw_sql),
            "compiled": compiled.is_some(),
            "contract": {
                "enforced": model.config.contract_enforced,
                "checksum": model.config.contract_enforced.then(|| sha256(&contract_text(&model.columns))),
            },
            "constraints": extras.constraints,
            "latest_version": extras.latest_version,
            "deprecation_date": extras.deprecation_date,
            "primary_key": model.config.unique_key,
        })));
        if let Some(sql) = compiled {
            object.insert("compiled_code".to_owned(), json!(sql));
        }
        if node.traits.is_snapshot {
            for of_models in ["access", "constraints", "latest_version", "deprecation_date", "primary_key"] {
                object.remove(of_models);
            }
        }
    }

    fn seed(&self, object: &mut Map<String, Json>, id: &NodeId, node: &Node, name: &str) {
        let project = self.project;
        let Some(seed) = project.seeds.get(name) else { return };
        let text = std::fs::read(&seed.path).unwrap_or_default();
        object.extend(into_map(json!({
            "database": Json::Null,
            "schema": seed.schema.clone().unwrap_or_else(|| project.target.schema.clone()),
            "alias": seed.name,
            "relation_name": self.relation_of(id),
            "checksum": {"name": "sha256", "checksum": hex(&Sha256::digest(&text))},
            "config": config(&node.traits.config),
            "description": seed.description,
            "columns": columns(&seed.columns),
            "patch_path": Self::patch_path(node),
            "raw_code": "",
            "root_path": project.root.display().to_string(),
            "depends_on": {"macros": []},
        })));
    }

    fn test(&self, object: &mut Map<String, Json>, id: &NodeId, node: &Node, name: &str) {
        let project = self.project;
        let compiled = self.compiled.get(id);
        object.extend(into_map(json!({
            "database": Json::Null,
            "schema": format!("{}_dbt_test__audit", project.target.schema),
            "alias": name,
            "checksum": checksum(name),
            "config": config(&node.traits.config),
            "language": "sql",
            "compiled": compiled.is_some(),
        })));
        if let Some(sql) = compiled {
            object.insert("compiled_code".to_owned(), json!(sql));
        }
        if let Some(test) = project.generic_tests.iter().find(|test| test.name == name) {
            let mut kwargs = test.args.clone();
            if let Some(column) = &test.column {
                kwargs.insert("column_name".to_owned(), json!(column));
            }
            let attached = self.graph.get(&test.attached_to);
            let call = format!("{{{{ test_{}(**_dbt_generic_test_kwargs) }}}}", test.test);
            object.extend(into_map(json!({
                "checksum": checksum(&format!("{} {}", test.test, json!(kwargs))),
                "description": test.description,
                "raw_code": call,
                "refs": refs(&test.uses.refs),
                "sources": test.uses.sources.iter().map(|name| json!([name.source, name.table])).collect::<Vec<_>>(),
                "depends_on": self.depends_on(node, &format!("test_{}(", test.test)),
                "column_name": test.column,
                "attached_node": self.ids.get(&test.attached_to),
                "file_key_name": format!("{}s.{}", attached.map_or("model", |attached| attached.kind(&test.attached_to)), test.attached_to.name()),
                "test_metadata": {"name": test.test, "kwargs": kwargs, "namespace": test.package},
            })));
        } else if let Some(test) = project.singular_tests.iter().find(|test| test.name == name) {
            object.extend(into_map(json!({
                "checksum": checksum(&test.raw_sql),
                "raw_code": test.raw_sql,
                "refs": refs(&test.uses.refs),
                "sources": test.uses.sources.iter().map(|name| json!([name.source, name.table])).collect::<Vec<_>>(),
                "depends_on": self.depends_on(node, &test.raw_sql),
            })));
        }
    }

    fn source(&self, object: &mut Map<String, Json>, id: &NodeId, node: &Node) {
        let NodeId::Source(name) = id else { return };
        let project = self.project;
        let Some(source) = project.sources.get(name) else { return };
        let extras = project.extras.sources.get(name).cloned().unwrap_or_default();
        object.extend(into_map(json!({
            "database": Json::Null,
            "schema": name.source,
            "identifier": name.table,
            "source_name": name.source,
            "source_description": extras.source_description,
            "loader": extras.loader,
            "loaded_at_field": source.loaded_at_field,
            "loaded_at_query": extras.loaded_at_query,
            "freshness": extras.freshness,
            "description": source.description,
            "columns": columns(&source.columns),
            "meta": source.meta,
            "config": config(&node.traits.config),
            "relation_name": self.relation_of(id),
        })));
    }

    fn exposure(&self, object: &mut Map<String, Json>, node: &Node, name: &str) {
        let Some(exposure) = self.project.extras.exposures.get(name) else { return };
        object.extend(into_map(json!({
            "type": exposure.kind,
            "owner": exposure.owner,
            "description": exposure.description,
            "label": exposure.label,
            "url": exposure.url,
            "meta": exposure.meta,
            "config": config(&node.traits.config),
            "depends_on": {"macros": [], "nodes": self.ids_of(node)},
            "refs": refs(&exposure.uses.refs),
            "sources": exposure.uses.sources.iter().map(|name| json!([name.source, name.table])).collect::<Vec<_>>(),
        })));
        if let Some(maturity) = &exposure.maturity {
            object.insert("maturity".to_owned(), json!(maturity));
        }
    }

    fn ids_of(&self, node: &Node) -> Vec<&str> {
        node.parents.iter().map(|parent| self.ids.get(parent)).collect()
    }

    fn depends_on(&self, node: &Node, text: &str) -> Json {
        json!({"macros": self.macros.calls(text), "nodes": self.ids_of(node)})
    }

    fn patch_path(node: &Node) -> Option<String> {
        node.traits.patch_path.as_ref().map(|path| format!("{}://{path}", node.traits.package))
    }
}

fn into_map(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn checksum(text: &str) -> Json {
    json!({"name": "sha256", "checksum": sha256(text)})
}

/// What a contract promises.
fn contract_text(columns: &IndexMap<String, Column>) -> String {
    let told = columns.values().map(|column| format!("{}:{}", column.name, column.data_type.as_deref().unwrap_or("")));
    told.collect::<Vec<_>>().join("\n")
}

fn refs(calls: &[RefCall]) -> Vec<Json> {
    calls.iter().map(|call| json!({"name": call.name, "package": call.package, "version": Json::Null})).collect()
}

fn columns(columns: &IndexMap<String, Column>) -> Map<String, Json> {
    let told = columns.values().map(|column| {
        let object = json!({
            "name": column.name,
            "description": column.description,
            "meta": column.meta,
            "data_type": column.data_type,
            "constraints": [],
            "quote": Json::Null,
            "tags": [],
            "config": {"meta": column.meta, "tags": []},
        });
        (column.name.clone(), object)
    });
    told.collect()
}

/// A configuration in the schema's form: hooks are lists of objects there, and nulls stand for what nobody said.
fn config(raw: &Map<String, Json>) -> Map<String, Json> {
    let mut config = Map::new();
    for (key, value) in raw {
        if value.is_null() {
            continue;
        }
        match key.as_str() {
            "pre_hook" | "pre-hook" => config.insert("pre-hook".to_owned(), hooks(value)),
            "post_hook" | "post-hook" => config.insert("post-hook".to_owned(), hooks(value)),
            "packages" if !value.is_array() => config.insert(key.clone(), json!([value])),
            _ => config.insert(key.clone(), value.clone()),
        };
    }
    config
}

fn hooks(value: &Json) -> Json {
    let items = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let told = items.iter().map(|item| match item {
        Json::Object(hook) => json!({
            "sql": hook.get("sql").and_then(Json::as_str).unwrap_or_default(),
            "transaction": hook.get("transaction").and_then(Json::as_bool).unwrap_or(true),
        }),
        other => json!({"sql": other.as_str().map_or_else(|| other.to_string(), str::to_owned), "transaction": true}),
    });
    Json::Array(told.collect())
}
