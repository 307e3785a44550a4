//! dbt's selector methods: how nodes are found before the graph is walked.

use std::path::Path;

use serde_json::Value as Json;
use tidemill_project::Fault;
use tidemill_project::error::nearest;

use super::facts::Facts;
use crate::error::codes;
use crate::graph::{Node, TestType};
use crate::project::NodeId;

/// A method with its value.
#[derive(Debug)]
pub(super) enum Method {
    All,
    Fqn(String),
    Path(String),
    File(String),
    Tag(String),
    Source(String),
    Exposure(String),
    Kind(String),
    /// Path of keys, value.
    Config(Vec<String>, String),
    Package(String),
    TestType(String),
    TestName(String),
    Access(String),
    Group(String),
    /// `latest`, `old`, `prerelease`, or `none` for models without versions.
    Version(String),
    UnitTest(String),
    State(String),
    Result(String),
    Fresher,
}

/// Each with an example.
const METHODS: [&str; 18] = [
    "fqn",
    "path",
    "file",
    "tag",
    "source",
    "exposure",
    "resource_type",
    "config",
    "package",
    "test_type",
    "test_name",
    "access",
    "group",
    "version",
    "state",
    "result",
    "source_status",
    "unit_test",
];
const KINDS: [&str; 7] = ["model", "seed", "source", "test", "exposure", "snapshot", "unit_test"];
const ACCESSES: [&str; 3] = ["public", "protected", "private"];
const VERSIONS: [&str; 4] = ["latest", "prerelease", "old", "none"];
/// What `state:` may ask for.
pub(crate) const STATES: [&str; 10] = [
    "modified",
    "new",
    "old",
    "unmodified",
    "modified.body",
    "modified.configs",
    "modified.relation",
    "modified.persisted_descriptions",
    "modified.macros",
    "modified.contract",
];
/// What `result:` may ask for, dbt's statuses of nodes and tests.
const RESULTS: [&str; 8] = ["success", "error", "fail", "warn", "skipped", "pass", "partial success", "no-op"];

impl Method {
    /// Reads `method:value`; `text` is the whole selector.
    pub(super) fn parse(method: &str, value: &str, text: &str) -> Result<Self, Fault> {
        let value = value.trim();
        let word = |what: &str, known: &[&str]| one_of(value, what, known, text).map(|()| value.to_owned());
        let name = || value.to_owned();
        Ok(match method {
            "fqn" if value == "*" => Self::All,
            "fqn" => Self::Fqn(name()),
            "path" => Self::Path(name()),
            "file" => Self::File(name()),
            "tag" => Self::Tag(name()),
            "source" => Self::Source(name()),
            "exposure" => Self::Exposure(name()),
            "resource_type" => Self::Kind(word("resource type", &KINDS)?),
            "package" => Self::Package(name()),
            "test_type" => Self::TestType(word("test type", &TestType::WORDS)?),
            "test_name" => Self::TestName(name()),
            "access" => Self::Access(word("access", &ACCESSES)?),
            "group" => Self::Group(name()),
            "version" => Self::Version(word("version", &VERSIONS)?),
            "unit_test" => Self::UnitTest(name()),
            "state" => Self::State(word("state", &STATES)?),
            "result" => Self::Result(word("result", &RESULTS)?),
            "source_status" => {
                one_of(value, "status of sources", &["fresher"], text)?;
                Self::Fresher
            }
            // `config.meta.owner:ann`.
            other if other.starts_with("config.") => {
                Self::Config(other.split('.').skip(1).map(str::to_owned).collect(), name())
            }
            "config" => {
                let fault = Fault::new(format!("`config` needs a key, selector=`{text}`")).code(codes::BAD_SELECTOR);
                return Err(fault.hint("write it like config.materialized:incremental"));
            }
            other => return Err(unknown(other, "selector method", &METHODS, text)),
        })
    }

    /// What a value without a method means.
    pub(super) fn guess(value: &str) -> Self {
        if value == "*" {
            Self::All
        } else if value.contains('/') {
            Self::Path(value.to_owned())
        } else if has_extension(value) {
            Self::File(value.to_owned())
        } else {
            Self::Fqn(value.to_owned())
        }
    }

    pub(super) fn matches(&self, id: &NodeId, node: &Node, facts: &Facts) -> bool {
        match self {
            Self::All => true,
            // Names of sources and exposures have methods of their own.
            Self::Fqn(name) => {
                !matches!(id, NodeId::Source(_) | NodeId::Exposure(_)) && matches_fqn(name, &node.traits.fqn)
            }
            Self::Path(path) => {
                matches_path(path, &node.path) || node.traits.patch_path.as_deref().is_some_and(|own| own == path)
            }
            Self::File(file) => {
                let path = Path::new(&node.path);
                [path.file_name(), path.file_stem()].into_iter().flatten().any(|own| glob(file, &own.to_string_lossy()))
            }
            Self::Tag(tag) => node.tags.iter().any(|own| glob(tag, own)),
            Self::Source(name) => matches!(id, NodeId::Source(_)) && matches_source(name, &node.traits),
            Self::Exposure(name) => match id {
                NodeId::Exposure(own) => glob(name, own) || *name == format!("{}.{own}", node.traits.package),
                _ => false,
            },
            Self::Kind(kind) => node.kind(id) == kind,
            Self::Config(keys, value) => matches_config(&node.traits.config, keys, value),
            Self::Package(package) => package == "this" || glob(package, &node.traits.package),
            Self::TestType(word) => node.test_type.is_some_and(|test_type| test_type.is(word)),
            Self::TestName(name) => node.traits.test_name.as_deref().is_some_and(|own| glob(name, own)),
            Self::Access(access) => node.traits.access.as_ref() == Some(access),
            Self::Group(group) => node.traits.group.as_deref().is_some_and(|own| glob(group, own)),
            Self::Version(version) => {
                matches!(id, NodeId::Model(_)) && node.traits.version.unwrap_or("none") == version
            }
            Self::UnitTest(name) => {
                node.test_type == Some(TestType::Unit) && node.traits.fqn.last().is_some_and(|own| glob(name, own))
            }
            Self::State(state) => has(facts.state.as_ref().and_then(|sets| sets.get(state)), id),
            Self::Result(result) => has(facts.results.as_ref().and_then(|sets| sets.get(result)), id),
            Self::Fresher => has(facts.fresher.as_ref(), id),
        }
    }

