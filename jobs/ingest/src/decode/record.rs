//! What goes into the decoder and what comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use chrono::{Days, NaiveDate};
use tidemill_project::clock::Micros;

use super::columns::timestamp_type;
use super::error::{Cause, Result};

/// One Kafka record, or one row of a file as JSON text.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The value's bytes; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Asked by name when a key rule wants a header; [`NoHeaders`] for files.
    pub headers: &'a dyn Headers,
    /// The topic it was read from; `None` for files.
    pub topic: Option<&'a str>,
    /// Which of the contract's `topics` rules the topic belongs to: index into [`Contract::topics`].
    ///
    /// [`Contract::topics`]: tidemill_project::contract::Contract::topics
    pub topic_rule: Option<usize>,
    /// Kafka partition.
    pub partition: Option<i32>,
    /// Kafka offset.
    pub offset: Option<i64>,
    /// What stands for topic, partition and offset in a file: a text that no other record has. Asked for by the key rule
    /// `coordinates` alone.
    pub place_in_file: Option<&'a str>,
    /// Kafka's record timestamp, microseconds UTC; `None` for files, which are therefore never late (X11).
    pub timestamp_us: Option<Micros>,
    /// The run's clock, microseconds UTC: stands in for a missing timestamp in the plausible range (X5), nowhere else.
    pub clock_us: Micros,
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload may hold personal data, so only its size is shown.
        f.debug_struct("Record")
            .field("payload_bytes", &self.payload.map(<[u8]>::len))
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("timestamp_us", &self.timestamp_us)
            .finish_non_exhaustive()
    }
}

/// A record's headers, looked up only when a key rule asks for one.
pub trait Headers {
    /// The value of the header `name`; the last one when it occurs several times, as Kafka's own `lastHeader` has it.
    fn last(&self, name: &str) -> Option<&[u8]>;
}

/// A record without headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn last(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

impl Headers for [(&str, &[u8])] {
    fn last(&self, name: &str) -> Option<&[u8]> {
        self.iter().rev().find(|(header, _)| *header == name).map(|(_, value)| *value)
    }
}

impl<const N: usize> Headers for [(&str, &[u8]); N] {
    fn last(&self, name: &str) -> Option<&[u8]> {
        Headers::last(self.as_slice(), name)
    }
}

/// What became of one pushed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is this row of the batch, from 0.
    Landed(usize),
    /// It is the newest of [`Decoded::rejections`].
    Rejected(RejectionClass),
    /// It has no value: counted by the caller, neither landed nor rejected (X16).
    Tombstone,
}

/// Why a record cannot land: the closed list of X9, in the order in which the first fault gives the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectionClass {
    /// Longer than the contract's `max_record_bytes`.
    TooLarge,
    /// Zero bytes, or only blanks.
    EmptyValue,
    /// Not UTF-8, not JSON, or JSON that is no object.
    Malformed,
    /// A schema id that the registry does not know.
    UnknownSchema,
    /// A required field, or everything that could be the idempotency key, is absent or null.
    MissingField,
    /// A known field holds another JSON type than declared.
    WrongType,
    /// A time field in no form of X3.
    BadEventTime,
    /// The event time lies outside the plausible range (X5).
    EventTimeOutOfRange,
    /// Outside an allowed set, range, length or format; NaN and infinities.
    BadValue,
}

impl RejectionClass {
    /// All classes, in the order of precedence.
    pub const ALL: [Self; 9] = [
        Self::TooLarge,
        Self::EmptyValue,
        Self::Malformed,
        Self::UnknownSchema,
        Self::MissingField,
        Self::WrongType,
        Self::BadEventTime,
        Self::EventTimeOutOfRange,
        Self::BadValue,
    ];

    /// The name in quarantine, commit notes and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::EmptyValue => "empty_value",
            Self::Malformed => "malformed",
            Self::UnknownSchema => "unknown_schema",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::BadEventTime => "bad_event_time",
            Self::EventTimeOutOfRange => "event_time_out_of_range",
            Self::BadValue => "bad_value",
        }
    }
}

impl fmt::Display for RejectionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record that goes to quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Index of the record among those pushed since [`begin`](super::Decoder::begin), from 0.
    pub record: usize,
    /// The class of its first fault.
    pub class: RejectionClass,
    /// All its faults, in the order of X9, each naming its field. Never holds a value of the payload, which may be personal.
    pub message: String,
}

/// The partition of the raw table that a row belongs to, by its event time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventPartition {
    /// Days since 1970-01-01, the value of `event_date`.
    pub event_date: i32,
    /// 0 to 23 where the contract says `partition_by: hour`.
    pub event_hour: Option<i32>,
}

impl EventPartition {
    /// The calendar day, `2025-03-09`.
    #[must_use]
    pub fn date(&self) -> NaiveDate {
        let days = Days::new(u64::from(self.event_date.unsigned_abs()));
        let date = if self.event_date < 0 {
            NaiveDate::default().checked_sub_days(days)
        } else {
            NaiveDate::default().checked_add_days(days)
        };
        date.unwrap_or_default()
    }

    /// Partition column -> value as Delta writes it.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, Option<String>> {
        let mut values = BTreeMap::from([("event_date".to_owned(), Some(self.date().to_string()))]);
        if let Some(hour) = self.event_hour {
            values.insert("event_hour".to_owned(), Some(hour.to_string()));
        }
        values
    }
}

/// What the caller needs of a landed row without looking into the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of the record among those pushed since [`begin`](super::Decoder::begin), from 0. Ascending.
    pub record: usize,
    /// [`fingerprint`](super::fingerprint) of `_key`.
    pub fingerprint: u128,
    /// Event time, microseconds UTC.
    pub event_at_us: Micros,
    /// Index into [`Decoded::partitions`].
    pub partition: usize,
    /// Lateness above the contract's grace (X11).
    pub is_late: bool,
}

/// A decoded batch.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The landed rows in the order of the records: all raw columns but `_ingested_at` and the partition columns.
    pub batch: RecordBatch,
    /// One entry per row of `batch`.
    pub rows: Vec<Row>,
    /// The distinct partitions of the rows, in the order of their first row.
    pub partitions: Vec<EventPartition>,
    /// The records that cannot land, in order.
    pub rejections: Vec<Rejection>,
    /// Landed records whose payload disagrees with what their topic stands for; the payload won (Z5).
    pub topic_disagreements: usize,
}

impl Decoded {
    /// Puts `_ingested_at` where the raw table has it, so that the rows are as a data file of the table holds them.
    ///
    /// Takes any selection of `batch`'s rows, after the duplicates are gone.
    ///
    /// # Errors
    /// When `batch` does not come from a decoder: it has no `_extra`.
    pub fn stamp(batch: &RecordBatch, ingested_at_us: Micros) -> Result<RecordBatch> {
        let at = batch.schema().index_of("_extra").map_err(|source| Cause::Arrow { source })?;
        let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
        fields.insert(at, Arc::new(Field::new("_ingested_at", timestamp_type(), true)));
        let mut columns = batch.columns().to_vec();
        let stamps = TimestampMicrosecondArray::from_value(ingested_at_us, batch.num_rows()).with_timezone("UTC");
        columns.insert(at, Arc::new(stamps));
        let stamped = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        Ok(stamped.map_err(|source| Cause::Arrow { source })?)
    }
}
