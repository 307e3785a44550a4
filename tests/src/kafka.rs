//! Apache Kafka: one broker, controller included, on a data folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::Process;
use crate::topics::Topics;
use crate::{installed, ports, wait};

/// The user that the listener with SASL lets in …
pub const SASL_USER: &str = "keeper";
/// … and the password.
pub const SASL_PASSWORD: &str = "Kafka-Passw0rd-8472";

/// Longest time to a broker that answers: a restart after a kill waits for its old session to end (7 s when idle).
const START_LIMIT: Duration = Duration::from_secs(90);

/// A broker that can be stopped, killed, stalled and started again on the data it kept.
#[derive(Debug)]
pub struct Broker {
    process: Option<Process>,
    install: PathBuf,
    folder: TempDir,
    ports: Ports,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    controller: u16,
    /// The second listener, which a fault injector forwards to …
    proxied: u16,
    /// … and the port on which that injector is to listen: the one this listener tells its clients.
    proxy: u16,
    /// The listener that asks for SASL PLAIN.
    sasl: u16,
}

impl Broker {
    /// Starts a broker on an empty data folder; it answers when this returns.
    ///
    /// # Errors
    /// When Kafka is not installed or does not start.
    pub fn start() -> Result<Self> {
        let install = installed::path_of("kafka")?;
        let folder = TempDir::with_prefix("tidemill-kafka-")?;
        let ports = Ports {
            client: ports::free_port(),
            controller: ports::free_port(),
            proxied: ports::free_port(),
            proxy: ports::free_port(),
            sasl: ports::free_port(),
        };
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        // A copy of a formatted folder replaces a JVM start.
        for entry in fs::read_dir(install.join("template"))? {
            let entry = entry?;
            fs::copy(entry.path(), data.join(entry.file_name()))?;
        }
        let template = fs::read_to_string(installed::repository().join("tests/servers/kafka/server.properties"))?;
        let properties = template
            .replace("@DATA_DIR@", &data.display().to_string())
            .replace("@PORT@", &ports.client.to_string())
            .replace("@CONTROLLER_PORT@", &ports.controller.to_string())
            .replace("@PROXIED_PORT@", &ports.proxied.to_string())
            .replace("@PROXY_PORT@", &ports.proxy.to_string())
            .replace("@SASL_PORT@", &ports.sasl.to_string())
            .replace("@SASL_USER@", SASL_USER)
            .replace("@SASL_PASSWORD@", SASL_PASSWORD);
        fs::write(folder.path().join("server.properties"), properties)?;
        let mut broker = Self { process: None, install, folder, ports };
        broker.restart()?;
        Ok(broker)
    }

    /// `bootstrap.servers` of the plain listener.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// `bootstrap.servers` for clients that are to come through a fault injector, and the address that it must forward to.
    #[must_use]
    pub fn proxied_bootstrap(&self) -> (String, String) {
        (format!("127.0.0.1:{}", self.ports.proxy), format!("127.0.0.1:{}", self.ports.proxied))
    }

    /// `bootstrap.servers` of the listener that asks for [`SASL_USER`]'s password, by SASL PLAIN without TLS.
    #[must_use]
    pub fn sasl_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sasl)
    }

    /// Starts the broker on the data that it has; ends a running one by SIGKILL first.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let log = self.folder.path().join("log");
        let mut process = Process::start("kafka", &mut self.command()?, &log)?;
        let port = self.ports.client;
        process.wait_ready(START_LIMIT, || ports::is_open(port))?;
        self.process = Some(process);
        let topics = Topics::connect(&self.bootstrap())?;
        wait::until("the broker to answer", START_LIMIT, || Ok(topics.num_brokers().ok().filter(|count| *count > 0)))?;
        Ok(())
    }

    /// Stops it cleanly.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(wait::PATIENCE)?;
        }
        Ok(())
    }

    /// Ends it by SIGKILL; the data stay for [`Broker::restart`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Stalls it (SIGSTOP) or lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.as_mut().context("the broker is not running")?.signal(signal)
    }

    /// The broker's folder, with its log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The same flags and the same sorted list of jars as in `tests/servers/install`: the class-data archive fits no other.
    fn command(&self) -> Result<Command> {
        let mut jars: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(self.install.join("libs"))? {
            jars.push(entry?.path());
        }
        jars.sort();
        let class_path: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
            .arg(format!("-Dlog4j2.configurationFile=file:{}", self.install.join("log4j2.properties").display()))
            .arg(format!("-XX:SharedArchiveFile={}", self.install.join("kafka.jsa").display()))
            .args(["-cp", &class_path.join(":"), "kafka.Kafka"])
            .arg(self.folder.path().join("server.properties"));
        Ok(command)
    }
}
