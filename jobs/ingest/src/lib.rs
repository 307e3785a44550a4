//! From Kafka partitions and files into raw tables, each event once.
//!
//! # Guarantee
//! Every record of a source ends in exactly one of: a row, a counted copy of a row, an entry of the quarantine, a counted
//! tombstone. Progress, rows and books are one atomic commit of the raw table, made by compare-and-swap, so this holds for a
//! process that is killed at any instruction, for any number of processes on one consumer group, for two groups on one table
//! by mistake, and for a process that slept through a rebalance.
//!
//! # The road
//! [`source`] reads on a thread of its own, `batch` decodes ([`decode`]) on another, `commit` deduplicates (`dedup`), writes
//! and commits on the runtime. Channels between them are bounded; a slow lake pauses the partitions.

mod batch;
mod books;
mod commit;
mod deadline;
pub mod decode;
mod dedup;
mod error;
pub mod quarantine;
pub mod reconcile;
pub mod registry;
pub mod rehearsal;
mod request;
mod retry;
mod run;
mod source;
pub mod status;

#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use request::{BatchSummary, IngestObserver, IngestReport, IngestRequest, Mode, NoObserver, SourceReport};
pub use run::{ingest, ingest_files, raw_table_spec};
pub use source::files::{FilePreview, preview_files};
