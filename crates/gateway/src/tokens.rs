//! Tokens made here: for development and the demo, and for administrators.

use std::time::Duration;

use auth::admin_token::same_secret;
use auth::mint::{Mint, hs256, hs256_text};
use auth::settings::Algorithm;
use auth::{AdminTokens, TokenSettings};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::Config;

pub use auth::admin_token::{AdminToken, AdminTokenError};

/// What a development token shall say.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The user; empty means anonymous.
    pub user: String,
    /// How long it is good for.
    pub ttl: Duration,
    /// Channels the connection is subscribed to by the server; connection tokens only.
    pub channels: Vec<String>,
    /// Patterns of all the channels that the connection may have; empty leaves that to the
    /// namespaces.
    pub subjects: Vec<String>,
    /// Makes it a subscription token for this channel.
    pub subscribe: Option<String>,
}

/// There is no key to sign with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no secret to sign with: set {0}.hmac_secret_key, or turn the demo on, which makes its own"
)]
pub struct NoKey(&'static str);

/// Makes a token that a gateway with this configuration accepts: signed by HS256, with its
/// audience, issuer and user claim. The demo must have been prepared.
pub fn development(config: &Config, request: Request, now_unix: u64) -> Result<String, NoKey> {
    let own = &config.client.subscription_token;
    let (settings, path) = match request.subscribe.is_some() && own.enabled {
        true => (&own.token, "client.subscription_token"),
        false => (&config.client.token, "client.token"),
    };
    let secret = secret(settings).ok_or(NoKey(path))?;
    let named = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut claims = Mint {
        sub: request.user,
        exp: Some(now_unix.saturating_add(request.ttl.as_secs())),
        iat: Some(now_unix),
        aud: named(&settings.audience),
        iss: named(&settings.issuer),
        channels: request.channels,
        channel: request.subscribe,
        ..Mint::default()
    };
    if !request.subjects.is_empty() {
        let subjects = request.subjects.into();
        claims.others.insert("subjects".to_owned(), subjects);
    }
    if !settings.user_id_claim.is_empty() {
        let user = claims.sub.clone().into();
        claims.others.insert(settings.user_id_claim.clone(), user);
    }
    Ok(hs256(secret.as_bytes(), &claims))
}

/// The user of a token that [`development`] has made under the same configuration and that
/// is not gone for longer than [`RENEWABLE`]; `None` for any other text. It is no check for
/// letting somebody in.
pub fn own_user(config: &Config, token: &str, now_unix: u64) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
        exp: u64,
    }
    let secret = secret(&config.client.token)?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    // Made here, it can be made again, byte by byte.
    let again = hs256_text(secret.as_bytes(), &claims);
    if !same_secret(token, &again) {
        return None;
    }
    let Claims { sub, exp } = serde_json::from_slice(&claims).ok()?;
    let is_recent = exp.saturating_add(RENEWABLE.as_secs()) >= now_unix;
    (is_recent && !sub.is_empty()).then_some(sub)
}

/// So long after its end a token still says who had it.
pub const RENEWABLE: Duration = Duration::from_secs(3_600);

fn secret(settings: &TokenSettings) -> Option<&str> {
    let pinned = || {
        let is_ours = |algorithm: Algorithm| algorithm == Algorithm::Hs256;
        let mut keys = settings.keys.iter();
        // A key with an id is found by tokens that name it; ours do not.
        keys.find(|key| is_ours(key.algorithm) && key.id.is_none())?
            .secret
            .reveal()
    };
    let plain = settings.hmac_secret_key.reveal();
    plain.filter(|secret| !secret.is_empty()).or_else(pinned)
}

/// Makes an administrator token of that name and keeps its hash in the data folder. The
/// token is returned this once and can't be shown again.
pub fn administrator(
    config: &Config,
    name: &str,
    now_unix: u64,
) -> Result<String, AdminTokenError> {
    AdminTokens::open(&config.data_dir)?.create(name, now_unix)
}

/// The administrator tokens there are, without the tokens themselves.
pub fn administrators(config: &Config) -> Result<Vec<AdminToken>, AdminTokenError> {
    Ok(AdminTokens::open(&config.data_dir)?.list())
}

