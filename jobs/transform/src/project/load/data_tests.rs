//! Singular and generic tests, with their configs.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::super::configure;
use super::super::files::{inner, place_of_config, stem};
use super::super::model::{GenericTest, NodeId, SingularTest, Uses};
use super::super::naming::test_name;
use super::super::properties::{Properties, TestDeclaration};
use super::super::resolve::resolve_text;
use super::super::settings::Kind;
use super::super::yaml::{Data, Node, Place};
use super::Loader;

impl Loader {
    pub(super) fn load_singular(&mut self, dir: &Path, path: PathBuf, properties: &Properties) {
        let Some(raw_sql) = self.read_text(&path) else { return };
        // `tests/fixtures/` holds rows of unit tests.
        if inner(dir, &path).first() == Some(&"fixtures") {
            return;
        }
        // `tests/generic/` holds `{% test %}` blocks, which were read with the macros.
        if raw_sql.contains("{% test ") || raw_sql.contains("{%- test ") || raw_sql.contains("{% data_test ") {
            return;
        }
        let name = stem(&path);
        let uses = match self.renderer.parse(&self.package, &name, &path, &raw_sql) {
            Ok(uses) => uses,
            Err(error) => {
                self.reader.faults.extend(error.into_faults());
                return;
            }
        };
        let place = Place::start_of(&path);
        let mut merged = self.folder_config(Kind::Tests, &inner(dir, &path));
        configure::merge(&mut merged, properties.singular.get(&name).map(Vec::as_slice).unwrap_or_default());
        let own = Node::from_json(&place_of_config(&path, &raw_sql), &Json::Object(uses.config.clone()));
        configure::merge(&mut merged, own.entries());
        let config = configure::test_config(&mut self.reader, merged, &place);
        if config.enabled {
            self.project.singular_tests.push(SingularTest {
                name,
                package: self.package.clone(),
                path,
                raw_sql,
                config,
                uses,
                location: place.location(),
            });
        }
    }

    pub(super) fn add_tests(&mut self, node: &NodeId, tests: Vec<TestDeclaration>) {
        for declared in tests {
            let mut merged = self.folder_config(Kind::Tests, &[]);
            let mut own = Node { place: declared.place.clone(), data: Data::Map(declared.config) };
            own.change_texts(&mut |place, text| resolve_text(&mut self.reader, &self.values, place, text));
            configure::merge(&mut merged, own.entries());
            let config = configure::test_config(&mut self.reader, merged, &declared.place);
            if !config.enabled {
                continue;
            }
            let name = declared
                .name
                .unwrap_or_else(|| test_name(node, &declared.test, declared.column.as_deref(), &declared.args));
            let mut test = GenericTest {
                name,
                test: declared.test,
                package: declared.package,
                declared_by: self.package.clone(),
                attached_to: node.clone(),
                column: declared.column,
                args: declared.args,
                config,
                uses: Uses::default(),
                description: declared.description,
                location: declared.place.location(),
            };
            match self.renderer.parse_test(&test) {
                Ok(uses) => {
                    if !uses.config.is_empty() {
                        // A `config(...)` in the block of a generic test is what it has of itself; YAML wins over it.
                        let mut merged = self.folder_config(Kind::Tests, &[]);
                        let block = Node::from_json(&declared.place, &Json::Object(uses.config.clone()));
                        configure::merge(&mut merged, block.entries());
                        configure::merge(&mut merged, own.entries());
                        test.config = configure::test_config(&mut self.reader, merged, &declared.place);
                    }
                    test.uses = uses;
                    self.project.generic_tests.push(test);
                }
                Err(error) => self.reader.faults.extend(error.into_faults()),
            }
        }
    }
}
