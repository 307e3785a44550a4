//! All that is wrong with one record, gathered before it is turned away.

use std::borrow::Cow;
use std::fmt::Write;

use super::record::{Rejection, RejectionClass};

/// Faults that a message spells out; the rest is counted. A hostile record can have as many as it has bytes.
const MAX_SHOWN: usize = 32;

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) class: RejectionClass,
    /// Goes behind the field's name: `is a number, not a text`.
    pub(crate) what: Cow<'static, str>,
}

impl Problem {
    pub(crate) fn new(class: RejectionClass, what: impl Into<Cow<'static, str>>) -> Self {
        Self { class, what: what.into() }
    }
}

/// The faults of one record; the buffer is used again for the next.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Ordered by class, those of one class in the order of the contract's columns; the first [`MAX_SHOWN`] of them.
    shown: Vec<(RejectionClass, String)>,
    num_faults: usize,
}

impl Faults {
    pub(crate) fn clear(&mut self) {
        self.shown.clear();
        self.num_faults = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.num_faults == 0
    }

    /// Adds what is wrong with `field`.
    #[cold]
    pub(crate) fn add(&mut self, field: &str, problem: &Problem) {
        self.add_record(problem.class, format!("`{field}` {}", problem.what));
    }

    /// Adds a fault of the record as a whole.
    #[cold]
    pub(crate) fn add_record(&mut self, class: RejectionClass, what: String) {
        self.num_faults += 1;
        let at = self.shown.partition_point(|(earlier, _)| *earlier <= class);
        if at < MAX_SHOWN {
            self.shown.insert(at, (class, what));
            self.shown.truncate(MAX_SHOWN);
        }
    }

    /// Takes over the faults of a part of the record.
    pub(crate) fn append(&mut self, part: &mut Self) {
        let unseen = part.num_faults - part.shown.len();
        for (class, what) in part.shown.drain(..) {
            self.add_record(class, what);
        }
        self.num_faults += unseen;
        part.clear();
    }

    /// The verdict: the first class in the order of X9, and all faults in that order. `None` when there is no fault.
    pub(crate) fn rejection(&self, record: usize) -> Option<Rejection> {
        let (class, _) = self.shown.first()?;
        let mut message = String::new();
        for (_, what) in &self.shown {
            if !message.is_empty() {
                message.push_str("; ");
            }
            message.push_str(what);
        }
        let unseen = self.num_faults - self.shown.len();
        if unseen > 0 {
            write!(message, "; and {unseen} more").expect("a string takes whatever is written to it");
        }
        Some(Rejection { record, class: *class, message })
    }
}
