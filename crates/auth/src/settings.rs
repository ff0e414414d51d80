//! What an operator may set about tokens.
//!
//! Names follow the field's existing servers (`contracts`: centrifuge 11.12), so
//! that a configuration can be moved over.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::verifier::SECRET_BYTES_ADVISED;

/// How one kind of token is checked. Without any key, every token is refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenSettings {
    /// Keys, each pinned to one algorithm; tried besides the shorthands below.
    pub keys: Vec<KeySettings>,
    /// Secret for HS256, HS384 and HS512; 16 bytes at least, 32 advised.
    pub hmac_secret_key: Secret,
    /// The secret before the last rotation, still accepted.
    pub hmac_previous_secret_key: Secret,
    /// When `hmac_previous_secret_key` stops being accepted, in Unix seconds; 0 means while it is set.
    pub hmac_previous_secret_key_valid_until: u64,
    /// RSA public key (PEM) for RS256, RS384 and RS512; 2048 bits at least.
    pub rsa_public_key: Secret,
    /// EC public key (PEM) on P-256, P-384 or P-521, for ES256, ES384 or ES512.
    pub ecdsa_public_key: Secret,
    /// Ed25519 public key (PEM) for EdDSA.
    pub ed25519_public_key: Secret,
    /// URL (https, or http inside a trusted network) of a JSON Web Key Set (RFC 7517).
    /// Tokens checked with its keys must name one in `kid`.
    pub jwks_public_endpoint: String,
    /// Path of a JSON Web Key Set; it is read again when it changes.
    pub jwks_file: String,
    /// The audience that tokens must name in `aud`; empty accepts any.
    pub audience: String,
    /// The issuer that tokens must name in `iss`; empty accepts any.
    pub issuer: String,
    /// The claim that holds the user's id; empty means `sub`.
    pub user_id_claim: String,
    /// How far the clocks of issuer and gateway may differ when `exp` and `nbf`
    /// are checked; at most 60s. Connections expire so much later than their tokens.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub leeway: Duration,
}

/// One key and the only algorithm it may be used with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// The key's id; a token that names a `kid` is checked with keys of that id or without id.
    #[serde(default)]
    pub id: Option<String>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The secret, for HS256, HS384 and HS512.
    #[serde(default)]
    pub secret: Secret,
    /// The public key (PEM), for the other algorithms.
    #[serde(default)]
    pub public_key: Secret,
}

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "HS256")]
    Hs256,
    /// HMAC with SHA-384.
    #[serde(rename = "HS384")]
    Hs384,
    /// HMAC with SHA-512.
    #[serde(rename = "HS512")]
    Hs512,
    /// RSA PKCS#1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A secret as the operator wrote it: the value itself, or `env:NAME` or
/// `file:PATH`, which [`Secret::resolve`] replaces. It can't be printed by accident:
/// `Debug` and `Serialize` show references as written and values as `[redacted]`.
#[derive(Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Secret {
    written: String,
    resolved: Option<String>,
}

