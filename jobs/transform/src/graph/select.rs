//! dbt's selectors: names, paths, `tag:`, `source:`, `+x`, `x+`, `2+x`, `@x`, unions and intersections.

use std::collections::BTreeSet;

use indexmap::IndexSet;
use tidemill_project::Fault;
use tidemill_project::error::nearest;

use super::{Graph, Node, TestType};
use crate::error::{Error, Result, codes};
use crate::project::NodeId;

/// What the command line asks for. Each text may hold several selectors: a space is a union, a comma an intersection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `--select`; empty selects all.
    pub select: Vec<String>,
    /// `--exclude`; taken away from the selected.
    pub exclude: Vec<String>,
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }
}

/// One selector, taken apart: `2+tag:nightly+` has depth 2 up and no limit down.
#[derive(Debug)]
struct Term<'a> {
    text: &'a str,
    method: Method<'a>,
    up: Option<Reach>,
    down: Option<Reach>,
    /// `@x`: `x`, what stands on it, and all that these stand on.
    at: bool,
}

/// How far a selector walks: `2+x` or `+x`.
#[derive(Clone, Copy, Debug)]
enum Reach {
    Edges(usize),
    All,
}

impl Reach {
    /// Reads what stands before or behind a `+`; `None` when the number is too large.
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() { Some(Self::All) } else { text.parse().ok().map(Self::Edges) }
    }

    fn limit(self) -> Option<usize> {
        match self {
            Self::Edges(limit) => Some(limit),
            Self::All => None,
        }
    }
}

