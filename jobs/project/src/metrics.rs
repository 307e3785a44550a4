//! Metrics: one table of names, one registry per process, rendered in OpenMetrics' text form.
//!
//! Names and labels are X31 of the systems page; what they mean to an operator stands in `docs/metrics.md`. Labels have few
//! values: never a user, a device or a key.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One metric of the reference page.
#[derive(Clone, Copy, Debug)]
pub struct MetricDoc {
    /// Name as scraped; counters end with `_total`.
    pub name: &'static str,
    /// Labels.
    pub labels: &'static [&'static str],
    /// What it counts, with its unit.
    pub meaning: &'static str,
}

/// Every metric that Tidemill serves, in the order of the page.
pub const METRICS: &[MetricDoc] = &[
    MetricDoc {
        name: "kafka_consumer_lag",
        labels: &["group", "topic", "partition"],
        meaning: "Messages between the last stable offset and the lake's position; 0 at the partition's end.",
    },
    MetricDoc {
        name: "tidemill_records_total",
        labels: &["source", "outcome"],
        meaning: "Records read, by outcome: landed, duplicate, quarantined.",
    },
    MetricDoc {
        name: "tidemill_quarantined_total",
        labels: &["source", "class"],
        meaning: "Records that went to quarantine, by class.",
    },
    MetricDoc {
        name: "tidemill_late_records_total",
        labels: &["source"],
        meaning: "Records that landed later than the contract's grace.",
    },
    MetricDoc {
        name: "tidemill_step_seconds",
        labels: &["step", "name"],
        meaning: "Time of one step (ingest: a batch of a source; build: a model or seed; publish: a sink), in seconds.",
    },
    MetricDoc {
        name: "tidemill_event_latency_seconds",
        labels: &["table", "stage"],
        meaning: "Time from `event_at` of the newest event of a commit to landed, modelled or visible, in seconds.",
    },
    MetricDoc {
        name: "tidemill_freshness_seconds",
        labels: &["table"],
        meaning: "Clock minus the newest visible `event_at`, in seconds.",
    },
    MetricDoc {
        name: "tidemill_watermark_timestamp_seconds",
        labels: &["source"],
        meaning: "Watermark of the source, seconds since the epoch.",
    },
    MetricDoc {
        name: "tidemill_last_success_timestamp_seconds",
        labels: &["job"],
        meaning: "When the job last ended well, seconds since the epoch.",
    },
    MetricDoc {
        name: "tidemill_collect_requests_total",
        labels: &["route", "status"],
        meaning: "HTTP requests, by status code.",
    },
    MetricDoc {
        name: "tidemill_collect_records_total",
        labels: &["outcome"],
        meaning: "Readings: accepted (acknowledged by the broker) or rejected (acknowledged, but against the contract).",
    },
    MetricDoc {
        name: "tidemill_collect_request_seconds",
        labels: &["route"],
        meaning: "Time from a request's first byte to its answer, in seconds.",
    },
    MetricDoc {
        name: "tidemill_collect_queued_records",
        labels: &[],
        meaning: "Records that wait for the broker's acknowledgement.",
    },
];

/// The meaning of a metric: what `# HELP` says.
fn help(name: &str) -> &'static str {
    METRICS.iter().find(|doc| doc.name == name).map_or("", |doc| doc.meaning.trim_end_matches('.'))
}

/// Labels of [`Metrics::lag`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LagLabels {
    /// Consumer group.
    pub group: String,
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
}

/// Labels of [`Metrics::records`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// Source table, `source.table`.
    pub source: String,
    /// landed, duplicate, quarantined.
    pub outcome: &'static str,
}

/// Labels of [`Metrics::quarantined`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ClassLabels {
    /// Source table.
    pub source: String,
    /// Class of quarantine (X9).
    pub class: String,
}

/// A source.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SourceLabels {
    /// Source table.
    pub source: String,
}

/// Labels of [`Metrics::step_seconds`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StepLabels {
    /// ingest, build, publish.
    pub step: &'static str,
    /// Source; model or seed; sink.
    pub name: String,
}

/// Labels of [`Metrics::event_latency`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StageLabels {
    /// Table.
    pub table: String,
    /// landed, modelled, visible.
    pub stage: &'static str,
}

/// A table.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TableLabels {
    /// Table.
    pub table: String,
}

/// A job.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct JobLabels {
    /// ingest, build, publish, run, collect.
    pub job: &'static str,
}

/// Labels of [`Metrics::collect_requests`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// Path of the route.
    pub route: &'static str,
    /// HTTP status.
    pub status: u16,
}

/// A route.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RouteLabels {
    /// Path of the route.
    pub route: &'static str,
}

/// An outcome.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReadingLabels {
    /// accepted, rejected.
    pub outcome: &'static str,
}

/// All metrics of a process. Cheap to clone; clones count into the same numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
}

