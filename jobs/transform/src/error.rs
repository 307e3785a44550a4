//! What can go wrong with models, and what the caller can do about it.

use std::path::PathBuf;

use tidemill_project::{Diagnostic, ErrorCode, ErrorKind, Fault, Location};

/// The room's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault of the models' engine.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] pub(crate) Cause);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("the models project has faults, count=`{}`", .0.len())]
    Faults(Vec<Fault>),
    #[error("failed to read a file, path=`{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{fault}")]
    Template { fault: Box<Fault>, source: Box<minijinja::Error> },
}

impl Error {
    /// All of them, as one error. A single fault speaks for itself.
    pub(crate) fn from_faults(faults: Vec<Fault>) -> Self {
        Self(Cause::Faults(faults))
    }
}

impl Diagnostic for Error {
    fn kind(&self) -> ErrorKind {
        match &self.0 {
            Cause::Faults(_) | Cause::Read { .. } | Cause::Template { .. } => ErrorKind::Configuration,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match &self.0 {
            Cause::Faults(faults) => faults.first().and_then(|fault| fault.code),
            Cause::Template { fault, .. } => fault.code,
            Cause::Read { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match &self.0 {
            Cause::Template { fault, .. } => fault.hint.clone(),
            Cause::Faults(_) | Cause::Read { .. } => None,
        }
    }

    fn location(&self) -> Option<&Location> {
        match &self.0 {
            Cause::Template { fault, .. } => fault.location.as_ref(),
            Cause::Faults(_) | Cause::Read { .. } => None,
        }
    }

    fn faults(&self) -> &[Fault] {
        match &self.0 {
            Cause::Faults(faults) => faults,
            Cause::Template { .. } | Cause::Read { .. } => &[],
        }
    }
}
