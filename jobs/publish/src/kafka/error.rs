//! Faults of the cluster by what the caller can do about them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tidemill_project::{ErrorCode, ErrorKind};

/// A fault between us and Kafka.
#[derive(Debug, thiserror::Error)]
pub enum KafkaFault {
    /// The client, or the broker through it, refused or did not answer.
    #[error("failed to {act}, topic=`{topic}`")]
    Client {
        /// What was attempted.
        act: &'static str,
        /// The topic that is published to.
        topic: String,
        /// Why.
        source: KafkaError,
    },
    /// The topic, or its ledger, is not there and was not made.
    #[error("topic does not exist, topic=`{topic}`")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// A commit whose answer never came.
    #[error("could not find out whether a transaction was committed, topic=`{topic}`")]
    CommitUnknown {
        /// The topic.
        topic: String,
        /// Why.
        source: KafkaError,
    },
    /// The ledger has a record that is none of ours.
    #[error("ledger record is not readable, topic=`{topic}`, offset=`{offset}`")]
    Ledger {
        /// The ledger's topic.
        topic: String,
        /// The record's place.
        offset: i64,
        /// Why.
        source: serde_json::Error,
    },
    /// The ledger's newest records cannot be read yet.
    #[error("ledger has records that are not decided yet, topic=`{topic}`")]
    Undecided {
        /// The ledger's topic.
        topic: String,
    },
}

impl KafkaFault {
    fn broker_code(&self) -> Option<RDKafkaErrorCode> {
        match self {
            Self::Client { source, .. } | Self::CommitUnknown { source, .. } => source.rdkafka_error_code(),
            _ => None,
        }
    }

    /// Whether another publisher has taken the topic over.
    pub(crate) fn is_fenced(&self) -> bool {
        matches!(
            self.broker_code(),
            Some(
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch
            )
        )
    }

    /// What the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match (self, self.broker_code()) {
            (Self::CommitUnknown { .. }, _) => ErrorKind::OutcomeUnknown,
            (Self::NoTopic { .. } | Self::Ledger { .. }, _) => ErrorKind::Invalid,
            (_, Some(code)) if is_final(code) => ErrorKind::Invalid,
            (Self::Client { source: KafkaError::ClientCreation(_) | KafkaError::ClientConfig(..), .. }, _) => {
                ErrorKind::Configuration
            }
            _ => ErrorKind::Unavailable,
        }
    }

    /// The page that explains the fault.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match (self, self.broker_code()) {
            (Self::NoTopic { .. }, _) => Some(ErrorCode(521)),
            (_, Some(RDKafkaErrorCode::MessageSizeTooLarge)) => Some(ErrorCode(522)),
            (Self::Client { .. }, Some(code)) if is_final(code) => Some(ErrorCode(520)),
            _ => None,
        }
    }

    /// The way out.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match (self, self.code()?.0) {
            (Self::NoTopic { topic }, _) => Some(format!("create it: kafka-topics.sh --create --topic {topic}")),
            (_, 522) => Some("raise max.message.bytes of the topic and message.max.bytes of the client".to_owned()),
            (_, 520) => Some(
                "grant the user Write and Describe on the topic and its ledger, Read on the ledger, and Write on its transactional id"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Whether the same request fails again.
fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::InvalidTransactionTimeout
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: RDKafkaErrorCode) -> KafkaFault {
        KafkaFault::Client { act: "send", topic: "t".into(), source: KafkaError::MessageProduction(code) }
    }

    #[test]
    fn what_the_broker_says_decides_what_the_caller_can_do() {
        for (code, kind, page) in [
            (RDKafkaErrorCode::TopicAuthorizationFailed, ErrorKind::Invalid, Some(520)),
            (RDKafkaErrorCode::MessageSizeTooLarge, ErrorKind::Invalid, Some(522)),
            (RDKafkaErrorCode::OperationTimedOut, ErrorKind::Unavailable, None),
        ] {
            let fault = fault(code);
            assert_eq!((fault.kind(), fault.code().map(|code| code.0)), (kind, page), "{code:?}");
            assert_eq!(fault.hint().is_some(), page.is_some());
        }
        assert!(fault(RDKafkaErrorCode::ProducerFenced).is_fenced());
    }
}
