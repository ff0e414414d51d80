//! The address of an endpoint, as it is configured.

use std::fmt;

/// One endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// How it is spoken to.
    pub transport: Transport,
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `grpc://`: HTTP/2 over TCP in clear.
    Tcp,
    /// `grpcs://`: HTTP/2 over TLS.
    Tls,
    /// `quantum://`: a stream per call over Quantum (UDP), always sealed.
    Quantum,
}

/// Who is trusted and what is shown, in PEM. Printing it shows no key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that are trusted instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// Our certificate with its chain, and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that is asked for and checked, if it is not the host.
    pub server_name: Option<String>,
}

impl Target {
    /// Reads `grpc://host:port`, `grpcs://host:port` or `quantum://host:port`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as the end of a sentence that begins with its name.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let transport = match scheme {
            "grpc" => Transport::Tcp,
            "grpcs" => Transport::Tls,
            "quantum" => Transport::Quantum,
            _ => return Err(EXPECTED),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err("must not have user or password in it");
        }
        if rest.contains(['/', '?', '#']) {
            return Err("must end after the port: calls have their own path");
        }
        let (host, port) = rest.rsplit_once(':').ok_or(NO_PORT)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner
                .strip_suffix(']')
                .filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
                .ok_or("has no IPv6 address between [ and ]")?,
            None if host.contains(':') => return Err("needs [ and ] around an IPv6 address"),
            None => host,
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(is_plain) {
            return Err("has a host that is neither a name nor an address");
        }
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(NO_PORT)?;
        Ok(Self {
            transport,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Host and port, as a URL has them.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Tcp => "grpc",
            Transport::Tls => "grpcs",
            Transport::Quantum => "quantum",
        };
        write!(formatter, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

const EXPECTED: &str = "is no address of a service; expected grpc://host:port, grpcs://host:port or quantum://host:port";
const NO_PORT: &str = "needs a port from 1 to 65535 at its end";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_are_read_and_written_alike() {
        for url in ["grpc://a:1", "grpcs://b.c:65535", "quantum://[::1]:9090"] {
            assert_eq!(Target::parse(url).unwrap().to_string(), url);
        }
        assert_eq!(Target::parse("grpc://A:1/").unwrap().host, "a");
    }

    #[test]
    fn what_is_no_address_of_a_service_is_refused() {
        for url in [
            "",
            "a:1",
            "http://a:1",
            "grpc://",
            "grpc://a",
            "grpc://a:0",
            "grpc://a:65536",
            "grpc://:1",
            "grpc://a:1/x",
            "grpc://u:p@a:1",
            "quantum://::1:1",
            "quantum://[a]:1",
            "grpc://a b:1",
            "grpc://a:1?x",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
