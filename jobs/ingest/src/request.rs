//! What a run is asked to do, what it tells while it works, and what it leaves behind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tidemill_lake::metadata::{FileBooks, PartitionBooks};
use tidemill_project::clock::Micros;
use tidemill_project::contract::Contract;
use tidemill_project::{SourceName, TableVersion};

use crate::Error;

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reads up to the offsets that stood at start (the last stable ones) and ends; for schedulers.
    Drain,
    /// Runs until it is cancelled.
    Follow,
}

/// One call of [`ingest`](crate::ingest).
#[derive(Clone, Debug)]
pub struct IngestRequest {
    /// The sources to read, side by side; each with a consumer of its own.
    pub contracts: Vec<Contract>,
    /// When the run ends by itself.
    pub mode: Mode,
    /// Ends each source after this many records.
    pub max_records: Option<u64>,
    /// Ends the run after this time.
    pub max_duration: Option<Duration>,
    /// Goes into every commit.
    pub run_id: String,
    /// The run's clock where the watermark is concerned (X12); the machine's unless given.
    pub as_of_us: Option<Micros>,
}

/// One commit, told to the observer.
#[derive(Clone, Debug)]
pub struct BatchSummary {
    /// The source.
    pub source: SourceName,
    /// The commit's version of the raw table.
    pub version: TableVersion,
    /// Books per partition.
    pub partitions: Vec<PartitionBooks>,
    /// Books per file.
    pub files: Vec<FileBooks>,
    /// Quarantined records by class.
    pub quarantined: BTreeMap<&'static str, u64>,
    /// Payload bytes of the batch's records.
    pub bytes: u64,
    /// From the batch's first record to its commit.
    pub elapsed: Duration,
    /// Least and greatest event time that landed.
    pub event_at_us: Option<(Micros, Micros)>,
    /// W of the source after the commit.
    pub watermark_us: Option<Micros>,
}

/// Hears of progress. Calls come from the run's own tasks and must return quickly.
pub trait IngestObserver: Send + Sync {
    /// A source is about to be read: the number of records between the lake and the ends that stand now, when known.
    fn source_started(&self, source: &SourceName, backlog: Option<u64>) {
        let _ = (source, backlog);
    }

    /// A batch is in the lake.
    fn batch_committed(&self, summary: &BatchSummary) {
        let _ = summary;
    }

    /// Something that a person may want to know, once.
    fn warned(&self, source: &SourceName, warning: &str) {
        let _ = (source, warning);
    }

    /// A partition cannot be read on, while the source's others are. The error stands in the report at the end.
    fn partition_stopped(&self, source: &SourceName, error: &Error) {
        let _ = (source, error);
    }

    /// A source has come to its end.
    fn source_finished(&self, report: &SourceReport) {
        let _ = report;
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl IngestObserver for NoObserver {}

/// What a run did.
#[derive(Debug, Default, Serialize)]
pub struct IngestReport {
    /// By source, in the order of the request.
    pub sources: Vec<SourceReport>,
}

impl IngestReport {
    /// Takes the first error out, so that a caller can end with it after having told the rest.
    pub fn take_error(&mut self) -> Option<Error> {
        self.sources.iter_mut().find_map(|source| (!source.errors.is_empty()).then(|| source.errors.remove(0)))
    }

    /// Rows that landed, over all sources.
    #[must_use]
    pub fn landed(&self) -> u64 {
        self.sources.iter().map(SourceReport::landed).sum()
    }
}

/// What a run did to one source.
#[derive(Serialize)]
pub struct SourceReport {
    /// The source.
    #[serde(serialize_with = "as_text")]
    pub source: SourceName,
    /// Books per partition, summed over the run's commits, sorted.
    pub partitions: Vec<PartitionBooks>,
    /// Books per file, in the order of reading.
    pub files: Vec<FileBooks>,
    /// Quarantined records by class.
    pub quarantined: BTreeMap<&'static str, u64>,
    /// Commits made to the raw table.
    pub commits: u64,
    /// The raw table's version at the end.
    pub version: TableVersion,
    /// W of the source, when known.
    pub watermark_us: Option<Micros>,
    /// Topics that do not exist and the like.
    pub warnings: Vec<String>,
    /// Partitions that were stopped by a gap, and what ended the source. Serialized as texts.
    #[serde(serialize_with = "as_texts")]
    pub errors: Vec<Error>,
}

impl SourceReport {
    pub(crate) fn new(source: SourceName) -> Self {
        Self {
            source,
            partitions: Vec::new(),
            files: Vec::new(),
            quarantined: BTreeMap::new(),
            commits: 0,
            version: TableVersion(0),
            watermark_us: None,
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Rows that landed.
    #[must_use]
    pub fn landed(&self) -> u64 {
        self.sum(|books| books.landed, |books| books.landed)
    }

    /// Copies that were dropped.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.sum(|books| books.duplicates, |books| books.duplicates)
    }

    /// Records that went to quarantine.
    #[must_use]
    pub fn quarantined(&self) -> u64 {
        self.sum(|books| books.quarantined, |books| books.quarantined)
    }

    fn sum(&self, of_partition: impl Fn(&PartitionBooks) -> u64, of_file: impl Fn(&FileBooks) -> u64) -> u64 {
        self.partitions.iter().map(of_partition).sum::<u64>() + self.files.iter().map(of_file).sum::<u64>()
    }
}

impl fmt::Debug for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceReport")
            .field("source", &self.source)
            .field("partitions", &self.partitions)
            .field("files", &self.files)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

fn as_text<S: serde::Serializer>(name: &SourceName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

fn as_texts<S: serde::Serializer>(errors: &[Error], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(errors.iter().map(ToString::to_string))
}
