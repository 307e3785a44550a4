//! Whole cycles of the binary on real servers.

mod balance;
mod cli;
mod exits;
mod foreign;
mod kafka;
mod kills;
mod prompt;
mod readme;
mod s3;
mod secrets;
mod servers;
mod snowflake;
mod soak;
mod systems;
mod topics;
mod truth;
