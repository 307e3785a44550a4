//! Recognises a log by the last record that was read of it.
//!
//! An offset says nothing about which log it counts in. A topic that was deleted, created again and filled beyond our offset
//! looks like the old one to every client that asks for offsets, and the records below our offset would be lost without a
//! word. Brokers know an id per topic (KIP-516), but librdkafka hands it out through its administration calls only, and older
//! brokers have none. So each commit keeps a fingerprint of the last record that it covers, and reading resumes at that
//! record instead of behind it: what arrives first must be the same record, else the log is another one. That costs one
//! record per partition and start. A record that is gone meanwhile (expired, compacted) proves nothing, and reading goes on.

use tidemill_lake::metadata::LastRecord;
use xxhash_rust::xxh3::Xxh3;

/// Builds what a commit keeps of a record.
pub(crate) fn last_record(
    offset: i64,
    timestamp_us: Option<i64>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> LastRecord {
    let mut hasher = Xxh3::new();
    hasher.update(&timestamp_us.unwrap_or(i64::MIN).to_le_bytes());
    for part in [key, value] {
        // Null, empty, and where one part ends and the next begins, all make a difference.
        hasher.update(&part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    LastRecord { offset, fingerprint: format!("{:032x}", hasher.digest128()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_record_makes_a_difference() {
        let one = |timestamp, key, value| last_record(7, timestamp, key, value);
        let all = [
            one(Some(1), Some(&b"k"[..]), Some(&b"v"[..])),
            one(Some(2), Some(b"k"), Some(b"v")),
            one(None, Some(b"k"), Some(b"v")),
            one(Some(1), None, Some(b"v")),
            one(Some(1), Some(b""), Some(b"v")),
            one(Some(1), Some(b"k"), None),
            one(Some(1), Some(b"kv"), Some(b"")),
        ];
        for (number, record) in all.iter().enumerate() {
            assert!(all[..number].iter().all(|other| other != record), "{number}");
        }
        assert_eq!(all[0], one(Some(1), Some(b"k"), Some(b"v")));
    }
}
