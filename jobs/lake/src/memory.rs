//! Tables that a process has opened before.
//!
//! A process that opens the same tables again and again, cycle after cycle, would load each from its checkpoint every time. With a
//! memory it keeps the state that it saw last and reads what was committed since. The log decides: a state counts only as
//! long as the entry that it ended with stands in the log unchanged, else the table is loaded as by a stranger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::state::State;
use crate::store::TableStore;
use crate::{Result, TableId, replay};

/// Live files of all remembered tables; a file takes about a kilobyte.
const MAX_FILES: usize = 100_000;

/// States by table. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<HashMap<TableId, State>>>);

impl Memory {
    /// The newest state of a table that was opened before; `None` when it has to be loaded.
    pub(crate) async fn recall(&self, place: &TableStore) -> Result<Option<State>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place.id).cloned();
        match known {
            Some(known) => replay::catch_up(place, known).await,
            None => Ok(None),
        }
    }

    /// Keeps a state. When there are too many files all others are forgotten.
    pub(crate) fn keep(&self, id: &TableId, state: &State) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.remove(id);
        if states.values().map(|state| state.files.len()).sum::<usize>() + state.files.len() > MAX_FILES {
            states.clear();
        }
        if state.files.len() <= MAX_FILES {
            states.insert(id.clone(), state.clone());
        }
    }
}
