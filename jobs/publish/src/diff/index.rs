//! Every key of both sides with what each side says of it.

use super::hash::{HashedMap, RowHasher, low, mix};
use super::judge::Hold;

/// Where a key was seen last on one side. 24 bytes, because there is one per key and side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Hash of the whole row. 64 bits do: it is compared with one other row, not searched for.
    pub(crate) row: u64,
    /// Number of the row on its side, in reading order; `u64::MAX` means that the side lacks the key.
    pub(crate) ordinal: u64,
    pub(crate) partition: u32,
    /// Whether it may be sent now.
    pub(crate) hold: Hold,
}

impl Seen {
    pub(crate) const NEVER: Self = Self { row: 0, ordinal: u64::MAX, partition: 0, hold: Hold::No };

    fn is_there(self) -> bool {
        self.ordinal != u64::MAX
    }
}

/// What both sides say of one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) old: Seen,
    pub(crate) new: Seen,
}

/// What has to happen to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Unchanged,
    Insert,
    Update,
    Delete,
}

impl Entry {
    fn fate(self, resend: bool) -> Fate {
        match (self.old.is_there(), self.new.is_there()) {
            (false, _) if self.new.hold == Hold::All => Fate::Unchanged,
            (false, _) => Fate::Insert,
            (true, false) => Fate::Delete,
            (true, true) if self.new.hold != Hold::No => Fate::Unchanged,
            (true, true) if resend => Fate::Update,
            (true, true) if self.old.row == self.new.row && self.old.partition == self.new.partition => Fate::Unchanged,
            (true, true) => Fate::Update,
        }
    }

    /// Whether the key lives on in another partition: a sink that keeps partitions must clear the old one.
    pub(crate) fn moved(self) -> bool {
        self.old.is_there() && self.new.is_there() && self.old.partition != self.new.partition
    }
}

/// Computes keys of rows. Rows without a key are their own key, the n-th equal row of a partition being the n-th key.
pub(crate) struct Keyer<'a> {
    key: &'a RowHasher,
    keyless: bool,
    seen: HashedMap<u64>,
}

impl<'a> Keyer<'a> {
    pub(crate) fn new(key: &'a RowHasher, keyless: bool) -> Self {
        Self { key, keyless, seen: HashedMap::default() }
    }

    /// One key per row, in reading order: the counting makes it matter that every row of a side passes here once.
    pub(crate) fn keys(
        &mut self,
        batch: &arrow::array::RecordBatch,
        rows: &[u128],
        partition: usize,
    ) -> Result<Vec<u128>, arrow::error::ArrowError> {
        if !self.keyless {
            return self.key.hash(batch);
        }
        Ok(rows
            .iter()
            .map(|&row| {
                let here = mix(row, partition as u64);
                let count = self.seen.entry(here).or_default();
                *count += 1;
                mix(here, *count)
            })
            .collect())
    }
}

/// All keys of one slice of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) entries: HashedMap<Entry>,
    /// Rows that did not change count as changed: they are written again.
    pub(crate) resend: bool,
}

impl Index {
    /// What has to happen to a key.
    pub(crate) fn fate(&self, entry: &Entry) -> Fate {
        entry.fate(self.resend)
    }

    pub(crate) fn see(&mut self, key: u128, is_new: bool, seen: Seen) {
        let entry = self.entries.entry(key).or_insert(Entry { old: Seen::NEVER, new: Seen::NEVER });
        *(if is_new { &mut entry.new } else { &mut entry.old }) = seen;
    }
}

/// The part of a hash that is kept of a row.
pub(crate) fn row_of(hash: u128) -> u64 {
    low(hash)
}
