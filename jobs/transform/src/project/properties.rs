//! Reads properties YAML: what is said about models, seeds, sources and tests beside their files.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use tidemill_project::SourceName;

use super::configure;
use super::extras::Extras;
use super::model::{Column, Constraint, SourceTable};
use super::yaml::{Data, Entry, Node, Place, Reader};
use crate::error::codes;

const TOP_KEYS: [&str; 18] = [
    "version",
    "models",
    "seeds",
    "sources",
    "snapshots",
    "macros",
    "exposures",
    "metrics",
    "semantic_models",
    "unit_tests",
    "scenario_tests",
    "groups",
    "analyses",
    "data_tests",
    "tests",
    "saved_queries",
    "functions",
    "anchors",
];
const NODE_KEYS: [&str; 26] = [
    "relation",
    "original_file_path",
    "database",
    "schema",
    "name",
    "description",
    "config",
    "columns",
    "data_tests",
    "tests",
    "meta",
    "tags",
    "docs",
    "access",
    "group",
    "latest_version",
    "versions",
    "deprecation_date",
    "constraints",
    "time_spine",
    "contract",
    "quoting",
    "primary_key",
    "defined_in",
    "label",
    "semantic_model",
];
const COLUMN_KEYS: [&str; 13] = [
    "name",
    "description",
    "data_type",
    "data_tests",
    "tests",
    "config",
    "meta",
    "tags",
    "quote",
    "constraints",
    "policy_tags",
    "granularity",
    "dimension",
];
const SOURCE_KEYS: [&str; 18] = [
    "name",
    "description",
    "database",
    "schema",
    "loader",
    "loaded_at_field",
    "loaded_at_query",
    "freshness",
    "quoting",
    "tables",
    "meta",
    "config",
    "tags",
    "overrides",
    "data_tests",
    "tests",
    "docs",
    "labels",
];
const TABLE_KEYS: [&str; 17] = [
    "name",
    "description",
    "identifier",
    "columns",
    "config",
    "meta",
    "freshness",
    "loaded_at_field",
    "loaded_at_query",
    "tags",
    "tests",
    "data_tests",
    "external",
    "quoting",
    "loader",
    "docs",
    "labels",
];

/// What YAML says about a model or a seed.
#[derive(Debug)]
pub(super) struct NodeProperties {
    pub(super) description: String,
    pub(super) config: Vec<Entry>,
    pub(super) columns: IndexMap<String, Column>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) tests: Vec<TestDeclaration>,
    /// `relation`, of a snapshot that has no file.
    pub(super) relation: Option<String>,
    pub(super) place: Place,
}

impl NodeProperties {
    /// Nothing.
    pub(super) fn none(place: Place) -> Self {
        Self {
            description: String::new(),
            config: Vec::new(),
            columns: IndexMap::new(),
            constraints: Vec::new(),
            tests: Vec::new(),
            relation: None,
            place,
        }
    }
}

/// A generic test where it is declared.
#[derive(Debug)]
pub(super) struct TestDeclaration {
    /// What stands before the test's name: `dbt_utils.unique` has `dbt_utils`.
    pub(super) package: Option<String>,
    pub(super) test: String,
    pub(super) name: Option<String>,
    pub(super) column: Option<String>,
    pub(super) args: Map<String, Json>,
    pub(super) config: Vec<Entry>,
    pub(super) description: String,
    pub(super) place: Place,
}

/// All properties of a project.
#[derive(Debug, Default)]
pub(super) struct Properties {
    pub(super) models: IndexMap<String, NodeProperties>,
    pub(super) seeds: IndexMap<String, NodeProperties>,
    pub(super) snapshots: IndexMap<String, NodeProperties>,
    /// `orders.v2`, and `orders` for the latest -> the model's name.
    pub(super) versions: BTreeMap<String, String>,
    pub(super) sources: IndexMap<SourceName, (SourceTable, Vec<TestDeclaration>)>,
    /// Tables of sources that are switched off.
    pub(super) disabled_sources: Vec<SourceName>,
    /// Configs of singular tests, by name.
    pub(super) singular: IndexMap<String, Vec<Entry>>,
    /// Entries of `unit_tests:`, to be read when the models are known.
    pub(super) unit_tests: Vec<Node>,
    /// Entries of `scenario_tests:`, likewise.
    pub(super) scenario_tests: Vec<Node>,
    pub(super) extras: Extras,
}

