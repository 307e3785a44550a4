//! Fingerprints in memory, by event-time partition, within a budget.

use std::hash::{BuildHasher, Hasher};

use arrow::array::RecordBatch;
use hashbrown::HashSet;
use lru::LruCache;

use super::fingerprints_of;
use crate::decode::{Decoded, EventPartition};

/// The fingerprints of one partition.
pub(super) type Fingerprints = HashSet<u128, IdentityHash>;

/// Takes the fingerprint itself for its hash: its bits are as good as any.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdentityHash;

impl BuildHasher for IdentityHash {
    type Hasher = Identity;

    fn build_hasher(&self) -> Identity {
        Identity(0)
    }
}

/// See [`IdentityHash`].
#[derive(Debug)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, value: u128) {
        // Upper half xor lower half; hashbrown wants both ends of the word to vary.
        self.0 = u64::try_from(value >> 64).unwrap_or_default()
            ^ u64::try_from(value & u128::from(u64::MAX)).unwrap_or_default();
    }
}

/// Bytes that a set of this many keys takes at worst: 16 for the fingerprint, one of control, and a table that has just
/// doubled is seven sixteenths full.
const BYTES_PER_KEY: u64 = 39;

/// What is resident. Holds at most its budget, except for one partition that is being worked on.
#[derive(Debug)]
pub(super) struct Resident {
    partitions: LruCache<EventPartition, Fingerprints>,
    budget_bytes: usize,
    used_bytes: usize,
}

impl Resident {
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self { partitions: LruCache::unbounded(), budget_bytes, used_bytes: 0 }
    }

    pub(super) fn contains(&self, partition: &EventPartition) -> bool {
        self.partitions.contains(partition)
    }

    /// A partition's fingerprints; it becomes the most recently used one.
    pub(super) fn get(&mut self, partition: &EventPartition) -> Option<&Fingerprints> {
        self.partitions.get(partition)
    }

    /// Whether a partition of this size fits at all, whatever else has to go.
    pub(super) fn has_room_for(&self, num_keys: u64) -> bool {
        usize::try_from(num_keys.saturating_mul(BYTES_PER_KEY)).is_ok_and(|bytes| bytes <= self.budget_bytes)
    }

    pub(super) fn insert(&mut self, partition: EventPartition, fingerprints: Fingerprints) {
        self.used_bytes += fingerprints.allocation_size();
        if let Some(old) = self.partitions.put(partition, fingerprints) {
            self.used_bytes -= old.allocation_size();
        }
    }

    fn extend(&mut self, partition: &EventPartition, fingerprints: impl Iterator<Item = u128>) {
        if let Some(set) = self.partitions.peek_mut(partition) {
            let before = set.allocation_size();
            set.extend(fingerprints);
            self.used_bytes = self.used_bytes + set.allocation_size() - before;
        }
    }

    /// Adds the keys of some rows to a partition that is resident; nothing otherwise.
    pub(super) fn add_rows(&mut self, partition: &EventPartition, decoded: &Decoded, rows: &[u32]) {
        self.extend(partition, rows.iter().map(|row| decoded.rows[*row as usize].fingerprint));
    }

    /// Adds the keys of a batch that was read from a file to a partition that is resident; nothing otherwise.
    pub(super) fn add_keys(&mut self, partition: &EventPartition, batch: &RecordBatch) {
        self.extend(partition, fingerprints_of(batch));
    }

    pub(super) fn forget(&mut self, partition: &EventPartition) {
        if let Some(old) = self.partitions.pop(partition) {
            self.used_bytes -= old.allocation_size();
        }
    }

    /// Lets the least recently used partitions go until the budget is kept; `keep` stays.
    pub(super) fn evict(&mut self, keep: Option<&EventPartition>) {
        while self.used_bytes > self.budget_bytes {
            let Some((oldest, _)) = self.partitions.peek_lru() else { return };
            if Some(oldest) == keep {
                return;
            }
            let oldest = *oldest;
            self.forget(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(event_date: i32) -> EventPartition {
        EventPartition { event_date, event_hour: None }
    }

    #[test]
    fn the_least_recently_used_partition_goes_first() {
        let keys =
            |from: u128| (from..from + 1_000).map(|key| key.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
        let one: Fingerprints = keys(0).collect();
        let mut resident = Resident::new(one.allocation_size() * 2);
        resident.insert(day(1), keys(0).collect());
        resident.insert(day(2), keys(1_000).collect());
        assert!(resident.get(&day(1)).is_some());
        resident.insert(day(3), keys(2_000).collect());
        resident.evict(Some(&day(3)));
        assert!(resident.contains(&day(1)) && !resident.contains(&day(2)) && resident.contains(&day(3)));
        assert!(resident.used_bytes <= resident.budget_bytes);
    }

    #[test]
    fn a_partition_that_outgrows_the_budget_goes() {
        let mut resident = Resident::new(1 << 12);
        resident.insert(day(1), Fingerprints::default());
        resident.extend(&day(1), (0..10_000).map(|key: u128| key << 70 | key));
        resident.evict(None);
        assert!(!resident.contains(&day(1)));
        assert_eq!(resident.used_bytes, 0);
    }
}
