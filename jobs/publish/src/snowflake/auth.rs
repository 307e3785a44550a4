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
    /// A token of an identity provider. It travels where a password does, and the shim puts it into its own place.
    OAuth(Secret),
}

/// Reads the settings. Keys are decrypted here, because the crate takes plain PKCS#8 only.
pub(super) fn credentials(auth: &SnowflakeAuth) -> Result<Vec<Credential>, SnowflakeError> {
    match auth {
        SnowflakeAuth::Password(password) => Ok(vec![Credential::Password(password.clone())]),
        SnowflakeAuth::OAuth(token) => Ok(vec![Credential::OAuth(token.clone())]),
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
        RsaPrivateKey::from_pkcs8_pem(pem)
            .map_err(|error| fail(format!("it is no PKCS#8 PEM of an RSA key: {error}")))?
    };
    let plain = private.to_pkcs8_pem(LineEnding::LF).map_err(|error| fail(format!("it cannot be encoded: {error}")))?;
    let public =
        private.to_public_key().to_public_key_der().map_err(|error| fail(format!("it has no public half: {error}")))?;
    let fingerprint = format!("SHA256:{}", STANDARD.encode(Sha256::digest(public.as_bytes())));
    Ok(Credential::Key { pem: Secret::new(plain.as_str()), fingerprint })
}

impl Credential {
    /// The form that the crate takes.
    pub(super) fn to_auth_type(&self) -> AuthType {
        match self {
            Self::Key { pem, .. } => {
                AuthType::Certificate(CertificateArgs { private_key_pem: pem.expose_secret().to_owned() })
            }
            Self::Password(password) | Self::OAuth(password) => {
                AuthType::Password(PasswordArgs { password: password.expose_secret().to_owned() })
            }
        }
    }

    /// What a person can compare with `DESC USER`; nothing secret.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Key { fingerprint, .. } => fingerprint,
            Self::Password(_) => "password",
            Self::OAuth(_) => "oauth",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key made for this test by `openssl genpkey`, and the same one encrypted by `openssl pkcs8 -topk8`.
    const PLAIN: &str = include_str!("fixtures/rsa_test_key.pem");
    const ENCRYPTED: &str = include_str!("fixtures/rsa_test_key_encrypted.pem");
    /// By `openssl pkey -pubout -outform DER | openssl dgst -sha256 -binary | base64`.
    const FINGERPRINT: &str = "SHA256:G14DHbTU8BESSDvHzCJp4saSqdvZ03ETxGZes+nRi8c=";

    fn read(keys: &[&str], passphrase: Option<&str>) -> Result<Vec<Credential>, SnowflakeError> {
        credentials(&SnowflakeAuth::KeyPair {
            private_keys: keys.iter().map(|key| Secret::new(*key)).collect(),
            passphrase: passphrase.map(Secret::new),
        })
    }

    #[test]
    fn an_encrypted_key_is_opened_and_both_have_one_fingerprint() {
        let credentials = read(&[PLAIN, ENCRYPTED], Some("open-sesame")).unwrap();
        assert_eq!(credentials.iter().map(Credential::label).collect::<Vec<_>>(), [FINGERPRINT, FINGERPRINT]);
        for credential in &credentials {
            let AuthType::Certificate(key) = credential.to_auth_type() else { panic!("a key is a certificate") };
            assert!(key.private_key_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
        }
    }

    #[test]
    fn a_key_that_cannot_be_opened_is_named_by_its_place_and_never_shown() {
        for (keys, passphrase) in
            [(vec![PLAIN, ENCRYPTED], None), (vec![PLAIN, ENCRYPTED], Some("wrong")), (vec![PLAIN, "nonsense"], None)]
        {
            let error = read(&keys, passphrase).unwrap_err();
            assert!(matches!(error, SnowflakeError::Key { number: 2, .. }), "{error}");
            let text = format!("{error} {error:?}");
            assert!(!text.contains("wrong") && !text.contains("MII") && !text.contains("nonsense"), "{text}");
        }
    }

    #[test]
    fn credentials_print_no_secret() {
        let credentials = read(&[PLAIN], None).unwrap();
        let body = PLAIN.lines().nth(1).unwrap();
        assert!(!format!("{credentials:?}").contains(body));
    }
}
