//! What can go wrong with ingest, and what the caller can do about it.

use std::path::PathBuf;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Offset, SourceName, TopicPartition};

/// The room's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault of ingest.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Cause>);

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("target has no broker, source=`{source_name}`")]
    NoBroker { source_name: SourceName },
    #[error("failed to {act}, source=`{source_name}`")]
    Kafka { act: &'static str, source_name: SourceName, source: KafkaError },
    #[error("none of the topics exists, source=`{source_name}`, topics=`{topics}`")]
    NoTopic { source_name: SourceName, topics: String },
    #[error("topic pattern is not a regular expression, source=`{source_name}`, pattern=`{pattern}`")]
    TopicPattern { source_name: SourceName, pattern: String, source: regex::Error },
    #[error("broker did not answer for a minute or more, source=`{source_name}`")]
    Silent { source_name: SourceName, source: KafkaError },
    #[error(
        "offsets were deleted before they were read, partition=`{partition}`, next_offset=`{next}`, log_start=`{log_start}`"
    )]
    Expired { partition: TopicPartition, next: Offset, log_start: Offset },
    #[error(
        "next offset lies behind the end of the log, was the topic re-created?, partition=`{partition}`, \
         next_offset=`{next}`, log_end=`{log_end}`"
    )]
    Ahead { partition: TopicPartition, next: Offset, log_end: Offset },
    #[error(
        "partition holds another log than the one that was read, was the topic re-created?, partition=`{partition}`, \
         next_offset=`{next}`, log_start=`{log_start}`, log_end=`{log_end}`"
    )]
    Recreated { partition: TopicPartition, next: Offset, log_start: Offset, log_end: Offset },
    #[error(
        "run was over before store and broker had let it begin, source=`{source_name}`, max_duration_ms=`{max_duration_ms}`"
    )]
    Late { source_name: SourceName, max_duration_ms: u128 },
    #[error("records name their schema but the target has no registry, source=`{source_name}`")]
    NoRegistry { source_name: SourceName },
    #[error("writers' schemas cannot be read, source=`{source_name}`")]
    Registry { source_name: SourceName, source: crate::registry::RegistryError },
    #[error("failed to {act}, source=`{source_name}`")]
    Lake { act: &'static str, source_name: SourceName, source: tidemill_lake::Error },
    #[error("a commit kept losing the race, source=`{source_name}`, attempts=`{attempts}`")]
    Contended { source_name: SourceName, attempts: u32 },
    #[error("books do not balance, source=`{source_name}`: {difference}")]
    Books { source_name: SourceName, difference: String },
    #[error("decoded rows do not fit the table, source=`{source_name}`")]
    Shape { source_name: SourceName, source: arrow::error::ArrowError },
    #[error("contract is not usable, source=`{source_name}`")]
    Contract { source_name: SourceName, source: crate::decode::Error },
    #[error("pipeline stopped unexpectedly, source=`{source_name}`, stage=`{stage}`")]
    StageGone { source_name: SourceName, stage: &'static str },
    #[error("failed to start a thread, source=`{source_name}`, stage=`{stage}`")]
    Thread { source_name: SourceName, stage: &'static str, source: std::io::Error },
    #[error("failed to read a file, path=`{path}`")]
    ReadFile { path: PathBuf, source: std::io::Error },
    #[error("file is not readable as {format}, path=`{path}`, record=`{record}`")]
    FileFormat { path: PathBuf, format: &'static str, record: u64, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("file has an ending that says nothing, path=`{path}`")]
    FileEnding { path: PathBuf },
    #[error("quarantine has no such entry, id=`{id}`")]
    NoEntry { id: String },
    #[error("entry belongs to a source without contract, id=`{id}`, source=`{source_name}`")]
    NoContract { id: String, source_name: String },
    #[error("quarantine entry is not readable: {difference}")]
    EntryShape { difference: String },
}

impl Error {
    /// Whether a partition was stopped because Kafka no longer has its next offset.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(*self.0, Cause::Expired { .. } | Cause::Ahead { .. } | Cause::Recreated { .. })
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Cause::Kafka { source, .. } => kind_of_kafka(source),
            Cause::Silent { .. } | Cause::Late { .. } | Cause::Thread { .. } => ErrorKind::Unavailable,
            Cause::Lake { source, .. } => source.kind(),
            Cause::Registry { source, .. } => source.kind(),
            Cause::Contended { .. } => ErrorKind::Conflict,
            Cause::Books { .. } => ErrorKind::Rejected,
            Cause::Shape { .. } | Cause::StageGone { .. } | Cause::EntryShape { .. } => ErrorKind::Bug,
            Cause::NoRegistry { .. } | Cause::NoBroker { .. } | Cause::TopicPattern { .. } | Cause::Contract { .. } => {
                ErrorKind::Configuration
            }
            Cause::NoTopic { .. }
            | Cause::Expired { .. }
            | Cause::Ahead { .. }
            | Cause::Recreated { .. }
            | Cause::ReadFile { .. }
            | Cause::FileFormat { .. }
            | Cause::FileEnding { .. }
            | Cause::NoEntry { .. }
            | Cause::NoContract { .. } => ErrorKind::Invalid,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        let code = match &*self.0 {
            Cause::NoBroker { .. } => 401,
            Cause::NoTopic { .. } => 402,
            Cause::Expired { .. } => 403,
            Cause::Ahead { .. } => 404,
            Cause::Books { .. } => 405,
            Cause::FileEnding { .. } => 406,
            Cause::NoEntry { .. } => 407,
            Cause::Recreated { .. } => 408,
            Cause::Late { .. } | Cause::Silent { .. } => 409,
            Cause::NoRegistry { .. } => 412,
            Cause::Lake { source, .. } => return source.code(),
            Cause::Registry { source, .. } => return source.code(),
            _ => return None,
        };
        Some(ErrorCode(code))
    }

    fn hint(&self) -> Option<String> {
        match &*self.0 {
            Cause::NoBroker { .. } => Some(
                "add `[target.<name>.kafka]` with `\"bootstrap.servers\" = \"host:9092\"` to tidemill.toml, choose another \
                 target with --target, or read files: tidemill ingest --from-files FILE"
                    .to_owned(),
            ),
            Cause::NoTopic { .. } => {
                Some("create one of the topics, or switch the source off with `enabled: false`".to_owned())
            }
            Cause::Expired { .. } => Some(
                "run `tidemill ingest --on-gap skip` to go on at the start of the log and record the gap in the lake; \
                 or load the missing records with `tidemill ingest --from-files` first"
                    .to_owned(),
            ),
            Cause::Ahead { .. } | Cause::Recreated { .. } => Some(
                "run `tidemill ingest --on-gap skip` to read the new log from its start; copies of rows that are in the \
                 lake are dropped as duplicates"
                    .to_owned(),
            ),
            Cause::Late { .. } => Some(
                "look whether the store and the broker are up with `tidemill doctor`, or give the run more time with \
                 `--max-duration`"
                    .to_owned(),
            ),
            Cause::Silent { .. } => Some("look whether the broker is up with `tidemill doctor`".to_owned()),
            Cause::Kafka { source, .. } if kind_of_kafka(source) == ErrorKind::Unavailable => {
                Some("look whether the broker is up with `tidemill doctor`; a scheduler may simply try again".to_owned())
            }
            Cause::FileEnding { .. } => {
                Some("use .jsonl, .ndjson, .json, .csv, .parquet or .avro, with .gz or .zst where compressed".to_owned())
            }
            Cause::NoEntry { .. } => Some("list the entries with `tidemill quarantine list`".to_owned()),
            Cause::NoRegistry { .. } => Some(
                "add `[target.<name>.registry]` with `url = \"https://registry:8081\"` to tidemill.toml, or read plain JSON with \
                 `format: json`"
                    .to_owned(),
            ),
            Cause::Lake { source, .. } => source.hint(),
            Cause::Registry { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Sorts librdkafka's errors by what the caller can do: rights and settings stay wrong, the rest may pass.
fn kind_of_kafka(error: &KafkaError) -> ErrorKind {
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => ErrorKind::Configuration,
        KafkaError::MessageConsumptionFatal(_) => ErrorKind::Invalid,
        _ if error.rdkafka_error_code().is_some_and(is_permanent) => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}

/// Errors that no retry mends.
pub(crate) fn is_permanent(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::InvalidGroupId
            | RDKafkaErrorCode::InconsistentGroupProtocol
            | RDKafkaErrorCode::UnsupportedSASLMechanism
    )
}
