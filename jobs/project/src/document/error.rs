//! What can be wrong with a file of the user's.

use std::path::PathBuf;

use crate::error::{Diagnostic, ErrorCode, ErrorKind, Fault, Location};

/// The codes of this room's faults, one page each.
pub(crate) mod codes {
    /// No project was found.
    pub(crate) const NO_PROJECT: u16 = 1;
    /// The file is not readable or breaks its format's grammar.
    pub(crate) const SYNTAX: u16 = 2;
    /// A key that nobody knows.
    pub(crate) const UNKNOWN_KEY: u16 = 3;
    /// A value of another type than the key's.
    pub(crate) const WRONG_TYPE: u16 = 4;
    /// A value that the key does not take.
    pub(crate) const BAD_VALUE: u16 = 5;
    /// A variable that is not set.
    pub(crate) const MISSING_VARIABLE: u16 = 6;
    /// A key that must be there is not.
    pub(crate) const MISSING_KEY: u16 = 7;
    /// A target that the file does not have.
    pub(crate) const UNKNOWN_TARGET: u16 = 8;
    /// A contract names a column that it does not declare.
    pub(crate) const UNKNOWN_COLUMN: u16 = 9;
    /// Two declarations that exclude each other.
    pub(crate) const CONTRADICTION: u16 = 10;
}

/// Why a file of the user's was refused. The two public errors of this room wrap it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("failed to read a file, path=`{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    /// Never empty.
    #[error("{}", summary(.0))]
    Faults(Vec<Fault>),
}

fn summary(faults: &[Fault]) -> String {
    match faults {
        [only] => only.message.clone(),
        _ => format!("the project's files have {} faults", faults.len()),
    }
}

impl FileError {
    fn only_fault(&self) -> Option<&Fault> {
        match self {
            Self::Faults(faults) if faults.len() == 1 => faults.first(),
            _ => None,
        }
    }
}

impl Diagnostic for FileError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Read { .. } => Some(ErrorCode(codes::SYNTAX)),
            Self::Faults(_) => self.only_fault().and_then(|fault| fault.code),
        }
    }

    fn hint(&self) -> Option<String> {
        self.only_fault().and_then(|fault| fault.hint.clone())
    }

    fn location(&self) -> Option<&Location> {
        self.only_fault().and_then(|fault| fault.location.as_ref())
    }

    fn faults(&self) -> &[Fault] {
        match self {
            Self::Faults(faults) if faults.len() > 1 => faults,
            _ => &[],
        }
    }
}

/// Gives a public error the answers of the [`FileError`] that it wraps.
macro_rules! wrap_file_error {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        pub struct $name(#[from] $crate::document::FileError);

        impl $crate::error::Diagnostic for $name {
            fn kind(&self) -> $crate::error::ErrorKind {
                $crate::error::Diagnostic::kind(&self.0)
            }

            fn code(&self) -> Option<$crate::error::ErrorCode> {
                $crate::error::Diagnostic::code(&self.0)
            }

            fn hint(&self) -> Option<String> {
                $crate::error::Diagnostic::hint(&self.0)
            }

            fn location(&self) -> Option<&$crate::error::Location> {
                $crate::error::Diagnostic::location(&self.0)
            }

            fn faults(&self) -> &[$crate::error::Fault] {
                $crate::error::Diagnostic::faults(&self.0)
            }
        }
    };
}
pub(crate) use wrap_file_error;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page() {
        for code in codes::NO_PROJECT..=codes::CONTRADICTION {
            let code = ErrorCode(code);
            let page = format!("{}/../../docs/errors/{code}.md", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page}: {error}"));
            assert!(text.starts_with(&format!("# {code}: ")), "{page}");
        }
    }
}
