//! What properties YAML says beyond models, seeds, sources and tests: exposures, groups, descriptions of macros, freshness,
//! access. Commands and artifacts read it; no row follows from it.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use tidemill_project::{Location, SourceName};

use super::configure;
use super::model::{RefCall, Uses};
use super::selectors::SelectorDefinition;
use super::yaml::{Data, Node, Reader};
use crate::error::codes;

/// The rest of the properties, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// `exposures:`, in the order of files and declarations.
    pub exposures: IndexMap<String, Exposure>,
    /// `groups:`.
    pub groups: IndexMap<String, Group>,
    /// Descriptions of macros, by the macro's name.
    pub macros: IndexMap<String, String>,
    /// What models say beside their configuration.
    pub models: IndexMap<String, ModelExtras>,
    /// What sources say beside their columns.
    pub sources: IndexMap<SourceName, SourceExtras>,
    /// `selectors.yml`.
    pub selectors: IndexMap<String, SelectorDefinition>,
}

/// Somebody or something that reads models outside of the project: a dashboard, an application.
#[derive(Clone, Debug)]
pub struct Exposure {
    /// Its name.
    pub name: String,
    /// `dashboard`, `notebook`, `analysis`, `ml` or `application`.
    pub kind: String,
    /// From YAML.
    pub description: String,
    /// A name for people.
    pub label: Option<String>,
    /// `low`, `medium`, `high`.
    pub maturity: Option<String>,
    /// Where it can be looked at.
    pub url: Option<String>,
    /// `name`, `email` and whatever else is said about its owner.
    pub owner: Map<String, Json>,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// `meta`, raw.
    pub meta: Map<String, Json>,
    /// The refs and sources of `depends_on`.
    pub uses: Uses,
    /// Where it is declared.
    pub location: Location,
}

/// A group of models with an owner.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// From YAML.
    pub description: String,
    /// `name`, `email` and whatever else is said about its owner.
    pub owner: Map<String, Json>,
    /// Where it is declared.
    pub location: Location,
}

/// What a model's entry says at its top level.
#[derive(Clone, Debug, Default)]
pub struct ModelExtras {
    /// `access`.
    pub access: Option<String>,
    /// `group`.
    pub group: Option<String>,
    /// `latest_version`, as written.
    pub latest_version: Option<Json>,
    /// `deprecation_date`, as written.
    pub deprecation_date: Option<String>,
    /// `constraints`, raw.
    pub constraints: Vec<Json>,
}

/// What a source's entry says about freshness and origin; a table's own word counts before the source's.
#[derive(Clone, Debug, Default)]
pub struct SourceExtras {
    /// The source's description, not the table's.
    pub source_description: String,
    /// Who loads it, for people.
    pub loader: String,
    /// `freshness`; `None` when nobody declares one, or it is switched off with `null`.
    pub freshness: Option<Freshness>,
    /// `loaded_at_query`.
    pub loaded_at_query: Option<String>,
}

/// dbt's `freshness`: how old the newest row may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Freshness {
    /// Older than this is a warning.
    pub warn_after: Option<Age>,
    /// Older than this is an error.
    pub error_after: Option<Age>,
    /// Only rows that satisfy this SQL condition are looked at.
    pub filter: Option<String>,
}

/// An age, `{count: 12, period: hour}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Age {
    /// How many.
    pub count: u64,
    /// Of what.
    pub period: Period,
}

/// dbt's periods of freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
}

impl Age {
    /// The age in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        let unit = match self.period {
            Period::Minute => 60,
            Period::Hour => 3_600,
            Period::Day => 86_400,
        };
        self.count.saturating_mul(unit)
    }
}

const EXPOSURE_KEYS: [&str; 12] = [
    "name",
    "type",
    "description",
    "label",
    "maturity",
    "url",
    "owner",
    "depends_on",
    "tags",
    "meta",
    "config",
    "docs",
];
const EXPOSURE_TYPES: [(&str, &str); 5] = [
    ("dashboard", "dashboard"),
    ("notebook", "notebook"),
    ("analysis", "analysis"),
    ("ml", "ml"),
    ("application", "application"),
];
const MATURITIES: [(&str, &str); 3] = [("low", "low"), ("medium", "medium"), ("high", "high")];
const ACCESSES: [(&str, &str); 3] = [("private", "private"), ("protected", "protected"), ("public", "public")];

