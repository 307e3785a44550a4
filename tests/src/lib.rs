//! Harness of the tests that start processes and servers.
//!
//! Everything runs on loopback and free ports, is stopped by its own pid when its value is dropped, and is real: Apache
//! Kafka, an S3 server, the Snowflake emulator, a fault-injecting proxy and the `tidemill` binary itself. Servers come from
//! `tests/servers/install`; one that is missing is a failure, never a skipped test.
//!
//! - [`embedded`]: a broker in the test's own process, for what needs no real one.
//! - [`kafka`], [`topics`]: a broker that can be killed and restarted on its data, and what is written into it.
//! - [`s3`], [`snowflake`], [`registry`], [`redis`]: the other servers; [`tables`]: what a warehouse holds; [`toxiproxy`], [`faulty`]: what spoils
//!   the way to them; [`mutual_tls`]: what guards it.
//! - [`shared`]: the servers that one test run shares.
//! - [`tidemill`], [`project`]: the binary, and a project folder for it.
//! - [`logins`], [`simulated`]: seeded traffic with its own truth, of one source and of all systems; [`seed`]: which seed.
//! - [`process`], [`ports`], [`wait`], [`installed`], [`http`]: what the above is made of.

pub mod embedded;
pub mod failpoints;
pub mod faulty;
pub mod http;
pub mod installed;
pub mod kafka;
pub mod logins;
pub mod mutual_tls;
pub mod ports;
pub mod process;
pub mod project;
pub mod redis;
pub mod registry;
pub mod s3;
pub mod seed;
pub mod shared;
pub mod simulated;
pub mod snowflake;
pub mod tables;
pub mod tidemill;
pub mod topics;
pub mod toxiproxy;
pub mod wait;
