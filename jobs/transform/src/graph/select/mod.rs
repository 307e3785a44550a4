//! dbt's selectors: names, paths, `tag:`, `config.x:`, `state:`, …, `+x`, `x+`, `2+x`, `@x`, unions and intersections, and
//! selections with a name from `selectors.yml`.

mod facts;
mod method;
mod term;

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexSet;
use tidemill_project::Fault;
use tidemill_project::error::nearest;

pub use facts::Facts;
use method::Method;
pub(crate) use method::STATES;
use term::Term;

use super::{Graph, Node};
use crate::error::{Error, Result, codes};
use crate::project::{NodeId, SelectorRule};

/// What the command line asks for. Each text may hold several selectors: a space is a union, a comma an intersection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `--select`; empty selects all, or what the project's default selector says.
    pub select: Vec<String>,
    /// `--exclude`; taken away from the selected.
    pub exclude: Vec<String>,
    /// `--selector`: a selection of `selectors.yml`, in place of `select`.
    pub selector: Option<String>,
    /// `--resource-type`: only these kinds; empty for all.
    pub resource_types: Vec<String>,
    /// `--exclude-resource-type`.
    pub exclude_resource_types: Vec<String>,
    /// Which tests come along.
    pub indirect: Indirect,
    /// What earlier artifacts say.
    pub facts: Arc<Facts>,
}

/// dbt's `--indirect-selection`: which tests come along with the nodes that they test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Indirect {
    /// Those that test any selected node.
    #[default]
    Eager,
    /// Those that test selected nodes only.
    Cautious,
    /// Those that test selected nodes and what these stand on.
    Buildable,
    /// None.
    Empty,
}

impl Indirect {
    /// Reads dbt's word; `None` when it is none.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "eager" => Some(Self::Eager),
            "cautious" => Some(Self::Cautious),
            "buildable" => Some(Self::Buildable),
            "empty" => Some(Self::Empty),
            _ => None,
        }
    }
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }
}

/// What a selection comes to.
#[derive(Clone, Debug, Default)]
pub struct Selected {
    /// Parents before children.
    pub nodes: Vec<NodeId>,
    /// Selectors that match nothing, with the nearest name: not wrong, but seldom meant.
    pub warnings: Vec<Fault>,
}

/// A walk through the selectors of one selection.
struct Walk<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    indirect: Indirect,
    warnings: Vec<Fault>,
    faults: Vec<Fault>,
    /// Tests that touch what was selected, to be looked at again when the whole is known.
    touching: BTreeSet<NodeId>,
    /// Names of YAML selectors that are being followed, so that a circle is noticed.
    following: Vec<String>,
}

