//! The routes, read one by one: there may be a million.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use auth::settings::Secret;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value as Json};

use super::{RouteJsonError, kind};
use crate::config::{AgentAuth, AgentProtocol, AuthMode, DataEncoding, Route};

/// Unknown keys that are told.
const UNKNOWN_MAX: usize = 20;

/// A route, or the key that is wrong (as in our own file) and why.
type Written = Result<Route, (String, String)>;

/// Reads the routes and hands each one with its index to `sink`, which says whether it
/// wants more. Returns warnings of keys nobody knows.
pub fn routes(
    content: &[u8],
    mut sink: impl FnMut(usize, Written) -> bool,
) -> Result<Vec<String>, RouteJsonError> {
    let mut unknown = BTreeSet::new();
    let mut input = serde_json::Deserializer::from_slice(content);
    File {
        sink: &mut sink,
        unknown: &mut unknown,
    }
    .deserialize(&mut input)?;
    input.end()?;
    let warnings = unknown
        .into_iter()
        .map(|key| format!("{key} is not known and changes nothing"));
    Ok(warnings.collect())
}

/// The name in the file of a key of ours: `agents[0]` is `openclawGateways[0]`.
pub fn key_in_file(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    let (first, rest) = match key.find(['[', '.']) {
        Some(end) => key.split_at(end),
        None => (key, ""),
    };
    match first {
        "agent" => name.push_str("openclawGateway"),
        "agents" => name.push_str("openclawGateways"),
        first => {
            let mut is_start = false;
            for letter in first.chars() {
                match letter {
                    '_' => is_start = true,
                    letter if is_start => {
                        name.extend(letter.to_uppercase());
                        is_start = false;
                    }
                    letter => name.push(letter),
                }
            }
        }
    }
    name + rest
}

struct File<'a, S> {
    sink: &'a mut S,
    unknown: &'a mut BTreeSet<String>,
}

impl<'de, S: FnMut(usize, Written) -> bool> DeserializeSeed<'de> for File<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de, S: FnMut(usize, Written) -> bool> Visitor<'de> for File<'_, S> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with gateway, routes, buffer, metrics, memory")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        let mut seen = false;
        while let Some(part) = input.next_key::<String>()? {
            match part.as_str() {
                // Which list is meant nobody can tell, and their routes would share numbers.
                "routes" if std::mem::replace(&mut seen, true) => {
                    return Err(A::Error::custom("the key \"routes\" stands twice"));
                }
                "routes" => input.next_value_seed(List {
                    sink: self.sink,
                    unknown: self.unknown,
                })?,
                "gateway" | "buffer" | "metrics" | "memory" => {
                    note_unknown(&part, &input.next_value()?, self.unknown);
                }
                _ => {
                    input.next_value::<IgnoredAny>()?;
                    note(part, self.unknown);
                }
            }
        }
        Ok(())
    }
}

struct List<'a, S> {
    sink: &'a mut S,
    unknown: &'a mut BTreeSet<String>,
}

impl<'de, S: FnMut(usize, Written) -> bool> DeserializeSeed<'de> for List<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        // `null` is an empty list where the file comes from.
        input.deserialize_any(self)
    }
}

impl<'de, S: FnMut(usize, Written) -> bool> Visitor<'de> for List<'_, S> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("routes as a list of objects")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        let mut wants_more = true;
        let mut index = 0;
        while let Some(item) = input.next_element::<Json>()? {
            if wants_more {
                wants_more = (self.sink)(index, route(&item, self.unknown));
            }
            index += 1;
        }
        Ok(())
    }
}

fn route(item: &Json, unknown: &mut BTreeSet<String>) -> Written {
    let Json::Object(keys) = item else {
        let problem = format!("expected an object, found {}", kind(item));
        return Err(("client_id_prefix".to_owned(), problem));
    };
    let mut route = Route::default();
    for (name, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
        let text = || text(name, value);
        match name.as_str() {
            "clientId" => route.client_id = Some(text()?),
            "clientIdPrefix" => route.client_id_prefix = Some(text()?),
            "openclawGateway" => route.agent = Some(text()?),
            "openclawGateways" => route.agents = texts(name, value)?,
            "protocol" => {
                route.protocol = choice(name, value, "openclaw or stratix", |word| match word {
                    "openclaw" => Some(AgentProtocol::OpenClaw),
                    "stratix" => Some(AgentProtocol::Stratix),
                    _ => None,
                })?;
            }
            "agentId" => route.agent_id = text()?,
            "auth" => route.auth = agent_auth(value, unknown)?,
            "tlsFingerprint" => route.tls_fingerprint = text()?,
            "deltas" => route.deltas = boolean(name, value)?,
            "acks" => route.acks = boolean(name, value)?,
            "dataEncoding" => {
                route.data_encoding =
                    choice(name, value, "auto, base64 or plain", |word| match word {
                        "auto" => Some(DataEncoding::Auto),
                        "base64" => Some(DataEncoding::Base64),
                        "plain" => Some(DataEncoding::Plain),
                        _ => None,
                    })?;
            }
            "dialTimeout" => route.dial_timeout = duration(name, value)?,
            "tryTimeout" => route.try_timeout = duration(name, value)?,
            "idleTimeout" => route.idle_timeout = duration(name, value)?,
            "inFlight" => {
                let number = value.as_u64().and_then(|it| usize::try_from(it).ok());
                route.in_flight = number.ok_or_else(|| wrong(name, "a whole number", value))?;
            }
            _ => note(format!("routes[].{name}"), unknown),
        }
    }
    Ok(route)
}

