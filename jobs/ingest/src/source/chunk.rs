//! Records on their way from a source to the decoder, many to an allocation.

use bytes::Bytes;

use super::Slot;

/// Records in the order of reading, with all their bytes in one arena.
///
/// A `Vec` for every key, value and header would cost more than decoding them. A chunk holds its bytes until the batch that
/// it belongs to is decoded, because a record that fails goes to quarantine with its original bytes.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    arena: Vec<u8>,
    records: Vec<RawRecord>,
}

#[derive(Clone, Copy, Debug)]
struct RawRecord {
    slot: Slot,
    offset: i64,
    timestamp_us: Option<i64>,
    value: Span,
    key: Span,
    headers: Span,
}

/// A range of the arena; `start == u32::MAX` stands for null.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const NULL: Self = Self { start: u32::MAX, len: 0 };
}

/// One record, borrowed from its chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordRef<'a> {
    /// The span that it belongs to.
    pub(crate) slot: Slot,
    /// Offset in its partition, or record number in its file.
    pub(crate) offset: i64,
    /// Kafka's record timestamp.
    pub(crate) timestamp_us: Option<i64>,
    /// The value; `None` is a tombstone.
    pub(crate) value: Option<&'a [u8]>,
    /// The key.
    pub(crate) key: Option<&'a [u8]>,
    /// The headers.
    pub(crate) headers: HeadersRef<'a>,
}

/// Headers as they lie in the arena: length and bytes of the name, length and bytes of the value, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadersRef<'a>(&'a [u8]);

const NULL_LEN: u32 = u32::MAX;

impl Chunk {
    pub(crate) fn with_capacity(num_records: usize, num_bytes: usize) -> Self {
        Self { arena: Vec::with_capacity(num_bytes), records: Vec::with_capacity(num_records) }
    }

    /// Takes a record in. Headers are given by their names and values.
    pub(crate) fn push<'h>(
        &mut self,
        slot: Slot,
        offset: i64,
        timestamp_us: Option<i64>,
        value: Option<&[u8]>,
        key: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let value = self.keep(value);
        let key = self.keep(key);
        let start = self.arena.len();
        for (name, value) in headers {
            self.arena.extend_from_slice(&length(name.len()).to_le_bytes());
            self.arena.extend_from_slice(name.as_bytes());
            self.arena.extend_from_slice(&value.map_or(NULL_LEN, |value| length(value.len())).to_le_bytes());
            self.arena.extend_from_slice(value.unwrap_or_default());
        }
        let headers = Span { start: length(start), len: length(self.arena.len() - start) };
        self.records.push(RawRecord { slot, offset, timestamp_us, value, key, headers });
    }

    fn keep(&mut self, bytes: Option<&[u8]>) -> Span {
        let Some(bytes) = bytes else { return Span::NULL };
        let start = length(self.arena.len());
        self.arena.extend_from_slice(bytes);
        Span { start, len: length(bytes.len()) }
    }

    fn bytes(&self, span: Span) -> Option<&[u8]> {
        (span.start != u32::MAX).then(|| &self.arena[span.start as usize..][..span.len as usize])
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of keys, values and headers.
    pub(crate) fn num_bytes(&self) -> usize {
        self.arena.len()
    }

    /// The span of one record.
    pub(crate) fn slot(&self, index: usize) -> Slot {
        self.records[index].slot
    }

    pub(crate) fn get(&self, index: usize) -> RecordRef<'_> {
        let record = self.records[index];
        RecordRef {
            slot: record.slot,
            offset: record.offset,
            timestamp_us: record.timestamp_us,
            value: self.bytes(record.value),
            key: self.bytes(record.key),
            headers: HeadersRef(self.bytes(record.headers).unwrap_or_default()),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Chunks close at a few mebibytes and Kafka's records end at 2 GiB, so every length fits.
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("a chunk holds less than 4 GiB")
}

impl<'a> HeadersRef<'a> {
    /// Names and values in the order of the record.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let name_len = take_length(&mut rest)?;
            let (name, after) = rest.split_at_checked(name_len as usize)?;
            rest = after;
            let value = match take_length(&mut rest)? {
                NULL_LEN => None,
                len => {
                    let (value, after) = rest.split_at_checked(len as usize)?;
                    rest = after;
                    Some(value)
                }
            };
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }
}

impl crate::decode::Headers for HeadersRef<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        self.iter().filter(|(header, _)| *header == name).last().and_then(|(_, value)| value)
    }
}

fn take_length(rest: &mut &[u8]) -> Option<u32> {
    let (head, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*head))
}

/// A record that outlives its chunk: on its way to quarantine.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRecord {
    pub(crate) offset: i64,
    pub(crate) timestamp_us: Option<i64>,
    pub(crate) value: Option<Bytes>,
    pub(crate) key: Option<Bytes>,
    /// Name and value of each header.
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
}

impl RecordRef<'_> {
    pub(crate) fn to_owned_record(self) -> OwnedRecord {
        OwnedRecord {
            offset: self.offset,
            timestamp_us: self.timestamp_us,
            value: self.value.map(Bytes::copy_from_slice),
            key: self.key.map(Bytes::copy_from_slice),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut chunk = Chunk::default();
        chunk.push(1, 7, Some(5), Some(b"value"), None, [("a", Some(&b"1"[..])), ("b", None)].into_iter());
        chunk.push(2, 8, None, None, Some(b""), std::iter::empty());

        let first = chunk.get(0);
        assert_eq!((first.slot, first.offset, first.timestamp_us), (1, 7, Some(5)));
        assert_eq!((first.value, first.key), (Some(&b"value"[..]), None));
        assert_eq!(first.headers.iter().collect::<Vec<_>>(), [("a", Some(&b"1"[..])), ("b", None)]);

        let second = chunk.get(1);
        assert_eq!((second.value, second.key), (None, Some(&b""[..])));
        assert_eq!(second.headers.iter().count(), 0);
    }
}