impl Properties {
    /// Adds what one file says.
    pub(super) fn read(&mut self, reader: &mut Reader, root: &Node) {
        if root.is_null() {
            return;
        }
        if !matches!(root.data, Data::Map(_)) {
            reader.wrong_type(root, "file", "mapping");
            return;
        }
        reader.check_open_keys(root, "properties", &TOP_KEYS);
        for node in root.get("models").map(Node::items).unwrap_or_default() {
            if node.get("versions").is_some() {
                self.read_versions(reader, node);
            } else {
                read_named(reader, node, "model", &mut self.models);
            }
        }
        for node in root.get("snapshots").map(Node::items).unwrap_or_default() {
            read_named(reader, node, "snapshot", &mut self.snapshots);
        }
        for node in root.get("seeds").map(Node::items).unwrap_or_default() {
            read_named(reader, node, "seed", &mut self.seeds);
        }
        for node in root.get("sources").map(Node::items).unwrap_or_default() {
            self.read_source(reader, node);
        }
        for key in ["data_tests", "tests"] {
            for node in root.get(key).map(Node::items).unwrap_or_default() {
                if let Some(name) = node.get("name").and_then(|name| reader.text(name, "name")) {
                    self.singular.insert(name, node.get("config").map(Node::entries).unwrap_or_default().to_vec());
                }
            }
        }
        self.scenario_tests.extend(root.get("scenario_tests").map(Node::items).unwrap_or_default().iter().cloned());
        self.unit_tests.extend(root.get("unit_tests").map(Node::items).unwrap_or_default().iter().cloned());
    }

    /// `versions`: each is a model of its own, `<name>_v<version>` or what `defined_in` says, with what the versions share
    /// under what it says itself.
    fn read_versions(&mut self, reader: &mut Reader, node: &Node) {
        let Some(name) = required(reader, node, "name") else { return };
        let versions = node.get("versions").map(Node::items).unwrap_or_default();
        let mut latest: Option<(f64, String, String)> = None;
        let wanted = node.get("latest_version").and_then(Node::scalar_text);
        for version in versions {
            let Some(number) = required(reader, version, "v") else { continue };
            let file = version.get("defined_in").and_then(|file| reader.text(file, "defined_in"));
            let model = file.unwrap_or_else(|| format!("{name}_v{number}"));
            self.versions.insert(format!("{name}.v{number}"), model.clone());
            let rank = number.parse().unwrap_or(0.0);
            if latest.as_ref().is_none_or(|(best, _, _)| rank >= *best) {
                latest = Some((rank, number.clone(), model.clone()));
            }
            let mut merged = node.clone();
            let Data::Map(entries) = &mut merged.data else { continue };
            entries.retain(|entry| !matches!(entry.key.as_str(), "versions" | "latest_version" | "name"));
            for own in version.entries().iter().filter(|own| !matches!(own.key.as_str(), "v" | "defined_in")) {
                match entries.iter_mut().find(|entry| entry.key == own.key) {
                    Some(entry) if own.key == "config" => {
                        let mut config = entry.value.entries().to_vec();
                        configure::merge(&mut config, own.value.entries());
                        entry.value.data = Data::Map(config);
                    }
                    Some(entry) if own.key == "columns" => entry.value = version_columns(&entry.value, &own.value),
                    Some(entry) => entry.value = own.value.clone(),
                    None => entries.push(own.clone()),
                }
            }
            let named = Node { place: node.place.clone(), data: Data::Scalar(Json::String(model)) };
            entries.insert(0, Entry { key: "name".to_owned(), key_place: node.place.clone(), value: named });
            read_named(reader, &merged, "model", &mut self.models);
        }
        let of_latest = wanted.and_then(|number| self.versions.get(&format!("{name}.v{number}")).cloned());
        if let Some(model) = of_latest.or(latest.map(|(_, _, model)| model)) {
            self.versions.insert(name, model);
        }
    }

    /// The latest version of a model may stand in a file of the model's own name, without `_v2`.
    pub(super) fn name_latest_versions(&mut self, stems: &BTreeSet<String>) {
        let latest: Vec<(String, String)> = self
            .versions
            .iter()
            .filter(|(name, model)| {
                !stems.contains(*model) && stems.contains(*name) && !self.models.contains_key(*name)
            })
            .map(|(name, model)| (name.clone(), model.clone()))
            .collect();
        for (name, model) in latest {
            if let Some(described) = self.models.shift_remove(&model) {
                self.models.insert(name.clone(), described);
            }
            for named in self.versions.values_mut().filter(|named| **named == model) {
                named.clone_from(&name);
            }
        }
    }

