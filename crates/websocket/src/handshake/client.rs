//! The client's half: what to ask, and whether the answer is one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::handshake::extension::{DeflateConfig, DeflateParams, accept_answer, offer_deflate};
use crate::handshake::{VERSION, accept_key, header_values, token};

/// Why a request cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The target is empty, relative, or has spaces or control characters.
    #[error("request target is not an absolute path")]
    Target,
    /// The host is empty or has spaces or control characters.
    #[error("host is empty or has forbidden characters")]
    Host,
    /// A header's name is not a token, or its value has control characters.
    #[error("header has forbidden characters")]
    Header,
    /// A sub-protocol is not a token.
    #[error("sub-protocol is not a token")]
    Protocol,
}

/// Why a response does not open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The bytes are not an HTTP response.
    #[error("response is not http")]
    Malformed,
    /// The response has more than [`RESPONSE_MAX`] bytes or more than 64 headers.
    #[error("response is too large")]
    TooLarge,
    /// The server answered with another status than 101.
    #[error("server answered with status {0}")]
    Status(u16),
    /// `Upgrade` does not say `websocket`, or `Connection` not `upgrade`.
    #[error("response does not upgrade to websocket")]
    NotUpgrade,
    /// `Sec-WebSocket-Accept` is not the one our key asks for.
    #[error("response does not belong to the request")]
    Accept,
    /// The sub-protocol was not offered.
    #[error("server chose a sub-protocol that was not offered")]
    Protocol,
    /// An extension was not offered, or its parameters are not acceptable.
    #[error("server chose extensions that were not offered")]
    Extension,
}

/// What a server agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The sub-protocol, one of those offered.
    pub protocol: Option<String>,
    /// The compression, for [`Decoder::new`](crate::Decoder::new).
    pub deflate: Option<DeflateParams>,
}

/// A handshake as a client does it: [`request`](Self::request), then
/// [`parse`](Self::parse) until it is complete.
#[derive(Debug, Clone)]
pub struct ClientHandshake {
    key: String,
    /// Sub-protocols to offer, best first.
    pub protocols: Vec<String>,
    /// Whether to offer compression.
    pub deflate: Option<DeflateConfig>,
}

impl ClientHandshake {
    /// A handshake with `key`, sixteen random bytes used for nothing else.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            key: BASE64_STANDARD.encode(key),
            protocols: Vec::new(),
            deflate: None,
        }
    }

    /// The bytes to send: `target` is path and query, `host` is what the URL says, with its port
    /// unless it is the usual one, `headers` are added as they are.
    ///
    /// # Errors
    ///
    /// An argument contains what would break the request apart.
    pub fn request(
        &self,
        host: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Vec<u8>, RequestError> {
        let is_graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !target.starts_with('/') || !is_graphic(target) {
            return Err(RequestError::Target);
        }
        if host.is_empty() || !is_graphic(host) {
            return Err(RequestError::Host);
        }
        if !self
            .protocols
            .iter()
            .all(|name| token::is_token(name.as_bytes()))
        {
            return Err(RequestError::Protocol);
        }
        let is_value = |text: &str| {
            text.bytes()
                .all(|byte| byte == b'\t' || !byte.is_ascii_control())
        };
        if headers
            .iter()
            .any(|(name, value)| !token::is_token(name.as_bytes()) || !is_value(value))
        {
            return Err(RequestError::Header);
        }

        let protocols = self.protocols.join(", ");
        let mut lines = vec![
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self.key.as_str()),
            ("Sec-WebSocket-Version", VERSION),
        ];
        if !self.protocols.is_empty() {
            lines.push(("Sec-WebSocket-Protocol", &protocols));
        }
        if self.deflate.is_some() {
            lines.push(("Sec-WebSocket-Extensions", offer_deflate()));
        }
        lines.extend_from_slice(headers);
        let mut request = format!("GET {target} HTTP/1.1\r\n");
        for (name, value) in lines {
            for part in [name, ": ", value, "\r\n"] {
                request.push_str(part);
            }
        }
        request.push_str("\r\n");
        Ok(request.into_bytes())
    }

    /// Reads the response from everything `received` so far; `None` while it is incomplete.
    ///
    /// With the outcome comes the number of bytes it took; frames may follow them at once.
    ///
    /// # Errors
    ///
    /// The response does not open a connection (RFC 6455, 4.1).
    pub fn parse(&self, received: &[u8]) -> Result<Option<(usize, Accepted)>, ResponseError> {
        let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut storage);
        let head = &received[..received.len().min(RESPONSE_MAX)];
        let len = match response.parse(head) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if received.len() < RESPONSE_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(ResponseError::TooLarge);
            }
            Err(_) => return Err(ResponseError::Malformed),
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            return Err(ResponseError::Status(status));
        }
        if response.version != Some(1) {
            return Err(ResponseError::Malformed);
        }
        let headers = response
            .headers
            .iter()
            .map(|header| (header.name, header.value));
        self.check(headers).map(|accepted| Some((len, accepted)))
    }

    fn check<'a>(
        &self,
        headers: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Result<Accepted, ResponseError> {
        let values = |name| header_values(headers.clone(), name);
        let says = |name, wanted: &str| {
            token::list(values(name)).any(|value| value.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        if !says("upgrade", "websocket") || !says("connection", "upgrade") {
            return Err(ResponseError::NotUpgrade);
        }
        let mut accepts = values("sec-websocket-accept");
        let accept = accepts.next().map(token::trim);
        if accept != Some(accept_key(&self.key).as_bytes()) || accepts.next().is_some() {
            return Err(ResponseError::Accept);
        }

        let chosen: Vec<&[u8]> = values("sec-websocket-protocol").map(token::trim).collect();
        let protocol = match chosen.as_slice() {
            [] => None,
            [name] => {
                let offered = self
                    .protocols
                    .iter()
                    .find(|offer| offer.as_bytes() == *name);
                Some(offered.ok_or(ResponseError::Protocol)?.clone())
            }
            _ => return Err(ResponseError::Protocol),
        };

        let agreed: Vec<&[u8]> = values("sec-websocket-extensions").collect();
        let deflate = match &self.deflate {
            _ if agreed.is_empty() => None,
            Some(config) => Some(accept_answer(&agreed, config).ok_or(ResponseError::Extension)?),
            None => return Err(ResponseError::Extension),
        };
        Ok(Accepted { protocol, deflate })
    }
}

/// The longest response in bytes.
pub const RESPONSE_MAX: usize = 16 * 1024;

const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests;
