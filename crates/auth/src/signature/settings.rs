//! What an operator may set about signatures of messages.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NONCE_BYTES_MAX;
use crate::settings::{Resolver, Secret, SettingsError};
use crate::verifier::{SECRET_BYTES_ADVISED, SECRET_BYTES_MIN};

/// The shortest time window.
pub const WINDOW_MIN: Duration = Duration::from_secs(1);
/// The longest time window.
pub const WINDOW_MAX: Duration = Duration::from_secs(3600);
/// Most nonces that may be kept.
pub const NONCES_MAX: usize = 10_000_000;

/// How messages are signed, if at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SignatureSettings {
    /// Whether messages may or must be signed.
    pub mode: SignatureMode,
    /// How far the time of a signature may be from the gateway's clock, before and after;
    /// 1s to 1h.
    #[serde(with = "protocol::duration")]
    #[schemars(with = "protocol::duration::Text")]
    pub window: Duration,
    /// Who may sign. A key signs for any client: give it to those who may speak for all of
    /// them, or for whom tokens say which client they are.
    pub keys: Vec<SignatureKey>,
    /// Most nonces kept, each for about `window`, at some 100 bytes; when so many are kept,
    /// signed messages are refused for a while. It should be more than `window` in seconds
    /// times the signed messages per second; 1 to 10000000.
    pub nonces_max: usize,
}

/// Whether messages may or must be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignatureMode {
    /// Signatures are ignored.
    #[default]
    Off,
    /// A signature that is there must be right.
    Optional,
    /// Every message must be signed.
    Required,
}

/// A key for signatures of messages: HMAC-SHA256.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureKey {
    /// The id by which messages name it; 1 to 128 bytes.
    pub id: String,
    /// The secret; 16 bytes at least, 32 advised.
    pub secret: Secret,
}

impl Default for SignatureSettings {
    fn default() -> Self {
        Self {
            mode: SignatureMode::Off,
            window: Duration::from_secs(300),
            keys: Vec::new(),
            nonces_max: 100_000,
        }
    }
}

impl SignatureSettings {
    /// Replaces references to secrets by what `resolver` reads there.
    pub fn resolve(&mut self, resolver: Resolver<'_>) -> Result<(), SettingsError> {
        for (index, key) in self.keys.iter_mut().enumerate() {
            key.secret
                .resolve(resolver)
                .map_err(|problem| SettingsError::new(format!("keys[{index}].secret"), problem))?;
        }
        Ok(())
    }

    /// Whether everything is in its range; secrets that are references must be resolved.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(WINDOW_MIN..=WINDOW_MAX).contains(&self.window) {
            return Err(SettingsError::new("window", "must be from 1s to 1h"));
        }
        if !(1..=NONCES_MAX).contains(&self.nonces_max) {
            let problem = format!("must be from 1 to {NONCES_MAX}");
            return Err(SettingsError::new("nonces_max", problem));
        }
        if self.mode != SignatureMode::Off && self.keys.is_empty() {
            let problem = "has no key, so that no signature could be right; add one or set \
                           `mode` to off";
            return Err(SettingsError::new("keys", problem));
        }
        for (index, key) in self.keys.iter().enumerate() {
            key.check(index)?;
            if self.keys[..index].iter().any(|other| other.id == key.id) {
                let problem = format!("{:?} is the id of another key, too", key.id);
                return Err(SettingsError::new(format!("keys[{index}].id"), problem));
            }
        }
        Ok(())
    }

    /// The secrets that are accepted but shorter than is advised, as paths below the settings.
    pub fn short_secrets(&self) -> Vec<String> {
        let length = |key: &SignatureKey| key.secret.reveal().unwrap_or_default().len();
        self.keys
            .iter()
            .enumerate()
            .filter(|(_, key)| length(key) < SECRET_BYTES_ADVISED)
            .map(|(index, _)| format!("keys[{index}].secret"))
            .collect()
    }
}

impl SignatureKey {
    fn check(&self, index: usize) -> Result<(), SettingsError> {
        let is_id = !self.id.is_empty()
            && self.id.len() <= NONCE_BYTES_MAX
            && !self.id.contains(char::is_control);
        if !is_id {
            let problem = "must have 1 to 128 bytes and no control characters";
            return Err(SettingsError::new(format!("keys[{index}].id"), problem));
        }
        let problem = match self.secret.reveal() {
            None => "is a reference that was not resolved".to_owned(),
            Some(secret) if secret.len() < SECRET_BYTES_MIN => format!(
                "has {} bytes; at least {SECRET_BYTES_MIN} are needed, and \
                 {SECRET_BYTES_ADVISED} are advised",
                secret.len()
            ),
            Some(_) => return Ok(()),
        };
        Err(SettingsError::new(format!("keys[{index}].secret"), problem))
    }
}