impl Extras {
    /// Adds what one file says. Faults of keys that the other readers look at are theirs to tell.
    pub(super) fn read(&mut self, reader: &mut Reader, root: &Node) {
        for node in root.get("exposures").map(Node::items).unwrap_or_default() {
            self.read_exposure(reader, node);
        }
        for node in root.get("groups").map(Node::items).unwrap_or_default() {
            let Some(name) = name_of(reader, node) else { continue };
            let owner = node.get("owner").and_then(|owner| reader.object(owner, "owner")).unwrap_or_default();
            let description = text(reader, node, "description").unwrap_or_default();
            let group = Group { name: name.clone(), description, owner, location: node.place.location() };
            self.groups.insert(name, group);
        }
        for node in root.get("macros").map(Node::items).unwrap_or_default() {
            if let (Some(name), Some(said)) = (name_of(reader, node), text(reader, node, "description")) {
                self.macros.insert(name, said);
            }
        }
        for node in root.get("models").map(Node::items).unwrap_or_default() {
            self.read_model(reader, node);
        }
        for node in root.get("sources").map(Node::items).unwrap_or_default() {
            self.read_source(reader, node);
        }
    }

    fn read_exposure(&mut self, reader: &mut Reader, node: &Node) {
        reader.check_keys(node, "exposure", &EXPOSURE_KEYS);
        let Some(name) = name_of(reader, node) else { return };
        let mut config: Vec<_> =
            node.entries().iter().filter(|entry| matches!(entry.key.as_str(), "meta" | "tags")).cloned().collect();
        configure::merge(&mut config, node.get("config").map(Node::entries).unwrap_or_default());
        let config = Node { place: node.place.clone(), data: Data::Map(config) };
        if config.get("enabled").and_then(|value| reader.boolean(value, "enabled")) == Some(false) {
            return;
        }
        let mut uses = Uses::default();
        for item in node.get("depends_on").map(Node::items).unwrap_or_default() {
            let Some(call) = reader.text(item, "depends_on") else { continue };
            if !read_call(&call, &mut uses) {
                reader.fault_hint(
                    &item.place,
                    codes::UNKNOWN_VALUE,
                    format!("an exposure depends on refs and sources, depends_on=`{call}`"),
                    "write it like ref('orders') or source('shop', 'orders')",
                );
            }
        }
        let kind = if let Some(kind) = node.get("type") {
            reader.word(kind, "type", &EXPOSURE_TYPES).unwrap_or("dashboard")
        } else {
            reader.fault(&node.place, codes::MISSING_KEY, "key is missing, key=`type`");
            "dashboard"
        };
        let exposure = Exposure {
            name: name.clone(),
            kind: kind.to_owned(),
            description: text(reader, node, "description").unwrap_or_default(),
            label: text(reader, node, "label"),
            maturity: node
                .get("maturity")
                .and_then(|value| reader.word(value, "maturity", &MATURITIES))
                .map(str::to_owned),
            url: text(reader, node, "url"),
            owner: node.get("owner").and_then(|owner| reader.object(owner, "owner")).unwrap_or_default(),
            tags: config.get("tags").and_then(|tags| reader.texts(tags, "tags")).unwrap_or_default(),
            meta: config.get("meta").and_then(|meta| reader.object(meta, "meta")).unwrap_or_default(),
            uses,
            location: node.place.location(),
        };
        if let Some(first) = self.exposures.insert(name.clone(), exposure) {
            let message = format!("exposure is declared twice, name=`{name}`, first=`{}`", first.location);
            reader.fault(&node.place, codes::REPEATED, message);
        }
    }

    fn read_model(&mut self, reader: &mut Reader, node: &Node) {
        let Some(name) = node.get("name").and_then(Node::scalar_text) else { return };
        let config = node.get("config");
        let either = |key: &str| config.and_then(|config| config.get(key)).or_else(|| node.get(key));
        let extras = ModelExtras {
            access: either("access").and_then(|value| reader.word(value, "access", &ACCESSES)).map(str::to_owned),
            group: either("group").and_then(|value| reader.text(value, "group")),
            latest_version: node.get("latest_version").map(Node::to_json),
            deprecation_date: node.get("deprecation_date").and_then(Node::scalar_text),
            constraints: node
                .get("constraints")
                .map(|list| list.items().iter().map(Node::to_json).collect())
                .unwrap_or_default(),
        };
        self.models.insert(name, extras);
    }

