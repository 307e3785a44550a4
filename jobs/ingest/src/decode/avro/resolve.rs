//! How a writer's schema is read by the contract's: one tree of steps, made once per pair of schemas.
//!
//! # Rules
//! Fields are matched by name, then by the reader's aliases. A field that the writer lacks takes the reader's default. An
//! enum symbol that the reader lacks becomes the reader's default symbol, or is refused. Numbers and texts are not promoted
//! here: the contract's column judges what it gets, as it does for JSON. What only the writer knows is kept, for `_extra`.
//!
//! Source: Avro specification 1.12, "Schema Resolution"; the last two rules are the contract's (X10).

use std::collections::HashMap;

use serde_json::Value as Json;
use tidemill_project::contract::TimeUnit;

use super::schema::{Field, Schema, Type, TypeId};

/// Index of a step in its [`Steps`].
pub(crate) type StepId = usize;

/// What stands in a record's bytes, one step after the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Null,
    Boolean,
    Integer,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Decimal {
        scale: u32,
        fixed: Option<usize>,
    },
    Date,
    Timestamp {
        unit: TimeUnit,
        is_local: bool,
    },
    /// Symbols as the reader knows them.
    Enum(Vec<Symbol>),
    Array(StepId),
    Map(StepId),
    Union(Vec<StepId>),
    Record(RecordStep),
}

/// A symbol of the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) text: String,
    /// The reader has it, or a default for it.
    pub(crate) is_known: bool,
}

/// A record: the writer's fields, and what the reader adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RecordStep {
    /// Names as the reader has them, in the order of writing.
    pub(crate) fields: Vec<(String, StepId)>,
    /// Fields that the writer lacks, with the reader's default as JSON.
    pub(crate) defaults: Vec<(String, Json)>,
}

/// The tree of steps of one writer's schema.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Steps {
    steps: Vec<Step>,
    root: RecordStep,
}

impl Steps {
    /// Resolves `writer` to `reader`; without one every field is read by its own name.
    pub(crate) fn new(writer: &Schema, reader: Option<&Schema>) -> Self {
        let mut resolver = Resolver { writer, reader, steps: Vec::new(), done: HashMap::new() };
        let root = resolver.record(writer.fields(), reader.map(Schema::fields));
        Self { steps: resolver.steps, root }
    }

    /// The record itself.
    pub(crate) fn root(&self) -> &RecordStep {
        &self.root
    }

    /// A step by its index.
    #[inline]
    pub(crate) fn get(&self, id: StepId) -> &Step {
        &self.steps[id]
    }
}

struct Resolver<'s> {
    writer: &'s Schema,
    reader: Option<&'s Schema>,
    steps: Vec<Step>,
    /// Steps by the writer's type and the reader's: a type that holds itself is resolved once.
    done: HashMap<(TypeId, Option<TypeId>), StepId>,
}

impl Resolver<'_> {
    fn resolve(&mut self, writer: TypeId, reader: Option<TypeId>) -> StepId {
        let reader = reader.and_then(|reader| self.counterpart(writer, reader));
        if let Some(step) = self.done.get(&(writer, reader)) {
            return *step;
        }
        self.steps.push(Step::Null);
        let id = self.steps.len() - 1;
        self.done.insert((writer, reader), id);
        let theirs = |of: Option<&Type>| match of {
            Some(Type::Array(inner) | Type::Map(inner)) => Some(*inner),
            _ => None,
        };
        let reader_type = reader.and_then(|reader| Some(self.reader?.get(reader)));
        self.steps[id] = match self.writer.get(writer) {
            Type::Null => Step::Null,
            Type::Boolean => Step::Boolean,
            Type::Integer => Step::Integer,
            Type::Float => Step::Float,
            Type::Double => Step::Double,
            Type::Bytes => Step::Bytes,
            Type::Text => Step::Text,
            Type::Fixed(size) => Step::Fixed(*size),
            Type::Decimal { scale, fixed } => Step::Decimal { scale: *scale, fixed: *fixed },
            Type::Date => Step::Date,
            Type::Timestamp { unit, is_local } => Step::Timestamp { unit: *unit, is_local: *is_local },
            Type::Enum { symbols, .. } => Step::Enum(symbols.iter().map(|text| symbol(text, reader_type)).collect()),
            Type::Array(items) => {
                let items = self.resolve(*items, theirs(reader_type));
                Step::Array(items)
            }
            Type::Map(values) => {
                let values = self.resolve(*values, theirs(reader_type));
                Step::Map(values)
            }
            Type::Union(branches) => {
                // Each branch looks for its own counterpart, so the reader's union is handed on whole.
                Step::Union(branches.iter().map(|branch| self.resolve(*branch, reader)).collect())
            }
            Type::Record { fields, .. } => {
                let theirs = match reader_type {
                    Some(Type::Record { fields, .. }) => Some(fields.as_slice()),
                    _ => None,
                };
                Step::Record(self.record(fields, theirs))
            }
        };
        id
    }

    /// The reader's type that a writer's type is read as: of a union, the first branch of its kind, one of its name before
    /// others.
    fn counterpart(&self, writer: TypeId, reader: TypeId) -> Option<TypeId> {
        let schema = self.reader?;
        let writer = self.writer.get(writer);
        if matches!(writer, Type::Union(_)) {
            return Some(reader);
        }
        let of_kind = |id: &TypeId| std::mem::discriminant(schema.get(*id)) == std::mem::discriminant(writer);
        let of_name = |id: &TypeId| match (schema.get(*id), writer) {
            (Type::Record { name, .. }, Type::Record { name: other, .. }) => name == other,
            _ => false,
        };
        let branches = schema.branches(reader);
        branches.iter().find(|id| of_name(id)).or_else(|| branches.iter().find(|id| of_kind(id))).copied()
    }

    fn record(&mut self, fields: &[Field], reader: Option<&[Field]>) -> RecordStep {
        let Some(reader) = reader else {
            let fields = fields.iter().map(|field| (field.name.clone(), self.resolve(field.of, None))).collect();
            return RecordStep { fields, defaults: Vec::new() };
        };
        let by_name = |field: &Field| reader.iter().find(|theirs| theirs.name == field.name);
        // An alias counts where the writer has no field of the name itself.
        let is_free = |theirs: &Field| fields.iter().all(|field| field.name != theirs.name);
        let by_alias =
            |field: &Field| reader.iter().find(|theirs| theirs.aliases.contains(&field.name) && is_free(theirs));
        let found: Vec<Option<&Field>> =
            fields.iter().map(|field| by_name(field).or_else(|| by_alias(field))).collect();
        let defaults = reader
            .iter()
            .filter(|theirs| !found.iter().flatten().any(|found| found.name == theirs.name))
            .filter_map(|theirs| Some((theirs.name.clone(), self.default_of(theirs)?)))
            .collect();
        let fields = fields
            .iter()
            .zip(&found)
            .map(|(field, found)| {
                let name = found.map_or(&field.name, |theirs| &theirs.name).clone();
                (name, self.resolve(field.of, found.map(|theirs| theirs.of)))
            })
            .collect();
        RecordStep { fields, defaults }
    }

    /// A field's default as the JSON that the contract's column reads. Bytes are written as the characters of their codes
    /// in a schema, which a decimal column would not take.
    fn default_of(&self, field: &Field) -> Option<Json> {
        let default = field.default.clone()?;
        let schema = self.reader?;
        let of = schema.branches(field.of).first().copied()?;
        Some(match (schema.get(of), &default) {
            (Type::Decimal { scale, .. }, Json::String(text)) => {
                let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
                match bytes.and_then(|bytes| super::binary::unscaled(&bytes)) {
                    Some(unscaled) => Json::String(super::binary::decimal_text(unscaled, *scale)),
                    None => default,
                }
            }
            _ => default,
        })
    }
}

