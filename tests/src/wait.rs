//! Waiting for a condition, with a limit: the harness's only sleep.

use std::time::Duration;

use anyhow::{Result, bail};
use tidemill_project::clock::Clock;

/// How long anything on this machine may take before a test says that it never will. Generous: CI has two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Calls `probe` until it returns something, every 20 ms.
///
/// # Errors
/// When `limit` has passed, naming `what`; or the probe's own error, at once.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let stopwatch = Clock::system().stopwatch();
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if stopwatch.elapsed() > limit {
            bail!("gave up waiting for {what} after {limit:?}");
        }
        pause(Duration::from_millis(20));
    }
}

/// Lets `duration` pass: for the pace of a producer and the moment of a kill, which *are* points in time. To wait for
/// something to happen use [`until`].
#[expect(clippy::disallowed_methods, reason = "the harness's one home of sleeping")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
