//! Where records come from.
//!
//! # What a source promises
//! A source hands over *events* in one order, through one bounded channel. Each partition is read in spans: a span begins
//! with [`Event::Positioned`], at the offset that the lake names (never at a group offset), has a number of its own, its
//! [`Slot`], and holds every record from there on, in offset order, without a hole. When the lake and a span disagree,
//! because somebody else committed those offsets, the span is abandoned and the partition is positioned anew under a fresh
//! slot: records that were still on their way belong to the old slot and are recognised by it.

pub(crate) mod chunk;
pub(crate) mod files;
pub(crate) mod kafka;
pub(crate) mod witness;

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

use tidemill_lake::metadata::LastRecord;
use tidemill_project::clock::Micros;
use tidemill_project::{Offset, TopicPartition};

use crate::Error;
use chunk::Chunk;

/// The number of one span of one partition. Never used twice in a run.
pub(crate) type Slot = u32;

/// A span begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Positioned {
    /// The span.
    pub(crate) slot: Slot,
    /// Its partition.
    pub(crate) partition: TopicPartition,
    /// What the lake said when the span was positioned; `None` when it had never seen the partition.
    pub(crate) base: Option<Offset>,
    /// First offset that the span accounts for: `base`, unless the partition starts or starts anew.
    pub(crate) from: Offset,
    /// First offset that is read; greater than `from` when offsets in between no longer exist.
    pub(crate) start: Offset,
    /// The topic was re-created: `base` counts in the old log, `from` in the new one.
    pub(crate) restarted: bool,
}

/// Where the lake stands in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LakeOffset {
    /// Next offset to read; `None` for a partition that the lake has never seen.
    pub(crate) next: Option<Offset>,
    /// The last record below it, by which the log is known again.
    pub(crate) last: Option<LastRecord>,
}

/// Where the lake stands, by partition.
pub(crate) type LakeOffsets = HashMap<TopicPartition, LakeOffset>;

/// What a source tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// Partitions were assigned to this process: where does the lake stand? The source waits for the answer.
    Assigned { partitions: Vec<TopicPartition>, reply: SyncSender<LakeOffsets> },
    /// A span begins.
    Positioned(Positioned),
    /// Records.
    Chunk(Chunk),
    /// No record lies between the last one handed over and `next`; whatever those offsets hold is not for a consumer.
    Advanced { slot: Slot, next: Offset },
    /// At `at_us` the partition held nothing beyond what was handed over.
    Drained { slot: Slot, next: Offset, at_us: Micros },
    /// Spans end because their partitions go to another process. The source waits for the answer, which comes once their
    /// records are in the lake.
    Revoked { slots: Vec<Slot>, done: SyncSender<()> },
    /// A partition cannot be read on; the others can.
    Stopped { error: Error },
    /// Something that a person may want to know.
    Warned { warning: String },
    /// Every partition of the source's topics that exists now, with its first offset and its end: W is the least over all
    /// of them, and the distance to the lake is the backlog.
    Partitions { ends: Vec<(TopicPartition, Offset, Offset)> },
    /// The last event.
    Ended { result: Result<(), Error> },
}

/// What the lake's side asks of a source. Never waits.
#[derive(Debug)]
pub(crate) enum Command {
    /// The partition of this slot was taken over: read on from where the lake stands.
    Reposition { slot: Slot, base: Offset },
    /// Commits group offsets, for lag tools.
    CommitOffsets { offsets: HashMap<TopicPartition, Offset> },
    /// Everything is in the lake; the source may go.
    Close,
}