fn agent_auth(value: &Json, unknown: &mut BTreeSet<String>) -> Result<AgentAuth, (String, String)> {
    let Json::Object(keys) = value else {
        return Err(wrong("auth", "an object", value));
    };
    let mut auth = AgentAuth::default();
    for (name, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "mode" => {
                auth.mode = choice(
                    "auth.mode",
                    value,
                    "none, token or password",
                    |word| match word {
                        "none" => Some(AuthMode::None),
                        "token" => Some(AuthMode::Token),
                        "password" => Some(AuthMode::Password),
                        _ => None,
                    },
                )?;
            }
            "secret" => auth.secret = Secret::new(text("auth.secret", value)?),
            _ => note(format!("routes[].auth.{name}"), unknown),
        }
    }
    Ok(auth)
}

fn text(name: &str, value: &Json) -> Result<String, (String, String)> {
    match value {
        Json::String(text) => Ok(text.clone()),
        other => Err(wrong(name, "a text", other)),
    }
}

fn texts(name: &str, value: &Json) -> Result<Vec<String>, (String, String)> {
    match value {
        Json::Array(items) => items.iter().map(|item| text(name, item)).collect(),
        other => Err(wrong(name, "a list of texts", other)),
    }
}

fn boolean(name: &str, value: &Json) -> Result<bool, (String, String)> {
    value
        .as_bool()
        .ok_or_else(|| wrong(name, "true or false", value))
}

fn duration(name: &str, value: &Json) -> Result<Duration, (String, String)> {
    let read = match value {
        Json::Number(number) => number.as_u64().map(Duration::from_nanos),
        Json::String(text) => protocol::duration::parse(text),
        _ => None,
    };
    read.ok_or_else(|| wrong(name, "a duration such as \"90s\", or nanoseconds", value))
}

fn choice<T>(
    name: &str,
    value: &Json,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, (String, String)> {
    value
        .as_str()
        .and_then(read)
        .ok_or_else(|| wrong(name, expected, value))
}

/// The key is told as it stands in the file; what is found is not quoted, it may be a secret.
fn wrong(name: &str, expected: &str, value: &Json) -> (String, String) {
    let found = match value {
        Json::String(_) => "another text",
        other => kind(other),
    };
    let problem = format!("expected {expected}, found {found}");
    (name.to_owned(), problem)
}

/// Keys of the parts that are settings.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "gateway",
        &[
            "listen",
            "maxConnections",
            "connectionTimeout",
            "heartbeatInterval",
            "maxMessageSize",
            "readBufferSize",
            "writeBufferSize",
            "rateLimit",
            "security",
            "history",
        ],
    ),
    (
        "gateway.rateLimit",
        &["enabled", "requestsPerSecond", "burstSize"],
    ),
    (
        "gateway.security",
        &["allowedOrigins", "enableCompression", "maxControlFrameSize"],
    ),
    (
        "gateway.history",
        &["enabled", "maxPerClient", "maxMsgSizeKB", "cleanupHours"],
    ),
    ("buffer", &["size", "persistFile"]),
    ("metrics", &["enabled", "logInterval"]),
    ("memory", &["maxMemoryMB", "gcInterval", "highWatermark"]),
];

fn note_unknown(path: &str, value: &Json, unknown: &mut BTreeSet<String>) {
    let known = KNOWN.iter().find(|(part, _)| *part == path);
    let (Some((_, known)), Json::Object(keys)) = (known, value) else {
        return;
    };
    let keys: &Map<String, Json> = keys;
    for (name, value) in keys {
        let path = format!("{path}.{name}");
        match known.contains(&name.as_str()) {
            true => note_unknown(&path, value, unknown),
            false => note(path, unknown),
        }
    }
}

fn note(key: String, unknown: &mut BTreeSet<String>) {
    if unknown.len() < UNKNOWN_MAX {
        unknown.insert(key.chars().take(128).collect());
    }
}
