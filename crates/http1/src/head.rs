//! Heads: what stands before a body.

use bytes::Bytes;
use http::Method;

use crate::body::Framing;
use crate::fields::Fields;

/// The version a message came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// Path and query of a request, as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    bytes: Bytes,
    path_end: usize,
}

/// A request's head, checked.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// What is asked.
    pub method: Method,
    /// Of what; origin form, or `*` of an OPTIONS request.
    pub target: Target,
    /// Whom: `Host`, or `:authority`. Empty only for HTTP/1.0.
    pub authority: Bytes,
    /// In which version it came.
    pub version: Version,
    /// All fields; of HTTP/1.1 `host` is among them.
    pub fields: Fields,
    /// How its body is framed.
    pub framing: Framing,
    /// The client lets the connection stand after the answer.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// The client asks for another protocol (`Connection: upgrade` and one `Upgrade`).
    pub upgrade: Option<Bytes>,
}

/// An answer's head, checked.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: u16,
    /// In which version it came.
    pub version: Version,
    /// All fields.
    pub fields: Fields,
    /// How its body is framed, given the request's method.
    pub framing: Framing,
    /// The upstream lets the connection stand.
    pub keep_alive: bool,
}

impl Target {
    /// A target of origin form: `path`, and perhaps `?query`. `None` if it holds
    /// anything but visible ASCII.
    pub fn new(bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() || !bytes.iter().all(|byte| (0x21..=0x7e).contains(byte)) {
            return None;
        }
        let path_end = memchr::memchr(b'?', &bytes).unwrap_or(bytes.len());
        Some(Self { bytes, path_end })
    }

    /// Path and query.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes).unwrap_or("/")
    }

    /// The same as bytes, which is quicker.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The path alone, as it was sent: nothing is decoded.
    pub fn path(&self) -> &str {
        self.as_str().get(..self.path_end).unwrap_or("/")
    }

    /// What stands behind the `?`.
    pub fn query(&self) -> Option<&str> {
        self.as_str().get(self.path_end + 1..)
    }
}
