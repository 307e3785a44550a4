//! `[target.NAME.collect]`: the HTTP door, who may use it, and how much at a time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reference::settings_keys;
use super::target::TargetContext;
use crate::clock::Micros;
use crate::document::{Data, Node, Reader, Section, codes, parse_instant};
use crate::secret::Secret;

/// The HTTP door of a target.
#[derive(Clone, Debug)]
pub struct CollectSettings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Topic that readings go to; a contract of the project must name it.
    pub topic: String,
    /// Largest body, after decompression.
    pub max_body_bytes: usize,
    /// Bodies of all requests together; beyond it requests are told to come again.
    pub max_buffered_bytes: usize,
    /// Records that wait for the broker; beyond it requests are told to come again.
    pub max_queued_records: usize,
    /// How long the broker may take to acknowledge a record.
    pub ack_timeout: Duration,
    /// How long open requests may take after a signal to stop.
    pub drain_timeout: Duration,
    /// Certificate chain and key, both PEM; plain HTTP without (behind a proxy that speaks TLS).
    pub tls: Option<TlsFiles>,
    /// API keys by their hashes.
    pub keys: Vec<ApiKey>,
    /// Bearer tokens of an identity provider.
    pub oauth: Option<OAuthSettings>,
    /// Whether requests without a key are let in.
    pub anonymous: bool,
}

/// Where certificate and key lie.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, PEM, absolute.
    pub certificate: PathBuf,
    /// Private key, PEM, absolute.
    pub key: PathBuf,
}

/// One caller. The key itself is known to the caller alone.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Name for logs and metrics.
    pub id: String,
    /// SHA-256 of the key; several while it is being rotated.
    pub sha256: Vec<[u8; 32]>,
    /// Readings per second, on average.
    pub rate: Option<u32>,
    /// Readings at once; a second's worth unless declared.
    pub burst: Option<u32>,
    /// Devices that the key may send for; a trailing `*` stands for any ending. Empty = any.
    pub devices: Vec<String>,
    /// The key is refused from this instant on.
    pub expires_at: Option<Micros>,
}

/// An identity provider whose JSON Web Tokens are accepted.
#[derive(Clone, Debug)]
pub struct OAuthSettings {
    /// Required `iss`.
    pub issuer: String,
    /// Required `aud`.
    pub audience: String,
    /// JSON Web Key Set, as a text.
    pub jwks: Secret,
    /// Claim that names the token's devices, a text or a list of texts; any device without.
    pub device_claim: Option<String>,
    /// Readings per second of one subject.
    pub rate: Option<u32>,
}

/// Reads the section.
pub(super) fn read_collect(
    reader: &mut Reader<'_>,
    context: &TargetContext<'_>,
    name: &str,
    node: &Node,
) -> Option<CollectSettings> {
    let section = reader.section(name, node, &settings_keys("target.<name>.collect"))?;
    let mut settings = CollectSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        topic: "raw_sensor_data".to_owned(),
        max_body_bytes: 1 << 20,
        max_buffered_bytes: 64 << 20,
        max_queued_records: 100_000,
        ack_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(10),
        tls: None,
        keys: Vec::new(),
        oauth: None,
        anonymous: false,
    };
    if let Some(node) = section.get("listen") {
        let key = section.path("listen");
        match reader.text(&key, node).map(|text| text.parse::<SocketAddr>()) {
            Some(Ok(address)) => settings.listen = address,
            Some(Err(_)) => reader.bad_value(&key, node, "write an address and a port: \"0.0.0.0:8080\""),
            None => {}
        }
    }
    if let Some(topic) = section.get("topic").and_then(|node| reader.text(&section.path("topic"), node)) {
        settings.topic = topic;
    }
    for (key, slot) in
        [("max_body_bytes", &mut settings.max_body_bytes), ("max_buffered_bytes", &mut settings.max_buffered_bytes)]
    {
        if let Some(bytes) = section.get(key).and_then(|node| reader.bytes_in_memory(&section.path(key), node)) {
            *slot = bytes;
        }
    }
    if let Some(node) = section.get("max_queued_records")
        && let Some(count) = reader.count(&section.path("max_queued_records"), node, 1)
    {
        settings.max_queued_records = count;
    }
    for (key, slot) in [("ack_timeout", &mut settings.ack_timeout), ("drain_timeout", &mut settings.drain_timeout)] {
        if let Some(duration) = section.get(key).and_then(|node| reader.duration(&section.path(key), node)) {
            *slot = duration;
        }
    }
    if let Some(node) = section.get("anonymous")
        && let Some(flag) = reader.flag(&section.path("anonymous"), node)
    {
        settings.anonymous = flag;
    }
    settings.tls = read_tls(reader, context, section);
    settings.keys = read_keys(reader, section);
    if let Some(node) = section.get("oauth") {
        settings.oauth = read_oauth(reader, context, &section.path("oauth"), node);
    }
    if settings.keys.is_empty() && section.get("oauth").is_none() && !settings.anonymous {
        let hint = "add [[….keys]] with the SHA-256 of an API key, or `oauth`; `anonymous = true` lets everybody in";
        reader.missing(section.place(), &section.path("keys"), hint);
    }
    Some(settings)
}

