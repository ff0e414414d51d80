//! Ways in for fuzz targets.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use protocol::message::ClientInfo;

use super::names::{Names, key_token};
use super::wire;
use crate::Message;

/// The message that came with these headers, one `name: value` per line.
pub fn message(headers: &str, payload: Bytes) -> Option<Message> {
    let mut map = HeaderMap::new();
    for line in headers.lines() {
        if let Some((name, value)) = line.split_once(": ")
            && let (Ok(name), Ok(value)) =
                (name.parse::<HeaderName>(), value.parse::<HeaderValue>())
        {
            map.insert(name, value);
        }
    }
    wire::message("fuzz".into(), Some(&map), payload, 0)
}

/// Writes who a client is, and reads that; the text goes into a header.
pub fn info_again(info: &ClientInfo) -> (String, Option<ClientInfo>) {
    let text = wire::write_info(info);
    let read = wire::read_info(&text);
    (text, read)
}

/// The key of state that a subject stands for, and the subject of that key.
pub fn state_key(subject: &str) -> Option<(String, String)> {
    let names = Names::new("tidegate", &[]);
    let key = names.state_key(subject)?;
    let again = names.state(&key);
    Some((key, again))
}

/// Any text as a token of a key.
pub fn token(text: &str) -> String {
    key_token(text)
}
