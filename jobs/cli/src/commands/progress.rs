//! Progress on a terminal, lines otherwise nowhere: commands print their own summaries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidemill_ingest::{BatchSummary, IngestObserver, SourceReport};
use tidemill_project::SourceName;
use tidemill_transform::Runner;
use tidemill_transform::project::NodeId;
use tidemill_transform::run::{NodeReport, Observer, Outcome};

use crate::printer::{Printer, thousands};

/// Bars for all that goes on at the same time.
#[derive(Clone)]
pub(crate) struct Progress {
    bars: MultiProgress,
    sources: Arc<Mutex<BTreeMap<SourceName, ProgressBar>>>,
}

impl Progress {
    /// Bars on a terminal; hidden ones otherwise.
    pub(crate) fn new(printer: Printer) -> Self {
        let target = if printer.is_interactive() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), sources: Arc::default() }
    }

    /// A bar of a known length.
    pub(crate) fn bar(&self, name: &str, length: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:24} [{bar:30}] {human_pos:>9}/{human_len:<9} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        self.bars.add(ProgressBar::new(length).with_style(style).with_prefix(name.to_owned()))
    }

    /// A bar of unknown length.
    pub(crate) fn spinner(&self, name: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix:24} {spinner} {human_pos:>9} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        self.bars.add(ProgressBar::new_spinner().with_style(style).with_prefix(name.to_owned()))
    }

    /// Takes all bars off the screen.
    pub(crate) fn clear(&self) {
        // A screen that cannot be cleared is no failure of the command.
        let _ = self.bars.clear();
    }
}

impl IngestObserver for Progress {
    fn source_started(&self, source: &SourceName, backlog: Option<u64>) {
        let bar = match backlog {
            Some(records) => self.bar(&source.to_string(), records),
            None => self.spinner(&source.to_string()),
        };
        let previous = self.sources.lock().unwrap_or_else(PoisonError::into_inner).insert(source.clone(), bar);
        if let Some(bar) = previous {
            bar.finish_and_clear();
        }
    }

    fn batch_committed(&self, summary: &BatchSummary) {
        let records: i64 = summary.partitions.iter().map(|books| books.to - books.from).sum::<i64>()
            + summary.files.iter().map(|books| books.to - books.from).sum::<i64>();
        if let Some(bar) = self.sources.lock().unwrap_or_else(PoisonError::into_inner).get(&summary.source) {
            bar.inc(u64::try_from(records).unwrap_or(0));
            bar.set_message(format!("{}", summary.version));
        }
    }

    fn source_finished(&self, report: &SourceReport) {
        if let Some(bar) = self.sources.lock().unwrap_or_else(PoisonError::into_inner).remove(&report.source) {
            bar.finish_and_clear();
        }
    }
}

/// dbt's lines: n of m, verdict, name, rows, seconds.
pub(crate) struct BuildLines {
    printer: Printer,
    quiet: bool,
    total: AtomicU64,
    begun: AtomicU64,
    /// Number of each node that has begun, so that its last line has the number of its first.
    numbers: Mutex<BTreeMap<String, u64>>,
    labels: BTreeMap<String, String>,
}

impl BuildLines {
    /// Lines on stderr; only faults when `quiet`.
    pub(crate) fn new(printer: Printer, quiet: bool, runner: &Runner) -> Self {
        let labels = runner.graph().order().map(|node| (node.to_string(), runner.label(node))).collect();
        Self { printer, quiet, total: AtomicU64::new(0), begun: AtomicU64::new(0), numbers: Mutex::default(), labels }
    }

    fn number(&self, node: &str) -> u64 {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        *numbers.entry(node.to_owned()).or_insert_with(|| self.begun.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn label<'a>(&'a self, node: &'a str) -> &'a str {
        self.labels.get(node).map_or(node, String::as_str)
    }
}

impl Observer for BuildLines {
    fn begin(&self, num_nodes: usize) {
        self.total.store(num_nodes as u64, Ordering::Relaxed);
        self.begun.store(0, Ordering::Relaxed);
    }

    fn started(&self, node: &NodeId) {
        let name = node.to_string();
        let number = self.number(&name);
        if self.quiet {
            return;
        }
        let total = self.total.load(Ordering::Relaxed);
        let what = if matches!(node, NodeId::Test(_)) { "test " } else { "" };
        self.printer.note(&format!("{number} of {total} START {what}{} [RUN]", self.label(&name)));
    }

    fn finished(&self, report: &NodeReport) {
        let number = self.number(&report.node);
        let bad = matches!(report.outcome, Outcome::Warn | Outcome::Fail | Outcome::Error | Outcome::Skipped);
        if self.quiet && !bad {
            return;
        }
        let total = self.total.load(Ordering::Relaxed);
        self.printer.note(&line(number, total, self.label(&report.node), report));
        // What a test found is told when the run has ended.
        if let Some(message) = report.message.as_deref().filter(|_| bad && report.test.is_none()) {
            self.printer.note(&format!("    {message}"));
        }
    }
}

/// `3 of 12 OK created table model main.orders [1,234 rows in 0.21s]`.
fn line(number: u64, total: u64, label: &str, report: &NodeReport) -> String {
    let failures = report.failures.unwrap_or_default();
    let verb = match (report.outcome, report.kind) {
        (Outcome::Success, "seed") => "OK loaded",
        (Outcome::Success, "model") => "OK created",
        (Outcome::Success, "snapshot") => "OK snapshotted",
        (Outcome::Error, "seed") => "ERROR loading",
        (Outcome::Error, "model") => "ERROR creating",
        (Outcome::Error, "snapshot") => "ERROR snapshotting",
        (outcome, _) => verdict(outcome),
    };
    let count = match report.outcome {
        Outcome::Fail | Outcome::Warn if failures > 0 => format!(" {}", thousands(failures)),
        _ => String::new(),
    };
    // `OK snapshotted main.history`: the verb says what it is.
    let label = if report.kind == "snapshot" { label.trim_start_matches("snapshot ") } else { label };
    let seconds = report.elapsed_ms / 1000;
    let hundredths = report.elapsed_ms % 1000 / 10;
    let detail = match report.outcome {
        Outcome::Skipped => "SKIP".to_owned(),
        Outcome::UpToDate => format!("nothing to do in {seconds}.{hundredths:02}s"),
        Outcome::Success if report.rows_written > 0 => {
            format!("{} rows in {seconds}.{hundredths:02}s", thousands(report.rows_written))
        }
        outcome => format!("{} in {seconds}.{hundredths:02}s", verdict(outcome)),
    };
    format!("{number} of {total} {verb}{count} {label} [{detail}]")
}

/// The word for an outcome, as dbt's users know it.
pub(crate) fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "OK",
        Outcome::UpToDate => "FRESH",
        Outcome::Pass => "PASS",
        Outcome::Warn => "WARN",
        Outcome::Fail => "FAIL",
        Outcome::Error => "ERROR",
        Outcome::Skipped => "SKIP",
    }
}
