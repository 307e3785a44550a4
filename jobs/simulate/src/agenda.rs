//! What is still to come, in the order of its time.

use std::collections::BTreeMap;

/// Things that wait for their time. Those of one time come in the order of their numbers, of which no two are alike.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    waiting: BTreeMap<(i64, u64), T>,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: BTreeMap::new() }
    }

    /// Lets a thing wait for a time, in whatever unit the caller counts.
    pub(crate) fn plan(&mut self, at: i64, number: u64, thing: T) {
        self.waiting.insert((at, number), thing);
    }

    /// Takes the next thing whose time is not after `until`, with its time.
    pub(crate) fn next_until(&mut self, until: i64) -> Option<(i64, T)> {
        let first = self.waiting.first_entry()?;
        let (at, _) = *first.key();
        (at <= until).then(|| (at, first.remove()))
    }
}
