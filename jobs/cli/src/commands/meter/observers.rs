//! Observers that count and hand on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_ingest::{BatchSummary, Error, IngestObserver, SourceReport};
use tidemill_project::SourceName;
use tidemill_project::clock::{Micros, Stopwatch};
use tidemill_project::metrics::{ClassLabels, OutcomeLabels, SourceLabels};
use tidemill_publish::{PublishObserver, PublishedTable};
use tidemill_transform::Runner;
use tidemill_transform::plan::ModelPlan;
use tidemill_transform::project::NodeId;
use tidemill_transform::run::{NodeReport, Observer, Outcome};

use super::{Lineage, Meter, advance, lineage_of};

impl Meter {
    /// Counts batches.
    pub(crate) fn ingest(&self, inner: Arc<dyn IngestObserver>) -> Arc<dyn IngestObserver> {
        Arc::new(MeteredIngest { meter: self.clone(), inner })
    }

    /// Counts nodes of a build.
    pub(crate) fn build(&self, runner: &Runner, inner: Arc<dyn Observer>) -> Arc<dyn Observer> {
        let at_begin = Mutex::default();
        Arc::new(MeteredBuild { meter: self.clone(), inner, lineage: lineage_of(runner), at_begin })
    }

    /// Counts publications; [`MeteredPublish::finish`] at their end.
    pub(crate) fn publish(&self) -> MeteredPublish {
        let watch = self.0.clock.stopwatch();
        MeteredPublish { meter: self.clone(), state: Mutex::new(Spent { since: watch, by_sink: BTreeMap::new() }) }
    }

    pub(super) fn count_batch(&self, summary: &BatchSummary) {
        let families = self.0.metrics.families();
        let source = summary.source.to_string();
        let of_partitions = |pick: fn(&tidemill_lake::metadata::PartitionBooks) -> u64| {
            summary.partitions.iter().map(pick).sum::<u64>()
        };
        let of_files =
            |pick: fn(&tidemill_lake::metadata::FileBooks) -> u64| summary.files.iter().map(pick).sum::<u64>();
        for (outcome, count) in [
            ("landed", of_partitions(|books| books.landed) + of_files(|books| books.landed)),
            ("duplicate", of_partitions(|books| books.duplicates) + of_files(|books| books.duplicates)),
            ("quarantined", of_partitions(|books| books.quarantined) + of_files(|books| books.quarantined)),
        ] {
            let labels = OutcomeLabels { source: source.clone(), outcome };
            families.records.get_or_create(&labels).inc_by(count);
        }
        for (class, count) in &summary.quarantined {
            let labels = ClassLabels { source: source.clone(), class: (*class).to_owned() };
            families.quarantined.get_or_create(&labels).inc_by(*count);
        }
        let late = of_partitions(|books| books.late);
        families.late_records.get_or_create(&SourceLabels { source: source.clone() }).inc_by(late);
        self.observe_step("ingest", source.clone(), summary.elapsed);
        if let Some((_, newest_us)) = summary.event_at_us {
            advance(&mut self.newest().landed, summary.source.clone(), newest_us);
            self.observe_latency("landed", source, newest_us);
        }
        if let Some(watermark_us) = summary.watermark_us {
            self.set_watermark(&summary.source, watermark_us);
        }
    }
}

struct MeteredIngest {
    meter: Meter,
    inner: Arc<dyn IngestObserver>,
}

impl IngestObserver for MeteredIngest {
    fn source_started(&self, source: &SourceName, backlog: Option<u64>) {
        self.inner.source_started(source, backlog);
    }

    fn batch_committed(&self, summary: &BatchSummary) {
        self.meter.count_batch(summary);
        self.inner.batch_committed(summary);
    }

    fn warned(&self, source: &SourceName, warning: &str) {
        self.inner.warned(source, warning);
    }

    fn partition_stopped(&self, source: &SourceName, error: &Error) {
        self.inner.partition_stopped(source, error);
    }

    fn source_finished(&self, report: &SourceReport) {
        self.inner.source_finished(report);
    }
}

struct MeteredBuild {
    meter: Meter,
    inner: Arc<dyn Observer>,
    lineage: Lineage,
    /// By model, the newest event that had landed under it when the build began: what it certainly sees.
    at_begin: Mutex<BTreeMap<String, Micros>>,
}

impl Observer for MeteredBuild {
    fn begin(&self, num_nodes: usize) {
        let newest = |model: &String| Some((model.clone(), self.meter.newest_under(&self.lineage, model)?));
        let newest = self.lineage.keys().filter_map(newest).collect();
        *self.at_begin.lock().unwrap_or_else(PoisonError::into_inner) = newest;
        self.inner.begin(num_nodes);
    }

    fn started(&self, node: &NodeId) {
        self.inner.started(node);
    }

    fn planned(&self, plan: &ModelPlan) {
        self.inner.planned(plan);
    }

    fn batch_done(&self, model: &str, num_done: usize, num_batches: usize) {
        self.inner.batch_done(model, num_done, num_batches);
    }

    fn finished(&self, report: &NodeReport) {
        // A project has many more tests than models; their time is part of nobody's promise.
        if report.kind != "test" && report.outcome != Outcome::Skipped {
            self.meter.observe_step("build", report.name.clone(), Duration::from_millis(report.elapsed_ms));
        }
        let newest = self.at_begin.lock().unwrap_or_else(PoisonError::into_inner).get(&report.name).copied();
        if let (Outcome::Success | Outcome::UpToDate, "model", Some(at_us)) = (report.outcome, report.kind, newest) {
            let is_news = advance(&mut self.meter.newest().modelled, report.name.clone(), at_us);
            if is_news && report.outcome == Outcome::Success {
                self.meter.observe_latency("modelled", report.name.clone(), at_us);
            }
        }
        self.inner.finished(report);
    }
}

/// Counts publications.
pub(crate) struct MeteredPublish {
    meter: Meter,
    state: Mutex<Spent>,
}

struct Spent {
    /// Since the last publication was done: those of one group are done at the same moment.
    since: Stopwatch,
    by_sink: BTreeMap<&'static str, Duration>,
}

impl MeteredPublish {
    /// Notes how long each sink took.
    pub(crate) fn finish(self) {
        let spent = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (sink, elapsed) in spent.by_sink {
            self.meter.observe_step("publish", sink.to_owned(), elapsed);
        }
    }
}

impl PublishObserver for MeteredPublish {
    fn finished(&self, table: &PublishedTable) {
        {
            let mut spent = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let elapsed = spent.since.elapsed();
            *spent.by_sink.entry(table.sink).or_default() += elapsed;
            spent.since = self.meter.0.clock.stopwatch();
        }
        let is_published = table.outcome == tidemill_publish::Outcome::Published;
        if !is_published && table.outcome != tidemill_publish::Outcome::UpToDate {
            return;
        }
        let target = table.target.to_string();
        let Some(at_us) = self.meter.newest().modelled.get(&table.model).copied() else { return };
        let is_news = advance(&mut self.meter.newest().visible, target.clone(), at_us);
        if is_news && is_published {
            self.meter.observe_latency("visible", target, at_us);
        }
    }
}
