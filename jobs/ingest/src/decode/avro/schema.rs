//! Avro schemas: from their JSON to a table of types that refer to each other by index.
//!
//! Names are resolved here, once: a type may be used before it is finished (a list whose tail is a list), and schemas that
//! a registry keeps apart may name each other's types.
//!
//! Source: Avro specification 1.12, "Schema Declaration", "Names", "Logical Types".

use std::collections::HashMap;

use serde_json::{Map, Value as Json};
use tidemill_project::contract::TimeUnit;

/// Index of a type in its [`Schema`].
pub(crate) type TypeId = usize;

/// A schema whose top is a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schema {
    types: Vec<Type>,
    root: TypeId,
}

/// A type; what a logical type annotates is told apart by what its values mean.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Null,
    Boolean,
    /// `int` and `long`: the same bytes.
    Integer,
    Float,
    Double,
    Bytes,
    Text,
    /// So many bytes.
    Fixed(usize),
    /// Digits behind the point; the unscaled value in two's complement, big-endian, in `fixed` bytes or a length before it.
    Decimal {
        scale: u32,
        fixed: Option<usize>,
    },
    /// Days since 1970-01-01.
    Date,
    /// Since the epoch, UTC; of a wall clock without zone if `is_local`.
    Timestamp {
        unit: TimeUnit,
        is_local: bool,
    },
    Enum {
        symbols: Vec<String>,
        default: Option<String>,
    },
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record {
        name: String,
        fields: Vec<Field>,
    },
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Former names, by which a reader finds what writers called otherwise.
    pub(crate) aliases: Vec<String>,
    pub(crate) of: TypeId,
    /// What a reader takes for a field that the writer does not have.
    pub(crate) default: Option<Json>,
}

/// Why a text is no schema of records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaFault {
    #[error("is not JSON: {0}")]
    Json(String),
    #[error("is not a record")]
    NoRecord,
    #[error("names a type that it does not define, type=`{0}`")]
    UnknownType(String),
    #[error("does not say what `{attribute}` is, type=`{of}`")]
    Missing { of: String, attribute: &'static str },
    #[error("holds something that is no type: {0}")]
    NoType(String),
}

impl Schema {
    /// Reads a schema. `references` are schemas whose types it names, each after those that it names itself.
    pub(crate) fn parse(text: &str, references: &[String]) -> Result<Self, SchemaFault> {
        let mut parser = Parser::default();
        for reference in references {
            parser.parse(&json(reference)?, "")?;
        }
        let root = parser.parse(&json(text)?, "")?;
        match parser.types.get(root) {
            Some(Type::Record { .. }) => Ok(Self { types: parser.types, root }),
            _ => Err(SchemaFault::NoRecord),
        }
    }

    /// A type by its index.
    pub(crate) fn get(&self, id: TypeId) -> &Type {
        &self.types[id]
    }

    /// The record's own type.
    pub(crate) fn root(&self) -> TypeId {
        self.root
    }

    /// The fields of the record, in the order in which they are written.
    pub(crate) fn fields(&self) -> &[Field] {
        match &self.types[self.root] {
            Type::Record { fields, .. } => fields,
            _ => &[],
        }
    }

    /// What a value can be: the branches of a union, or the type itself.
    pub(crate) fn branches(&self, id: TypeId) -> Vec<TypeId> {
        match &self.types[id] {
            Type::Union(branches) => branches.clone(),
            _ => vec![id],
        }
    }
}

impl Type {
    /// How messages call the type.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Integer => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes | Self::Fixed(_) => "bytes",
            Self::Text => "string",
            Self::Decimal { .. } => "decimal",
            Self::Date => "date",
            Self::Timestamp { .. } => "timestamp",
            Self::Enum { .. } => "enum",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Record { .. } => "record",
        }
    }
}

fn json(text: &str) -> Result<Json, SchemaFault> {
    serde_json::from_str(text).map_err(|error| SchemaFault::Json(error.to_string()))
}

