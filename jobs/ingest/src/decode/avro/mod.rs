//! Records in a schema registry's wire format: one zero byte, the id of the writer's schema, the value.
//!
//! The decoder does no I/O: it says which schema it needs ([`Decoder::wanted_schema`](super::Decoder::wanted_schema)) and is
//! told what the registry knows ([`Decoder::learn`](super::Decoder::learn)). An id that the registry does not know is asked
//! for again with the next batch, so a registry that lags behind its producers costs a replay, not a restart.
//!
//! | record of a wire format | fate |
//! | --- | --- |
//! | first byte not 0, or less than five bytes | `malformed`; JSON Schema's topics may hold plain JSON as well |
//! | id that the registry does not know, or of another kind of schema | `unknown_schema` |
//! | bytes that are not of their schema, or left over | `malformed` |
//! | field that the contract's schema requires and the writer's lacks | `missing_field`, if the contract requires it as well |
//! | field of another type than the column takes | `wrong_type`, as in JSON |
//! | enum symbol that the contract's schema does not have, nor a default | `bad_value` |
//!
//! Source: Confluent, "Wire format"; Avro specification 1.12.

mod binary;
mod fit;
mod layout;
mod render;
mod resolve;
mod schema;
#[cfg(test)]
mod tests;

use std::fmt;

use hashbrown::HashMap;
use tidemill_project::contract::{Contract, Format};

pub use fit::Misfit;
pub(crate) use layout::Layout;
pub(crate) use schema::Schema;

use super::error::{Cause, Result};
use super::plan::Plan;
use super::record::RejectionClass;

/// The zero byte and the id.
pub(crate) const PREFIX_BYTES: usize = 5;

/// A schema's id in its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SchemaId {
    /// The id in a record's prefix; `None` when the value has none.
    #[must_use]
    #[inline]
    pub fn of(value: &[u8]) -> Option<Self> {
        match value {
            [0, a, b, c, d, ..] => Some(Self(u32::from_be_bytes([*a, *b, *c, *d]))),
            _ => None,
        }
    }
}

/// What a schema describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// Any other, by the registry's name for it.
    Other(String),
}

/// A schema as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// What it describes.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// Texts of the schemas whose types it names, each after those that it names itself.
    pub references: Vec<String>,
}

/// The columns of `contract` that records written with `schema` cannot fill.
///
/// # Errors
/// What is wrong with a text that is no schema of records.
pub fn check_schema(contract: &Contract, schema: &RegisteredSchema) -> Result<Vec<Misfit>, String> {
    if schema.kind == SchemaKind::Json {
        return fit::json_misfits(contract, &schema.text);
    }
    let schema = Schema::parse(&schema.text, &schema.references).map_err(|fault| fault.to_string())?;
    Ok(fit::misfits(contract, &schema))
}

/// What is known of a writer's schema.
#[derive(Debug)]
pub(crate) enum Writer {
    Avro(Box<Layout>),
    Json,
    /// Not in the registry.
    Unknown,
    /// In the registry, but of no use here; the reason.
    Unusable(String),
}

/// The wire format of one contract, with the schemas that were met so far.
#[derive(Debug)]
pub(crate) struct Wire {
    contract: Contract,
    reader: Option<Schema>,
    writers: HashMap<SchemaId, Writer>,
    /// The id of the record before, which most share.
    last: Option<SchemaId>,
}

impl Wire {
    /// The contract's wire format; `None` for plain JSON.
    ///
    /// # Errors
    /// When the contract's schema is no schema, or its fields do not fit the columns.
    pub(crate) fn new(contract: &Contract) -> Result<Option<Self>> {
        let reader = match (contract.format, &contract.schema) {
            (Format::Json, _) => return Ok(None),
            (Format::Avro, Some(file)) => {
                let fault = |problem: String| Cause::Schema {
                    name: contract.name.clone(),
                    location: contract.location.clone(),
                    path: file.path.clone(),
                    problem,
                };
                let schema = Schema::parse(&file.text, &[]).map_err(|problem| fault(problem.to_string()))?;
                if let Some(misfit) = fit::misfits(contract, &schema).into_iter().next() {
                    return Err(fault(format!("column `{}` {}", misfit.column, misfit.problem)).into());
                }
                Some(schema)
            }
            (Format::Avro | Format::JsonSchema, _) => None,
        };
        Ok(Some(Self { contract: contract.clone(), reader, writers: HashMap::new(), last: None }))
    }

    /// The schema that must be learnt before `value` can be decoded.
    #[inline]
    pub(crate) fn wanted(&mut self, value: &[u8]) -> Option<SchemaId> {
        let id = SchemaId::of(value)?;
        if self.last == Some(id) {
            return None;
        }
        if self.writers.contains_key(&id) {
            self.last = Some(id);
            return None;
        }
        Some(id)
    }

    /// Takes note of what the registry knows of a schema.
    pub(crate) fn learn(&mut self, plan: &Plan, id: SchemaId, schema: Option<&RegisteredSchema>) {
        let writer = match schema {
            None => Writer::Unknown,
            Some(schema) => self.writer(plan, id, schema),
        };
        self.writers.insert(id, writer);
    }

    fn writer(&self, plan: &Plan, id: SchemaId, schema: &RegisteredSchema) -> Writer {
        match (self.contract.format, &schema.kind) {
            (Format::Avro, SchemaKind::Avro) => match Schema::parse(&schema.text, &schema.references) {
                Ok(writer) => Writer::Avro(Box::new(Layout::new(&writer, self.reader.as_ref(), plan, &self.contract))),
                Err(fault) => Writer::Unusable(format!("schema {id} {fault}")),
            },
            (Format::JsonSchema, SchemaKind::Json) => Writer::Json,
            (Format::JsonSchema, _) => Writer::Unusable(format!("schema {id} is no JSON Schema")),
            _ => Writer::Unusable(format!("schema {id} is no Avro schema")),
        }
    }

    /// Forgets the ids that the registry did not know: it is asked again.
    pub(crate) fn forget_unknown(&mut self) {
        self.last = None;
        self.writers.retain(|_, writer| !matches!(writer, Writer::Unknown));
    }

    /// How a record's value is read: by its writer's schema, from behind the prefix; `None` for plain JSON.
    pub(crate) fn open(&self, value: &[u8]) -> Result<Option<&Writer>, (RejectionClass, String)> {
        let Some(id) = SchemaId::of(value) else {
            if self.contract.format == Format::JsonSchema && value.first().is_some_and(|first| *first != 0) {
                return Ok(None);
            }
            let message = "not in the schema registry's wire format: no zero byte with a schema id behind it";
            return Err((RejectionClass::Malformed, message.to_owned()));
        };
        match self.writers.get(&id) {
            None | Some(Writer::Unknown) => {
                Err((RejectionClass::UnknownSchema, format!("schema {id} is not in the registry")))
            }
            Some(Writer::Unusable(reason)) => Err((RejectionClass::UnknownSchema, reason.clone())),
            Some(writer) => Ok(Some(writer)),
        }
    }
}
