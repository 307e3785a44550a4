//! Rules about YAML: descriptions, tests of keys, the place of the file.

use tidemill_project::Location;

use super::{COLUMN_DESCRIPTION, GRAIN, KEY_TEST, Layer, Linter, MODEL_DESCRIPTION, SOURCE_DESCRIPTION, YAML_BESIDE};
use crate::project::{Model, NodeId, SourceTable};

pub(super) fn check_model(linter: &mut Linter<'_>, model: &Model, layer: Layer) {
    let name = &model.name;
    if model.description.trim().is_empty() {
        linter.find(MODEL_DESCRIPTION, model.location.clone(), format!("{name} has no description"));
    } else if layer == Layer::Marts && !model.description.to_lowercase().contains("one row per") {
        linter.find(GRAIN, model.location.clone(), format!("the description of {name} does not say `one row per …`"));
    }
    for column in model.columns.values().filter(|column| column.description.trim().is_empty()) {
        let message = format!("column {} of {name} has no description", column.name);
        linter.find(COLUMN_DESCRIPTION, column.location.clone(), message);
    }
    let node = NodeId::Model(name.clone());
    let has_key_test =
        linter.project.generic_tests.iter().any(|test| {
            test.attached_to == node && (test.test == "unique" || test.test.starts_with("unique_combination"))
        });
    if layer == Layer::Marts && !has_key_test {
        linter.find(KEY_TEST, model.location.clone(), format!("nothing tests the key of {name}"));
    }
    if model.location.file != model.path && model.location.file.parent() != model.path.parent() {
        let place = linter.project.relative(&model.path).display().to_string();
        linter.find(YAML_BESIDE, model.location.clone(), format!("{name} lies elsewhere: {place}"));
    }
}

pub(super) fn check_source(linter: &mut Linter<'_>, source: &SourceTable) {
    let location: Location = source.location.clone();
    if source.description.trim().is_empty() {
        linter.find(SOURCE_DESCRIPTION, location, format!("source {} has no description", source.name));
    }
}
