//! Requests of HTTP/2, held to the rules of HTTP/1.1.

use bytes::Bytes;
use http::Method;
use http::request::Parts;

use super::authority::Authority;
use super::meaning::Meaning;
use super::{Limits, Reject};
use crate::body::Framing;
use crate::fields::{Fields, Known, UNDERSCORE, spelling};
use crate::head::{RequestHead, Target, Version};

/// The head of an HTTP/2 request, under the rules for one of HTTP/1.1: what the upstream
/// gets must not depend on the version a client speaks. `has_body` says that the stream
/// did not end with the head. A body of unknown length counts as chunked.
///
/// # Errors
///
/// The first rule that the head breaks. Fields of a connection (RFC 9113, 8.2.2) are
/// refused as [`Reject::Name`].
pub fn http2_request(
    parts: &Parts,
    has_body: bool,
    limits: &Limits,
) -> Result<RequestHead, Reject> {
    if parts.method == Method::CONNECT {
        return Err(Reject::Connect);
    }
    let mut fields = Fields::from_header_map(&parts.headers);
    join_cookies(&mut fields);
    if fields.len() > limits.fields {
        return Err(Reject::TooManyFields);
    }
    let mut meaning = Meaning::default();
    for field in fields.iter() {
        check(field.known, field.name(), field.value)?;
        meaning.take(field.known, field.value, 0..0)?;
    }
    let framing = match (meaning.framing(Version::Http2)?, has_body) {
        (Some(Framing::Length(_)), false) => return Err(Reject::ContentLength),
        // Whether the stream really ends without content is still to be seen.
        (Some(Framing::Empty), true) => Framing::Chunked,
        (Some(framing), _) => framing,
        (None, true) => Framing::Chunked,
        (None, false) => Framing::Empty,
    };
    Ok(RequestHead {
        method: parts.method.clone(),
        target: target(parts, limits)?,
        authority: authority(parts, meaning.hosts)?,
        version: Version::Http2,
        framing,
        keep_alive: true,
        expects_continue: meaning.expects_continue && has_body,
        upgrade: None,
        fields,
    })
}

/// HTTP/2 lets a client split its cookies into several fields; of HTTP/1.1 servers many
/// read the first only (RFC 9113, 8.2.3).
fn join_cookies(fields: &mut Fields) {
    if fields.all(Known::Cookie).nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = fields.all(Known::Cookie).collect();
    let joined = crumbs.join(&b"; "[..]);
    // Each part was a valid value before.
    let _ = fields.set(Known::Cookie.name(), &joined);
}

/// No field speaks of a connection, and none passes for another one.
fn check(known: Known, name: &str, value: &[u8]) -> Result<(), Reject> {
    match known {
        Known::TransferEncoding => Err(Reject::TransferEncoding),
        Known::Connection | Known::KeepAlive | Known::ProxyConnection | Known::Upgrade => {
            Err(Reject::Name)
        }
        Known::Te if !value.eq_ignore_ascii_case(b"trailers") => Err(Reject::Value),
        _ if spelling(name.as_bytes()) & UNDERSCORE != 0 => Err(Reject::Name),
        _ => Ok(()),
    }
}

fn target(parts: &Parts, limits: &Limits) -> Result<Target, Reject> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if path.len() > limits.target {
        return Err(Reject::TargetTooLong);
    }
    let is_whole_server = path == "*" && parts.method == Method::OPTIONS;
    if !path.starts_with('/') && !is_whole_server {
        return Err(Reject::Target);
    }
    Target::new(Bytes::copy_from_slice(path.as_bytes())).ok_or(Reject::Target)
}

/// `:authority`, or `host` if that is missing; both must say the same.
fn authority(parts: &Parts, hosts: usize) -> Result<Bytes, Reject> {
    let parse = |bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        let parsed = Authority::parse(&bytes).ok_or(Reject::Host)?;
        Ok((parsed, bytes))
    };
    let host = match (parts.headers.get(http::header::HOST), hosts) {
        (Some(host), 1) => Some(parse(host.as_bytes().trim_ascii())?),
        (_, 0) => None,
        _ => return Err(Reject::Host),
    };
    let named = parts
        .uri
        .authority()
        .map(|authority| parse(authority.as_str().as_bytes()))
        .transpose()?;
    let default_port = if parts.uri.scheme_str() == Some("http") {
        80
    } else {
        443
    };
    match (named, host) {
        (Some((named, _)), Some((host, _))) if !named.is_same(&host, default_port) => {
            Err(Reject::HostMismatch)
        }
        (Some((_, bytes)), _) | (None, Some((_, bytes))) => Ok(bytes),
        (None, None) => Err(Reject::Host),
    }
}

#[cfg(test)]
mod tests;
