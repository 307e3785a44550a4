//! Whole cycles of the binary on real servers.

mod balance;
mod cli;
mod kafka;
mod kills;
mod s3;
mod servers;
mod snowflake;
mod topics;
mod truth;
