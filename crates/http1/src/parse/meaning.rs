//! What the fields of a head say of framing, host and connection.

use std::ops::Range;

use crate::body::Framing;
use crate::fields::{Known, is_name};
use crate::head::Version;
use crate::parse::Reject;

/// Gathered field by field, judged when all are there.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    pub(crate) hosts: usize,
    pub(crate) host: Range<usize>,
    pub(crate) upgrades: usize,
    pub(crate) upgrade: Range<usize>,
    pub(crate) nominates_upgrade: bool,
    pub(crate) expects_continue: bool,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
    has_bad_token: bool,
}

impl Meaning {
    /// One field of a request.
    pub(crate) fn take(
        &mut self,
        known: Known,
        value: &[u8],
        at: Range<usize>,
    ) -> Result<(), Reject> {
        match known {
            Known::Host => {
                self.hosts += 1;
                self.host = at;
            }
            // An offer of cleartext HTTP/2 is passed over, as RFC 9110, 7.8 allows: Java's
            // client makes it with every request, body or not.
            Known::Upgrade if !value.eq_ignore_ascii_case(b"h2c") => {
                self.upgrades += 1;
                self.upgrade = at;
            }
            Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = true;
            }
            Known::Expect => return Err(Reject::Expectation),
            _ => return self.take_answer(known, value, at),
        }
        Ok(())
    }

    /// One field of an answer.
    pub(crate) fn take_answer(
        &mut self,
        known: Known,
        value: &[u8],
        _at: Range<usize>,
    ) -> Result<(), Reject> {
        match known {
            Known::ContentLength => {
                let length = content_length(value).ok_or(Reject::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(Reject::ContentLength);
                }
            }
            Known::TransferEncoding => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Reject::TransferEncoding);
                }
                self.is_chunked = true;
            }
            Known::Connection => {
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.closes |= token.eq_ignore_ascii_case(b"close");
                    self.keeps_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    self.nominates_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                    self.has_bad_token |= !token.is_empty() && !is_name(token);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How the body is framed; `None` if no field says so.
    pub(crate) fn framing(&self, version: Version) -> Result<Option<Framing>, Reject> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(Reject::BothFramings),
            (true, None) if version == Version::Http10 => Err(Reject::TransferEncoding),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, Some(0)) => Ok(Some(Framing::Empty)),
            (false, Some(length)) => Ok(Some(Framing::Length(length))),
            (false, None) => Ok(None),
        }
    }

    /// `Connection` lists nothing but tokens.
    pub(crate) fn check_tokens(&self) -> Result<(), Reject> {
        if self.has_bad_token {
            Err(Reject::Value)
        } else {
            Ok(())
        }
    }

    /// The connection stands after this message, as far as its sender goes.
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        !self.closes && (self.keeps_alive || version != Version::Http10)
    }
}

/// Digits only, below 2^63.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // 19 digits stay below 2^64.
    let length = value
        .iter()
        .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    (length < 1 << 63).then_some(length)
}
