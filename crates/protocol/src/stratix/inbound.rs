//! A client's text frame: a message, and what the client asks for with it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::id::{self, IdError, MESSAGE_ID_BYTES_MAX};
use super::{Kind, Message};

/// What a client's text frame says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inbound {
    /// The message as the client sent it. `message_id` may be empty; `client_id` is what the
    /// client claims, unchecked, and to be overwritten; `timestamp` is the client's, in its
    /// own unit; `route` is always empty, for the gateway fills it in.
    pub message: Message,
    /// How urgent it is, if it says so.
    pub priority: Option<Priority>,
    /// How far it must get before the client is told, if it says so.
    pub ack: Option<Level>,
    /// Used once with a signature; 1 to 128 bytes without control characters.
    pub nonce: Option<String>,
    /// Which key it is signed with; 1 to 128 bytes without control characters.
    pub key_id: Option<String>,
    /// The signature, in hexadecimal digits; at most 128 bytes.
    pub signature: Option<String>,
    /// W3C `traceparent`; one that is not well-formed is dropped, as its specification asks.
    pub traceparent: Option<String>,
}

/// How urgent a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    Control,
    /// What a person waits for.
    Interactive,
    /// Everything else.
    Bulk,
}

/// How far a message has got, or must get (`contracts`: R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The gateway has it in memory.
    Accepted,
    /// It survives a crash of the gateway.
    Durable,
    /// The agent has acknowledged it.
    Delivered,
}

/// Why a text frame is not a message. Says where, never what: the text may be private.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not UTF-8.
    #[error("message is not valid JSON at byte {at}")]
    NotJson {
        /// Where, in bytes from 1; in the last line, if there are several.
        at: usize,
    },
    /// JSON, but no object.
    #[error("message is not a JSON object")]
    NotObject,
    /// A field stands there twice.
    #[error("message has a field twice, before byte {at}")]
    Repeated {
        /// Where, in bytes from 1; in the last line, if there are several.
        at: usize,
    },
    /// A field does not hold what it should.
    #[error("field `{field}` must be {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is accepted.
        expected: &'static str,
    },
    /// A field is too long, empty or has control characters.
    #[error("field `{field}` {problem}")]
    Text {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: IdError,
    },
}

impl Inbound {
    /// Reads a text frame. Unknown keys are dropped, `null` is like nothing, and `data` that
    /// is no string stands for its JSON text, so that simple clients work.
    ///
    /// The frame's length is bounded by the caller; nothing is allocated beyond it but the
    /// strings that are kept.
    pub fn parse(frame: &[u8]) -> Result<Self, DecodeError> {
        // Checked whole, once: what is skipped is not checked by the parser.
        let frame = std::str::from_utf8(frame).map_err(|error| DecodeError::NotJson {
            at: error.valid_up_to() + 1,
        })?;
        let fields = Fields::read(frame)?;
        let message_id = text("messageId", fields.message_id, MESSAGE_ID_BYTES_MAX)?;
        let content_type = text("contentType", fields.content_type, SHORT_MAX)?;
        Ok(Self {
            message: Message {
                kind: fields.kind()?,
                client_id: string("clientId", fields.client_id)?.unwrap_or_default(),
                message_id: message_id.unwrap_or_default(),
                timestamp: fields.timestamp()?,
                data: fields.data()?,
                route: String::new(),
                content_type: content_type.unwrap_or_default(),
                compressed: fields.compressed()?,
            },
            priority: named("priority", fields.priority, PRIORITIES, Priority::from_name)?,
            ack: named("ack", fields.ack, LEVELS, Level::from_name)?,
            nonce: text("nonce", fields.nonce, SHORT_MAX)?,
            key_id: text("keyId", fields.key_id, SHORT_MAX)?,
            signature: text("signature", fields.signature, SHORT_MAX)?,
            traceparent: string("traceparent", fields.traceparent)?
                .filter(|text| is_traceparent(text)),
        })
    }

    /// When the client says that it sent the message, in milliseconds since the Unix epoch:
    /// the contract's `timestamp` counts nanoseconds, its client library milliseconds, and no
    /// time of this age can be mistaken. This is the time that a signature covers. `None` if
    /// it does not say.
    pub fn timestamp_ms(&self) -> Option<u64> {
        let timestamp = u64::try_from(self.message.timestamp).ok()?;
        match timestamp {
            0 => None,
            NANOSECONDS_FROM.. => Some(timestamp / 1_000_000),
            _ => Some(timestamp),
        }
    }
}

