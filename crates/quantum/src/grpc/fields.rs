//! Blocks of header fields, small enough that a call of 1,000 bytes fits into one packet.
//!
//! A block is a sequence of fields until its end. There is no compression across blocks: that
//! would make one call wait for the packets of another. A field begins with one byte:
//!
//! | first byte | field |
//! |---|---|
//! | `0x80 + i` | name and value are entry *i* of [`PAIRS`] |
//! | `0x40 + i` | the name is entry *i* of [`NAMES`]; a value follows |
//! | `0x30` | `x-guuid`: 16 bytes follow, the value is their UUID form in lower case |
//! | `0x31` | `traceparent`: 25 bytes follow, trace id, parent id and flags; the value is `00-…-…-…` |
//! | `0x00` | a name and a value follow |
//!
//! A name is `length u8` and bytes, in lower case. A value is a length and bytes; the length is
//! one byte below 128, else two: `0x80 | length / 256`, `length % 256`. Other first bytes are
//! errors. Whoever writes may use any form; whoever reads must know all. Entries are added at the
//! end of the tables only, with a new version of the protocol.
//!
//! Limits: [`BYTES_MAX`] bytes and [`FIELDS_MAX`] fields per block. A value has visible ASCII,
//! spaces, tabs or bytes from 0x80 on.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};

/// Bytes of a block at most.
pub const BYTES_MAX: usize = 16 << 10;
/// Fields of a block at most.
pub const FIELDS_MAX: usize = 128;

/// Fields that are one byte.
pub const PAIRS: [(&str, &str); 12] = [
    ("content-type", "application/grpc"),
    ("grpc-status", "0"),
    ("content-type", "application/grpc+proto"),
    ("grpc-encoding", "gzip"),
    ("grpc-encoding", "zstd"),
    ("grpc-encoding", "deflate"),
    ("grpc-accept-encoding", "gzip"),
    ("grpc-accept-encoding", "gzip,deflate,zstd"),
    ("grpc-status", "1"),
    ("grpc-status", "4"),
    ("grpc-status", "5"),
    ("grpc-status", "14"),
];

/// Names that are one byte.
pub const NAMES: [&str; 24] = [
    ":path",
    ":authority",
    ":status",
    "grpc-timeout",
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "grpc-encoding",
    "grpc-accept-encoding",
    "content-type",
    "user-agent",
    "x-guuid",
    "traceparent",
    "tracestate",
    "authorization",
    "x-request-id",
    "date",
    "content-length",
    "baggage",
    "grpc-trace-bin",
    "grpc-tags-bin",
    "retry-after",
    "x-user-id",
    "x-session-id",
];

const PAIR: u8 = 0x80;
const NAME: u8 = 0x40;
const GUUID: u8 = 0x30;
const TRACE: u8 = 0x31;
const LITERAL: u8 = 0x00;
const NAME_MAX: usize = 0xff;
const VALUE_MAX: usize = 0x7fff;
/// What remains for names and values when each field needs four bytes beside them at most.
const ROOM: usize = BYTES_MAX - 4;

/// Why a block cannot be read, or not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// It ends in the midst of a field.
    #[error("field block ends within a field that begins at byte {at}")]
    Short {
        /// Where the field begins.
        at: usize,
    },
    /// A first byte or an entry that does not exist.
    #[error("field that begins at byte {at} has the unknown form {form:#04x}")]
    Form {
        /// Where the field begins.
        at: usize,
        /// Its first byte.
        form: u8,
    },
    /// A name with other bytes than names have.
    #[error("name of the field at byte {at} is not a lower-case field name")]
    Name {
        /// Where the field begins.
        at: usize,
    },
    /// A value with control characters.
    #[error("value of the field at byte {at} has control characters")]
    Value {
        /// Where the field begins.
        at: usize,
    },
    /// More than [`FIELDS_MAX`].
    #[error("field block has more than {FIELDS_MAX} fields")]
    Many,
    /// More than [`BYTES_MAX`].
    #[error("field block has more than {BYTES_MAX} bytes")]
    Large,
}

/// One field as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Its name begins with a colon: the name without it, and the value.
    Pseudo(&'static str, HeaderValue),
    /// Any other.
    Plain(HeaderName, HeaderValue),
}

/// Appends a field to a block that begins with `out`.
///
/// # Errors
/// The block would be larger than allowed; nothing was appended.
pub fn write(out: &mut BytesMut, name: &str, value: &[u8]) -> Result<(), FieldsError> {
    let (name_len, value_len) = (name.len(), value.len());
    if name_len > NAME_MAX || value_len > VALUE_MAX || out.len() + name_len + value_len > ROOM {
        return Err(FieldsError::Large);
    }
    put(out, name, value);
    Ok(())
}

