//! Heads from bytes, strictly.
//!
//! One pass finds the end of the head and refuses bare line feeds on the way; the next
//! takes up the fields where they lie and gathers what speaks of framing, host and
//! connection; what they say together is judged last.

mod authority;
mod http2;
mod meaning;

use bytes::{Buf, Bytes, BytesMut};
use http::Method;

use crate::body::Framing;
use crate::fields::is_name;
use crate::head::{RequestHead, ResponseHead, Target, Version};
use crate::section::{self, Underscores};
use authority::Authority;
pub use http2::http2_request;
use meaning::Meaning;

/// What a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, its empty line included.
    pub head: usize,
    /// Fields of a head.
    pub fields: usize,
    /// Bytes of the request line's target.
    pub target: usize,
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Reject {
    #[error("request line is malformed")]
    RequestLine,
    #[error("status line is malformed")]
    StatusLine,
    #[error("version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    #[error("target is too long")]
    TargetTooLong,
    #[error("target is malformed")]
    Target,
    #[error("head is too large")]
    TooLarge,
    #[error("too many fields")]
    TooManyFields,
    #[error("line ends without carriage return")]
    BareLineFeed,
    #[error("field is folded over lines")]
    Folded,
    #[error("field name is malformed")]
    Name,
    #[error("field value is malformed")]
    Value,
    #[error("host is missing, doubled or malformed")]
    Host,
    #[error("host differs from the target's authority")]
    HostMismatch,
    #[error("content-length is malformed or doubled")]
    ContentLength,
    #[error("transfer-encoding is not exactly chunked")]
    TransferEncoding,
    #[error("content-length and transfer-encoding stand together")]
    BothFramings,
    #[error("upgrade request with a body")]
    UpgradeWithBody,
    #[error("expectation is not 100-continue")]
    Expectation,
    #[error("method connect is not served")]
    Connect,
}

impl Reject {
    /// The status that answers a request refused for this.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::TooLarge | Self::TooManyFields => 431,
            Self::Connect => 501,
            Self::Version => 505,
            Self::RequestLine
            | Self::StatusLine
            | Self::Target
            | Self::BareLineFeed
            | Self::Folded
            | Self::Name
            | Self::Value
            | Self::Host
            | Self::HostMismatch
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::BothFramings
            | Self::UpgradeWithBody => 400,
        }
    }
}

