//! The schema registry: writers' schemas by their ids, and what a release asks about the next one.
//!
//! Speaks Confluent's REST interface, which Confluent, Karapace, Apicurio and Redpanda share. A schema never changes once it
//! has an id, so ids are cached for the life of the client and asked for once.
//!
//! # What an answer means
//! | answer | meaning |
//! | --- | --- |
//! | 404 with code 40403 | the id is unknown: records that name it are quarantined |
//! | 404 without a code of the interface | the address is wrong: nobody concludes anything about a record from it |
//! | 401, 403 | the login is wrong or may not |
//! | no answer, 408, 429, 5xx | may pass: tried again |
//!
//! Source: Confluent Schema Registry API reference.

mod client;
mod error;
mod schemas;
#[cfg(test)]
mod tests;

pub use client::{Compatibility, Registry, SubjectVersion};
pub use error::RegistryError;
pub(crate) use schemas::Schemas;
