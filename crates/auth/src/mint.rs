//! Makes tokens, for development and demonstrations: HS256 only.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;

/// What a made token says. Absent claims are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Mint {
    /// The user; empty means anonymous.
    pub sub: String,
    /// When it expires, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// When it was issued, in Unix seconds; needed for revocation by subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Its id, for revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// What others may see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<Value>,
    /// Server-side channels of a connection token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Makes it a subscription token for that channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Claims that stand for themselves, as `subs` or `expire_at`.
    #[serde(flatten)]
    pub others: serde_json::Map<String, Value>,
}

/// Signs a token with HS256.
pub fn hs256(secret: &[u8], claims: &Mint) -> String {
    hs256_text(secret, serde_json::json!(claims).to_string().as_bytes())
}

/// Signs a token with HS256 whose claims are already text.
pub fn hs256_text(secret: &[u8], claims: &[u8]) -> String {
    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    let mut token = URL_SAFE_NO_PAD.encode(HEADER);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}