#[derive(Default)]
struct Parser {
    types: Vec<Type>,
    /// Full names of records, enums and fixeds.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, of: Type) -> TypeId {
        self.types.push(of);
        self.types.len() - 1
    }

    /// Reads a type inside `namespace`.
    fn parse(&mut self, schema: &Json, namespace: &str) -> Result<TypeId, SchemaFault> {
        match schema {
            Json::String(name) => self.named(name, namespace),
            Json::Array(branches) => {
                let branches = branches.iter().map(|branch| self.parse(branch, namespace)).collect::<Result<_, _>>()?;
                Ok(self.add(Type::Union(branches)))
            }
            Json::Object(object) => self.object(object, namespace),
            other => Err(SchemaFault::NoType(other.to_string())),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, SchemaFault> {
        if let Some(primitive) = primitive(name) {
            return Ok(self.add(primitive));
        }
        let known = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| SchemaFault::UnknownType(name.to_owned()))
    }

    fn object(&mut self, object: &Map<String, Json>, namespace: &str) -> Result<TypeId, SchemaFault> {
        let Some(of) = object.get("type") else {
            return Err(SchemaFault::Missing { of: "object".to_owned(), attribute: "type" });
        };
        let Json::String(of) = of else { return self.parse(of, namespace) };
        let missing = |attribute| SchemaFault::Missing { of: of.clone(), attribute };
        match of.as_str() {
            "array" => {
                let items = self.parse(object.get("items").ok_or_else(|| missing("items"))?, namespace)?;
                Ok(self.add(Type::Array(items)))
            }
            "map" => {
                let values = self.parse(object.get("values").ok_or_else(|| missing("values"))?, namespace)?;
                Ok(self.add(Type::Map(values)))
            }
            "record" | "error" | "enum" | "fixed" => self.definition(of, object, namespace),
            _ => match primitive(of) {
                Some(of) => Ok(self.add(logical(of, object))),
                None => self.named(of, namespace),
            },
        }
    }

    /// Reads a type that has a name, which its own parts may use already.
    fn definition(&mut self, of: &str, object: &Map<String, Json>, outer: &str) -> Result<TypeId, SchemaFault> {
        let missing = |attribute| SchemaFault::Missing { of: of.to_owned(), attribute };
        let name = object.get("name").and_then(Json::as_str).ok_or_else(|| missing("name"))?;
        let full_name = full_name(name, object.get("namespace").and_then(Json::as_str).unwrap_or(outer));
        let id = self.add(Type::Null);
        self.names.insert(full_name.clone(), id);
        self.types[id] = match of {
            "fixed" => {
                let size = object.get("size").and_then(Json::as_u64).ok_or_else(|| missing("size"))?;
                logical(Type::Fixed(usize::try_from(size).map_err(|_| missing("size"))?), object)
            }
            "enum" => {
                let symbols = object.get("symbols").and_then(texts).ok_or_else(|| missing("symbols"))?;
                let default = object.get("default").and_then(Json::as_str).map(str::to_owned);
                Type::Enum { symbols, default }
            }
            _ => {
                let namespace = full_name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                let fields = object.get("fields").and_then(Json::as_array).ok_or_else(|| missing("fields"))?;
                let fields = fields.iter().map(|field| self.field(field, namespace)).collect::<Result<_, _>>()?;
                Type::Record { name: name.rsplit('.').next().unwrap_or(name).to_owned(), fields }
            }
        };
        Ok(id)
    }

    fn field(&mut self, field: &Json, namespace: &str) -> Result<Field, SchemaFault> {
        let missing = |attribute| SchemaFault::Missing { of: "field".to_owned(), attribute };
        Ok(Field {
            name: field.get("name").and_then(Json::as_str).ok_or_else(|| missing("name"))?.to_owned(),
            aliases: field.get("aliases").and_then(texts).unwrap_or_default(),
            of: self.parse(field.get("type").ok_or_else(|| missing("type"))?, namespace)?,
            default: field.get("default").cloned(),
        })
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn texts(list: &Json) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" | "long" => Type::Integer,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::Text,
        _ => return None,
    })
}

