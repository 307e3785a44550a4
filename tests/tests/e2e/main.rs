//! Whole cycles of the binary on real servers.

mod alerts;
mod balance;
mod builds;
mod cli;
mod collect;
mod exits;
mod files;
mod foreign;
mod insights;
mod kafka;
mod kills;
mod metrics;
mod outputs;
mod prompt;
mod readme;
mod registry;
mod results;
mod s3;
mod secrets;
mod servers;
mod snowflake;
mod soak;
mod systems;
mod topics;
mod truth;
mod warehouse;
