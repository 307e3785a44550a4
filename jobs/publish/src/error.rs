//! What can go wrong while publishing, and what the caller can do about it.

use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Location, TableVersion};

use crate::kafka::KafkaFault;
use crate::redis::RedisFault;
use crate::snowflake::SnowflakeError;
use crate::{Publication, Target};

/// The room's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault of publishing.
#[derive(Debug)]
pub struct Error {
    cause: Box<Cause>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    location: Option<Location>,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => self.cause.source(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("failed to {act}, model=`{model}`, target=`{target}`")]
    Lake {
        act: &'static str,
        model: String,
        target: Target,
        kind: ErrorKind,
        code: Option<ErrorCode>,
        hint: Option<String>,
    },
    #[error("failed to connect to the local warehouse")]
    Warehouse { kind: ErrorKind, code: Option<ErrorCode> },
    #[error("failed to shape rows, model=`{model}`, target=`{target}`")]
    Arrow { model: String, target: Target },
    #[error("a key column is null in a row to publish, model=`{model}`, column=`{column}`, rows=`{num_rows}`")]
    NullKey { model: String, column: String, num_rows: usize },
    #[error("publication needs a unique_key, model=`{model}`")]
    NoKey { model: String },
    #[error("publication names a column that the model does not have, model=`{model}`, column=`{column}`")]
    NoColumn { model: String, column: String },
    #[error("two columns get the same name in the target, model=`{model}`, column=`{column}`")]
    SameName { model: String, column: String },
    #[error("rows left a model that is published append_only, model=`{model}`, target=`{target}`, rows=`{num_rows}`")]
    RowsLeft { model: String, target: Target, num_rows: u64 },
    #[error(
        "column has another type in the target, target=`{target}`, column=`{column}`, model_type=`{wanted}`, target_type=`{found}`"
    )]
    ColumnType { target: Target, column: String, wanted: String, found: String },
    #[error("somebody else published meanwhile, target=`{target}`, expected=`{expected}`, found=`{found}`")]
    Moved { target: Target, expected: String, found: String },
    #[error("target was changed by somebody else than the loader, target=`{target}`: {difference}")]
    TargetEdited { target: Target, difference: String },
    #[error("two publications have the same target, target=`{target}`")]
    SameTarget { target: Target },
    #[error(transparent)]
    Snowflake(SnowflakeError),
    #[error(transparent)]
    Kafka(KafkaFault),
    #[error(transparent)]
    Redis(RedisFault),
    #[error("worker ended before its work, act=`{act}`")]
    Worker { act: &'static str },
}

impl Error {
    pub(crate) fn new(cause: Cause) -> Self {
        Self { cause: Box::new(cause), source: None, location: None }
    }

    pub(crate) fn at(mut self, location: &Location) -> Self {
        self.location = Some(location.clone());
        self
    }

    /// A fault of the lake while working on `publication`; kind, code and hint stay the lake's.
    pub(crate) fn lake(
        act: &'static str,
        publication: &Publication,
    ) -> impl Fn(tidemill_lake::Error) -> Self + Send + 'static + use<> {
        let (model, target) = (publication.model_name.clone(), publication.target.clone());
        move |source| Self {
            cause: Box::new(Cause::Lake {
                act,
                model: model.clone(),
                target: target.clone(),
                kind: source.kind(),
                code: source.code(),
                hint: source.hint(),
            }),
            source: Some(Box::new(source)),
            location: None,
        }
    }

    /// The local warehouse itself is not usable.
    pub(crate) fn warehouse(source: tidemill_lake::Error, publication: Option<&Publication>) -> Self {
        match publication {
            Some(publication) => Self::lake("connect to the local warehouse", publication)(source),
            None => Self {
                cause: Box::new(Cause::Warehouse { kind: source.kind(), code: source.code() }),
                source: Some(Box::new(source)),
                location: None,
            },
        }
    }

    /// A fault of Arrow while shaping rows of `publication`.
    pub(crate) fn arrow(
        publication: &Publication,
    ) -> impl Fn(arrow::error::ArrowError) -> Self + Send + 'static + use<> {
        let (model, target) = (publication.model_name.clone(), publication.target.clone());
        move |source| Self {
            cause: Box::new(Cause::Arrow { model: model.clone(), target: target.clone() }),
            source: Some(Box::new(source)),
            location: None,
        }
    }

    pub(crate) fn moved(target: &Target, expected: Option<TableVersion>, found: Option<TableVersion>) -> Self {
        let text =
            |version: Option<TableVersion>| version.map_or_else(|| "nothing".to_owned(), |version| version.to_string());
        Self::new(Cause::Moved { target: target.clone(), expected: text(expected), found: text(found) })
    }

    /// A task of the blocking pool did not come to its end.
    pub(crate) fn join(act: &'static str) -> impl FnOnce(tokio::task::JoinError) -> Self {
        move |source| Self { cause: Box::new(Cause::Worker { act }), source: Some(Box::new(source)), location: None }
    }

    /// Whether something may or may not have happened.
    pub(crate) fn is_outcome_unknown(&self) -> bool {
        self.kind() == ErrorKind::OutcomeUnknown
    }

    /// The warehouse's part of it, when it is the warehouse's.
    pub(crate) fn as_snowflake(&self) -> Option<&SnowflakeError> {
        match self.cause.as_ref() {
            Cause::Snowflake(fault) => Some(fault),
            _ => None,
        }
    }

    /// Whether the lake could not be read or written.
    pub(crate) fn is_lake(&self) -> bool {
        matches!(*self.cause, Cause::Lake { .. })
    }

    /// Whether the target stands elsewhere than the plan assumed: load its position and plan again.
    pub(crate) fn is_moved(&self) -> bool {
        match self.cause.as_ref() {
            Cause::Moved { .. } => true,
            Cause::Kafka(fault) => fault.is_fenced(),
            Cause::Redis(fault) => fault.is_fenced(),
            _ => false,
        }
    }
}

