//! Ways to log in, in the order in which they are tried.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::RsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use sha2::{Digest, Sha256};
use snowflake_api::{AuthType, CertificateArgs, PasswordArgs};
use tidemill_project::Secret;
use tidemill_project::config::SnowflakeAuth;

use super::SnowflakeError;

/// One way to prove who we are.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// A private key as plain PKCS#8 PEM with the fingerprint of its public key, as `DESC USER` shows it.
    Key { pem: Secret, fingerprint: String },
    /// A password or a programmatic access token.
    Password(Secret),
}

/// Reads the settings. Keys are decrypted here, because the crate takes plain PKCS#8 only.
pub(super) fn credentials(auth: &SnowflakeAuth) -> Result<Vec<Credential>, SnowflakeError> {
    match auth {
        SnowflakeAuth::Password(password) => Ok(vec![Credential::Password(password.clone())]),
        SnowflakeAuth::KeyPair { private_keys, passphrase } => {
            let keys = private_keys.iter().enumerate();
            keys.map(|(index, key)| read_key(index + 1, key, passphrase.as_ref())).collect()
        }
    }
}

fn read_key(number: usize, key: &Secret, passphrase: Option<&Secret>) -> Result<Credential, SnowflakeError> {
    // The sources' texts say what is wrong with the encoding; none of them holds the key.
    let fail = |detail: String| SnowflakeError::Key { number, detail };
    let pem = key.expose_secret().trim();
    let private = if pem.contains("ENCRYPTED PRIVATE KEY") {
        let passphrase = passphrase.ok_or_else(|| fail("it is encrypted and there is no passphrase".to_owned()))?;
        RsaPrivateKey::from_pkcs8_encrypted_pem(pem, passphrase.expose_secret())
            .map_err(|error| fail(format!("it cannot be opened with the passphrase: {error}")))?
    } else {
        RsaPrivateKey::from_pkcs8_pem(pem).map_err(|error| fail(format!("it is no PKCS#8 PEM of an RSA key: {error}")))?
    };
    let plain = private.to_pkcs8_pem(LineEnding::LF).map_err(|error| fail(format!("it cannot be encoded: {error}")))?;
    let public = private.to_public_key().to_public_key_der().map_err(|error| fail(format!("it has no public half: {error}")))?;
    let fingerprint = format!("SHA256:{}", STANDARD.encode(Sha256::digest(public.as_bytes())));
    Ok(Credential::Key { pem: Secret::new(plain.as_str()), fingerprint })
}

impl Credential {
    /// The form that the crate takes.
    pub(super) fn to_auth_type(&self) -> AuthType {
        match self {
            Self::Key { pem, .. } => AuthType::Certificate(CertificateArgs { private_key_pem: pem.expose_secret().to_owned() }),
            Self::Password(password) => AuthType::Password(PasswordArgs { password: password.expose_secret().to_owned() }),
        }
    }

    /// What a person can compare with `DESC USER`; nothing secret.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Key { fingerprint, .. } => fingerprint,
            Self::Password(_) => "password",
        }
    }
}
