//! Sources that are read on beside the cycles of `run --every`.
//!
//! A cycle that starts its own consumer waits for it to join the group, to find its partitions and to notice their ends: most
//! of a second in which nothing is built. When cycles follow each other quickly their sources are therefore followed by
//! consumers that stay, and a cycle builds from what is in the lake when it starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_ingest::{BatchSummary, Error, IngestObserver, IngestReport, IngestRequest, Mode, SourceReport};
use tidemill_project::SourceName;
use tidemill_project::contract::Contract;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::meter::Meter;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::report;

/// One reader per source, so that the fault of one is noticed while the others go on.
pub(crate) struct Readers {
    sources: Vec<Reader>,
    meter: Meter,
    /// Rings when something was committed.
    news: Arc<Notify>,
}

struct Reader {
    contract: Contract,
    counts: Arc<Counts>,
    task: JoinHandle<tidemill_ingest::Result<IngestReport>>,
}

/// What was committed since a cycle last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) landed: u64,
    pub(crate) duplicates: u64,
    pub(crate) quarantined: u64,
}

#[derive(Debug)]
struct Counts {
    landed: AtomicU64,
    duplicates: AtomicU64,
    quarantined: AtomicU64,
    news: Arc<Notify>,
    /// Ends the reader.
    stop: CancellationToken,
}

impl IngestObserver for Counts {
    fn batch_committed(&self, summary: &BatchSummary) {
        for books in &summary.partitions {
            self.landed.fetch_add(books.landed, Ordering::Relaxed);
            self.duplicates.fetch_add(books.duplicates, Ordering::Relaxed);
            self.quarantined.fetch_add(books.quarantined, Ordering::Relaxed);
        }
        self.news.notify_one();
    }

    /// A reader that goes on without one of its partitions would hide it: it ends, and with it the command, as a cycle does
    /// that reads by itself.
    fn partition_stopped(&self, _source: &SourceName, _error: &Error) {
        self.stop.cancel();
    }

    fn source_finished(&self, _report: &SourceReport) {
        self.news.notify_one();
    }
}

impl Readers {
    /// Starts to follow the sources. They end with `cancel`.
    pub(crate) fn start(context: &Context, contracts: &[Contract], meter: &Meter, cancel: &CancellationToken) -> Self {
        let share = context.settings.ingest.memory_budget_bytes / contracts.len().max(1);
        let news = Arc::new(Notify::new());
        let start = |contract: &Contract| Reader::start(context, contract.clone(), share, &news, meter, cancel);
        let sources = contracts.iter().map(start).collect();
        Self { sources, meter: meter.clone(), news: Arc::clone(&news) }
    }

    /// Waits for the next commit that is not known to [`Self::arrived`].
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// What has arrived since the last call. A reader that ended by a temporary fault is started again; any other fault is
    /// returned.
    pub(crate) async fn arrived(
        &mut self,
        context: &Context,
        printer: Printer,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Arrived> {
        let share = context.settings.ingest.memory_budget_bytes / self.sources.len().max(1);
        let mut arrived = Arrived::default();
        for reader in &mut self.sources {
            let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
            arrived.landed += take(&reader.counts.landed);
            arrived.duplicates += take(&reader.counts.duplicates);
            arrived.quarantined += take(&reader.counts.quarantined);
            if !reader.task.is_finished() || cancel.is_cancelled() {
                continue;
            }
            let ended = (&mut reader.task).await?;
            let error = match ended {
                Ok(mut report) => report.take_error(),
                Err(error) => Some(error),
            };
            if let Some(error) = error.map(anyhow::Error::new) {
                if report::exit_of(&error) != Exit::Retry {
                    return Err(error);
                }
                printer.error(&error);
            }
            *reader = Reader::start(context, reader.contract.clone(), share, &self.news, &self.meter, cancel);
        }
        Ok(arrived)
    }

    /// Waits until all have ended, which they do when the token is cancelled that they were started with.
    pub(crate) async fn join(self) {
        for reader in self.sources {
            // A stop drops what was under way; the next run reads it again.
            if let Err(error) = reader.task.await {
                tracing::warn!(source = %reader.contract.name, %error, "reader died");
            }
        }
    }
}

impl Reader {
    fn start(
        context: &Context,
        contract: Contract,
        budget_bytes: usize,
        news: &Arc<Notify>,
        meter: &Meter,
        cancel: &CancellationToken,
    ) -> Self {
        let mut settings = context.settings.clone();
        settings.ingest.memory_budget_bytes = budget_bytes;
        let lake = context.lake.clone();
        let stop = cancel.child_token();
        let counts = Arc::new(Counts {
            landed: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
            news: Arc::clone(news),
            stop: stop.clone(),
        });
        let request = IngestRequest {
            contracts: vec![contract.clone()],
            mode: Mode::Follow,
            max_records: None,
            max_duration: None,
            run_id: context.run_id.clone(),
            as_of_us: context.as_of_us,
        };
        let observer = meter.ingest(Arc::<Counts>::clone(&counts));
        let task =
            tokio::spawn(async move { tidemill_ingest::ingest(&settings, &lake, request, observer, stop).await });
        Self { contract, counts, task }
    }
}
