//! Delta tables: append with progress, replace, changes between versions, care, sessions.
//!
//! # Guarantee
//! Every commit is a compare-and-swap on the table version that it was computed from: it either becomes version `n + 1` as
//! a whole, or [`CommitOutcome::Lost`] hands back what the winners committed and nothing of it is visible. A commit whose
//! answer was lost is looked up by its id before anything else happens, so it is never made twice. Progress (`txn` actions)
//! and the commit's own story ([`metadata`]) travel in the same atomic file as the data.
//!
//! This is the only room that knows deltalake; datafusion is shared with `transform` alone.

mod actions;
mod checkpoint;
mod commit;
mod engine;
mod error;
mod filter;
mod foreign;
mod id;
mod lake;
mod live;
pub mod maintain;
mod memory;
pub mod metadata;
mod object_reader;
pub mod ops;
mod probe;
mod provider;
mod prune;
mod read;
mod rehearsal;
mod replay;
mod schema;
mod state;
mod stats;
mod store;
mod table;
#[cfg(test)]
mod tests;
#[doc(hidden)]
pub mod testsuite;
mod write;

pub use commit::{CommitOutcome, CommitRequest, LogCommit};
pub use engine::Engine;
pub use error::{Error, Result, store_fault_within};
pub use filter::RowFilter;
pub use id::TableId;
pub use lake::Lake;
pub use probe::Probe;
pub use rehearsal::{KillSwitch, Moment};
pub use table::{ColumnStats, DataFile, LEAF_TAG, LiveFileRef, Table, TableSpec};
pub use write::PartitionedBatch;