    fn read_source(&mut self, reader: &mut Reader, node: &Node) {
        reader.check_open_keys(node, "source", &SOURCE_KEYS);
        let Some(source) = required(reader, node, "name") else { return };
        for table in node.get("tables").map(Node::items).unwrap_or_default() {
            reader.check_open_keys(table, "table", &TABLE_KEYS);
            let Some(name) = required(reader, table, "name") else { continue };
            let name = SourceName::new(source.clone(), name);
            let mut config = Vec::new();
            for level in [node, table] {
                configure::merge(&mut config, &older_configs(level));
                configure::merge(&mut config, level.get("config").map(Node::entries).unwrap_or_default());
            }
            let config = Node { place: table.place.clone(), data: Data::Map(config) };
            if config.get("enabled").and_then(|value| reader.boolean(value, "enabled")) == Some(false) {
                self.disabled_sources.push(name);
                continue;
            }
            let meta = config.get("meta").and_then(|meta| reader.object(meta, "meta")).unwrap_or_default();
            let has_contract = meta.contains_key("tidemill");
            let event_time = config.get("event_time").and_then(|value| reader.text(value, "event_time"));
            let loaded_at = [table, node].iter().find_map(|level| level.get("loaded_at_field"));
            let mut tests = read_tests(reader, table, None);
            let columns = read_columns(reader, table, &mut tests);
            let properties = SourceTable {
                name: name.clone(),
                columns,
                loaded_at_field: loaded_at.and_then(|value| reader.text(value, "loaded_at_field")),
                event_time: event_time.or_else(|| has_contract.then(|| "event_at".to_owned())),
                has_contract,
                tags: config.get("tags").and_then(|tags| reader.texts(tags, "tags")).unwrap_or_default(),
                meta,
                description: description(reader, table),
                location: table.place.location(),
            };
            if let Some((first, _)) = self.sources.get(&name) {
                let message = format!("source table is declared twice, source=`{name}`, first=`{}`", first.location);
                reader.fault(&table.place, codes::REPEATED, message);
                continue;
            }
            self.sources.insert(name, (properties, tests));
        }
    }
}

fn required(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    let Some(value) = node.get(key) else {
        reader.fault(&node.place, codes::MISSING_KEY, format!("key is missing, key=`{key}`"));
        return None;
    };
    reader.text(value, key)
}

fn description(reader: &mut Reader, node: &Node) -> String {
    node.get("description").and_then(|value| reader.text(value, "description")).unwrap_or_default()
}

/// `columns` of a version: `include: all, exclude: [a]` takes those of the model, others are its own.
fn version_columns(shared: &Node, own: &Node) -> Node {
    let mut columns = Vec::new();
    for item in own.items() {
        if item.get("include").is_none() {
            columns.push(item.clone());
            continue;
        }
        let named = |key: &str| -> Vec<String> {
            item.get(key).map(|list| list.items().iter().filter_map(Node::scalar_text).collect()).unwrap_or_default()
        };
        let (include, exclude) = (named("include"), named("exclude"));
        columns.extend(
            shared
                .items()
                .iter()
                .filter(|column| {
                    let name = column.get("name").and_then(Node::scalar_text).unwrap_or_default();
                    (include.is_empty() || include.contains(&name)) && !exclude.contains(&name)
                })
                .cloned(),
        );
    }
    Node { place: own.place.clone(), data: Data::List(columns) }
}

/// `constraints` of a column or a model.
fn read_constraints(reader: &mut Reader, node: &Node) -> Vec<Constraint> {
    let mut constraints = Vec::new();
    for item in node.get("constraints").map(Node::items).unwrap_or_default() {
        let Some(kind) = required(reader, item, "type") else { continue };
        let columns = item.get("columns").and_then(|value| reader.texts(value, "columns")).unwrap_or_default();
        let expression = item.get("expression").and_then(|value| reader.text(value, "expression"));
        constraints.push(Constraint { kind, expression, columns });
    }
    constraints
}

/// `meta` and `tags` outside of `config:`, dbt's older form.
fn older_configs(node: &Node) -> Vec<Entry> {
    node.entries()
        .iter()
        .filter(|entry| matches!(entry.key.as_str(), "meta" | "tags" | "docs" | "access" | "group"))
        .cloned()
        .collect()
}

