//! An agent that speaks the Stratix message JSON, both ways (contract relay, 1.6 and R3).
//!
//! There is no handshake: the agent is ready when the WebSocket is open. A message is delivered
//! when the socket has taken it, or, with an agent that acknowledges, when its
//! acknowledgement has come.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use protocol::stratix::{Kind, Message};

use super::peer::{Input, Now, Output};
use super::{Delivery, DeliveryBody, Outcome, Target};
use incoming::Incoming;

mod incoming;

/// The conversation with one agent.
#[derive(Debug)]
pub(crate) struct Peer {
    /// URL of the agent, which goes into every message.
    route: Arc<str>,
    /// The target says that it acknowledges.
    acks_always: bool,
    /// It acknowledges, as far as is known on this connection.
    acks: bool,
    open: bool,
    /// Sent and without an outcome, by tag. Bounded by the link, which has no more tries in
    /// flight than the target allows and forgets those that nobody waits for.
    unsettled: HashMap<u64, Arc<Delivery>>,
}

impl Peer {
    pub(crate) fn new(target: &Target) -> Self {
        Self {
            route: Arc::clone(&target.url),
            acks_always: target.acks,
            acks: target.acks,
            open: false,
            unsettled: HashMap::new(),
        }
    }

    /// Takes an input and appends what follows from it to `out`.
    pub(crate) fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Opened => {
                self.open = true;
                self.acks = self.acks_always;
                out.push(Output::Ready);
            }
            Input::Frame(frame) => self.frame(frame, out),
            Input::Send { tag, delivery } => self.send(tag, delivery, out),
            Input::Written { tag } => {
                if !self.acks && self.unsettled.remove(&tag).is_some() {
                    let outcome = Outcome::Delivered;
                    out.push(Output::Outcome { tag, outcome });
                }
            }
            Input::Forget { tag } => {
                self.unsettled.remove(&tag);
            }
            Input::Time => {}
            Input::Closed { reason, .. } => self.closed(&reason, out),
        }
    }

    fn send(&mut self, tag: u64, delivery: Arc<Delivery>, out: &mut Vec<Output>) {
        let outcome = if !self.open {
            let reason = "agent is not connected".to_owned();
            Outcome::NotSent { reason }
        } else {
            match self.encode(&delivery) {
                Ok(text) => {
                    self.unsettled.insert(tag, delivery);
                    out.push(Output::Watched { tag, text });
                    return;
                }
                Err(error) => Outcome::Final {
                    reason: format!("message could not be written as JSON: {error}"),
                },
            }
        };
        out.push(Output::Outcome { tag, outcome });
    }

    fn encode(&self, delivery: &Delivery) -> Result<String, serde_json::Error> {
        let (kind, data) = match &delivery.body {
            DeliveryBody::Text(text) => (Kind::Text, text.to_string()),
            DeliveryBody::Binary(bytes) => (Kind::Binary, BASE64_STANDARD.encode(bytes)),
        };
        let nanoseconds = delivery.at_ms.saturating_mul(1_000_000);
        serde_json::to_string(&Message {
            kind,
            client_id: delivery.client.to_string(),
            message_id: delivery.message_id.to_string(),
            timestamp: i64::try_from(nanoseconds).unwrap_or(i64::MAX),
            data,
            route: self.route.to_string(),
            content_type: delivery.content_type.to_string(),
            compressed: delivery.compressed,
        })
    }

    fn frame(&mut self, frame: &[u8], out: &mut Vec<Output>) {
        match Incoming::read(frame) {
            Ok(Incoming::Ack { client, message_id }) => self.ack(&client, &message_id, out),
            Ok(Incoming::Answer(answer)) => out.push(Output::Answer(answer)),
            Err(error) => {
                let url = self.route.split('?').next();
                tracing::debug!(url, %error, "frame of an agent was skipped");
            }
        }
    }

    /// Settles what the acknowledgement names; without a client id, whoever's message it is.
    fn ack(&mut self, client: &str, message_id: &str, out: &mut Vec<Output>) {
        self.acks = true;
        let is_meant = |delivery: &Delivery| {
            &*delivery.message_id == message_id
                && (client.is_empty() || &*delivery.client == client)
        };
        self.unsettled.retain(|&tag, delivery| {
            let meant = is_meant(delivery);
            if meant {
                let outcome = Outcome::Delivered;
                out.push(Output::Outcome { tag, outcome });
            }
            !meant
        });
    }

    fn closed(&mut self, reason: &str, out: &mut Vec<Output>) {
        self.open = false;
        for (tag, _) in self.unsettled.drain() {
            let reason = format!("connection was lost before the message was confirmed: {reason}");
            let outcome = Outcome::Unknown { reason };
            out.push(Output::Outcome { tag, outcome });
        }
    }
}

#[cfg(test)]
mod tests;
