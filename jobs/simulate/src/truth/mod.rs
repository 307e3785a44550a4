//! What tables must hold after all traffic is processed: books per topic, rows per model.
//!
//! Written by plain code from what was generated, never by SQL and never by reading back.

mod check;
mod model;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use check::{Check, Differences};
pub(crate) use model::{Cell, Table, decimal_text};
pub use model::{Column, Kind, ModelTruth};

use crate::options::Options;
use crate::system::System;

/// The truth of one system's traffic, or of several that were merged. As JSON it is the truth file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// What the traffic was made of, per system.
    pub options: BTreeMap<String, Options>,
    /// The clock for which it holds: 48 hours after the last event of the stream, microseconds since the epoch, UTC.
    ///
    /// Rows that fall due by time, such as a nap that was missed, depend on it: build with `--as-of` at this instant.
    pub as_of_us: i64,
    /// Books per topic.
    pub topics: BTreeMap<String, TopicTruth>,
    /// Rows per model.
    pub models: BTreeMap<String, ModelTruth>,
}

/// Books of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicTruth {
    /// Records sent.
    pub records: u64,
    /// Rows that land.
    pub landed: u64,
    /// Copies.
    pub duplicates: u64,
    /// Landed rows that are late.
    pub late: u64,
    /// Records in quarantine, by class.
    pub quarantined: BTreeMap<String, u64>,
    /// Records without a value.
    pub tombstones: u64,
    /// Least event time that lands, microseconds since the epoch, UTC.
    pub min_event_us: Option<i64>,
    /// Greatest event time that lands, microseconds since the epoch, UTC.
    pub max_event_us: Option<i64>,
}

impl TopicTruth {
    /// Books a record in quarantine.
    pub(crate) fn quarantine(&mut self, class: &'static str) {
        *self.quarantined.entry(class.to_owned()).or_default() += 1;
    }

    /// The books after all records came once more: what landed before is a copy now.
    pub(crate) fn replayed(mut self) -> Self {
        self.records *= 2;
        self.duplicates = 2 * self.duplicates + self.landed;
        self.quarantined.values_mut().for_each(|count| *count *= 2);
        self.tombstones *= 2;
        self
    }
}

impl Truth {
    /// Adds another system's truth. The clock is that of zoner where it is among them: no other system's rows fall due by
    /// time.
    pub fn merge(&mut self, other: Self) {
        if !self.options.contains_key(System::Zoner.name()) {
            self.as_of_us = other.as_of_us;
        }
        self.options.extend(other.options);
        self.topics.extend(other.topics);
        self.models.extend(other.models);
    }

    /// The clock for which it holds, as `--as-of` takes it: `2025-03-10T00:32:43Z`.
    #[must_use]
    pub fn as_of(&self) -> String {
        let instant = chrono::DateTime::from_timestamp_micros(self.as_of_us).unwrap_or_default();
        instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    }

    /// Sums over all topics: records, landed, duplicates, quarantined.
    #[must_use]
    pub fn totals(&self) -> (u64, u64, u64, u64) {
        self.topics.values().fold((0, 0, 0, 0), |sum, topic| {
            (
                sum.0 + topic.records,
                sum.1 + topic.landed,
                sum.2 + topic.duplicates,
                sum.3 + topic.quarantined.values().sum::<u64>(),
            )
        })
    }

    /// Reads a truth file.
    ///
    /// # Errors
    /// When the text is no truth file; the error names line and column.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
