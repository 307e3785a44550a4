//! The graph of sources, seeds, models and tests, and dbt's selectors over it.

mod build;
mod select;
mod traits;

use indexmap::{IndexMap, IndexSet};

pub(crate) use select::STATES;
pub use select::{Facts, Indirect, Selected, Selection};
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