/// Takes a request's head out of the buffer; `None` if it is not complete. At most two
/// empty lines before it are skipped (RFC 9112, 2.2); they stay in the buffer until the
/// head is complete.
///
/// # Errors
///
/// The first rule that the head breaks. A head that is not complete is refused as soon as
/// it has a bare line feed or can't keep within the limits. The buffer is of no use then.
pub fn request(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<RequestHead>, Reject> {
    let Some(start) = after_empty_lines(buffer)? else {
        return Ok(None);
    };
    let longest_line = limits.target.saturating_add(LONGEST_METHOD + AROUND_TARGET);
    let end = section::end(buffer, start, limits.head);
    let Ok(Some(end)) = end else {
        let line = buffer.get(start..).unwrap_or_default();
        let too_long = longest_line.saturating_add(1).min(limits.head);
        let line = line.get(..too_long).unwrap_or(line);
        if line.len() == too_long && memchr::memchr(b'\n', line).is_none() {
            return Err(Reject::TargetTooLong);
        }
        return end.map(|_| None);
    };
    buffer.advance(start);
    let block = buffer.split_to(end - start).freeze();

    let line_end = section::line_end(&block, 0);
    let (method, target, version) = request_line(&block, line_end, limits)?;
    let mut meaning = Meaning::default();
    let fields = section::fields(
        &block,
        line_end + 2,
        limits.fields,
        Underscores::Refused,
        |known, value, at| meaning.take(known, value, at),
    )?;

    let framing = meaning.framing(version)?.unwrap_or(Framing::Empty);
    meaning.check_tokens()?;
    let host = match (meaning.hosts, version) {
        (0, Version::Http10) => None,
        (1, _) => {
            let bytes = block.slice(meaning.host.clone());
            Some((Authority::parse(&bytes).ok_or(Reject::Host)?, bytes.clone()))
        }
        _ => return Err(Reject::Host),
    };
    let (target, authority) = effective(target, &method, host)?;
    let has_body = framing != Framing::Empty;
    if meaning.upgrades > 0 && has_body {
        return Err(Reject::UpgradeWithBody);
    }
    Ok(Some(RequestHead {
        keep_alive: meaning.keep_alive(version),
        expects_continue: meaning.expects_continue && has_body && version == Version::Http11,
        upgrade: (meaning.upgrades == 1 && meaning.nominates_upgrade && version == Version::Http11)
            .then(|| block.slice(meaning.upgrade)),
        method,
        target,
        authority,
        version,
        fields,
        framing,
    }))
}

/// Takes an answer's head out of the buffer; `None` if it is not complete. How its body
/// is framed depends on the request's method (RFC 9112, 6.3).
///
/// An answer that ends with its connection, or that can't have a body and announces one
/// all the same, is never `keep_alive`.
///
/// # Errors
///
/// As for [`request`].
pub fn response(
    buffer: &mut BytesMut,
    method: &Method,
    limits: &Limits,
) -> Result<Option<ResponseHead>, Reject> {
    let Some(end) = section::end(buffer, 0, limits.head)? else {
        return Ok(None);
    };
    let block = buffer.split_to(end).freeze();
    let line_end = section::line_end(&block, 0);
    let (version, status) = status_line(block.get(..line_end).unwrap_or_default())?;
    let mut meaning = Meaning::default();
    let fields = section::fields(
        &block,
        line_end + 2,
        limits.fields,
        Underscores::Allowed,
        |known, value, at| meaning.take_answer(known, value, at),
    )?;

    let announced = meaning.framing(version)?;
    let never_has_body = matches!(status, 100..=199 | 204);
    let framing = if never_has_body || status == 304 || *method == Method::HEAD {
        Framing::Empty
    } else {
        announced.unwrap_or(Framing::UntilClose)
    };
    // Bytes of a body that should not be would be read as the next answer.
    let is_doubtful = never_has_body && !matches!(announced, None | Some(Framing::Empty));
    Ok(Some(ResponseHead {
        keep_alive: meaning.keep_alive(version) && framing != Framing::UntilClose && !is_doubtful,
        status,
        version,
        fields,
        framing,
    }))
}

/// Where a head starts behind the empty lines before it; `None` if that can't be told yet.
fn after_empty_lines(buffer: &[u8]) -> Result<Option<usize>, Reject> {
    let mut start = 0;
    loop {
        match buffer.get(start..).unwrap_or_default() {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if start < 2 * EMPTY_LINES => start += 2,
            [b'\r', ..] => return Err(Reject::RequestLine),
            _ => return Ok(Some(start)),
        }
    }
}

/// `method SP target SP version`, with exactly one space each.
fn request_line(
    block: &Bytes,
    end: usize,
    limits: &Limits,
) -> Result<(Method, Bytes, Version), Reject> {
    let line = block.get(..end).unwrap_or_default();
    let first = memchr::memchr(b' ', line).ok_or(Reject::RequestLine)?;
    let last = memchr::memrchr(b' ', line).ok_or(Reject::RequestLine)?;
    let (name, version) = (line.get(..first), line.get(last + 1..));
    let (Some(name), Some(version), true) = (name, version, first + 1 < last) else {
        return Err(Reject::RequestLine);
    };
    if first > LONGEST_METHOD || !is_name(name) {
        return Err(Reject::RequestLine);
    }
    let method = Method::from_bytes(name).map_err(|_| Reject::RequestLine)?;
    let target = block.slice(first + 1..last);
    if memchr::memchr(b' ', &target).is_some() {
        return Err(Reject::RequestLine);
    }
    let version = parse_version(version).ok_or(Reject::RequestLine)??;
    if target.len() > limits.target {
        return Err(Reject::TargetTooLong);
    }
    Ok((method, target, version))
}

/// `version SP status [SP reason]`; the reason is ignored.
fn status_line(line: &[u8]) -> Result<(Version, u16), Reject> {
    let space = memchr::memchr(b' ', line).ok_or(Reject::StatusLine)?;
    let (version, rest) = line.split_at(space);
    let version = parse_version(version).ok_or(Reject::StatusLine)??;
    let status = match rest {
        [b' ', digits @ ..] => match digits {
            [a, b, c] => [a, b, c],
            [a, b, c, b' ', reason @ ..] if crate::fields::is_value(reason) => [a, b, c],
            _ => return Err(Reject::StatusLine),
        },
        _ => return Err(Reject::StatusLine),
    };
    if !status.iter().all(|digit| digit.is_ascii_digit()) {
        return Err(Reject::StatusLine);
    }
    let status = status
        .iter()
        .fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
    if !(100..=599).contains(&status) {
        return Err(Reject::StatusLine);
    }
    Ok((version, status))
}

/// `None` if it does not read like a version at all.
fn parse_version(bytes: &[u8]) -> Option<Result<Version, Reject>> {
    match bytes {
        b"HTTP/1.1" => Some(Ok(Version::Http11)),
        b"HTTP/1.0" => Some(Ok(Version::Http10)),
        [b'H', b'T', b'T', b'P', b'/', number @ ..] => match number {
            [major] if major.is_ascii_digit() => Some(Err(Reject::Version)),
            [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                Some(Err(Reject::Version))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Path and query, and whom they are for.
fn effective(
    target: Bytes,
    method: &Method,
    host: Option<(Authority, Bytes)>,
) -> Result<(Target, Bytes), Reject> {
    if *method == Method::CONNECT {
        return Err(Reject::Connect);
    }
    if memchr::memchr(b'#', &target).is_some() {
        return Err(Reject::Target);
    }
    let target = match &*target {
        [b'/', ..] => target,
        b"*" if *method == Method::OPTIONS => target,
        _ => return absolute(&target, host),
    };
    let target = Target::new(target).ok_or(Reject::Target)?;
    Ok((target, host.map(|(_, bytes)| bytes).unwrap_or_default()))
}

/// A target with scheme and authority; they must say what `Host` says.
fn absolute(target: &Bytes, host: Option<(Authority, Bytes)>) -> Result<(Target, Bytes), Reject> {
    let (prefix, default_port) = [(&b"http://"[..], 80), (b"https://", 443)]
        .into_iter()
        .find(|(prefix, _)| {
            target
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
        .ok_or(Reject::Target)?;
    let rest = target.slice(prefix.len()..);
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let named = rest.slice(..end);
    let authority = Authority::parse(&named).ok_or(Reject::Target)?;
    let path = rest.slice(end..);
    let path = if path.first() == Some(&b'/') {
        path
    } else {
        // Without a path it is the root's; only then is there anything to copy.
        Bytes::from([b"/", &*path].concat())
    };
    let path = Target::new(path).ok_or(Reject::Target)?;
    match host {
        Some((host, _)) if !host.is_same(&authority, default_port) => Err(Reject::HostMismatch),
        Some((_, bytes)) => Ok((path, bytes)),
        None => Ok((path, named)),
    }
}

/// Empty lines skipped before a request.
const EMPTY_LINES: usize = 2;
/// Bytes of a method; the registered ones have at most 17.
const LONGEST_METHOD: usize = 32;
/// Bytes of a request line that are neither method nor target: two spaces, the version, CR.
const AROUND_TARGET: usize = 11;

#[cfg(test)]
mod tests;
