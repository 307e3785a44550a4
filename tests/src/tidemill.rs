//! The binary under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Process;

/// Exit codes of the command line, as documented for schedulers.
pub mod exit {
    /// Done; also when there was nothing to do, and after a clean stop by a signal.
    pub const DONE: i32 = 0;
    /// Failed, and a retry cannot help.
    pub const FAILED: i32 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: i32 = 2;
    /// Data tests or books say no.
    pub const REJECTED: i32 = 3;
    /// Temporary: try again.
    pub const RETRY: i32 = 75;
}

/// Calls of the binary with one project and target.
#[derive(Clone, Debug)]
pub struct Tidemill {
    project: PathBuf,
    target: Option<String>,
    /// Arguments that every call has.
    always: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A call that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output: data.
    pub stdout: String,
    /// Standard error: everything else.
    pub stderr: String,
}

static SPAWNED: AtomicU32 = AtomicU32::new(0);

/// The binary: `TIDEMILL_BIN`, else the one beside this program in the target folder.
///
/// # Errors
/// When it was not built.
pub fn binary() -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests may be pointed at another binary")]
    let chosen = std::env::var("TIDEMILL_BIN").ok();
    let binary = if let Some(path) = chosen {
        PathBuf::from(path)
    } else {
        let test = std::env::current_exe()?;
        // A test lies in target/release/deps, a program of the benches in target/release.
        let folders = test.ancestors().skip(1).take(2).map(|folder| folder.join("tidemill"));
        let mut candidates: Vec<PathBuf> = folders.collect();
        let beside = candidates.iter().position(|candidate| candidate.is_file()).unwrap_or_default();
        candidates.swap_remove(beside)
    };
    ensure!(
        binary.is_file(),
        "{} is missing; run cargo build --release -p tidemill-cli --features failpoints",
        binary.display()
    );
    Ok(binary)
}

impl Tidemill {
    /// Calls for the project in a folder.
    #[must_use]
    pub fn new(project: &Path) -> Self {
        Self { project: project.to_path_buf(), target: None, always: Vec::new(), environment: Vec::new() }
    }

    /// Chooses a target of `tidemill.toml`.
    #[must_use]
    pub fn target(mut self, name: &str) -> Self {
        self.target = Some(name.to_owned());
        self
    }

    /// Sets the clock of every call: an instant such as 2025-03-09T12:00:00Z.
    #[must_use]
    pub fn as_of(mut self, instant: &str) -> Self {
        self.always.extend(["--as-of".to_owned(), instant.to_owned()]);
        self
    }

    /// Sets variables of models and contracts for every call, as YAML.
    #[must_use]
    pub fn vars(mut self, map: &str) -> Self {
        self.always.extend(["--vars".to_owned(), map.to_owned()]);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the process end itself by SIGKILL at the `pass`-th pass of a crash point.
    #[must_use]
    pub fn crash_at(self, point: &str, pass: u32) -> Self {
        self.env("TIDEMILL_CRASH_AT", &format!("{point}:{pass}"))
    }

    /// The project's folder.
    #[must_use]
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// The command, for callers that want its pipes.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("--project-dir").arg(&self.project);
        if let Some(target) = &self.target {
            command.args(["--target", target]);
        }
        command
            .args(&self.always)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let output = self.command(arguments)?.output().context("failed to start tidemill")?;
        Ok(Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must end with `code`.
    ///
    /// # Errors
    /// When it ends in another way, with all that it printed.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Result<Finished> {
        let finished = self.run(arguments)?;
        ensure!(
            finished.code == Some(code),
            "tidemill {} ended with {:?} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            arguments.join(" "),
            finished.code,
            finished.stdout,
            finished.stderr
        );
        Ok(finished)
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn succeed(&self, arguments: &[&str]) -> Result<Finished> {
        self.expect(exit::DONE, arguments)
    }

    /// Runs a command with `--format json` that must succeed, and reads its object.
    ///
    /// # Errors
    /// When it fails or prints anything but one JSON value on stdout.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let with_format: Vec<&str> = ["--format", "json"].into_iter().chain(arguments.iter().copied()).collect();
        let finished = self.succeed(&with_format)?;
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("stdout is not one JSON value: {}", finished.stdout))
    }

    /// The rows of a query, an object each.
    ///
    /// # Errors
    /// When the query fails.
    pub fn query(&self, sql: &str) -> Result<Vec<Value>> {
        let answer = self.json(&["sql", sql])?;
        let rows = answer.get("rows").unwrap_or(&answer);
        rows.as_array().cloned().with_context(|| format!("no rows in {answer}"))
    }

    /// The one number that a query yields.
    ///
    /// # Errors
    /// When it yields anything else.
    pub fn number(&self, sql: &str) -> Result<i64> {
        let rows = self.query(sql)?;
        let number = match rows.as_slice() {
            [row] => row.as_object().and_then(|row| row.values().next()).and_then(Value::as_i64),
            _ => None,
        };
        number.with_context(|| format!("{sql} yields no single number: {rows:?}"))
    }

    /// Starts a command in the background, its output in a file of the project's folder.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Process> {
        let count = SPAWNED.fetch_add(1, Ordering::SeqCst);
        let name = format!("tidemill-{}-{count}", arguments.first().unwrap_or(&"none"));
        let log = self.project.join(format!("{name}.log"));
        Process::start(&name, &mut self.command(arguments)?, &log)
    }
}
