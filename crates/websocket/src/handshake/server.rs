//! The server's half: is this request an upgrade we can accept, and what is the answer.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::handshake::{VERSION, accept_key, token};

/// Why a request cannot be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The method is not GET.
    #[error("method of an upgrade is not get")]
    Method,
    /// The request is older than HTTP/1.1.
    #[error("upgrade needs http/1.1")]
    HttpVersion,
    /// `Upgrade` does not name `websocket`: an ordinary request.
    #[error("request does not ask for an upgrade to websocket")]
    NotUpgrade,
    /// `Connection` does not name `upgrade`.
    #[error("connection header does not name upgrade")]
    Connection,
    /// `Host` is missing or empty.
    #[error("host header is missing")]
    Host,
    /// `Sec-WebSocket-Key` is missing or not sixteen bytes in base64.
    #[error("websocket key is not sixteen bytes in base64")]
    Key,
    /// `Sec-WebSocket-Version` is not 13; the answer names the version we speak.
    #[error("websocket version is not 13")]
    Version,
    /// A header that may stand once stands twice.
    #[error("header {0:?} is repeated")]
    Duplicate(&'static str),
    /// The request announces a body, which could hide a second request.
    #[error("upgrade request has a body")]
    Body,
}

impl HandshakeError {
    /// The HTTP status of the answer.
    ///
    /// Beside 426 the answer carries `Upgrade: websocket` and `Sec-WebSocket-Version: 13`, beside
    /// 405 `Allow: GET`.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotUpgrade | Self::Version => 426,
            Self::HttpVersion => 505,
            Self::Connection | Self::Host | Self::Key | Self::Duplicate(_) | Self::Body => 400,
        }
    }

    /// A label for metrics, from a closed set.
    #[must_use]
    pub fn reason_label(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::HttpVersion => "http_version",
            Self::NotUpgrade => "not_upgrade",
            Self::Connection => "connection",
            Self::Host => "host",
            Self::Key => "key",
            Self::Version => "version",
            Self::Duplicate(_) => "duplicate",
            Self::Body => "body",
        }
    }
}

/// A request that may be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// `Sec-WebSocket-Key`, to be answered by [`accept_key`].
    pub key: &'a str,
    /// `Host`, not empty.
    pub host: &'a [u8],
    /// `Origin`, as browsers send it.
    pub origin: Option<&'a [u8]>,
}

/// Checks a request (RFC 6455, 4.2.1). `http_minor` is 1 for HTTP/1.1.
///
/// # Errors
///
/// What is missing or malformed; see [`HandshakeError::status`] for the answer.
pub fn validate<'a>(
    method: &str,
    http_minor: u8,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Upgrade<'a>, HandshakeError> {
    if method != "GET" {
        return Err(HandshakeError::Method);
    }
    if http_minor < 1 {
        return Err(HandshakeError::HttpVersion);
    }
    let seen = Seen::collect(headers)?;
    if !seen.upgrade {
        return Err(HandshakeError::NotUpgrade);
    }
    if !seen.connection {
        return Err(HandshakeError::Connection);
    }
    if seen.version != Some(VERSION.as_bytes()) {
        return Err(HandshakeError::Version);
    }
    let host = seen
        .host
        .filter(|host| !host.is_empty())
        .ok_or(HandshakeError::Host)?;
    let key = seen.key.and_then(checked_key).ok_or(HandshakeError::Key)?;
    Ok(Upgrade {
        key,
        host,
        origin: seen.origin,
    })
}

/// The sub-protocol to speak: the first of `supported` that the client offers.
///
/// `offered` are the values of `Sec-WebSocket-Protocol`, each of which may be a list. Names are
/// compared exactly.
#[must_use]
pub fn select_protocol<'s, 'a>(
    offered: impl Iterator<Item = &'a [u8]> + Clone,
    supported: &[&'s str],
) -> Option<&'s str> {
    supported
        .iter()
        .copied()
        .find(|name| token::list(offered.clone()).any(|offer| offer == name.as_bytes()))
}

/// Appends the answer that switches protocols (RFC 6455, 4.2.2) to `out`.
///
/// `protocol` and `extensions` are values that [`select_protocol`] and
/// [`negotiate_deflate`](crate::negotiate_deflate) returned.
pub fn response(out: &mut Vec<u8>, key: &str, protocol: Option<&str>, extensions: Option<&str>) {
    let accept = accept_key(key);
    let protocol = protocol.map(|value| ("Sec-WebSocket-Protocol", value));
    let extensions = extensions.map(|value| ("Sec-WebSocket-Extensions", value));
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    let fixed = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept.as_str()),
    ];
    for (name, value) in fixed.into_iter().chain(protocol).chain(extensions) {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// What the headers say, as far as it matters here.
#[derive(Default)]
struct Seen<'a> {
    upgrade: bool,
    connection: bool,
    host: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
}

impl<'a> Seen<'a> {
    fn collect(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Self, HandshakeError> {
        let mut seen = Self::default();
        for (name, value) in headers {
            let value = token::trim(value);
            // `Upgrade` and `Connection` are lists and may be split over headers.
            if name.eq_ignore_ascii_case("upgrade") {
                seen.upgrade |= names(value, "websocket");
            } else if name.eq_ignore_ascii_case("connection") {
                seen.connection |= names(value, "upgrade");
            } else if name.eq_ignore_ascii_case("host") {
                once(&mut seen.host, "host", value)?;
            } else if name.eq_ignore_ascii_case("sec-websocket-key") {
                once(&mut seen.key, "sec-websocket-key", value)?;
            } else if name.eq_ignore_ascii_case("sec-websocket-version") {
                once(&mut seen.version, "sec-websocket-version", value)?;
            } else if name.eq_ignore_ascii_case("origin") {
                once(&mut seen.origin, "origin", value)?;
            } else if name.eq_ignore_ascii_case("content-length") {
                once(&mut seen.content_length, "content-length", value)?;
                if value != b"0" {
                    return Err(HandshakeError::Body);
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(HandshakeError::Body);
            }
        }
        Ok(seen)
    }
}

fn once<'a>(
    slot: &mut Option<&'a [u8]>,
    name: &'static str,
    value: &'a [u8],
) -> Result<(), HandshakeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HandshakeError::Duplicate(name)),
    }
}

fn names(value: &[u8], wanted: &str) -> bool {
    token::list([value].into_iter()).any(|element| element.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// The key as text, if it decodes to sixteen bytes.
fn checked_key(key: &[u8]) -> Option<&str> {
    let mut decoded = [0; 18];
    let len = BASE64_STANDARD.decode_slice(key, &mut decoded).ok()?;
    if len == 16 {
        str::from_utf8(key).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