impl From<SnowflakeError> for Error {
    fn from(fault: SnowflakeError) -> Self {
        Self::new(Cause::Snowflake(fault))
    }
}

impl From<KafkaFault> for Error {
    fn from(fault: KafkaFault) -> Self {
        Self::new(Cause::Kafka(fault))
    }
}

impl From<RedisFault> for Error {
    fn from(fault: RedisFault) -> Self {
        Self::new(Cause::Redis(fault))
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> ErrorKind {
        match self.cause.as_ref() {
            Cause::Lake { kind, .. } | Cause::Warehouse { kind, .. } => *kind,
            Cause::NoKey { .. } | Cause::NoColumn { .. } | Cause::SameName { .. } | Cause::SameTarget { .. } => {
                ErrorKind::Configuration
            }
            Cause::Arrow { .. }
            | Cause::NullKey { .. }
            | Cause::RowsLeft { .. }
            | Cause::ColumnType { .. }
            | Cause::TargetEdited { .. } => ErrorKind::Invalid,
            Cause::Moved { .. } => ErrorKind::Conflict,
            Cause::Snowflake(fault) => fault.kind(),
            Cause::Kafka(fault) if fault.is_fenced() => ErrorKind::Conflict,
            Cause::Kafka(fault) => fault.kind(),
            Cause::Redis(fault) => fault.kind(),
            Cause::Worker { .. } => ErrorKind::Bug,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self.cause.as_ref() {
            Cause::Lake { code, .. } | Cause::Warehouse { code, .. } => *code,
            Cause::NullKey { .. } => Some(ErrorCode(501)),
            Cause::NoKey { .. } | Cause::NoColumn { .. } | Cause::SameName { .. } | Cause::SameTarget { .. } => {
                Some(ErrorCode(502))
            }
            Cause::RowsLeft { .. } => Some(ErrorCode(503)),
            Cause::TargetEdited { .. } => Some(ErrorCode(504)),
            Cause::ColumnType { .. } => Some(ErrorCode(505)),
            Cause::Snowflake(fault) => fault.code(),
            Cause::Kafka(fault) => fault.code(),
            Cause::Redis(fault) => fault.code(),
            Cause::Arrow { .. } | Cause::Moved { .. } | Cause::Worker { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.cause.as_ref() {
            Cause::Lake { hint, .. } => hint.clone(),
            Cause::NullKey { column, .. } => {
                Some(format!("add the data test not_null to `{column}`, and let the model give every row a key"))
            }
            Cause::NoKey { .. } => {
                Some("name the columns of the key under `unique_key:`, or use strategy append_only".to_owned())
            }
            Cause::RowsLeft { .. } => {
                Some("repair the target with `tidemill publish --full`, or publish with strategy merge".to_owned())
            }
            Cause::TargetEdited { .. } => Some(
                "see what differs with `tidemill publish --check`, repair with `tidemill publish --full`".to_owned(),
            ),
            Cause::ColumnType { column, .. } => Some(format!(
                "cast `{column}` in the model, or change the target's column and run `tidemill publish --full`"
            )),
            Cause::Snowflake(fault) => fault.hint(),
            Cause::Kafka(fault) => fault.hint(),
            Cause::Redis(fault) => fault.hint(),
            _ => None,
        }
    }

    fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }
}
