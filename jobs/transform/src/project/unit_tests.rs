//! Reads `unit_tests:`: a model's logic on rows that are made up, in dbt's words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value as Json};
use tidemill_project::clock::Micros;
use tidemill_project::error::nearest;
use tidemill_project::{Location, SourceName};

use super::configure::parse_instant;
use super::fixtures::{Fixture, read_fixture, read_map};
use super::model::{NodeId, Project, RefCall};
use super::yaml::{Data, Node, Reader};
use crate::error::codes;

const KEYS: [&str; 10] =
    ["name", "model", "description", "given", "expect", "overrides", "config", "versions", "tags", "meta"];
const GIVEN_KEYS: [&str; 4] = ["input", "format", "rows", "fixture"];
const OVERRIDE_KEYS: [&str; 5] = ["macros", "vars", "env_vars", "as_of", "watermarks"];
const CONFIG_KEYS: [&str; 4] = ["tags", "meta", "enabled", "static_analysis"];

static REF: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r#"^\s*ref\s*\(\s*['"]([^'"]+)['"]\s*(?:,\s*['"]([^'"]+)['"]\s*)?(?:,\s*(?:v|version)\s*=\s*['"]?([^'")\s]+)['"]?\s*)?\)\s*$"#,
    )
});
static SOURCE: LazyLock<Regex> =
    LazyLock::new(|| compile(r#"^\s*source\s*\(\s*['"]([^'"]+)['"]\s*,\s*['"]([^'"]+)['"]\s*\)\s*$"#));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the expression is a constant")
}

/// A unit test: rows in, rows out.
#[derive(Clone, Debug)]
pub struct UnitTest {
    /// Its name, unique among the tests of a project.
    pub name: String,
    /// The model under test.
    pub model: String,
    /// From YAML.
    pub description: String,
    /// What the model's inputs hold.
    pub given: Vec<Given>,
    /// What the model must make of it.
    pub expect: Fixture,
    /// What is different from the project.
    pub overrides: Overrides,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// The whole entry, for artifacts.
    pub raw: Json,
    /// Where it is declared.
    pub location: Location,
}

/// Rows of one input.
#[derive(Clone, Debug)]
pub struct Given {
    /// The node; the model itself for `input: this`.
    pub input: NodeId,
    /// Its rows; `None` for a seed that keeps those of its file.
    pub rows: Option<Fixture>,
    /// Where it is declared.
    pub location: Location,
}

/// What a unit test sees differently from the project.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Macros by name, without package, that answer with a constant: `is_incremental: true`.
    pub macros: Map<String, Json>,
    /// Variables.
    pub vars: Map<String, Json>,
    /// Environment variables.
    pub env_vars: BTreeMap<String, String>,
    /// The run's clock, microseconds UTC.
    pub as_of_us: Option<Micros>,
    /// W by source, microseconds UTC.
    pub watermarks: BTreeMap<SourceName, Micros>,
}

