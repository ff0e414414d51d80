//! One message, as it stands in a JSON text frame.

use serde::{Deserialize, Serialize};

/// A message of a client to its agent or back. Fields that are missing have the default of
/// their type; unknown ones are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Message {
    /// What `data` holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The client it comes from or goes to.
    pub client_id: String,
    /// The sender's id of it.
    pub message_id: String,
    /// Nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// Text, plain or Base64; for binary messages always Base64.
    pub data: String,
    /// URL of the agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// MIME type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// The payload is compressed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compressed: bool,
}

/// What a message holds; a number on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Kind {
    /// Text: 0.
    #[default]
    Text,
    /// Bytes: 1.
    Binary,
    /// Control: 2.
    Control,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => 0,
            Kind::Binary => 1,
            Kind::Control => 2,
        }
    }
}

impl TryFrom<u8> for Kind {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            2 => Ok(Self::Control),
            other => Err(format!("message type {other} is not 0, 1 or 2")),
        }
    }
}
