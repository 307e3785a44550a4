//! The graph of sources, seeds, models and tests, and dbt's selectors over it.

mod build;
mod select;
mod traits;

use indexmap::{IndexMap, IndexSet};

pub(crate) use select::STATES;
pub use select::{Facts, Indirect, Selected, Selection};
use serde::Serialize;
pub use traits::Traits;

use crate::project::{NodeId, SelectorDefinition};

/// Nodes and their edges. It has no cycles, every edge leads to a node that exists, and [`Graph::nodes`] stands in
/// topological order: parents before children, otherwise by kind and name, so the order is the same on every machine.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: IndexMap<NodeId, Node>,
    /// `selectors.yml`.
    definitions: IndexMap<String, SelectorDefinition>,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// What it reads, directly.
    pub parents: IndexSet<NodeId>,
    /// What reads it, directly; tests included.
    pub children: IndexSet<NodeId>,
    /// Selectors `tag:`.
    pub tags: Vec<String>,
    /// The file, relative to the project; selectors by path.
    pub path: String,
    /// What selectors ask for beside tags and path.
    pub traits: Traits,
    /// Which kind of test it is; `None` for what is no test.
    pub test_type: Option<TestType>,
}

impl Node {
    /// dbt's `resource_type` of the node, which is `id`: the word of `resource_type:` and of `--resource-type`.
    #[must_use]
    pub fn kind(&self, id: &NodeId) -> &'static str {
        match id {
            NodeId::Test(_) if self.test_type == Some(TestType::Unit) => "unit_test",
            NodeId::Model(_) if self.traits.is_snapshot => "snapshot",
            NodeId::Source(_) => "source",
            NodeId::Seed(_) => "seed",
            NodeId::Model(_) => "model",
            NodeId::Test(_) => "test",
            NodeId::Exposure(_) => "exposure",
        }
    }
}

/// The kinds of tests, selectors `test_type:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestType {
    /// A data test declared in YAML.
    Generic,
    /// A data test in a file of its own.
    Singular,
    /// A model's logic on rows that are made up.
    Unit,
    /// A story of arriving rows and what must stand in tables after each step.
    Scenario,
}

impl TestType {
    /// Whether `test_type:` of this word means it; `data` means generic and singular ones.
    #[must_use]
    pub fn is(self, word: &str) -> bool {
        match self {
            Self::Generic => matches!(word, "generic" | "data"),
            Self::Singular => matches!(word, "singular" | "data"),
            Self::Unit => word == "unit",
            Self::Scenario => word == "scenario",
        }
    }

    /// The words that `test_type:` knows.
    pub const WORDS: [&'static str; 5] = ["data", "generic", "singular", "unit", "scenario"];
}

impl Graph {
    /// All nodes, parents before children.
    #[must_use]
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (&NodeId, &Node)> {
        self.nodes.iter()
    }

    /// All ids, parents before children.
    #[must_use]
    pub fn order(&self) -> impl DoubleEndedIterator<Item = &NodeId> {
        self.nodes.keys()
    }

    /// The selections of `selectors.yml`.
    pub fn definitions(&self) -> impl Iterator<Item = &SelectorDefinition> {
        self.definitions.values()
    }

    /// A node by id.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Which kind of test a node is; `None` for what is no test.
    #[must_use]
    pub fn test_type(&self, id: &NodeId) -> Option<TestType> {
        self.nodes.get(id).and_then(|node| node.test_type)
    }

    /// What a node reads, directly; nothing for an unknown node.
    pub fn parents(&self, id: &NodeId) -> impl Iterator<Item = &NodeId> {
        self.nodes.get(id).into_iter().flat_map(|node| &node.parents)
    }

    /// What reads a node, directly; tests included.
    pub fn children(&self, id: &NodeId) -> impl Iterator<Item = &NodeId> {
        self.nodes.get(id).into_iter().flat_map(|node| &node.children)
    }

    /// Everything that a node stands on, `depth` edges up at most, without itself.
    #[must_use]
    pub fn ancestors(&self, id: &NodeId, depth: Option<usize>) -> IndexSet<NodeId> {
        self.reach(id, depth, |node| &node.parents)
    }

    /// Everything that stands on a node, `depth` edges down at most, without itself.
    #[must_use]
    pub fn descendants(&self, id: &NodeId, depth: Option<usize>) -> IndexSet<NodeId> {
        self.reach(id, depth, |node| &node.children)
    }

    fn reach(&self, id: &NodeId, depth: Option<usize>, next: impl Fn(&Node) -> &IndexSet<NodeId>) -> IndexSet<NodeId> {
        let mut seen = IndexSet::new();
        let mut front = vec![id.clone()];
        let mut left = depth.unwrap_or(usize::MAX);
        while left > 0 && !front.is_empty() {
            left -= 1;
            front = front
                .iter()
                .filter_map(|id| self.nodes.get(id))
                .flat_map(&next)
                .filter(|found| *found != id && seen.insert((*found).clone()))
                .cloned()
                .collect();
        }
        seen
    }
}

#[cfg(test)]
mod selector_tests;
#[cfg(test)]
mod tests;
