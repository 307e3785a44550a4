//! The quarantine's table: bad records with their bytes, in the order in which they were met.
//!
//! Grain: one row per record of one source. It keeps `txn` offsets of its own, so that a crash between its commit and the
//! raw table's neither loses nor doubles an entry:
//!
//! | step | a crash after it leaves | the next run |
//! | --- | --- | --- |
//! | quarantine commit, `txn` = end of batch | entries without the raw table's commit | reads the batch again, writes only entries at or behind the quarantine's `txn`: none |
//! | raw commit | both | goes on |

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use bytes::Bytes;
use serde_json::Value;
use tidemill_lake::metadata::{Act, CommitNote, FileBooks, IngestNote, PartitionBooks};
use tidemill_lake::{CommitRequest, DataFile, Lake, PartitionedBatch, Table, ops};
use tidemill_project::SourceName;
use tidemill_project::clock::{Clock, Micros};

use crate::error::Cause;
use crate::retry::{Retry, Tried, Tries};
use crate::{Error, Result};

/// Where an entry came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Kafka record.
    Kafka {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
    /// A record of a file.
    File {
        /// Path as given.
        path: String,
        /// Hash of the content.
        content: String,
        /// Record, from 0.
        record: i64,
    },
}

impl Place {
    /// The entry's id: `<topic>/<partition>/<offset>` or `<content>/<record>`.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Kafka { topic, partition, offset } => format!("{topic}/{partition}/{offset}"),
            Self::File { content, record, .. } => format!("{content}/{record}"),
        }
    }

    fn number(&self) -> i64 {
        match self {
            Self::Kafka { offset, .. } => *offset,
            Self::File { record, .. } => *record,
        }
    }
}

/// A record in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The source that refused it.
    pub source: String,
    /// Where it came from.
    pub place: Place,
    /// Its class (X9), e.g. `malformed`.
    pub class: String,
    /// What is wrong, naming the fields.
    pub message: String,
    /// The value's original bytes.
    pub payload: Option<Bytes>,
    /// The key's original bytes.
    pub key: Option<Bytes>,
    /// Names and values of the headers.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Kafka's record timestamp, microseconds UTC.
    pub timestamp_us: Option<Micros>,
    /// When it was put here, microseconds UTC.
    pub quarantined_at_us: Micros,
}

/// The entries of one partition or file in one batch.
#[derive(Debug)]
pub(crate) struct Lot {
    /// The same application id as in the raw table.
    pub(crate) app_id: String,
    /// Offsets or records `[from, to)` that the batch covers.
    pub(crate) from: i64,
    /// See `from`.
    pub(crate) to: i64,
    /// The numbers count in a new log: what the quarantine's `txn` says counts in the old one.
    pub(crate) restarted: bool,
    /// In order.
    pub(crate) entries: Vec<Entry>,
}

/// Writes entries. Cheap while nothing is bad: the table is opened with the first entry.
#[derive(Debug)]
pub(crate) struct QuarantineWriter {
    lake: Lake,
    clock: Clock,
    run_id: String,
    table: Option<Table>,
}

impl QuarantineWriter {
    pub(crate) fn new(lake: Lake, clock: Clock, run_id: String) -> Self {
        Self { lake, clock, run_id, table: None }
    }

    /// Writes the entries that are not there yet and moves the `txn` of their partitions and files to the end of the batch.
    /// Idempotent: the same lots again, or lots cut differently over the same records, add nothing.
    pub(crate) async fn write(&mut self, name: &SourceName, lots: &[Lot], retry: &Retry) -> Result<()> {
        if lots.iter().all(|lot| lot.entries.is_empty()) {
            return Ok(());
        }
        if self.table.is_none() {
            let spec = ops::quarantine();
            let open = || self.lake.open_or_create(&spec, &self.run_id);
            let table = retry.insist(name, "open the quarantine", open).await?;
            self.table = Some(table);
        }
        let Some(table) = self.table.as_mut() else { return Ok(()) };
        let mut tries = Tries::default();
        while let Err(source) = table.refresh().await {
            retry.bear(name, "refresh the quarantine", source, &mut tries).await?;
        }
        let mut written: Option<(Vec<String>, Vec<DataFile>)> = None;
        loop {
            let mut fresh: Vec<&Entry> = Vec::new();
            let mut txns = BTreeMap::new();
            let mut note = IngestNote { source: name.to_string(), ..IngestNote::default() };
            for lot in lots.iter().filter(|lot| !lot.entries.is_empty()) {
                let known = table.txn_version(&lot.app_id).filter(|_| !lot.restarted).unwrap_or(i64::MIN);
                let new: Vec<&Entry> = lot.entries.iter().filter(|entry| entry.place.number() >= known).collect();
                if !new.is_empty() {
                    txns.insert(lot.app_id.clone(), lot.to.max(known));
                    keep_books(&mut note, lot, &new);
                    fresh.extend(new);
                }
            }
            if fresh.is_empty() {
                return Ok(());
            }
            let ids: Vec<String> = fresh.iter().map(|entry| entry.place.id()).collect();
            let add = match written.take() {
                Some((known, files)) if known == ids => files,
                _ => {
                    let rows = vec![shape(name, &fresh)?];
                    retry.insist(name, "write to quarantine", || table.write_files(rows.clone())).await?
                }
            };
            let note =
                CommitNote { commit_id: self.clock.new_id(), run_id: self.run_id.clone(), act: Act::Ingest(note) };
            let request = CommitRequest {
                add: add.clone(),
                remove: Vec::new(),
                txns,
                operation: "WRITE",
                data_change: true,
                note,
            };
            match retry.commit(name, table, request).await? {
                Tried::Won { version, .. } => {
                    tracing::info!(source = %name, %version, num_entries = ids.len(), "records quarantined");
                    return Ok(());
                }
                Tried::Lost(_) => written = Some((ids, add)),
            }
        }
    }
}

