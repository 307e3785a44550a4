//! Exit codes, the promise to schedulers.

use std::process::ExitCode;

use tidemill_project::ErrorKind;

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; also when there was nothing to do, and after a clean stop by a signal.
    Done,
    /// Failed, and a retry cannot help.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Data tests or books say no.
    Rejected,
    /// Temporary: try again.
    Retry,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Rejected => 3,
            Self::Retry => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Configuration => Self::Usage,
            ErrorKind::Invalid | ErrorKind::Bug => Self::Failed,
            ErrorKind::Rejected => Self::Rejected,
            ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => Self::Retry,
        }
    }
}
