//! What the edge reads itself: PROXY headers, forwarded addresses, escapes of query strings.

use std::fmt::Write;

use ::edge::fuzzing::{self, ProxyHeader};

/// A PROXY header is found as soon as it is whole, wherever the bytes are cut, is not longer than
/// what was received, and does not depend on what follows it.
pub fn proxy_header(data: &[u8]) {
    let whole = fuzzing::proxy_header(data);
    let ProxyHeader::Whole(_, length) = whole else {
        return;
    };
    assert!(length <= data.len(), "{length} of {} bytes", data.len());
    assert_eq!(fuzzing::proxy_header(&data[..length]), whole);
    for cut in 0..length {
        let part = fuzzing::proxy_header(&data[..cut]);
        assert_eq!(part, ProxyHeader::Partial, "cut at {cut}");
    }
}

/// The client of `X-Forwarded-For` is read the same way twice; whoever is appended on the right
/// by a trusted proxy and is not trusted is the client, whatever stands before.
pub fn forwarded_for(data: &[u8]) {
    assert_eq!(fuzzing::forwarded_for(data), fuzzing::forwarded_for(data));
    let mut spoofed = data.to_vec();
    spoofed.extend_from_slice(b"\n203.0.113.7, 10.1.2.3");
    assert_eq!(fuzzing::forwarded_for(&spoofed).to_string(), "203.0.113.7");
}

/// Undoing escapes ends, never makes text longer, and is the inverse of escaping.
pub fn percent_decoded(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(decoded) = fuzzing::percent_decoded(text)
    {
        assert!(decoded.len() <= text.len());
    }
    let mut escaped = String::new();
    for byte in data {
        write!(escaped, "%{byte:02X}").expect("a string takes everything");
    }
    assert_eq!(fuzzing::percent_decoded(&escaped).as_deref(), Some(data));
}
