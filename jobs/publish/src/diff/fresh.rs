//! A target that holds nothing yet: every row of the model is new, so nothing is compared and no index of all keys is needed.
//!
//! What is left to find is keys that several rows have, of which the last counts. A Bloom filter over all keys finds those that
//! *may* have come before; a second look at the keys finds those that did. A model whose key is unique, as its tests say, then
//! has none, and its rows go to the sink as they are read. Cost: two reads of the key's columns and one of the rows, whatever
//! the size, where slices by key would read everything twice for every two million rows.

use futures::TryStreamExt;

use super::changes::{ChangeBatch, ChangeConsumer, ChangeCounts, ChangeKind, ChangeSet};
use super::hash::{HashedMap, RowHasher, mix};
use super::index::row_of;
use super::side::{Rows, Side};
use crate::{Error, Result};

/// Bits of the filter per key: about one key in a hundred is looked at twice for nothing.
const BITS_PER_KEY: u64 = 12;
/// Least and most bits: 8 KiB, 256 MiB.
const NUM_BITS: std::ops::RangeInclusive<u64> = 1 << 16..=1 << 31;
const BITS_PER_BLOCK: u64 = 512;
const WORDS_PER_BLOCK: u64 = BITS_PER_BLOCK / 64;

/// Keys that several rows have, with the row that counts.
#[derive(Debug)]
pub(super) struct Fresh {
    repeated: HashedMap<Repeated>,
}

/// What a first look at all rows found.
pub(super) struct Survey {
    pub(super) fresh: Fresh,
    pub(super) counts: ChangeCounts,
    pub(super) content: u128,
}

#[derive(Clone, Copy, Debug, Default)]
struct Repeated {
    rows: u64,
    /// The last of them: its place among all rows of the side, and its hash.
    ordinal: u64,
    row: u64,
}

impl Fresh {
    /// Looks at the rows of a model that has a key. `None` when so many keys may be repeated that slices are the better way.
    ///
    /// `wants_content` asks for the hash that names the rows, for which their columns have to be read as well.
    pub(super) async fn survey(changes: &ChangeSet, max_keys: u64, wants_content: bool) -> Result<Option<Survey>> {
        let side = changes.new_side();
        let keys = KeySide::new(changes, side)?;
        let mut filter = Filter::new(side.estimated_rows());
        let mut repeated: HashedMap<Repeated> = HashedMap::default();
        let mut num_rows = 0_u64;
        for file in &side.files {
            let mut batches = keys.side.read(file, &keys.schema, changes.publication());
            while let Some(Rows { batch, .. }) = batches.try_next().await? {
                refuse_null_keys(changes, &batch)?;
                for key in keys.hash(changes, &batch)? {
                    if filter.may_have_seen(key) {
                        repeated.entry(key).or_default();
                    }
                }
                num_rows += batch.num_rows() as u64;
            }
            if repeated.len() as u64 > max_keys {
                return Ok(None);
            }
        }
        let content = if wants_content {
            look_at_rows(changes, side, &mut repeated).await?
        } else {
            if !repeated.is_empty() {
                look_at_keys(changes, side, &keys, &mut repeated).await?;
            }
            0
        };
        repeated.retain(|_, found| found.rows > 1);
        let again: u64 = repeated.values().map(|found| found.rows - 1).sum();
        let counts = ChangeCounts { inserted: num_rows - again, ..ChangeCounts::default() };
        Ok(Some(Survey { fresh: Self { repeated }, counts, content }))
    }

    /// Hands all rows that count to `consumer`.
    pub(super) async fn emit(&self, changes: &ChangeSet, consumer: &mut dyn ChangeConsumer) -> Result<()> {
        let side = changes.new_side();
        let (_, key_hasher) = changes.hashers()?;
        let mut first = 0;
        for file in &side.files {
            let mut batches = side.read(file, changes.schema(), changes.publication());
            while let Some(Rows { batch, .. }) = batches.try_next().await? {
                let num_rows = batch.num_rows();
                let rows = if self.repeated.is_empty() {
                    batch
                } else {
                    let keys = key_hasher.hash(&batch).map_err(Error::arrow(changes.publication()))?;
                    let counts = |(ordinal, key)| self.repeated.get(&key).is_none_or(|last| last.ordinal == ordinal);
                    let mask: Vec<bool> = (first..).zip(keys).map(counts).collect();
                    arrow::compute::filter_record_batch(&batch, &mask.into())
                        .map_err(Error::arrow(changes.publication()))?
                };
                first += num_rows as u64;
                if rows.num_rows() > 0 {
                    let partition = changes.partition(file.partition);
                    consumer.consume(ChangeBatch { kind: ChangeKind::Upsert, partition, rows }).await?;
                }
            }
        }
        Ok(())
    }
}

