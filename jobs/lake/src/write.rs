//! Rows on their way into Parquet files.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

/// Rows of one partition, without the partition columns.
#[derive(Clone, Debug)]
pub struct PartitionedBatch {
    /// Partition column -> value as Delta writes it (`2025-03-09`, `7`).
    pub partition_values: BTreeMap<String, Option<String>>,
    /// The rows, several batches of one schema; they go into one file (or more when they exceed the target size).
    pub batches: Vec<RecordBatch>,
    /// Delta `tags` for the files.
    pub tags: BTreeMap<String, String>,
}
