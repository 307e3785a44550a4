//! What changed in a model's table between two versions, row by row.
//!
//! Three steps, each cheaper than the next one would be alone:
//! 1. The **log** tells which partitions had commits with `dataChange` in `(from, to]`, and which files came and went in
//!    them. Files that live on are not opened.
//! 2. The rows of files that went and of files that came are compared **by key**, as hashes. A batch that was rebuilt with
//!    the same rows yields nothing.
//! 3. Only rows that differ are read a second time and handed to the sink.
//!
//! Memory is 64 bytes per key in the files compared, at most [`MAX_KEYS_IN_MEMORY`] keys at a time: larger comparisons are
//! cut into slices by key hash, each of which reads the files again. Where the target has no row yet, however large the model,
//! nothing is compared ([`fresh`]).
//!
//! Of rows with one key the last wins: greatest partition, youngest file, last row. A key that moved to another partition is
//! one upsert, and for sinks that keep partitions a [`ChangeKind::MoveOut`] of the old place.

mod changes;
mod fresh;
mod hash;
mod index;
mod judge;
mod plan;
mod shape;
mod side;
#[cfg(test)]
mod tests;

pub use changes::{ChangeBatch, ChangeConsumer, ChangeCounts, ChangeKind, ChangeSet};
pub(crate) use hash::{HashedMap, HashedSet, RowHasher};
pub(crate) use plan::{PlanRequest, model_watermark, plan};
pub use shape::Shape;
pub(crate) use shape::columns_of;
pub use side::PartitionValues;

/// Keys that are held at once: 64 bytes each with the map's slack come to about 250 MB, a quarter of what the demo may use
/// in all.
pub(crate) const MAX_KEYS_IN_MEMORY: u64 = 2_000_000;