impl Priority {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }

    /// The priority of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Control, Self::Interactive, Self::Bulk]
            .into_iter()
            .find(|priority| priority.name() == name)
    }
}

impl Level {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Durable => "durable",
            Self::Delivered => "delivered",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Accepted, Self::Durable, Self::Delivered]
            .into_iter()
            .find(|level| level.name() == name)
    }
}

/// The values of a message, not read yet, so that whatever is wrong with one can name it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    client_id: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    content_type: Option<&'a RawValue>,
    #[serde(borrow)]
    compressed: Option<&'a RawValue>,
    #[serde(borrow)]
    priority: Option<&'a RawValue>,
    #[serde(borrow)]
    ack: Option<&'a RawValue>,
    #[serde(borrow)]
    nonce: Option<&'a RawValue>,
    #[serde(borrow)]
    key_id: Option<&'a RawValue>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read(frame: &'a str) -> Result<Self, DecodeError> {
        let is_object = frame.trim_start().starts_with('{');
        match serde_json::from_str(frame) {
            // The derived reader would also take an array of the values.
            Ok(fields) if is_object => Ok(fields),
            Err(error) if !error.is_data() => Err(DecodeError::NotJson { at: error.column() }),
            // Nothing else can be wrong with an object: its values are not read yet.
            Err(error) if is_object => Err(DecodeError::Repeated { at: error.column() }),
            Ok(_) | Err(_) => Err(DecodeError::NotObject),
        }
    }

    fn kind(&self) -> Result<Kind, DecodeError> {
        read("type", "0, 1 or 2", self.kind).map(Option::unwrap_or_default)
    }

    /// Any number: scripts make fractions and exponents of theirs. It is a claim anyway.
    fn timestamp(&self) -> Result<i64, DecodeError> {
        let Some(raw) = self.timestamp else {
            return Ok(0);
        };
        if let Ok(whole) = raw.get().parse() {
            return Ok(whole);
        }
        let number = read::<f64>("timestamp", "a number", Some(raw))?;
        Ok(number.unwrap_or_default() as i64)
    }

    fn data(&self) -> Result<String, DecodeError> {
        match self.data {
            Some(raw) if !raw.get().starts_with('"') => Ok(raw.get().to_owned()),
            raw => Ok(string("data", raw)?.unwrap_or_default()),
        }
    }

    fn compressed(&self) -> Result<bool, DecodeError> {
        read("compressed", "true or false", self.compressed).map(Option::unwrap_or_default)
    }
}

/// A short text; empty ones are like none.
fn text(
    field: &'static str,
    raw: Option<&RawValue>,
    max: usize,
) -> Result<Option<String>, DecodeError> {
    match string(field, raw)? {
        Some(text) if !text.is_empty() => match id::check(&text, max) {
            Ok(()) => Ok(Some(text)),
            Err(problem) => Err(DecodeError::Text { field, problem }),
        },
        _ => Ok(None),
    }
}

fn named<T>(
    field: &'static str,
    raw: Option<&RawValue>,
    expected: &'static str,
    from_name: fn(&str) -> Option<T>,
) -> Result<Option<T>, DecodeError> {
    match string(field, raw)? {
        Some(name) => from_name(&name)
            .map(Some)
            .ok_or(DecodeError::Field { field, expected }),
        None => Ok(None),
    }
}

/// A string. One with half a surrogate pair is none: it has no bytes.
fn string(field: &'static str, raw: Option<&RawValue>) -> Result<Option<String>, DecodeError> {
    read(field, "a string of Unicode text", raw)
}

fn read<'a, T: Deserialize<'a>>(
    field: &'static str,
    expected: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<T>, DecodeError> {
    raw.map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map_err(|_| DecodeError::Field { field, expected })
}

/// Whether it has the form `version-trace-parent-flags` in lower-case hexadecimal digits, of
/// a version we know how to read, with ids that are not zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags] = parts[..] else {
        return false;
    };
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(parent, 16)
        && !is_zero(parent)
        && is_hex(flags, 2)
}

const PRIORITIES: &str = "\"control\", \"interactive\" or \"bulk\"";
const LEVELS: &str = "\"accepted\", \"durable\" or \"delivered\"";
/// Most bytes of a nonce, a key's id, a signature and a MIME type.
const SHORT_MAX: usize = 128;
/// Fewer are milliseconds (this many would be the year 33658), others nanoseconds (this many
/// are the twelfth day of 1970).
const NANOSECONDS_FROM: u64 = 1_000_000_000_000_000;

#[cfg(test)]
mod tests;
