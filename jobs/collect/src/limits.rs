//! How often: a bucket of readings per caller, memory for bodies, room in the queue.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Caller;
use crate::refusal::Refusal;

/// More callers than this are not remembered: tokens name as many subjects as the provider has users.
const MAX_CALLERS: usize = 100_000;

/// When to come again if memory or queue are full: the queue empties in milliseconds while the broker answers.
const PRESSURE_WAIT: Duration = Duration::from_secs(1);

/// All limits of the process.
pub(crate) struct Limits {
    callers: Mutex<HashMap<String, Arc<DefaultDirectRateLimiter>>>,
    body_bytes: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    queue_len: usize,
}

impl Limits {
    /// Limits of `max_buffered_bytes` of bodies and `max_queued_records` records.
    pub(crate) fn new(max_buffered_bytes: usize, max_queued_records: usize) -> Self {
        let permits = |count: usize| count.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self {
            callers: Mutex::default(),
            body_bytes: Arc::new(Semaphore::new(permits(max_buffered_bytes))),
            queue: Arc::new(Semaphore::new(permits(max_queued_records))),
            queue_len: permits(max_queued_records),
        }
    }

    /// Takes memory for a body of at most `bytes`, given back when the permit is dropped.
    pub(crate) fn body(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.body_bytes)
            .try_acquire_many_owned(bytes)
            .map_err(|_| Refusal::busy("too many requests are open", PRESSURE_WAIT))
    }

    /// Takes room for `records` in the queue, given back when the permit is dropped. A request that is larger than the
    /// whole queue takes all of it.
    pub(crate) fn queue(&self, records: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let records = u32::try_from(records.min(self.queue_len)).unwrap_or(u32::MAX);
        Arc::clone(&self.queue)
            .try_acquire_many_owned(records)
            .map_err(|_| Refusal::busy("the queue to the broker is full", PRESSURE_WAIT))
    }

    /// Records that wait for the broker.
    pub(crate) fn queued(&self) -> usize {
        self.queue_len - self.queue.available_permits()
    }

    /// Takes `readings` from the caller's bucket. A request that is larger than the bucket needs a full one.
    pub(crate) fn readings(&self, caller: &Caller, readings: usize) -> Result<(), Refusal> {
        let Some(rate) = caller.rate.and_then(NonZeroU32::new) else { return Ok(()) };
        let burst = caller.burst.and_then(NonZeroU32::new).unwrap_or(rate);
        let Some(readings) = NonZeroU32::new(u32::try_from(readings).unwrap_or(u32::MAX).min(burst.get())) else {
            return Ok(());
        };
        let bucket = self.bucket(caller, rate, burst);
        match bucket.check_n(readings) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                Err(Refusal::busy(format!("the key's rate of {rate} readings per second is used up"), wait))
            }
            Err(_) => Err(Refusal::busy("the request is larger than the key's burst", PRESSURE_WAIT)),
        }
    }

    fn bucket(&self, caller: &Caller, rate: NonZeroU32, burst: NonZeroU32) -> Arc<DefaultDirectRateLimiter> {
        let mut callers = self.callers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if callers.len() >= MAX_CALLERS && !callers.contains_key(&caller.id) {
            // Full buckets are forgotten without loss; the rest start anew, which is generous once in a long time.
            callers.clear();
        }
        let bucket = callers
            .entry(caller.id.clone())
            .or_insert_with(|| Arc::new(RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))));
        Arc::clone(bucket)
    }
}
