//! When a run must be over, whatever it is doing.

use std::time::Duration;

use tidemill_project::SourceName;
use tidemill_project::clock::{Clock, Stopwatch};

use crate::error::Cause;

/// The end that `--max-duration` sets, counted from the run's very beginning: opening tables and looking for brokers count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    started: Stopwatch,
    after: Option<Duration>,
}

impl Deadline {
    /// A run that begins now.
    pub(crate) fn new(clock: &Clock, after: Option<Duration>) -> Self {
        Self { started: clock.stopwatch(), after }
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time that is left; `None` when there is no end.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.after.map(|after| after.saturating_sub(self.elapsed()))
    }

    /// Whether the run must end now.
    pub(crate) fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Waits for the end; for ever when there is none.
    pub(crate) async fn passed(&self, clock: &Clock) {
        match self.left() {
            Some(left) => clock.sleep(left).await,
            None => std::future::pending().await,
        }
    }

    /// What a run ends with that had nothing to read before its time was up.
    pub(crate) fn missed(&self, name: &SourceName) -> Cause {
        let max_duration_ms = self.after.unwrap_or_default().as_millis();
        Cause::Late { source_name: name.clone(), max_duration_ms }
    }
}
