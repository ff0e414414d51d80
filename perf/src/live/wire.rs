//! What clients of live data say and hear: the Centrifuge client protocol in Protobuf, or
//! NATS' own protocol over WebSocket.
//!
//! Everything is a function of bytes. Publications are read where they lie, since there are
//! tens of thousands a second of them; replies, of which there are few, by our own codec.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use protocol::codec::{self, Encoding};
use protocol::message::{Command, ConnectRequest, Reply, RpcRequest, SubscribeRequest};

use crate::frame::{self, Kind};

/// What is spoken within the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// The Centrifuge client protocol in Protobuf.
    Centrifuge,
    /// NATS' client protocol.
    Nats,
}

/// What a client heard.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// The WebSocket stands.
    Upgraded,
    /// A message on a subject.
    Publication { subject: &'a [u8], data: &'a [u8] },
    /// An answer to a command.
    Reply(Box<Reply>),
    /// NATS' answer to `PING`: all that was sent before it has been taken.
    Pong,
}

/// One client's incoming bytes.
#[derive(Debug)]
pub(crate) struct Reader {
    speech: Speech,
    upgraded: bool,
    /// Received, but not yet a whole frame.
    partial: Vec<u8>,
    /// NATS is a stream within the frames: what of it is not yet a whole message.
    cut: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(speech: Speech) -> Self {
        Self {
            speech,
            upgraded: false,
            partial: Vec::new(),
            cut: Vec::new(),
        }
    }

    /// Takes bytes as they come; what has to be answered is appended to `out`.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard<'_>, &mut Vec<u8>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let whole;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            whole = std::mem::take(&mut self.partial);
            &whole
        };
        if !self.upgraded {
            let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                self.partial = rest.to_vec();
                return Ok(());
            };
            let line = rest.split(|&byte| byte == b'\r').next().unwrap_or_default();
            ensure!(
                line.starts_with(b"HTTP/1.1 101"),
                "server answered {:?}",
                String::from_utf8_lossy(line)
            );
            rest = &rest[end + 4..];
            self.upgraded = true;
            each(Heard::Upgraded, out)?;
        }
        while let Some(found) = frame::next(rest) {
            rest = &rest[found.length..];
            match found.kind {
                Kind::Message => match self.speech {
                    Speech::Centrifuge => centrifuge(found.payload, out, each)?,
                    Speech::Nats => self.nats(found.payload, out, each)?,
                },
                Kind::Ping => frame::pong(out, found.payload),
                Kind::Pong => {}
                Kind::Close => bail!(
                    "server closed: {:?}",
                    String::from_utf8_lossy(found.payload.get(2..).unwrap_or_default())
                ),
            }
        }
        if !rest.is_empty() {
            self.partial = rest.to_vec();
        }
        Ok(())
    }

    fn nats(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut dyn FnMut(Heard<'_>, &mut Vec<u8>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let whole;
        let mut rest = if self.cut.is_empty() {
            bytes
        } else {
            self.cut.extend_from_slice(bytes);
            whole = std::mem::take(&mut self.cut);
            &whole
        };
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let mut taken = end + 1;
            if let Some(about) = line.strip_prefix(b"MSG ") {
                let size = about.rsplit(|&byte| byte == b' ').next();
                let size = size.and_then(decimal).context("MSG without size")?;
                let Some(data) = rest
                    .get(taken..taken + size + 2)
                    .and_then(|data| data.get(..size))
                else {
                    break;
                };
                taken += size + 2;
                let subject = about.split(|&byte| byte == b' ').next();
                let subject = subject.unwrap_or_default();
                each(Heard::Publication { subject, data }, out)?;
            } else if line == b"PONG" {
                each(Heard::Pong, out)?;
            } else if line == b"PING" {
                frame::binary(out, b"PONG\r\n");
            } else {
                ensure!(
                    line.starts_with(b"INFO ") || line == b"+OK",
                    "nats-server said {:?}",
                    String::from_utf8_lossy(line)
                );
            }
            rest = &rest[taken..];
        }
        if !rest.is_empty() {
            self.cut = rest.to_vec();
        }
        Ok(())
    }
}

