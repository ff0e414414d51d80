//! Negotiation of permessage-deflate (RFC 7692, 5 and 7.1).
//!
//! Contexts are never carried from message to message in either direction, because a context per
//! connection costs more than everything else a connection holds. A server may demand that
//! unasked (7.1.1), so an offer is never declined for it.

use std::fmt::Write as _;

use crate::handshake::token::is_token_byte;

/// What we are willing to agree to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateConfig {
    /// The largest window, as a power of two of bytes, in which we compress: 9 to 15; other
    /// values count as the nearest of these. Smaller ones compress worse and spare the peer
    /// memory.
    pub window_bits_max: u8,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            window_bits_max: WINDOW_BITS_MAX,
        }
    }
}

impl DeflateConfig {
    fn window_bits(&self) -> u8 {
        self.window_bits_max
            .clamp(ZLIB_WINDOW_BITS_MIN, WINDOW_BITS_MAX)
    }
}

/// What was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateParams {
    /// The window in which our messages have to be compressed: 8 to 15, to be passed to
    /// [`Deflater::compress`](crate::Deflater::compress). A server never agrees to 8; a client
    /// told 8 does not compress.
    pub window_bits: u8,
}

/// Chooses from a client's offers, the values of `Sec-WebSocket-Extensions`, the first acceptable
/// one; returns what it comes to and the value of the header that says so.
///
/// An offer with an unknown, repeated or malformed parameter is declined, as is one that demands
/// a window of 256 bytes, which zlib cannot do. A header that does not parse ends the search.
#[must_use]
pub fn negotiate_deflate<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    config: &DeflateConfig,
) -> Option<(DeflateParams, String)> {
    for value in values {
        let mut rest = value;
        while !rest.is_empty() {
            let (extension, after) = Extension::parse(rest)?;
            if let Some(agreed) = accept_offer(&extension, config) {
                return Some(agreed);
            }
            rest = after;
        }
    }
    None
}

/// The value of `Sec-WebSocket-Extensions` that a client offers.
#[must_use]
pub fn offer_deflate() -> &'static str {
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
     client_max_window_bits"
}

/// Checks a server's answer to [`offer_deflate`]; `None` if it is none we can live with.
pub(crate) fn accept_answer(values: &[&[u8]], config: &DeflateConfig) -> Option<DeflateParams> {
    let [value] = values else { return None };
    let (extension, after) = Extension::parse(value)?;
    let params = Params::read(&extension, Side::Answer)?;
    // A server that keeps its context although asked not to cannot be understood (7.1.1.1).
    if !after.is_empty() || !params.server_no_context_takeover {
        return None;
    }
    let asked = params.client_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
    Some(DeflateParams {
        window_bits: asked.min(config.window_bits()),
    })
}

fn accept_offer(
    extension: &Extension<'_>,
    config: &DeflateConfig,
) -> Option<(DeflateParams, String)> {
    let params = Params::read(extension, Side::Offer)?;
    let asked = params.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
    if asked < ZLIB_WINDOW_BITS_MIN {
        return None;
    }
    let window_bits = asked.min(config.window_bits());
    let mut answer =
        String::from("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
    // Unasked, a smaller window may be announced too, but old clients stumble over it (7.1.2.1).
    if params.server_max_window_bits.is_some() {
        // Writing to a string does not fail.
        let _ = write!(answer, "; server_max_window_bits={window_bits}");
    }
    Some((DeflateParams { window_bits }, answer))
}

/// Who wrote the parameters: the rules for values differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Offer,
    Answer,
}

/// The parameters of permessage-deflate.
#[derive(Default)]
struct Params {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

impl Params {
    /// `None` if the extension is another one, or has parameters it must not have.
    fn read(extension: &Extension<'_>, side: Side) -> Option<Self> {
        if !extension.name.eq_ignore_ascii_case(b"permessage-deflate") {
            return None;
        }
        let mut params = Self::default();
        for (name, value) in &extension.params {
            let value = value.as_deref();
            let fresh = match *name {
                b"server_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut params.server_no_context_takeover, true)
                }
                b"client_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut params.client_no_context_takeover, true)
                }
                b"server_max_window_bits" => params
                    .server_max_window_bits
                    .replace(window_bits(value?)?)
                    .is_none(),
                b"client_max_window_bits" => {
                    // In an offer the name alone says that the parameter is understood.
                    let bits = match (value, side) {
                        (Some(value), _) => window_bits(value)?,
                        (None, Side::Offer) => WINDOW_BITS_MAX,
                        (None, Side::Answer) => return None,
                    };
                    params.client_max_window_bits.replace(bits).is_none()
                }
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(params)
    }
}

/// 8 to 15, in decimal without leading zeros (7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// One element of the header (RFC 6455, 9.1).
struct Extension<'a> {
    name: &'a [u8],
    params: Vec<(&'a [u8], Option<Vec<u8>>)>,
}

impl<'a> Extension<'a> {
    /// Reads one element and returns it with what follows its comma; `None` on a syntax error.
    fn parse(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut cursor = Cursor { rest: value };
        // Empty elements are permitted in lists.
        while cursor.eat(b',') {}
        let name = cursor.token()?;
        let mut params = Vec::new();
        while cursor.eat(b';') {
            if params.len() == PARAMS_MAX {
                return None;
            }
            let name = cursor.token()?;
            let value = match cursor.eat(b'=') {
                true => Some(cursor.token_or_quoted()?),
                false => None,
            };
            params.push((name, value));
        }
        let ended = cursor.rest.is_empty() || cursor.eat(b',');
        while cursor.eat(b',') {}
        ended.then_some((Self { name, params }, cursor.rest))
    }
}

/// Reads a header value from left to right; space before and after each piece is skipped.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.rest.first() == Some(&wanted);
        if found {
            self.rest = &self.rest[1..];
            self.skip_space();
        }
        found
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let len = self
            .rest
            .iter()
            .take_while(|byte| is_token_byte(**byte))
            .count();
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.skip_space();
        (len > 0).then_some(token)
    }

    /// A token, plain or between quotes; what is quoted has to be a token too (RFC 6455, 9.1).
    fn token_or_quoted(&mut self) -> Option<Vec<u8>> {
        if self.rest.first() != Some(&b'"') {
            return self.token().map(<[u8]>::to_vec);
        }
        let mut content = Vec::new();
        let mut bytes = self.rest[1..].iter();
        loop {
            match bytes.next()? {
                b'"' => break,
                b'\\' => content.push(*bytes.next()?),
                byte => content.push(*byte),
            }
        }
        self.rest = bytes.as_slice();
        self.skip_space();
        (!content.is_empty() && content.iter().copied().all(is_token_byte)).then_some(content)
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

/// More parameters than permessage-deflate has: other extensions may have some of their own.
const PARAMS_MAX: usize = 16;

const WINDOW_BITS_MAX: u8 = 15;
const ZLIB_WINDOW_BITS_MIN: u8 = 9;

#[cfg(test)]
mod tests;
