//! From Kafka partitions and files into raw tables, each event once.

pub mod decode;
