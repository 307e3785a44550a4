//! dbt's unique ids: `model.shop.orders`.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::graph::{Graph, Node, TestType};
use crate::project::NodeId;
use crate::run::hex;

/// The id of every node. The one place where ids of ours become dbt's.
#[derive(Clone, Debug)]
pub(super) struct Ids(BTreeMap<NodeId, String>);

impl Ids {
    pub(super) fn of(graph: &Graph) -> Self {
        let id = |node: &NodeId, package: &str, facts: &Node| match node {
            NodeId::Source(name) => format!("source.{package}.{}.{}", name.source, name.table),
            // A generic test's name is made up, so dbt adds a hash of what it is made from.
            NodeId::Test(name) if facts.test_type == Some(TestType::Generic) => {
                format!("test.{package}.{name}.{}", &hex(&Sha256::digest(name.as_bytes()))[..10])
            }
            NodeId::Test(name) if facts.test_type == Some(TestType::Unit) => {
                let model = facts.parents.first().map(NodeId::name).unwrap_or_default();
                format!("unit_test.{package}.{model}.{name}")
            }
            other => format!("{}.{package}.{}", facts.kind(other), other.name()),
        };
        let ids = graph.nodes().map(|(node, facts)| (node.clone(), id(node, &facts.traits.package, facts)));
        Self(ids.collect())
    }

    /// The id of a node; empty for one that is not in the graph.
    pub(super) fn get(&self, node: &NodeId) -> &str {
        self.0.get(node).map(String::as_str).unwrap_or_default()
    }

    /// The nodes by their ids.
    pub(super) fn nodes(&self) -> BTreeMap<&str, &NodeId> {
        self.0.iter().map(|(node, id)| (id.as_str(), node)).collect()
    }
}

impl crate::run::Runner {
    /// dbt's unique id of every node.
    #[must_use]
    pub fn unique_ids(&self) -> BTreeMap<NodeId, String> {
        Ids::of(self.graph()).0
    }
}
