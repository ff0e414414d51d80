//! What a request's head becomes on its way to the upstream.

use std::io::Write as _;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http1::{Fields, Known, RequestHead, Target, strip_hop_by_hop};

/// Where a request comes from, as the edge knows it.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Who opened the connection, or whom its PROXY header names.
    pub peer: IpAddr,
    /// Whom limits and logs count: the peer, or whom a trusted proxy names.
    pub client: IpAddr,
    /// The peer is a trusted proxy: what it says about the client is passed on.
    pub is_trusted: bool,
    /// The client's connection is sealed.
    pub is_tls: bool,
}

/// Takes out what ends here and puts in what the upstream should know (5.4).
///
/// `Host` is written from the head's authority, framing from its framing; so neither
/// is among the fields.
pub(super) fn rewrite(head: &mut RequestHead, from: Origin, has_our_token: bool) {
    let forwarded_for = from
        .is_trusted
        .then(|| joined(&head.fields, Known::XForwardedFor))
        .flatten();
    let proto = first_if(from.is_trusted, &head.fields, Known::XForwardedProto)
        .unwrap_or_else(|| Bytes::from_static(if from.is_tls { b"https" } else { b"http" }));
    let host = first_if(from.is_trusted, &head.fields, Known::XForwardedHost)
        .unwrap_or_else(|| head.authority.clone());
    let forwarded = from
        .is_trusted
        .then(|| joined(&head.fields, Known::Forwarded))
        .flatten();
    let via = joined(&head.fields, Known::Via);

    strip_hop_by_hop(&mut head.fields);
    head.fields.retain(|field| match field.known {
        Known::Host
        | Known::ContentLength
        | Known::Expect
        // So that upstreams answer uncompressed, and usage can be read.
        | Known::AcceptEncoding
        | Known::Forwarded
        | Known::Via
        | Known::XForwardedFor
        | Known::XForwardedHost
        | Known::XForwardedProto => false,
        Known::XRealIp => from.is_trusted,
        Known::Authorization => !has_our_token,
        Known::Other if has_our_token && field.is_named("x-api-key") => false,
        Known::Other => {
            from.is_trusted
                || !field.name_begins("x-forwarded-") && !field.name_begins("x-tidegate-")
        }
        _ => true,
    });

    let mut text = Vec::with_capacity(96);
    let mut put = |name: &str, value: &[u8]| {
        // Each part was a valid value before.
        let put = head.fields.push(name, value);
        debug_assert!(put.is_ok(), "{name} is not valid");
    };
    begin(&mut text, forwarded_for.as_deref());
    push_address(&mut text, from.peer);
    put("x-forwarded-for", &text);
    if !host.is_empty() {
        put("x-forwarded-host", &host);
    }
    put("x-forwarded-proto", &proto);
    begin(&mut text, forwarded.as_deref());
    text.extend_from_slice(b"for=");
    match from.peer {
        IpAddr::V4(_) => push_address(&mut text, from.peer),
        IpAddr::V6(_) => {
            text.extend_from_slice(b"\"[");
            push_address(&mut text, from.peer);
            text.extend_from_slice(b"]\"");
        }
    }
    if !head.authority.is_empty() {
        text.extend_from_slice(b";host=\"");
        text.extend_from_slice(&head.authority);
        text.push(b'"');
    }
    text.extend_from_slice(if from.is_tls {
        b";proto=https"
    } else {
        b";proto=http"
    });
    put("forwarded", &text);
    begin(&mut text, via.as_deref());
    text.extend_from_slice(match head.version {
        http1::Version::Http10 => b"1.0 tidegate",
        http1::Version::Http11 => b"1.1 tidegate",
        http1::Version::Http2 => b"2.0 tidegate",
    });
    put("via", &text);
}

/// Begins a list with what was in it before.
fn begin(text: &mut Vec<u8>, before: Option<&str>) {
    text.clear();
    if let Some(before) = before {
        text.extend_from_slice(before.as_bytes());
        text.extend_from_slice(b", ");
    }
}

/// An address as text. Those of version 4 are nearly all, and the general way to print
/// them costs as much as a part of a head.
fn push_address(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push(b'.');
                }
                if octet >= 100 {
                    text.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    text.push(b'0' + octet / 10 % 10);
                }
                text.push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(address) => {
            // Writing to memory does not fail.
            let _written = write!(text, "{address}");
        }
    }
}

/// The target at an upstream: its own base path, then what is left of the request's
/// path, then the query unchanged (5.2).
pub(super) fn target(asked: &Target, prefix: &str, strip: bool, base_path: &str) -> Target {
    if !strip && base_path.is_empty() {
        return asked.clone();
    }
    let path = asked.path();
    let rest = if strip { below(path, prefix) } else { path };
    let mut bytes = BytesMut::with_capacity(base_path.len() + asked.as_str().len() + 1);
    bytes.extend_from_slice(base_path.as_bytes());
    bytes.extend_from_slice(rest.as_bytes());
    if bytes.is_empty() {
        bytes.extend_from_slice(b"/");
    }
    if let Some(query) = asked.query() {
        bytes.extend_from_slice(b"?");
        bytes.extend_from_slice(query.as_bytes());
    }
    Target::new(bytes.freeze()).unwrap_or_else(|| asked.clone())
}

