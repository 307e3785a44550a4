//! Where and when a measurement was taken.

use std::fs;
use std::process::Command;

use tidemill_project::clock::Clock;
use tidemill_tests::installed;

/// One line: processor, cores, memory, load, commit, date.
pub(crate) fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kibibytes: u64 = kibibytes.trim().trim_end_matches("kB").trim().parse().unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    format!(
        "{model}, {cores} cores, {} GiB; load average {load} (1.0 is one busy core, this bench included); commit {}; {} UTC",
        kibibytes >> 20,
        commit(),
        Clock::system().now().format("%Y-%m-%d %H:%M"),
    )
}

fn commit() -> String {
    let output =
        Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(installed::repository()).output();
    output.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
