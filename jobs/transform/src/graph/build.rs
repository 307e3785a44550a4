//! From refs and sources to edges.

use std::collections::BTreeMap;

use indexmap::{IndexMap, IndexSet};
use tidemill_project::error::nearest;
use tidemill_project::{Fault, Location};

use super::{Graph, Node, TestType, Traits};
use crate::error::{Error, Result, codes};
use crate::project::{Model, NodeId, Project, Uses};

impl Graph {
    /// Builds the graph of a project.
    ///
    /// # Errors
    /// Every ref and source that leads nowhere, with the nearest name, and every cycle as its path with the files; all at once.
    pub fn build(project: &Project) -> Result<Self> {
        let mut nodes: BTreeMap<NodeId, Node> = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, source) in &project.sources {
            let path = project.relative(&source.location.file).display().to_string();
            nodes.insert(NodeId::Source(name.clone()), Node { tags: source.tags.clone(), path, ..Node::default() });
        }
        for (name, seed) in &project.seeds {
            let path = project.relative(&seed.path).display().to_string();
            nodes.insert(NodeId::Seed(name.clone()), Node { tags: seed.tags.clone(), path, ..Node::default() });
        }
        for (name, model) in &project.models {
            let parents = resolve(project, &model.uses, &Location::new(&model.path, 0, 0), name, &mut faults);
            check_config(project, model, &parents, &mut faults);
            let path = project.relative(&model.path).display().to_string();
            let node = Node { parents, tags: model.config.tags.clone(), path, ..Node::default() };
            nodes.insert(NodeId::Model(name.clone()), node);
        }
        for test in &project.generic_tests {
            let mut parents = resolve(project, &test.uses, &test.location, &test.name, &mut faults);
            parents.insert(test.attached_to.clone());
            let path = project.relative(&test.location.file).display().to_string();
            let test_type = Some(TestType::Generic);
            let node = Node { parents, tags: test.config.tags.clone(), path, test_type, ..Node::default() };
            nodes.insert(NodeId::Test(test.name.clone()), node);
        }
        for test in &project.singular_tests {
            let parents = resolve(project, &test.uses, &test.location, &test.name, &mut faults);
            let path = project.relative(&test.path).display().to_string();
            let test_type = Some(TestType::Singular);
            let node = Node { parents, tags: test.config.tags.clone(), path, test_type, ..Node::default() };
            nodes.insert(NodeId::Test(test.name.clone()), node);
        }
        for test in &project.unit_tests {
            let path = project.relative(&test.location.file).display().to_string();
            let parents = IndexSet::from([NodeId::Model(test.model.clone())]);
            let test_type = Some(TestType::Unit);
            let node = Node { parents, tags: test.tags.clone(), path, test_type, ..Node::default() };
            nodes.insert(NodeId::Test(test.name.clone()), node);
        }
        for test in &project.scenario_tests {
            let path = project.relative(&test.location.file).display().to_string();
            let parents = test.subjects().into_iter().collect();
            let test_type = Some(TestType::Scenario);
            let node = Node { parents, tags: test.tags.clone(), path, test_type, ..Node::default() };
            nodes.insert(NodeId::Test(test.name.clone()), node);
        }
        for (name, exposure) in &project.extras.exposures {
            let parents = resolve(project, &exposure.uses, &exposure.location, name, &mut faults);
            let path = project.relative(&exposure.location.file).display().to_string();
            let node = Node { parents, tags: exposure.tags.clone(), path, ..Node::default() };
            nodes.insert(NodeId::Exposure(name.clone()), node);
        }
        if !faults.is_empty() {
            return Err(Error::from_faults(faults));
        }
        Traits::fill(project, &mut nodes);

        let edges: Vec<(NodeId, NodeId)> = nodes
            .iter()
            .flat_map(|(child, node)| node.parents.iter().map(move |parent| (parent.clone(), child.clone())))
            .collect();
        for (parent, child) in edges {
            if let Some(node) = nodes.get_mut(&parent) {
                node.children.insert(child);
            }
        }
        sort(project, nodes)
    }
}

/// Turns refs and sources into ids; what leads nowhere becomes a fault.
fn resolve(
    project: &Project,
    uses: &Uses,
    location: &Location,
    reader: &str,
    faults: &mut Vec<Fault>,
) -> IndexSet<NodeId> {
    let mut parents = IndexSet::new();
    for call in &uses.refs {
        if let Some(id) = project.find_ref(call) {
            parents.insert(id);
            continue;
        }
        let mut fault = Fault::new(format!("no model or seed of that name, ref=`{}`, in=`{reader}`", call.name))
            .at(location_of_use(project, reader, location, "ref", &call.name))
            .code(codes::UNKNOWN_REF);
        if project.disabled.contains(&call.name) {
            fault = fault.hint(format!("`{}` is there and switched off; remove `enabled: false`", call.name));
        } else if let Some(package) = call.package.as_ref().filter(|package| **package != project.name) {
            fault = fault.hint(format!("there is no package `{package}`; this project is `{}`", project.name));
        } else if let Some(near) =
            nearest(&call.name, project.models.keys().chain(project.seeds.keys()).map(String::as_str))
        {
            fault = fault.hint(format!("did you mean `{near}`?"));
        }
        faults.push(fault);
    }
    for name in uses.sources.iter().chain(&uses.watermarks) {
        if project.sources.contains_key(name) {
            if uses.sources.contains(name) {
                parents.insert(NodeId::Source(name.clone()));
            }
            continue;
        }
        let known: Vec<String> = project.sources.keys().map(ToString::to_string).collect();
        let fault = Fault::new(format!("no source of that name, source=`{name}`, in=`{reader}`"))
            .at(location_of_use(project, reader, location, "source", &name.table))
            .code(codes::UNKNOWN_SOURCE);
        faults.push(if project.disabled.contains(&name.to_string()) {
            fault.hint(format!("`{name}` is there and switched off; switch it on, or `{reader}` off with it"))
        } else {
            suggest(fault, nearest(&name.to_string(), known.iter().map(String::as_str)))
        });
    }
    parents
}

