//! What a node is called in progress lines and lists.

use super::Runner;
use crate::project::NodeId;

impl Runner {
    /// dbt's `resource_type` of a node; `model` for one that is not in the graph.
    pub(super) fn kind(&self, node: &NodeId) -> &'static str {
        self.graph().get(node).map_or("model", |facts| facts.kind(node))
    }

    /// The node as dbt's progress lines name it: `table model main.orders`, `seed file main.codes`, the bare name of a test.
    #[must_use]
    pub fn label(&self, node: &NodeId) -> String {
        let relation = self
            .compiler
            .relation(node)
            .map_or_else(|| node.name(), |relation| format!("{}.{}", relation.schema, relation.identifier));
        match node {
            NodeId::Model(_) if self.kind(node) == "snapshot" => format!("snapshot {relation}"),
            NodeId::Model(_) => {
                let config = self.graph().get(node).map(|node| &node.traits.config);
                let kind = config.and_then(|config| config.get("materialized")?.as_str()).unwrap_or("view");
                format!("{kind} model {relation}")
            }
            NodeId::Seed(_) => format!("seed file {relation}"),
            NodeId::Source(_) => format!("source {relation}"),
            NodeId::Test(name) => name.clone(),
            NodeId::Exposure(name) => format!("exposure {name}"),
        }
    }

    /// The text that selects exactly this node, as dbt's `ls` prints it.
    #[must_use]
    pub fn selector_of(&self, node: &NodeId) -> String {
        let Some(facts) = self.graph().get(node) else { return node.name() };
        let package = &facts.traits.package;
        match node {
            NodeId::Source(name) => format!("source:{package}.{name}"),
            NodeId::Exposure(name) => format!("exposure:{package}.{name}"),
            NodeId::Seed(_) | NodeId::Model(_) | NodeId::Test(_) => facts.traits.fqn.join("."),
        }
    }
}
