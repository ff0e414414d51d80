//! From the claims of a checked token to what the session works with.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use protocol::claims::{
    ConnectionClaims, Overrides, ServerSubscription, SubscriptionClaims, TokenError,
};
use protocol::subjects::Subjects;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What is expected of every token of one kind.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) audience: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) user_id_claim: Option<String>,
    /// In seconds.
    pub(crate) leeway: u64,
}

impl Expected {
    /// Reads the claims of a connection token.
    pub(crate) fn connection(
        &self,
        payload: &[u8],
        now_unix: u64,
    ) -> Result<ConnectionClaims, TokenError> {
        let claims = self.read(payload, now_unix)?;
        if claims.channel.is_some() {
            return Err(invalid(
                "a token with a `channel` is not a connection token",
            ));
        }
        let user = self.user(&claims, payload)?;
        let subs = match claims.subs {
            Some(Subs(subs)) if !subs.is_empty() => server_subscriptions(subs)?,
            _ => unique(claims.channels.unwrap_or_default())
                .map(|channel| ServerSubscription {
                    channel,
                    ..ServerSubscription::default()
                })
                .collect(),
        };
        let subjects = claims
            .subjects
            .map(|patterns| Subjects::new(&patterns))
            .transpose()
            .map_err(|error| TokenError::Invalid(format!("claim \"subjects\": {error}")))?;
        Ok(ConnectionClaims {
            user,
            expires_at: self.expires_at(claims.exp, claims.expire_at),
            issued_at: claims.iat.map(|NumericDate(seconds)| seconds),
            token_id: claims.jti,
            info: content(claims.info, claims.b64info.as_deref(), "b64info")?,
            subs,
            subjects,
        })
    }

    /// Reads the claims of a subscription token. A missing channel stays empty; the
    /// session answers that with its own code.
    pub(crate) fn subscription(
        &self,
        payload: &[u8],
        now_unix: u64,
    ) -> Result<SubscriptionClaims, TokenError> {
        let claims = self.read(payload, now_unix)?;
        let user = self.user(&claims, payload)?;
        Ok(SubscriptionClaims {
            user,
            channel: claims.channel.unwrap_or_default(),
            client: claims.client.filter(|client| !client.is_empty()),
            expires_at: self.expires_at(claims.exp, claims.expire_at),
            issued_at: claims.iat.map(|NumericDate(seconds)| seconds),
            token_id: claims.jti,
            info: content(claims.info, claims.b64info.as_deref(), "b64info")?,
            data: content(claims.data, claims.b64data.as_deref(), "b64data")?,
            overrides: claims.r#override.map(Overrides::from).unwrap_or_default(),
        })
    }

    fn read<'a>(&self, payload: &'a [u8], now_unix: u64) -> Result<Claims<'a>, TokenError> {
        let claims: Claims<'a> = serde_json::from_slice(payload)
            .map_err(|error| TokenError::Invalid(format!("claims are not readable: {error}")))?;
        if let Some(NumericDate(exp)) = claims.exp
            && now_unix >= exp.saturating_add(self.leeway)
        {
            return Err(TokenError::Expired);
        }
        if let Some(NumericDate(nbf)) = claims.nbf
            && now_unix.saturating_add(self.leeway) < nbf
        {
            return Err(TokenError::Expired);
        }
        if let Some(audience) = &self.audience
            && !claims
                .aud
                .as_ref()
                .is_some_and(|Audience(named)| named.contains(audience))
        {
            return Err(invalid("it is for another audience"));
        }
        if let Some(issuer) = &self.issuer
            && claims.iss.as_ref() != Some(issuer)
        {
            return Err(invalid("it is from another issuer"));
        }
        Ok(claims)
    }

    /// `expire_at`, where 0 means never, wins over `exp`. The leeway is part of `exp`: a
    /// token that is accepted must not make a connection that has expired already.
    fn expires_at(&self, exp: Option<NumericDate>, expire_at: Option<i64>) -> Option<u64> {
        match expire_at {
            Some(at) => u64::try_from(at).ok().filter(|at| *at > 0),
            None => exp.map(|NumericDate(seconds)| seconds.saturating_add(self.leeway)),
        }
    }

    fn user(&self, claims: &Claims<'_>, payload: &[u8]) -> Result<String, TokenError> {
        let Some(name) = &self.user_id_claim else {
            return Ok(claims.sub.clone().unwrap_or_default());
        };
        let all: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(payload)
            .map_err(|error| TokenError::Invalid(format!("claims are not readable: {error}")))?;
        match all.get(name) {
            None | Some(serde_json::Value::Null) => Ok(String::new()),
            Some(serde_json::Value::String(user)) => Ok(user.clone()),
            Some(_) => Err(TokenError::Invalid(format!(
                "claim {name:?} is not a string"
            ))),
        }
    }
}