/// The numbers, by name.
#[derive(Clone, Debug)]
pub struct Families {
    /// `kafka_consumer_lag`
    pub lag: Family<LagLabels, Gauge>,
    /// `tidemill_records_total`
    pub records: Family<OutcomeLabels, Counter>,
    /// `tidemill_quarantined_total`
    pub quarantined: Family<ClassLabels, Counter>,
    /// `tidemill_late_records_total`
    pub late_records: Family<SourceLabels, Counter>,
    /// `tidemill_step_seconds`
    pub step_seconds: Family<StepLabels, Histogram>,
    /// `tidemill_event_latency_seconds`
    pub event_latency: Family<StageLabels, Histogram>,
    /// `tidemill_freshness_seconds`
    pub freshness: Family<TableLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    /// `tidemill_watermark_timestamp_seconds`
    pub watermark: Family<SourceLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    /// `tidemill_last_success_timestamp_seconds`
    pub last_success: Family<JobLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    /// `tidemill_collect_requests_total`
    pub collect_requests: Family<RequestLabels, Counter>,
    /// `tidemill_collect_records_total`
    pub collect_records: Family<ReadingLabels, Counter>,
    /// `tidemill_collect_request_seconds`
    pub collect_seconds: Family<RouteLabels, Histogram>,
    /// `tidemill_collect_queued_records`
    pub collect_queued: Gauge,
}

/// From a millisecond to five minutes: commits take milliseconds, a full cycle seconds, a backfill minutes.
fn seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("families", &self.0.families).finish_non_exhaustive()
    }
}

impl Metrics {
    /// A registry with every metric at zero.
    #[must_use]
    pub fn new() -> Self {
        let families = Families {
            lag: Family::default(),
            records: Family::default(),
            quarantined: Family::default(),
            late_records: Family::default(),
            step_seconds: Family::new_with_constructor(seconds),
            event_latency: Family::new_with_constructor(seconds),
            freshness: Family::default(),
            watermark: Family::default(),
            last_success: Family::default(),
            collect_requests: Family::default(),
            collect_records: Family::default(),
            collect_seconds: Family::new_with_constructor(seconds),
            collect_queued: Gauge::default(),
        };
        let mut registry = Registry::default();
        // The text form appends `_total` to counters by itself, and a full stop to each meaning.
        macro_rules! register {
            ($name:literal, $metric:expr) => {
                registry.register($name.trim_end_matches("_total"), help($name), $metric.clone());
            };
        }
        register!("kafka_consumer_lag", families.lag);
        register!("tidemill_records_total", families.records);
        register!("tidemill_quarantined_total", families.quarantined);
        register!("tidemill_late_records_total", families.late_records);
        register!("tidemill_step_seconds", families.step_seconds);
        register!("tidemill_event_latency_seconds", families.event_latency);
        register!("tidemill_freshness_seconds", families.freshness);
        register!("tidemill_watermark_timestamp_seconds", families.watermark);
        register!("tidemill_last_success_timestamp_seconds", families.last_success);
        register!("tidemill_collect_requests_total", families.collect_requests);
        register!("tidemill_collect_records_total", families.collect_records);
        register!("tidemill_collect_request_seconds", families.collect_seconds);
        register!("tidemill_collect_queued_records", families.collect_queued);
        Self(Arc::new(Inner { registry, families }))
    }

    /// The numbers to count into.
    #[must_use]
    pub fn families(&self) -> &Families {
        &self.0.families
    }

    /// The page that Prometheus scrapes, `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    ///
    /// # Panics
    /// Never: a page is written into a text, which cannot fail.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.0.registry).expect("writing into a String cannot fail");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page with its tables, so that no metric goes undocumented and no text outlives its metric.
    #[test]
    fn the_page_of_metrics_has_every_metric_with_its_labels_and_its_meaning() {
        let page = include_str!("../../../docs/metrics.md");
        for doc in METRICS {
            let labels: Vec<String> = doc.labels.iter().map(|label| format!("`{label}`")).collect();
            let row = format!("| `{}` | {} | {} |", doc.name, labels.join(", "), doc.meaning);
            assert!(page.contains(&row), "docs/metrics.md lacks the row\n{row}");
        }
        let rows =
            page.lines().filter(|line| line.starts_with("| `tidemill_") || line.starts_with("| `kafka_")).count();
        assert_eq!(rows, METRICS.len());
    }

    #[test]
    fn every_metric_of_the_table_is_served_with_its_meaning() {
        let metrics = Metrics::new();
        let families = metrics.families();
        let source = || "s.t".to_owned();
        families.lag.get_or_create(&LagLabels { group: "g".into(), topic: "t".into(), partition: 0 }).set(1);
        families.records.get_or_create(&OutcomeLabels { source: source(), outcome: "landed" }).inc();
        families.quarantined.get_or_create(&ClassLabels { source: source(), class: "malformed".into() }).inc();
        families.late_records.get_or_create(&SourceLabels { source: source() }).inc();
        families.step_seconds.get_or_create(&StepLabels { step: "build", name: "m".into() }).observe(0.5);
        families.event_latency.get_or_create(&StageLabels { table: "m".into(), stage: "visible" }).observe(0.5);
        families.freshness.get_or_create(&TableLabels { table: "m".into() }).set(0.5);
        families.watermark.get_or_create(&SourceLabels { source: source() }).set(0.5);
        families.last_success.get_or_create(&JobLabels { job: "run" }).set(0.5);
        families.collect_requests.get_or_create(&RequestLabels { route: "/x", status: 200 }).inc();
        families.collect_records.get_or_create(&ReadingLabels { outcome: "accepted" }).inc();
        families.collect_seconds.get_or_create(&RouteLabels { route: "/x" }).observe(0.5);
        let page = metrics.render();
        for doc in METRICS {
            let name = doc.name.trim_end_matches("_total");
            assert!(page.contains(&format!("# HELP {name} {}", doc.meaning)), "{name} is missing in\n{page}");
        }
        assert!(page.contains("tidemill_collect_requests_total{route=\"/x\",status=\"200\"} 1\n"), "{page}");
        assert!(page.ends_with("# EOF\n"));
    }
}
