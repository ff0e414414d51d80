//! Settings of sockets: where they are bound, and who may come in through them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// The sockets that are bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listeners {
    /// For clients.
    pub main: MainListener,
    /// For operators and services: health, metrics, server API, administration.
    pub admin: AdminListener,
    /// For clients of the relay that know no path below `/relay`.
    pub relay: RelayListener,
    /// For clients of live data that know no path below `/live`.
    pub live: LiveListener,
}

/// The socket for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MainListener {
    /// Address and port, `127.0.0.1:8000` or `[::]:8000`; port 0 lets the system choose.
    #[serde(deserialize_with = "socket_address")]
    pub address: SocketAddr,
    /// Certificate and key; without them the socket speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// `on`: every connection begins with a PROXY protocol header (version 1 or 2) and
    /// comes from one of `access.trusted_networks`; others are closed.
    pub proxy_protocol: ProxyProtocol,
}

impl Default for MainListener {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
        }
    }
}

/// The socket for operators and services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminListener {
    /// Address and port, `127.0.0.1:8001`; port 0 lets the system choose.
    #[serde(deserialize_with = "socket_address")]
    pub address: SocketAddr,
    /// Certificate and key; without them the socket speaks plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Default for AdminListener {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8001)),
            tls: None,
        }
    }
}

/// The socket with the bare paths of the relay: `/ws`, `/health`, `/metrics` (JSON).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RelayListener {
    /// Address and port, `127.0.0.1:8080`; port 0 lets the system choose. Unset means that
    /// there is no such socket.
    #[serde(
        deserialize_with = "optional_socket_address",
        skip_serializing_if = "Option::is_none"
    )]
    pub address: Option<SocketAddr>,
}

/// The socket with the bare paths of live data: `/ws`, `/healthz`, `/metrics.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LiveListener {
    /// Address and port, `127.0.0.1:8080`; port 0 lets the system choose. Unset means that
    /// there is no such socket.
    #[serde(
        deserialize_with = "optional_socket_address",
        skip_serializing_if = "Option::is_none"
    )]
    pub address: Option<SocketAddr>,
}

/// Certificate and key of a listener, both PEM. The files are read again when they
/// change; other files, and TLS at all, take a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// File with the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// File with the private key.
    pub key: PathBuf,
}

/// Whether connections begin with a PROXY protocol header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// They begin with TLS or HTTP.
    #[default]
    Off,
    /// They begin with the header, and without it are closed.
    On,
}

/// Who may come in, by page and by address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Pages that may connect from a browser: `https://app.example.com` (scheme, host and
    /// port must be equal), `https://*.example.com` for every host below, or `*` for all.
    /// Requests without `Origin` do not come from pages and are not concerned.
    pub allowed_origins: Vec<OriginRule>,
    /// Networks of proxies whose PROXY header or `X-Forwarded-For` is believed.
    pub trusted_networks: Vec<Network>,
    /// If not empty, only clients from these networks may connect (403).
    pub allow: Vec<Network>,
    /// Clients from these networks may not connect (403); stronger than `allow`.
    pub deny: Vec<Network>,
}

/// An IP network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// The network itself, host bits cleared.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| NetworkError(text.to_owned()))?,
        };
        Ok(Self(net.trunc()))
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An IP network such as `10.0.0.0/8` or `2001:db8::/32`, or one address.",
            "type": "string",
            "format": "network",
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Text that is not an IP network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network; expected \"10.0.0.0/8\", \"2001:db8::/32\" or one address")]
pub struct NetworkError(String);

/// Which pages may connect: one origin, the hosts below a name, or all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OriginRule(String);

