//! HTTP to Kafka: phones post sensor readings, each reading becomes one record.
//!
//! The guarantee: an answer of 200 means that the broker has acknowledged every record of the request (`acks=all`, idempotent
//! producer). Whatever else is answered, some of the records may have been written; the caller sends the same body again,
//! and the copies fall to the idempotency key at ingest.
//!
//! A request goes through, in this order: [`auth`] (who), [`body`] (how much, decompressed), [`envelope`] (which readings,
//! reshaped), [`limits`] (how often), [`check`] (against the contract), [`send`] (acknowledged), and [`server`] answers.

mod auth;
mod body;
mod check;
mod envelope;
mod error;
mod limits;
mod refusal;
mod scrape;
mod send;
mod server;
#[cfg(test)]
mod tests;
mod tls;

pub use auth::hash_key;
pub use error::Error;
pub use scrape::{Page, Scrape};
pub use server::{Collector, ROUTE};
