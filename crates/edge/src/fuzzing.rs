//! The edge's own parsers of outside bytes, for the fuzz targets alone.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::front;
use crate::live::Addresses;

/// What bytes are as a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// One that names this client, if any, and has this length.
    Whole(Option<IpAddr>, usize),
    /// The beginning of one.
    Partial,
    /// None.
    Malformed,
}

/// Reads a PROXY header.
pub fn proxy_header(bytes: &[u8]) -> ProxyHeader {
    match front::proxy_header(bytes) {
        Ok(Some((client, length))) => ProxyHeader::Whole(client, length),
        Ok(None) => ProxyHeader::Partial,
        Err(_) => ProxyHeader::Malformed,
    }
}

/// The client by `X-Forwarded-For`, asked by a proxy in 127.0.0.0/8, which is trusted
/// as is 10.0.0.0/8; each line is a header.
pub fn forwarded_for(lines: &[u8]) -> IpAddr {
    let values = lines
        .split(|&byte| byte == b'\n')
        .map(|line| str::from_utf8(line).unwrap_or("?"));
    let trusted: Vec<IpNet> = ["127.0.0.0/8", "10.0.0.0/8"]
        .iter()
        .filter_map(|network| network.parse().ok())
        .collect();
    let addresses = Addresses {
        trusted,
        ..Addresses::default()
    };
    front::forwarded_for(values, Ipv4Addr::LOCALHOST.into(), &addresses)
}

/// A value of a query string without its escapes; `None` if they are malformed.
pub fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    front::percent_decoded(text)
}
