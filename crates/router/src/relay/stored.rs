//! What a record holds: the message as the client sent it, and what is known about it
//! (`contracts`: relay 1.6, R6).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use protocol::stratix::{Kind, Message};
use serde::{Deserialize, Serialize};
use upstream::ws_agent::{Delivery, DeliveryBody};

/// The contents of a record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    message: Message,
    /// When it was accepted, in nanoseconds since the Unix epoch.
    timestamp: i64,
    /// Always 0: the outbox counts attempts beside the record.
    attempts: u32,
    /// W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// The contents can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoredError {
    #[error("record does not hold a message")]
    Json(#[from] serde_json::Error),
    #[error("payload of a binary message is not Base64")]
    Base64(#[from] base64::DecodeError),
}

/// Room for everything but a message's data, mostly: growing copies it.
pub(super) const ENVELOPE: usize = 512;

impl Stored {
    pub(super) fn new(message: Message, trace: &str) -> Self {
        Self {
            timestamp: message.timestamp,
            message,
            attempts: 0,
            trace: Some(trace.to_owned()),
        }
    }

    pub(super) fn read(contents: &[u8]) -> Result<Self, StoredError> {
        Ok(serde_json::from_slice(contents)?)
    }

    pub(super) fn write(&self) -> Bytes {
        // Strings and numbers: there is nothing in it that JSON can't hold.
        let mut json = Vec::with_capacity(self.message.data.len() + ENVELOPE);
        serde_json::to_writer(&mut json, self).expect("a message of strings and numbers is JSON");
        json.into()
    }

    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    /// The message as it goes to the agent.
    pub(super) fn into_delivery(self) -> Result<Delivery, StoredError> {
        let message = self.message;
        let body = match message.kind {
            Kind::Text | Kind::Control => DeliveryBody::Text(message.data.into()),
            Kind::Binary => DeliveryBody::Binary(STANDARD.decode(&message.data)?.into()),
        };
        Ok(Delivery {
            client: message.client_id.into(),
            message_id: message.message_id.into(),
            body,
            content_type: message.content_type.into(),
            compressed: message.compressed,
            at_ms: u64::try_from(message.timestamp / 1_000_000).unwrap_or(0),
            check_first: false,
            traceparent: self.trace.map(Arc::from),
        })
    }
}
