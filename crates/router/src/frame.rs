//! Bytes ready to be written, made once and shared.

use bus::{Message, Publication};
use protocol::channel::Channel;
use protocol::code::Disconnect;
use protocol::codec::{self, EncodeError, Encoding};
use protocol::dialect::Dialect;
use protocol::live;
use protocol::message;
use protocol::stratix::{self, Outbound};
use websocket::{Deflater, OpCode};

/// What tells the bytes for one subscriber from those for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flavor {
    /// What the client speaks.
    pub dialect: Dialect,
    /// How messages are encoded.
    pub encoding: Encoding,
    /// What stands around them on the wire.
    pub framing: Framing,
}

/// What stands around a message on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// A WebSocket message; with permessage-deflate if a window size in bits is given.
    WebSocket {
        /// The server's window, 9 to 15, if deflate was negotiated.
        deflate_bits: Option<u8>,
    },
    /// HTTP-streaming: a newline after JSON, nothing after Protobuf.
    Stream,
    /// Server-sent events.
    Events,
}

/// One message as one flavor of subscribers gets it.
#[derive(Debug)]
pub struct Frame {
    /// What it was subscribed to by, a channel or a pattern, so that a queue can drop it
    /// when that ends.
    pub channel: Channel,
    /// The channel it was published on, so that a queue can drop or conflate by channel.
    pub subject: Channel,
    /// A hash of `subject`, so that a long queue is searched without looking at each frame.
    pub subject_hash: u32,
    /// The bytes, framing included.
    pub bytes: Box<[u8]>,
}

/// A message can't be put into a subscriber's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("payload does not fit the subscriber's encoding")]
pub struct WrapError;

impl WrapError {
    /// What the subscriber is closed with.
    pub fn disconnect(self) -> Disconnect {
        Disconnect::INAPPROPRIATE_PROTOCOL
    }
}

impl From<EncodeError> for WrapError {
    fn from(_: EncodeError) -> Self {
        Self
    }
}

impl Framing {
    /// Appends a message, already encoded, with what stands around it.
    ///
    /// Messages shorter than `deflate_min` bytes are not compressed.
    pub fn wrap(
        self,
        encoding: Encoding,
        message: &[u8],
        deflate: Option<(&mut Deflater, usize)>,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::WebSocket { deflate_bits } => {
                let opcode = match encoding {
                    Encoding::Json => OpCode::Text,
                    Encoding::Protobuf => OpCode::Binary,
                };
                Self::wrap_as(opcode, deflate_bits, message, deflate, out);
            }
            Self::Stream => {
                out.extend_from_slice(message);
                if encoding == Encoding::Json {
                    out.push(b'\n');
                }
            }
            Self::Events => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(message);
                out.extend_from_slice(b"\n\n");
            }
        }
    }

    fn wrap_as(
        opcode: OpCode,
        deflate_bits: Option<u8>,
        message: &[u8],
        deflate: Option<(&mut Deflater, usize)>,
        out: &mut Vec<u8>,
    ) {
        if let (Some(bits), Some((deflater, min))) = (deflate_bits, deflate)
            && message.len() >= min
        {
            let mut compressed = Vec::with_capacity(message.len() / 2);
            // What does not shrink is sent as it is.
            if deflater.compress(bits, message, &mut compressed) {
                return websocket::encode_frame(out, opcode, true, true, None, &compressed);
            }
        }
        websocket::encode_frame(out, opcode, true, false, None, message);
    }
}

impl Frame {
    /// Bytes that are ready.
    pub fn of(channel: &Channel, subject: &Channel, bytes: Vec<u8>) -> Self {
        Self {
            channel: channel.clone(),
            subject: subject.clone(),
            subject_hash: fnv(subject.as_bytes()),
            bytes: bytes.into_boxed_slice(),
        }
    }

