//! Requests to switch to another protocol: WebSocket, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http1::{Known, RequestHead, ResponseHead, Version};
use websocket::handshake;

use super::refusal::Refusal;
use super::route::Route;

/// A WebSocket upgrade that may be passed on.
#[derive(Debug)]
pub(super) struct Upgrade {
    key: Bytes,
}

impl Upgrade {
    /// The upgrade a request asks for, if it does and may.
    pub(super) fn asked(head: &RequestHead, route: &Route) -> Result<Option<Self>, Refusal> {
        let Some(protocol) = &head.upgrade else {
            return Ok(None);
        };
        if !protocol.eq_ignore_ascii_case(NAME.as_bytes()) {
            // An offer that nobody has to take (RFC 9110, 7.8): it ends here.
            return Ok(None);
        }
        if !route.record.websocket {
            return Err(Refusal::NoUpgrade);
        }
        let key = head.fields.shared(Known::SecWebSocketKey);
        let is_valid = head.method == Method::GET && head.version == Version::Http11;
        match key {
            Some(key) if is_valid && STANDARD.decode(&key).is_ok_and(|key| key.len() == 16) => {
                Ok(Some(Self { key }))
            }
            _ => Err(Refusal::Handshake),
        }
    }

    /// What is asked of the upstream.
    pub(super) fn protocol(&self) -> Bytes {
        Bytes::from_static(NAME.as_bytes())
    }

    /// Whether the upstream has really read this very request (RFC 6455, 4.1): only then
    /// is what follows its 101 not HTTP any more.
    pub(super) fn verify(&self, head: &ResponseHead) -> Result<(), &'static str> {
        let switched = head
            .fields
            .get(Known::Upgrade)
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case(NAME.as_bytes()));
        if !switched {
            return Err("upstream switched to another protocol");
        }
        let key = str::from_utf8(&self.key).unwrap_or_default();
        let accept = handshake::accept_key(key);
        if head.fields.get(Known::SecWebSocketAccept) != Some(accept.as_bytes()) {
            return Err("upstream's sec-websocket-accept is wrong");
        }
        Ok(())
    }
}

/// The protocol.
pub(super) const NAME: &str = "websocket";
