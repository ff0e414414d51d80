//! A message on its way to an agent, what came of it, and what comes back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// One try to deliver one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The client it comes from.
    pub client: Arc<str>,
    /// The client's id of it; never empty.
    pub message_id: Arc<str>,
    /// What it says.
    pub body: DeliveryBody,
    /// MIME type; empty if unknown.
    pub content_type: Arc<str>,
    /// The client said that the payload is compressed; it is passed on as it is.
    pub compressed: bool,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// It may have reached the agent so long ago that the agent has forgotten its
    /// idempotency key: ask whether the run is known before sending it again.
    pub check_first: bool,
    /// W3C `traceparent`.
    pub traceparent: Option<Arc<str>>,
}

/// What a message says, as the client sent it.
#[derive(Debug, Clone)]
pub enum DeliveryBody {
    /// The text of `data`, not decoded.
    Text(Arc<str>),
    /// Bytes.
    Binary(Bytes),
}

/// What one try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The agent has acknowledged the message, now or on an earlier try.
    Delivered,
    /// The agent refused for now; it does not have the message.
    Retryable {
        /// Why, for operators.
        reason: String,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
    /// The agent refused for good.
    Final {
        /// Why, for operators.
        reason: String,
    },
    /// It left this process, and no answer came: the agent may have it.
    Unknown {
        /// Why, for operators.
        reason: String,
    },
    /// It did not leave this process: no try was spent.
    NotSent {
        /// Why, for operators.
        reason: String,
    },
}

/// Something an agent says to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For whom.
    pub client: Arc<str>,
    /// The answer's id, the same whenever it is told again.
    pub message_id: Arc<str>,
    /// Id of the client's message that it answers; empty if unknown.
    pub in_reply_to: Arc<str>,
    /// What kind of answer.
    pub kind: AnswerKind,
    /// Text, or the Base64 of bytes.
    pub data: Arc<str>,
    /// MIME type; empty if unknown.
    pub content_type: Arc<str>,
}

/// What kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// The whole text.
    Final,
    /// A part of the text that is being made; later ones hold the earlier ones.
    Delta,
    /// The run was ended before its time.
    Aborted,
    /// The run failed; the text says why.
    Failed,
    /// Bytes.
    Binary,
    /// A control message of a Stratix agent; `data` is what it holds.
    Control,
}