fn put(out: &mut BytesMut, name: &str, value: &[u8]) {
    let is_pair = |pair: &(&str, &str)| pair.0 == name && pair.1.as_bytes() == value;
    if let Some(entry) = PAIRS.iter().position(is_pair) {
        out.put_u8(PAIR | entry as u8);
        return;
    }
    match name {
        "x-guuid" => {
            if let Some(bytes) = guuid_bytes(value) {
                out.put_u8(GUUID);
                out.put_slice(&bytes);
                return;
            }
        }
        "traceparent" => {
            if let Some(bytes) = trace_bytes(value) {
                out.put_u8(TRACE);
                out.put_slice(&bytes);
                return;
            }
        }
        _ => {}
    }
    if let Some(entry) = NAMES.iter().position(|known| *known == name) {
        out.put_u8(NAME | entry as u8);
    } else {
        out.put_u8(LITERAL);
        out.put_u8(name.len() as u8);
        out.put_slice(name.as_bytes());
    }
    if value.len() < 0x80 {
        out.put_u8(value.len() as u8);
    } else {
        out.put_u16(0x8000 | value.len() as u16);
    }
    out.put_slice(value);
}

/// Reads a whole block.
///
/// # Errors
/// It does not have the form above, or is larger than allowed.
pub fn read(block: &Bytes) -> Result<Vec<Field>, FieldsError> {
    if block.len() > BYTES_MAX {
        return Err(FieldsError::Large);
    }
    let mut reader = Reader { block, at: 0 };
    let mut fields = Vec::with_capacity(8);
    while reader.at < block.len() {
        if fields.len() == FIELDS_MAX {
            return Err(FieldsError::Many);
        }
        fields.push(reader.field()?);
    }
    Ok(fields)
}

struct Reader<'a> {
    block: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn field(&mut self) -> Result<Field, FieldsError> {
        let at = self.at;
        let short = FieldsError::Short { at };
        let form = self.take(1).ok_or(short)?[0];
        let unknown = FieldsError::Form { at, form };
        let entry = usize::from(form & 0x3f);
        match form {
            LITERAL => {
                let len = self.take(1).ok_or(short)?[0];
                let name = self.take(usize::from(len)).ok_or(short)?;
                let is_lower = !name.iter().any(u8::is_ascii_uppercase);
                let name = HeaderName::from_bytes(&name).ok().filter(|_| is_lower);
                let name = name.ok_or(FieldsError::Name { at })?;
                Ok(Field::Plain(name, self.value(at)?))
            }
            GUUID => {
                let bytes = self.take(16).ok_or(short)?;
                let mut text = [0; 36];
                hyphenated(&bytes, &[8, 13, 18, 23], &mut text);
                plain("x-guuid", &text, at)
            }
            TRACE => {
                let bytes = self.take(25).ok_or(short)?;
                let mut text = [0; 55];
                text[..3].copy_from_slice(b"00-");
                hyphenated(&bytes, &[32, 49], &mut text[3..]);
                plain("traceparent", &text, at)
            }
            _ if form & PAIR != 0 => {
                // Entries have seven bits here.
                let pair = PAIRS.get(usize::from(form & 0x7f)).ok_or(unknown)?;
                plain(pair.0, pair.1.as_bytes(), at)
            }
            _ if form & NAME != 0 => {
                let name = NAMES.get(entry).ok_or(unknown)?;
                let value = self.value(at)?;
                Ok(match name.strip_prefix(':') {
                    Some(name) => Field::Pseudo(name, value),
                    None => Field::Plain(HeaderName::from_static(name), value),
                })
            }
            _ => Err(unknown),
        }
    }

    fn value(&mut self, at: usize) -> Result<HeaderValue, FieldsError> {
        let short = FieldsError::Short { at };
        let mut len = usize::from(self.take(1).ok_or(short)?[0]);
        if len >= 0x80 {
            len = (len & 0x7f) << 8 | usize::from(self.take(1).ok_or(short)?[0]);
        }
        let value = self.take(len).ok_or(short)?;
        HeaderValue::from_maybe_shared(value).map_err(|_| FieldsError::Value { at })
    }

    fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self.at.checked_add(len)?;
        (end <= self.block.len()).then(|| {
            let taken = self.block.slice(self.at..end);
            self.at = end;
            taken
        })
    }
}

fn plain(name: &'static str, value: &[u8], at: usize) -> Result<Field, FieldsError> {
    let value = HeaderValue::from_bytes(value).map_err(|_| FieldsError::Value { at })?;
    Ok(Field::Plain(HeaderName::from_static(name), value))
}

/// Writes bytes as lower-case hexadecimal digits, with hyphens at these places of the text.
fn hyphenated(bytes: &[u8], hyphens: &[usize], text: &mut [u8]) {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut digits = digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    for (at, place) in text.iter_mut().enumerate() {
        *place = if hyphens.contains(&at) {
            b'-'
        } else {
            digits.next().unwrap_or(b'0')
        };
    }
}

/// The opposite; `None` unless the text is exactly what [`hyphenated`] would write.
fn unhyphenated<const N: usize>(text: &[u8], hyphens: &[usize]) -> Option<[u8; N]> {
    if text.len() != 2 * N + hyphens.len() {
        return None;
    }
    let mut bytes = [0; N];
    let mut digits = 0;
    for (at, byte) in text.iter().enumerate() {
        if hyphens.contains(&at) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

fn guuid_bytes(text: &[u8]) -> Option<[u8; 16]> {
    unhyphenated(text, &[8, 13, 18, 23])
}

fn trace_bytes(text: &[u8]) -> Option<[u8; 25]> {
    unhyphenated(text.strip_prefix(b"00-")?, &[32, 49])
}

#[cfg(test)]
mod tests;
