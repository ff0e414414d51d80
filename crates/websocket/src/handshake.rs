//! The opening handshake (RFC 6455, 4), over parsed requests and responses.
//!
//! Headers come as iterators of name and value, so that whoever has parsed the HTTP, by whichever
//! library, can pass what it has.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

pub mod client;
pub mod extension;
pub mod server;
pub mod token;

pub use client::{Accepted, ClientHandshake, RequestError, ResponseError};
pub use server::{HandshakeError, Upgrade, response, select_protocol, validate};

/// The value of `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    // The protocol wants SHA-1 as a token of understanding; nothing secret depends on it.
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.trim_ascii().as_bytes());
    context.update(GUID);
    BASE64_STANDARD.encode(context.finish())
}

/// The values of all headers called `name`, in order.
pub fn header_values<'a>(
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    name: &'static str,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The only version of the protocol there is.
const VERSION: &str = "13";

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_key_is_that_of_the_specification() {
        assert_eq!(
            accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn header_values_ignore_the_case_of_names() {
        let headers = [("a", &b"1"[..]), ("B", b"2"), ("b", b"3")];
        assert!(header_values(headers.into_iter(), "b").eq([&b"2"[..], b"3"]));
    }
}