/// What stands behind a prefix that a path was found under: empty, or from a slash on. It is
/// counted in segments, as those of a request may be percent-encoded.
pub(super) fn below<'a>(path: &'a str, prefix: &str) -> &'a str {
    let segments = prefix.matches('/').count();
    match path.match_indices('/').nth(segments) {
        Some((at, _)) => path.get(at..).unwrap_or_default(),
        None => "",
    }
}

fn first_if(is_trusted: bool, fields: &Fields, known: Known) -> Option<Bytes> {
    is_trusted.then(|| fields.shared(known)).flatten()
}

/// All values of a list field in one; `None` if there is none that is text.
fn joined(fields: &Fields, known: Known) -> Option<String> {
    let mut joined = String::new();
    for value in fields.all(known) {
        let value = str::from_utf8(value).ok()?;
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(value);
    }
    (!joined.is_empty()).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn at(path: &str, strip: bool, base: &str) -> String {
        let asked = Target::new(Bytes::copy_from_slice(path.as_bytes())).unwrap();
        target(&asked, "/-/openai", strip, base).as_str().to_owned()
    }

    #[test]
    fn the_prefix_goes_and_the_query_stays() {
        assert_eq!(
            at("/-/openai/v1/chat?a=b%20c", true, ""),
            "/v1/chat?a=b%20c"
        );
        assert_eq!(at("/-/openai", true, ""), "/");
        assert_eq!(at("/-/openai?x", true, "/base"), "/base?x");
        assert_eq!(at("/-/openai/x", true, "/base"), "/base/x");
        assert_eq!(at("/-/openai/x", false, "/base"), "/base/-/openai/x");
        assert_eq!(at("/-/openai/x", false, ""), "/-/openai/x");
        assert_eq!(at("/-/openai//x/", true, ""), "//x/");
    }

    #[test]
    fn a_prefix_that_was_sent_encoded_goes_as_well() {
        assert_eq!(at("/-/op%65n%61i/admin", true, ""), "/admin");
        assert_eq!(at("/-/op%65nai/x?y", true, "/base"), "/base/x?y");
        assert_eq!(at("/-/opena%69", true, "/base"), "/base");
    }

    fn head(lines: &str) -> RequestHead {
        let text = format!("GET /-/a HTTP/1.1\r\nhost: gate.example\r\n{lines}\r\n");
        let limits = http1::Limits {
            head: 8_192,
            fields: 64,
            target: 2_048,
        };
        http1::request(&mut BytesMut::from(text.as_str()), &limits)
            .unwrap()
            .unwrap()
    }

    fn from(is_trusted: bool) -> Origin {
        Origin {
            peer: "10.0.0.9".parse().unwrap(),
            client: "203.0.113.7".parse().unwrap(),
            is_trusted,
            is_tls: false,
        }
    }

    fn said(head: &RequestHead, known: Known) -> &str {
        head.fields.text(known).unwrap_or("-")
    }

    #[test]
    fn addresses_are_printed_as_ever() {
        for text in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "2001:db8::1"] {
            let address: IpAddr = text.parse().unwrap();
            let mut printed = Vec::new();
            push_address(&mut printed, address);
            assert_eq!(printed, address.to_string().as_bytes());
        }
    }

    #[test]
    fn a_stranger_can_not_say_where_it_comes_from() {
        let mut head = head(
            "x-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\nx-forwarded-port: 9\r\nx-forwarded-proto: https\r\n",
        );
        rewrite(&mut head, from(false), false);
        assert_eq!(said(&head, Known::XForwardedFor), "10.0.0.9");
        assert_eq!(said(&head, Known::XForwardedProto), "http");
        assert_eq!(said(&head, Known::XForwardedHost), "gate.example");
        assert_eq!(
            said(&head, Known::Forwarded),
            "for=10.0.0.9;host=\"gate.example\";proto=http"
        );
        assert_eq!(said(&head, Known::XRealIp), "-");
        assert_eq!(head.fields.get_named("x-forwarded-port"), None);
    }

    #[test]
    fn what_a_trusted_proxy_says_is_passed_on() {
        let mut head = head(
            "x-forwarded-for: 203.0.113.7\r\nx-forwarded-proto: https\r\nx-forwarded-host: www.example\r\n",
        );
        rewrite(&mut head, from(true), false);
        assert_eq!(said(&head, Known::XForwardedFor), "203.0.113.7, 10.0.0.9");
        assert_eq!(said(&head, Known::XForwardedProto), "https");
        assert_eq!(said(&head, Known::XForwardedHost), "www.example");
    }

    #[test]
    fn what_is_ours_ends_here() {
        let mut head = head(
            "authorization: Bearer ours\r\nconnection: x-one, close\r\nx-one: 1\r\nte: trailers\r\naccept-encoding: gzip\r\nx-two: 2\r\n",
        );
        rewrite(&mut head, from(false), true);
        let names: Vec<_> = head
            .fields
            .iter()
            .map(|field| field.name().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "x-two",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "forwarded",
                "via"
            ]
        );
    }
}
