//! Whose connection it is: PROXY protocol and X-Forwarded-For, from trusted networks
//! only.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use ppp::{PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::live::Addresses;

/// Most bytes of a PROXY header of version 2, which is bounded here.
const PROXY_HEADER_MAX: usize = 536;

/// Most bytes of a PROXY header of version 1, its line end included (2.1).
const V1_HEADER_MAX: usize = 107;

/// Why a PROXY header was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("peer is not in a trusted network")]
    Untrusted,
    #[error("proxy header is malformed or longer than {PROXY_HEADER_MAX} bytes")]
    Malformed,
    #[error("proxy header could not be read")]
    Io(#[from] std::io::Error),
}

/// Reads the PROXY header (version 1 or 2) that must be there; returns the client's
/// address (the proxy's own for health checks) and what came after the header.
pub(crate) async fn read_proxy_header(
    tcp: &mut TcpStream,
    peer: IpAddr,
    addresses: &Addresses,
) -> Result<(IpAddr, Bytes), ProxyError> {
    if !addresses.trusts(peer) {
        return Err(ProxyError::Untrusted);
    }
    let mut received = Vec::with_capacity(PROXY_HEADER_MAX);
    loop {
        let mut part = [0; PROXY_HEADER_MAX];
        let room = PROXY_HEADER_MAX - received.len();
        let count = tcp.read(part.get_mut(..room).unwrap_or_default()).await?;
        if count == 0 {
            return Err(ProxyError::Malformed);
        }
        received.extend_from_slice(part.get(..count).unwrap_or_default());
        if let Some((client, length)) = proxy_header(&received)? {
            let rest = Bytes::copy_from_slice(received.get(length..).unwrap_or_default());
            return Ok((client.unwrap_or(peer), rest));
        }
    }
}

/// The client's address, if the header names one, and the header's length; `None` if
/// there is more to come.
///
/// A header may arrive in any number of parts. Of version 2 the parser knows when it
/// has all; of version 1 it takes a part cut in the wrong place for a broken whole, so
/// it is shown nothing before the line has ended.
pub(crate) fn proxy_header(received: &[u8]) -> Result<Option<(Option<IpAddr>, usize)>, ProxyError> {
    if received.is_empty() {
        return Ok(None);
    }
    let found = if is_start_of(received, v2::PROTOCOL_PREFIX) {
        let header = v2::Header::try_from(received);
        if header.is_incomplete() && received.len() < PROXY_HEADER_MAX {
            return Ok(None);
        }
        header
            .map(|header| (client_v2(header.command, &header.addresses), header.len()))
            .ok()
    } else if is_start_of(received, v1::PROTOCOL_PREFIX.as_bytes()) {
        let part = received.get(..V1_HEADER_MAX).unwrap_or(received);
        let end = v1::PROTOCOL_SUFFIX.as_bytes();
        let line = part.windows(end.len()).position(|two| two == end);
        let Some(line) = line.and_then(|at| part.get(..at + end.len())) else {
            let is_too_long = part.len() == V1_HEADER_MAX;
            return if is_too_long {
                Err(ProxyError::Malformed)
            } else {
                Ok(None)
            };
        };
        v1::Header::try_from(line)
            .map(|header| (client_v1(&header.addresses), line.len()))
            .ok()
    } else {
        None
    };
    found.map(Some).ok_or(ProxyError::Malformed)
}

/// Whether one begins with the other, whichever is shorter.
fn is_start_of(received: &[u8], prefix: &[u8]) -> bool {
    received.starts_with(prefix) || prefix.starts_with(received)
}

fn client_v1(addresses: &v1::Addresses) -> Option<IpAddr> {
    match addresses {
        v1::Addresses::Tcp4(tcp) => Some(tcp.source_address.into()),
        v1::Addresses::Tcp6(tcp) => Some(tcp.source_address.into()),
        v1::Addresses::Unknown => None,
    }
}

fn client_v2(command: v2::Command, addresses: &v2::Addresses) -> Option<IpAddr> {
    match (command, addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ipv4)) => Some(ipv4.source_address.into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(ipv6)) => Some(ipv6.source_address.into()),
        _ => None,
    }
}

/// The client's address by `X-Forwarded-For`: the rightmost that no trusted proxy
/// added itself. Anything unreadable ends the search, since what is left of it is not
/// vouched for.
pub(crate) fn forwarded_for<'a>(
    values: impl Iterator<Item = &'a str>,
    peer: IpAddr,
    addresses: &Addresses,
) -> IpAddr {
    if !addresses.trusts(peer) {
        return peer;
    }
    let mut client = peer;
    let mut hops: Vec<&str> = Vec::new();
    for value in values {
        hops.extend(value.split(',').map(str::trim));
    }
    for hop in hops.into_iter().rev() {
        let Some(address) = parse_hop(hop) else { break };
        client = address;
        if !addresses.trusts(address) {
            break;
        }
    }
    client
}

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    bare.parse()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            ..Addresses::default()
        }
    }

    #[track_caller]
    fn client(peer: &str, forwarded: &[&str]) -> String {
        let values = forwarded.iter().copied();
        forwarded_for(values, peer.parse().unwrap(), &addresses()).to_string()
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        assert_eq!(client("10.0.0.1", &["1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
    }

    #[test]
    fn a_proxy_header_may_come_in_parts() {
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n";
        for cut in 0..header.len() {
            assert!(
                matches!(proxy_header(&header[..cut]), Ok(None)),
                "cut at {cut}"
            );
        }
        let found = proxy_header(header).unwrap().unwrap();
        assert_eq!(found, (Some("192.0.2.1".parse().unwrap()), header.len()));
        assert!(proxy_header(b"GET / HTTP/1.1\r\n").is_err());
        assert!(proxy_header(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()).is_err());
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(client("9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &["1.2.3.4, nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
