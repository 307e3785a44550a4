//! What can go wrong while publishing, and what the caller can do about it.

use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Location, TableVersion};

use crate::snowflake::SnowflakeError;
use crate::{Publication, TargetTable};

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
        target: TargetTable,
        kind: ErrorKind,
        code: Option<ErrorCode>,
        hint: Option<String>,
    },
    #[error("failed to connect to the local warehouse")]
    Warehouse { kind: ErrorKind, code: Option<ErrorCode> },
    #[error("failed to shape rows, model=`{model}`, target=`{target}`")]
    Arrow { model: String, target: TargetTable },
    #[error("a key column is null in a row to publish, model=`{model}`, column=`{column}`, rows=`{num_rows}`")]
    NullKey { model: String, column: String, num_rows: usize },
    #[error("strategy `merge` needs a unique_key, model=`{model}`")]
    NoKey { model: String },
    #[error("publication names a column that the model does not have, model=`{model}`, column=`{column}`")]
    NoColumn { model: String, column: String },
    #[error("two columns get the same name in the target, model=`{model}`, column=`{column}`")]
    SameName { model: String, column: String },
    #[error("rows left a model that is published append_only, model=`{model}`, target=`{target}`, rows=`{num_rows}`")]
    RowsLeft { model: String, target: TargetTable, num_rows: u64 },
    #[error(
        "column has another type in the target, target=`{target}`, column=`{column}`, model_type=`{wanted}`, target_type=`{found}`"
    )]
    ColumnType { target: TargetTable, column: String, wanted: String, found: String },
    #[error("somebody else published meanwhile, target=`{target}`, expected=`{expected}`, found=`{found}`")]
    Moved { target: TargetTable, expected: String, found: String },
    #[error("target was changed by somebody else than the loader, target=`{target}`: {difference}")]
    TargetEdited { target: TargetTable, difference: String },
    #[error("two publications have the same target, target=`{target}`")]
    SameTarget { target: TargetTable },
    #[error(transparent)]
    Snowflake(SnowflakeError),
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

    pub(crate) fn moved(target: &TargetTable, expected: Option<TableVersion>, found: Option<TableVersion>) -> Self {
        let text =
            |version: Option<TableVersion>| version.map_or_else(|| "nothing".to_owned(), |version| version.to_string());
        Self::new(Cause::Moved { target: target.clone(), expected: text(expected), found: text(found) })
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
        matches!(*self.cause, Cause::Moved { .. })
    }
}

impl From<SnowflakeError> for Error {
    fn from(fault: SnowflakeError) -> Self {
        Self::new(Cause::Snowflake(fault))
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
            Cause::Arrow { .. } | Cause::Moved { .. } => None,
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
            _ => None,
        }
    }

    fn location(&self) -> Option<&Location> {
        self.location.as_ref()
    }
}
