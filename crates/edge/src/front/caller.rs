//! Who asks the proxy.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http1::{Fields, Known};
use protocol::claims::TokenError;
use router::proxy::Caller;
use serde_json::{Map, Value};

use super::Front;

/// The callers of one connection. Most connections are one caller's, and checking a
/// signature costs more than the rest of a request.
#[derive(Debug, Default)]
pub(super) struct Callers {
    last: Option<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    token: Box<str>,
    caller: Caller,
    /// Unix seconds.
    expires_at: Option<u64>,
    /// It is looked at again after this moment of the clock, as it may have been revoked.
    until_ms: u64,
}

/// How long a token that was good is taken to be so.
const GOOD_FOR_MS: u64 = 2_000;

impl Callers {
    /// The caller of a request, and whether its token is ours. What is not a
    /// good token of ours is somebody else's business, and its bearer a guest.
    pub(super) async fn of(&mut self, front: &Front, fields: &Fields) -> (Caller, bool) {
        if fields.all(Known::Authorization).nth(1).is_some() {
            // One of them may be ours, and which one counts is anybody's guess.
            return (Caller::Guest, true);
        }
        let Some(token) = bearer(fields) else {
            return (Caller::Guest, false);
        };
        let (now_ms, unix) = (front.clock.mono_ms(), front.clock.unix_ms() / 1_000);
        if let Some(last) = &self.last
            && *last.token == *token
            && now_ms < last.until_ms
            && last.expires_at.is_none_or(|expires_at| unix < expires_at)
        {
            return (last.caller.clone(), true);
        }
        self.last = None;
        let (caller, expires_at) = if let Some(name) = (front.superuser)(token) {
            (Caller::Superuser(name.into()), None)
        } else {
            match front.fleet.gate().connection(token).await {
                Ok(claims) if claims.user.is_empty() => return (Caller::Guest, true),
                Ok(claims) => (
                    Caller::User {
                        id: claims.user.as_str().into(),
                        claims: Arc::new(payload(token, &claims.user)),
                    },
                    claims.expires_at,
                ),
                // Ours, but of no use any more: not to be shown to others.
                Err(TokenError::Expired | TokenError::Revoked) => return (Caller::Guest, true),
                Err(TokenError::Invalid(_) | TokenError::Unavailable(_)) => {
                    return (Caller::Guest, false);
                }
            }
        };
        self.last = Some(Remembered {
            token: token.into(),
            caller: caller.clone(),
            expires_at,
            until_ms: now_ms + GOOD_FOR_MS,
        });
        (caller, true)
    }
}

/// The token of `Authorization: Bearer`, or of `X-Api-Key`, where SDKs of models put it.
fn bearer(fields: &Fields) -> Option<&str> {
    let Some(value) = fields.text(Known::Authorization) else {
        return str::from_utf8(fields.get_named("x-api-key")?).ok();
    };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The claims of a token whose signature has been checked, with `id` for its user.
fn payload(token: &str, user: &str) -> Map<String, Value> {
    let mut claims = token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok())
        .unwrap_or_default();
    claims.insert("id".to_owned(), user.into());
    claims
}
