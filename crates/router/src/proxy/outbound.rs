//! What a request's head becomes on its way to the upstream.

use std::fmt::Write as _;
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
        Known::Other => {
            from.is_trusted
                || !starts_with(field.name, "x-forwarded-") && !starts_with(field.name, "x-tidegate-")
        }
        _ => true,
    });

    let mut text = String::with_capacity(64);
    let mut put = |name: &str, value: &[u8]| {
        // Each part was a valid value before.
        let put = head.fields.push(name, value);
        debug_assert!(put.is_ok(), "{name} is not valid");
    };
    if let Some(before) = &forwarded_for {
        text.push_str(before);
        text.push_str(", ");
    }
    let _written = write!(text, "{}", from.peer);
    put("x-forwarded-for", text.as_bytes());
    if !host.is_empty() {
        put("x-forwarded-host", &host);
    }
    put("x-forwarded-proto", &proto);
    text.clear();
    if let Some(before) = &forwarded {
        text.push_str(before);
        text.push_str(", ");
    }
    let _written = match from.peer {
        IpAddr::V4(address) => write!(text, "for={address}"),
        IpAddr::V6(address) => write!(text, "for=\"[{address}]\""),
    };
    let own_proto = if from.is_tls { "https" } else { "http" };
    match str::from_utf8(&head.authority) {
        Ok(host) if !host.is_empty() => {
            let _written = write!(text, ";host=\"{host}\";proto={own_proto}");
        }
        _ => {
            let _written = write!(text, ";proto={own_proto}");
        }
    }
    put("forwarded", text.as_bytes());
    text.clear();
    if let Some(before) = &via {
        text.push_str(before);
        text.push_str(", ");
    }
    text.push_str(match head.version {
        http1::Version::Http10 => "1.0 tidegate",
        http1::Version::Http11 => "1.1 tidegate",
        http1::Version::Http2 => "2.0 tidegate",
    });
    put("via", text.as_bytes());
}

/// The target at an upstream: its own base path, then what is left of the request's
/// path, then the query unchanged (5.2).
pub(super) fn target(asked: &Target, prefix: &str, strip: bool, base_path: &str) -> Target {
    if !strip && base_path.is_empty() {
        return asked.clone();
    }
    let path = asked.path();
    let rest = if strip {
        path.get(prefix.len()..).unwrap_or_default()
    } else {
        path
    };
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

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
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
            .map(|field| field.name.to_owned())
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
