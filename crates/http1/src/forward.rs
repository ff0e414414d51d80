//! What a gateway takes out of a message before it passes it on.

use crate::fields::{Field, Fields, Known};

/// Takes out what speaks of one connection (RFC 9110, 7.6.1): the hop-by-hop fields, and
/// those that `Connection` names.
///
/// Fields of identity, framing and content stay even if they are named: otherwise a
/// client could have the gateway drop what the upstream relies on.
pub fn strip_hop_by_hop(fields: &mut Fields) {
    let mut named: Vec<String> = connection_tokens(fields)
        .filter(|token| !is_usual(token) && !is_protected(Known::of(token.as_bytes()), token))
        .map(str::to_ascii_lowercase)
        .collect();
    named.sort_unstable();
    named.dedup();
    fields.retain(|field| {
        !field.known.is_hop_by_hop()
            && !field.is_named(HTTP2_SETTINGS)
            && (named.is_empty()
                || named
                    .binary_search(&field.name().to_ascii_lowercase())
                    .is_err())
    });
}

/// What `Connection` lists, in all its fields, in order; empty elements are left out.
pub fn connection_tokens(fields: &Fields) -> impl Iterator<Item = &str> {
    fields
        .all(Known::Connection)
        .filter_map(|value| str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim_matches([' ', '\t']))
        .filter(|token| !token.is_empty())
}

/// Takes out of trailers what may not stand there (RFC 9110, 6.5.1).
pub fn strip_trailers(fields: &mut Fields) {
    fields.retain(|field| may_trail(&field));
}

/// The same for a request's trailers, of which names with `_` go too: in a head they are
/// refused, as some servers take them for names with `-`.
pub fn strip_request_trailers(fields: &mut Fields) {
    fields.retain(|field| may_trail(&field) && !field.name().contains('_'));
}

/// Whether a field may stand among trailers (RFC 9110, 6.5.1): nothing that frames,
/// routes, authenticates, names the client or says how to read the content.
fn may_trail(field: &Field<'_>) -> bool {
    !field.known.is_hop_by_hop()
        && !is_protected(field.known, field.name())
        && !is_one_of(field.name(), NEVER_TRAIL)
}

/// Options that name no field, or one that is taken out anyway.
fn is_usual(token: &str) -> bool {
    token.eq_ignore_ascii_case("close")
        || token.eq_ignore_ascii_case(HTTP2_SETTINGS)
        || Known::of(token.as_bytes()).is_hop_by_hop()
}

/// No client may have it removed by naming it.
fn is_protected(known: Known, name: &str) -> bool {
    matches!(
        known,
        Known::Authorization
            | Known::CacheControl
            | Known::ContentEncoding
            | Known::ContentLength
            | Known::ContentType
            | Known::Cookie
            | Known::Date
            | Known::Expect
            | Known::Forwarded
            | Known::Host
            | Known::RetryAfter
            | Known::SecWebSocketAccept
            | Known::SecWebSocketKey
            | Known::Traceparent
            | Known::Via
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedProto
            | Known::XRealIp
    ) || is_one_of(name, PROTECTED)
        || name
            .get(..FORWARDED_PREFIX.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(FORWARDED_PREFIX))
}

fn is_one_of(name: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(name))
}

const FORWARDED_PREFIX: &str = "x-forwarded-";
const HTTP2_SETTINGS: &str = "http2-settings";

/// Beside those of [`Known`].
const PROTECTED: &[&str] = &[
    "content-range",
    "origin",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "set-cookie",
    "tracestate",
    "www-authenticate",
];

/// Beside the protected ones.
const NEVER_TRAIL: &[&str] = &[
    "age",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "vary",
    "warning",
];

#[cfg(test)]
mod tests;
