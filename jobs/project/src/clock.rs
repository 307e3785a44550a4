//! Time, ids and randomness, injected so that tests and the simulator are deterministic.
//!
//! This file is the one home of `SystemTime::now`, `Utc::now` and `Uuid::new_v4`; clippy refuses them elsewhere.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Microseconds since the Unix epoch, UTC: the form in which the lake keeps every instant.
pub type Micros = i64;

/// Where a component gets the time of day and fresh ids from. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn TimeSource>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

trait TimeSource: Send + Sync {
    fn now_us(&self) -> Micros;
    fn new_id(&self) -> Uuid;
}

impl Clock {
    /// The machine's clock and random ids.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(System))
    }

    /// A clock that stands still until it is set, with ids that count up from `seed`.
    #[must_use]
    pub fn manual(start_us: Micros, seed: u64) -> (Self, ManualClock) {
        let manual = Arc::new(Manual { now_us: AtomicI64::new(start_us), next_id: AtomicU64::new(0), seed });
        (Self(Arc::<Manual>::clone(&manual)), ManualClock(manual))
    }

    /// Microseconds since the Unix epoch, UTC.
    #[must_use]
    pub fn now_us(&self) -> Micros {
        self.0.now_us()
    }

    /// Milliseconds since the Unix epoch, UTC.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_us().div_euclid(1000)
    }

    /// The instant as chrono knows it.
    ///
    /// # Panics
    /// The clock reads a year beyond chrono's 262,000.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.now_us()).expect("a clock reads a year that chrono knows")
    }

    /// An id that nobody else has.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        self.0.new_id()
    }

    /// Starts a measurement of elapsed time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one home of the monotonic clock")]
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Waits for `duration`. For pacing and backoff; to wait for something to happen, wait for that.
    #[expect(clippy::disallowed_methods, reason = "the one home of sleeping")]
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A running measurement of elapsed time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What another machine's clock said, between two readings of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Our clock when it was asked.
    pub asked_us: Micros,
    /// Their clock, at some instant before the answer was here.
    pub said_us: Micros,
    /// Our clock when the answer was here.
    pub answered_us: Micros,
}

impl ClockReading {
    /// Their clock less ours, microseconds: the least difference that explains the reading. The time that a question takes
    /// is never mistaken for one: a slow answer makes the reading less exact, not the clocks more different.
    #[must_use]
    pub fn skew_us(&self) -> i64 {
        if self.said_us > self.answered_us {
            self.said_us.saturating_sub(self.answered_us)
        } else {
            self.said_us.saturating_sub(self.asked_us).min(0)
        }
    }
}

/// The handle that moves a manual clock.
#[derive(Clone)]
pub struct ManualClock(Arc<Manual>);

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManualClock")
    }
}

impl ManualClock {
    /// Sets the time of day.
    pub fn set_us(&self, now_us: Micros) {
        self.0.now_us.store(now_us, Ordering::SeqCst);
    }
}

struct System;

impl TimeSource for System {
    #[expect(clippy::disallowed_methods, reason = "the one home of the machine's clock")]
    fn now_us(&self) -> Micros {
        Utc::now().timestamp_micros()
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of random ids")]
    fn new_id(&self) -> Uuid {
        Uuid::new_v4()
    }
}

struct Manual {
    now_us: AtomicI64,
    next_id: AtomicU64,
    seed: u64,
}

impl TimeSource for Manual {
    fn now_us(&self) -> Micros {
        self.now_us.load(Ordering::SeqCst)
    }

    fn new_id(&self) -> Uuid {
        Uuid::from_u64_pair(self.seed, self.next_id.fetch_add(1, Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_reads_something_between_question_and_answer_agrees_with_ours() {
        let skew = |said_us| ClockReading { asked_us: 1_000, said_us, answered_us: 5_000 }.skew_us();
        assert_eq!([skew(1_000), skew(3_000), skew(5_000)], [0, 0, 0]);
        assert_eq!([skew(999), skew(-9_000)], [-1, -10_000]);
        assert_eq!([skew(5_001), skew(65_000)], [1, 60_000]);
    }
}
