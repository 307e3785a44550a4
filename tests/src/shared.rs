//! The servers that all tests of one run share.
//!
//! nextest runs each test in a process of its own, so sharing goes through the environment: before the first test of this
//! crate its setup script (`.config/nextest.toml`) runs `tidemill-test-servers`, which starts them in the background and hands
//! their addresses on. A test that was started in another way (`cargo test`) starts that program itself at first use. Either
//! way the servers watch the process that they were started for and end when it is gone, however it ended.
//!
//! Sharing means: topics, prefixes and databases of a test carry a name that no other test has ([`unique_name`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tidemill_project::clock::Clock;

use crate::kafka::Broker;
use crate::s3::S3;
use crate::snowflake::{Address, Snowflake};
use crate::wait;

/// Holds `host:port` of the shared broker.
const KAFKA_VARIABLE: &str = "TIDEMILL_TEST_KAFKA";
/// Holds the base URL of the shared S3 server.
const S3_VARIABLE: &str = "TIDEMILL_TEST_S3";
/// Holds the port of the shared Snowflake emulator.
const SNOWFLAKE_VARIABLE: &str = "TIDEMILL_TEST_SNOWFLAKE_PORT";

/// `bootstrap.servers` of the shared broker.
///
/// # Errors
/// When the servers have to be started here and cannot be.
pub fn kafka() -> Result<String> {
    address(KAFKA_VARIABLE)
}

/// Base URL of the shared S3 server.
///
/// # Errors
/// When the servers have to be started here and cannot be.
pub fn s3() -> Result<String> {
    address(S3_VARIABLE)
}

/// The shared Snowflake emulator.
///
/// # Errors
/// When the servers have to be started here and cannot be.
pub fn snowflake() -> Result<Address> {
    Ok(Address { port: address(SNOWFLAKE_VARIABLE)?.parse().context("the servers hand on a port")? })
}

/// A name that no other test has: lower-case letters, digits and underscores.
#[must_use]
pub fn unique_name(prefix: &str) -> String {
    format!("{prefix}_{}", &Clock::system().new_id().simple().to_string()[..12])
}

/// Starts the servers in a background process that lives as long as `watched`, and returns their addresses, as lines
/// `VARIABLE=value`, when they answer.
///
/// `program` is `tidemill-test-servers`.
///
/// # Errors
/// When one of them does not start; with what it said.
pub fn start_for(watched: Pid, program: &Path) -> Result<String> {
    // Removed by the background process, which outlives this call.
    let folder = tempfile::Builder::new().prefix("tidemill-servers-").disable_cleanup(true).tempdir()?;
    let addresses = folder.path().join("addresses");
    let log_path = folder.path().join("log");
    let log = File::create(&log_path)?;
    let mut background = Command::new(program)
        .args(["serve", &watched.to_string()])
        .arg(&addresses)
        // Its own group: nextest ends the group of a setup script together with the script.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    wait::until("the servers", Duration::from_mins(3), || {
        if let Some(status) = background.try_wait()? {
            bail!("the servers ended at once: {status}\n{}", fs::read_to_string(&log_path).unwrap_or_default());
        }
        Ok(addresses.exists().then_some(()))
    })?;
    Ok(fs::read_to_string(addresses)?)
}

/// The background process: starts the servers, writes `addresses`, and stops them when `watched` is gone.
///
/// # Errors
/// When one of them does not start.
///
/// # Panics
/// Never: starting a server does not.
pub fn serve(watched: Pid, addresses: &Path) -> Result<()> {
    let kafka = thread::spawn(Broker::start);
    let s3 = thread::spawn(S3::start);
    let snowflake = Snowflake::start();
    // All three are joined before any fault is told: a server that has started is stopped by its value.
    let kafka = kafka.join().expect("starting a broker does not panic");
    let s3 = s3.join().expect("starting an S3 server does not panic");
    let (kafka, s3, snowflake) = (kafka?, s3?, snowflake?);
    let lines = [
        (KAFKA_VARIABLE, kafka.bootstrap()),
        (S3_VARIABLE, s3.endpoint().to_owned()),
        (SNOWFLAKE_VARIABLE, snowflake.address().port.to_string()),
    ];
    let text = lines.map(|(variable, value)| format!("{variable}={value}\n")).concat();
    // Written aside and renamed: whoever sees the file sees all of it.
    let aside = addresses.with_extension("new");
    fs::write(&aside, text)?;
    fs::rename(&aside, addresses)?;
    while kill(watched, None).is_ok() {
        wait::pause(Duration::from_millis(200));
    }
    drop((kafka, s3, snowflake));
    if let Some(folder) = addresses.parent() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn address(variable: &str) -> Result<String> {
    static STARTED_HERE: OnceLock<Result<BTreeMap<String, String>, String>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "nextest's setup scripts hand addresses on by the environment")]
    if let Ok(value) = std::env::var(variable) {
        return Ok(value);
    }
    let started = STARTED_HERE.get_or_init(|| start_here().map_err(|error| format!("{error:#}")));
    let started = started.as_ref().map_err(|error| anyhow!("{error}"))?;
    started.get(variable).cloned().with_context(|| format!("the servers told no {variable}"))
}

fn start_here() -> Result<BTreeMap<String, String>> {
    let test = std::env::current_exe()?;
    let release = test.ancestors().nth(2).context("a test lies in target/release/deps")?;
    let addresses = start_for(Pid::this(), &release.join("tidemill-test-servers"))?;
    Ok(addresses.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}
