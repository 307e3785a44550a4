//! Faults of the server by what the caller can do about them.

use redis::{ErrorKind as RedisKind, RedisError};
use tidemill_project::{ErrorCode, ErrorKind};

/// A fault between us and Redis. Addresses are not in it: they may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum RedisFault {
    /// The server refused or did not answer.
    #[error("failed to {act}, keys=`{keys}`")]
    Server {
        /// What was attempted.
        act: &'static str,
        /// The key pattern that is published to.
        keys: String,
        /// Why.
        source: RedisError,
    },
    /// Another publisher has taken the keys over.
    #[error("another publisher took the keys over, keys=`{keys}`")]
    Overtaken {
        /// The key pattern.
        keys: String,
    },
    /// The head holds something that is none of ours.
    #[error("published position is not readable, key=`{key}`")]
    Head {
        /// The head's key.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl RedisFault {
    /// Whether the caller has to plan again.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(self, Self::Overtaken { .. })
    }

    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Overtaken { .. } => ErrorKind::Conflict,
            Self::Head { .. } => ErrorKind::Invalid,
            Self::Server { source, .. } => match source.kind() {
                RedisKind::InvalidClientConfig => ErrorKind::Configuration,
                RedisKind::AuthenticationFailed | RedisKind::UnexpectedReturnType => ErrorKind::Invalid,
                _ if is_refusal(source) => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            },
        }
    }

    /// The page that explains the fault.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Server { .. } if self.kind() != ErrorKind::Unavailable => Some(ErrorCode(530)),
            Self::Head { .. } => Some(ErrorCode(531)),
            _ => None,
        }
    }

    /// The way out.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match (self, self.code()?.0) {
            (Self::Head { key, .. }, _) => {
                Some(format!("delete it: redis-cli DEL '{key}'; the next publication writes every value again"))
            }
            _ => Some("look at sinks.redis.url, the user's password, and its rights to EVALSHA, GET, SET, DEL, HGET, HSET".to_owned()),
        }
    }
}

/// Whether the server understood and said no, for good.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS" | "WRONGTYPE"))
}
