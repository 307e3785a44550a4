//! Reads `scenario_tests:`: stories of arriving rows, and what must stand in tables after each step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value as Json};
use tidemill_project::clock::Micros;
use tidemill_project::error::nearest;
use tidemill_project::{Location, SourceName};

use super::fixtures::{FixtureRow, read_map, read_rows};
use super::model::{NodeId, Project, RefCall};
use super::unit_tests::{read_instant, required_text};
use super::yaml::{Data, Entry, Node, Place, Reader};
use crate::error::codes;

const KEYS: [&str; 11] =
    ["name", "description", "models", "model", "vars", "env_vars", "seeds", "as_of", "steps", "tags", "config"];
const STEP_KEYS: [&str; 14] = [
    "name",
    "as_of",
    "send",
    "rows",
    "update",
    "delete",
    "seeds",
    "kill",
    "rerun",
    "full_refresh",
    "build",
    "expect",
    "expect_quarantine",
    "expect_books",
];
const RECORD_KEYS: [&str; 9] = ["topic", "partition", "value", "raw", "tombstone", "key", "headers", "at", "repeat"];
/// Every record of a story is held in memory.
const MAX_REPEATS: u64 = 100_000;
const BOOK_KEYS: [&str; 5] = ["landed", "duplicates", "quarantined", "tombstones", "skipped"];

/// A story.
#[derive(Clone, Debug)]
pub struct ScenarioTest {
    /// Its name, unique among the tests of a project.
    pub name: String,
    /// From YAML.
    pub description: String,
    /// The models that the story is about; they are built with all that they stand on. Empty: those that it expects.
    pub models: Vec<String>,
    /// Variables over those of the project, for models and contracts.
    pub vars: Map<String, Json>,
    /// Environment variables over those of the project.
    pub env_vars: BTreeMap<String, String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// The whole entry, for artifacts.
    pub raw: Json,
    /// Where it is declared.
    pub location: Location,
}

impl ScenarioTest {
    /// The nodes that the story is about, sources among them.
    #[must_use]
    pub fn subjects(&self) -> Vec<NodeId> {
        let mut subjects: Vec<NodeId> = self.models.iter().cloned().map(NodeId::Model).collect();
        for expected in self.steps.iter().flat_map(|step| &step.expect) {
            if !subjects.contains(&expected.node) {
                subjects.push(expected.node.clone());
            }
        }
        subjects
    }
}

/// What happens in one step, in the order of the fields; then what must be true.
#[derive(Clone, Debug)]
pub struct Step {
    /// For people.
    pub name: Option<String>,
    /// The clock from here on, microseconds UTC.
    pub as_of_us: Option<Micros>,
    /// Rows of seeds, in place of those of their files.
    pub seeds: Vec<(String, Vec<FixtureRow>)>,
    /// Records that are sent to topics and go the whole road: decode, deduplicate, land or quarantine.
    pub send: Vec<SentRecord>,
    /// Rows that land in sources as they are, in one commit a source.
    pub rows: Vec<(SourceName, Vec<FixtureRow>)>,
    /// Rows of sources that change where they lie.
    pub update: Vec<Rewrite>,
    /// Rows of sources that go away.
    pub delete: Vec<Rewrite>,
    /// The first process of the step dies around its commit to a table; another one goes on.
    pub kill: Option<Kill>,
    /// Whether models are built.
    pub build: bool,
    /// Build again with nothing new: not one row may be written.
    pub rerun: bool,
    /// Rebuild everything: not one row may be another.
    pub full_refresh: bool,
    /// Whole tables.
    pub expect: Vec<Expected>,
    /// Records of this step that went to quarantine, by class; all of them.
    pub expect_quarantine: Option<BTreeMap<String, u64>>,
    /// Records of this step by what became of them; what is not named is not looked at.
    pub expect_books: BTreeMap<String, u64>,
    /// Where it stands.
    pub location: Location,
}

/// A record as it is sent.
#[derive(Clone, Debug)]
pub struct SentRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition; 0 unless given.
    pub partition: i32,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The record's timestamp, microseconds UTC; the event's own time unless given.
    pub at_us: Option<Micros>,
    /// Where it stands.
    pub location: Location,
}

