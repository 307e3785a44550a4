//! What a plan will read, told from the log before anything is read.

use serde::{Deserialize, Serialize};
use tidemill_lake::DataFile;

use super::changes::{TimeLayout, Touched, touched_by};
use super::inputs::Leaf;
use super::planner::Pinned;
use super::range::{RangeSet, TimeRange};
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
            for (_, input) in &pinned.inputs {
                reads.add(&input.as_ref().map(|input| input.files()).unwrap_or_default());
            }
        }
        Action::Batches { batches, .. } => {
            for (leaf, input) in &pinned.inputs {
                let files = input.as_ref().map(|input| input.files()).unwrap_or_default();
                reads.add(files.iter().filter(|file| is_read(file, leaf, batches)));
            }
        }
    }
    reads
}

/// Whether a batch reads a file: by its event times, seen through the context.
fn is_read(file: &DataFile, leaf: &Leaf, batches: &[PlannedBatch]) -> bool {
    leaf.reaches.iter().any(|reach| match (reach, &leaf.layout) {
        (Some(reach), Some(layout)) => {
            let read = batches.iter().map(|batch| TimeRange::from(batch.window).read_through(*reach));
            holds_any(file, layout, &RangeSet::new(read))
        }
        _ => !batches.is_empty(),
    })
}

fn holds_any(file: &DataFile, layout: &TimeLayout, ranges: &RangeSet) -> bool {
    match touched_by([file], layout) {
        Touched::Ranges(held) => held.ranges().iter().any(|held| ranges.intersects(*held)),
        Touched::All => true,
    }
}
