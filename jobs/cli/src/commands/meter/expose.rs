//! How the numbers leave the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidemill_collect::Scrape;
use tidemill_project::contract::Contract;
use tokio_util::sync::CancellationToken;

use super::Meter;
use crate::args::MetricsArgs;
use crate::commands::context::Context;
use crate::printer::Printer;

/// Brokers are asked for their ends this often while somebody may scrape.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Where the numbers go.
pub(crate) struct Exposition {
    meter: Meter,
    contracts: Vec<Contract>,
    file: Option<PathBuf>,
    /// Ends the server and the look at the brokers.
    stop: CancellationToken,
}

impl Exposition {
    /// Starts to serve at the address that was asked for, if any, and says on stderr where that is. `contracts` are the sources
    /// that are looked at, all that are enabled unless given.
    ///
    /// # Errors
    /// The address is taken.
    pub(crate) async fn start(
        args: &MetricsArgs,
        meter: &Meter,
        context: &Context,
        contracts: Option<Vec<Contract>>,
        printer: Printer,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let contracts = match contracts {
            _ if !args.is_wanted() => Vec::new(),
            Some(contracts) => contracts,
            None => context.selected_contracts(&[])?,
        };
        if let Some(address) = args.metrics_addr {
            let scrape = Scrape::bind(address).await?;
            printer.note(&format!("metrics at http://{}/metrics", scrape.local_addr()?));
            let (paged, stopped) = (meter.clone(), stop.clone());
            tokio::spawn(async move {
                if let Err(error) = scrape.serve(Arc::new(move || paged.page()), stopped).await {
                    tracing::warn!(%error, "metrics are not served any more");
                }
            });
            tokio::spawn(sample(meter.clone(), context.clone(), contracts.clone(), stop.clone()));
        }
        if args.metrics_file.is_some() {
            // What had landed before is no news of this run.
            meter.sample(context, &contracts).await;
        }
        Ok(Self { meter: meter.clone(), contracts, file: args.metrics_file.clone(), stop })
    }

    /// Ends the service. A job that ended well leaves its numbers in the file; one that failed leaves the file as it is, so that
    /// the time of its last success grows old there.
    pub(crate) async fn finish(self, context: &Context, has_succeeded: bool) -> anyhow::Result<()> {
        self.stop.cancel();
        if let Some(path) = self.file.as_ref().filter(|_| has_succeeded) {
            self.meter.sample(context, &self.contracts).await;
            write(path, &self.meter.page())?;
        }
        Ok(())
    }
}

async fn sample(meter: Meter, context: Context, contracts: Vec<Contract>, stop: CancellationToken) {
    let looks = async {
        loop {
            meter.sample(&context, &contracts).await;
            context.clock.sleep(SAMPLE_EVERY).await;
        }
    };
    tokio::select! {
        () = looks => {}
        () = stop.cancelled() => {}
    }
}

/// Writes beside the file and renames, so that nobody reads half a page.
fn write(path: &Path, page: &str) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let failed = || format!("failed to write metrics, path=`{}`", path.display());
    std::fs::write(&beside, page).with_context(failed)?;
    std::fs::rename(&beside, path).with_context(failed)
}
