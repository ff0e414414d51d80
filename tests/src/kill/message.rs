//! Messages, and what identifies them.

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::chance::Chance;

/// SHA-256 of a message's `data`.
pub(super) type Hash = [u8; 32];

/// Which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    /// Number of the client, from 1.
    pub(super) client: u16,
    /// Number among the client's messages of all priorities, from 0.
    pub(super) number: u32,
    /// Index into [`PRIORITIES`].
    pub(super) priority: usize,
}

impl Name {
    /// The client's id.
    pub(super) fn client_id(self) -> String {
        format!("client-{}", self.client)
    }

    /// The message's id: unlike the gateway's agents, ours is told the priority by it.
    pub(super) fn message_id(self) -> String {
        let word = PRIORITIES[self.priority];
        format!("{word}-{}", self.number)
    }

    /// Reads both ids.
    pub(super) fn parse(client_id: &str, message_id: &str) -> anyhow::Result<Self> {
        let wrong = || format!("{client_id:?} {message_id:?} is nobody's message");
        let client = client_id.strip_prefix("client-").with_context(wrong)?;
        let (word, number) = message_id.split_once('-').with_context(wrong)?;
        let priority = PRIORITIES.iter().position(|known| *known == word);
        let name = Self {
            client: client.parse().with_context(wrong)?,
            number: number.parse().with_context(wrong)?,
            priority: priority.with_context(wrong)?,
        };
        ensure!(
            name.client_id() == client_id && name.message_id() == message_id,
            wrong()
        );
        Ok(name)
    }
}

/// A message as it is sent; text mostly, sometimes binary.
pub(super) fn write(name: Name, size_max: u64, chance: &mut Chance) -> (String, Hash) {
    let is_binary = chance.once_in(8);
    let len = 32 + usize::try_from(chance.below(size_max)).unwrap_or(0);
    // Every message is another, also between clients.
    let Name { client, number, .. } = name;
    let mut data = format!("{client:04}{number:012}{:016x}", chance.draw());
    while data.len() < len {
        data.push_str(&format!("{:016x}", chance.draw()));
        let block = data.len().min(4096);
        data.extend_from_within(data.len() - block..);
    }
    if is_binary {
        // Letters and digits, four at a time, are Base64.
        data.truncate(len / 4 * 4);
    } else {
        data.truncate(len);
        data.push_str("\u{20ac}\u{1f6a2}\"\\\n");
    }
    let hash = hash(&data);
    let message = json!({
        "type": u8::from(is_binary),
        "messageId": name.message_id(),
        "priority": PRIORITIES[name.priority],
        "data": data,
    });
    (message.to_string(), hash)
}

/// What identifies `data`.
pub(super) fn hash(data: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, data.as_bytes()).as_ref());
    hash
}

/// The identity of a message that came.
pub(super) fn read(message: &Value) -> anyhow::Result<(Name, Hash)> {
    let of = |key: &str| message[key].as_str().unwrap_or_default();
    let name = Name::parse(of("clientId"), of("messageId"))?;
    Ok((name, hash(of("data"))))
}

/// The gateway's words.
pub(super) const PRIORITIES: [&str; 3] = ["control", "interactive", "bulk"];
