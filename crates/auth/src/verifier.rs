//! Checks tokens and reads them.
//!
//! Immutable once built: on reload the owner builds another one and swaps it in.
//! Key sets live in [`KeySets`], beside it, so that a reload which does not change
//! their URL does not fetch them again.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::claims::{ConnectionClaims, SubscriptionClaims, TokenError};
use serde::Deserialize;

use crate::claims::Expected;
use crate::jwks::{KeySet, KeySets, Source};
use crate::key::{ECDSA, HMAC, Key, RSA};
use crate::settings::{Algorithm, KeySettings, Secret, SettingsError, TokenSettings};

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The shortest HMAC secret that is accepted, in bytes.
pub const SECRET_BYTES_MIN: usize = 16;

/// HMAC secrets below this many bytes are told by [`TokenSettings::short_secrets`]
/// (RFC 7518, 3.2).
pub const SECRET_BYTES_ADVISED: usize = 32;

/// The longest `leeway`, in seconds.
pub const LEEWAY_SECONDS_MAX: u64 = 60;

/// Checks connection and subscription tokens.
pub struct Verifier {
    connection: Checks,
    /// `None`: subscription tokens are checked as connection tokens are.
    subscription: Option<Checks>,
}

/// The keys and expectations for one kind of token.
struct Checks {
    keys: Vec<Key>,
    key_sets: Vec<Arc<KeySet>>,
    expected: Expected,
}

/// The parts of a header that matter; all others are ignored (RFC 8725, 3.10).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

impl Verifier {
    /// Prepares the keys. References to secrets must have been resolved.
    /// Nothing is fetched yet: a key set is asked for when the first token needs it.
    pub fn new(
        connection: &TokenSettings,
        subscription: Option<&TokenSettings>,
        key_sets: &KeySets,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            connection: Checks::new(connection, key_sets)?,
            subscription: subscription
                .map(|settings| Checks::new(settings, key_sets))
                .transpose()?,
        })
    }

    /// Checks a connection token at that time.
    pub async fn connection(
        &self,
        token: &str,
        now_unix: u64,
    ) -> Result<ConnectionClaims, TokenError> {
        let payload = self.connection.payload(token, now_unix).await?;
        self.connection.expected.connection(&payload, now_unix)
    }

    /// Checks a subscription token at that time. Whether user, channel and client are
    /// the right ones is for the session to say.
    pub async fn subscription(
        &self,
        token: &str,
        now_unix: u64,
    ) -> Result<SubscriptionClaims, TokenError> {
        let checks = self.subscription.as_ref().unwrap_or(&self.connection);
        let payload = checks.payload(token, now_unix).await?;
        checks.expected.subscription(&payload, now_unix)
    }
}

impl Checks {
    fn new(settings: &TokenSettings, key_sets: &KeySets) -> Result<Self, SettingsError> {
        let mut keys = Vec::new();
        for (index, key) in settings.keys.iter().enumerate() {
            keys.push(pinned(&format!("keys[{index}]"), key)?);
        }
        if let Some(secret) = hmac_secret("hmac_secret_key", &settings.hmac_secret_key)? {
            keys.push(Key::from_secret(secret.as_bytes(), &HMAC));
        }
        if let Some(secret) = hmac_secret(
            "hmac_previous_secret_key",
            &settings.hmac_previous_secret_key,
        )? {
            let until = settings.hmac_previous_secret_key_valid_until;
            let mut key = Key::from_secret(secret.as_bytes(), &HMAC);
            key.valid_until = (until > 0).then_some(until);
            keys.push(key);
        }
        for (name, written, algorithms) in [
            ("rsa_public_key", &settings.rsa_public_key, &RSA[..]),
            ("ecdsa_public_key", &settings.ecdsa_public_key, &ECDSA[..]),
            (
                "ed25519_public_key",
                &settings.ed25519_public_key,
                &[Algorithm::EdDsa][..],
            ),
        ] {
            if let Some(text) = value(name, written)? {
                let key = Key::from_pem(text, algorithms)
                    .map_err(|problem| SettingsError::new(name, problem))?;
                keys.push(key);
            }
        }
        let leeway = settings.leeway.as_secs();
        if leeway > LEEWAY_SECONDS_MAX
            || (leeway == LEEWAY_SECONDS_MAX && settings.leeway.subsec_nanos() > 0)
        {
            return Err(SettingsError::new("leeway", "is more than 60s"));
        }
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Ok(Self {
            keys,
            key_sets: sets(settings, key_sets)?,
            expected: Expected {
                audience: some(&settings.audience),
                issuer: some(&settings.issuer),
                user_id_claim: some(&settings.user_id_claim),
                leeway,
            },
        })
    }

