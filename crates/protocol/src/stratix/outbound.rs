//! What a client is told.

use serde::Serialize;

use super::payload::{Encoding, PayloadError, payload};
use super::{Kind, Level, Message};

/// A WebSocket message to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// Text: JSON.
    Text(String),
    /// Binary: a payload and nothing else.
    Binary(Vec<u8>),
}

/// Tells how far a message has got, and whether it was taken before.
pub fn ack(message_id: &str, level: Level, is_duplicate: bool) -> String {
    write(&Notice {
        kind: Kind::Control,
        action: "ack",
        message_id: Some(message_id),
        level: Some(level.name()),
        duplicate: is_duplicate.then_some(true),
        ..Notice::default()
    })
}

/// Tells that a message was not taken or not delivered: for good, or so that sending it again
/// may help. An empty `message_id` is left out.
pub fn error(message_id: &str, code: u32, text: &str, is_final: bool) -> String {
    write(&Notice {
        kind: Kind::Control,
        action: "error",
        message_id: Some(message_id).filter(|id| !id.is_empty()),
        code: Some(code),
        error: Some(text),
        is_final: Some(is_final),
        ..Notice::default()
    })
}

/// Tells that `total` messages were replayed, and the ids of the first and last of them.
pub fn history_complete(total: usize, oldest: Option<&str>, newest: Option<&str>) -> String {
    write(&Notice {
        kind: Kind::Control,
        action: "history_complete",
        total: Some(total),
        oldest_message_id: oldest,
        newest_message_id: newest,
        ..Notice::default()
    })
}

/// A message as its client gets it: text and control as JSON, binary as the bare payload.
/// Fails if a binary message does not hold Base64.
pub fn answer(message: &Message) -> Result<Outbound, PayloadError> {
    Ok(match message.kind {
        Kind::Text | Kind::Control => Outbound::Text(write(message)),
        Kind::Binary => Outbound::Binary(payload(message, Encoding::Base64)?.into_owned()),
    })
}

/// A control message of ours.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Notice<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_message_id: Option<&'a str>,
}

fn write<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("structures of text and numbers are always JSON")
}

#[cfg(test)]
mod tests;