    /// Encodes what the bus delivered for the subscribers of `channel`, which is the
    /// message's own or a pattern that covers it.
    pub(crate) fn new(
        flavor: Flavor,
        channel: &Channel,
        delivered: &Message,
        deflate: Option<(&mut Deflater, usize)>,
        scratch: &mut Vec<u8>,
    ) -> Result<Self, WrapError> {
        scratch.clear();
        match flavor.dialect {
            Dialect::Centrifuge => {}
            Dialect::Stratix => return Ok(Self::bare(flavor, channel, delivered, deflate)),
            Dialect::Live { envelope } => return Ok(Self::raw(envelope, channel, delivered)),
        }
        match &delivered.kind {
            bus::Kind::Publication(publication) => {
                let mut told = self::publication(publication);
                if *channel != delivered.channel {
                    delivered.channel.as_str().clone_into(&mut told.channel);
                }
                codec::encode_push_publication(flavor.encoding, channel, &told, scratch)?;
            }
            // Tells the router something, and clients nothing.
            bus::Kind::Top(_) => {}
            bus::Kind::Join(info) => {
                let join = message::Join {
                    info: Some(info.as_ref().clone()),
                };
                let push = message::Push {
                    join: Some(join.into()),
                    ..push_on(channel)
                };
                codec::encode_reply(flavor.encoding, &reply(push), scratch)?;
            }
            bus::Kind::Leave(info) => {
                let leave = message::Leave {
                    info: Some(info.as_ref().clone()),
                };
                let push = message::Push {
                    leave: Some(leave.into()),
                    ..push_on(channel)
                };
                codec::encode_reply(flavor.encoding, &reply(push), scratch)?;
            }
        }
        let mut bytes = Vec::with_capacity(scratch.len() + 16);
        flavor
            .framing
            .wrap(flavor.encoding, scratch, deflate, &mut bytes);
        Ok(Self::of(channel, &delivered.channel, bytes))
    }
}

impl Frame {
    /// A publication as it is, for clients whose frames are messages: text, or the bytes
    /// of a binary message.
    fn bare(
        flavor: Flavor,
        channel: &Channel,
        delivered: &Message,
        deflate: Option<(&mut Deflater, usize)>,
    ) -> Self {
        let bus::Kind::Publication(publication) = &delivered.kind else {
            // They ask for nobody's coming and going.
            return Self::of(channel, &delivered.channel, Vec::new());
        };
        let binary = serde_json::from_slice::<stratix::Message>(&publication.data)
            .ok()
            .filter(|message| message.kind == stratix::Kind::Binary)
            .and_then(|message| stratix::answer(&message).ok());
        let (opcode, payload) = match &binary {
            Some(Outbound::Binary(payload)) => (OpCode::Binary, payload.as_slice()),
            Some(Outbound::Text(_)) | None => (OpCode::Text, &*publication.data),
        };
        let bits = match flavor.framing {
            Framing::WebSocket { deflate_bits } => deflate_bits,
            Framing::Stream | Framing::Events => None,
        };
        let mut bytes = Vec::with_capacity(payload.len() + 16);
        Framing::wrap_as(opcode, bits, payload, deflate, &mut bytes);
        Self::of(channel, &delivered.channel, bytes)
    }

    /// A payload as it is, in a binary frame, with its subject before it if asked for.
    fn raw(envelope: bool, channel: &Channel, delivered: &Message) -> Self {
        let mut bytes = Vec::new();
        // They ask for nobody's coming and going.
        if let bus::Kind::Publication(publication) = &delivered.kind {
            raw_payload(envelope, &delivered.channel, &publication.data, &mut bytes);
        }
        Self::of(channel, &delivered.channel, bytes)
    }
}

/// Appends a payload as live-data clients get it: a binary frame.
pub fn raw_payload(envelope: bool, subject: &str, payload: &[u8], out: &mut Vec<u8>) {
    if !envelope {
        return websocket::encode_frame(out, OpCode::Binary, true, false, None, payload);
    }
    let mut enveloped = Vec::with_capacity(2 + subject.len() + payload.len());
    live::envelope(subject, &mut enveloped);
    enveloped.extend_from_slice(payload);
    websocket::encode_frame(out, OpCode::Binary, true, false, None, &enveloped);
}

/// A publication of the bus in the protocol's words.
pub fn publication(publication: &Publication) -> message::Publication {
    let mut told = message::Publication {
        data: publication.data.clone(),
        info: publication.info.as_deref().cloned(),
        tags: publication
            .tags
            .as_deref()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        ..message::Publication::default()
    };
    if let Some(position) = publication.position {
        told.offset = position.offset;
        // The epoch is told once, with the first offset, to those who joined an
        // empty stream.
        if position.offset == 1 {
            position.epoch.as_str().clone_into(&mut told.epoch);
        }
    }
    told
}

/// FNV-1a. Whoever makes two subjects collide makes a search longer and no answer wrong.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

fn push_on(channel: &Channel) -> message::Push {
    message::Push {
        channel: channel.as_str().to_owned(),
        ..message::Push::default()
    }
}

fn reply(push: message::Push) -> message::Reply {
    message::Reply {
        push: Some(push.into()),
        ..message::Reply::default()
    }
}