/// One message of the Centrifuge protocol: replies, pushes and pings, each behind its length.
fn centrifuge(
    mut rest: &[u8],
    out: &mut Vec<u8>,
    each: &mut dyn FnMut(Heard<'_>, &mut Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !rest.is_empty() {
        let framed = rest;
        let one = delimited(&mut rest).context("reply is cut short")?;
        if one.is_empty() {
            frame::binary(out, &[0]);
        } else if one[0] == REPLY_PUSH {
            if let Some((subject, data)) = publication(one) {
                each(Heard::Publication { subject, data }, out)?;
            }
        } else {
            let framed = &framed[..framed.len() - rest.len()];
            for reply in codec::replies(Encoding::Protobuf, framed) {
                each(Heard::Reply(Box::new(reply?)), out)?;
            }
        }
    }
    Ok(())
}

/// Channel and data of a push, if it is one of a publication.
fn publication(reply: &[u8]) -> Option<(&[u8], &[u8])> {
    let push = field(reply, REPLY_PUSH)?;
    let publication = field(push, PUSH_PUBLICATION)?;
    let data = field(publication, PUBLICATION_DATA).unwrap_or_default();
    Some((field(push, PUSH_CHANNEL).unwrap_or_default(), data))
}

/// The bytes of the first field with this key, which has a length, as have those before it
/// or they are numbers.
fn field(mut message: &[u8], key: u8) -> Option<&[u8]> {
    while let [found, rest @ ..] = message {
        message = rest;
        match found & 7 {
            0 => drop(varint(&mut message)?),
            2 => {
                let value = delimited(&mut message)?;
                if *found == key {
                    return Some(value);
                }
            }
            _ => return None,
        }
    }
    None
}

/// Head of a `TickBatch` or a `SnapshotBatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Number of the batch.
    pub(crate) seq: u64,
    /// When it was made, in milliseconds of Unix time.
    pub(crate) ts_ms: u64,
}

/// Reads the head of a batch, whose entries come last.
pub(crate) fn batch(mut message: &[u8]) -> Option<Batch> {
    let mut head = Batch { seq: 0, ts_ms: 0 };
    while let [key, rest @ ..] = message {
        message = rest;
        match *key {
            0x0a => drop(delimited(&mut message)?),
            0x10 => head.seq = varint(&mut message)?,
            0x18 => head.ts_ms = varint(&mut message)?,
            _ => break,
        }
    }
    Some(head)
}

/// How many entries a batch has.
pub(crate) fn entries(mut message: &[u8]) -> usize {
    let mut count = 0;
    while let [key, rest @ ..] = message {
        message = rest;
        let skipped = match key & 7 {
            0 => varint(&mut message).map(drop),
            2 => delimited(&mut message).map(drop),
            _ => None,
        };
        if skipped.is_none() {
            return count;
        }
        count += usize::from(*key == BATCH_ENTRY);
    }
    count
}

/// The request that opens the WebSocket.
pub(crate) fn upgrade(address: SocketAddr, speech: Speech) -> Vec<u8> {
    let path = match speech {
        Speech::Centrifuge => "/connection/websocket?cf_protocol=protobuf",
        Speech::Nats => "/",
    };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    .into_bytes()
}

/// Appends one frame with commands, numbered from `id` on.
pub(crate) fn commands(
    out: &mut Vec<u8>,
    mut id: u32,
    commands: impl IntoIterator<Item = Command>,
) -> anyhow::Result<()> {
    let mut payload = Vec::new();
    for mut command in commands {
        command.id = id;
        id += 1;
        codec::encode_command(Encoding::Protobuf, &command, &mut payload)?;
    }
    frame::binary(out, &payload);
    Ok(())
}

/// The command that opens a session.
pub(crate) fn connect(token: String) -> Command {
    Command {
        connect: Some(Box::new(ConnectRequest {
            token,
            ..ConnectRequest::default()
        })),
        ..Command::default()
    }
}

/// The command that joins a channel.
pub(crate) fn subscribe(channel: &str) -> Command {
    Command {
        subscribe: Some(Box::new(SubscribeRequest {
            channel: channel.to_owned(),
            ..SubscribeRequest::default()
        })),
        ..Command::default()
    }
}

/// The command that asks for the state of a group.
pub(crate) fn ask_snapshot(group: &str) -> Command {
    Command {
        rpc: Some(RpcRequest {
            data: format!("{{\"group\":\"{group}\"}}").into_bytes().into(),
            method: "md.snapshot".to_owned(),
        }),
        ..Command::default()
    }
}

