//! `graph` as templates see it: the manifest's nodes, before anything is compiled.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::ids::Ids;
use super::manifest::macro_blocks;
use super::nodes::{NodeWriter, Uses, class_of};
use crate::graph::{Graph, TestType};
use crate::project::Project;
use crate::render::{DATABASE, Relations};

/// `graph.nodes`, `graph.sources` and `graph.exposures`, by unique id.
pub(crate) fn template_graph(project: &Project, graph: &Graph, relations: &dyn Relations) -> Json {
    let ids = Ids::of(graph);
    let macros = macro_blocks(project);
    let compiled = BTreeMap::new();
    let writer = NodeWriter { project, graph, relations, ids: &ids, compiled: &compiled, macros: Uses::of(&macros) };
    let mut classes: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    let is_dbts = |kind: Option<TestType>| !matches!(kind, Some(TestType::Scenario | TestType::Unit));
    for (node, facts) in graph.nodes().filter(|(_, facts)| is_dbts(facts.test_type)) {
        let mut object = writer.node(node, facts);
        if let Some(object) = object.as_object_mut() {
            for (key, nothing) in
                [("columns", json!({})), ("meta", json!({})), ("description", json!("")), ("refs", json!([]))]
            {
                object.entry(key).or_insert(nothing);
            }
        }
        if let Some(database) = object.get_mut("database") {
            *database = json!(DATABASE);
        }
        classes.entry(class_of(node)).or_default().insert(ids.get(node).to_owned(), object);
    }
    let mut class = |name: &str| classes.remove(name).unwrap_or_default();
    json!({
        "nodes": class("nodes"), "sources": class("sources"), "exposures": class("exposures"),
        "metrics": {}, "groups": {}, "semantic_models": {}, "saved_queries": {},
    })
}