impl SentRecord {
    /// The record with its number, from 0, in place of `{n}` in value, key and headers; `{nnn}` has at least three digits.
    fn numbered(&self, number: u64) -> Self {
        let with = |text: &String| numbered(text, number);
        Self {
            value: self.value.as_ref().map(with),
            key: self.key.as_ref().map(with),
            headers: self.headers.iter().map(|(name, value)| (name.clone(), with(value))).collect(),
            ..self.clone()
        }
    }
}

fn numbered(text: &str, number: u64) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{n") {
        let num_digits = rest[at + 1..].bytes().take_while(|byte| *byte == b'n').count();
        let end = at + 1 + num_digits;
        told.push_str(&rest[..at]);
        rest = if let Some(behind) = rest[end..].strip_prefix('}') {
            // Writing to a text cannot fail.
            let _ = write!(told, "{number:0num_digits$}");
            behind
        } else {
            told.push_str(&rest[at..end]);
            &rest[end..]
        };
    }
    told + rest
}

/// A change to rows that lie in a source already, as other writers of its table make them.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The source.
    pub source: SourceName,
    /// SQL condition of the rows.
    pub condition: String,
    /// Column -> new value; empty for rows that go away.
    pub set: Vec<(String, Json)>,
    /// Where it stands.
    pub location: Location,
}

/// A crash.
#[derive(Clone, Debug)]
pub struct Kill {
    /// The table whose commit it strikes.
    pub node: NodeId,
    /// Whether the commit is made, and only its answer lost.
    pub after_commit: bool,
    /// Where it stands.
    pub location: Location,
}

/// What a table must hold: these rows and no others, as far as their columns go.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The table.
    pub node: NodeId,
    /// Its rows; columns that a row leaves out may hold anything.
    pub rows: Vec<FixtureRow>,
    /// Where it stands.
    pub location: Location,
}

/// Reads one entry of `scenario_tests:`. `None` when it is switched off, is about something that is, or after noting a fault.
pub(super) fn read_scenario(reader: &mut Reader, project: &Project, node: &Node) -> Option<ScenarioTest> {
    let num_faults = reader.faults.len();
    reader.check_keys(node, "scenario_tests", &KEYS);
    let name = required_text(reader, node, "name")?;
    let config = node.get("config");
    if config.and_then(|config| config.get("enabled")).and_then(|value| reader.boolean(value, "enabled")) == Some(false)
    {
        return None;
    }
    if tables_of(node).iter().any(|name| project.disabled.contains(name)) {
        return None;
    }
    let mut tags = Vec::new();
    for level in std::iter::once(node).chain(config) {
        tags.extend(level.get("tags").and_then(|value| reader.texts(value, "tags")).unwrap_or_default());
    }
    let mut models = Vec::new();
    for key in ["model", "models"] {
        let Some(listed) = node.get(key) else { continue };
        for model in reader.texts(listed, key).unwrap_or_default() {
            if project.models.contains_key(&model) {
                models.push(model);
            } else {
                no_node(reader, project, &listed.place, &model);
            }
        }
    }
    let env_vars = read_map(reader, node, "env_vars");
    let mut steps: Vec<Step> = node
        .get("steps")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|step| read_step(reader, project, step))
        .collect();
    if steps.is_empty() && reader.faults.len() == num_faults {
        reader.fault(&node.place, codes::MISSING_KEY, format!("key is missing, key=`steps`, in=`{name}`"));
    }
    if let Some(first) = steps.first_mut() {
        if let Some(at) = node.get("as_of") {
            first.as_of_us = first.as_of_us.or(read_instant(reader, at, "as_of"));
        }
        if let Some(seeds) = node.get("seeds") {
            let given = read_seeds(reader, project, seeds);
            first.seeds.splice(0..0, given);
        }
    }
    (reader.faults.len() == num_faults).then(|| ScenarioTest {
        name,
        description: node.get("description").and_then(Node::scalar_text).unwrap_or_default(),
        models,
        vars: read_map(reader, node, "vars"),
        env_vars: env_vars
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)))
            .collect(),
        steps,
        tags,
        raw: node.to_json(),
        location: node.place.location(),
    })
}

/// The models, seeds and tables of sources that a story names.
fn tables_of(story: &Node) -> Vec<String> {
    let mut names = Vec::new();
    for listed in ["model", "models"].iter().filter_map(|key| story.get(key)) {
        names.extend(listed.scalar_text());
        names.extend(listed.items().iter().filter_map(Node::scalar_text));
    }
    let steps = story.get("steps").map(Node::items).unwrap_or_default();
    for level in std::iter::once(story).chain(steps) {
        for tables in ["seeds", "rows", "update", "delete", "expect"].iter().filter_map(|key| level.get(key)) {
            names.extend(tables.entries().iter().map(|entry| entry.key.clone()));
        }
    }
    names
}

