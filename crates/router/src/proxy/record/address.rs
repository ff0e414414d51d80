//! The URL of an upstream, in parts.

use std::net::{Ipv4Addr, Ipv6Addr};

use upstream::http_service::Scheme;

/// The URL of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Address {
    pub(in super::super) scheme: Scheme,
    /// Calls of gRPC go there, and nothing else.
    pub(in super::super) is_grpc: bool,
    /// In lower case, without brackets.
    pub(in super::super) host: String,
    pub(in super::super) port: u16,
    /// What `Host` says.
    pub(in super::super) authority: String,
    /// With a slash in front and none at the end; or empty.
    pub(in super::super) base_path: String,
}

impl Address {
    /// Takes a URL apart; the error says what is wrong and never quotes it, since it may hold a
    /// password.
    pub(in super::super) fn parse(url: &str) -> Result<Self, &'static str> {
        if url.len() > URL_BYTES_MAX {
            return Err("must be at most 2048 bytes long");
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be ASCII without spaces; encode other characters");
        }
        let (scheme, rest) = url.split_once("://").ok_or(NO_SCHEME)?;
        let (scheme, own_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
            "grpc" => (Scheme::Http, None),
            "grpcs" => (Scheme::Https, None),
            "quantum" => (Scheme::Quantum, None),
            _ => return Err(NO_SCHEME),
        };
        let is_grpc = own_port.is_none();
        if rest.contains('#') {
            return Err("must not have a fragment (#…)");
        }
        if rest.contains('?') {
            return Err("must not have a query (?…); the request's own is passed on");
        }
        if rest.contains('\\') {
            return Err("must not have a backslash");
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err("must not have user or password; there are headers for them");
        }
        let (host, port) = host_and_port(authority)?;
        let port = port
            .or(own_port)
            .ok_or("needs a port: gRPC has none of its own")?;
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let authority = if Some(port) == own_port {
            shown
        } else {
            format!("{shown}:{port}")
        };
        if is_grpc && !path.trim_end_matches('/').is_empty() {
            return Err("must end after the port: calls have their own path");
        }
        Ok(Self {
            scheme,
            is_grpc,
            host,
            port,
            authority,
            base_path: base_path(path)?,
        })
    }

    /// The URL again, in the one form it has.
    pub(in super::super) fn url(&self) -> String {
        let scheme = scheme_name(self.scheme, self.is_grpc);
        format!("{scheme}://{}{}", self.authority, self.base_path)
    }
}

/// How the scheme of an upstream is written.
pub(in super::super) fn scheme_name(scheme: Scheme, is_grpc: bool) -> &'static str {
    match (scheme, is_grpc) {
        (Scheme::Http, false) => "http",
        (Scheme::Https, false) => "https",
        (Scheme::Http, true) => "grpc",
        (Scheme::Https, true) => "grpcs",
        (Scheme::Quantum, _) => "quantum",
    }
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or("has [ without ] around its address")?;
        let address: Ipv6Addr = host
            .parse()
            .map_err(|_| "has no IPv6 address between [ and ]")?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err("has something between ] and the path; expected :port"),
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        (name_or_ipv4(host)?, port)
    };
    let port = match port {
        None => None,
        Some(port) => {
            let is_plain = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let number = port
                .parse::<u16>()
                .ok()
                .filter(|number| is_plain && *number > 0);
            Some(number.ok_or("has a port that is not a number from 1 to 65535")?)
        }
    };
    Ok((host, port))
}

fn name_or_ipv4(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("has no host");
    }
    let host = host.to_ascii_lowercase();
    let labels = host.strip_suffix('.').unwrap_or(&host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if host.len() > 253 || !labels.split('.').all(is_label) {
        return Err("has a host that is neither a name nor an address");
    }
    // `127.1`, `0x7f.0.0.1` and `2130706433` are addresses to some resolvers: only the usual
    // form is taken, so that what is read here is what is connected to.
    let last = labels.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|it| it.is_ascii_hexdigit()));
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err("has a host that is neither a name nor an IPv4 address with four numbers");
    }
    Ok(host)
}

fn base_path(path: &str) -> Result<String, &'static str> {
    let path = path.trim_end_matches('/');
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if !path.bytes().all(is_fine) {
        return Err("has a path with characters that must be encoded");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("has a path with a segment . or ..");
    }
    Ok(path.to_owned())
}

const NO_SCHEME: &str = "must begin with http://, https://, grpc://, grpcs:// or quantum://";
const URL_BYTES_MAX: usize = 2_048;
