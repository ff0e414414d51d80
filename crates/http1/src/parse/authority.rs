//! Host and port.

use std::net::Ipv6Addr;

use bytes::Bytes;

/// A host and perhaps a port, checked.
#[derive(Debug)]
pub(crate) struct Authority {
    host: Bytes,
    port: Option<u16>,
}

impl Authority {
    /// A name, an IPv4 address or an IPv6 address in brackets, then perhaps `:` and a
    /// port from 1 to 65535. Escapes, user names and empty ports are refused, though
    /// RFC 3986 has them: servers read them in different ways.
    pub(crate) fn parse(bytes: &Bytes) -> Option<Self> {
        let host_end = match bytes.first()? {
            b'[' => {
                let end = memchr::memchr(b']', bytes)?;
                let address = str::from_utf8(bytes.get(1..end)?).ok()?;
                address.parse::<Ipv6Addr>().ok()?;
                end + 1
            }
            _ => {
                let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
                let name = bytes.get(..end)?;
                let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
                if name.is_empty() || name.len() > LONGEST_NAME || !name.iter().all(is_fine) {
                    return None;
                }
                end
            }
        };
        let port = match bytes.get(host_end..)? {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Self {
            host: bytes.slice(..host_end),
            port,
        })
    }

    /// They name the same, given the port that a scheme has by itself.
    pub(crate) fn is_same(&self, other: &Self, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = digits
        .iter()
        .fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    u16::try_from(port).ok().filter(|port| *port > 0)
}

/// Bytes of a name, as in DNS, with a final dot.
const LONGEST_NAME: usize = 254;