fn read_tls(reader: &mut Reader<'_>, context: &TargetContext<'_>, section: Section<'_>) -> Option<TlsFiles> {
    let path = |reader: &mut Reader<'_>, key: &str| {
        section
            .get(key)
            .and_then(|node| reader.text(&section.path(key), node))
            .map(|text| context.project_dir.join(text.strip_prefix("file:").unwrap_or(&text)))
    };
    let certificate = path(reader, "tls_certificate");
    let key = path(reader, "tls_key");
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
        (None, None) => None,
        (certificate, _) => {
            let missing = if certificate.is_some() { "tls_key" } else { "tls_certificate" };
            reader.missing(section.place(), &section.path(missing), "TLS needs both, certificate chain and key");
            None
        }
    }
}

fn read_keys(reader: &mut Reader<'_>, section: Section<'_>) -> Vec<ApiKey> {
    let Some(node) = section.get("keys") else { return Vec::new() };
    let name = section.path("keys");
    let Data::List(items) = &node.data else {
        reader.wrong_type(&name, node, "list of tables");
        return Vec::new();
    };
    let mut keys: Vec<ApiKey> = Vec::new();
    for item in items {
        let Some(key) = read_key(reader, &name, item) else { continue };
        if keys.iter().any(|other| other.id == key.id) {
            let message = format!("two keys have the same name, key=`{name}.id`, value=`{}`", key.id);
            reader.fault_hint(item.place, codes::CONTRADICTION, message, "give several hashes to one key to rotate it");
        }
        keys.push(key);
    }
    keys
}

fn read_key(reader: &mut Reader<'_>, name: &str, node: &Node) -> Option<ApiKey> {
    let section = reader.section(name, node, &settings_keys("target.<name>.collect.keys"))?;
    let id = if let Some(node) = section.get("id") {
        reader.text(&section.path("id"), node)
    } else {
        reader.missing(section.place(), &section.path("id"), "name the key; the name stands in logs and metrics");
        None
    };
    let hashes = read_hashes(reader, section);
    let number = |reader: &mut Reader<'_>, key: &str| {
        let node = section.get(key)?;
        let number = reader.integer(&section.path(key), node, 1)?;
        let fitting = u32::try_from(number).ok();
        if fitting.is_none() {
            reader.bad_value(&section.path(key), node, "the greatest is 4294967295");
        }
        fitting
    };
    let rate = number(reader, "rate");
    let burst = number(reader, "burst");
    let devices =
        section.get("devices").and_then(|node| reader.texts(&section.path("devices"), node)).unwrap_or_default();
    let expires_at = section.get("expires_at").and_then(|node| {
        let key = section.path("expires_at");
        let text = reader.spelling(&key, node)?;
        let instant = parse_instant(&text);
        if instant.is_none() {
            reader.bad_value(&key, node, "write a time such as 2026-01-31T00:00:00Z");
        }
        instant
    });
    Some(ApiKey { id: id?, sha256: hashes, rate, burst, devices, expires_at })
}

fn read_hashes(reader: &mut Reader<'_>, section: Section<'_>) -> Vec<[u8; 32]> {
    let key = section.path("sha256");
    let Some(node) = section.get("sha256") else {
        reader.missing(section.place(), &key, "`tidemill collect --hash-key` makes it from a key on stdin");
        return Vec::new();
    };
    let texts = reader.texts(&key, node).unwrap_or_default();
    let hashes: Vec<_> = texts.iter().filter_map(|text| parse_sha256(text)).collect();
    if hashes.len() < texts.len() {
        // The value is not quoted: a key in clear may stand there by mistake.
        let message = format!("value is no SHA-256, key=`{key}`");
        let hint = "64 hexadecimal digits; `tidemill collect --hash-key` makes them from a key on stdin";
        reader.fault_hint(node.place, codes::BAD_VALUE, message, hint);
    }
    hashes
}

fn read_oauth(reader: &mut Reader<'_>, context: &TargetContext<'_>, name: &str, node: &Node) -> Option<OAuthSettings> {
    let section = reader.section(name, node, &settings_keys("target.<name>.collect.oauth"))?;
    for key in ["issuer", "audience", "jwks"] {
        if section.get(key).is_none() {
            reader.missing(section.place(), &section.path(key), "tokens are checked by issuer, audience and signature");
        }
    }
    let text =
        |reader: &mut Reader<'_>, key: &str| section.get(key).and_then(|node| reader.text(&section.path(key), node));
    let issuer = text(reader, "issuer");
    let audience = text(reader, "audience");
    let device_claim = text(reader, "device_claim");
    let jwks = section.get("jwks").and_then(|node| context.secret(reader, &section.path("jwks"), node));
    let rate = section
        .get("rate")
        .and_then(|node| reader.integer(&section.path("rate"), node, 1))
        .and_then(|rate| u32::try_from(rate).ok());
    Some(OAuthSettings { issuer: issuer?, audience: audience?, jwks: jwks?, device_claim, rate })
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(hash)
}