/// How nodes are found before the graph is walked. More of dbt's methods become variants here.
#[derive(Debug)]
enum Method<'a> {
    All,
    Name(&'a str),
    Path(&'a str),
    Tag(&'a str),
    Source(&'a str),
    Kind(&'a str),
    TestType(&'a str),
}

const METHODS: [&str; 7] = ["fqn", "path", "file", "tag", "source", "resource_type", "test_type"];

impl Graph {
    /// The nodes of a selection, parents before children.
    ///
    /// A test is selected with any node that it tests, unless it is excluded by itself (dbt's `eager` mode). Selecting tests by
    /// name or tag selects them alone.
    ///
    /// # Errors
    /// Selectors that cannot be read, and names, tags and sources that nothing has, with the nearest one; all at once.
    pub fn select(&self, selection: &Selection) -> Result<Vec<NodeId>> {
        let mut faults = Vec::new();
        let mut selected = if selection.select.is_empty() {
            self.nodes.keys().cloned().collect()
        } else {
            self.union(&selection.select, &mut faults)
        };
        self.add_tests(&mut selected);
        if !selection.exclude.is_empty() {
            let mut excluded = self.union(&selection.exclude, &mut faults);
            self.add_tests(&mut excluded);
            selected.retain(|id| !excluded.contains(id));
        }
        if !faults.is_empty() {
            return Err(Error::from_faults(faults));
        }
        Ok(self.nodes.keys().filter(|id| selected.contains(*id)).cloned().collect())
    }

    fn add_tests(&self, selected: &mut BTreeSet<NodeId>) {
        let tests: Vec<NodeId> = selected
            .iter()
            .flat_map(|id| self.children(id))
            .filter(|id| matches!(id, NodeId::Test(_)))
            .cloned()
            .collect();
        selected.extend(tests);
    }

    fn union(&self, texts: &[String], faults: &mut Vec<Fault>) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        for part in texts.iter().flat_map(|text| text.split_whitespace()) {
            let mut common: Option<BTreeSet<NodeId>> = None;
            for piece in part.split(',').filter(|piece| !piece.is_empty()) {
                let nodes = match Term::parse(piece) {
                    Ok(term) => self.find(&term, faults),
                    Err(fault) => {
                        faults.push(fault);
                        continue;
                    }
                };
                common = Some(match common {
                    None => nodes,
                    Some(before) => before.intersection(&nodes).cloned().collect(),
                });
            }
            found.extend(common.unwrap_or_default());
        }
        found
    }

    fn find(&self, term: &Term<'_>, faults: &mut Vec<Fault>) -> BTreeSet<NodeId> {
        let hits: Vec<&NodeId> =
            self.nodes.iter().filter(|(id, node)| term.method.matches(id, node)).map(|(id, _)| id).collect();
        if hits.is_empty() {
            faults.push(self.nothing_found(term));
        }
        let mut found = BTreeSet::new();
        for id in hits {
            found.insert(id.clone());
            if term.at {
                let below = self.descendants(id, None);
                found.extend(below.iter().flat_map(|child| self.ancestors(child, None)));
                found.extend(self.ancestors(id, None));
                found.extend(below);
            }
            if let Some(reach) = term.up {
                found.extend(self.ancestors(id, reach.limit()));
            }
            if let Some(reach) = term.down {
                found.extend(self.descendants(id, reach.limit()));
            }
        }
        found
    }

    fn nothing_found(&self, term: &Term<'_>) -> Fault {
        let fault =
            Fault::new(format!("selector matches nothing, selector=`{}`", term.text)).code(codes::EMPTY_SELECTOR);
        let (value, known): (&str, IndexSet<String>) = match term.method {
            Method::Tag(tag) => (tag, self.nodes.values().flat_map(|node| node.tags.iter().cloned()).collect()),
            Method::Source(name) => (name, self.names(|id| matches!(id, NodeId::Source(_)))),
            Method::Name(name) => (name, self.names(|id| !matches!(id, NodeId::Source(_)))),
            Method::Path(path) => (path, self.nodes.values().map(|node| node.path.clone()).collect()),
            Method::All | Method::Kind(_) | Method::TestType(_) => return fault,
        };
        match nearest(value, known.iter().map(String::as_str)) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint("`tidemill ls` lists what there is"),
        }
    }

    fn names(&self, keep: impl Fn(&NodeId) -> bool) -> IndexSet<String> {
        self.nodes.keys().filter(|id| keep(id)).map(NodeId::name).collect()
    }
}

impl<'a> Term<'a> {
    fn parse(text: &'a str) -> std::result::Result<Self, Fault> {
        let bad = |why: &str| Fault::new(format!("{why}, selector=`{text}`")).code(codes::BAD_SELECTOR);
        let (at, rest) = match text.strip_prefix('@') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (up, rest) = match rest.split_once('+') {
            Some((depth, rest)) if depth.chars().all(|letter| letter.is_ascii_digit()) => {
                (Some(Reach::parse(depth).ok_or_else(|| bad("depth is too large"))?), rest)
            }
            _ => (None, rest),
        };
        let (down, rest) = match rest.rsplit_once('+') {
            Some((rest, depth)) if depth.chars().all(|letter| letter.is_ascii_digit()) => {
                (Some(Reach::parse(depth).ok_or_else(|| bad("depth is too large"))?), rest)
            }
            _ => (None, rest),
        };
        if at && (up.is_some() || down.is_some()) {
            return Err(bad("`@` cannot be combined with `+`"));
        }
        if rest.is_empty() {
            return Err(bad("selector names nothing"));
        }
        let method = match rest.split_once(':') {
            Some((method, value)) => match method {
                "fqn" => Method::Name(value),
                "path" | "file" => Method::Path(value),
                "tag" => Method::Tag(value),
                "source" => Method::Source(value),
                "resource_type" => Method::Kind(value),
                "test_type" if TestType::WORDS.contains(&value) => Method::TestType(value),
                "test_type" => {
                    let fault = bad(&format!("unknown type of test, test_type=`{value}`"));
                    return Err(fault.hint(format!("types known: {}", TestType::WORDS.join(", "))));
                }
                other => {
                    let fault = bad(&format!("unknown selector method, method=`{other}`"));
                    let near = nearest(other, METHODS).map_or_else(|| METHODS.join(", "), ToOwned::to_owned);
                    return Err(fault.hint(format!("methods known: {near}")));
                }
            },
            None if rest == "*" => Method::All,
            None if rest.contains('/') || has_extension(rest) => Method::Path(rest),
            None => Method::Name(rest),
        };
        Ok(Self { text, method, up, down, at })
    }
}

fn has_extension(text: &str) -> bool {
    std::path::Path::new(text).extension().is_some_and(|extension| {
        ["sql", "csv", "yml", "yaml"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

impl Method<'_> {
    fn matches(&self, id: &NodeId, node: &Node) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => match id {
                NodeId::Source(_) => false,
                other => matches_name(name, &other.name()) || matches_folder(name, &node.path),
            },
            Self::Path(path) => !matches!(id, NodeId::Source(_)) && matches_path(path, &node.path),
            Self::Tag(tag) => node.tags.iter().any(|own| matches_name(tag, own)),
            Self::Source(name) => match id {
                NodeId::Source(own) => {
                    let (source, table) = name.split_once('.').unwrap_or((name, "*"));
                    matches_name(source, &own.source) && matches_name(table, &own.table)
                }
                _ => false,
            },
            Self::TestType(word) => node.test_type.is_some_and(|test_type| test_type.is(word)),
            Self::Kind("unit_test") => node.test_type == Some(TestType::Unit),
            Self::Kind(kind) => match id {
                NodeId::Source(_) => *kind == "source",
                NodeId::Seed(_) => *kind == "seed",
                NodeId::Model(_) => *kind == "model",
                NodeId::Test(_) => *kind == "test",
            },
        }
    }
}

/// `*`, `?` and `[…]` as in the shell.
fn matches_name(pattern: &str, name: &str) -> bool {
    pattern == name || glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name))
}

/// dbt's fully qualified names: `staging` or `staging.zoner` selects a folder below `model-paths`.
fn matches_folder(name: &str, path: &str) -> bool {
    let folders: Vec<&str> = path.split('/').collect();
    let wanted: Vec<&str> = name.split('.').collect();
    let Some((_, inner)) = folders.split_last().map(|(file, folders)| (file, folders.get(1..).unwrap_or_default()))
    else {
        return false;
    };
    inner.windows(wanted.len()).next().is_some_and(|first| first == wanted)
        || (wanted.len() == 1 && inner.contains(&wanted[0]))
}

/// A file, a folder and all below it, or a glob.
fn matches_path(pattern: &str, path: &str) -> bool {
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    path == pattern
        || path.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('/'))
        || path.rsplit('/').next() == Some(pattern)
        || glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(path))
}
