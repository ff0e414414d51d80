//! What the agent says to a message: pure.

use std::collections::{HashSet, VecDeque};

use protocol::stratix::{Kind, Message};
use serde::Serialize;

/// The messages answered last, by client and id: one that comes again, because the gateway
/// could not know that it had arrived, is acknowledged but not answered again.
#[derive(Debug, Default)]
pub(super) struct Seen {
    keys: HashSet<(String, String)>,
    order: VecDeque<(String, String)>,
}

impl Seen {
    /// Whether a message is new; the oldest of too many are forgotten.
    fn enter(&mut self, key: (String, String)) -> bool {
        if !self.keys.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

/// The acknowledgement of a message, and the answer unless it was given before. Nothing for
/// what is no message.
pub(super) fn answers(seen: &mut Seen, frame: &[u8], now_ms: u64) -> [Option<String>; 2] {
    let message: Message = match serde_json::from_slice(frame) {
        Ok(message) => message,
        Err(error) => {
            tracing::debug!(%error, "echo agent skipped what is no message");
            return [None, None];
        }
    };
    let ids = [&message.client_id, &message.message_id];
    let is_named = ids.iter().all(|id| (1..=ID_BYTES_MAX).contains(&id.len()));
    if !is_named || message.kind == Kind::Control {
        return [None, None];
    }
    let ack = json(&Ack {
        kind: Kind::Control,
        action: "ack",
        client_id: &message.client_id,
        message_id: &message.message_id,
    });
    let key = (message.client_id.clone(), message.message_id.clone());
    let echo = seen.enter(key).then(|| json(&echo(message, now_ms)));
    [ack, echo.flatten()]
}

fn echo(message: Message, now_ms: u64) -> Message {
    let nanoseconds = now_ms.saturating_mul(1_000_000);
    Message {
        message_id: format!("echo-{}", message.message_id),
        timestamp: i64::try_from(nanoseconds).unwrap_or(i64::MAX),
        data: match message.kind {
            Kind::Text => format!("You said: {}", message.data),
            Kind::Binary | Kind::Control => message.data,
        },
        route: String::new(),
        ..message
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ack<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    action: &'static str,
    client_id: &'a str,
    message_id: &'a str,
}

/// Text and numbers are always JSON; if they were not, nothing would be said.
fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

/// Messages remembered, over all clients.
const SEEN_MAX: usize = 10_000;

/// Longest id; what has a longer one does not come from the gateway.
const ID_BYTES_MAX: usize = 512;
