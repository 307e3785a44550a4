//! What a model stands on: stored tables, reached directly or through views.

use indexmap::IndexMap;
use tidemill_lake::TableId;

use super::changes::TimeLayout;
use super::range::Reach;
use crate::graph::Graph;
use crate::project::{Model, NodeId, Project, Storage, Strategy};

/// A stored table that a model stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The seed, source or stored model.
    pub node: NodeId,
    /// Its table.
    pub table: TableId,
    /// Where its event time stands in the log; `None` when it has none.
    pub layout: Option<TimeLayout>,
    /// One entry per way from the model to the table: how far around a batch it is read. `None`: wholly, whatever the batch.
    pub reaches: Vec<Option<Reach>>,
}

/// The place of a seed's or model's table.
pub(crate) fn table_of(project: &Project, node: &NodeId) -> Option<TableId> {
    match node {
        NodeId::Source(name) => {
            // A source that no contract lands may be a seed's table, as dbt projects that bring their own data have it.
            let landed = project.sources.get(name).is_none_or(|source| source.has_contract);
            match project.seeds.get(&name.table) {
                Some(seed) if !landed => table_of(project, &NodeId::Seed(seed.name.clone())),
                _ => Some(TableId::Raw(name.clone())),
            }
        }
        NodeId::Seed(name) => project.seeds.get(name).map(|seed| {
            let identifier = seed.alias.as_deref().unwrap_or(name);
            TableId::model(seed.schema.clone().unwrap_or_else(|| project.target.schema.clone()), identifier)
        }),
        NodeId::Model(name) => {
            project.models.get(name).map(|model| TableId::model(schema_of(project, model), identifier_of(model)))
        }
        NodeId::Test(_) | NodeId::Exposure(_) => None,
    }
}

/// The schema that a model's table lies in.
pub(crate) fn schema_of(project: &Project, model: &Model) -> String {
    model.config.schema.clone().unwrap_or_else(|| project.target.schema.clone())
}

/// The name of a model's table.
pub(crate) fn identifier_of(model: &Model) -> String {
    model.config.alias.clone().unwrap_or_else(|| model.name.clone())
}

/// The column of event time of a node, as its readers see it.
pub(crate) fn event_time_of<'a>(project: &'a Project, node: &NodeId) -> Option<&'a str> {
    match node {
        NodeId::Source(name) => project.sources.get(name)?.event_time.as_deref(),
        NodeId::Seed(name) => project.seeds.get(name)?.event_time.as_deref(),
        NodeId::Model(name) => project.models.get(name)?.config.event_time.as_deref(),
        NodeId::Test(_) | NodeId::Exposure(_) => None,
    }
}

/// Whether a node's rows are kept in a table of its own.
pub(crate) fn is_stored(project: &Project, node: &NodeId) -> bool {
    match node {
        NodeId::Source(_) | NodeId::Seed(_) => true,
        NodeId::Model(name) => project
            .models
            .get(name)
            .is_some_and(|model| !matches!(model.config.storage(), Storage::View | Storage::Ephemeral)),
        NodeId::Test(_) | NodeId::Exposure(_) => false,
    }
}

fn layout_of(project: &Project, node: &NodeId) -> Option<TimeLayout> {
    let column = event_time_of(project, node)?.to_owned();
    Some(match node {
        NodeId::Source(name) => TimeLayout {
            column,
            batch_size: None,
            dated: project.sources.get(name).is_some_and(|source| source.has_contract),
        },
        NodeId::Model(name) => {
            let config = &project.models.get(name)?.config;
            let batched = config.storage() == Storage::Incremental(Strategy::Microbatch);
            TimeLayout { column, batch_size: config.batch_size.filter(|_| batched), dated: false }
        }
        NodeId::Seed(_) | NodeId::Test(_) | NodeId::Exposure(_) => {
            TimeLayout { column, batch_size: None, dated: false }
        }
    })
}

/// The stored tables under a model, in the order in which they are met.
///
/// An input that declares an event time is read around the batch only; one without is read wholly, and so is everything
/// below a view that declares none. The reaches of a view and of its reader add up.
pub(crate) fn leaves_of(project: &Project, graph: &Graph, model: &Model) -> Vec<Leaf> {
    let mut found: IndexMap<NodeId, Leaf> = IndexMap::new();
    collect(project, graph, model, Some(Reach::default()), true, &mut found);
    found.into_values().collect()
}

fn collect(
    project: &Project,
    graph: &Graph,
    reader: &Model,
    outer: Option<Reach>,
    is_top: bool,
    found: &mut IndexMap<NodeId, Leaf>,
) {
    let batched = !is_top || reader.config.storage() == Storage::Incremental(Strategy::Microbatch);
    for input in graph.parents(&NodeId::Model(reader.name.clone())) {
        let own = Reach::from(reader.config.context.of(&input.name()));
        let reach = match (outer, event_time_of(project, input)) {
            (Some(outer), Some(_)) if batched => Some(outer.then(own)),
            _ => None,
        };
        match input {
            NodeId::Model(name) if !is_stored(project, input) => {
                if let Some(view) = project.models.get(name) {
                    collect(project, graph, view, reach, false, found);
                }
            }
            stored => {
                let Some(table) = table_of(project, stored) else { continue };
                let leaf = found.entry(stored.clone()).or_insert_with(|| Leaf {
                    node: stored.clone(),
                    table,
                    layout: layout_of(project, stored),
                    reaches: Vec::new(),
                });
                if !leaf.reaches.contains(&reach) {
                    leaf.reaches.push(reach);
                }
            }
        }
    }
}
