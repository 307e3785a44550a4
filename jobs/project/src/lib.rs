//! What every room of Tidemill stands on: settings, contracts, names, errors, clock, secrets.
//!
//! The room does no I/O beyond reading the project's own files and the environment, once, at start. Whatever it hands out
//! is plain data that has been checked as a whole: a [`config::Settings`] or a [`contract::Contract`] that exists is valid.

pub mod clock;
pub mod config;
pub mod contract;
pub mod crash;
mod document;
pub mod error;
pub mod kafka;
pub mod locate;
pub mod metrics;
pub mod names;
pub mod scaffold;
pub mod secret;
pub mod yaml;

pub use error::{Diagnostic, ErrorCode, ErrorKind, Fault, Location};
pub use names::{Offset, OffsetRange, SourceName, TableVersion, Topic, TopicPartition};
pub use secret::Secret;