    /// The claims as JSON bytes, once the signature is known to be right.
    async fn payload(&self, token: &str, now_unix: u64) -> Result<Vec<u8>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("it is longer than 8 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("it does not have three parts"));
        };
        let signed = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| invalid("its header is not readable"))?;
        if header.crit.is_some() {
            return Err(invalid("it demands extensions that are not known"));
        }
        let algorithm = Algorithm::from_name(&header.alg)
            .ok_or_else(|| invalid("its algorithm is not accepted"))?;
        let signature = decode(signature)?;
        self.verify(
            algorithm,
            header.kid.as_deref(),
            signed,
            &signature,
            now_unix,
        )
        .await?;
        decode(payload)
    }

    /// Tries the configured keys first, which costs nothing, then the key sets.
    async fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
        now_unix: u64,
    ) -> Result<(), TokenError> {
        let mut tried = false;
        for key in self
            .keys
            .iter()
            .filter(|key| key.fits(algorithm, id, now_unix))
        {
            tried = true;
            if key.verifies(algorithm, signed, signature) {
                return Ok(());
            }
        }
        let mut refusal = if tried {
            invalid("its signature is wrong")
        } else {
            invalid("there is no key for its algorithm and key id")
        };
        // Not even asked for: no shared secret ever comes from a key set.
        let public = !HMAC.contains(&algorithm);
        if let Some(id) = id.filter(|_| public) {
            for set in &self.key_sets {
                match set.find(id, now_unix).await {
                    Ok(keys) => {
                        if keys
                            .iter()
                            .any(|key| key.verifies(algorithm, signed, signature))
                        {
                            return Ok(());
                        }
                        refusal = invalid("its signature is wrong");
                    }
                    Err(error) => refusal = error,
                }
            }
        }
        Err(refusal)
    }
}

fn pinned(path: &str, settings: &KeySettings) -> Result<Key, SettingsError> {
    let secret_name = format!("{path}.secret");
    let public_name = format!("{path}.public_key");
    let secret = hmac_secret(&secret_name, &settings.secret)?;
    let public = value(&public_name, &settings.public_key)?;
    let name = settings.algorithm.name();
    let is_hmac = HMAC.contains(&settings.algorithm);
    let mut key = match (is_hmac, secret, public) {
        (true, Some(secret), None) => Key::from_secret(secret.as_bytes(), &[settings.algorithm]),
        (false, None, Some(text)) => Key::from_pem(text, &[settings.algorithm])
            .map_err(|problem| SettingsError::new(public_name, problem))?,
        (true, None, _) => {
            return Err(SettingsError::new(
                secret_name,
                format!("is needed for {name}"),
            ));
        }
        (true, Some(_), Some(_)) => {
            return Err(SettingsError::new(
                public_name,
                format!("is not used with {name}"),
            ));
        }
        (false, _, None) => {
            return Err(SettingsError::new(
                public_name,
                format!("is needed for {name}"),
            ));
        }
        (false, Some(_), Some(_)) => {
            return Err(SettingsError::new(
                secret_name,
                format!("is not used with {name}"),
            ));
        }
    };
    key.id.clone_from(&settings.id);
    Ok(key)
}

fn hmac_secret<'a>(name: &str, secret: &'a Secret) -> Result<Option<&'a str>, SettingsError> {
    let Some(text) = value(name, secret)? else {
        return Ok(None);
    };
    if text.len() < SECRET_BYTES_MIN {
        let problem = format!(
            "has {} bytes; an HMAC secret needs at least {SECRET_BYTES_MIN}, \
             and {SECRET_BYTES_ADVISED} are advised",
            text.len()
        );
        return Err(SettingsError::new(name, problem));
    }
    Ok(Some(text))
}

fn value<'a>(name: &str, secret: &'a Secret) -> Result<Option<&'a str>, SettingsError> {
    if secret.is_empty() {
        return Ok(None);
    }
    secret
        .reveal()
        .map(Some)
        .ok_or_else(|| SettingsError::new(name, format!("{secret:?} was not resolved")))
}

fn sets(settings: &TokenSettings, key_sets: &KeySets) -> Result<Vec<Arc<KeySet>>, SettingsError> {
    let mut sets = Vec::new();
    if !settings.jwks_public_endpoint.is_empty() {
        let name = "jwks_public_endpoint";
        let source = Source::url(&settings.jwks_public_endpoint)
            .map_err(|problem| SettingsError::new(name, problem))?;
        sets.push(key_sets.open(source));
    }
    if !settings.jwks_file.is_empty() {
        sets.push(key_sets.open(Source::file(&settings.jwks_file)));
    }
    Ok(sets)
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| invalid("it is not Base64"))
}

fn invalid(problem: &str) -> TokenError {
    TokenError::Invalid(problem.to_owned())
}
