//! What a plan will read, told from the log before anything is read.

use serde::{Deserialize, Serialize};
use tidemill_lake::{DataFile, LiveFileRef, Table};

use super::changes::{TimeLayout, may_hold};
use super::inputs::Leaf;
use super::planner::Pinned;
use super::range::{RangeSet, Reach, TimeRange};
use super::{Action, PlannedBatch};

/// Files and their bytes. An upper bound: a query reads the columns that it needs, and a file that holds the event times of
/// several batches counts once. For keyed models it is the changed files; what the touched keys lie in is known only when those
/// were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    /// Data files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

impl Reads {
    fn add<'a>(&mut self, files: impl IntoIterator<Item = &'a DataFile>) {
        for file in files {
            self.files += 1;
            self.bytes += file.size;
        }
    }

    fn add_live(&mut self, table: &Table, is_read: impl Fn(LiveFileRef<'_>) -> bool) {
        for file in table.live_files().filter(|file| is_read(*file)) {
            self.files += 1;
            self.bytes += file.size();
        }
    }
}

/// What an action reads of the pinned inputs.
pub(super) fn reads(action: &Action, pinned: &Pinned) -> Reads {
    let mut reads = Reads::default();
    match action {
        Action::Inline | Action::Skip | Action::Record => {}
        Action::Append { files, .. } => reads.add(files),
        Action::Keys { changes, .. } => {
            for change in changes {
                reads.add(change.added.iter().chain(&change.removed));
            }
        }
        Action::Whole | Action::Upsert => {
            pinned
                .inputs
                .iter()
                .filter_map(|(_, input)| input.as_ref())
                .for_each(|input| reads.add_live(input, |_| true));
        }
        Action::Batches { batches, .. } => {
            for (leaf, input) in &pinned.inputs {
                let Some(input) = input else { continue };
                let read_by = ReadBy::new(leaf, batches);
                reads.add_live(input, |file| read_by.reads(file));
            }
        }
    }
    reads
}

/// Which files some batches read of an input: by their event times, seen through the context.
struct ReadBy<'a> {
    /// For each way in which the input is read, the event times; `None` for all of it.
    ways: Vec<Option<(&'a TimeLayout, RangeSet)>>,
    is_empty: bool,
}

impl<'a> ReadBy<'a> {
    fn new(leaf: &'a Leaf, batches: &[PlannedBatch]) -> Self {
        let way = |reach: &Option<Reach>| {
            let (reach, layout) = ((*reach)?, leaf.layout.as_ref()?);
            let read = batches.iter().map(|batch| TimeRange::from(batch.window).read_through(reach));
            Some((layout, RangeSet::new(read)))
        };
        Self { ways: leaf.reaches.iter().map(way).collect(), is_empty: batches.is_empty() }
    }

    fn reads(&self, file: LiveFileRef<'_>) -> bool {
        self.ways.iter().any(|way| match way {
            Some((layout, ranges)) => may_hold(file, layout, ranges),
            None => !self.is_empty,
        })
    }
}
