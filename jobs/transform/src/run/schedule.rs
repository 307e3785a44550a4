//! Whose turn it is: a node waits for all that it stands on, and for the tests of that.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, TestType};
use crate::project::NodeId;

/// The nodes of a run and what each still waits for.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// In topological order, so that of several free nodes the same goes first on every machine.
    order: Vec<NodeId>,
    waits_for: BTreeMap<NodeId, BTreeSet<NodeId>>,
    started: BTreeSet<NodeId>,
}

impl Schedule {
    /// Builds the schedule of the selected nodes, which stand in topological order.
    ///
    /// Nodes between two selected ones need not be selected themselves. A model waits for a test when everything that the
    /// test reads lies above the model: then its failure speaks of the model's inputs. Models wait for all seeds, as a source
    /// may be a seed's table. A unit test goes before its model.
    pub(crate) fn new(graph: &Graph, selected: &[NodeId]) -> Self {
        let chosen: BTreeSet<&NodeId> = selected.iter().collect();
        let tests: Vec<&NodeId> = selected.iter().filter(|node| matches!(node, NodeId::Test(_))).collect();
        let mut waits_for = BTreeMap::new();
        let is_unit = |node: &NodeId| graph.test_type(node) == Some(TestType::Unit);
        for node in selected {
            if is_unit(node) {
                // It reads nothing that is stored.
                waits_for.insert(node.clone(), BTreeSet::new());
                continue;
            }
            let ancestors = graph.ancestors(node, None);
            let mut waits: BTreeSet<NodeId> = ancestors.iter().filter(|node| chosen.contains(node)).cloned().collect();
            if let NodeId::Model(_) = node {
                waits.extend(selected.iter().filter(|node| matches!(node, NodeId::Seed(_))).cloned());
                waits.extend(
                    tests
                        .iter()
                        .filter(|test| is_unit(test) && graph.parents(test).any(|of| of == node))
                        .map(|test| (*test).clone()),
                );
                waits.extend(
                    tests
                        .iter()
                        .filter(|test| !is_unit(test) && graph.parents(test).all(|parent| ancestors.contains(parent)))
                        .map(|test| (*test).clone()),
                );
            }
            waits_for.insert(node.clone(), waits);
        }
        Self { order: selected.to_vec(), waits_for, started: BTreeSet::new() }
    }

    /// The next node that waits for nothing; it counts as started.
    pub(crate) fn start_next(&mut self) -> Option<NodeId> {
        let node = self
            .order
            .iter()
            .find(|node| !self.started.contains(node) && self.waits_for.get(node).is_none_or(BTreeSet::is_empty))?
            .clone();
        self.started.insert(node.clone());
        Some(node)
    }

    /// A node is done: nobody waits for it any more.
    pub(crate) fn finish(&mut self, node: &NodeId) {
        for waits in self.waits_for.values_mut() {
            waits.remove(node);
        }
    }

    /// A node failed: all that waits for it, directly or through others, will never start. They are handed back in order.
    pub(crate) fn fail(&mut self, node: &NodeId) -> Vec<NodeId> {
        let mut lost = BTreeSet::from([node.clone()]);
        let mut skipped = Vec::new();
        loop {
            let next = self.order.iter().find(|candidate| {
                !self.started.contains(candidate)
                    && self.waits_for.get(candidate).is_some_and(|waits| waits.iter().any(|wait| lost.contains(wait)))
            });
            let Some(next) = next.cloned() else { break };
            self.started.insert(next.clone());
            lost.insert(next.clone());
            skipped.push(next);
        }
        for node in &lost {
            self.finish(node);
        }
        skipped
    }

    /// Nothing more is started; what had not begun is handed back in order.
    pub(crate) fn stop(&mut self) -> Vec<NodeId> {
        let left: Vec<NodeId> = self.order.iter().filter(|node| !self.started.contains(node)).cloned().collect();
        self.started.extend(left.iter().cloned());
        left
    }
}
