//! What can go wrong before the first record: a contract that cannot be compiled.

use std::path::PathBuf;

use tidemill_project::{Diagnostic, ErrorKind, Location, SourceName};

/// The decoder's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault of the contract. Faults of records are never errors: they are [`Rejection`](super::Rejection)s.
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
    #[error("contract names a column that it does not declare, source=`{name}`, place=`{place}`, column=`{column}`")]
    NoColumn { name: SourceName, location: Location, place: &'static str, column: String },
    #[error("contract cannot be decoded: {problem}, source=`{name}`, column=`{column}`")]
    Column { name: SourceName, location: Location, column: String, problem: &'static str },
    #[error(
        "contract gives a value that its column does not take, source=`{name}`, column=`{column}`, place=`{place}`"
    )]
    Constant { name: SourceName, location: Location, place: &'static str, column: String },
    #[error("schema of the contract is not usable, source=`{name}`, path=`{path}`: {problem}")]
    Schema { name: SourceName, location: Location, path: PathBuf, problem: String },
    #[error("failed to shape rows")]
    Arrow { source: arrow::error::ArrowError },
}

impl Diagnostic for Error {
    fn kind(&self) -> ErrorKind {
        match *self.0 {
            Cause::Arrow { .. } => ErrorKind::Bug,
            _ => ErrorKind::Configuration,
        }
    }

    fn location(&self) -> Option<&Location> {
        match &*self.0 {
            Cause::NoColumn { location, .. }
            | Cause::Column { location, .. }
            | Cause::Constant { location, .. }
            | Cause::Schema { location, .. } => Some(location),
            Cause::Arrow { .. } => None,
        }
    }
}