fn symbol(text: &str, reader: Option<&Type>) -> Symbol {
    let known = |text: &str| Symbol { text: text.to_owned(), is_known: true };
    let Some(Type::Enum { symbols, default }) = reader else { return known(text) };
    if symbols.iter().any(|symbol| symbol == text) {
        return known(text);
    }
    default.as_deref().map_or_else(|| Symbol { text: text.to_owned(), is_known: false }, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str) -> Schema {
        Schema::parse(&format!(r#"{{"type": "record", "name": "A", "fields": [{fields}]}}"#), &[]).unwrap()
    }

    fn names(steps: &Steps) -> Vec<&str> {
        steps.root().fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn fields_are_found_by_name_then_by_the_readers_alias() {
        let writer = schema(
            r#"{"name": "b", "type": "long"}, {"name": "old", "type": "long"}, {"name": "own", "type": "long"}"#,
        );
        let reader = schema(
            r#"{"name": "new", "type": "long", "aliases": ["old"]}, {"name": "b", "type": "long", "aliases": ["own"]}"#,
        );
        assert_eq!(names(&Steps::new(&writer, Some(&reader))), ["b", "new", "own"]);
        assert_eq!(names(&Steps::new(&writer, None)), ["b", "old", "own"]);
    }

    #[test]
    fn a_field_that_the_writer_lacks_takes_the_readers_default() {
        let reader = schema(
            r#"{"name": "a", "type": "string"},
               {"name": "m", "type": {"type": "map", "values": "string"}, "default": {}},
               {"name": "n", "type": ["null", "string"], "default": null},
               {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "scale": 2}, "default": "\u00ff\u0000"}"#,
        );
        let steps = Steps::new(&schema(""), Some(&reader));
        let defaults: Vec<String> =
            steps.root().defaults.iter().map(|(name, default)| format!("{name}={default}")).collect();
        assert_eq!(defaults, ["m={}", "n=null", r#"d="-2.56""#], "a has no default");
    }

    #[test]
    fn a_symbol_that_the_reader_lacks_becomes_its_default_or_is_refused() {
        let writer = schema(r#"{"name": "k", "type": {"type": "enum", "name": "K", "symbols": ["a", "b"]}}"#);
        let symbols = |default: &str| {
            let reader = format!(
                r#"{{"name": "k", "type": ["null", {{"type": "enum", "name": "K", "symbols": ["a", "z"]{default}}}]}}"#
            );
            let steps = Steps::new(&writer, Some(&schema(&reader)));
            match steps.get(steps.root().fields[0].1) {
                Step::Enum(symbols) => {
                    symbols.iter().map(|symbol| format!("{} {}", symbol.text, symbol.is_known)).collect::<Vec<_>>()
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(symbols(""), ["a true", "b false"]);
        assert_eq!(symbols(r#", "default": "z""#), ["a true", "z true"]);
    }

    #[test]
    fn a_type_that_holds_itself_is_resolved_once() {
        let list = schema(r#"{"name": "tail", "type": ["null", "A"]}, {"name": "v", "type": "long"}"#);
        let steps = Steps::new(&list, Some(&list));
        let Step::Union(branches) = steps.get(steps.root().fields[0].1) else { panic!("a union") };
        let Step::Record(inner) = steps.get(branches[1]) else { panic!("a record") };
        assert_eq!(inner.fields[0].1, steps.root().fields[0].1);
    }
}