/// The rows' key columns alone.
struct KeySide {
    side: Side,
    schema: arrow::datatypes::SchemaRef,
    hasher: RowHasher,
}

impl KeySide {
    fn new(changes: &ChangeSet, side: &Side) -> Result<Self> {
        let key = &changes.shape().key;
        let error = Error::arrow(changes.publication());
        let schema = std::sync::Arc::new(changes.schema().project(key).map_err(&error)?);
        let hasher = RowHasher::new(&schema, (0..key.len()).collect()).map_err(&error)?;
        let columns = key.iter().map(|column| side.columns[*column].clone()).collect();
        Ok(Self { side: Side { columns, ..side.clone() }, schema, hasher })
    }

    fn hash(&self, changes: &ChangeSet, batch: &arrow::array::RecordBatch) -> Result<Vec<u128>> {
        self.hasher.hash(batch).map_err(Error::arrow(changes.publication()))
    }
}

/// Refuses nulls in a batch of the key's columns.
fn refuse_null_keys(changes: &ChangeSet, batch: &arrow::array::RecordBatch) -> Result<()> {
    let mut columns = batch.columns().iter().zip(&changes.shape().key);
    columns.try_for_each(|(values, column)| changes.refuse_nulls(*column, values))
}

/// Counts the rows of keys that may be repeated.
async fn look_at_keys(
    changes: &ChangeSet,
    side: &Side,
    keys: &KeySide,
    repeated: &mut HashedMap<Repeated>,
) -> Result<()> {
    let mut ordinal = 0;
    for file in &side.files {
        let mut batches = keys.side.read(file, &keys.schema, changes.publication());
        while let Some(Rows { batch, .. }) = batches.try_next().await? {
            for key in keys.hash(changes, &batch)? {
                if let Some(found) = repeated.get_mut(&key) {
                    *found = Repeated { rows: found.rows + 1, ordinal, row: 0 };
                }
                ordinal += 1;
            }
        }
    }
    Ok(())
}

/// Does the same, and adds up what names the rows that count.
async fn look_at_rows(changes: &ChangeSet, side: &Side, repeated: &mut HashedMap<Repeated>) -> Result<u128> {
    let (row_hasher, key_hasher) = changes.hashers()?;
    let (mut ordinal, mut content) = (0, 0_u128);
    for file in &side.files {
        let mut batches = side.read(file, changes.schema(), changes.publication());
        while let Some(Rows { batch, .. }) = batches.try_next().await? {
            let rows = row_hasher.hash(&batch).map_err(Error::arrow(changes.publication()))?;
            let keys = key_hasher.hash(&batch).map_err(Error::arrow(changes.publication()))?;
            for (key, row) in keys.into_iter().zip(rows) {
                match repeated.get_mut(&key) {
                    Some(found) => *found = Repeated { rows: found.rows + 1, ordinal, row: row_of(row) },
                    None => content = content.wrapping_add(mix(key, row_of(row))),
                }
                ordinal += 1;
            }
        }
    }
    Ok(repeated.iter().fold(content, |content, (key, last)| content.wrapping_add(mix(*key, last.row))))
}

/// A blocked Bloom filter: the four bits of a key lie in one cache line.
struct Filter {
    words: Vec<u64>,
    num_blocks: u64,
}

impl Filter {
    fn new(num_keys: u64) -> Self {
        let num_bits = num_keys.saturating_mul(BITS_PER_KEY).clamp(*NUM_BITS.start(), *NUM_BITS.end());
        let num_blocks = num_bits.div_ceil(BITS_PER_BLOCK);
        let num_words = usize::try_from(num_blocks * WORDS_PER_BLOCK).expect("256 MiB at most");
        Self { words: vec![0; num_words], num_blocks }
    }

    /// Adds a key; says whether it may have been added before.
    #[expect(clippy::cast_possible_truncation, reason = "halves of a hash, and places in memory")]
    fn may_have_seen(&mut self, key: u128) -> bool {
        let (high, low) = ((key >> 64) as u64, key as u64);
        let block = ((u128::from(high) * u128::from(self.num_blocks)) >> 64) as usize * WORDS_PER_BLOCK as usize;
        let mut all = true;
        for probe in 0..4 {
            let bit = (low >> (9 * probe)) % BITS_PER_BLOCK;
            let word = &mut self.words[block + (bit / 64) as usize];
            all &= *word & (1 << (bit % 64)) != 0;
            *word |= 1 << (bit % 64);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_overlooked_and_few_are_suspected() {
        const KEYS: u64 = 200_000;
        let key = |number: u64| xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
        let mut filter = Filter::new(KEYS);
        let suspected = (0..KEYS).filter(|number| filter.may_have_seen(key(*number))).count();
        assert!(suspected < 4_000, "{suspected} of {KEYS} keys look as if they had come before");
        assert!((0..KEYS).all(|number| filter.may_have_seen(key(number))));
    }
}
