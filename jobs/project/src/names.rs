//! Names and numbers that cross the edges of rooms, each with a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Kafka topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Topic(pub String);

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// The partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Builds a topic-partition.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: Topic(topic.into()), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// An offset in one Kafka partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Offsets `[from, to)` of one Kafka partition, as one ingest commit covers them.
///
/// `to` is the next offset to read, the number that the table's `txn` action stores. `from` travels along although it could
/// be looked up: a gap or a replay is then noticed by whoever joins two ranges, not guessed by whoever reads the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    from: Offset,
    to: Offset,
}

impl OffsetRange {
    /// Builds a range; `None` if `to < from`. `from == to` is legal: a poll that found nothing.
    #[must_use]
    pub fn new(from: Offset, to: Offset) -> Option<Self> {
        (from <= to).then_some(Self { from, to })
    }

    /// The first offset.
    #[must_use]
    pub fn from(self) -> Offset {
        self.from
    }

    /// The offset after the last one.
    #[must_use]
    pub fn to(self) -> Offset {
        self.to
    }

    /// The number of offsets, records or not.
    #[must_use]
    pub fn num_offsets(self) -> i64 {
        self.to.0 - self.from.0
    }

    /// Appends `next`; `None` when a gap or an overlap lies between the two.
    #[must_use]
    pub fn then(self, next: Self) -> Option<Self> {
        (self.to == next.from).then_some(Self { from: self.from, to: next.to })
    }
}

/// A version of a Delta table, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableVersion(pub u64);

impl TableVersion {
    /// The version that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for TableVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// A source table: dbt's source name and table name, `zoner.user_activity`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceName {
    /// dbt's source, e.g. `zoner`.
    pub source: String,
    /// The table of that source, e.g. `user_activity`.
    pub table: String,
}

impl SourceName {
    /// Builds a source name.
    pub fn new(source: impl Into<String>, table: impl Into<String>) -> Self {
        Self { source: source.into(), table: table.into() }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.source, self.table)
    }
}
