//! A proxy that spoils the network on request.

use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, installed, ports, wait};

/// A running proxy server.
#[derive(Debug)]
pub struct Toxiproxy {
    _process: Process,
    _folder: TempDir,
    api: String,
}

/// One proxied address.
#[derive(Debug)]
pub struct Proxy {
    api: String,
    name: String,
    listen: String,
}

/// Which way the spoiled bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Upstream,
    /// From the server to the client.
    Downstream,
}

impl Toxiproxy {
    /// Starts the server.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start() -> Result<Self> {
        let install = installed::path_of("toxiproxy")?;
        let folder = TempDir::with_prefix("tidemill-toxiproxy-")?;
        let port = ports::free_port();
        let mut command = Command::new(install.join("toxiproxy-server"));
        command.args(["-host", "127.0.0.1", "-port", &port.to_string()]);
        let mut process = Process::start("toxiproxy", &mut command, &folder.path().join("log"))?;
        let api = format!("http://127.0.0.1:{port}");
        let version = format!("{api}/version");
        process.wait_ready(wait::PATIENCE, || http::succeed("GET", &version, None).is_ok())?;
        Ok(Self { _process: process, _folder: folder, api })
    }

    /// Puts a proxy in front of `upstream` (`host:port`), on a free port.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn proxy(&self, name: &str, upstream: &str) -> Result<Proxy> {
        self.proxy_at(name, &format!("127.0.0.1:{}", ports::free_port()), upstream)
    }

    /// Puts a proxy at `listen` in front of `upstream`: for a broker, which tells its clients that address.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn proxy_at(&self, name: &str, listen: &str, upstream: &str) -> Result<Proxy> {
        let body = json!({"name": name, "listen": listen, "upstream": upstream, "enabled": true});
        http::succeed("POST", &format!("{}/proxies", self.api), Some(&body))?;
        Ok(Proxy { api: self.api.clone(), name: name.to_owned(), listen: listen.to_owned() })
    }
}

impl Proxy {
    /// `host:port` for clients.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.listen
    }

    /// Adds a fault, e.g. `timeout` with `{"timeout": 0}` (a black hole), `reset_peer`, `limit_data`, `latency`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn add(&self, kind: &str, direction: Direction, attributes: &Value) -> Result<()> {
        let stream = match direction {
            Direction::Upstream => "upstream",
            Direction::Downstream => "downstream",
        };
        let body = json!({"name": kind, "type": kind, "stream": stream, "attributes": attributes});
        http::succeed("POST", &format!("{}/proxies/{}/toxics", self.api, self.name), Some(&body))?;
        Ok(())
    }

    /// Takes a fault away.
    ///
    /// # Errors
    /// When there is none of that kind.
    pub fn remove(&self, kind: &str) -> Result<()> {
        http::succeed("DELETE", &format!("{}/proxies/{}/toxics/{kind}", self.api, self.name), None)?;
        Ok(())
    }

    /// Cuts all connections and refuses new ones, or lets them in again.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn set_enabled(&self, enabled: bool) -> Result<()> {
        http::succeed("POST", &format!("{}/proxies/{}", self.api, self.name), Some(&json!({"enabled": enabled})))?;
        Ok(())
    }
}
