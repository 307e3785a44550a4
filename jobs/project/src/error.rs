//! What an error says to its caller, in every room.
//!
//! A room keeps a rich private enum of causes and shows one public `Error` that implements [`Diagnostic`]. The kind tells
//! what the *caller* can do; `cli` alone turns it into an exit code.

use std::fmt;
use std::path::PathBuf;

/// What the caller can do. `cli` maps it to the exit code; nothing else may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The project's files, settings or the command line are wrong. Exit 2.
    Configuration,
    /// Input, contract or rights are wrong; the same call fails again. Exit 1.
    Invalid,
    /// Somebody else committed or took over; load the new state and plan again. Exit 75.
    Conflict,
    /// A server did not answer; nothing happened. Exit 75.
    Unavailable,
    /// A server did not answer and may have acted: ask it before acting again. Exit 75.
    OutcomeUnknown,
    /// Data tests or books say no; nothing was published. Exit 3.
    Rejected,
    /// Our mistake. Exit 1, with a request to report it.
    Bug,
}

impl ErrorKind {
    /// Says whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Conflict | Self::Unavailable | Self::OutcomeUnknown)
    }
}

/// The code of a fault that the user can mend, e.g. `TM0107`; each has a page `docs/errors/<code>.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TM{:04}", self.0)
    }
}

/// A place in a file of the user's: line and column count from 1, `0` means unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The file, as the user would name it.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Location {
    /// Builds a location from its parts.
    pub fn new(file: impl Into<PathBuf>, line: usize, column: usize) -> Self {
        Self { file: file.into(), line, column }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.line > 0 && self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        Ok(())
    }
}

/// One thing that is wrong in a file of the user's. Readers collect all of them before they give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code of its page, when it has one.
    pub code: Option<ErrorCode>,
    /// What is wrong: lower case, no full stop, variables as key=`value`.
    pub message: String,
    /// Where, when it has a place.
    pub location: Option<Location>,
    /// The way out.
    pub hint: Option<String>,
}

impl Fault {
    /// Builds a fault without place, code or hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), location: None, hint: None }
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the code.
    #[must_use]
    pub fn code(mut self, code: u16) -> Self {
        self.code = Some(ErrorCode(code));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What each room's public `Error` tells the printer beside its text and its chain of sources.
pub trait Diagnostic: std::error::Error + Send + Sync + 'static {
    /// What the caller can do.
    fn kind(&self) -> ErrorKind;

    /// The code of the page that explains the fault.
    fn code(&self) -> Option<ErrorCode> {
        None
    }

    /// The way out, best as a command to run.
    fn hint(&self) -> Option<String> {
        None
    }

    /// The place in a file of the user's.
    fn location(&self) -> Option<&Location> {
        None
    }

    /// All faults when there are several; empty when the error itself is the only one.
    fn faults(&self) -> &[Fault] {
        &[]
    }
}

/// Suggests the candidate nearest to `name`, for "did you mean": at most a third of the letters may differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(name.chars().count()).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The candidate that `name` is a slip of: what [`nearest`] suggests, when no more than two letters differ and one of them is
/// no digit. What merely resembles a name (`orders_v1` and `orders_v2`, `total_tickets` and `total_accounts`) is none.
pub fn slip_of<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    let own = letters(name);
    nearest(name, candidates).filter(|near| strsim::damerau_levenshtein(name, near) <= 2 && letters(near) != own)
}
