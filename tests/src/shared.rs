//! The servers that all tests of one run share.
//!
//! nextest runs each test in a process of its own, so sharing goes through the environment: before the first test of this
//! crate its setup script (`.config/nextest.toml`) runs `tidemill-test-servers`, which starts them and hands their addresses
//! on. A test that was started in another way (`cargo test`) starts its own at first use; they end with it.
//!
//! Sharing means: topics, prefixes and databases of a test carry a name that no other test has ([`unique_name`]).

use std::sync::LazyLock;

use anyhow::{Context, Result};
use tidemill_project::clock::Clock;

use crate::kafka::Broker;
use crate::s3::S3;
use crate::snowflake::{Address, Snowflake};

/// Holds `host:port` of the shared broker.
pub const KAFKA_VARIABLE: &str = "TIDEMILL_TEST_KAFKA";
/// Holds the base URL of the shared S3 server.
pub const S3_VARIABLE: &str = "TIDEMILL_TEST_S3";
/// Holds the port of the shared Snowflake emulator.
pub const SNOWFLAKE_VARIABLE: &str = "TIDEMILL_TEST_SNOWFLAKE_PORT";

/// `bootstrap.servers` of the shared broker.
///
/// # Errors
/// When it has to be started here and cannot be.
pub fn kafka() -> Result<String> {
    static OWN: LazyLock<Result<Broker, String>> =
        LazyLock::new(|| Broker::start().map_err(|error| format!("{error:#}")));
    match variable(KAFKA_VARIABLE) {
        Some(bootstrap) => Ok(bootstrap),
        None => Ok(own(&OWN)?.bootstrap()),
    }
}

/// Base URL of the shared S3 server.
///
/// # Errors
/// When it has to be started here and cannot be.
pub fn s3() -> Result<String> {
    static OWN: LazyLock<Result<S3, String>> = LazyLock::new(|| S3::start().map_err(|error| format!("{error:#}")));
    match variable(S3_VARIABLE) {
        Some(endpoint) => Ok(endpoint),
        None => Ok(own(&OWN)?.endpoint().to_owned()),
    }
}

/// The shared Snowflake emulator.
///
/// # Errors
/// When it has to be started here and cannot be.
pub fn snowflake() -> Result<Address> {
    static OWN: LazyLock<Result<Snowflake, String>> =
        LazyLock::new(|| Snowflake::start().map_err(|error| format!("{error:#}")));
    match variable(SNOWFLAKE_VARIABLE) {
        Some(port) => Ok(Address { port: port.parse().context("the setup script hands on a port")? }),
        None => Ok(own(&OWN)?.address()),
    }
}

/// A name that no other test has: lower-case letters, digits and underscores.
#[must_use]
pub fn unique_name(prefix: &str) -> String {
    format!("{prefix}_{}", &Clock::system().new_id().simple().to_string()[..12])
}

fn own<T>(server: &'static LazyLock<Result<T, String>>) -> Result<&'static T> {
    server.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

#[expect(clippy::disallowed_methods, reason = "nextest's setup scripts hand addresses on by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