/// What a model's configuration says about its inputs must be about inputs that it has.
fn check_config(project: &Project, model: &Model, parents: &IndexSet<NodeId>, faults: &mut Vec<Fault>) {
    let known: Vec<String> = project.sources.keys().map(ToString::to_string).collect();
    for name in model.config.watermark.iter().flat_map(|rule| &rule.sources) {
        if !project.sources.contains_key(name) {
            let fault = Fault::new(format!("no source of that name, source=`{name}`, in=`watermark`"))
                .at(model.location.clone())
                .code(codes::UNKNOWN_SOURCE);
            faults.push(suggest(fault, nearest(&name.to_string(), known.iter().map(String::as_str))));
        }
    }
    let inputs: Vec<String> = parents.iter().map(NodeId::name).collect();
    for name in model.config.context.inputs.keys() {
        if !inputs.contains(name) {
            let fault = Fault::new(format!("the model has no such input, input=`{name}`, in=`context`"))
                .at(model.location.clone())
                .code(codes::UNKNOWN_INPUT);
            faults.push(suggest(fault, nearest(name, inputs.iter().map(String::as_str))));
        }
    }
}

fn suggest(fault: Fault, near: Option<&str>) -> Fault {
    match near {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}

/// The line of the call in the model's own text, where it stands there (it may come from a macro).
fn location_of_use(project: &Project, reader: &str, fallback: &Location, call: &str, name: &str) -> Location {
    let Some(model) = project.models.get(reader) else { return fallback.clone() };
    let quoted = [format!("'{name}'"), format!("\"{name}\"")];
    for (index, line) in model.raw_sql.lines().enumerate() {
        let hit = quoted.iter().filter(|_| line.contains(call)).find_map(|text| line.find(text.as_str()));
        if let Some(byte) = hit {
            return Location::new(&model.path, index + 1, line[..byte].chars().count() + 2);
        }
    }
    Location::new(&model.path, 1, 1)
}

/// Parents first; among nodes that are free at the same time, by id.
fn sort(project: &Project, nodes: BTreeMap<NodeId, Node>) -> Result<Graph> {
    let mut waiting: BTreeMap<&NodeId, usize> = nodes.iter().map(|(id, node)| (id, node.parents.len())).collect();
    let mut free: std::collections::BTreeSet<&NodeId> =
        waiting.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(id) = free.pop_first() {
        waiting.remove(id);
        order.push(id.clone());
        for child in &nodes[id].children {
            if let Some(count) = waiting.get_mut(child) {
                *count -= 1;
                if *count == 0 {
                    free.insert(child);
                }
            }
        }
    }
    if !waiting.is_empty() {
        let stuck: BTreeMap<NodeId, Node> = waiting.keys().map(|id| ((*id).clone(), nodes[*id].clone())).collect();
        return Err(Error::from_faults(cycles(project, &stuck)));
    }
    let mut nodes = nodes;
    let sorted: IndexMap<NodeId, Node> =
        order.into_iter().filter_map(|id| nodes.remove(&id).map(|node| (id, node))).collect();
    Ok(Graph { nodes: sorted, definitions: project.extras.selectors.clone() })
}

/// One fault per cycle: its path, starting at the least name, and the file of each step.
fn cycles(project: &Project, stuck: &BTreeMap<NodeId, Node>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut reported: IndexSet<NodeId> = IndexSet::new();
    for start in stuck.keys() {
        if reported.contains(start) {
            continue;
        }
        let Some(path) = walk_back(stuck, start) else { continue };
        let is_new = path.iter().all(|id| !reported.contains(id));
        reported.extend(path.iter().cloned());
        if !is_new {
            continue;
        }
        let mut names: Vec<String> = path.iter().map(NodeId::name).collect();
        names.push(start.name());
        let files: Vec<&str> = path.iter().filter_map(|id| stuck.get(id)).map(|node| node.path.as_str()).collect();
        let file = project.models.get(&start.name()).map(|model| model.path.clone()).unwrap_or_default();
        faults.push(
            Fault::new(format!("models form a cycle, path=`{}`", names.join(" -> ")))
                .at(Location::new(file, 1, 1))
                .code(codes::CYCLE)
                .hint(format!("one of these files must stop reading the one before it: {}", files.join(", "))),
        );
    }
    faults
}

/// The shortest way from `start` back to itself along children, `start` first; `None` when it merely hangs below a cycle.
fn walk_back(stuck: &BTreeMap<NodeId, Node>, start: &NodeId) -> Option<Vec<NodeId>> {
    let mut came_from: BTreeMap<&NodeId, &NodeId> = BTreeMap::new();
    let mut front = std::collections::VecDeque::from([start]);
    while let Some(id) = front.pop_front() {
        for child in stuck.get(id).into_iter().flat_map(|node| &node.children) {
            if child == start {
                let mut path = vec![id.clone()];
                let mut at = id;
                while let Some(before) = came_from.get(at) {
                    path.push((*before).clone());
                    at = before;
                }
                path.reverse();
                return Some(path);
            }
            if stuck.contains_key(child) && !came_from.contains_key(child) {
                came_from.insert(child, id);
                front.push_back(child);
            }
        }
    }
    None
}