/// Where a secret is to be read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference<'a> {
    /// An environment variable.
    Environment(&'a str),
    /// A file; a trailing line feed is not part of the secret.
    File(&'a str),
}

/// Reads what a [`Reference`] names; the error says why that failed.
pub type Resolver<'a> = &'a dyn Fn(Reference<'_>) -> Result<String, String>;

/// Why token settings were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// Which key, as a path below the token settings.
    pub key: String,
    /// What is wrong with it and what is accepted.
    pub problem: String,
}

impl TokenSettings {
    /// Replaces references to secrets and keys by what `resolver` reads there.
    pub fn resolve(&mut self, resolver: Resolver<'_>) -> Result<(), SettingsError> {
        let named = [
            ("hmac_secret_key", &mut self.hmac_secret_key),
            (
                "hmac_previous_secret_key",
                &mut self.hmac_previous_secret_key,
            ),
            ("rsa_public_key", &mut self.rsa_public_key),
            ("ecdsa_public_key", &mut self.ecdsa_public_key),
            ("ed25519_public_key", &mut self.ed25519_public_key),
        ];
        for (key, secret) in named {
            secret
                .resolve(resolver)
                .map_err(|problem| SettingsError::new(key, problem))?;
        }
        for (index, key) in self.keys.iter_mut().enumerate() {
            for (field, secret) in [
                ("secret", &mut key.secret),
                ("public_key", &mut key.public_key),
            ] {
                secret.resolve(resolver).map_err(|problem| {
                    SettingsError::new(format!("keys[{index}].{field}"), problem)
                })?;
            }
        }
        Ok(())
    }

    /// The HMAC secrets that are accepted but shorter than [`SECRET_BYTES_ADVISED`], as
    /// paths below the token settings.
    pub fn short_secrets(&self) -> Vec<String> {
        let plain = [
            ("hmac_secret_key", &self.hmac_secret_key),
            ("hmac_previous_secret_key", &self.hmac_previous_secret_key),
        ];
        let plain = plain.map(|(key, secret)| (key.to_owned(), secret));
        let pinned = self
            .keys
            .iter()
            .enumerate()
            .map(|(index, key)| (format!("keys[{index}].secret"), &key.secret));
        let is_short = |secret: &Secret| {
            let text = secret.reveal().unwrap_or_default();
            !text.is_empty() && text.len() < SECRET_BYTES_ADVISED
        };
        plain
            .into_iter()
            .chain(pinned)
            .filter(|(_, secret)| is_short(secret))
            .map(|(key, _)| key)
            .collect()
    }

    /// Whether any key is configured, so that tokens can be accepted at all.
    pub fn has_keys(&self) -> bool {
        !(self.keys.is_empty()
            && self.hmac_secret_key.is_empty()
            && self.rsa_public_key.is_empty()
            && self.ecdsa_public_key.is_empty()
            && self.ed25519_public_key.is_empty()
            && self.jwks_public_endpoint.is_empty()
            && self.jwks_file.is_empty())
    }
}

impl Algorithm {
    /// The name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name; names are compared exactly (RFC 7515, 4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        const ALL: [Algorithm; 10] = [
            Algorithm::Hs256,
            Algorithm::Hs384,
            Algorithm::Hs512,
            Algorithm::Rs256,
            Algorithm::Rs384,
            Algorithm::Rs512,
            Algorithm::Es256,
            Algorithm::Es384,
            Algorithm::Es512,
            Algorithm::EdDsa,
        ];
        ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl Secret {
    /// A secret as written in the configuration.
    pub fn new(written: impl Into<String>) -> Self {
        Self {
            written: written.into(),
            resolved: None,
        }
    }

    /// Reads what the secret refers to, if it is a reference; the error is for the operator.
    pub fn resolve(&mut self, resolver: Resolver<'_>) -> Result<(), String> {
        let Some(reference) = self.reference() else {
            return Ok(());
        };
        let text = resolver(reference)
            .map_err(|error| format!("{:?} could not be read: {error}", self.written))?;
        let text = match reference {
            Reference::Environment(_) => text.as_str(),
            Reference::File(_) => text.strip_suffix('\n').unwrap_or(&text),
        };
        let text = text.strip_suffix('\r').unwrap_or(text).to_owned();
        if text.is_empty() {
            return Err(format!("{:?} is empty", self.written));
        }
        self.resolved = Some(text);
        Ok(())
    }

    /// Where the secret is to be read from, if it is a reference.
    pub fn reference(&self) -> Option<Reference<'_>> {
        if let Some(name) = self.written.strip_prefix("env:") {
            return Some(Reference::Environment(name));
        }
        self.written.strip_prefix("file:").map(Reference::File)
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// The value; `None` if it is a reference that was not resolved.
    pub fn reveal(&self) -> Option<&str> {
        match (&self.resolved, self.reference()) {
            (Some(value), _) => Some(value),
            (None, None) => Some(&self.written),
            (None, Some(_)) => None,
        }
    }

    fn shown(&self) -> &str {
        if self.is_empty() || self.reference().is_some() {
            &self.written
        } else {
            "[redacted]"
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input).map(Self::new)
    }
}

impl SettingsError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Reference, Secret, TokenSettings};

    #[test]
    fn secrets_are_not_printed() {
        let settings = TokenSettings {
            hmac_secret_key: Secret::new("super-secret-value-0123456789"),
            rsa_public_key: Secret::new("file:/keys/rsa.pem"),
            ..TokenSettings::default()
        };
        let printed = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!printed.contains("super-secret"), "{printed}");
        assert!(printed.contains("[redacted]") && printed.contains("file:/keys/rsa.pem"));
    }

    #[test]
    fn references_are_resolved_once_and_stay_unprinted() {
        let mut settings: TokenSettings = serde_json::from_str(
            r#"{"hmac_secret_key": "env:KEY", "keys": [{"algorithm": "EdDSA", "public_key": "file:/k"}]}"#,
        )
        .unwrap();
        assert_eq!(settings.hmac_secret_key.reveal(), None);
        settings
            .resolve(&|reference| match reference {
                Reference::Environment("KEY") => Ok("value-of-the-variable".to_owned()),
                Reference::File("/k") => Ok("text\n".to_owned()),
                other => Err(format!("{other:?}")),
            })
            .unwrap();
        assert_eq!(
            settings.hmac_secret_key.reveal(),
            Some("value-of-the-variable")
        );
        assert_eq!(settings.keys[0].public_key.reveal(), Some("text"));
        assert!(!format!("{settings:?}").contains("value-of"));
    }

    #[test]
    fn secrets_shorter_than_advised_are_named() {
        let settings: TokenSettings = serde_json::from_str(
            r#"{"hmac_secret_key": "sixteen-bytes-ok", "keys": [
                {"algorithm": "HS256", "secret": "a-secret-of-at-least-32-bytes-in-length"},
                {"algorithm": "HS256", "secret": "another-short-one"}]}"#,
        )
        .unwrap();
        assert_eq!(
            settings.short_secrets(),
            ["hmac_secret_key", "keys[1].secret"]
        );
    }

    #[test]
    fn a_reference_that_leads_nowhere_names_the_key() {
        let mut settings: TokenSettings =
            serde_json::from_str(r#"{"ecdsa_public_key": "file:/none"}"#).unwrap();
        let error = settings
            .resolve(&|_| Err("no such file".to_owned()))
            .unwrap_err();
        assert_eq!(error.key, "ecdsa_public_key");
    }

    #[test]
    fn algorithms_are_known_by_their_exact_names() {
        assert_eq!(Algorithm::from_name("ES384"), Some(Algorithm::Es384));
        for name in ["none", "None", "hs256", "PS256", ""] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }
}
