//! The documentation site: one HTML page that holds its data, style and script and asks nobody for anything.
//!
//! It is made from the artifacts, so that it shows what other tools would read: the manifest, the catalog, and the results and
//! freshness of the last commands where there are any.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::artifacts::Invocation;
use crate::project::NodeId;
use crate::run::{Lineage, Runner};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// What the site is made from.
#[derive(Clone, Debug)]
pub struct SiteParts<'a> {
    /// `manifest.json`, with compiled SQL where it shall be shown.
    pub manifest: &'a Json,
    /// `catalog.json`.
    pub catalog: &'a Json,
    /// `run_results.json` of the last command, or null.
    pub results: &'a Json,
    /// `sources.json` of the last look, or null.
    pub sources: &'a Json,
    /// Lineage of columns; empty when it is not known.
    pub lineage: &'a Lineage,
}

/// Builds the page.
#[must_use]
pub fn page(runner: &Runner, parts: &SiteParts<'_>, invocation: &Invocation) -> String {
    let data = Site { runner, parts, ids: runner.unique_ids(), statuses: statuses(parts.results) }.data(invocation);
    // In a script element only `</` and `<!--` mean anything to HTML, and JSON may write `<` as an escape.
    let data = data.to_string().replace('<', "\\u003c");
    let title = escaped(&runner.project().name);
    // The data goes in last: nothing in it is taken for a place to fill.
    PAGE.replace("@TITLE@", &title).replace("@STYLE@", STYLE).replace("@SCRIPT@", SCRIPT).replace("@DATA@", &data)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Status, failures by unique id.
fn statuses(results: &Json) -> BTreeMap<&str, &Json> {
    let results = results["results"].as_array().into_iter().flatten();
    results.filter_map(|result| Some((result["unique_id"].as_str()?, result))).collect()
}

struct Site<'a> {
    runner: &'a Runner,
    parts: &'a SiteParts<'a>,
    ids: BTreeMap<NodeId, String>,
    statuses: BTreeMap<&'a str, &'a Json>,
}

