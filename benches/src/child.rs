//! A process that is measured: time, processor time, memory.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use tidemill_project::clock::Clock;
use tidemill_tests::wait;

/// What a process took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// From start to end, start-up and farewell included.
    pub(crate) wall: Duration,
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// Most memory it ever held (`VmHWM`).
    pub(crate) peak_bytes: u64,
}

/// Runs a command to its end, which must be a success; returns what it printed on stdout.
pub(crate) fn run(mut command: Command) -> Result<(String, Usage)> {
    let stdout = tempfile::NamedTempFile::new()?;
    let stderr = tempfile::NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(stdout.reopen()?).stderr(stderr.reopen()?);
    let before = children_cpu()?;
    let watch = Clock::system().stopwatch();
    let mut child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
    let mut peak_bytes = 0;
    let status = loop {
        peak_bytes = peak(child.id()).unwrap_or(peak_bytes).max(peak_bytes);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        wait::pause(Duration::from_millis(5));
    };
    let wall = watch.elapsed();
    let cpu = children_cpu()?.saturating_sub(before);
    let said = fs::read_to_string(stderr.path())?;
    ensure!(status.success(), "{command:?} ended with {status}\n{said}");
    Ok((fs::read_to_string(stdout.path())?, Usage { wall, cpu, peak_bytes }))
}

/// Processor time of all children that have ended. The broker has not, so the difference is that of one child.
fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    Ok(Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time())))
}

fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
