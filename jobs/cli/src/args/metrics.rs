//! Arguments of the commands that count what they do.

use std::path::PathBuf;

use clap::Args;

/// Where metrics go.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct MetricsArgs {
    /// Serve metrics to Prometheus at http://ADDRESS/metrics while the command runs, e.g. 0.0.0.0:9464; port 0 takes any
    #[arg(long, value_name = "ADDRESS", help_heading = "Metrics")]
    pub(crate) metrics_addr: Option<std::net::SocketAddr>,
    /// Write metrics to this file when the command has ended well, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE", help_heading = "Metrics")]
    pub(crate) metrics_file: Option<PathBuf>,
}

impl MetricsArgs {
    /// Whether anybody asked for metrics.
    pub(crate) fn is_wanted(&self) -> bool {
        self.metrics_addr.is_some() || self.metrics_file.is_some()
    }
}