impl Overrides {
    /// Whether `is_incremental()` is true.
    #[must_use]
    pub fn is_incremental(&self) -> bool {
        match self.macros.get("is_incremental") {
            Some(Json::Bool(value)) => *value,
            Some(Json::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }
}

/// Reads one entry of `unit_tests:`: one test, or one for each version of a model that has versions, named `<name>_v<version>`.
/// None when it is switched off, tests a model that is, or after noting a fault.
pub(super) fn read_unit_tests(
    reader: &mut Reader,
    project: &Project,
    folders: &[PathBuf],
    node: &Node,
) -> Vec<UnitTest> {
    reader.check_keys(node, "unit_tests", &KEYS);
    let (Some(name), Some(model)) = (required_text(reader, node, "name"), required_text(reader, node, "model")) else {
        return Vec::new();
    };
    let prefix = format!("{model}.v");
    let all: Vec<(&str, &String)> =
        project.latest_versions.iter().filter_map(|(key, model)| Some((key.strip_prefix(&prefix)?, model))).collect();
    if all.is_empty() {
        return read_unit_test(reader, project, folders, node, name, model).into_iter().collect();
    }
    let listed = |reader: &mut Reader, key: &str| -> Option<Vec<String>> {
        let versions = node.get("versions")?.get(key)?;
        let listed: Vec<String> = versions.items().iter().filter_map(Node::scalar_text).collect();
        for unknown in listed.iter().filter(|version| all.iter().all(|(known, _)| *known != version.as_str())) {
            let known: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
            let message = format!("no version of that number, model=`{model}`, version=`{unknown}`");
            reader.fault_hint(&versions.place, codes::UNKNOWN_REF, message, format!("there are: {}", known.join(", ")));
        }
        Some(listed)
    };
    let (include, exclude) = (listed(reader, "include"), listed(reader, "exclude").unwrap_or_default());
    let is_meant = |version: &str| match &include {
        Some(include) => include.iter().any(|one| one == version),
        None => exclude.iter().all(|one| one != version),
    };
    let meant = all.iter().filter(|(version, _)| is_meant(version));
    meant
        .filter_map(|(version, model)| {
            read_unit_test(reader, project, folders, node, format!("{name}_v{version}"), (*model).clone())
        })
        .collect()
}

fn read_unit_test(
    reader: &mut Reader,
    project: &Project,
    folders: &[PathBuf],
    node: &Node,
    name: String,
    model: String,
) -> Option<UnitTest> {
    let config = node.get("config").cloned().unwrap_or_else(|| Node { data: Data::Map(Vec::new()), ..node.clone() });
    reader.check_keys(&config, "config of a unit test", &CONFIG_KEYS);
    if config.get("enabled").and_then(|value| reader.boolean(value, "enabled")) == Some(false) {
        return None;
    }
    let mut tags = Vec::new();
    for level in [node, &config] {
        tags.extend(level.get("tags").and_then(|value| reader.texts(value, "tags")).unwrap_or_default());
    }
    if project.disabled.contains(&model) {
        return None;
    }
    if !project.models.contains_key(&model) {
        let place = node.get("model").map_or(&node.place, |value| &value.place);
        let message = format!("no model of that name, model=`{model}`, in=`{name}`");
        match nearest(&model, project.models.keys().map(String::as_str)) {
            Some(near) => reader.fault_hint(place, codes::UNKNOWN_REF, message, format!("did you mean `{near}`?")),
            None => reader.fault(place, codes::UNKNOWN_REF, message),
        }
        return None;
    }
    let mut given = Vec::new();
    let listed = node.get("given").map(Node::items).unwrap_or_default();
    for item in listed {
        given.extend(read_given(reader, project, folders, &model, item));
    }
    let Some(expected) = node.get("expect") else {
        reader.fault(&node.place, codes::MISSING_KEY, format!("key is missing, key=`expect`, in=`{name}`"));
        return None;
    };
    reader.check_keys(expected, "expect", &super::fixtures::FIXTURE_KEYS);
    let num_faults = reader.faults.len();
    let Some(expect) = read_fixture(reader, expected, folders) else {
        if reader.faults.len() == num_faults {
            let message = format!("key is missing, key=`rows`, in=`expect` of `{name}`");
            reader.fault(&expected.place, codes::MISSING_KEY, message);
        }
        return None;
    };
    let overrides = match node.get("overrides") {
        Some(overrides) => read_overrides(reader, overrides),
        None => Overrides::default(),
    };
    let description = node.get("description").and_then(|value| reader.text(value, "description")).unwrap_or_default();
    (given.len() == listed.len()).then(|| UnitTest {
        name,
        model,
        description,
        given,
        expect,
        overrides,
        tags,
        raw: node.to_json(),
        location: node.place.location(),
    })
}

fn read_given(reader: &mut Reader, project: &Project, folders: &[PathBuf], model: &str, node: &Node) -> Option<Given> {
    reader.check_keys(node, "given", &GIVEN_KEYS);
    let text = required_text(reader, node, "input")?;
    let place = node.get("input").map_or(&node.place, |value| &value.place);
    let Some(input) = read_input(project, model, &text) else {
        let names: Vec<String> = project
            .models
            .keys()
            .chain(project.seeds.keys())
            .map(|name| format!("ref('{name}')"))
            .chain(project.sources.keys().map(|name| format!("source('{}', '{}')", name.source, name.table)))
            .collect();
        let hint = nearest(&text, names.iter().map(String::as_str)).map_or_else(
            || "write ref('model'), source('source', 'table') or this".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        reader.fault_hint(place, codes::FIXTURE, format!("input leads nowhere, input=`{text}`"), hint);
        return None;
    };
    let num_faults = reader.faults.len();
    let rows = read_fixture(reader, node, folders);
    if rows.is_none() && !matches!(input, NodeId::Seed(_)) {
        if reader.faults.len() == num_faults {
            reader.fault_hint(
                &node.place,
                codes::MISSING_KEY,
                format!("key is missing, key=`rows`, input=`{text}`"),
                "only a seed may leave its rows out: it keeps those of its file",
            );
        }
        return None;
    }
    Some(Given { input, rows, location: node.place.location() })
}

/// The node that `ref('x')`, `source('x', 'y')` or `this` means.
fn read_input(project: &Project, model: &str, text: &str) -> Option<NodeId> {
    if text.trim() == "this" {
        return Some(NodeId::Model(model.to_owned()));
    }
    if let Some(found) = SOURCE.captures(text) {
        let name = SourceName::new(&found[1], &found[2]);
        return project.sources.contains_key(&name).then_some(NodeId::Source(name));
    }
    let found = REF.captures(text)?;
    let (package, name) = match found.get(2) {
        Some(name) => (Some(found[1].to_owned()), name.as_str().to_owned()),
        None => (None, found[1].to_owned()),
    };
    if let Some(version) = found.get(3) {
        let versioned =
            RefCall { package: package.clone(), name: name.clone(), version: Some(version.as_str().to_owned()) };
        if let Some(id) = project.find_ref(&versioned) {
            return Some(id);
        }
    }
    project.find_ref(&RefCall { package, name, version: None })
}

fn read_overrides(reader: &mut Reader, node: &Node) -> Overrides {
    reader.check_keys(node, "overrides", &OVERRIDE_KEYS);
    let macros = read_map(reader, node, "macros");
    let text = |value: Json| match value {
        Json::String(text) => text,
        other => other.to_string(),
    };
    Overrides {
        macros: macros
            .into_iter()
            .map(|(name, value)| (name.rsplit('.').next().unwrap_or(&name).to_owned(), value))
            .collect(),
        vars: read_map(reader, node, "vars"),
        env_vars: read_map(reader, node, "env_vars").into_iter().map(|(name, value)| (name, text(value))).collect(),
        as_of_us: node.get("as_of").and_then(|value| read_instant(reader, value, "as_of")),
        watermarks: node.get("watermarks").map(|marks| read_watermarks(reader, marks)).unwrap_or_default(),
    }
}

/// `source.table` -> instant.
pub(super) fn read_watermarks(reader: &mut Reader, node: &Node) -> BTreeMap<SourceName, Micros> {
    let mut watermarks = BTreeMap::new();
    for entry in node.entries() {
        let Some((source, table)) = entry.key.split_once('.') else {
            let message = format!("source is not `source.table`, value=`{}`", entry.key);
            reader.fault(&entry.key_place, codes::UNKNOWN_SOURCE, message);
            continue;
        };
        if let Some(at_us) = read_instant(reader, &entry.value, &entry.key) {
            watermarks.insert(SourceName::new(source, table), at_us);
        }
    }
    watermarks
}

/// A date or a timestamp, UTC unless it says otherwise.
pub(super) fn read_instant(reader: &mut Reader, node: &Node, key: &str) -> Option<Micros> {
    let at_us = node.scalar_text().and_then(|text| parse_instant(&text));
    if at_us.is_none() {
        reader.wrong_type(node, key, "date or timestamp, UTC");
    }
    at_us
}

/// The text of a key that must be there.
pub(super) fn required_text(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    let Some(value) = node.get(key) else {
        reader.fault(&node.place, codes::MISSING_KEY, format!("key is missing, key=`{key}`"));
        return None;
    };
    reader.text(value, key)
}