/// Takes the administrator token of that name back; `false` if there is none.
pub fn remove_administrator(config: &Config, name: &str) -> Result<bool, AdminTokenError> {
    AdminTokens::open(&config.data_dir)?.remove(name)
}

/// Reads a duration such as `1h30m`, as the configuration has them; the error says what is
/// accepted.
pub fn duration(text: &str) -> Result<Duration, String> {
    protocol::duration::parse(text)
        .filter(|duration| *duration >= Duration::from_secs(1))
        .ok_or_else(|| "expected a duration of a second or more, such as 90s or 1h30m".to_owned())
}

/// Reads a duration of a millisecond or more, likewise.
pub fn span(text: &str) -> Result<Duration, String> {
    protocol::duration::parse(text)
        .filter(|duration| *duration >= Duration::from_millis(1))
        .ok_or_else(|| "expected a duration such as 100ms, 5s or 1m".to_owned())
}

/// Reads a pattern for [`Request::subjects`]; the error says what is wrong with it.
pub fn subject(text: &str) -> Result<String, String> {
    protocol::subject::Pattern::new(text)
        .map(|_pattern| text.to_owned())
        .map_err(|error| format!("{error}; expected a pattern such as xy.md.> or xy.md.tick.*"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use auth::{KeySets, Verifier};

    use super::{RENEWABLE, Request, development, own_user};
    use crate::config::Config;

    const NOW: u64 = 1_800_000_000;

    fn verifier(config: &Config) -> Verifier {
        let client = &config.client;
        let own = client
            .subscription_token
            .enabled
            .then_some(&client.subscription_token.token);
        Verifier::new(&client.token, own, &KeySets::new()).unwrap()
    }

    fn request() -> Request {
        Request {
            user: "alice".into(),
            ttl: Duration::from_secs(60),
            ..Request::default()
        }
    }

    #[tokio::test]
    async fn what_is_made_is_accepted_under_the_same_configuration() {
        let config = Config::parse(
            "client:\n  token: { hmac_secret_key: 0123456789abcdef-1, audience: app, issuer: me, user_id_claim: uid }\n  \
             subscription_token: { enabled: true, keys: [ { algorithm: HS256, secret: 0123456789abcdef-2 } ] }\n",
        )
        .unwrap();
        let verifier = verifier(&config);
        let token = development(&config, request(), NOW).unwrap();
        let claims = verifier.connection(&token, NOW).await.unwrap();
        assert_eq!(
            (claims.user.as_str(), claims.expires_at),
            ("alice", Some(NOW + 60))
        );
        let subscribe = Request {
            subscribe: Some("chat:1".into()),
            ..request()
        };
        let token = development(&config, subscribe, NOW).unwrap();
        let claims = verifier.subscription(&token, NOW).await.unwrap();
        assert_eq!(claims.channel, "chat:1");
    }

    #[test]
    fn only_own_tokens_tell_their_user_and_not_for_ever() {
        let parsed = |secret: &str| {
            Config::parse(&format!(
                "client:\n  token: {{ hmac_secret_key: {secret} }}\n"
            ))
        };
        let config = parsed("0123456789abcdef-1").unwrap();
        let token = development(&config, request(), NOW).unwrap();
        let last = NOW + 60 + RENEWABLE.as_secs();
        assert_eq!(own_user(&config, &token, last).as_deref(), Some("alice"));
        assert_eq!(own_user(&config, &token, last + 1), None);
        let other = parsed("0123456789abcdef-2").unwrap();
        assert_eq!(own_user(&other, &token, NOW), None);
        let unsigned = token.rsplit_once('.').unwrap().0;
        for text in ["", ".", "a.b.c", unsigned, &format!("{token}x")] {
            assert_eq!(own_user(&config, text, NOW), None, "{text}");
        }
    }

    #[test]
    fn without_a_secret_nothing_is_made() {
        let error = development(&Config::default(), request(), NOW).unwrap_err();
        assert!(error.to_string().contains("client.token.hmac_secret_key"));
    }
}