fn read_step(reader: &mut Reader, project: &Project, node: &Node) -> Option<Step> {
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(node, "steps", "mapping");
        return None;
    }
    reader.check_keys(node, "step", &STEP_KEYS);
    let mut flag =
        |key: &str, otherwise: bool| node.get(key).and_then(|value| reader.boolean(value, key)).unwrap_or(otherwise);
    let (build, rerun, full_refresh) = (flag("build", true), flag("rerun", false), flag("full_refresh", false));
    let send = node.get("send").map(Node::items).unwrap_or_default();
    let send = send.iter().flat_map(|record| read_records(reader, record)).collect();
    let mut rows = Vec::new();
    for entry in node.get("rows").map(Node::entries).unwrap_or_default() {
        if let (Some(source), Some(list)) = (source_of(reader, project, entry), read_rows(reader, &entry.value)) {
            rows.push((source, list));
        }
    }
    let mut expect = Vec::new();
    for entry in node.get("expect").map(Node::entries).unwrap_or_default() {
        if let (Some(node), Some(rows)) = (node_of(reader, project, entry), read_rows(reader, &entry.value)) {
            expect.push(Expected { node, rows, location: entry.key_place.location() });
        }
    }
    let expect_books = match node.get("expect_books") {
        Some(books) => {
            reader.check_keys(books, "expect_books", &BOOK_KEYS);
            read_counts(reader, books)
        }
        None => BTreeMap::new(),
    };
    Some(Step {
        name: node.get("name").and_then(Node::scalar_text),
        as_of_us: node.get("as_of").and_then(|value| read_instant(reader, value, "as_of")),
        seeds: node.get("seeds").map(|seeds| read_seeds(reader, project, seeds)).unwrap_or_default(),
        send,
        rows,
        update: read_rewrites(reader, project, node, "update"),
        delete: read_rewrites(reader, project, node, "delete"),
        kill: node.get("kill").and_then(|kill| read_kill(reader, project, kill)),
        build,
        rerun,
        full_refresh,
        expect,
        expect_quarantine: node.get("expect_quarantine").map(|counts| read_counts(reader, counts)),
        expect_books,
        location: node.place.location(),
    })
}

fn read_seeds(reader: &mut Reader, project: &Project, node: &Node) -> Vec<(String, Vec<FixtureRow>)> {
    let mut seeds = Vec::new();
    for entry in node.entries() {
        if !project.seeds.contains_key(&entry.key) {
            let near = nearest(&entry.key, project.seeds.keys().map(String::as_str)).map(ToOwned::to_owned);
            missing(reader, &entry.key_place, format!("no seed of that name, seed=`{}`", entry.key), near);
            continue;
        }
        if let Some(rows) = read_rows(reader, &entry.value) {
            seeds.push((entry.key.clone(), rows));
        }
    }
    seeds
}

/// A record, or as many as `repeat` says, each with its number.
fn read_records(reader: &mut Reader, node: &Node) -> Vec<SentRecord> {
    let Some(record) = read_record(reader, node) else { return Vec::new() };
    let Some(repeat) = node.get("repeat") else { return vec![record] };
    match reader.count(repeat, "repeat") {
        Some(count) if count <= MAX_REPEATS => (0..count).map(|number| record.numbered(number)).collect(),
        Some(_) => {
            reader.fault(&repeat.place, codes::SCENARIO, format!("a record is repeated at most {MAX_REPEATS} times"));
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn read_record(reader: &mut Reader, node: &Node) -> Option<SentRecord> {
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(node, "send", "mapping");
        return None;
    }
    reader.check_keys(node, "record", &RECORD_KEYS);
    let topic = required_text(reader, node, "topic")?;
    let is_tombstone = node.get("tombstone").and_then(|value| reader.boolean(value, "tombstone")).unwrap_or(false);
    let value = match (node.get("raw"), node.get("value")) {
        (Some(raw), None) => Some(reader.text(raw, "raw")?),
        (None, Some(value)) => Some(value.to_json().to_string()),
        (None, None) if is_tombstone => None,
        _ => {
            let message = "a record has one of `value` (JSON), `raw` (its bytes as text) and `tombstone: true`";
            reader.fault(&node.place, codes::SCENARIO, message);
            return None;
        }
    };
    let partition = node.get("partition").and_then(|value| reader.count(value, "partition")).unwrap_or(0);
    let headers = read_map(reader, node, "headers");
    Some(SentRecord {
        topic,
        partition: i32::try_from(partition).unwrap_or(i32::MAX),
        value,
        key: node.get("key").and_then(Node::scalar_text),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)))
            .collect(),
        at_us: node.get("at").and_then(|value| read_instant(reader, value, "at")),
        location: node.place.location(),
    })
}

