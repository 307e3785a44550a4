//! Why the door could not be opened, or had to close.

use std::net::SocketAddr;
use std::path::PathBuf;

use tidemill_project::{Diagnostic, ErrorKind, Topic};

/// The collector did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Cause);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("failed to listen, address=`{address}`")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("failed to listen for scrapes, address=`{address}`")]
    Scrape { address: SocketAddr, source: std::io::Error },
    #[error("failed to read the file of a certificate or key, path=`{}`", path.display())]
    ReadTls { path: PathBuf, source: std::io::Error },
    #[error("certificate and key are not usable, certificate=`{}`", certificate.display())]
    Tls { certificate: PathBuf, source: rustls::Error },
    #[error("file holds no {what}, path=`{}`", path.display())]
    NoPem { what: &'static str, path: PathBuf },
    #[error("key set of the identity provider is not usable")]
    KeySet { source: serde_json::Error },
    #[error("key set of the identity provider holds no key that signs tokens")]
    NoSigningKey,
    #[error("no contract of the project names the topic, topic=`{topic}`")]
    NoContract { topic: Topic },
    #[error("failed to make a Kafka producer")]
    Producer { source: rdkafka::error::KafkaError },
    #[error("the Kafka producer cannot go on: {reason}")]
    Fatal { reason: String },
    #[error("failed to serve")]
    Serve { source: std::io::Error },
}

impl Diagnostic for Error {
    fn kind(&self) -> ErrorKind {
        match &self.0 {
            Cause::Listen { .. }
            | Cause::Scrape { .. }
            | Cause::ReadTls { .. }
            | Cause::Tls { .. }
            | Cause::NoPem { .. }
            | Cause::KeySet { .. }
            | Cause::NoSigningKey
            | Cause::NoContract { .. }
            | Cause::Producer { .. } => ErrorKind::Configuration,
            Cause::Fatal { .. } | Cause::Serve { .. } => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match &self.0 {
            Cause::Listen { .. } => {
                Some("another program may listen there; set `listen` of [target.….collect]".to_owned())
            }
            Cause::Scrape { .. } => Some("another program may listen there; give another --metrics-addr".to_owned()),
            Cause::NoContract { .. } => Some(
                "declare a source whose `config.meta.tidemill.topics` has it, or set `topic` of [target.….collect]"
                    .to_owned(),
            ),
            Cause::KeySet { .. } | Cause::NoSigningKey => {
                Some("save the provider's jwks_uri to a file and name it: jwks = \"file:…\"".to_owned())
            }
            _ => None,
        }
    }
}
