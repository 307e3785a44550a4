//! Struct and list columns: values inside values.
//!
//! Rare beside the flat columns, so clarity comes before speed here: a value is read into a small tree, and the tree goes
//! into the builders once the record is known to land.

use tidemill_project::contract::ColumnType;

use super::fault::Faults;
use super::scan::{Token, elements_of, fields_of};
use super::time::TimeRule;
use super::value::{Cell, Kind, Shape, TRUE_AND_FALSE, Texts, wrong_type};

/// The type of a value inside a struct or list, or of the struct or list itself.
#[derive(Clone, Debug)]
pub(crate) enum Nest {
    Leaf(Box<Shape>),
    Struct(Vec<(Box<str>, Nest)>),
    List(Box<Nest>),
}

/// A value read by a [`Nest`], holding its own texts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Scalar(Cell),
    Text(String),
    Struct(Vec<Value>),
    List(Vec<Value>),
}

impl Nest {
    /// Compiles a type. Times inside nested values are ISO 8601: a unit is declared per column only.
    pub(crate) fn new(data_type: &ColumnType) -> Self {
        let leaf = |kind| Self::Leaf(Box::new(Shape::plain(kind)));
        match data_type {
            ColumnType::Struct(fields) => {
                Self::Struct(fields.iter().map(|(name, field)| (name.as_str().into(), Self::new(field))).collect())
            }
            ColumnType::List(element) => Self::List(Box::new(Self::new(element))),
            ColumnType::Text => leaf(Kind::Text),
            ColumnType::BigInt => leaf(Kind::BigInt),
            ColumnType::Double => leaf(Kind::Double),
            ColumnType::Decimal(precision, scale) => leaf(Kind::Decimal { precision: *precision, scale: *scale }),
            ColumnType::Boolean => leaf(Kind::Boolean),
            ColumnType::Date => leaf(Kind::Date),
            ColumnType::Timestamp => leaf(Kind::Time(TimeRule { unit: None, zone: None })),
            ColumnType::Json => leaf(Kind::Json),
        }
    }

    /// Reads a value. `path` names it in messages; `unknown` becomes true when an object has a field that no type names.
    ///
    /// Absent and null are null at every depth. Of a key that comes twice the last one counts.
    pub(crate) fn read(
        &self,
        token: Token,
        texts: &Texts<'_>,
        path: &str,
        faults: &mut Faults,
        unknown: &mut bool,
    ) -> Value {
        match (self, token) {
            (_, Token::Absent | Token::Null) => Value::Null,
            (Self::Leaf(shape), _) => match shape.convert(token, texts) {
                Ok(Cell::Text(place, span)) => Value::Text(texts.get(place, span).to_owned()),
                Ok(cell) => Value::Scalar(cell),
                Err(problem) => {
                    faults.add(path, &problem);
                    Value::Null
                }
            },
            (Self::Struct(fields), Token::Object(span)) => {
                let json = span.of(texts.payload);
                let mut values = vec![Value::Null; fields.len()];
                let mut own_faults: Vec<Faults> = fields.iter().map(|_| Faults::default()).collect();
                let parsed = fields_of(json, &mut String::new(), |key, token, decoded| {
                    let Some(at) = fields.iter().position(|(name, _)| **name == *key) else {
                        *unknown = true;
                        return;
                    };
                    let (name, nest) = &fields[at];
                    own_faults[at].clear();
                    let texts = Texts { payload: json, decoded, constants: TRUE_AND_FALSE };
                    values[at] = nest.read(token, &texts, &format!("{path}.{name}"), &mut own_faults[at], unknown);
                });
                debug_assert!(parsed.is_ok(), "the scanner has checked this object");
                for own in &mut own_faults {
                    faults.append(own);
                }
                Value::Struct(values)
            }
            (Self::List(element), Token::Array(span)) => {
                let json = span.of(texts.payload);
                let mut values = Vec::new();
                let parsed = elements_of(json, &mut String::new(), |token, decoded| {
                    let texts = Texts { payload: json, decoded, constants: TRUE_AND_FALSE };
                    let path = format!("{path}[{}]", values.len());
                    values.push(element.read(token, &texts, &path, faults, unknown));
                });
                debug_assert!(parsed.is_ok(), "the scanner has checked this array");
                Value::List(values)
            }
            (Self::Struct(_), _) => {
                faults.add(path, &wrong_type(token, "an object"));
                Value::Null
            }
            (Self::List(_), _) => {
                faults.add(path, &wrong_type(token, "an array"));
                Value::Null
            }
        }
    }
}

impl Value {
    /// Bytes that the value takes in its columns, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Scalar(_) => 16,
            Self::Text(text) => 8 + text.len(),
            Self::Struct(values) | Self::List(values) => 8 + values.iter().map(Self::size).sum::<usize>(),
        }
    }
}
