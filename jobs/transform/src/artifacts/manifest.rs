//! `manifest.json`: what the project is.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value as Json, json};

use super::Invocation;
use super::ids::Ids;
use super::nodes::{NodeWriter, Uses, class_of};
use crate::graph::{Node, TestType};
use crate::project::{NodeId, Project, SelectorRule};
use crate::run::Runner;

/// A macro of the project's files.
#[derive(Clone, Debug)]
pub(super) struct MacroBlock {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) sql: String,
}

impl Runner {
    /// The manifest: all nodes with their configurations and edges. `compiled` adds the SQL of nodes that were compiled.
    #[must_use]
    pub fn manifest(&self, invocation: &Invocation, compiled: &BTreeMap<NodeId, String>) -> Json {
        let project = self.project();
        let ids = Ids::of(self.graph());
        let macros = macro_blocks(project);
        let relations = self.compiler.relations();
        let writer = NodeWriter {
            project,
            graph: self.graph(),
            relations: &*relations,
            ids: &ids,
            compiled,
            macros: Uses::of(&macros),
        };
        let mut nodes = Map::new();
        let mut sources = Map::new();
        let mut exposures = Map::new();
        let mut parents: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut unit_tests = Map::new();
        // dbt has no word for stories.
        let is_story = |node: &NodeId| self.graph().test_type(node) == Some(TestType::Scenario);
        for (node, facts) in self.graph().nodes().filter(|(node, _)| !is_story(node)) {
            let id = ids.get(node).to_owned();
            let object = match facts.test_type {
                Some(TestType::Unit) => self.unit_test(&ids, node, facts),
                _ => writer.node(node, facts),
            };
            match class_of(node) {
                _ if facts.test_type == Some(TestType::Unit) => unit_tests.insert(id.clone(), object),
                "sources" => sources.insert(id.clone(), object),
                "exposures" => exposures.insert(id.clone(), object),
                _ => nodes.insert(id.clone(), object),
            };
            if let Some(group) = &facts.traits.group {
                groups.entry(group.clone()).or_default().push(id.clone());
            }
            let all = |nodes: &indexmap::IndexSet<NodeId>| {
                nodes.iter().filter(|node| !is_story(node)).map(|node| ids.get(node).to_owned()).collect()
            };
            parents.insert(id.clone(), all(&facts.parents));
            children.insert(id, all(&facts.children));
        }
        let mut metadata = invocation.metadata("manifest/v12");
        metadata.insert("project_name".to_owned(), json!(project.name));
        metadata.insert("adapter_type".to_owned(), json!("tidemill"));
        json!({
            "metadata": metadata,
            "nodes": nodes,
            "sources": sources,
            "macros": macros.iter().map(|block| (block.id.clone(), writer.macro_block(block))).collect::<Map<_, _>>(),
            "docs": {},
            "exposures": exposures,
            "metrics": {},
            "groups": self.groups(),
            "selectors": selectors(project),
            "disabled": {},
            "parent_map": parents,
            "child_map": children,
            "group_map": groups,
            "saved_queries": {},
            "semantic_models": {},
            "unit_tests": unit_tests,
            "functions": {},
        })
    }

    fn groups(&self) -> Map<String, Json> {
        let project = self.project();
        let groups = project.extras.groups.values().map(|group| {
            let path = project.relative(&group.location.file).display().to_string();
            let id = format!("group.{}.{}", project.name, group.name);
            let object = json!({
                "name": group.name,
                "resource_type": "group",
                "package_name": project.name,
                "path": path,
                "original_file_path": path,
                "unique_id": id,
                "owner": group.owner,
                "description": group.description,
            });
            (id, object)
        });
        groups.collect()
    }

