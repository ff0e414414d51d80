//! Signatures of messages: HMAC-SHA256 with a time window and nonces that are used once.
//!
//! A client or a service that shares a secret with the gateway signs this text, its lines
//! joined by a line feed and none after the last:
//!
//! ```text
//! v1
//! <timestamp in milliseconds since the Unix epoch, decimal>
//! <nonce>
//! <client id>
//! <message id>
//! <SHA-256 of the payload, 64 lower-case hexadecimal digits>
//! ```
//!
//! and sends the MAC in hexadecimal digits. The payload of a text frame is what its `data`
//! says, as UTF-8 with JSON's escapes undone; that of a request is its body.
//!
//! What must hold:
//! - nothing in the text but its line feeds ends a line: ids and nonces with control
//!   characters are refused, so that no two messages have the same text;
//! - the MAC is checked first, in constant time. Whoever has no key learns nothing of the
//!   clock and the nonces, and uses up no nonce;
//! - looking for a nonce and keeping it is one step. A nonce is kept, per key, for as long as
//!   the window would let its message pass again; when there is no room for one more, messages
//!   are refused rather than nonces forgotten;
//! - a clock that steps back brings no nonce back that was forgotten: nothing signed at or
//!   before the latest forgotten one passes any more. With a steady clock, the window has
//!   refused all of that already.
//!
//! The nonces are in memory. After a restart the window of a message's time is all that is
//! checked, and whoever deduplicates by message id has the last word.

mod nonces;
mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};

use nonces::Nonces;

use crate::settings::SettingsError;

pub use settings::{
    NONCES_MAX, SignatureKey, SignatureMode, SignatureSettings, WINDOW_MAX, WINDOW_MIN,
};

/// Most bytes of a nonce, and of a key's id.
pub const NONCE_BYTES_MAX: usize = 128;

/// What a signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// When it was signed, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Chosen anew for every message; 1 to [`NONCE_BYTES_MAX`] bytes without control characters.
    pub nonce: &'a str,
    /// The client it is from; without control characters.
    pub client_id: &'a str,
    /// The message's id; without control characters, may be empty.
    pub message_id: &'a str,
    /// The payload.
    pub payload: &'a [u8],
}

/// A message with its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// Which key.
    pub key_id: &'a str,
    /// The signature: 64 hexadecimal digits.
    pub signature: &'a str,
    /// What it covers.
    pub content: Content<'a>,
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A part is missing or can't be what it should.
    #[error("{0} of the signature is missing, too long or malformed")]
    Malformed(&'static str),
    /// No key has that id.
    #[error("signature names a key that is not known")]
    UnknownKey,
    /// It is not the signature of this message by this key.
    #[error("signature does not match the message")]
    Mismatch,
    /// It was made too long ago, or will be made too far in the future.
    #[error("signature is {}s outside its time window", outside.as_secs())]
    Outside {
        /// How far.
        outside: Duration,
    },
    /// It was made before something that was already forgotten, for the clock has stepped
    /// back; signing again helps.
    #[error("signature is older than what is remembered")]
    Forgotten,
    /// The nonce was used before.
    #[error("nonce of the signature was used before")]
    Replayed,
    /// There is no room for another nonce; a later try may succeed.
    #[error("too many signed messages within the time window")]
    Busy,
}

/// Checks signatures. May be shared by threads.
#[derive(Debug)]
pub struct Signatures {
    mode: SignatureMode,
    window_ms: u64,
    nonces_max: usize,
    keys: Vec<Key>,
    nonces: Arc<Mutex<Nonces>>,
}

#[derive(Debug)]
struct Key {
    id: String,
    key: hmac::Key,
}

impl Signatures {
    /// Checks by these settings, whose secrets are resolved. The error names the key, as a
    /// path below the settings.
    pub fn new(settings: &SignatureSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let keys = settings.keys.iter().map(|key| Key {
            id: key.id.clone(),
            key: hmac::Key::new(
                hmac::HMAC_SHA256,
                key.secret.reveal().unwrap_or_default().as_bytes(),
            ),
        });
        Ok(Self {
            mode: settings.mode,
            window_ms: settings.window.as_millis() as u64,
            nonces_max: settings.nonces_max,
            keys: keys.collect(),
            nonces: Arc::default(),
        })
    }

    /// Checks by other settings from now on, with the nonces that were used so far. The former
    /// may go on for a while.
    pub fn renewed(&self, settings: &SignatureSettings) -> Result<Self, SettingsError> {
        Ok(Self {
            nonces: Arc::clone(&self.nonces),
            ..Self::new(settings)?
        })
    }

    /// Whether messages must or may be signed.
    pub fn mode(&self) -> SignatureMode {
        self.mode
    }

    /// Accepts a message once. `now_unix_ms` is in milliseconds since the Unix epoch.
    pub fn verify(&self, now_unix_ms: u64, signed: &Signed<'_>) -> Result<(), SignatureError> {
        let content = &signed.content;
        content.check()?;
        let mac = mac(signed.signature).ok_or(SignatureError::Malformed("digits"))?;
        let (index, key) = self
            .keys
            .iter()
            .enumerate()
            .find(|(_, key)| key.id == signed.key_id)
            .ok_or(SignatureError::UnknownKey)?;
        hmac::verify(&key.key, content.text().as_bytes(), &mac)
            .map_err(|_| SignatureError::Mismatch)?;

        let outside = now_unix_ms
            .abs_diff(content.timestamp_ms)
            .saturating_sub(self.window_ms);
        if outside > 0 {
            let outside = Duration::from_millis(outside);
            return Err(SignatureError::Outside { outside });
        }
        let nonce = fingerprint(&self.keys[index].id, content.nonce);
        self.nonces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .use_up(
                now_unix_ms,
                nonce,
                content.timestamp_ms,
                self.window_ms,
                self.nonces_max,
            )
    }

    /// How many nonces are kept.
    pub fn nonces(&self) -> usize {
        self.nonces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

/// Signs a message: what [`Signatures::verify`] expects in [`Signed::signature`].
pub fn sign(secret: &[u8], content: &Content<'_>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hex(hmac::sign(&key, content.text().as_bytes()).as_ref())
}

impl Content<'_> {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let payload = hex(digest::digest(&digest::SHA256, self.payload).as_ref());
        format!(
            "v1\n{}\n{}\n{}\n{}\n{payload}",
            self.timestamp_ms, self.nonce, self.client_id, self.message_id
        )
    }

    fn check(&self) -> Result<(), SignatureError> {
        let has_control = |text: &str| text.contains(char::is_control);
        if self.nonce.is_empty() || self.nonce.len() > NONCE_BYTES_MAX || has_control(self.nonce) {
            return Err(SignatureError::Malformed("nonce"));
        }
        if has_control(self.client_id) {
            return Err(SignatureError::Malformed("client id"));
        }
        if has_control(self.message_id) {
            return Err(SignatureError::Malformed("message id"));
        }
        Ok(())
    }
}

/// What is kept of a nonce: 128 bits, whatever its length, and different for every key, so
/// that nobody can use up the nonces of others. A key's id has no control characters.
fn fingerprint(key_id: &str, nonce: &str) -> u128 {
    let digest = digest::digest(&digest::SHA256, format!("{key_id}\n{nonce}").as_bytes());
    digest
        .as_ref()
        .iter()
        .take(16)
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

fn mac(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.as_bytes();
    let mut mac = [0; 32];
    if digits.len() != 2 * mac.len() {
        return None;
    }
    for (byte, pair) in mac.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(mac)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests;
