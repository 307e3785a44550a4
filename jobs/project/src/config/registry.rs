//! `[target.NAME.registry]`: the schema registry that Avro and JSON Schema topics name their schemas in.

use std::path::PathBuf;
use std::time::Duration;

use super::TlsFiles;
use super::reference::settings_keys;
use super::target::TargetContext;
use crate::document::{Node, Reader, Section, codes};
use crate::secret::Secret;

/// How long one request may take: a registry answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A schema registry that speaks Confluent's REST interface.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// Base of the interface, with a trailing slash: `https://registry:8081/`, `http://…/apis/ccompat/v7/`.
    pub url: url::Url,
    /// How to prove who asks.
    pub auth: RegistryAuth,
    /// Certificates of the authorities that are trusted beside the well-known ones, PEM, absolute.
    pub ca: Option<PathBuf>,
    /// Our own certificate and key, where the registry asks for one.
    pub client_certificate: Option<TlsFiles>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// How to prove who asks.
#[derive(Clone, Debug)]
pub enum RegistryAuth {
    /// Not at all, or by certificate.
    None,
    /// User and password, or an API key and its secret.
    Basic {
        /// User, or API key.
        username: String,
        /// Password, or secret.
        password: Secret,
    },
    /// A token.
    Bearer(Secret),
}

/// Reads the section. `None` when a fault leaves no registry to ask.
pub(super) fn read_registry(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    name: &str,
    node: &Node,
) -> Option<RegistrySettings> {
    let section = reader.section(name, node, &settings_keys("target.<name>.registry"))?;
    let url = if let Some(node) = section.get("url") {
        read_url(reader, &section.path("url"), node)
    } else {
        reader.missing(section.place(), &section.path("url"), "name the registry: url = \"https://registry:8081\"");
        None
    };
    let auth = read_auth(reader, context, section);
    let path = |reader: &mut Reader<'_>, key: &str| {
        let text = section.get(key).and_then(|node| reader.text(&section.path(key), node))?;
        Some(context.project_dir.join(text.strip_prefix("file:").unwrap_or(&text)))
    };
    let ca = path(reader, "tls_ca");
    let client_certificate = match (path(reader, "tls_certificate"), path(reader, "tls_key")) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (certificate, _) => {
            let missing = if certificate.is_some() { "tls_key" } else { "tls_certificate" };
            reader.missing(
                section.place(),
                &section.path(missing),
                "a client certificate needs its key, and the other way",
            );
            None
        }
    };
    let timeout =
        section.get("timeout").and_then(|node| reader.duration(&section.path("timeout"), node)).unwrap_or(TIMEOUT);
    Some(RegistrySettings { url: url?, auth: auth?, ca, client_certificate, timeout })
}

/// Reads the address. One with a user and password in it is refused: it would stand in logs.
fn read_url(reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<url::Url> {
    let text = reader.text(key, node)?;
    let refuse = |reader: &mut Reader<'_>, hint: &str| {
        reader.fault_hint(node.place, codes::BAD_VALUE, format!("address is not usable, key=`{key}`"), hint);
        None
    };
    match url::Url::parse(&text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse(reader, "put user and password into `username` and `password`")
        }
        Ok(mut url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            if !url.path().ends_with('/') {
                url.set_path(&format!("{}/", url.path()));
            }
            Some(url)
        }
        _ => refuse(reader, "write http:// or https:// with a host: \"https://registry:8081\""),
    }
}

fn read_auth(reader: &mut Reader<'_>, context: &TargetContext<'_>, section: Section<'_>) -> Option<RegistryAuth> {
    let username = section.get("username").map(|node| reader.text(&section.path("username"), node));
    let password = section.get("password").map(|node| context.secret(reader, &section.path("password"), node));
    let token = section.get("token").map(|node| context.secret(reader, &section.path("token"), node));
    match (username, password, token) {
        (None, None, None) => Some(RegistryAuth::None),
        (None, None, Some(token)) => token.map(RegistryAuth::Bearer),
        (Some(username), Some(password), None) => {
            Some(RegistryAuth::Basic { username: username?, password: password? })
        }
        (Some(_), None, None) | (None, Some(_), None) => {
            let missing = if section.get("username").is_some() { "password" } else { "username" };
            reader.missing(section.place(), &section.path(missing), "basic authentication needs both");
            None
        }
        (.., Some(_)) => {
            let message = format!("two ways to log in, key=`{}`", section.path("token"));
            reader.fault_hint(section.place(), codes::CONTRADICTION, message, "keep `token`, or user and password");
            None
        }
    }
}
