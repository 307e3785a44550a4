//! Faults of the warehouse by what the caller can do about them.

use tidemill_project::{ErrorCode, ErrorKind};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A fault between us and Snowflake. Statements are named by their step; texts of statements and secrets are never in it.
#[derive(Debug, thiserror::Error)]
pub enum SnowflakeError {
    /// The server refused a statement.
    #[error(
        "statement was refused, step=`{step}`, code=`{code}`, sql_state=`{sql_state}`, query_id=`{query_id}`: {message}"
    )]
    Refused {
        /// What was attempted.
        step: &'static str,
        /// The server's code, e.g. `002003`.
        code: String,
        /// SQLSTATE, empty when the server gave none.
        sql_state: String,
        /// For the query history, empty when the server gave none.
        query_id: String,
        /// The server's words.
        message: String,
    },
    /// The server refused every way to log in.
    #[error("login was refused, user=`{user}`, account=`{account}`, code=`{code}`: {message}")]
    Login {
        /// Who.
        user: String,
        /// Where.
        account: String,
        /// The server's code.
        code: String,
        /// The server's words.
        message: String,
    },
    /// No answer arrived. `acted` tells whether the server may have acted.
    #[error("server did not answer, step=`{step}`")]
    NoAnswer {
        /// What was attempted.
        step: &'static str,
        /// Whether it may have happened.
        acted: bool,
        /// Why.
        source: Source,
    },
    /// The session ended before its transaction did; nothing of the transaction is there.
    #[error("session was lost inside a transaction, step=`{step}`")]
    SessionLost {
        /// What was attempted.
        step: &'static str,
    },
    /// `COMMIT` was sent and its answer never came, and the head could not be read afterwards.
    #[error("could not find out whether a transaction was committed, database=`{database}`")]
    CommitUnknown {
        /// The database of the transaction.
        database: String,
    },
    /// An answer without what it must hold.
    #[error("answer has another shape than expected, step=`{step}`: {detail}")]
    Answer {
        /// What was attempted.
        step: &'static str,
        /// What was missing or odd.
        detail: String,
    },
    /// The target, or its head, is not there.
    #[error("target is not set up, target=`{target}`")]
    NoHead {
        /// The target table.
        target: String,
    },
    /// Rows that arrived are not the rows that were sent.
    #[error("staged rows are not the rows that were sent, target=`{target}`, sent=`{sent}`, found=`{found}`")]
    Staged {
        /// The target table.
        target: String,
        /// Rows sent.
        sent: u64,
        /// Rows found.
        found: String,
    },
    /// A file could not be put into the stage.
    #[error("failed to upload a file to the stage, place=`{place}`")]
    Upload {
        /// Kind of store, and the file's name.
        place: String,
        /// Why.
        source: Source,
    },
    /// The stage wants client-side encryption.
    #[error("stage asks for client-side encryption, which this loader does not do, stage=`{stage}`")]
    Encryption {
        /// The stage.
        stage: String,
    },
    /// A private key that cannot be used.
    #[error("private key is not usable, key=`{number}`: {detail}")]
    Key {
        /// Its place in the list, from 1.
        number: usize,
        /// What is wrong; never the key.
        detail: String,
    },
    /// Settings that cannot work.
    #[error("snowflake settings are not usable: {detail}")]
    Settings {
        /// What is wrong.
        detail: String,
    },
    /// Rows could not be written as Parquet.
    #[error("failed to encode rows, target=`{target}`")]
    Encode {
        /// The target table.
        target: String,
        /// Why.
        source: Source,
    },
    /// A type that has no form in the warehouse.
    #[error(
        "column has a type without a form in the warehouse, target=`{target}`, column=`{column}`, data_type=`{data_type}`"
    )]
    Type {
        /// The target table.
        target: String,
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: String,
    },
}

/// What a server's code asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeClass {
    /// Lock, cancelled, or too many waiters: try again later.
    Busy,
    /// Token no longer good.
    Session,
    /// Anything else: the same statement fails again.
    Final,
}

/// Sorts a server's code. Source: SNOWFLAKE.md, "What may be sent again".
pub(super) fn class_of(code: &str) -> CodeClass {
    match code.trim_start_matches('0') {
        "625" | "604" | "630" => CodeClass::Busy,
        "390112" | "390114" | "390104" | "390111" => CodeClass::Session,
        _ => CodeClass::Final,
    }
}

impl SnowflakeError {
    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { code, .. } => match class_of(code) {
                CodeClass::Busy | CodeClass::Session => ErrorKind::Unavailable,
                CodeClass::Final => ErrorKind::Invalid,
            },
            Self::NoAnswer { acted: false, .. } | Self::Upload { .. } | Self::SessionLost { .. } => {
                ErrorKind::Unavailable
            }
            Self::NoAnswer { acted: true, .. } | Self::CommitUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Key { .. } | Self::Settings { .. } => ErrorKind::Configuration,
            Self::Staged { .. } | Self::Answer { .. } | Self::Login { .. } => ErrorKind::Invalid,
            Self::Encryption { .. } | Self::Encode { .. } | Self::Type { .. } | Self::NoHead { .. } => {
                ErrorKind::Invalid
            }
        }
    }

    /// The page that explains the fault.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Login { .. } | Self::Key { .. } | Self::Settings { .. } => Some(ErrorCode(510)),
            Self::Encryption { .. } => Some(ErrorCode(511)),
            Self::Refused { code, .. } if code.trim_start_matches('0').starts_with("3001") => Some(ErrorCode(512)),
            Self::Type { .. } => Some(ErrorCode(513)),
            _ => None,
        }
    }

    /// The way out.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { code, .. } => match code.trim_start_matches('0') {
                "3001" => Some("grant the loader's role what sql/040_roles_grants.sql lists".to_owned()),
                "2003" => Some("create the missing object with sql/, or grant the loader's role access to it".to_owned()),
                "100090" => Some("two staged rows have one key; add the data test unique to the model's key".to_owned()),
                _ => None,
            },
            Self::Login { code, .. } if code == "390144" => Some(
                "compare this machine's clock with the server's, the account's form (ORG-ACCOUNT), and the key's fingerprint with \
                 DESC USER"
                    .to_owned(),
            ),
            Self::Encryption { stage } => {
                Some(format!("create the stage anew: CREATE OR REPLACE STAGE {stage} ENCRYPTION = (TYPE = 'SNOWFLAKE_SSE')"))
            }
            Self::Type { column, .. } => Some(format!("cast `{column}` in the model")),
            _ => None,
        }
    }

    /// Whether the session must not be used any more.
    pub(super) fn ends_session(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::SessionLost { .. } => true,
            Self::Refused { code, .. } => class_of(code) == CodeClass::Session,
            _ => false,
        }
    }

    /// Whether an object that set-up makes is not there.
    pub(super) fn is_missing_object(&self) -> bool {
        match self {
            Self::NoHead { .. } => true,
            Self::Refused { code, .. } => matches!(code.trim_start_matches('0'), "2003" | "2043"),
            _ => false,
        }
    }

    /// Whether somebody holds a lock.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if class_of(code) == CodeClass::Busy)
    }

    /// Whether beginning again in a new session may help.
    ///
    /// Files and tables that are not there, or not as they were left, are among it: whoever published meanwhile clears away
    /// what belongs to numbers and epochs before its own, and the next look at the head tells.
    pub(super) fn is_transient(&self) -> bool {
        self.ends_session() || self.is_missing_object() || matches!(self, Self::Staged { .. })
    }
}
