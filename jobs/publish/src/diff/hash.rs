//! Rows as hashes, so that a comparison holds 64 bytes a row whatever the row weighs.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_128;

/// Hashes some columns of batches of one schema. Equal values give equal hashes within one process; the hash is not a
/// stored format.
#[derive(Debug)]
pub(crate) struct RowHasher {
    converter: RowConverter,
    columns: Vec<usize>,
}

impl RowHasher {
    /// Prepares for `columns` of `schema`.
    pub(crate) fn new(schema: &Schema, columns: Vec<usize>) -> Result<Self, ArrowError> {
        let fields = columns.iter().map(|&column| SortField::new(schema.field(column).data_type().clone())).collect();
        Ok(Self { converter: RowConverter::new(fields)?, columns })
    }

    /// One hash per row.
    pub(crate) fn hash(&self, batch: &RecordBatch) -> Result<Vec<u128>, ArrowError> {
        if self.columns.is_empty() {
            return Ok(vec![0; batch.num_rows()]);
        }
        let columns: Vec<_> = self.columns.iter().map(|&column| Arc::clone(batch.column(column))).collect();
        let rows = self.converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| xxh3_128(row.as_ref())).collect())
    }
}

/// Mixes a number into a hash.
pub(crate) fn mix(hash: u128, number: u64) -> u128 {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&hash.to_le_bytes());
    bytes[16..].copy_from_slice(&number.to_le_bytes());
    xxh3_128(&bytes)
}

/// The low half, where a full 128 bits would only cost memory: a comparison of two rows, not a search among millions.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
pub(crate) fn low(hash: u128) -> u64 {
    hash as u64
}

/// A set of hashes.
pub(crate) type HashedSet = std::collections::HashSet<u128, BuildHasherDefault<Identity>>;

/// A map whose keys are hashes already.
pub(crate) type HashedMap<V> = std::collections::HashMap<u128, V, BuildHasherDefault<Identity>>;

/// Takes a `u128` as its own hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = low(value);
    }
}