    fn unit_test(&self, ids: &Ids, node: &NodeId, facts: &Node) -> Json {
        let project = self.project();
        let name = node.name();
        let Some(test) = project.unit_tests.iter().find(|test| test.name == name) else { return Json::Null };
        let parents: Vec<&str> = facts.parents.iter().map(|parent| ids.get(parent)).collect();
        json!({
            "model": test.model,
            "given": fixtures(test.raw.get("given")),
            "expect": fixture(test.raw.get("expect").unwrap_or(&Json::Null), &["rows", "format", "fixture"]),
            "overrides": overrides(test.raw.get("overrides")),
            "name": test.name,
            "description": test.description,
            "resource_type": "unit_test",
            "package_name": facts.traits.package,
            "path": facts.path,
            "original_file_path": facts.path,
            "unique_id": ids.get(node),
            "fqn": facts.traits.fqn,
            "depends_on": {"macros": [], "nodes": parents},
            "config": {"tags": test.tags},
        })
    }
}

fn fixtures(given: Option<&Json>) -> Vec<Json> {
    let inputs = given.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    inputs.iter().map(|input| fixture(input, &["input", "rows", "format", "fixture"])).collect()
}

/// The keys of a fixture that the schema knows.
fn fixture(value: &Json, keys: &[&str]) -> Json {
    let kept = value.as_object().into_iter().flatten().filter(|(key, _)| keys.contains(&key.as_str()));
    Json::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn overrides(value: Option<&Json>) -> Json {
    value.filter(|value| value.is_object()).map_or(Json::Null, |value| fixture(value, &["macros", "vars", "env_vars"]))
}

fn selectors(project: &Project) -> Map<String, Json> {
    let told = project.extras.selectors.values().map(|definition| {
        let object = json!({
            "name": definition.name,
            "description": definition.description,
            "default": definition.default,
            "definition": rule(&definition.rule),
        });
        (definition.name.clone(), object)
    });
    told.collect()
}

fn rule(definition: &SelectorRule) -> Json {
    match definition {
        SelectorRule::Text(text) => json!(text),
        SelectorRule::Named(name) => json!({"method": "selector", "value": name}),
        SelectorRule::Union(members) => json!({"union": members.iter().map(rule).collect::<Vec<_>>()}),
        SelectorRule::Intersection(members) => json!({"intersection": members.iter().map(rule).collect::<Vec<_>>()}),
        SelectorRule::Except(inner, excluded) => json!({"union": [rule(inner), {"exclude": [rule(excluded)]}]}),
        SelectorRule::Term(term) => {
            let mut object = json!({"method": term.method, "value": term.value});
            for (key, set) in
                [("parents", term.parents), ("children", term.children), ("childrens_parents", term.childrens_parents)]
            {
                if set {
                    object[key] = json!(true);
                }
            }
            for (key, depth) in [("parents_depth", term.parents_depth), ("children_depth", term.children_depth)] {
                if let Some(depth) = depth {
                    object[key] = json!(depth);
                }
            }
            object
        }
    }
}

/// Cuts macro files into their blocks. A file that does not parse has been refused before.
pub(super) fn macro_blocks(project: &Project) -> Vec<MacroBlock> {
    let begin = Regex::new(r"\{%-?\s*(macro|test|data_test|materialization)\s+([A-Za-z_]\w*)")
        .expect("a constant that was tried");
    let end =
        Regex::new(r"\{%-?\s*end(?:macro|test|data_test|materialization)\s*-?%\}").expect("a constant that was tried");
    let mut blocks = Vec::new();
    for file in &project.macros {
        for found in begin.captures_iter(&file.text) {
            let (Some(whole), Some(kind), Some(name)) = (found.get(0), found.get(1), found.get(2)) else { continue };
            let rest = &file.text[whole.start()..];
            let length = end.find(rest).map_or(rest.len(), |end| end.end());
            let prefix = if kind.as_str().ends_with("test") { "test_" } else { "" };
            let name = format!("{prefix}{}", name.as_str());
            blocks.push(MacroBlock {
                id: format!("macro.{}.{name}", project.name),
                name,
                path: project.relative(&file.path).display().to_string(),
                sql: rest[..length].to_owned(),
            });
        }
    }
    blocks
}
