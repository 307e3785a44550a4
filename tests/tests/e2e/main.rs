//! Whole cycles of the binary on real servers.

mod balance;
mod cli;
mod exits;
mod foreign;
mod kafka;
mod kills;
mod prompt;
mod s3;
mod servers;
mod snowflake;