/// `delete: {shop.orders: "id = 1"}` and `update: {shop.orders: {where: "id = 1", set: {amount: 2}}}`.
fn read_rewrites(reader: &mut Reader, project: &Project, step: &Node, key: &str) -> Vec<Rewrite> {
    let mut rewrites = Vec::new();
    for entry in step.get(key).map(Node::entries).unwrap_or_default() {
        let Some(source) = source_of(reader, project, entry) else { continue };
        let (condition, set) = if key == "update" {
            reader.check_keys(&entry.value, "update", &["where", "set"]);
            let set = read_map(reader, &entry.value, "set").into_iter().collect();
            (required_text(reader, &entry.value, "where"), set)
        } else {
            (reader.text(&entry.value, key), Vec::new())
        };
        if let Some(condition) = condition {
            rewrites.push(Rewrite { source, condition, set, location: entry.key_place.location() });
        }
    }
    rewrites
}

/// `kill: model` (before its commit), `kill: {before_commit: model}`, `kill: {after_commit: source.table}`.
fn read_kill(reader: &mut Reader, project: &Project, node: &Node) -> Option<Kill> {
    let (text, place, after_commit) = match &node.data {
        Data::Map(_) => {
            reader.check_keys(node, "kill", &["before_commit", "after_commit"]);
            let entry = node.entries().first()?;
            (reader.text(&entry.value, "kill")?, entry.value.place.clone(), entry.key == "after_commit")
        }
        _ => (reader.text(node, "kill")?, node.place.clone(), false),
    };
    if let Some(id) = find(project, &text) {
        Some(Kill { node: id, after_commit, location: place.location() })
    } else {
        no_node(reader, project, &place, &text);
        None
    }
}

fn read_counts(reader: &mut Reader, node: &Node) -> BTreeMap<String, u64> {
    node.entries()
        .iter()
        .filter_map(|entry| Some((entry.key.clone(), reader.count(&entry.value, &entry.key)?)))
        .collect()
}

/// A model, a seed, or `source.table`.
fn find(project: &Project, text: &str) -> Option<NodeId> {
    if let Some((source, table)) = text.split_once('.') {
        let name = SourceName::new(source, table);
        if project.sources.contains_key(&name) {
            return Some(NodeId::Source(name));
        }
    }
    project.find_ref(&RefCall { package: None, name: text.to_owned(), version: None })
}

fn node_of(reader: &mut Reader, project: &Project, entry: &Entry) -> Option<NodeId> {
    let found = find(project, &entry.key);
    if found.is_none() {
        no_node(reader, project, &entry.key_place, &entry.key);
    }
    found
}

fn source_of(reader: &mut Reader, project: &Project, entry: &Entry) -> Option<SourceName> {
    if let Some(NodeId::Source(name)) = find(project, &entry.key) {
        return Some(name);
    }
    let names: Vec<String> = project.sources.keys().map(ToString::to_string).collect();
    let near = nearest(&entry.key, names.iter().map(String::as_str)).map(ToOwned::to_owned);
    missing(reader, &entry.key_place, format!("no source of that name, source=`{}`", entry.key), near);
    None
}

fn no_node(reader: &mut Reader, project: &Project, place: &Place, name: &str) {
    let sources: Vec<String> = project.sources.keys().map(ToString::to_string).collect();
    let known = project.models.keys().chain(project.seeds.keys()).chain(&sources).map(String::as_str);
    let near = nearest(name, known).map(ToOwned::to_owned);
    missing(reader, place, format!("no model, seed or source of that name, name=`{name}`"), near);
}

fn missing(reader: &mut Reader, place: &Place, message: String, near: Option<String>) {
    match near {
        Some(near) => reader.fault_hint(place, codes::SCENARIO, message, format!("did you mean `{near}`?")),
        None => reader.fault(place, codes::SCENARIO, message),
    }
}