/// What a client of NATS sends first: who it is, and what it wants.
pub(crate) fn nats_join(subjects: &[String]) -> Vec<u8> {
    let mut lines = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n".to_owned();
    for (index, subject) in subjects.iter().enumerate() {
        lines += &format!("SUB {subject} {}\r\n", index + 1);
    }
    lines += "PING\r\n";
    let mut out = Vec::new();
    frame::binary(&mut out, lines.as_bytes());
    out
}

/// Takes a message behind its length off.
fn delimited<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (one, others) = rest.split_at_checked(length)?;
    *rest = others;
    Some(one)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, others) = rest.split_first()?;
        *rest = others;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn decimal(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Keys: field number and wire type 2 (length-delimited).
const REPLY_PUSH: u8 = 4 << 3 | 2;
const PUSH_CHANNEL: u8 = 2 << 3 | 2;
const PUSH_PUBLICATION: u8 = 4 << 3 | 2;
const PUBLICATION_DATA: u8 = 4 << 3 | 2;
const BATCH_ENTRY: u8 = 4 << 3 | 2;

#[cfg(test)]
mod tests {
    use protocol::message::{Publication, RpcResult};

    use super::*;

    /// Everything that is heard, as text.
    fn heard(reader: &mut Reader, bytes: &[u8], out: &mut Vec<u8>) -> Vec<String> {
        let mut all = Vec::new();
        let mut note = |heard: Heard<'_>, _: &mut Vec<u8>| {
            all.push(match heard {
                Heard::Upgraded => "upgraded".to_owned(),
                Heard::Publication { subject, data } => format!(
                    "{} {}",
                    String::from_utf8_lossy(subject),
                    String::from_utf8_lossy(data)
                ),
                Heard::Reply(reply) => format!("reply {}", reply.id),
                Heard::Pong => "pong".to_owned(),
            });
            Ok(())
        };
        reader.take(bytes, out, &mut note).unwrap();
        all
    }

    fn served(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x82, payload.len() as u8];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn publications_replies_and_pings_of_centrifuge_are_told_apart() {
        let publication = Publication {
            data: "tick".into(),
            offset: 7,
            ..Publication::default()
        };
        let mut payload = Vec::new();
        codec::encode_push_publication(Encoding::Protobuf, "xy.a", &publication, &mut payload)
            .unwrap();
        let reply = Reply {
            id: 3,
            rpc: Some(RpcResult {
                data: "state".into(),
            }),
            ..Reply::default()
        };
        codec::encode_reply(Encoding::Protobuf, &reply, &mut payload).unwrap();
        payload.push(0);
        let mut bytes = b"HTTP/1.1 101 Switching\r\n\r\n".to_vec();
        bytes.extend_from_slice(&served(&payload));

        let (mut reader, mut out) = (Reader::new(Speech::Centrifuge), Vec::new());
        let mut all = Vec::new();
        for byte in &bytes {
            all.extend(heard(&mut reader, &[*byte], &mut out));
        }
        assert_eq!(all, ["upgraded", "xy.a tick", "reply 3"]);
        assert_eq!(out, [0x82, 0x81, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn messages_of_nats_go_across_frames() {
        let mut reader = Reader::new(Speech::Nats);
        let mut out = Vec::new();
        let mut all = heard(&mut reader, b"HTTP/1.1 101 Switching\r\n\r\n", &mut out);
        for piece in [
            "INFO {}\r\nPONG\r\nMSG xy.a 1 4\r\nti",
            "ck\r\nMSG xy",
            ".b 1 0\r\n\r\nPING\r\n",
        ] {
            all.extend(heard(&mut reader, &served(piece.as_bytes()), &mut out));
        }
        assert_eq!(all, ["upgraded", "pong", "xy.a tick", "xy.b "]);
        assert!(out.ends_with(b"PONG\r\n"));
    }

    #[test]
    fn head_and_entries_of_a_batch_are_read() {
        let mut bytes = vec![0x0a, 3, b'g', b'0', b'0', 0x10, 0xac, 0x02, 0x18, 0x05];
        for _ in 0..3 {
            bytes.extend_from_slice(&[BATCH_ENTRY, 2, 0x08, 1]);
        }
        assert_eq!(batch(&bytes), Some(Batch { seq: 300, ts_ms: 5 }));
        assert_eq!(entries(&bytes), 3);
        assert_eq!(batch(&[0x10]), None);
    }
}