impl Graph {
    /// The nodes of a selection, parents before children. A selector that matches nothing is logged as a warning.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn select(&self, selection: &Selection) -> Result<Vec<NodeId>> {
        let selected = self.resolve(selection)?;
        for warning in &selected.warnings {
            tracing::debug!(message = %warning.message, "selector matches nothing");
        }
        Ok(selected.nodes)
    }

    /// The nodes of a selection, parents before children, and what is odd about it.
    ///
    /// # Errors
    /// Selectors that cannot be read, or that need artifacts which are not there; all at once, with the nearest word.
    pub fn resolve(&self, selection: &Selection) -> Result<Selected> {
        let mut walk = Walk {
            graph: self,
            facts: &selection.facts,
            indirect: selection.indirect,
            warnings: Vec::new(),
            faults: Vec::new(),
            touching: BTreeSet::new(),
            following: Vec::new(),
        };
        let mut selected = if let Some(name) = &selection.selector {
            walk.named(name)
        } else if !selection.select.is_empty() {
            walk.union(&selection.select)
        } else if let Some(default) = self.definitions.values().find(|definition| definition.default) {
            walk.named(&default.name)
        } else {
            self.nodes.keys().cloned().collect()
        };
        let touching = std::mem::take(&mut walk.touching);
        let excluded = walk.union(&selection.exclude);
        selected.retain(|id| !excluded.contains(id));
        if matches!(selection.indirect, Indirect::Cautious | Indirect::Buildable) {
            let whole = self.with_ancestors(&selected, selection.indirect);
            selected.extend(
                touching
                    .into_iter()
                    .filter(|test| !excluded.contains(test) && self.parents(test).all(|parent| whole.contains(parent))),
            );
        }
        for kind in selection.resource_types.iter().chain(&selection.exclude_resource_types) {
            walk.faults.extend(method::check_kind(kind).err());
        }
        if !walk.faults.is_empty() {
            return Err(Error::from_faults(walk.faults));
        }
        let wanted = |id: &NodeId, node: &Node| {
            let kind = node.kind(id);
            let names = |kinds: &[String]| kinds.iter().any(|other| other == kind || other == "all");
            (selection.resource_types.is_empty() || names(&selection.resource_types))
                && !names(&selection.exclude_resource_types)
        };
        let kept = self.nodes.iter().filter(|(id, node)| selected.contains(*id) && wanted(id, node));
        let nodes = kept.map(|(id, _)| id.clone()).collect();
        Ok(Selected { nodes, warnings: walk.warnings })
    }

    fn with_ancestors(&self, selected: &BTreeSet<NodeId>, indirect: Indirect) -> BTreeSet<NodeId> {
        let mut whole = selected.clone();
        if indirect == Indirect::Buildable {
            whole.extend(selected.iter().flat_map(|id| self.ancestors(id, None)));
        }
        whole
    }
}

