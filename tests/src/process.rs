//! A child process that does not outlive its value.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidemill_project::clock::Clock;

use crate::wait;

/// A running child with its output in a file.
///
/// It stays in the test's process group, so that a test runner that gives up on the test ends it too. Dropping it ends it:
/// SIGTERM first where it was asked for by [`Process::gently`], SIGKILL otherwise.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    term_grace: Option<Duration>,
}

impl Process {
    /// Starts `command` with stdin closed and stdout and stderr in `log` (appended).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_path_buf(), term_grace: None })
    }

    /// Makes the drop send SIGTERM and wait up to `grace` before SIGKILL.
    #[must_use]
    pub fn gently(mut self, grace: Duration) -> Self {
        self.term_grace = Some(grace);
        self
    }

    /// The child's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. One that has ended already is left alone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            kill(self.nix_pid(), signal).with_context(|| format!("failed to signal {}", self.name))?;
        }
        Ok(())
    }

    /// The exit status, when it has ended.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it has not come after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, || Ok(self.child.try_wait()?)).with_context(|| self.tail())
    }

    /// Asks it to end with SIGTERM and waits.
    ///
    /// # Errors
    /// When it is still there after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }

    /// Ends it with SIGKILL and reaps it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// When it ends before, or `limit` passes; with the end of its output.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let name = self.name.clone();
        let waited = wait::until(&format!("{name} to be ready"), limit, || {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("{name} ended at once: {status}");
            }
            Ok(ready().then_some(()))
        });
        waited.with_context(|| self.tail())
    }

    /// All that it has printed.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn output(&self) -> Result<String> {
        let mut bytes = Vec::new();
        File::open(&self.log)?.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn tail(&self) -> String {
        let output = self.output().unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        format!("last lines of {}:\n{}", self.name, lines[lines.len().saturating_sub(30)..].join("\n"))
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("Linux's pids fit in 22 bits"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(grace) = self.term_grace
            && matches!(self.child.try_wait(), Ok(None))
            && kill(self.nix_pid(), Signal::SIGTERM).is_ok()
        {
            let stopwatch = Clock::system().stopwatch();
            while matches!(self.child.try_wait(), Ok(None)) && stopwatch.elapsed() < grace {
                wait::pause(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
