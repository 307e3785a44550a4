//! Whole roads: batches by hand on a lake in memory, and librdkafka's in-process broker.

mod by_hand;
mod by_kafka;
mod faults;
mod files;
mod headers;
mod property;
mod support;
