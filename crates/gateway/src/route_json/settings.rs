//! Everything but the routes: defaults for our own keys.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};

use super::{RouteJsonError, kind};

/// A default for one of our keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Our key, step by step.
    pub path: &'static [&'static str],
    /// Their key.
    pub from: &'static str,
    /// The value, of the type that our key takes.
    pub value: Value,
}

/// A value of a setting.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A truth.
    Bool(bool),
    /// A whole number.
    Integer(u64),
    /// A text, an address, a duration.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
}

/// The parts of the file that are objects of keys.
#[derive(Deserialize)]
#[serde(expecting = "an object with gateway, routes, buffer, metrics, memory")]
struct Parts {
    #[serde(default)]
    gateway: Json,
    #[serde(default)]
    buffer: Json,
    #[serde(default)]
    metrics: Json,
    #[serde(default)]
    memory: Json,
    #[serde(default, rename = "routes")]
    _routes: Option<IgnoredAny>,
}

/// Reads the settings of a file; its routes are passed over.
pub fn settings(content: &[u8]) -> Result<Vec<Setting>, RouteJsonError> {
    let parts: Parts = serde_json::from_slice(content)?;
    let mut found = Found::default();
    let gateway = object("gateway", &parts.gateway)?;
    found.listen(gateway)?;
    found.integer(
        gateway,
        "gateway.maxConnections",
        &["limits", "connections"],
    )?;
    found.duration(
        gateway,
        "gateway.connectionTimeout",
        &["relay", "pong_timeout"],
    )?;
    found.duration(
        gateway,
        "gateway.heartbeatInterval",
        &["relay", "ping_interval"],
    )?;
    found.integer(
        gateway,
        "gateway.maxMessageSize",
        &["relay", "message_size_max"],
    )?;
    found.rate_limit(part(gateway, "gateway.rateLimit")?)?;
    found.security(part(gateway, "gateway.security")?)?;
    found.history(part(gateway, "gateway.history")?)?;
    let buffer = object("buffer", &parts.buffer)?;
    found.integer(buffer, "buffer.size", &["relay", "buffer", "size"])?;
    found.folder(buffer)?;
    found.metrics(object("metrics", &parts.metrics)?)?;
    let memory = object("memory", &parts.memory)?;
    if let Some(megabytes) = integer(memory, "memory.maxMemoryMB")? {
        let bytes = megabytes.saturating_mul(1024 * 1024);
        found.add(
            "memory.maxMemoryMB",
            &["limits", "memory"],
            Value::Integer(bytes),
        );
    }
    Ok(found.settings)
}

#[derive(Default)]
struct Found {
    settings: Vec<Setting>,
}

type Keys<'a> = Option<&'a Map<String, Json>>;
type Path = &'static [&'static str];

impl Found {
    fn add(&mut self, from: &'static str, path: Path, value: Value) {
        self.settings.push(Setting { path, from, value });
    }

    fn integer(
        &mut self,
        keys: Keys<'_>,
        from: &'static str,
        path: Path,
    ) -> Result<(), RouteJsonError> {
        if let Some(number) = integer(keys, from)? {
            self.add(from, path, Value::Integer(number));
        }
        Ok(())
    }

    fn duration(
        &mut self,
        keys: Keys<'_>,
        from: &'static str,
        path: Path,
    ) -> Result<(), RouteJsonError> {
        let text = match value(keys, from) {
            None => return Ok(()),
            Some(Json::Number(number)) if number.as_u64() == Some(0) => return Ok(()),
            Some(Json::Number(number)) if number.is_u64() => format!("{number}ns"),
            Some(Json::String(text)) if text.is_empty() => return Ok(()),
            Some(Json::String(text)) => text.clone(),
            Some(other) => {
                let expected = "a duration such as \"90s\", or nanoseconds";
                return Err(wrong(from, expected, other));
            }
        };
        self.add(from, path, Value::Text(text));
        Ok(())
    }

    /// An address without a host is every address of the machine.
    fn listen(&mut self, gateway: Keys<'_>) -> Result<(), RouteJsonError> {
        let from = "gateway.listen";
        if let Some(address) = text(gateway, from)? {
            let address = match address.starts_with(':') {
                true => format!("0.0.0.0{address}"),
                false => address.to_owned(),
            };
            self.add(
                from,
                &["listeners", "relay", "address"],
                Value::Text(address),
            );
        }
        Ok(())
    }

    fn rate_limit(&mut self, keys: Keys<'_>) -> Result<(), RouteJsonError> {
        let path: Path = &["limits", "handshake_rate_per_address"];
        if boolean(keys, "gateway.rateLimit.enabled")? == Some(false) {
            self.add("gateway.rateLimit.enabled", path, Value::Integer(0));
            return Ok(());
        }
        self.integer(keys, "gateway.rateLimit.requestsPerSecond", path)?;
        let burst: Path = &["limits", "handshake_burst_per_address"];
        self.integer(keys, "gateway.rateLimit.burstSize", burst)
    }

