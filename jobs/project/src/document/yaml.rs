//! YAML as a tree of [`Node`]s.

use std::path::Path;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use super::{Data, Key, Node, Place, ScalarKind, codes};
use crate::error::{Fault, Location};

/// Parses the documents of a YAML 1.2 file. `<<` merges as YAML 1.1 had it, since dbt's own parser does.
///
/// # Errors
/// The first break of the grammar, doubled keys included; a text that is too deep or too large.
pub(crate) fn parse_yaml(file: &Path, text: &str) -> Result<Vec<Node>, Fault> {
    crate::yaml::check_size(file, text)?;
    let documents = MarkedYaml::load_from_str(text).map_err(|error| {
        let marker = error.marker();
        Fault::new(format!("file is not valid YAML: {}", error.info())).code(codes::SYNTAX).at(Location::new(
            file,
            marker.line(),
            marker.col() + 1,
        ))
    })?;
    Ok(documents.iter().map(|document| node(text, document)).collect())
}

fn place(yaml: &MarkedYaml<'_>) -> Place {
    Place { line: yaml.span.start.line(), column: yaml.span.start.col() + 1 }
}

fn node(text: &str, yaml: &MarkedYaml<'_>) -> Node {
    let place = place(yaml);
    match &yaml.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Node::scalar(place, ScalarKind::Null, ""),
            Scalar::Boolean(flag) => Node::scalar(place, ScalarKind::Bool, flag.to_string()),
            Scalar::Integer(number) => Node::scalar(place, ScalarKind::Integer, number.to_string()),
            Scalar::FloatingPoint(_) => Node::scalar(place, ScalarKind::Float, spelling(text, yaml)),
            Scalar::String(text) => Node::scalar(place, ScalarKind::Text, text.as_ref()),
        },
        YamlData::Representation(text, ..) => Node::scalar(place, ScalarKind::Text, text.as_ref()),
        YamlData::Tagged(_, inner) => node(text, inner),
        YamlData::Sequence(items) => {
            Node { place, data: Data::List(items.iter().map(|item| node(text, item)).collect()) }
        }
        YamlData::Mapping(entries) => {
            let mut own = Vec::with_capacity(entries.len());
            let mut merged = Vec::new();
            for (key, value) in entries {
                let key = node(text, key);
                let Data::Scalar(scalar) = key.data else { return Node { place, data: Data::Braces } };
                let value = node(text, value);
                if scalar.text == "<<" {
                    match value.data {
                        Data::List(items) => merged.extend(items.into_iter().flat_map(into_entries)),
                        _ => merged.extend(into_entries(value)),
                    }
                } else {
                    own.push((Key { name: scalar.text, place: key.place }, value));
                }
            }
            for (key, value) in merged {
                if own.iter().all(|(known, _): &(Key, Node)| known.name != key.name) {
                    own.push((key, value));
                }
            }
            Node { place, data: Data::Map(own) }
        }
        YamlData::Alias(_) | YamlData::BadValue => Node::scalar(place, ScalarKind::Null, ""),
    }
}

fn into_entries(node: Node) -> Vec<(Key, Node)> {
    match node.data {
        Data::Map(entries) => entries,
        _ => Vec::new(),
    }
}

/// A number as the file spells it, so that `0.10` and `2.50` keep their digits.
fn spelling(text: &str, yaml: &MarkedYaml<'_>) -> String {
    let (start, end) = (yaml.span.start.index(), yaml.span.end.index());
    let spelled: String = text.chars().skip(start).take(end.saturating_sub(start)).collect();
    spelled.trim().to_owned()
}
