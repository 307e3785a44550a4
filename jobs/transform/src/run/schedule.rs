//! Whose turn it is: a node waits for all that it stands on, and for the tests of that.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::graph::{Graph, TestType};
use crate::project::NodeId;

/// The nodes of a run and what each still waits for. A node is known by its place in the order of the run.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// In topological order, so that of several free nodes the same goes first on every machine.
    order: Vec<NodeId>,
    places: HashMap<NodeId, usize>,
    /// How many others each waits for.
    num_waits: Vec<usize>,
    /// Who waits for each.
    waiting: Vec<Vec<usize>>,
    /// Those that wait for nothing and were not started.
    free: BTreeSet<usize>,
    started: Vec<bool>,
    finished: Vec<bool>,
}

impl Schedule {
    /// Builds the schedule of the selected nodes, which stand in topological order.
    ///
    /// Nodes between two selected ones need not be selected themselves. A model waits for a test when everything that the
    /// test reads lies above the model: then its failure speaks of the model's inputs. Models, and tests of sources, wait for all
    /// seeds, as a source may be a seed's table. A unit test goes before its model.
    pub(crate) fn new(graph: &Graph, selected: &[NodeId]) -> Self {
        let places: HashMap<NodeId, usize> =
            selected.iter().enumerate().map(|(place, node)| (node.clone(), place)).collect();
        let seeds = of_kind(selected, |node| matches!(node, NodeId::Seed(_)));
        let unit_tests = of_kind(selected, |node| graph.test_type(node) == Some(TestType::Unit));
        let is_unit: HashSet<usize> = unit_tests.iter().copied().collect();
        let data_tests = of_kind(selected, |node| matches!(node, NodeId::Test(_)));
        let data_tests: Vec<usize> = data_tests.into_iter().filter(|place| !is_unit.contains(place)).collect();
        let mut waits_for: Vec<HashSet<usize>> = vec![HashSet::new(); selected.len()];
        for (place, node) in selected.iter().enumerate() {
            if is_unit.contains(&place) {
                // It reads nothing that is stored.
                continue;
            }
            let waits = &mut waits_for[place];
            let ancestors = graph.ancestors(node, None);
            waits.extend(ancestors.iter().filter_map(|node| places.get(node)));
            if ancestors.iter().any(|node| matches!(node, NodeId::Source(_))) {
                // A test of a source that is a seed's table was faster than the seed otherwise.
                waits.extend(&seeds);
            }
            if let NodeId::Model(_) = node {
                waits.extend(&seeds);
                let is_above =
                    |test: &&usize| graph.parents(&selected[**test]).all(|parent| ancestors.contains(parent));
                waits.extend(data_tests.iter().filter(is_above));
            }
        }
        for test in unit_tests {
            for model in graph.parents(&selected[test]).filter(|node| matches!(node, NodeId::Model(_))) {
                if let Some(place) = places.get(model) {
                    waits_for[*place].insert(test);
                }
            }
        }
        let mut waiting = vec![Vec::new(); selected.len()];
        for (place, waits) in waits_for.iter().enumerate() {
            for wait in waits {
                waiting[*wait].push(place);
            }
        }
        Self {
            order: selected.to_vec(),
            places,
            num_waits: waits_for.iter().map(HashSet::len).collect(),
            waiting,
            free: (0..selected.len()).filter(|place| waits_for[*place].is_empty()).collect(),
            started: vec![false; selected.len()],
            finished: vec![false; selected.len()],
        }
    }

    /// The next node that waits for nothing; it counts as started.
    pub(crate) fn start_next(&mut self) -> Option<NodeId> {
        let place = self.free.pop_first()?;
        self.started[place] = true;
        Some(self.order[place].clone())
    }

    /// A node is done: nobody waits for it any more.
    pub(crate) fn finish(&mut self, node: &NodeId) {
        if let Some(place) = self.places.get(node) {
            self.release(*place);
        }
    }

    fn release(&mut self, place: usize) {
        if std::mem::replace(&mut self.finished[place], true) {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting[place]) {
            self.num_waits[waiting] -= 1;
            if self.num_waits[waiting] == 0 && !self.started[waiting] {
                self.free.insert(waiting);
            }
        }
    }

    /// A node failed: all that waits for it, directly or through others, will never start. They are handed back in order.
    pub(crate) fn fail(&mut self, node: &NodeId) -> Vec<NodeId> {
        let Some(failed) = self.places.get(node).copied() else { return Vec::new() };
        let mut lost = vec![failed];
        let mut next: BTreeSet<usize> = self.waiting[failed].iter().copied().collect();
        while let Some(place) = next.pop_first() {
            if std::mem::replace(&mut self.started[place], true) {
                continue;
            }
            lost.push(place);
            next.extend(&self.waiting[place]);
        }
        for place in &lost {
            self.release(*place);
        }
        lost.into_iter().skip(1).map(|place| self.order[place].clone()).collect()
    }

    /// Nothing more is started; what had not begun is handed back in order.
    pub(crate) fn stop(&mut self) -> Vec<NodeId> {
        self.free.clear();
        let begun = self.started.iter_mut().map(|started| std::mem::replace(started, true));
        self.order.iter().zip(begun).filter(|(_, begun)| !begun).map(|(node, _)| node.clone()).collect()
    }
}

/// Places of the nodes of a kind.
fn of_kind(nodes: &[NodeId], is_it: impl Fn(&NodeId) -> bool) -> Vec<usize> {
    nodes.iter().enumerate().filter(|(_, node)| is_it(node)).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule of models by number; a pair says that the second waits for the first.
    fn schedule(count: usize, edges: &[(usize, usize)]) -> Schedule {
        let order: Vec<NodeId> = (0..count).map(node).collect();
        let mut waiting = vec![Vec::new(); count];
        let mut num_waits = vec![0; count];
        for (first, second) in edges {
            waiting[*first].push(*second);
            num_waits[*second] += 1;
        }
        Schedule {
            places: order.iter().cloned().zip(0..).collect(),
            free: (0..count).filter(|place| num_waits[*place] == 0).collect(),
            order,
            num_waits,
            waiting,
            started: vec![false; count],
            finished: vec![false; count],
        }
    }

    fn node(number: usize) -> NodeId {
        NodeId::Model(number.to_string())
    }

    #[test]
    fn a_node_starts_when_all_that_it_waits_for_is_done() {
        let mut schedule = schedule(4, &[(0, 2), (1, 2), (2, 3)]);
        assert_eq!(schedule.start_next(), Some(node(0)));
        assert_eq!(schedule.start_next(), Some(node(1)));
        assert_eq!(schedule.start_next(), None);
        schedule.finish(&node(0));
        schedule.finish(&node(0));
        assert_eq!(schedule.start_next(), None, "done twice is done once");
        schedule.finish(&node(1));
        assert_eq!(schedule.start_next(), Some(node(2)));
        assert_eq!(schedule.stop(), [node(3)]);
        schedule.finish(&node(2));
        assert_eq!(schedule.start_next(), None);
    }

    #[test]
    fn whatever_waits_for_a_failure_is_lost_and_the_rest_goes_on() {
        let mut schedule = schedule(5, &[(0, 2), (2, 3), (1, 4)]);
        schedule.start_next();
        schedule.start_next();
        assert_eq!(schedule.fail(&node(0)), [node(2), node(3)]);
        assert_eq!(schedule.start_next(), None);
        schedule.finish(&node(1));
        assert_eq!(schedule.start_next(), Some(node(4)));
        assert_eq!(schedule.start_next(), None, "what was lost is never free");
    }
}
