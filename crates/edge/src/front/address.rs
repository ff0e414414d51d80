//! Whose connection it is: PROXY protocol and X-Forwarded-For, from trusted networks
//! only.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::HeaderMap;
use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::live::Addresses;

/// Most bytes of a PROXY header: version 1 has at most 107, version 2 is bounded here.
const PROXY_HEADER_MAX: usize = 536;

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
        let header = HeaderResult::parse(&received);
        if !header.is_complete() {
            if received.len() >= PROXY_HEADER_MAX {
                return Err(ProxyError::Malformed);
            }
            continue;
        }
        let (client, length) = match header {
            HeaderResult::V1(Ok(header)) => (client_v1(&header.addresses), header.header.len()),
            HeaderResult::V2(Ok(header)) => {
                (client_v2(header.command, &header.addresses), header.len())
            }
            HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
                return Err(ProxyError::Malformed);
            }
        };
        let rest = Bytes::copy_from_slice(received.get(length..).unwrap_or_default());
        return Ok((client.unwrap_or(peer), rest));
    }
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
pub(crate) fn forwarded_for(headers: &HeaderMap, peer: IpAddr, addresses: &Addresses) -> IpAddr {
    if !addresses.trusts(peer) {
        return peer;
    }
    let mut client = peer;
    let values = headers.get_all("x-forwarded-for");
    let mut hops: Vec<&str> = Vec::new();
    for value in values {
        hops.extend(value.to_str().unwrap_or("?").split(',').map(str::trim));
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
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        forwarded_for(&headers, peer.parse().unwrap(), &addresses()).to_string()
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        assert_eq!(client("10.0.0.1", &["1.2.3.4, 10.0.0.2"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:443"]), "2001:db8::1");
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(client("9.9.9.9", &["1.2.3.4"]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &["1.2.3.4, nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