/// Every claim that has a meaning; others are ignored.
#[derive(Deserialize)]
struct Claims<'a> {
    sub: Option<String>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    jti: Option<String>,
    aud: Option<Audience>,
    iss: Option<String>,
    expire_at: Option<i64>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    channels: Option<Vec<String>>,
    #[serde(borrow)]
    subs: Option<Subs<'a>>,
    #[serde(default, deserialize_with = "listed")]
    subjects: Option<Vec<String>>,
    channel: Option<String>,
    client: Option<String>,
    r#override: Option<RawOverrides>,
}

/// A list that limits somebody; `null` is no list and must not be read as no limit.
fn listed<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(input).map(Some)
}

/// `subs`, in the token's order.
struct Subs<'a>(Vec<(String, Subscription<'a>)>);

#[derive(Deserialize)]
struct Subscription<'a> {
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    r#override: Option<RawOverrides>,
}

#[derive(Deserialize)]
struct RawOverrides {
    presence: Option<BoolValue>,
    join_leave: Option<BoolValue>,
    force_push_join_leave: Option<BoolValue>,
    force_positioning: Option<BoolValue>,
    force_recovery: Option<BoolValue>,
}

#[derive(Deserialize)]
struct BoolValue {
    value: bool,
}

/// Seconds since 1970, whole or with a fraction, which is cut off (RFC 7519, 2).
struct NumericDate(u64);

/// One audience or several.
struct Audience(Vec<String>);

impl From<RawOverrides> for Overrides {
    fn from(raw: RawOverrides) -> Self {
        let value = |option: Option<BoolValue>| option.map(|BoolValue { value }| value);
        Self {
            presence: value(raw.presence),
            join_leave: value(raw.join_leave),
            force_push_join_leave: value(raw.force_push_join_leave),
            force_positioning: value(raw.force_positioning),
            force_recovery: value(raw.force_recovery),
        }
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct DateVisitor;
        impl Visitor<'_> for DateVisitor {
            type Value = NumericDate;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("seconds since 1970")
            }

            fn visit_u64<E>(self, seconds: u64) -> Result<NumericDate, E> {
                Ok(NumericDate(seconds))
            }

            // A time before 1970 is as long past as 1970 is.
            fn visit_i64<E>(self, seconds: i64) -> Result<NumericDate, E> {
                Ok(NumericDate(u64::try_from(seconds).unwrap_or(0)))
            }

            fn visit_f64<E>(self, seconds: f64) -> Result<NumericDate, E> {
                // The cast saturates at both ends.
                Ok(NumericDate(seconds as u64))
            }
        }
        input.deserialize_any(DateVisitor)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct AudienceVisitor;
        impl<'de> Visitor<'de> for AudienceVisitor {
            type Value = Audience;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, one: &str) -> Result<Audience, E> {
                Ok(Audience(vec![one.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Audience, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(Audience(all))
            }
        }
        input.deserialize_any(AudienceVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Subs<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct SubsVisitor;
        impl<'de> Visitor<'de> for SubsVisitor {
            type Value = Subs<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of channels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Subs<'de>, A::Error> {
                let mut subs = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    subs.push(entry);
                }
                Ok(Subs(subs))
            }
        }
        input.deserialize_map(SubsVisitor)
    }
}

fn server_subscriptions(
    subs: Vec<(String, Subscription<'_>)>,
) -> Result<Vec<ServerSubscription>, TokenError> {
    let mut seen = HashSet::new();
    let mut granted = Vec::with_capacity(subs.len());
    for (channel, sub) in subs {
        if !seen.insert(channel.clone()) {
            return Err(invalid("a channel stands twice in `subs`"));
        }
        granted.push(ServerSubscription {
            channel,
            info: content(sub.info, sub.b64info.as_deref(), "b64info")?,
            data: content(sub.data, sub.b64data.as_deref(), "b64data")?,
            overrides: sub.r#override.map(Overrides::from).unwrap_or_default(),
        });
    }
    Ok(granted)
}

fn unique(channels: Vec<String>) -> impl Iterator<Item = String> {
    let mut seen = HashSet::new();
    channels
        .into_iter()
        .filter(move |channel| seen.insert(channel.clone()))
}

/// JSON as it stands, or the bytes of the Base64 variant, which wins.
fn content(json: Option<&RawValue>, base64: Option<&str>, name: &str) -> Result<Bytes, TokenError> {
    if let Some(text) = base64.filter(|text| !text.is_empty()) {
        return STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(|_| TokenError::Invalid(format!("claim {name:?} is not Base64")));
    }
    // Replies are separated by line feeds, so none may stand between JSON tokens here;
    // inside of strings JSON has none.
    let bytes = json.map_or("", RawValue::get).bytes();
    Ok(bytes
        .filter(|byte| !matches!(byte, b'\n' | b'\r'))
        .collect())
}

fn invalid(problem: &str) -> TokenError {
    TokenError::Invalid(problem.to_owned())
}