/// What a `logicalType` makes of a type. One that is unknown, or that does not fit, counts for nothing, as the
/// specification has it.
fn logical(of: Type, object: &Map<String, Json>) -> Type {
    let Some(logical) = object.get("logicalType").and_then(Json::as_str) else { return of };
    let timestamp = |unit, is_local| Type::Timestamp { unit, is_local };
    match (logical, &of) {
        ("decimal", Type::Bytes | Type::Fixed(_)) => {
            let fixed = if let Type::Fixed(size) = of { Some(size) } else { None };
            let scale = object.get("scale").and_then(Json::as_u64).unwrap_or(0);
            u32::try_from(scale).map_or(of, |scale| Type::Decimal { scale, fixed })
        }
        ("date", Type::Integer) => Type::Date,
        ("timestamp-millis", Type::Integer) => timestamp(TimeUnit::Millisecond, false),
        ("timestamp-micros", Type::Integer) => timestamp(TimeUnit::Microsecond, false),
        ("timestamp-nanos", Type::Integer) => timestamp(TimeUnit::Nanosecond, false),
        ("local-timestamp-millis", Type::Integer) => timestamp(TimeUnit::Millisecond, true),
        ("local-timestamp-micros", Type::Integer) => timestamp(TimeUnit::Microsecond, true),
        ("local-timestamp-nanos", Type::Integer) => timestamp(TimeUnit::Nanosecond, true),
        _ => of,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Schema::parse(text, &[]).expect_err("no schema").to_string()
    }

    #[test]
    fn names_lead_to_types_through_namespaces_and_recursion() {
        let schema = Schema::parse(
            r#"{"type": "record", "name": "a.b.List", "fields": [
                {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["x"]}},
                {"name": "again", "type": "Kind"},
                {"name": "full", "type": "a.b.Kind"},
                {"name": "tail", "type": ["null", "List"]}]}"#,
            &[],
        )
        .unwrap();
        let of = |index: usize| schema.fields()[index].of;
        assert_eq!((of(0), of(0)), (of(1), of(2)));
        assert_eq!(schema.branches(of(3))[1], schema.root());
    }

    #[test]
    fn references_bring_the_types_that_a_schema_names() {
        let money = r#"{"type": "fixed", "name": "shop.Money", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 2}"#;
        let order =
            r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "sum", "type": "Money"}]}"#;
        let schema = Schema::parse(order, &[money.to_owned()]).unwrap();
        assert_eq!(schema.get(schema.fields()[0].of), &Type::Decimal { scale: 2, fixed: Some(8) });
        assert_eq!(fault(order), "names a type that it does not define, type=`Money`");
    }

    #[test]
    fn what_is_no_schema_of_records_is_told_why() {
        insta::assert_snapshot!(fault("{"), @"is not JSON: EOF while parsing an object at line 1 column 1");
        insta::assert_snapshot!(fault(r#""string""#), @"is not a record");
        insta::assert_snapshot!(fault("7"), @"holds something that is no type: 7");
        insta::assert_snapshot!(fault(r#"{"type": "record", "name": "A"}"#), @"does not say what `fields` is, type=`record`");
        insta::assert_snapshot!(fault(r#"{"type": "record", "fields": []}"#), @"does not say what `name` is, type=`record`");
    }

    #[test]
    fn a_logical_type_that_does_not_fit_counts_for_nothing() {
        let of = |text: &str| {
            let schema = format!(r#"{{"type": "record", "name": "A", "fields": [{{"name": "f", "type": {text}}}]}}"#);
            let schema = Schema::parse(&schema, &[]).unwrap();
            schema.get(schema.fields()[0].of).clone()
        };
        assert_eq!(of(r#"{"type": "string", "logicalType": "timestamp-millis"}"#), Type::Text);
        assert_eq!(of(r#"{"type": "long", "logicalType": "stardate"}"#), Type::Integer);
        assert_eq!(of(r#"{"type": "int", "logicalType": "date"}"#), Type::Date);
    }
}