impl Site<'_> {
    fn data(&self, invocation: &Invocation) -> Json {
        let shown = |node: &&NodeId| !matches!(node, NodeId::Test(_));
        let order: Vec<&str> = self.runner.graph().order().filter(shown).map(|node| self.id(node)).collect();
        let nodes: Vec<Json> = self.runner.graph().order().filter(shown).map(|node| self.node(node)).collect();
        let macros = self.parts.manifest["macros"].as_object().into_iter().flatten();
        let macros: Vec<Json> = macros
            .map(|(_, block)| {
                json!({
                    "name": block["name"],
                    "path": block["original_file_path"],
                    "description": block["description"],
                    "sql": block["macro_sql"],
                })
            })
            .collect();
        let generated_at = chrono::DateTime::from_timestamp_micros(invocation.now_us)
            .map(|at| at.format("%Y-%m-%d %H:%M UTC").to_string())
            .unwrap_or_default();
        json!({
            "project": self.runner.project().name,
            "generated_at": generated_at,
            "nodes": nodes,
            "order": order,
            "macros": macros,
        })
    }

    fn id(&self, node: &NodeId) -> &str {
        self.ids.get(node).map(String::as_str).unwrap_or_default()
    }

    fn node(&self, node: &NodeId) -> Json {
        let id = self.id(node);
        let graph = self.runner.graph();
        let Some(facts) = graph.get(node) else { return Json::Null };
        let manifest = self.parts.manifest;
        let own = ["nodes", "sources", "exposures"].iter().find_map(|part| manifest[*part].get(id));
        let own = own.unwrap_or(&Json::Null);
        let catalog = ["nodes", "sources"].iter().find_map(|part| self.parts.catalog[*part].get(id));
        let catalog = catalog.unwrap_or(&Json::Null);
        let description = own["description"].as_str().unwrap_or_default().trim();
        let shown = |nodes: &indexmap::IndexSet<NodeId>| -> Vec<String> {
            let others = nodes.iter().filter(|other| !matches!(other, NodeId::Test(_)));
            others.map(|other| self.id(other).to_owned()).collect()
        };
        let (label, short) = match node {
            NodeId::Source(name) => (name.to_string(), name.table.clone()),
            other => (other.name(), other.name()),
        };
        let stat = |name: &str| catalog["stats"][name]["value"].clone();
        let inner = facts.traits.fqn.len().saturating_sub(1);
        json!({
            "id": id,
            "kind": own["resource_type"],
            "label": label,
            "short": short,
            "folders": facts.traits.fqn.get(1..inner.max(1)).unwrap_or_default(),
            "path": facts.path,
            "description": description,
            "summary": description.split(". ").next().unwrap_or_default().replace('\n', " "),
            "relation": own["relation_name"],
            "materialized": if matches!(node, NodeId::Model(_)) { own["config"]["materialized"].clone() } else { Json::Null },
            "tags": facts.tags,
            "group": facts.traits.group,
            "access": facts.traits.access,
            "owner": own["owner"]["name"],
            "exposure_type": own["type"],
            "url": own["url"],
            "columns": self.columns(node, own, catalog),
            "tests": self.tests(node),
            "parents": shown(&facts.parents),
            "children": shown(&facts.children),
            "rows": stat("num_rows"),
            "bytes": stat("bytes"),
            "version": stat("version"),
            "status": self.statuses.get(id).map(|result| result["status"].clone()),
            "freshness": self.freshness(id, own),
            "raw": own["raw_code"].as_str().filter(|text| !text.is_empty()),
            "compiled": own["compiled_code"],
        })
    }

    /// Columns that are there, then those that YAML names beside them.
    fn columns(&self, node: &NodeId, own: &Json, catalog: &Json) -> Vec<Json> {
        let empty = Map::new();
        let there = catalog["columns"].as_object().unwrap_or(&empty);
        let described = own["columns"].as_object().unwrap_or(&empty);
        let lineage = self.parts.lineage.get(node);
        let names = there.keys().chain(described.keys().filter(|name| !there.contains_key(*name)));
        let told = names.map(|name| {
            let said = described.get(name).unwrap_or(&Json::Null);
            let found = there.get(name).unwrap_or(&Json::Null);
            let from: Vec<Json> = lineage
                .and_then(|lineage| lineage.get(name))
                .into_iter()
                .flat_map(|column| &column.from)
                .map(|(node, column)| json!([self.id(node), column]))
                .collect();
            json!({
                "name": name,
                "type": found["type"].as_str().or_else(|| said["data_type"].as_str()),
                "description": said["description"],
                "from": from,
            })
        });
        told.collect()
    }

    fn tests(&self, node: &NodeId) -> Vec<Json> {
        let graph = self.runner.graph();
        let tests = graph.children(node).filter(|child| matches!(child, NodeId::Test(_)));
        let told = tests.map(|test| {
            let id = self.id(test);
            let manifest = self.parts.manifest;
            let own = manifest["nodes"].get(id).or_else(|| manifest["unit_tests"].get(id)).unwrap_or(&Json::Null);
            let result = self.statuses.get(id);
            json!({
                "name": test.name(),
                "short": own["test_metadata"]["name"].as_str().or_else(|| own["resource_type"].as_str()).unwrap_or("test"),
                "column": own["column_name"],
                "severity": own["config"]["severity"],
                "status": result.map(|result| result["status"].clone()),
                "failures": result.map(|result| result["failures"].clone()),
            })
        });
        told.collect()
    }

    fn freshness(&self, id: &str, own: &Json) -> Json {
        let criteria = &own["freshness"];
        let results = self.parts.sources["results"].as_array().into_iter().flatten();
        let looked = results.into_iter().find(|result| result["unique_id"] == id).unwrap_or(&Json::Null);
        if criteria.is_null() && looked.is_null() {
            return Json::Null;
        }
        let age = |key: &str| {
            let age = &criteria[key];
            age["count"].as_u64().map(|count| format!("{count} {}", age["period"].as_str().unwrap_or_default()))
        };
        let newest = looked["max_loaded_at"].as_str().map(|at| at.get(..19).unwrap_or(at).replace('T', " "));
        json!({
            "status": looked["status"],
            "max_loaded_at": newest,
            "warn_after": age("warn_after"),
            "error_after": age("error_after"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_for_anything() {
        for text in [PAGE, STYLE, SCRIPT] {
            for foreign in ["src=", "http://", "https://", "@import", "url(", "fetch(", "XMLHttpRequest", "import("] {
                // The namespace of SVG is a name, `url(#arrow)` a place in the page, and an exposure's link is a link.
                let known = ["http://www.w3.org/2000/svg", "url(#arrow)"];
                let rest = known.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
                assert!(!rest.contains(foreign), "{foreign}");
            }
        }
        assert!(PAGE.contains("default-src 'none'"));
    }

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(escaped("<b> & \"q\""), "&lt;b&gt; &amp; &quot;q&quot;");
    }
}
