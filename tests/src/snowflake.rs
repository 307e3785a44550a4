//! The Snowflake emulator, and a look into its tables past our own client.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, installed, ports, wait};

/// A running emulator. All its state is in memory; a database comes into being at login, so tests share the process and take
/// a fresh database each.
#[derive(Debug)]
pub struct Snowflake {
    _process: Process,
    _folder: TempDir,
    address: Address,
}

/// Where an emulator listens, on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Port.
    pub port: u16,
}

impl Snowflake {
    /// Starts an emulator.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("tidemill-fakesnow-")?;
        let port = ports::free_port();
        let mut command = Command::new(python()?);
        command
            .arg(installed::repository().join("tests/servers/fakesnow/launcher.py"))
            .arg(port.to_string())
            // A test has one client at a time, and some are killed with a transaction open.
            .arg("--one-session-per-database")
            .current_dir(folder.path());
        let mut process = Process::start("fakesnow", &mut command, &folder.path().join("log"))?;
        let url = format!("http://127.0.0.1:{port}/");
        // Any answer will do: it has no page at its root.
        process.wait_ready(wait::PATIENCE, || http::send("GET", &url, None).is_ok())?;
        Ok(Self { _process: process, _folder: folder, address: Address { port } })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Address {
    /// Base URL.
    #[must_use]
    pub fn url(self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Runs statements in one session of `database` through Snowflake's own Python connector, which shares no code with
    /// ours, and returns the last one's rows: an object each, values as JSON or as text.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn query(self, database: &str, statements: &[&str]) -> Result<Vec<Map<String, Value>>> {
        let output = Command::new(python()?)
            .arg(installed::repository().join("tests/servers/fakesnow/query.py"))
            .args([&self.port.to_string(), database])
            .args(statements)
            .output()
            .context("failed to start Python")?;
        ensure!(output.status.success(), "{statements:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn python() -> Result<std::path::PathBuf> {
    Ok(installed::path_of("fakesnow")?.join("bin/python"))
}
