//! Fuzzers over everything that people and producers write: record values, contracts, `tidemill.toml`, dbt projects.
//!
//! Deterministic: case `n` of a fuzzer depends on the seed and on `n` alone. The test command runs a fixed number of cases;
//! longer runs go by the clock and take a seed of their own:
//!
//! ```text
//! TIDEMILL_FUZZ_MINUTES=30 TIDEMILL_SEED=7 tests/run fuzz
//! ```
//!
//! A panic fails with the seed, the case and the file that holds its input; so does an answer that breaks an invariant, and a
//! case that takes longer than [`SLOWEST`]. Each input is on disk before it is read, because an overflow of the stack leaves
//! nobody to write it.

mod decoder;
mod mutate;
mod project;
mod settings;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tidemill_project::clock::Clock;
use tidemill_tests::installed;
use tidemill_tests::seed::Seeded;

/// No case takes longer: parsers of small files that do hang.
const SLOWEST: Duration = Duration::from_secs(10);

/// Runs the cases of one fuzzer: `case` draws its input, gives it to `keep`, and checks what becomes of it.
fn fuzz(name: &str, cases: u64, mut case: impl FnMut(&mut Seeded, &Kept) -> Result<()>) -> Result<()> {
    let seed = Seeded::from_environment(20_250_308)?.seed();
    let limit = minutes()?;
    let kept = Kept { folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}")) };
    fs::create_dir_all(&kept.folder)?;
    let watch = Clock::system().stopwatch();
    let mut number = 0;
    while limit.map_or(number < cases, |limit| watch.elapsed() < limit) {
        let mut random = Seeded::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number));
        let before = watch.elapsed();
        let told = |what: String| {
            anyhow!("{name}: case {number} of TIDEMILL_SEED={seed}, input in {}: {what}", kept.folder.display())
        };
        match catch_unwind(AssertUnwindSafe(|| case(&mut random, &kept))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(told(format!("{error:#}"))),
            Err(panic) => return Err(told(format!("panicked: {}", text_of(panic.as_ref())))),
        }
        let took = watch.elapsed().saturating_sub(before);
        ensure!(took < SLOWEST, told(format!("it took {took:?}")));
        number += 1;
    }
    fs::remove_dir_all(&kept.folder)?;
    Ok(())
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// How long to go on, when somebody asked for that.
fn minutes() -> Result<Option<Duration>> {
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
    let text = std::env::var("TIDEMILL_FUZZ_MINUTES").ok();
    text.map(|text| Ok(Duration::from_secs(60 * text.parse::<u64>().context("TIDEMILL_FUZZ_MINUTES is no number")?)))
        .transpose()
}

/// Where the input of the present case lies.
struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// Writes a file of the input.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(&path, bytes)?;
        Ok(path)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Real inputs to begin with: all files of the shipped project and of the one that `init` writes whose names end so, with
/// their paths inside their project.
fn corpus(endings: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for root in ["dbt-like-models", "jobs/project/scaffold"] {
        let root = installed::repository().join(root);
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                    let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
                    found.push((name, fs::read(&path)?));
                }
            }
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "there is no file with one of the endings {endings:?}");
    Ok(found)
}
