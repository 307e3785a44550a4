//! Books landed events on a thread of its own: a day has nearly as many rows per minute as clicks, and hashing them takes as
//! long as making the records. One thread books all events in the order in which they were sent, so that the truth does not
//! depend on how threads run.

use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::events::Fact;
use super::tables::Tables;
use crate::record::SinkError;
use crate::truth::Table;

/// Events that travel together.
const CHUNK: usize = 4_096;
/// Chunks that may wait: memory stays flat when booking is the slower of the two.
const WAITING_CHUNKS: usize = 8;

/// An event that landed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Landed {
    pub(super) us: i64,
    pub(super) fact: Fact,
    pub(super) is_late: bool,
}

/// Hands events over to be booked.
pub(super) struct Books {
    queue: SyncSender<Vec<Landed>>,
    chunk: Vec<Landed>,
}

/// Runs `work`, which hands over what landed, and returns the tables that come of it.
///
/// # Errors
/// Those of `work`.
pub(super) fn keep(
    mut tables: Tables,
    work: impl FnOnce(Books) -> Result<(), SinkError>,
) -> Result<Vec<Table>, SinkError> {
    thread::scope(|scope| {
        let (queue, chunks) = sync_channel::<Vec<Landed>>(WAITING_CHUNKS);
        let keeper = scope.spawn(move || {
            for landed in chunks.into_iter().flatten() {
                tables.book(landed);
            }
            tables.finish()
        });
        let worked = work(Books { queue, chunk: Vec::with_capacity(CHUNK) });
        let tables = keeper.join().unwrap_or_else(|panic| resume_unwind(panic));
        worked.map(|()| tables)
    })
}

impl Books {
    /// Books an event; none after it is earlier.
    pub(super) fn add(&mut self, landed: Landed) {
        self.chunk.push(landed);
        if self.chunk.len() == CHUNK {
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        // Nobody takes it only when the keeper panicked, and then its panic ends the stream.
        let _ = self.queue.send(chunk);
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.pass_on();
    }
}
