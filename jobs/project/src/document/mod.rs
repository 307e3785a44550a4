//! The user's files as one kind of tree, whatever they are written in: every key and value knows its place.
//!
//! TOML and YAML are turned into [`Node`]s, and [`Reader`] takes typed values out of them. A reader never stops at a fault:
//! it notes it and answers `None`, so that one look at a file shows all that is wrong with it.

mod error;
mod reader;
mod toml;
mod units;
mod yaml;

pub(crate) use error::{FileError, codes, wrap_file_error};
pub(crate) use reader::{Reader, Section};
pub(crate) use toml::parse_toml;
pub(crate) use units::parse_bytes;
pub use units::{parse_duration, parse_instant};
pub(crate) use yaml::parse_yaml;

/// A place in a text, line and column (in characters) from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) data: Data,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    /// A single value.
    Scalar(Scalar),
    /// An array.
    List(Vec<Node>),
    /// A table, in the order of the file.
    Map(Vec<(Key, Node)>),
    /// A YAML mapping with a key that is no text: what `{{ var('x') }}` without quotes reads as.
    Braces,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// A single value, as the file spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) kind: ScalarKind,
    pub(crate) text: String,
    /// What the file says where `text` was put together from the environment. Faults show this: a variable may hold a
    /// password, also one that stands at the wrong key.
    pub(crate) spelled: Option<String>,
}

/// What a single value was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    /// Nothing; counts as an absent key.
    Null,
    Bool,
    Integer,
    Float,
    Text,
    /// Refers to a variable that is not known here. Readers pass it over in silence: either the missing variable was
    /// reported already, or the value belongs to a target that was not chosen.
    Unresolved,
}

impl Node {
    /// Builds a single value.
    pub(crate) fn scalar(place: Place, kind: ScalarKind, text: impl Into<String>) -> Self {
        Self { place, data: Data::Scalar(Scalar { kind, text: text.into(), spelled: None }) }
    }

    /// Whether the value is YAML's null or an empty YAML value.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar(Scalar { kind: ScalarKind::Null, .. }))
    }

    /// The value of a key, nulls excepted; `None` also when the node is no table.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(known, _)| known.name == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// The value at a path of keys.
    pub(crate) fn get_path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a table; none when the node is no table.
    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.data {
            Data::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none when the node is no list.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.data {
            Data::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a single value, whatever its kind.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Scalar { kind: ScalarKind::Null | ScalarKind::Unresolved, .. }) => None,
            Data::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Whether the value is known only once a variable is.
    pub(crate) fn is_unresolved(&self) -> bool {
        matches!(&self.data, Data::Scalar(Scalar { kind: ScalarKind::Unresolved, .. }))
    }

    /// What the value is, in a user's words.
    pub(crate) fn kind_name(&self) -> &'static str {
        match &self.data {
            Data::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "nothing",
                ScalarKind::Bool => "boolean",
                ScalarKind::Integer => "integer",
                ScalarKind::Float => "decimal",
                ScalarKind::Text | ScalarKind::Unresolved => "text",
            },
            Data::List(_) => "list",
            Data::Map(_) => "table",
            Data::Braces => "braces without quotes",
        }
    }

    /// Applies `change` to every single value below, this one included.
    pub(crate) fn for_each_scalar(&mut self, change: &mut impl FnMut(&mut Node)) {
        match &mut self.data {
            Data::Scalar(_) => change(self),
            Data::List(items) => items.iter_mut().for_each(|item| item.for_each_scalar(change)),
            Data::Map(entries) => entries.iter_mut().for_each(|(_, node)| node.for_each_scalar(change)),
            Data::Braces => {}
        }
    }

    /// The value as JSON; numbers that JSON cannot hold become text.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.data {
            Data::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => Value::Null,
                ScalarKind::Bool => Value::Bool(scalar.text == "true"),
                ScalarKind::Integer | ScalarKind::Float => serde_json::from_str::<serde_json::Number>(&scalar.text)
                    .map_or_else(|_| Value::String(scalar.text.clone()), Value::Number),
                ScalarKind::Text | ScalarKind::Unresolved => Value::String(scalar.text.clone()),
            },
            Data::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Data::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect())
            }
            Data::Braces => Value::Null,
        }
    }

    /// A JSON value as if the file had spelled it out at `place`.
    pub(crate) fn from_json(place: Place, value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::scalar(place, ScalarKind::Null, ""),
            Value::Bool(flag) => Self::scalar(place, ScalarKind::Bool, flag.to_string()),
            Value::Number(number) if number.is_i64() || number.is_u64() => {
                Self::scalar(place, ScalarKind::Integer, number.to_string())
            }
            Value::Number(number) => Self::scalar(place, ScalarKind::Float, number.to_string()),
            Value::String(text) => Self::scalar(place, ScalarKind::Text, text.clone()),
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::from_json(place, item)).collect();
                Self { place, data: Data::List(items) }
            }
            Value::Object(entries) => {
                let entry = |(name, value): (&String, &Value)| {
                    (Key { name: name.clone(), place }, Self::from_json(place, value))
                };
                Self { place, data: Data::Map(entries.iter().map(entry).collect()) }
            }
        }
    }
}
