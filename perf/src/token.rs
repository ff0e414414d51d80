//! The tokens that clients show: HS256, one user each, valid for a day.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{EncodingKey, Header};
use serde::{Deserialize, Serialize};

/// Secret of the servers started here. It guards nothing but a benchmark.
pub(crate) const SECRET: &str = "perf-signs-only-tokens-of-benchmarks";

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The user.
    pub(crate) sub: String,
    /// Unix seconds at which the token expires.
    pub(crate) exp: u64,
}

/// Signs tokens with one secret.
pub(crate) struct Mint {
    key: EncodingKey,
    /// Expiry of all tokens: connections of expiring tokens cost the server
    /// a timer, as real ones do.
    exp: u64,
}

impl Mint {
    pub(crate) fn new(secret: &str) -> anyhow::Result<Self> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("clock is before 1970")?;
        Ok(Self {
            key: EncodingKey::from_secret(secret.as_bytes()),
            exp: now.as_secs() + 86_400,
        })
    }

    /// A token of user `u<number>`.
    pub(crate) fn token(&self, number: usize) -> anyhow::Result<String> {
        let claims = Claims {
            sub: format!("u{number}"),
            exp: self.exp,
        };
        jsonwebtoken::encode(&Header::default(), &claims, &self.key).context("token was not signed")
    }
}