impl Walk<'_> {
    /// Texts of the command line: any of them.
    fn union(&mut self, texts: &[String]) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        for part in texts.iter().flat_map(|text| text.split_whitespace()) {
            let mut common: Option<BTreeSet<NodeId>> = None;
            for piece in part.split(',').filter(|piece| !piece.is_empty()) {
                let nodes = match Term::parse(piece) {
                    Ok(term) => self.find(&term, self.indirect),
                    Err(fault) => {
                        self.faults.push(fault);
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

    fn named(&mut self, name: &str) -> BTreeSet<NodeId> {
        let graph = self.graph;
        let Some(definition) = graph.definitions.get(name) else {
            let fault = Fault::new(format!("no selector of that name in selectors.yml, selector=`{name}`"))
                .code(codes::BAD_SELECTOR);
            self.faults.push(match nearest(name, graph.definitions.keys().map(String::as_str)) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault,
            });
            return BTreeSet::new();
        };
        if self.following.iter().any(|before| before == name) {
            let fault = Fault::new(format!("selectors lead to each other in a circle, selector=`{name}`"))
                .at(definition.location.clone())
                .code(codes::BAD_SELECTOR);
            self.faults.push(fault);
            return BTreeSet::new();
        }
        self.following.push(name.to_owned());
        let found = self.rule(&definition.rule);
        self.following.pop();
        found
    }

    fn rule(&mut self, rule: &SelectorRule) -> BTreeSet<NodeId> {
        match rule {
            SelectorRule::Text(text) => self.union(std::slice::from_ref(text)),
            SelectorRule::Named(name) => self.named(name),
            SelectorRule::Union(members) => members.iter().flat_map(|member| self.rule(member)).collect(),
            SelectorRule::Intersection(members) => {
                let mut common: Option<BTreeSet<NodeId>> = None;
                for member in members {
                    let nodes = self.rule(member);
                    common = Some(match common {
                        None => nodes,
                        Some(before) => before.intersection(&nodes).cloned().collect(),
                    });
                }
                common.unwrap_or_default()
            }
            SelectorRule::Except(inner, excluded) => {
                let mut found = self.rule(inner);
                let excluded = self.rule(excluded);
                found.retain(|id| !excluded.contains(id));
                self.touching.retain(|id| !excluded.contains(id));
                found
            }
            SelectorRule::Term(term) => {
                let indirect = match term.indirect.as_deref().map(|word| (word, Indirect::parse(word))) {
                    None => self.indirect,
                    Some((_, Some(indirect))) => indirect,
                    Some((word, None)) => {
                        let fault = Fault::new(format!("unknown indirect selection, indirect_selection=`{word}`"))
                            .code(codes::BAD_SELECTOR)
                            .hint("known: eager, cautious, buildable, empty");
                        self.faults.push(fault);
                        return BTreeSet::new();
                    }
                };
                match Term::from_yaml(term) {
                    Ok(term) => self.find(&term, indirect),
                    Err(fault) => {
                        self.faults.push(fault);
                        BTreeSet::new()
                    }
                }
            }
        }
    }

    /// What one selector finds, with the tests that come along.
    fn find(&mut self, term: &Term, indirect: Indirect) -> BTreeSet<NodeId> {
        let graph = self.graph;
        if let Some(fault) = term.method.missing_facts(self.facts, &term.text) {
            self.faults.push(fault);
            return BTreeSet::new();
        }
        let hits: Vec<&NodeId> = graph
            .nodes
            .iter()
            .filter(|(id, node)| term.method.matches(id, node, self.facts))
            .map(|(id, _)| id)
            .collect();
        if hits.is_empty() {
            self.warnings.push(self.nothing_found(term));
        }
        let mut found = BTreeSet::new();
        for id in hits {
            found.insert(id.clone());
            if term.at {
                let below = graph.descendants(id, None);
                found.extend(below.iter().flat_map(|child| graph.ancestors(child, None)));
                found.extend(graph.ancestors(id, None));
                found.extend(below);
            }
            if let Some(reach) = term.up {
                found.extend(graph.ancestors(id, reach.limit()));
            }
            if let Some(reach) = term.down {
                found.extend(graph.descendants(id, reach.limit()));
            }
        }
        let tests: BTreeSet<NodeId> = found
            .iter()
            .flat_map(|id| graph.children(id))
            .filter(|id| matches!(id, NodeId::Test(_)))
            .cloned()
            .collect();
        let whole = graph.with_ancestors(&found, indirect);
        match indirect {
            Indirect::Eager => found.extend(tests),
            Indirect::Cautious | Indirect::Buildable => {
                found.extend(
                    tests.iter().filter(|test| graph.parents(test).all(|parent| whole.contains(parent))).cloned(),
                );
                self.touching.extend(tests);
            }
            Indirect::Empty => {}
        }
        found
    }

    fn nothing_found(&self, term: &Term) -> Fault {
        let graph = self.graph;
        let fault =
            Fault::new(format!("selector matches nothing, selector=`{}`", term.text)).code(codes::EMPTY_SELECTOR);
        let names = |keep: &dyn Fn(&NodeId) -> bool| -> IndexSet<String> {
            graph.nodes.keys().filter(|id| keep(id)).map(NodeId::name).collect()
        };
        let (value, known): (&str, IndexSet<String>) = match &term.method {
            Method::Tag(tag) => (tag, graph.nodes.values().flat_map(|node| node.tags.iter().cloned()).collect()),
            Method::Source(name) => (name, names(&|id| matches!(id, NodeId::Source(_)))),
            Method::Exposure(name) => (name, names(&|id| matches!(id, NodeId::Exposure(_)))),
            Method::Fqn(name) => (name, names(&|id| !matches!(id, NodeId::Source(_) | NodeId::Exposure(_)))),
            Method::Path(path) => (path, graph.nodes.values().map(|node| node.path.clone()).collect()),
            Method::Group(name) => (name, graph.nodes.values().filter_map(|node| node.traits.group.clone()).collect()),
            Method::TestName(name) => {
                (name, graph.nodes.values().filter_map(|node| node.traits.test_name.clone()).collect())
            }
            // An empty answer of these is an answer.
            Method::State(_) | Method::Result(_) | Method::Fresher => return fault,
            _ => return fault.hint("`tidemill ls` lists what there is"),
        };
        match nearest(value, known.iter().map(String::as_str)) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint("`tidemill ls` lists what there is"),
        }
    }
}
