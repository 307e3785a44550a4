//! Seeded traffic of the systems, with every fault that real producers make, and the truth that it implies.
//!
//! Same options, same bytes, on every machine: one named generator (ChaCha8) seeded per system and user, virtual time, no
//! clock, no map order. The truth is written by plain code from what was generated, never by SQL and never by reading back,
//! so that marts can be compared with it.

mod activity;
mod agenda;
pub mod avro;
mod clicks;
mod faults;
mod files;
mod json;
mod key;
mod logins;
mod options;
mod post;
mod random;
mod record;
mod send;
mod stream;
mod system;
#[cfg(test)]
mod tests;
mod time;
mod traffic;
mod truth;
mod zentry;
mod zoner;

pub use clicks::SchemaIds;
pub use files::FileWriter;
pub use options::{Layout, Options, Profile};
pub use post::{Door, PostError, Poster};
pub use record::{Record, Sink, SinkError};
pub use send::{SendError, Sender, create_topics};
pub use system::System;
pub use traffic::{Traffic, generate, interleave, stream};
pub use truth::{Check, Column, Differences, Kind, ModelTruth, TopicTruth, Truth};
