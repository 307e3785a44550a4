//! Reads `selectors.yml`: selections with a name, dbt's YAML selectors.

use std::path::Path;

use indexmap::IndexMap;
use tidemill_project::Location;

use super::yaml::{Data, Node, Reader};
use crate::error::codes;

/// One entry of `selectors:`.
#[derive(Clone, Debug)]
pub struct SelectorDefinition {
    /// Its name, for `--selector`.
    pub name: String,
    /// From YAML.
    pub description: String,
    /// Whether it holds when the command line selects nothing.
    pub default: bool,
    /// What it selects.
    pub rule: SelectorRule,
    /// Where it is declared.
    pub location: Location,
}

/// A selection as a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectorRule {
    /// What the command line would say: `tag:nightly+`, unions with spaces and intersections with commas.
    Text(String),
    /// `method` and `value` with their graph operators.
    Term(SelectorTerm),
    /// What any of them selects.
    Union(Vec<Self>),
    /// What all of them select.
    Intersection(Vec<Self>),
    /// What the first selects and the second does not.
    Except(Box<Self>, Box<Self>),
    /// What the selector of that name selects (`method: selector`).
    Named(String),
}

/// `{method: tag, value: nightly, parents: true, children_depth: 1}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectorTerm {
    /// A method of the command line, or `fqn`.
    pub method: String,
    /// Its value.
    pub value: String,
    /// `+x`; with a depth `n+x`.
    pub parents: bool,
    /// See [`Self::parents`].
    pub parents_depth: Option<usize>,
    /// `x+`; with a depth `x+n`.
    pub children: bool,
    /// See [`Self::children`].
    pub children_depth: Option<usize>,
    /// `@x`.
    pub childrens_parents: bool,
    /// `indirect_selection`, as written.
    pub indirect: Option<String>,
}

const TERM_KEYS: [&str; 9] = [
    "method",
    "value",
    "parents",
    "parents_depth",
    "children",
    "children_depth",
    "childrens_parents",
    "indirect_selection",
    "exclude",
];

/// Reads the file; nothing when it is not there.
pub(super) fn read(reader: &mut Reader, dir: &Path) -> IndexMap<String, SelectorDefinition> {
    let mut found = IndexMap::new();
    let path = dir.join("selectors.yml");
    if !path.is_file() {
        return found;
    }
    let Some(text) = super::files::read_text(reader, &path) else { return found };
    let root = match Node::parse(&path, &text) {
        Ok(root) => root,
        Err(fault) => {
            reader.faults.push(fault);
            return found;
        }
    };
    reader.check_keys(&root, "selectors.yml", &["version", "selectors"]);
    for node in root.get("selectors").map(Node::items).unwrap_or_default() {
        reader.check_keys(node, "selector", &["name", "description", "default", "definition"]);
        let (Some(name), Some(definition)) = (node.get("name"), node.get("definition")) else {
            reader.fault(&node.place, codes::MISSING_KEY, "a selector needs a `name` and a `definition`");
            continue;
        };
        let Some(name) = reader.text(name, "name") else { continue };
        let Some(rule) = read_rule(reader, definition) else { continue };
        let definition = SelectorDefinition {
            name: name.clone(),
            description: node
                .get("description")
                .and_then(|value| reader.text(value, "description"))
                .unwrap_or_default(),
            // dbt takes an expression here (`"{{ target.name == 'prod' }}"`); without one it is a boolean.
            default: node.get("default").and_then(|value| reader.boolean(value, "default")).unwrap_or(false),
            rule,
            location: node.place.location(),
        };
        if let Some(first) = found.insert(name.clone(), definition) {
            let message = format!("selector is declared twice, name=`{name}`, first=`{}`", first.location);
            reader.fault(&node.place, codes::REPEATED, message);
        }
    }
    found
}

fn read_rule(reader: &mut Reader, node: &Node) -> Option<SelectorRule> {
    match &node.data {
        Data::Scalar(_) => reader.text(node, "definition").map(SelectorRule::Text),
        Data::List(_) => {
            reader.wrong_type(node, "definition", "text or mapping");
            None
        }
        Data::Map(entries) => match entries.as_slice() {
            [only] if only.key == "union" => read_set(reader, &only.value, SelectorRule::Union),
            [only] if only.key == "intersection" => read_set(reader, &only.value, SelectorRule::Intersection),
            // `{tag: nightly}` in place of `{method: tag, value: nightly}`.
            [only] if !TERM_KEYS.contains(&only.key.as_str()) => {
                let value = reader.text(&only.value, &only.key)?;
                Some(SelectorRule::Text(format!("{}:{value}", only.key)))
            }
            _ => read_term(reader, node),
        },
    }
}

/// Members of a union or intersection; an `exclude` among them takes away from the whole.
fn read_set(
    reader: &mut Reader,
    node: &Node,
    build: impl FnOnce(Vec<SelectorRule>) -> SelectorRule,
) -> Option<SelectorRule> {
    let mut members = Vec::new();
    let mut excluded = Vec::new();
    for item in node.items() {
        match item.entries() {
            [only] if only.key == "exclude" => excluded.extend(read_members(reader, &only.value)),
            _ => members.extend(read_rule(reader, item)),
        }
    }
    if members.is_empty() {
        reader.fault(&node.place, codes::MISSING_KEY, "a union or intersection needs members");
        return None;
    }
    Some(except(build(members), excluded))
}

fn read_members(reader: &mut Reader, node: &Node) -> Vec<SelectorRule> {
    match &node.data {
        Data::List(items) => items.iter().filter_map(|item| read_rule(reader, item)).collect(),
        _ => read_rule(reader, node).into_iter().collect(),
    }
}

fn except(rule: SelectorRule, excluded: Vec<SelectorRule>) -> SelectorRule {
    if excluded.is_empty() {
        rule
    } else {
        SelectorRule::Except(Box::new(rule), Box::new(SelectorRule::Union(excluded)))
    }
}

fn read_term(reader: &mut Reader, node: &Node) -> Option<SelectorRule> {
    reader.check_keys(node, "definition", &TERM_KEYS);
    let (Some(method), Some(value)) = (node.get("method"), node.get("value")) else {
        reader.fault(&node.place, codes::MISSING_KEY, "a definition needs a `method` and a `value`");
        return None;
    };
    let method = reader.text(method, "method")?;
    let value = reader.text(value, "value")?;
    let excluded = node.get("exclude").map(|list| read_members(reader, list)).unwrap_or_default();
    if method == "selector" {
        return Some(except(SelectorRule::Named(value), excluded));
    }
    let mut flag = |key: &str| node.get(key).and_then(|value| reader.boolean(value, key)).unwrap_or(false);
    let (parents, children, childrens_parents) = (flag("parents"), flag("children"), flag("childrens_parents"));
    let mut depth = |key: &str| {
        node.get(key).and_then(|value| reader.count(value, key)).and_then(|count| usize::try_from(count).ok())
    };
    let (parents_depth, children_depth) = (depth("parents_depth"), depth("children_depth"));
    let indirect = node.get("indirect_selection").and_then(|value| reader.text(value, "indirect_selection"));
    let term = SelectorTerm {
        method,
        value,
        parents: parents || parents_depth.is_some(),
        parents_depth,
        children: children || children_depth.is_some(),
        children_depth,
        childrens_parents,
        indirect,
    };
    Some(except(SelectorRule::Term(term), excluded))
}
