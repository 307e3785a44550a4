//! Carries what changed in models to where it is read: Snowflake or the local warehouse, Kafka topics, Redis.
//!
//! # Guarantee
//! A target shows one version of its model's table, exactly: each row once, rows that left the model gone. Rows and
//! position change in one transaction of the target, as a compare-and-swap on the position that the change was computed from;
//! killed anywhere and run again, the target ends the same. Only rows that differ are sent. Nothing new means no request.

mod books;
mod diff;
mod edits;
mod error;
mod kafka;
mod local;
mod messages;
mod note;
mod publish;
mod redis;
mod report;
mod request;
mod sink;
pub mod snowflake;

pub use books::{PageState, SinkPage, books};
pub use diff::{ChangeBatch, ChangeConsumer, ChangeCounts, ChangeKind, ChangeSet, PartitionValues, Shape};
pub use error::{Error, Result};
pub use kafka::{KafkaFault, KafkaSink};
pub use local::LocalSink;
pub use publish::{check, publish, published_versions};
pub use redis::{RedisFault, RedisSink};
pub use report::{CheckedTable, Outcome, PublishObserver, PublishReport, PublishedTable, PublishedVersion, Silent};
pub use request::{BATCH_COLUMN, Emit, Messages, Publication, PublishRequest, Strategy, Target, TargetTable};
pub use sink::{Applied, ApplyContext, Position, Sink};
