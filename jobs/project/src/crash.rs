//! Named places where a test may kill the process, compiled in by the feature `failpoints` only.
//!
//! `TIDEMILL_CRASH_AT=ingest.after_parquet` kills at the first pass of that point, `ingest.after_parquet:3` at the third.
//! The kill is a real `SIGKILL`: no destructor, no flush, no exit handler runs.

/// Kills the process if the environment says so; nothing without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn point(_name: &str) {}

/// Kills the process if the environment says so.
///
/// # Panics
/// Never: a process may always signal itself.
#[cfg(feature = "failpoints")]
#[expect(clippy::disallowed_methods, reason = "the point must be armed before any settings are read")]
pub fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static TARGET: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var("TIDEMILL_CRASH_AT").ok()?;
        Some(match text.rsplit_once(':') {
            Some((name, pass)) => (name.to_owned(), pass.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    static PASSES: AtomicU64 = AtomicU64::new(0);

    if let Some((target, pass)) = TARGET.as_ref()
        && target == name
        && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *pass
    {
        let pid = nix::unistd::Pid::this();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("a process may signal itself");
        std::thread::park();
    }
}
