//! What commands count (X31), and where Prometheus finds it: at an address while they run, or in a file when they have ended.
//!
//! Nothing is counted in the rooms: they tell observers what they do, and the observers of this module count. Each wraps the
//! observer that the command has anyway.
//!
//! `tidemill_event_latency_seconds` and `tidemill_freshness_seconds` follow one event through the stages: the newest one that
//! a commit brought. An older event that came with it is late by its producer's doing, which
//! `tidemill_late_records_total` counts.

mod expose;
mod observers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_ingest::status::SourceStatus;
use tidemill_project::SourceName;
use tidemill_project::clock::{Clock, Micros};
use tidemill_project::contract::Contract;
use tidemill_project::metrics::{JobLabels, LagLabels, Metrics, SourceLabels, StageLabels, StepLabels, TableLabels};
use tidemill_transform::Runner;
use tidemill_transform::project::NodeId;

pub(crate) use expose::Exposition;

use super::context::Context;

/// Counts of one process. Cheap to clone; clones count into the same numbers.
#[derive(Clone)]
pub(crate) struct Meter(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    clock: Clock,
    group: String,
    newest: Mutex<Newest>,
}

/// The newest event, microseconds UTC, that has reached a stage.
#[derive(Debug, Default)]
struct Newest {
    /// By source.
    landed: BTreeMap<SourceName, Micros>,
    /// By model.
    modelled: BTreeMap<String, Micros>,
    /// By published table.
    visible: BTreeMap<String, Micros>,
}

impl Meter {
    /// Counts from zero.
    pub(crate) fn new(context: &Context) -> Self {
        Self::over(
            context.clock.clone(),
            context.settings.kafka.as_ref().map(|kafka| kafka.group.clone()).unwrap_or_default(),
        )
    }

    fn over(clock: Clock, group: String) -> Self {
        Self(Arc::new(Inner { metrics: Metrics::new(), clock, group, newest: Mutex::default() }))
    }

    /// Notes that a job has ended well.
    pub(crate) fn succeeded(&self, job: &'static str) {
        let now_s = seconds_of(self.0.clock.now_us());
        self.0.metrics.families().last_success.get_or_create(&JobLabels { job }).set(now_s);
    }

    /// Looks where sources stand: lag, watermark, newest event. A source that cannot be asked keeps its last numbers.
    pub(crate) async fn sample(&self, context: &Context, contracts: &[Contract]) {
        for contract in contracts {
            match tidemill_ingest::status::status(&context.settings, &context.lake, contract).await {
                Ok(status) => self.note_status(&contract.name, &status),
                Err(error) => tracing::warn!(source = %contract.name, %error, "metrics of the source are not known"),
            }
        }
    }

    fn note_status(&self, source: &SourceName, status: &SourceStatus) {
        let families = self.0.metrics.families();
        for partition in &status.partitions {
            let Some(lag) = partition.lag else { continue };
            let labels = LagLabels {
                group: self.0.group.clone(),
                topic: partition.topic.clone(),
                partition: partition.partition,
            };
            families.lag.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
        if let Some(watermark_us) = status.watermark_us {
            self.set_watermark(source, watermark_us);
        }
        if let Some(at_us) = status.last_event_at_us {
            advance(&mut self.newest().landed, source.clone(), at_us);
        }
    }

    /// Takes what fresh models hold for what has landed: a process that publishes only has not seen them built.
    pub(crate) fn note_fresh<'a>(&self, runner: &Runner, fresh: impl Iterator<Item = &'a str>) {
        let lineage = lineage_of(runner);
        for model in fresh {
            let newest = self.newest_under(&lineage, model);
            if let Some(at_us) = newest {
                advance(&mut self.newest().modelled, model.to_owned(), at_us);
            }
        }
    }

    /// The page that Prometheus scrapes, with ages as they are now.
    pub(crate) fn page(&self) -> String {
        let families = self.0.metrics.families();
        let now_us = self.0.clock.now_us();
        for (table, at_us) in &self.newest().visible {
            families.freshness.get_or_create(&TableLabels { table: table.clone() }).set(seconds_of(now_us - at_us));
        }
        self.0.metrics.render()
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest_under(&self, lineage: &Lineage, model: &str) -> Option<Micros> {
        let newest = self.newest();
        lineage.get(model)?.iter().filter_map(|source| newest.landed.get(source)).max().copied()
    }

    fn set_watermark(&self, source: &SourceName, at_us: Micros) {
        let labels = SourceLabels { source: source.to_string() };
        self.0.metrics.families().watermark.get_or_create(&labels).set(seconds_of(at_us));
    }

    fn observe_step(&self, step: &'static str, name: String, elapsed: Duration) {
        let labels = StepLabels { step, name };
        self.0.metrics.families().step_seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    fn observe_latency(&self, stage: &'static str, table: String, event_at_us: Micros) {
        let latency_us = self.0.clock.now_us().saturating_sub(event_at_us).max(0);
        let labels = StageLabels { table, stage };
        self.0.metrics.families().event_latency.get_or_create(&labels).observe(seconds_of(latency_us));
    }
}

/// The sources that a model stands on, by model.
type Lineage = BTreeMap<String, Vec<SourceName>>;

fn lineage_of(runner: &Runner) -> Lineage {
    let graph = runner.graph();
    let models = graph.order().filter(|node| matches!(node, NodeId::Model(_)));
    models
        .map(|node| {
            let sources = graph.ancestors(node, None).into_iter().filter_map(|above| match above {
                NodeId::Source(name) => Some(name),
                _ => None,
            });
            (node.name(), sources.collect())
        })
        .collect()
}

/// Moves an entry forward; says whether it moved.
fn advance<K: Ord>(newest: &mut BTreeMap<K, Micros>, key: K, at_us: Micros) -> bool {
    let entry = newest.entry(key).or_insert(Micros::MIN);
    let moves = *entry < at_us;
    *entry = (*entry).max(at_us);
    moves
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds since 1970 have 51 bits until the year 2041, and a metric may round"
)]
fn seconds_of(us: Micros) -> f64 {
    us as f64 / 1e6
}
