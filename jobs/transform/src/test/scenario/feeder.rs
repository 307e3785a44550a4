//! The seam to ingest, which this room does not know: who has it, hands it in.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use futures::future::BoxFuture;
use serde_json::{Map, Value as Json};
use tidemill_lake::Lake;
use tidemill_project::clock::Micros;

use crate::project::SentRecord;

/// What goes wrong on the way of records.
pub type FeedError = Box<dyn std::error::Error + Send + Sync>;

/// Brings records of stories the real road: decoded by their contracts, deduplicated, landed or put into quarantine.
pub trait Feeder: Debug + Send + Sync {
    /// Begins a story: topics that hold nothing.
    ///
    /// # Errors
    /// Contracts that cannot be read with these variables.
    fn begin(&self, ground: &Ground) -> Result<Box<dyn Feed>, FeedError>;
}

/// What a story stands on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The folder of the models project.
    pub models_dir: PathBuf,
    /// Variables in force.
    pub vars: Map<String, Json>,
    /// The story's own lake.
    pub lake: Lake,
}

/// The topics of one story.
pub trait Feed: Debug + Send + Sync {
    /// Appends a record to its partition. Returns whether any source reads the topic.
    fn send(&mut self, record: &SentRecord) -> bool;

    /// Brings what stands in the topics beyond the lake's progress into the lake. After an error the next call goes on from
    /// where the lake stands, as a new process would.
    fn ingest<'a>(&'a mut self, as_of_us: Micros, run_id: &'a str) -> BoxFuture<'a, Result<Books, FeedError>>;
}

/// What became of records, over all sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Rows that landed.
    pub landed: u64,
    /// Copies that were dropped.
    pub duplicates: u64,
    /// Records without value.
    pub tombstones: u64,
    /// Offsets that hold no record for a consumer.
    pub skipped: u64,
    /// Records in quarantine by class.
    pub quarantined: BTreeMap<String, u64>,
}

impl Books {
    /// Adds another round.
    pub(super) fn add(&mut self, other: Self) {
        self.landed += other.landed;
        self.duplicates += other.duplicates;
        self.tombstones += other.tombstones;
        self.skipped += other.skipped;
        for (class, count) in other.quarantined {
            *self.quarantined.entry(class).or_default() += count;
        }
    }

    /// The count of a key of `expect_books`.
    pub(super) fn count(&self, key: &str) -> u64 {
        match key {
            "landed" => self.landed,
            "duplicates" => self.duplicates,
            "tombstones" => self.tombstones,
            "skipped" => self.skipped,
            _ => self.quarantined.values().sum(),
        }
    }
}