/// What the quarantine's commit says of itself: how many entries of which partition or file.
fn keep_books(note: &mut IngestNote, lot: &Lot, entries: &[&Entry]) {
    let Some(first) = entries.first() else { return };
    let quarantined = entries.len() as u64;
    match &first.place {
        Place::Kafka { topic, partition, .. } => note.partitions.push(PartitionBooks {
            topic: topic.clone(),
            partition: *partition,
            from: lot.from,
            to: lot.to,
            quarantined,
            ..PartitionBooks::default()
        }),
        Place::File { path, content, .. } => note.files.push(FileBooks {
            path: path.clone(),
            content: content.clone(),
            from: lot.from,
            to: lot.to,
            quarantined,
            ..FileBooks::default()
        }),
    }
}

/// Rows of one date: entries of one batch are put here at one instant.
fn shape(name: &SourceName, entries: &[&Entry]) -> Result<PartitionedBatch, Error> {
    let schema = ops::quarantine().file_schema();
    let texts = |of: &dyn Fn(&Entry) -> Option<String>| -> ArrayRef {
        Arc::new(entries.iter().map(|entry| of(entry)).collect::<StringArray>())
    };
    let bytes = |of: &dyn for<'e> Fn(&'e Entry) -> Option<&'e [u8]>| -> ArrayRef {
        Arc::new(entries.iter().map(|entry| of(entry)).collect::<BinaryArray>())
    };
    let numbers = |of: &dyn Fn(&Place) -> Option<i64>| -> ArrayRef {
        Arc::new(entries.iter().map(|entry| of(&entry.place)).collect::<Int64Array>())
    };
    let instants = |of: &dyn Fn(&Entry) -> Option<Micros>| -> ArrayRef {
        let values = entries.iter().map(|entry| of(entry)).collect::<TimestampMicrosecondArray>();
        Arc::new(values.with_timezone("UTC"))
    };
    let partitions = entries.iter().map(|entry| match &entry.place {
        Place::Kafka { partition, .. } => Some(*partition),
        Place::File { .. } => None,
    });
    let columns = vec![
        texts(&|entry| Some(entry.place.id())),
        texts(&|entry| Some(entry.source.clone())),
        texts(&|entry| Some(entry.class.clone())),
        texts(&|entry| Some(entry.message.clone())),
        bytes(&|entry| entry.payload.as_deref()),
        bytes(&|entry| entry.key.as_deref()),
        texts(&|entry| (!entry.headers.is_empty()).then(|| headers_to_text(&entry.headers))),
        texts(&|entry| match &entry.place {
            Place::Kafka { topic, .. } => Some(topic.clone()),
            Place::File { .. } => None,
        }),
        Arc::new(partitions.collect::<Int32Array>()),
        numbers(&|place| match place {
            Place::Kafka { offset, .. } => Some(*offset),
            Place::File { .. } => None,
        }),
        texts(&|entry| match &entry.place {
            Place::File { path, .. } => Some(path.clone()),
            Place::Kafka { .. } => None,
        }),
        numbers(&|place| match place {
            Place::File { record, .. } => Some(*record),
            Place::Kafka { .. } => None,
        }),
        instants(&|entry| entry.timestamp_us),
        instants(&|entry| Some(entry.quarantined_at_us)),
    ];
    let batch =
        RecordBatch::try_new(schema, columns).map_err(|source| Cause::Shape { source_name: name.clone(), source })?;
    let at_us = entries.first().map(|entry| entry.quarantined_at_us).unwrap_or_default();
    let date = chrono::DateTime::from_timestamp_micros(at_us).unwrap_or_default().date_naive();
    Ok(PartitionedBatch {
        partition_values: BTreeMap::from([("quarantined_date".to_owned(), Some(date.to_string()))]),
        batches: vec![batch],
        tags: BTreeMap::new(),
    })
}

/// Headers as JSON: an array of `[name, value]`, the value a text, `null`, or `{"hex": …}` where it is not UTF-8.
pub(crate) fn headers_to_text(headers: &[(String, Option<Bytes>)]) -> String {
    let value = |bytes: &Option<Bytes>| match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => serde_json::json!({ "hex": to_hex(bytes) }),
        },
    };
    let pairs = headers.iter().map(|(name, bytes)| Value::from(vec![Value::from(name.as_str()), value(bytes)]));
    Value::Array(pairs.collect()).to_string()
}

/// The inverse of [`headers_to_text`]; `None` when the text is something else.
pub(crate) fn headers_from_text(text: &str) -> Option<Vec<(String, Option<Bytes>)>> {
    let pairs: Vec<(String, Value)> = serde_json::from_str(text).ok()?;
    pairs
        .into_iter()
        .map(|(name, value)| {
            let bytes = match value {
                Value::Null => None,
                Value::String(text) => Some(Bytes::from(text)),
                Value::Object(object) => Some(from_hex(object.get("hex")?.as_str()?)?),
                _ => return None,
            };
            Some((name, bytes))
        })
        .collect()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_as_text() {
        let headers = vec![
            ("trace".to_owned(), Some(Bytes::from_static(b"a\"b"))),
            ("empty".to_owned(), None),
            ("binary".to_owned(), Some(Bytes::from_static(&[0xff, 0x00, 0x9c]))),
        ];
        let text = headers_to_text(&headers);
        assert_eq!(text, r#"[["trace","a\"b"],["empty",null],["binary",{"hex":"ff009c"}]]"#);
        assert_eq!(headers_from_text(&text), Some(headers));
    }
}
