//! A day of clicks in files, taken in part by part.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use tidemill_tests::project::Project;

/// The system is switched off where nobody sends its topics.
pub(crate) const VARS: &str = "{clicks_enabled: true}";
const DAY_S: f64 = 86_400.0;

/// Simulated events, one file a topic, in the order of sending.
pub(crate) struct Day {
    folder: TempDir,
    /// The clock for which the simulator tells its truth.
    pub(crate) as_of: String,
}

impl Day {
    /// Simulates one day of so many base events, of which none is late.
    pub(crate) fn simulate(project: &Project, events: u64) -> Result<Self> {
        let folder = TempDir::with_prefix("tidemill-clicks-")?;
        #[expect(clippy::cast_precision_loss, reason = "events are millions")]
        let rate = format!("{:.6}", events as f64 / DAY_S);
        let truth = folder.path().join("truth.json").display().to_string();
        let output = folder.path().display().to_string();
        let words = [
            "simulate",
            "clicks",
            "--events",
            &events.to_string(),
            "--rate",
            &rate,
            "--late",
            "0",
            "--truth",
            &truth,
            "--to",
            "files",
            "--output",
            &output,
        ];
        let report = project.tidemill().vars(VARS).json(&words)?;
        let as_of = report["as_of"].as_str().context("the simulator tells its clock")?.to_owned();
        Ok(Self { folder, as_of })
    }

    /// Deals the lines of a topic out to files: `part_of` says which file the line at a share of the day, and of that number,
    /// goes to.
    pub(crate) fn deal(&self, topic: &str, parts: usize, part_of: impl Fn(f64, u64) -> usize) -> Result<Vec<PathBuf>> {
        let path = self.folder.path().join(format!("{topic}.jsonl"));
        let lines = || -> Result<_> {
            Ok(BufReader::with_capacity(1 << 20, File::open(&path).with_context(|| format!("no {}", path.display()))?))
        };
        let mut count: u64 = 0;
        let mut line = Vec::new();
        let mut reader = lines()?;
        while reader.read_until(b'\n', &mut line)? > 0 {
            count += 1;
            line.clear();
        }
        let paths: Vec<PathBuf> =
            (0..parts).map(|part| self.folder.path().join(format!("{topic}-{part}.jsonl"))).collect();
        let mut writers = Vec::with_capacity(parts);
        for path in &paths {
            writers.push(BufWriter::with_capacity(1 << 20, File::create(path)?));
        }
        let mut reader = lines()?;
        for number in 0..count {
            line.clear();
            reader.read_until(b'\n', &mut line)?;
            #[expect(clippy::cast_precision_loss, reason = "lines are millions")]
            let share = number as f64 / count as f64;
            writers[part_of(share, number)].write_all(&line)?;
        }
        for mut writer in writers {
            writer.flush()?;
        }
        fs::remove_file(&path)?;
        Ok(paths)
    }
}

/// Takes a file in.
pub(crate) fn ingest(project: &Project, source: &str, file: &Path) -> Result<()> {
    let file = file.to_str().context("a temporary folder has a plain name")?;
    project.tidemill().vars(VARS).succeed(&["ingest", "--select", source, "--from-files", file])?;
    Ok(())
}

/// Links the live files of a Delta table into a folder of its own, and returns how many bytes they hold.
pub(crate) fn link_live_files(table: &Path, folder: &Path) -> Result<u64> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut versions: Vec<PathBuf> = fs::read_dir(table.join("_delta_log"))
        .with_context(|| format!("no table at {}", table.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    versions.retain(|path| {
        path.extension().is_some_and(|found| found == "json")
            && path.file_stem().is_some_and(|stem| stem.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
    });
    versions.sort();
    let mut live = std::collections::BTreeSet::new();
    for version in versions {
        for line in fs::read_to_string(&version)?.lines() {
            let action: Value = serde_json::from_str(line)?;
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path);
            }
            if let Some(path) = action["add"]["path"].as_str() {
                live.insert(path.to_owned());
            }
        }
    }
    let mut bytes = 0;
    for (number, path) in live.iter().enumerate() {
        let path = table.join(path.replace("%20", " ").replace("%3A", ":").replace("%25", "%"));
        bytes += fs::metadata(&path).with_context(|| format!("no {}", path.display()))?.len();
        fs::hard_link(&path, folder.join(format!("{number}.parquet")))?;
    }
    Ok(bytes)
}
