//! Seeded traffic of the systems, with every fault that real producers make, and the truth that it implies.
//!
//! Same options, same bytes, on every machine: one named generator (ChaCha8) seeded per system and user, virtual time, no
//! clock, no map order. The truth is written by plain code from what was generated, never by SQL and never by reading back,
//! so that marts can be compared with it.

pub mod avro;
mod faults;
mod logins;
mod marts;
mod random;
mod send;
mod traffic;
mod truth;
mod zoner;

pub use marts::{Differences, Mart};
pub use send::{SendError, Sender};
pub use traffic::{Options, Record, System, Traffic, generate, interleave};
pub use truth::{
    ActivityCounts, HourOfDay, LoginWindow, LoginsTruth, SleepInterval, SleepNight, TopicTruth, Truth, UsageHour,
    ZonerTruth,
};
