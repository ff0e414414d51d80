//! What a Stratix agent says.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{Answer, AnswerKind};

/// A frame of an agent, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// It has a message.
    Ack {
        /// Of whom; empty if it does not say.
        client: String,
        /// Which.
        message_id: String,
    },
    /// Something for a client.
    Answer(Answer),
}

/// Why a frame means nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum IncomingError {
    #[error("not a message: {0}")]
    Json(#[from] serde_json::Error),
    #[error("message type {0} is not 0, 1 or 2")]
    Kind(u64),
    #[error("message has no client id")]
    Client,
    #[error("acknowledgement has no message id")]
    MessageId,
    #[error("data is not a string")]
    Data,
}

/// The keys that matter. Everything may be missing or null, and more may be there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(default, rename = "type")]
    kind: Option<u64>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    in_reply_to: Option<String>,
}

impl Incoming {
    /// Reads a frame.
    pub(super) fn read(frame: &[u8]) -> Result<Self, IncomingError> {
        let wire: Wire<'_> = serde_json::from_slice(frame)?;
        let client = wire.client_id.unwrap_or_default();
        let message_id = wire.message_id.unwrap_or_default();
        let kind = match wire.kind.unwrap_or_default() {
            0 => AnswerKind::Final,
            1 => AnswerKind::Binary,
            2 => AnswerKind::Control,
            other => return Err(IncomingError::Kind(other)),
        };
        if kind == AnswerKind::Control && wire.action.as_deref() == Some("ack") {
            if message_id.is_empty() {
                return Err(IncomingError::MessageId);
            }
            return Ok(Self::Ack { client, message_id });
        }
        if client.is_empty() {
            return Err(IncomingError::Client);
        }
        let data = match (kind, wire.data.map(RawValue::get)) {
            // What a control message says stands beside `data`, so all of it is kept.
            (AnswerKind::Control, _) => String::from_utf8_lossy(frame).into_owned(),
            (_, None | Some("null")) => String::new(),
            (_, Some(json)) => serde_json::from_str(json).map_err(|_| IncomingError::Data)?,
        };
        Ok(Self::Answer(Answer {
            client: client.into(),
            message_id: message_id.into(),
            in_reply_to: wire.in_reply_to.map_or_else(|| Arc::from(""), Arc::from),
            kind,
            data: data.into(),
            content_type: wire.content_type.map_or_else(|| Arc::from(""), Arc::from),
        }))
    }
}
