//! What travels over NATS: the payload as it is, everything else in headers.
//!
//! | header | what |
//! |---|---|
//! | `Tidegate-Offset`, `Tidegate-Epoch` | the position |
//! | `Tidegate-Kind` | `join`, `leave`, `birth`, `removed`; absent on a publication |
//! | `Tidegate-Time` | when it was taken, in milliseconds since 1970 UTC |
//! | `Tidegate-Info` | who published, came or went, as JSON |
//! | `Tidegate-Tags` | the labels, as JSON |
//! | `Tidegate-Version` | version of the document last published, and its epoch in hexadecimal |
//! | `Tidegate-Node` | which gateway says so |
//!
//! Headers come from whoever may publish, so nothing in them is trusted to have a form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use protocol::channel::Channel;
use protocol::message::ClientInfo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Epoch, Kind, Message, Position, Publication};

pub(super) const OFFSET: &str = "Tidegate-Offset";
pub(super) const EPOCH: &str = "Tidegate-Epoch";
pub(super) const KIND: &str = "Tidegate-Kind";
pub(super) const TIME: &str = "Tidegate-Time";
pub(super) const INFO: &str = "Tidegate-Info";
pub(super) const TAGS: &str = "Tidegate-Tags";
pub(super) const VERSION: &str = "Tidegate-Version";
pub(super) const NODE: &str = "Tidegate-Node";

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Publication,
    Join,
    Leave,
    /// The channel has a stream, in which nothing was published.
    Birth,
    /// What was published before is removed; the position stays.
    Removed,
    /// Of a kind that a later version knows.
    Other,
}

/// The version of the last versioned publication; number 0 stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) number: u64,
    /// A hash of its epoch; `None` for the empty one.
    pub(super) epoch: Option<u64>,
}

impl Version {
    pub(super) fn new(number: u64, epoch: &str) -> Self {
        Self {
            number,
            epoch: (!epoch.is_empty()).then(|| hash(&[epoch])),
        }
    }

    /// Whether this one comes too late after `last`.
    pub(super) fn is_outdated_by(self, last: Self) -> bool {
        let same_epoch = self.epoch.is_none() || self.epoch == last.epoch;
        self.number > 0 && same_epoch && self.number <= last.number
    }
}

pub(super) fn mark(headers: Option<&HeaderMap>) -> Mark {
    match text(headers, KIND) {
        None => Mark::Publication,
        Some("join") => Mark::Join,
        Some("leave") => Mark::Leave,
        Some("birth") => Mark::Birth,
        Some("removed") => Mark::Removed,
        Some(_) => Mark::Other,
    }
}

pub(super) fn position(headers: Option<&HeaderMap>) -> Option<Position> {
    let epoch = text(headers, EPOCH)?;
    Some(Position {
        offset: number(headers, OFFSET)?,
        // Others may name their epochs otherwise.
        epoch: Epoch::parse(epoch).unwrap_or_else(|| derived_epoch(&[epoch])),
    })
}

/// An epoch that is the same wherever it is made of the same texts.
pub(super) fn derived_epoch(texts: &[&str]) -> Epoch {
    Epoch::from_random(hash(texts))
}

/// FNV-1a: it must not change with the library, as the standard one's may.
fn hash(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

pub(super) fn version(headers: Option<&HeaderMap>) -> Version {
    let Some(text) = text(headers, VERSION) else {
        return Version::default();
    };
    let (number, epoch) = text.split_once(' ').unwrap_or((text, ""));
    Version {
        number: number.parse().unwrap_or_default(),
        epoch: u64::from_str_radix(epoch, 16).ok(),
    }
}

pub(super) fn put_position(headers: &mut HeaderMap, position: Position) {
    headers.insert(OFFSET, position.offset.to_string());
    headers.insert(EPOCH, position.epoch.as_str());
}

pub(super) fn put_version(headers: &mut HeaderMap, version: Version) {
    if version.number > 0 {
        let mut text = version.number.to_string();
        if let Some(epoch) = version.epoch {
            // Writing to a string does not fail.
            write!(text, " {epoch:016x}").unwrap_or_default();
        }
        headers.insert(VERSION, text);
    }
}

/// The message that came on a channel; `None` for what is not for subscribers, or has no
/// sense.
pub(super) fn message(
    channel: Channel,
    headers: Option<&HeaderMap>,
    payload: Bytes,
    now_unix_ms: u64,
) -> Option<Message> {
    let info = || text(headers, INFO).and_then(read_info);
    let kind = match mark(headers) {
        Mark::Publication => Kind::Publication(Publication {
            data: payload,
            info: info().map(Arc::new),
            tags: text(headers, TAGS).and_then(read_tags).map(Box::new),
            position: position(headers),
            time_ms: number(headers, TIME).unwrap_or(now_unix_ms),
        }),
        Mark::Join => Kind::Join(Arc::new(info()?)),
        Mark::Leave => Kind::Leave(Arc::new(info()?)),
        // Whoever is positioned in what was removed is still in step.
        Mark::Birth | Mark::Removed | Mark::Other => return None,
    };
    Some(Message { channel, kind })
}

/// Who a client is, in one line of JSON. What is not JSON itself, or has line ends, goes as
/// base64.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Info {
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info_base64: Option<String>,
}

pub(super) fn write_info(info: &ClientInfo) -> String {
    let plain = |bytes: &Bytes| {
        let text = std::str::from_utf8(bytes).ok()?;
        // What reads as absent would not come back.
        let text = (!text.contains(['\r', '\n']) && text != "null").then(|| text.to_owned())?;
        RawValue::from_string(text).ok()
    };
    let coded = |bytes: &Bytes, plain: &Option<_>| {
        (plain.is_none() && !bytes.is_empty()).then(|| STANDARD.encode(bytes))
    };
    let (conn_info, chan_info) = (plain(&info.conn_info), plain(&info.chan_info));
    let written = Info {
        user: info.user.clone(),
        client: info.client.clone(),
        conn_info_base64: coded(&info.conn_info, &conn_info),
        chan_info_base64: coded(&info.chan_info, &chan_info),
        conn_info,
        chan_info,
    };
    // Texts and checked JSON are always written.
    serde_json::to_string(&written).unwrap_or_default()
}

pub(super) fn read_info(text: &str) -> Option<ClientInfo> {
    let read: Info = serde_json::from_str(text).ok()?;
    let bytes = |plain: Option<Box<RawValue>>, coded: Option<String>| match (plain, coded) {
        (Some(plain), _) => Bytes::from(plain.get().to_owned()),
        (None, Some(coded)) => STANDARD.decode(coded).unwrap_or_default().into(),
        (None, None) => Bytes::new(),
    };
    Some(ClientInfo {
        user: read.user,
        client: read.client,
        conn_info: bytes(read.conn_info, read.conn_info_base64),
        chan_info: bytes(read.chan_info, read.chan_info_base64),
    })
}

pub(super) fn write_tags(tags: &BTreeMap<String, String>) -> String {
    // A map of texts is always written.
    serde_json::to_string(tags).unwrap_or_default()
}

fn read_tags(text: &str) -> Option<BTreeMap<String, String>> {
    serde_json::from_str(text).ok()
}

pub(super) fn text<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    Some(headers?.get(name)?.as_str())
}

pub(super) fn number(headers: Option<&HeaderMap>, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

#[cfg(test)]
mod tests;
