//! The quarantine: what no contract could take, kept with its bytes, listed, shown, replayed.
//!
//! An entry is never changed and never removed. A replay decodes it by today's contract, optionally after a JSON merge patch,
//! and lands it through the same deduplication as everything else; that it was replayed is a row of `ops/quarantine_replays`,
//! written after the row has landed. A crash in between leaves an entry that looks unreplayed: the next replay finds its key
//! in the lake, lands nothing, and notes `duplicate`. So a replay needs no progress of its own to be idempotent.

mod read;
mod replay;
pub(crate) mod store;

pub use read::{Filter, ListedEntry, list, show};
pub use replay::{Replay, ReplayOutcome, ReplayReport, replay};
pub use store::{Entry, Place};
