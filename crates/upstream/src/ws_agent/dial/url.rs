//! The URL of an agent, taken apart.

use std::borrow::Cow;

/// What a URL of the form `ws://host:port/path?query` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentUrl<'a> {
    /// It is `wss`.
    pub tls: bool,
    /// Name or address; an IPv6 address without its brackets.
    pub host: &'a str,
    /// The one given, or 80 for `ws` and 443 for `wss`.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub target: Cow<'a, str>,
}

/// Why a text is no URL of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not begin with `ws://` or `wss://`.
    #[error("url of the agent does not begin with ws:// or wss://")]
    Scheme,
    /// There is a user or password in it.
    #[error("url of the agent has a user or password; set `auth` instead")]
    User,
    /// The host is missing or malformed.
    #[error("url of the agent has no valid host")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("port in the url of the agent is not a number from 1 to 65535")]
    Port,
    /// There is a space, a control character, a fragment or a byte outside ASCII in it.
    #[error("url of the agent has spaces, a fragment, control or other forbidden characters")]
    Character,
    /// It has more than [`AgentUrl::LEN_MAX`] bytes.
    #[error("url of the agent has more than 2048 bytes")]
    Length,
}

impl<'a> AgentUrl<'a> {
    /// The longest URL in bytes.
    pub const LEN_MAX: usize = 2048;

    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// It is none that an agent can be reached at.
    pub fn parse(url: &'a str) -> Result<Self, UrlError> {
        if url.len() > Self::LEN_MAX {
            return Err(UrlError::Length);
        }
        if !url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        {
            return Err(UrlError::Character);
        }
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = if scheme.eq_ignore_ascii_case("wss") {
            true
        } else if scheme.eq_ignore_ascii_case("ws") {
            false
        } else {
            return Err(UrlError::Scheme);
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::User);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => default_port(tls),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or(UrlError::Port)?,
            Some(_) => return Err(UrlError::Port),
        };
        let target = if target.starts_with('/') {
            Cow::Borrowed(target)
        } else {
            Cow::Owned(format!("/{target}"))
        };
        Ok(Self {
            tls,
            host,
            port,
            target,
        })
    }

    /// What belongs into the `Host` header.
    pub(super) fn host_header(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.to_owned()
        };
        if self.port == default_port(self.tls) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Host without brackets, and the digits behind the colon.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or(UrlError::Host)?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(UrlError::Host);
        }
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((address, Some(digits))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(UrlError::Host),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, digits)) => (host, Some(digits)),
        None => (authority, None),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err(UrlError::Host);
    }
    Ok((host, port))
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = AgentUrl::parse("ws://target-gateway:8080/ws").unwrap();
        assert_eq!(
            (url.tls, url.host, url.port),
            (false, "target-gateway", 8080)
        );
        assert_eq!(url.target, "/ws");
        assert_eq!(url.host_header(), "target-gateway:8080");

        let url = AgentUrl::parse("WSS://agent.example.com?token=1").unwrap();
        assert_eq!((url.tls, url.port), (true, 443));
        assert_eq!(url.target, "/?token=1");
        assert_eq!(url.host_header(), "agent.example.com");

        let url = AgentUrl::parse("ws://[::1]:18789").unwrap();
        assert_eq!((url.host, url.port), ("::1", 18789));
        assert_eq!(url.target, "/");
        assert_eq!(url.host_header(), "[::1]:18789");
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        let refused = |url| AgentUrl::parse(url).unwrap_err();
        assert_eq!(refused("http://a/"), UrlError::Scheme);
        assert_eq!(refused("a:80"), UrlError::Scheme);
        assert_eq!(refused("ws://u:p@a/"), UrlError::User);
        assert_eq!(refused("ws:///x"), UrlError::Host);
        assert_eq!(refused("ws://[::1"), UrlError::Host);
        assert_eq!(refused("ws://[::1]x"), UrlError::Host);
        assert_eq!(refused("ws://a:0/"), UrlError::Port);
        assert_eq!(refused("ws://a:65536/"), UrlError::Port);
        assert_eq!(refused("ws://a:+80/"), UrlError::Port);
        assert_eq!(refused("ws://a/b c"), UrlError::Character);
        assert_eq!(refused("ws://a/\r\nX: y"), UrlError::Character);
        assert_eq!(refused("ws://a/#x"), UrlError::Character);
        assert_eq!(
            refused(&format!("ws://{}/", "a".repeat(2048))),
            UrlError::Length
        );
    }
}
