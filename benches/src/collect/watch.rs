//! A running process: its memory over time, its processor time.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use tidemill_project::clock::Clock;
use tidemill_tests::wait;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Memory of a process while something else went on: seconds since the beginning, bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Vec<(f64, f64)>);

impl Memory {
    /// Looks at a process until told to stop.
    pub(super) fn watch(pid: u32, is_over: impl Fn() -> bool) -> Result<Self> {
        let clock = Clock::system().stopwatch();
        let mut samples = Vec::new();
        while !is_over() {
            samples.push((clock.elapsed().as_secs_f64(), resident(pid)?));
            wait::pause(LOOK);
        }
        Ok(Self(samples))
    }

    /// The most that was seen, in MiB.
    pub(super) fn most(&self) -> f64 {
        self.0.iter().map(|(_, bytes)| bytes / MIB).fold(0.0, f64::max)
    }

    /// MiB that are added per minute, by least squares over all but the first fifth, in which buffers fill.
    pub(super) fn slope(&self) -> f64 {
        let steady = &self.0[self.0.len() / 5..];
        #[expect(clippy::cast_precision_loss, reason = "samples are few")]
        let count = steady.len() as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| steady.iter().map(pick).sum::<f64>() / count;
        let (mean_s, mean_bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let (mut together, mut spread) = (0.0, 0.0);
        for (second, bytes) in steady {
            together += (second - mean_s) * (bytes - mean_bytes);
            spread += (second - mean_s) * (second - mean_s);
        }
        together / spread / MIB * 60.0
    }
}

const MIB: f64 = 1_048_576.0;
/// `USER_HZ`: what the kernel shows user space is in hundredths of a second on every machine that this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// `VmRSS`, bytes.
fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024.0)
}

/// User and system time of all threads of a process.
pub(super) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    // The name stands in parentheses and may hold anything; the 12th and 13th field after it are the times.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_leaves_out_the_beginning() {
        let grows = |second: u32| (f64::from(second), f64::from(second.max(20)) * MIB);
        let memory = Memory((0..100).map(grows).collect());
        assert!((memory.slope() - 60.0).abs() < 1e-6, "{}", memory.slope());
        let flat = Memory((0..100).map(|second| (f64::from(second), 7.0 * MIB)).collect());
        assert!(flat.slope().abs() < 1e-6 && (flat.most() - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_process_has_memory_and_takes_time() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > 1e6);
        let before = processor_time(own).unwrap();
        let mut number = 1_u64;
        let later = wait::until("processor time", Duration::from_secs(20), || {
            (0..10_000_000_u64).for_each(|by| number = number.wrapping_mul(by | 1).rotate_left(7));
            Ok(Some(processor_time(own)?).filter(|now| *now > before))
        });
        assert!(later.is_ok(), "{number}");
    }
}