    fn security(&mut self, keys: Keys<'_>) -> Result<(), RouteJsonError> {
        let from = "gateway.security.allowedOrigins";
        let expected = "a list of texts";
        match value(keys, from) {
            None => {}
            Some(Json::Array(items)) => {
                let texts = items.iter().map(|item| match item {
                    Json::String(text) => Ok(text.clone()),
                    other => Err(wrong(from, expected, other)),
                });
                let mut origins = texts.collect::<Result<Vec<_>, _>>()?;
                if origins.is_empty() {
                    origins.push("*".to_owned());
                }
                self.add(from, &["access", "allowed_origins"], Value::Texts(origins));
            }
            Some(other) => return Err(wrong(from, expected, other)),
        }
        let from = "gateway.security.enableCompression";
        if let Some(enabled) = boolean(keys, from)? {
            self.add(
                from,
                &["websocket", "compression", "enabled"],
                Value::Bool(enabled),
            );
        }
        Ok(())
    }

    fn history(&mut self, keys: Keys<'_>) -> Result<(), RouteJsonError> {
        let per_client: Path = &["relay", "history", "per_client"];
        if boolean(keys, "gateway.history.enabled")? == Some(false) {
            self.add("gateway.history.enabled", per_client, Value::Integer(0));
            return Ok(());
        }
        self.integer(keys, "gateway.history.maxPerClient", per_client)?;
        let from = "gateway.history.maxMsgSizeKB";
        if let Some(kilobytes) = integer(keys, from)? {
            let bytes = Value::Integer(kilobytes.saturating_mul(1024));
            self.add(from, &["relay", "history", "message_size_max"], bytes);
        }
        let from = "gateway.history.cleanupHours";
        if let Some(hours) = integer(keys, from)? {
            self.add(
                from,
                &["relay", "history", "ttl"],
                Value::Text(format!("{hours}h")),
            );
        }
        Ok(())
    }

    /// A folder takes the file's place: `data/buffer.log` becomes `data/buffer`.
    fn folder(&mut self, buffer: Keys<'_>) -> Result<(), RouteJsonError> {
        let from = "buffer.persistFile";
        if let Some(file) = text(buffer, from)? {
            let folder = std::path::Path::new(file).with_extension("");
            let folder = folder.to_str().unwrap_or(file).to_owned();
            self.add(from, &["relay", "buffer", "folder"], Value::Text(folder));
        }
        Ok(())
    }

    fn metrics(&mut self, keys: Keys<'_>) -> Result<(), RouteJsonError> {
        let path: Path = &["relay", "metrics_log_interval"];
        if boolean(keys, "metrics.enabled")? == Some(false) {
            self.add("metrics.enabled", path, Value::Text("0".to_owned()));
            return Ok(());
        }
        self.duration(keys, "metrics.logInterval", path)
    }
}

/// The value of a key; the key's last step counts. `null` is no value.
fn value<'a>(keys: Keys<'a>, path: &str) -> Option<&'a Json> {
    let (_, name) = path.rsplit_once('.')?;
    keys?.get(name).filter(|value| !value.is_null())
}

fn part<'a>(keys: Keys<'a>, path: &str) -> Result<Keys<'a>, RouteJsonError> {
    value(keys, path).map_or(Ok(None), |part| object(path, part))
}

fn object<'a>(path: &str, value: &'a Json) -> Result<Keys<'a>, RouteJsonError> {
    match value {
        Json::Null => Ok(None),
        Json::Object(keys) => Ok(Some(keys)),
        other => Err(wrong(path, "an object", other)),
    }
}

fn integer(keys: Keys<'_>, path: &str) -> Result<Option<u64>, RouteJsonError> {
    match value(keys, path) {
        None => Ok(None),
        Some(Json::Number(number)) if number.is_u64() => {
            Ok(number.as_u64().filter(|number| *number > 0))
        }
        Some(other) => Err(wrong(path, "a whole number of at least 0", other)),
    }
}

fn boolean(keys: Keys<'_>, path: &str) -> Result<Option<bool>, RouteJsonError> {
    match value(keys, path) {
        None => Ok(None),
        Some(Json::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(wrong(path, "true or false", other)),
    }
}

fn text<'a>(keys: Keys<'a>, path: &str) -> Result<Option<&'a str>, RouteJsonError> {
    match value(keys, path) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err(wrong(path, "a text", other)),
    }
}

fn wrong(key: &str, expected: &'static str, value: &Json) -> RouteJsonError {
    RouteJsonError::Type {
        key: key.to_owned(),
        expected,
        found: kind(value),
    }
}