    fn read_source(&mut self, reader: &mut Reader, node: &Node) {
        let Some(source) = node.get("name").and_then(Node::scalar_text) else { return };
        for table in node.get("tables").map(Node::items).unwrap_or_default() {
            let Some(name) = table.get("name").and_then(Node::scalar_text) else { continue };
            let mut extras = SourceExtras {
                source_description: text(reader, node, "description").unwrap_or_default(),
                loader: [table, node].iter().find_map(|level| level.get("loader")?.scalar_text()).unwrap_or_default(),
                ..SourceExtras::default()
            };
            for level in [node, table] {
                let config = level.get("config");
                for holder in [Some(level), config].into_iter().flatten() {
                    let Some(entry) = holder.entries().iter().find(|entry| entry.key == "freshness") else { continue };
                    if entry.value.is_null() {
                        extras.freshness = None;
                    } else {
                        read_freshness(reader, &entry.value, extras.freshness.get_or_insert_default());
                    }
                }
                if let Some(query) = config.and_then(|config| config.get("loaded_at_query")) {
                    extras.loaded_at_query = reader.text(query, "loaded_at_query");
                } else if let Some(query) = level.get("loaded_at_query") {
                    extras.loaded_at_query = reader.text(query, "loaded_at_query");
                }
            }
            self.sources.insert(SourceName::new(source.clone(), name), extras);
        }
    }
}

fn read_freshness(reader: &mut Reader, node: &Node, into: &mut Freshness) {
    reader.check_keys(node, "freshness", &["warn_after", "error_after", "filter", "build_after", "period", "count"]);
    for (key, slot) in [("warn_after", &mut into.warn_after), ("error_after", &mut into.error_after)] {
        let Some(entry) = node.entries().iter().find(|entry| entry.key == key) else { continue };
        if entry.value.is_null() {
            *slot = None;
            continue;
        }
        reader.check_keys(&entry.value, key, &["count", "period"]);
        let count = entry.value.get("count").and_then(|value| reader.count(value, "count"));
        let words = [("minute", Period::Minute), ("hour", Period::Hour), ("day", Period::Day)];
        let period = entry.value.get("period").and_then(|value| reader.word(value, "period", &words));
        match (count, period) {
            (Some(count), Some(period)) => *slot = Some(Age { count, period }),
            (None, None) if entry.value.entries().is_empty() => *slot = None,
            _ => reader.fault_hint(
                &entry.key_place,
                codes::MISSING_KEY,
                format!("an age needs a count and a period, key=`{key}`"),
                "write it like {count: 12, period: hour}",
            ),
        }
    }
    if let Some(filter) = node.get("filter") {
        into.filter = reader.text(filter, "filter");
    }
}

fn name_of(reader: &mut Reader, node: &Node) -> Option<String> {
    let Some(name) = node.get("name") else {
        reader.fault(&node.place, codes::MISSING_KEY, "key is missing, key=`name`");
        return None;
    };
    reader.text(name, "name")
}

fn text(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    node.get(key).and_then(|value| reader.text(value, key))
}

/// Reads `ref('a')`, `ref('package', 'a')`, `ref('a', v=2)`, `source('a', 'b')` or `metric('m')`; false for anything else.
fn read_call(call: &str, uses: &mut Uses) -> bool {
    let call = call.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
    let Some((function, rest)) = call.split_once('(') else { return false };
    let Some(inner) = rest.trim().strip_suffix(')') else { return false };
    let names: Vec<String> = inner
        .split(',')
        .filter(|part| !part.contains('='))
        .map(|part| part.trim().trim_matches(['\'', '"']).to_owned())
        .collect();
    match (function.trim(), names.as_slice()) {
        ("ref", [name]) => uses.refs.push(RefCall { package: None, name: name.clone(), version: None }),
        ("ref", [package, name]) => {
            uses.refs.push(RefCall { package: Some(package.clone()), name: name.clone(), version: None });
        }
        ("source", [source, table]) => uses.sources.push(SourceName::new(source.clone(), table.clone())),
        // There are no metrics to lead to.
        ("metric", [_]) => {}
        _ => return false,
    }
    true
}
