//! Who calls: an API key, or a bearer token of an identity provider.

use std::fmt::Write;

use axum::http::{HeaderMap, header};
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidemill_project::clock::Clock;
use tidemill_project::config::{ApiKey, CollectSettings, OAuthSettings};

use crate::error::Cause;
use crate::refusal::Refusal;

/// SHA-256 of a key in hexadecimal: the form in which settings hold it.
///
/// Keys are long random texts, so a fast hash is enough: there is nothing to guess.
#[must_use]
pub fn hash_key(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A caller that was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Name for limits and logs: the key's id, `sub:` and the token's subject, or `anonymous`.
    pub(crate) id: String,
    devices: Devices,
    pub(crate) rate: Option<u32>,
    pub(crate) burst: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Devices {
    Any,
    Listed(Vec<String>),
}

impl Caller {
    /// Says whether the caller may send for a device.
    pub(crate) fn covers(&self, device: &str) -> bool {
        match &self.devices {
            Devices::Any => true,
            Devices::Listed(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => device.starts_with(beginning),
                None => device == pattern,
            }),
        }
    }
}

/// Knows all callers.
pub(crate) struct Guard {
    keys: Vec<ApiKey>,
    provider: Option<Provider>,
    anonymous: bool,
    clock: Clock,
}

struct Provider {
    settings: OAuthSettings,
    keys: Vec<(Option<String>, Algorithm, DecodingKey)>,
}

impl Guard {
    /// Reads the provider's key set.
    pub(crate) fn new(settings: &CollectSettings, clock: Clock) -> Result<Self, Cause> {
        Ok(Self {
            keys: settings.keys.clone(),
            provider: settings.oauth.clone().map(Provider::new).transpose()?,
            anonymous: settings.anonymous,
            clock,
        })
    }

    /// Finds the caller of a request.
    ///
    /// A key stands in `X-API-Key` or, as phones' apps have one field for it, as a bearer token.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let bearer = headers.get(header::AUTHORIZATION).map(|value| {
            let text = value.to_str().unwrap_or_default();
            let (scheme, token) = text.split_once(' ').unwrap_or(("", text));
            if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }
        });
        let key = headers.get("x-api-key").map(|value| value.to_str().unwrap_or_default());
        let Some(presented) = key.or(bearer) else {
            return if self.anonymous {
                Ok(Caller { id: "anonymous".to_owned(), devices: Devices::Any, rate: None, burst: None })
            } else {
                Err(Refusal::unauthorized("an API key or a bearer token is required"))
            };
        };
        if let Some(key) = self.known_key(presented) {
            if key.expires_at.is_some_and(|at| self.clock.now_us() >= at) {
                return Err(Refusal::unauthorized("the API key has expired"));
            }
            let devices = if key.devices.is_empty() { Devices::Any } else { Devices::Listed(key.devices.clone()) };
            return Ok(Caller { id: key.id.clone(), devices, rate: key.rate, burst: key.burst });
        }
        match (&self.provider, key.is_none()) {
            (Some(provider), true) => provider.verify(presented, self.clock.now_us().div_euclid(1_000_000)),
            _ => Err(Refusal::unauthorized("the API key is not known")),
        }
    }

    /// Compares hashes, which tell nothing about how much of a key was right.
    fn known_key(&self, presented: &str) -> Option<&ApiKey> {
        let hash: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        self.keys.iter().find(|key| key.sha256.contains(&hash))
    }
}

impl Provider {
    fn new(settings: OAuthSettings) -> Result<Self, Cause> {
        let set: JwkSet =
            serde_json::from_str(settings.jwks.expose_secret()).map_err(|source| Cause::KeySet { source })?;
        let keys: Vec<_> = set
            .keys
            .iter()
            .filter_map(|jwk| {
                let algorithm = match (jwk.common.key_algorithm, &jwk.algorithm) {
                    (Some(KeyAlgorithm::RS384), _) => Algorithm::RS384,
                    (Some(KeyAlgorithm::RS512), _) => Algorithm::RS512,
                    (Some(KeyAlgorithm::PS256), _) => Algorithm::PS256,
                    (Some(KeyAlgorithm::ES384), _) => Algorithm::ES384,
                    (Some(KeyAlgorithm::EdDSA), _) | (_, AlgorithmParameters::OctetKeyPair(_)) => Algorithm::EdDSA,
                    (_, AlgorithmParameters::RSA(_)) => Algorithm::RS256,
                    (_, AlgorithmParameters::EllipticCurve(_)) => Algorithm::ES256,
                    // A shared secret has no place in a public key set.
                    (_, AlgorithmParameters::OctetKey(_)) => return None,
                };
                Some((jwk.common.key_id.clone(), algorithm, DecodingKey::from_jwk(jwk).ok()?))
            })
            .collect();
        if keys.is_empty() { Err(Cause::NoSigningKey) } else { Ok(Self { settings, keys }) }
    }

    /// Checks signature, issuer, audience, and the token's times against `now` (seconds since the epoch).
    fn verify(&self, token: &str, now: i64) -> Result<Caller, Refusal> {
        let refused = |_| Refusal::unauthorized("the bearer token is not valid here");
        let header = jsonwebtoken::decode_header(token).map_err(refused)?;
        let (_, algorithm, key) = self
            .keys
            .iter()
            .find(|(id, algorithm, _)| (id.is_none() || *id == header.kid) && *algorithm == header.alg)
            .ok_or_else(|| Refusal::unauthorized("the bearer token is signed by a key that is not known"))?;
        let mut validation = Validation::new(*algorithm);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        // Times are compared below, with the injected clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(token, key, &validation).map_err(refused)?.claims;
        let time = |name: &str| claims.get(name).and_then(Value::as_f64);
        #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch are far below 2^53")]
        let now = now as f64;
        if time("exp").is_none_or(|at| now >= at) || time("nbf").is_some_and(|at| now < at) {
            return Err(Refusal::unauthorized("the bearer token has expired, or is not valid yet"));
        }
        let devices = match &self.settings.device_claim {
            None => Devices::Any,
            Some(name) => Devices::Listed(match claims.get(name) {
                Some(Value::String(device)) => vec![device.clone()],
                Some(Value::Array(devices)) => {
                    devices.iter().filter_map(|device| device.as_str().map(str::to_owned)).collect()
                }
                _ => Vec::new(),
            }),
        };
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or("unnamed");
        Ok(Caller { id: format!("sub:{subject}"), devices, rate: self.settings.rate, burst: None })
    }
}
