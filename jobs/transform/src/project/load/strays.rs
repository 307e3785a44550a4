//! YAML that stands in the wrong place or belongs to nothing, and names that are given twice.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use tidemill_project::error::slip_of;
use tidemill_project::{Fault, Location};

use super::super::model::NodeId;
use super::super::properties::{NodeProperties, Properties};
use super::Loader;
use crate::error::codes;

impl Loader {
    /// A seed or snapshot that YAML lists among the models, or a model among the seeds: dbt says so and goes on.
    pub(super) fn move_misplaced(&mut self, properties: &mut Properties) {
        let mut moved = Vec::new();
        for (found, what) in [(&mut properties.models, "models"), (&mut properties.seeds, "seeds")] {
            let names: Vec<String> = found.keys().cloned().collect();
            for name in names {
                let node = if self.project.seeds.contains_key(&name) {
                    NodeId::Seed(name.clone())
                } else if self.project.models.contains_key(&name) {
                    NodeId::Model(name.clone())
                } else {
                    continue;
                };
                if let Some(described) = found.shift_remove(&name) {
                    self.reader.note(&described.place, format!("`{node}` is described among the {what}"));
                    moved.push((node, described));
                }
            }
        }
        for (node, described) in moved {
            if let (NodeId::Seed(name), description) = (&node, described.description)
                && let Some(seed) = self.project.seeds.get_mut(name)
            {
                seed.description = description;
                seed.columns = described.columns;
            }
            self.add_tests(&node, described.tests);
        }
    }

    /// YAML about something that has no file: most often a misspelt name.
    pub(super) fn report_orphans(&mut self, left: &IndexMap<String, NodeProperties>, what: &str) {
        for (name, properties) in left {
            if self.project.disabled.contains(name) {
                continue;
            }
            let known = self.project.models.keys().chain(self.project.seeds.keys()).map(String::as_str);
            let message = format!("{what} has no file, name=`{name}`");
            match slip_of(name, known) {
                Some(near) => {
                    self.reader.fault_hint(
                        &properties.place,
                        codes::ORPHAN,
                        message,
                        format!("did you mean `{near}`?"),
                    );
                }
                // dbt passes over it, and so many projects have some.
                None => self.reader.note(&properties.place, message),
            }
        }
    }

    pub(super) fn report_repeated_tests(&mut self) {
        let mut first: BTreeMap<&str, &Location> = BTreeMap::new();
        let mut faults = Vec::new();
        let singular = self.project.singular_tests.iter().map(|test| (test.name.as_str(), &test.location));
        let generic = self.project.generic_tests.iter().map(|test| (test.name.as_str(), &test.location));
        let unit = self.project.unit_tests.iter().map(|test| (test.name.as_str(), &test.location));
        let stories = self.project.scenario_tests.iter().map(|test| (test.name.as_str(), &test.location));
        for (name, location) in singular.chain(generic).chain(unit).chain(stories) {
            if let Some(before) = first.insert(name, location) {
                let message = format!("two tests have one name, name=`{name}`, first=`{before}`");
                faults.push(
                    Fault::new(message)
                        .at(location.clone())
                        .code(codes::REPEATED)
                        .hint("give one of them a name: `name: …`"),
                );
            }
        }
        self.reader.faults.extend(faults);
    }
}
