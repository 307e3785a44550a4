//! What changed since an earlier manifest, run or look at sources: the facts behind `state:`, `result:`, `source_status:`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;

use super::ids::Ids;
use super::{ArtifactError, Cause, Invocation, PreviousRun, names, read};
use crate::graph::{Facts, STATES, Selection};
use crate::project::NodeId;
use crate::run::Runner;

/// Where artifacts of earlier commands lie.
#[derive(Clone, Copy, Debug)]
pub struct StateDirs<'a> {
    /// `--state`.
    pub state: Option<&'a Path>,
    /// The project's own target folder, as the last command left it.
    pub target: &'a Path,
}

impl Runner {
    /// Reads the artifacts that a selection asks for and works out what it means by them. A selection that asks for none
    /// reads nothing.
    ///
    /// # Errors
    /// `--state` names no folder; an artifact that is needed is not there or is none.
    pub fn facts(&self, selection: &Selection, dirs: StateDirs<'_>) -> Result<Facts, ArtifactError> {
        let mut facts = Facts::default();
        if let Some(state) = dirs.state
            && !state.is_dir()
        {
            return Err(Cause::MissingDir { path: state.to_path_buf() }.into());
        }
        let mut texts: Vec<String> = selection.select.iter().chain(&selection.exclude).cloned().collect();
        texts.extend(self.graph().definitions().map(|definition| format!("{:?}", definition.rule)));
        let asks = |method: &str| texts.iter().any(|text| text.contains(method));
        if asks("state")
            && let Some(state) = dirs.state
        {
            facts.state = Some(self.compare(&read(state, names::MANIFEST)?));
        }
        if asks("result") {
            match PreviousRun::read(self, dirs.state.unwrap_or(dirs.target)) {
                Ok(previous) => facts.results = Some(previous.by_status),
                Err(error) if dirs.state.is_some() => return Err(error),
                // Without a folder it is the selector that says what it misses.
                Err(_) => {}
            }
        }
        if asks("source_status")
            && let Some(state) = dirs.state
        {
            facts.fresher = Some(self.fresher(&read(state, names::SOURCES)?, &read(dirs.target, names::SOURCES)?));
        }
        Ok(facts)
    }

    /// Sources that have a newer row now, or that were not looked at then.
    fn fresher(&self, before: &Json, now: &Json) -> BTreeSet<NodeId> {
        let newest = |artifact: &Json| -> BTreeMap<String, String> {
            let results = artifact["results"].as_array().into_iter().flatten();
            let told = results.filter_map(|result| {
                Some((result["unique_id"].as_str()?.to_owned(), result["max_loaded_at"].as_str()?.to_owned()))
            });
            told.collect()
        };
        let ids = Ids::of(self.graph());
        let nodes = ids.nodes();
        let before = newest(before);
        // Instants are written in one form, so that their texts sort as they do.
        let later = newest(now).into_iter().filter(|(id, at)| before.get(id).is_none_or(|then| then < at));
        later.filter_map(|(id, _)| nodes.get(id.as_str()).map(|node| (*node).clone())).collect()
    }

    /// Compares the project with an earlier manifest, of ours or of dbt's.
    fn compare(&self, before: &Json) -> BTreeMap<String, BTreeSet<NodeId>> {
        let invocation = Invocation { id: String::new(), started_at_us: 0, now_us: 0 };
        let now = self.manifest(&invocation, &BTreeMap::new());
        let ids = Ids::of(self.graph());
        let mut sets: BTreeMap<String, BTreeSet<NodeId>> =
            STATES.iter().map(|state| ((*state).to_owned(), BTreeSet::new())).collect();
        let mut add = |state: &str, node: &NodeId| {
            sets.entry(state.to_owned()).or_default().insert(node.clone());
        };
        for (id, node) in ids.nodes() {
            let Some(own) = find(&now, id) else { continue };
            let Some(earlier) = find(before, id) else {
                add("new", node);
                add("modified", node);
                continue;
            };
            add("old", node);
            let mut is_modified = false;
            for (part, differs) in [
                ("modified.body", body_differs(node, earlier, own)),
                ("modified.configs", config_of(earlier) != config_of(own)),
                ("modified.relation", relation_of(earlier) != relation_of(own)),
                ("modified.persisted_descriptions", descriptions_differ(earlier, own)),
                ("modified.macros", macros_of(before, earlier) != macros_of(&now, own)),
                ("modified.contract", contract_of(earlier) != contract_of(own)),
            ] {
                if differs {
                    add(part, node);
                    is_modified = true;
                }
            }
            add(if is_modified { "modified" } else { "unmodified" }, node);
        }
        sets
    }
}

fn find<'a>(manifest: &'a Json, id: &str) -> Option<&'a Json> {
    ["nodes", "sources", "exposures", "unit_tests"].iter().find_map(|part| manifest[*part].get(id))
}

fn body_differs(node: &NodeId, earlier: &Json, own: &Json) -> bool {
    let differs = |keys: &[&str]| keys.iter().any(|key| earlier[*key] != own[*key]);
    match node {
        NodeId::Source(_) => differs(&["freshness", "loaded_at_field", "loader", "fqn"]),
        NodeId::Exposure(_) => {
            differs(&["type", "owner", "maturity", "url", "description", "label"])
                || earlier["depends_on"]["nodes"] != own["depends_on"]["nodes"]
        }
        NodeId::Test(_) if own["resource_type"] == "unit_test" => differs(&["given", "expect", "overrides", "model"]),
        NodeId::Test(_) if !own["test_metadata"].is_null() => differs(&["test_metadata", "column_name"]),
        NodeId::Model(_) | NodeId::Seed(_) | NodeId::Test(_) => differs(&["checksum", "fqn"]),
    }
}

/// What people wrote, where the manifest keeps it; else what came of it.
fn config_of(node: &Json) -> &Json {
    match &node["unrendered_config"] {
        Json::Object(raw) if !raw.is_empty() => &node["unrendered_config"],
        _ => &node["config"],
    }
}

fn relation_of(node: &Json) -> (&Json, &Json, &Json) {
    (&node["schema"], &node["alias"], &node["identifier"])
}

/// dbt counts descriptions only where they are written to the warehouse.
fn descriptions_differ(earlier: &Json, own: &Json) -> bool {
    let persists = |level: &str| own["config"]["persist_docs"][level].as_bool() == Some(true);
    let of_columns = |node: &Json| -> BTreeMap<String, String> {
        let columns = node["columns"].as_object().into_iter().flatten();
        columns.map(|(name, column)| (name.clone(), column["description"].to_string())).collect()
    };
    (persists("relation") && earlier["description"] != own["description"])
        || (persists("columns") && of_columns(earlier) != of_columns(own))
}

fn contract_of(node: &Json) -> Option<&Json> {
    (node["contract"]["enforced"].as_bool() == Some(true)).then(|| &node["contract"]["checksum"])
}

/// The macros that a node calls, directly and through others, with their text.
fn macros_of<'a>(manifest: &'a Json, node: &'a Json) -> BTreeMap<&'a str, &'a str> {
    let mut found = BTreeMap::new();
    let mut waiting: Vec<&Json> = node["depends_on"]["macros"].as_array().into_iter().flatten().collect();
    while let Some(id) = waiting.pop().and_then(Json::as_str) {
        let block = &manifest["macros"][id];
        if found.insert(id, block["macro_sql"].as_str().unwrap_or_default()).is_none() {
            waiting.extend(block["depends_on"]["macros"].as_array().into_iter().flatten());
        }
    }
    found
}
