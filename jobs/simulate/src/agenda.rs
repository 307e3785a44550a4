//! What is still to come, in the order of its time.

use std::collections::{BTreeMap, VecDeque};

/// Things that wait for their time. Those of one time come in the order of their numbers, of which no two are alike.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    /// Things of the time `now`, in order: where most things are of that time, these never pass through the tree.
    due: VecDeque<(u64, T)>,
    waiting: BTreeMap<(i64, u64), T>,
    /// The first time of which things may still be there: those before it were asked for, and have gone.
    now: i64,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self { due: VecDeque::new(), waiting: BTreeMap::new(), now: i64::MIN }
    }

    /// Lets a thing wait for a time, in whatever unit the caller counts.
    pub(crate) fn plan(&mut self, at: i64, number: u64, thing: T) {
        if at == self.now && self.due.back().is_none_or(|(last, _)| *last < number) {
            self.due.push_back((number, thing));
        } else {
            self.waiting.insert((at, number), thing);
        }
    }

    /// Takes the next thing whose time is not after `until`, with its time.
    pub(crate) fn next_until(&mut self, until: i64) -> Option<(i64, T)> {
        let due = self.due.front().map(|(number, _)| (self.now, *number));
        let waiting = self.waiting.first_key_value().map(|(key, _)| *key);
        match (due, waiting) {
            (Some(due), waiting) if due.0 <= until && waiting.is_none_or(|waiting| due < waiting) => {
                self.due.pop_front().map(|(_, thing)| (due.0, thing))
            }
            (_, Some((at, _))) if at <= until => self.waiting.pop_first().map(|((at, _), thing)| (at, thing)),
            _ => {
                self.now = self.now.max(until.saturating_add(1));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Agenda;
    use crate::random::Random;

    #[test]
    fn things_come_by_time_and_number_however_they_were_planned() {
        let mut random = Random::new(1, "agenda", 0);
        let mut agenda = Agenda::new();
        let mut expected = Vec::new();
        let mut seen = Vec::new();
        let mut number = 0;
        for until in 0..200_i64 {
            for _ in 0..random.below(5) {
                // Half of the things are of the time that comes next, some of a time that has gone.
                let at =
                    if random.below(2) == 0 { until } else { until - 3 + i64::try_from(random.below(20)).unwrap() };
                agenda.plan(at, number, number);
                expected.push((at, number));
                number += 1;
            }
            let before = seen.len();
            while let Some(next) = agenda.next_until(until) {
                seen.push(next);
            }
            // What is taken now is what was there to take, in order.
            let mut due: Vec<_> = expected.extract_if(.., |(at, _)| *at <= until).collect();
            due.sort_unstable();
            assert_eq!(seen[before..], due);
        }
        assert!(seen.len() > 300);
    }
}
