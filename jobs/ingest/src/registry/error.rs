//! What can go wrong with a registry.

use std::path::PathBuf;

use reqwest::StatusCode;
use tidemill_project::{Diagnostic, ErrorCode, ErrorKind};

/// A registry cannot be asked, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file with certificates or a key is not readable.
    #[error("failed to read a file, path=`{}`", path.display())]
    ReadFile {
        /// Where it should lie.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A certificate or key is not usable, or TLS cannot be set up.
    #[error("failed to set up a client of the schema registry, url=`{url}`")]
    Client {
        /// The registry.
        url: String,
        /// Cause.
        source: reqwest::Error,
    },
    /// No answer came, or a broken one.
    #[error("schema registry did not answer, url=`{url}`, act=`{act}`")]
    Silent {
        /// The registry.
        url: String,
        /// What it was asked to do.
        act: &'static str,
        /// Cause.
        source: reqwest::Error,
    },
    /// An answer that says no.
    #[error("schema registry refused, url=`{url}`, act=`{act}`, status=`{}`: {message}", status.as_u16())]
    Refused {
        /// The registry.
        url: String,
        /// What it was asked to do.
        act: &'static str,
        /// HTTP status.
        status: StatusCode,
        /// The interface's own code, `40403`; `None` when somebody else answered.
        code: Option<u64>,
        /// Its words.
        message: String,
    },
    /// An answer that is none of the interface.
    #[error("schema registry gave an answer that makes no sense, url=`{url}`, act=`{act}`: {problem}")]
    Answer {
        /// The registry.
        url: String,
        /// What it was asked to do.
        act: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl RegistryError {
    /// The code of the interface in a refusal.
    pub(super) fn code_of_refusal(&self) -> Option<u64> {
        match self {
            Self::Refused { code, .. } => *code,
            _ => None,
        }
    }
}

impl Diagnostic for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadFile { .. } | Self::Client { .. } | Self::Answer { .. } => ErrorKind::Configuration,
            Self::Silent { .. } => ErrorKind::Unavailable,
            Self::Refused { status, .. } if may_pass(*status) => ErrorKind::Unavailable,
            Self::Refused { status, code, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Configuration,
                StatusCode::NOT_FOUND if code.is_none() => ErrorKind::Configuration,
                _ => ErrorKind::Invalid,
            },
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        Some(ErrorCode(if self.kind() == ErrorKind::Unavailable { 410 } else { 411 }))
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::ReadFile { .. } | Self::Client { .. } => {
                "look at `tls_ca`, `tls_certificate` and `tls_key` of `[target.<name>.registry]`: PEM files, relative to the project"
            }
            _ if self.kind() == ErrorKind::Unavailable => {
                "look whether the registry is up with `tidemill doctor`; a scheduler may simply try again"
            }
            Self::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => {
                "look at `username` and `password`, or `token`, of `[target.<name>.registry]`, and at what that login may read"
            }
            Self::Refused { code: None, .. } | Self::Answer { .. } => {
                "look at `url` of `[target.<name>.registry]`: it must be the base of Confluent's REST interface \
                 (Apicurio: …/apis/ccompat/v7)"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Statuses that are gone after a while.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}
