//! Patience with stores: what may pass is tried again, with a growing pause and a visible warning.

use std::future::Future;
use std::time::Duration;

use tidemill_lake::{CommitOutcome, CommitRequest, LogCommit, Table};
use tidemill_project::clock::{Clock, Stopwatch};
use tidemill_project::{Diagnostic, SourceName, TableVersion};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::Result;
use crate::deadline::Deadline;
use crate::error::Cause;

/// After this long an outage is the scheduler's business. The client below has up to half a minute for each request beside.
const PATIENCE: Duration = Duration::from_mins(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Tries again until it works, it cannot work, or the run is cancelled or over.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) clock: Clock,
    pub(crate) cancel: CancellationToken,
    pub(crate) deadline: Deadline,
}

/// How often one act was tried, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    count: u32,
    since: Option<Stopwatch>,
}

/// How a commit ended, with all commits of others that the table moved over on the way.
#[derive(Debug)]
pub(crate) enum Tried {
    Won { version: TableVersion, others: Vec<LogCommit> },
    Lost(Vec<LogCommit>),
}

impl Tries {
    /// How often the act was tried.
    pub(crate) fn count(self) -> u32 {
        self.count
    }
}

impl Retry {
    /// Repeats `request`, which must be safe to repeat.
    pub(crate) async fn insist<T, F>(
        &self,
        name: &SourceName,
        act: &'static str,
        mut request: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, tidemill_lake::Error>>,
    {
        let mut tries = Tries::default();
        loop {
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(source) => self.bear(name, act, source, &mut tries).await?,
            }
        }
    }

    /// Commits. When the answer was lost the log is asked, by the commit's own id, before anything is tried again.
    pub(crate) async fn commit(&self, name: &SourceName, table: &mut Table, request: CommitRequest) -> Result<Tried> {
        const ACT: &str = "commit";
        let mut tries = Tries::default();
        loop {
            let mut source = match table.commit(request.clone()).await {
                Ok(CommitOutcome::Committed(version)) => return Ok(Tried::Won { version, others: Vec::new() }),
                Ok(CommitOutcome::Lost(commits)) => return Ok(self.find(&request, commits)),
                Err(source) => source,
            };
            loop {
                self.bear(name, ACT, source, &mut tries).await?;
                match table.refresh().await {
                    Ok(commits) if commits.is_empty() => break,
                    Ok(commits) => return Ok(self.find(&request, commits)),
                    Err(error) => source = error,
                }
            }
        }
    }

    /// Looks for our own commit among those that the table moved over.
    #[expect(clippy::unused_self, reason = "reads as a step of `commit`")]
    fn find(&self, request: &CommitRequest, mut commits: Vec<LogCommit>) -> Tried {
        let is_ours =
            |commit: &LogCommit| commit.note.as_ref().is_some_and(|note| note.commit_id == request.note.commit_id);
        match commits.iter().position(is_ours) {
            Some(at) => {
                let version = commits.remove(at).version;
                Tried::Won { version, others: commits }
            }
            None => Tried::Lost(commits),
        }
    }

    /// Waits before the next try, or gives the error back when there is none.
    pub(crate) async fn bear(
        &self,
        name: &SourceName,
        act: &'static str,
        source: tidemill_lake::Error,
        tries: &mut Tries,
    ) -> Result<()> {
        if !self.may_try_again(tries) || !source.kind().is_retryable() {
            return Err(Cause::Lake { act, source_name: name.clone(), source }.into());
        }
        warn!(source = %name, error = &source as &dyn std::error::Error, act, tries = tries.count, "store does not answer, trying again");
        self.pause(tries).await;
        Ok(())
    }

    /// Counts a try that failed and says whether another one is in time.
    pub(crate) fn may_try_again(&self, tries: &mut Tries) -> bool {
        tries.count += 1;
        let since = *tries.since.get_or_insert_with(|| self.clock.stopwatch());
        since.elapsed() < PATIENCE && !self.cancel.is_cancelled() && !self.deadline.is_over()
    }

    /// Waits before the next try: longer each time, and not beyond the run's end.
    pub(crate) async fn pause(&self, tries: &Tries) {
        let pause = FIRST_PAUSE.saturating_mul(1 << tries.count.saturating_sub(1).min(10)).min(MAX_PAUSE);
        tokio::select! {
            () = self.clock.sleep(pause) => {}
            () = self.cancel.cancelled() => {}
            () = self.deadline.passed(&self.clock) => {}
        }
    }
}
