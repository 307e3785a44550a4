//! Rules about layers: who reads what, who is published, what the names say.

use tidemill_project::Location;

use super::{
    LAYER_NAME, Layer, Linter, MART_NAME, MARTS_ARE_PUBLISHED, SNAKE_CASE, SOURCE_IN_STAGING, STAGING_READS_ONE, UNUSED,
};
use crate::project::{Model, NodeId};

pub(super) fn check(linter: &mut Linter<'_>, model: &Model, layer: Layer) {
    let name = model.name.as_str();
    let start = || Location::new(&model.path, 1, 1);
    let staging = matches!(layer, Layer::Staging);
    if let Some(source) = model.uses.sources.first().filter(|_| !staging && layer != Layer::Other) {
        let at = super::text::place_of(model, "source");
        linter.find(SOURCE_IN_STAGING, at, format!("{name} reads source {source}; read a staging model instead"));
    }
    let inputs = model.uses.sources.len() + model.uses.refs.len();
    if staging && inputs > 1 {
        linter.find(STAGING_READS_ONE, start(), format!("{name} reads {inputs} inputs"));
    }
    if !model.config.publish.is_empty() && matches!(layer, Layer::Staging | Layer::Intermediate) {
        linter.find(MARTS_ARE_PUBLISHED, model.location.clone(), format!("{name} is published and is no mart"));
    }
    let is_good = match layer {
        Layer::Staging => ["stg_", "base_"].iter().any(|prefix| {
            name.strip_prefix(prefix)
                .and_then(|rest| rest.split_once("__"))
                .is_some_and(|(one, two)| !one.is_empty() && !two.is_empty())
        }),
        Layer::Intermediate => name.starts_with("int_"),
        Layer::Marts | Layer::Other => true,
    };
    if !is_good {
        let wanted = if staging { "stg_<source>__<entities>" } else { "int_<entities>_<verbed>" };
        linter.find(LAYER_NAME, start(), format!("{name} is not named like {wanted}"));
    }
    if layer == Layer::Marts && !name.starts_with("fct_") && !name.starts_with("dim_") {
        linter.find(MART_NAME, start(), format!("{name} begins with neither fct_ nor dim_"));
    }
    if !is_snake_case(name) {
        linter.find(SNAKE_CASE, start(), format!("{name} is not lower case with underscores"));
    }
    for column in model.columns.values().filter(|column| !is_snake_case(&column.name)) {
        linter.find(
            SNAKE_CASE,
            column.location.clone(),
            format!("column {} is not lower case with underscores", column.name),
        );
    }
    let node = NodeId::Model(model.name.clone());
    let is_read = linter.graph.children(&node).any(|child| matches!(child, NodeId::Model(_) | NodeId::Exposure(_)));
    if matches!(layer, Layer::Staging | Layer::Intermediate) && !is_read && model.config.publish.is_empty() {
        linter.find(UNUSED, start(), format!("nothing reads {name}"));
    }
}

fn is_snake_case(name: &str) -> bool {
    name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}