impl OriginRule {
    /// The rule as text: `*`, `scheme://host[:port]` or `scheme://*.host[:port]`, lower
    /// case and without a default port.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a page of this origin (the `Origin` header's value) may connect.
    pub fn admits(&self, origin: &str) -> bool {
        if self.0 == "*" {
            return true;
        }
        let Some(origin) = normal_origin(origin) else {
            return false;
        };
        match self.0.split_once("://*") {
            // The dot stays part of the suffix, so that `evilexample.com` is not below
            // `example.com`.
            Some((scheme, suffix)) => origin
                .strip_prefix(scheme)
                .and_then(|rest| rest.strip_prefix("://"))
                .is_some_and(|host| host.len() > suffix.len() && host.ends_with(suffix)),
            None => origin == self.0,
        }
    }
}

impl FromStr for OriginRule {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let refuse = || OriginError(text.to_owned());
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let rule = normal_origin(text).ok_or_else(refuse)?;
        let (_, host) = rule.split_once("://").ok_or_else(refuse)?;
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if plain.contains('*') || plain.starts_with('.') {
            return Err(refuse());
        }
        Ok(Self(rule))
    }
}

impl TryFrom<String> for OriginRule {
    type Error = OriginError;

    fn try_from(text: String) -> Result<Self, OriginError> {
        text.parse()
    }
}

impl From<OriginRule> for String {
    fn from(rule: OriginRule) -> Self {
        rule.0
    }
}

impl JsonSchema for OriginRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OriginRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`https://app.example.com`, `https://*.example.com`, or `*`.",
            "type": "string",
            "format": "origin",
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Text that does not say which pages may connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin; expected \"https://app.example.com\", \"https://*.example.com\" or \"*\""
)]
pub struct OriginError(String);

fn socket_address<'de, D: Deserializer<'de>>(input: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(input)?)
}

fn parse_address<E: serde::de::Error>(text: &str) -> Result<SocketAddr, E> {
    text.parse().map_err(|_| {
        E::custom(format!(
            "{text:?} is not a socket's address; expected \"127.0.0.1:8000\" or \"[::]:8000\""
        ))
    })
}

fn optional_socket_address<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = Option::<String>::deserialize(input)?;
    text.map(|text| parse_address(&text)).transpose()
}

/// An origin in its one spelling: lower case, without the scheme's default port. `None`
/// for `null` and everything else that has no scheme, no host, or more than both.
fn normal_origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let scheme_is_fine = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let host_is_fine = !authority.is_empty()
        && authority
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]*".contains(&byte));
    if !scheme_is_fine || !host_is_fine {
        return None;
    }
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    // An IPv6 address ends in `]`, so a port can't be mistaken for its last group.
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    (!authority.is_empty()).then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::{Network, OriginRule};

    #[track_caller]
    fn rule(text: &str) -> OriginRule {
        text.parse().unwrap()
    }

    #[test]
    fn an_origin_is_compared_whole() {
        let app = rule("https://App.example.com:443");
        assert_eq!(app.as_str(), "https://app.example.com");
        assert!(app.admits("https://app.example.com"));
        for other in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.net",
            "https://evil.net/https://app.example.com",
            "null",
            "",
        ] {
            assert!(!app.admits(other), "{other:?}");
        }
    }

    #[test]
    fn a_wildcard_takes_whole_labels_only() {
        let below = rule("https://*.example.com");
        assert!(below.admits("https://a.example.com"));
        assert!(below.admits("https://a.b.example.com"));
        for other in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "http://a.example.com",
            "https://a.example.com:8443",
        ] {
            assert!(!below.admits(other), "{other:?}");
        }
        assert!(rule("*").admits("null"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for wrong in [
            "",
            "example.com",
            "https://",
            "https://a.*.com",
            "https://**.com",
            "https://a/b",
            "null",
        ] {
            assert!(wrong.parse::<OriginRule>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_network_may_be_one_address() {
        let network = |text: &str| text.parse::<Network>().map(|network| network.to_string());
        assert_eq!(network("10.1.2.3/8"), Ok("10.0.0.0/8".into()));
        assert_eq!(network("::1"), Ok("::1/128".into()));
        assert!(network("10.0.0.0/33").is_err());
        assert!(network("localhost").is_err());
    }
}
