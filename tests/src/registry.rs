//! A schema registry: Apicurio, which keeps its schemas in memory and speaks Confluent's REST interface.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, installed, ports};

const START_LIMIT: Duration = Duration::from_secs(90);

/// A running registry. Subjects take what is backward compatible, as Confluent's do by default.
#[derive(Debug)]
pub struct Registry {
    _process: Process,
    _folder: TempDir,
    port: u16,
}

impl Registry {
    /// Starts a registry without schemas; it answers when this returns.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start() -> Result<Self> {
        let install = installed::path_of("registry")?;
        let folder = TempDir::with_prefix("tidemill-registry-")?;
        let (port, management) = (ports::free_port(), ports::free_port());
        let log = folder.path().join("log");
        let mut process = Process::start("registry", &mut command(&install, port, management), &log)?;
        let subjects = format!("http://127.0.0.1:{port}/apis/ccompat/v7/subjects");
        let answers = || http::send("GET", &subjects, None).is_ok_and(|answer| answer.status == 200);
        process.wait_ready(START_LIMIT, answers)?;
        let registry = Self { _process: process, _folder: folder, port };
        let rule = json!({"compatibility": "BACKWARD"});
        http::succeed("PUT", &format!("{}/config", registry.url()), Some(&rule))?;
        Ok(registry)
    }

    /// `host:port`, for what is put in front of it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Base of the REST interface.
    #[must_use]
    pub fn url(&self) -> String {
        url_at(&self.address())
    }

    /// Registers an Avro schema and returns its id.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let url = format!("{}/subjects/{subject}/versions", self.url());
        let answer: Value = serde_json::from_str(&http::succeed("POST", &url, Some(&json!({"schema": schema})))?)?;
        let id = answer["id"].as_u64().with_context(|| format!("no id in {answer}"))?;
        Ok(u32::try_from(id)?)
    }

    /// The versions of a subject.
    ///
    /// # Errors
    /// When the registry does not answer.
    pub fn versions(&self, subject: &str) -> Result<Value> {
        let answer = http::send("GET", &format!("{}/subjects/{subject}/versions", self.url()), None)?;
        Ok(if answer.status == 404 { json!([]) } else { serde_json::from_str(&answer.body)? })
    }
}

/// Base of the REST interface behind `host:port`.
#[must_use]
pub fn url_at(address: &str) -> String {
    format!("http://{address}/apis/ccompat/v7")
}

fn command(install: &std::path::Path, port: u16, management: u16) -> Command {
    let java: PathBuf = install.join("java");
    let mut command = Command::new(java);
    command
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.management.host=127.0.0.1"])
        .arg(format!("-Dquarkus.http.port={port}"))
        .arg(format!("-Dquarkus.management.port={management}"))
        .arg("-jar")
        .arg(install.join("quarkus-run.jar"));
    command
}
