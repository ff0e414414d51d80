//! Heads from bytes, strictly.

use bytes::BytesMut;
use http::Method;

use crate::head::{RequestHead, ResponseHead};

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

/// Takes a request's head out of the buffer; `None` if it is not complete. Empty lines
/// before it are skipped (RFC 9112, 2.2).
pub fn request(_buffer: &mut BytesMut, _limits: &Limits) -> Result<Option<RequestHead>, Reject> {
    Err(Reject::RequestLine)
}

/// Takes an answer's head out of the buffer; `None` if it is not complete. How its body
/// is framed depends on the request's method (RFC 9112, 6.3).
pub fn response(
    _buffer: &mut BytesMut,
    _method: &Method,
    _limits: &Limits,
) -> Result<Option<ResponseHead>, Reject> {
    Err(Reject::StatusLine)
}