fn read_named(reader: &mut Reader, node: &Node, what: &str, into: &mut IndexMap<String, NodeProperties>) {
    reader.check_open_keys(node, what, &NODE_KEYS);
    let Some(name) = required(reader, node, "name") else { return };
    let mut config = older_configs(node);
    configure::merge(&mut config, node.get("config").map(Node::entries).unwrap_or_default());
    let mut tests = read_tests(reader, node, None);
    let columns = read_columns(reader, node, &mut tests);
    let properties = NodeProperties {
        description: description(reader, node),
        config,
        columns,
        constraints: read_constraints(reader, node),
        tests,
        relation: node.get("relation").and_then(|value| reader.text(value, "relation")),
        place: node.place.clone(),
    };
    if let Some(first) = into.get(&name) {
        let first = first.place.location();
        reader.fault(
            &node.place,
            codes::REPEATED,
            format!("{what} is described twice, name=`{name}`, first=`{first}`"),
        );
        return;
    }
    into.insert(name, properties);
}

fn read_columns(reader: &mut Reader, node: &Node, tests: &mut Vec<TestDeclaration>) -> IndexMap<String, Column> {
    let mut columns = IndexMap::new();
    for column in node.get("columns").map(Node::items).unwrap_or_default() {
        reader.check_open_keys(column, "column", &COLUMN_KEYS);
        let Some(name) = required(reader, column, "name") else { continue };
        let mut config = older_configs(column);
        configure::merge(&mut config, column.get("config").map(Node::entries).unwrap_or_default());
        let config = Node { place: column.place.clone(), data: Data::Map(config) };
        tests.extend(read_tests(reader, column, Some(&name)));
        let described = Column {
            name: name.clone(),
            description: description(reader, column),
            data_type: column.get("data_type").and_then(|value| reader.text(value, "data_type")),
            meta: config.get("meta").and_then(|meta| reader.object(meta, "meta")).unwrap_or_default(),
            constraints: read_constraints(reader, column),
            location: column.place.location(),
        };
        if columns.insert(name.clone(), described).is_some() {
            let message = format!("column is described twice, column=`{name}`");
            if reader.strict {
                reader.fault(&column.place, codes::REPEATED, message);
            } else {
                reader.note(&column.place, message);
            }
        }
    }
    columns
}

fn read_tests(reader: &mut Reader, node: &Node, column: Option<&str>) -> Vec<TestDeclaration> {
    let mut tests = Vec::new();
    for list in ["data_tests", "tests"].iter().filter_map(|key| node.get(key)) {
        if !matches!(list.data, Data::List(_)) {
            reader.wrong_type(list, "data_tests", "list");
        }
        tests.extend(list.items().iter().filter_map(|item| read_test(reader, item, column)));
    }
    tests
}

/// `not_null`, `{accepted_values: {values: […], config: {…}}}` or `{name: …, test_name: …, …}`.
fn read_test(reader: &mut Reader, node: &Node, column: Option<&str>) -> Option<TestDeclaration> {
    let empty = Node { place: node.place.clone(), data: Data::Map(Vec::new()) };
    let (test, body) = match &node.data {
        Data::Scalar(_) => (reader.text(node, "data_tests")?, &empty),
        Data::Map(_) if node.get("test_name").is_some() => (required(reader, node, "test_name")?, node),
        // The long form with its keys on the same level as the test's name: `- unique:` `  config: …` ill-indented.
        Data::Map(entries) => {
            let first = entries.first()?;
            if let Some(stray) = entries.get(1) {
                reader.fault_hint(
                    &stray.key_place,
                    codes::UNKNOWN_KEY,
                    format!("unknown key, key=`{}`, in=`data_tests`", stray.key),
                    format!("indent it below `{}:`", first.key),
                );
                return None;
            }
            (first.key.clone(), &first.value)
        }
        Data::List(_) => {
            reader.wrong_type(node, "data_tests", "name of a test, or mapping");
            return None;
        }
    };
    let mut args = Map::new();
    let mut config = Vec::new();
    for entry in body.entries() {
        match entry.key.as_str() {
            "config" => configure::merge(&mut config, entry.value.entries()),
            "arguments" => args.extend(reader.object(&entry.value, "arguments").unwrap_or_default()),
            "name" | "test_name" | "description" | "column_name" => {}
            key if configure::is_test_config_key(key) => configure::merge(&mut config, std::slice::from_ref(entry)),
            key => {
                args.insert(key.to_owned(), entry.value.to_json());
            }
        }
    }
    let column_arg = body.get("column_name").and_then(|value| reader.text(value, "column_name"));
    Some(TestDeclaration {
        package: test.rsplit_once('.').map(|(package, _)| package.to_owned()),
        test: test.rsplit('.').next().unwrap_or(&test).to_owned(),
        name: body.get("name").and_then(|value| reader.text(value, "name")),
        column: column.map(ToOwned::to_owned).or(column_arg),
        args,
        config,
        description: description(reader, body),
        place: node.place.clone(),
    })
}