    /// What the method must know and was not told.
    pub(super) fn missing_facts(&self, facts: &Facts, text: &str) -> Option<Fault> {
        let (is_missing, what, hint) = match self {
            Self::State(_) => (
                facts.state.is_none(),
                "a manifest to compare with",
                "name the folder of an earlier manifest.json: --state DIR",
            ),
            Self::Result(_) => (
                facts.results.is_none(),
                "results of an earlier run",
                "name the folder of an earlier run_results.json: --state DIR",
            ),
            Self::Fresher => (
                facts.fresher.is_none(),
                "two sources.json to compare",
                "run `tidemill source-freshness`, and name the folder of an earlier sources.json: --state DIR",
            ),
            _ => return None,
        };
        is_missing
            .then(|| Fault::new(format!("selector needs {what}, selector=`{text}`")).code(codes::NO_STATE).hint(hint))
    }
}

/// Checks a word of `--resource-type`.
pub(super) fn check_kind(kind: &str) -> Result<(), Fault> {
    if kind == "all" { Ok(()) } else { one_of(kind, "resource type", &KINDS, kind) }
}

fn has(set: Option<&std::collections::BTreeSet<NodeId>>, id: &NodeId) -> bool {
    set.is_some_and(|set| set.contains(id))
}

fn one_of(value: &str, what: &str, known: &[&str], text: &str) -> Result<(), Fault> {
    if known.contains(&value) { Ok(()) } else { Err(unknown(value, what, known, text)) }
}

fn unknown(value: &str, what: &str, known: &[&str], text: &str) -> Fault {
    let hint = nearest(value, known.iter().copied())
        .map_or_else(|| format!("known: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
    let key = what.rsplit(' ').next().unwrap_or(what);
    Fault::new(format!("unknown {what}, {key}=`{value}`, selector=`{text}`")).code(codes::BAD_SELECTOR).hint(hint)
}

fn has_extension(text: &str) -> bool {
    Path::new(text).extension().is_some_and(|extension| {
        ["sql", "csv", "yml", "yaml"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// `*`, `?` and `[…]` as in the shell; `*` crosses dots.
fn glob(pattern: &str, name: &str) -> bool {
    pattern == name || glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name))
}

/// The name alone; or the beginning of the fully qualified name, with or without the package, the first part with a wildcard
/// taking all the rest. A pattern may also be of the name alone (`stg_*`).
fn matches_fqn(wanted: &str, fqn: &[String]) -> bool {
    if fqn.last().is_some_and(|name| glob(wanted, name)) {
        return true;
    }
    [fqn, fqn.get(1..).unwrap_or_default()].into_iter().any(|own| starts_with(wanted, own))
}

fn starts_with(wanted: &str, fqn: &[String]) -> bool {
    let own: Vec<&str> = fqn.iter().flat_map(|part| part.split('.')).collect();
    let parts: Vec<&str> = wanted.split('.').collect();
    if own.len() < parts.len() {
        return false;
    }
    for (index, part) in parts.iter().enumerate() {
        if part.contains(['*', '?', '[']) {
            return glob(&parts[index..].join("."), &own[index..].join("."));
        }
        if own[index] != *part {
            return false;
        }
    }
    true
}

/// `source`, `source.table` or `package.source.table`, each part with wildcards.
fn matches_source(wanted: &str, traits: &crate::graph::Traits) -> bool {
    let [.., source, table] = traits.fqn.as_slice() else { return false };
    match wanted.split('.').collect::<Vec<_>>().as_slice() {
        [one] => glob(one, source),
        [one, two] => glob(one, source) && glob(two, table),
        [package, one, two] => glob(package, &traits.package) && glob(one, source) && glob(two, table),
        _ => false,
    }
}

/// A file, a folder and all below it, or a glob.
fn matches_path(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    let below = |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    if path == pattern || below(pattern) {
        return true;
    }
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    glob::Pattern::new(pattern)
        .is_ok_and(|pattern| Path::new(path).ancestors().any(|ancestor| pattern.matches_path_with(ancestor, options)))
}

/// The value itself, one of a list, a key of a mapping; as text, whatever its type.
fn matches_config(config: &serde_json::Map<String, Json>, keys: &[String], wanted: &str) -> bool {
    let Some((first, rest)) = keys.split_first() else { return false };
    let mut at = config.get(first);
    for key in rest {
        at = at.and_then(|value| value.get(key));
    }
    let is = |value: &Json| match value {
        Json::String(text) => glob(wanted, text),
        Json::Null => wanted.eq_ignore_ascii_case("none") || wanted.eq_ignore_ascii_case("null"),
        other => other.to_string().eq_ignore_ascii_case(wanted),
    };
    match at {
        None => false,
        Some(Json::Array(items)) => items.iter().any(is),
        Some(Json::Object(map)) => map.keys().any(|key| glob(wanted, key)),
        Some(value) => is(value),
    }
}
