//! The channel of a client's agent: `agent.<client id>`.
//!
//! Messages to the agent are published on it, its answers are heard on it. A client id may
//! hold characters that subjects forbid or read: those are written `%XX`, so that every id
//! is one token and has one spelling.

use crate::channel::Channel;

/// What the channels of agents begin with.
pub const PREFIX: &str = "agent.";

/// Covers the channels of all agents.
pub const PATTERN: &str = "agent.*";

/// The longest client id in bytes; escaped it still fits a channel name.
pub const CLIENT_ID_MAX: usize = 80;

/// The channel of a client's agent; `None` if the id is empty, too long, or has control
/// characters, which would end lines of logs and of what is signed.
pub fn channel_of(client: &str) -> Option<Channel> {
    if !is_client_id(client) {
        return None;
    }
    let mut name = String::with_capacity(PREFIX.len() + client.len());
    name.push_str(PREFIX);
    for byte in client.bytes() {
        if is_plain(byte) {
            name.push(char::from(byte));
        } else {
            name.push('%');
            for digit in [byte >> 4, byte & 15] {
                name.push(char::from(HEX[usize::from(digit)]));
            }
        }
    }
    Some(Channel::new(&name))
}

/// The client a channel belongs to; `None` if it is no agent's, or not in its one spelling.
pub fn client_of(channel: &str) -> Option<String> {
    let token = channel.strip_prefix(PREFIX)?;
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let escaped = digit(rest.next()?)? << 4 | digit(rest.next()?)?;
                if is_plain(escaped) {
                    return None;
                }
                escaped
            }
            plain if is_plain(plain) => plain,
            _ => return None,
        });
    }
    let client = String::from_utf8(bytes).ok()?;
    is_client_id(&client).then_some(client)
}

fn is_client_id(client: &str) -> bool {
    !client.is_empty() && client.len() <= CLIENT_ID_MAX && !client.contains(char::is_control)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_@+=~".contains(&byte)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_one_channel_and_back() {
        for client in [
            "client-123",
            "a.b",
            "übel",
            "user:1 x",
            "*",
            "%41",
            "a/b>c#",
        ] {
            let channel = channel_of(client).unwrap();
            assert_eq!(client_of(&channel).as_deref(), Some(client), "{channel}");
            let token = channel.strip_prefix(PREFIX).unwrap();
            assert!(!token.contains(['.', '*', '>', ':', '#', ' ']), "{channel}");
        }
        assert_eq!(&*channel_of("client-123").unwrap(), "agent.client-123");
        assert_eq!(channel_of(""), None);
        assert_eq!(channel_of("a\nb"), None);
        assert_eq!(channel_of(&"x".repeat(CLIENT_ID_MAX + 1)), None);
    }

    #[test]
    fn other_spellings_are_nobody() {
        for channel in [
            "agent.",
            "agent.%41",
            "agent.%2e",
            "agent.a.b",
            "agent.%2",
            "agents.a",
            "agent.%FF",
            "agent.a%0Ab",
        ] {
            assert_eq!(client_of(channel), None, "{channel}");
        }
    }
}
