//! A blocking client of the Centrifuge protocol: JSON over WebSocket.
//!
//! It answers pings and otherwise does only what it is told, so that a test can also do
//! what no SDK does.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use websocket::handshake::client::ClientHandshake;
use websocket::{Decoder, DeflateConfig, Event, Inflater, Limits, OpCode, Role, encode_frame};

use crate::certificate::Certificate;
use crate::{PATIENCE, http};

use link::Link;

mod link;

/// What goes into the opening handshake.
#[derive(Debug, Clone)]
pub struct Handshake<'a> {
    /// Path and query.
    pub target: &'a str,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// Sub-protocols to offer.
    pub protocols: &'a [&'a str],
    /// Whether to offer permessage-deflate.
    pub deflate: bool,
    /// Speaks TLS, and trusts this certificate only.
    pub trust: Option<&'a Certificate>,
}

impl Default for Handshake<'_> {
    fn default() -> Self {
        Self {
            target: "/connection/websocket",
            headers: &[],
            protocols: &[],
            deflate: false,
            trust: None,
        }
    }
}

/// How the server ended the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The close frame's code; `None` without a close frame or code.
    pub code: Option<u16>,
    /// The close frame's reason.
    pub reason: String,
}

/// Why something did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The handshake was answered with another status than 101.
    #[error("handshake was refused with status {}", .0.status)]
    Refused(http::Response),
    /// The server replied with an error.
    #[error("server replied with error {code} {message:?}")]
    Reply {
        /// The protocol's error code.
        code: u64,
        /// The protocol's message.
        message: String,
    },
    /// The connection has ended.
    #[error("connection was closed: {0:?}")]
    Closed(Close),
    /// Nothing came in time.
    #[error("nothing came within {0:?}")]
    TimedOut(Duration),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// One connection.
pub struct Client {
    link: Link,
    decoder: Decoder,
    inflater: Inflater,
    input: Vec<u8>,
    replies: VecDeque<Value>,
    pushes: VecDeque<Value>,
    closed: Option<Close>,
    last_id: u64,
    /// Whether the negotiated extension lets compressed frames through.
    pub deflates: bool,
    /// Whether application pings are answered.
    pub answers_pings: bool,
    /// Application pings seen.
    pub pings: usize,
}

impl Client {
    /// Does the WebSocket handshake.
    pub fn open(address: SocketAddr, handshake: &Handshake<'_>) -> Result<Self, ClientError> {
        let mut ask = ClientHandshake::new(*b"sixteen byte key");
        ask.protocols = handshake
            .protocols
            .iter()
            .map(|&name| name.to_owned())
            .collect();
        ask.deflate = handshake.deflate.then(DeflateConfig::default);
        let request = ask
            .request(&address.to_string(), handshake.target, handshake.headers)
            .map_err(anyhow::Error::from)?;
        let mut link = Link::open(address, handshake.trust)?;
        link.write_all(&request)?;
        let mut received = Vec::new();
        let (used, accepted) = loop {
            if received.windows(4).any(|four| four == b"\r\n\r\n") {
                if !received.starts_with(b"HTTP/1.1 101") {
                    let response = http::read_response(&mut link, &mut received)?;
                    return Err(ClientError::Refused(response));
                }
                if let Some(done) = ask.parse(&received).map_err(anyhow::Error::from)? {
                    break done;
                }
            }
            let mut chunk = [0; 4096];
            match link.read(&mut chunk)? {
                0 => {
                    return Err(ClientError::Closed(Close {
                        code: None,
                        reason: String::new(),
                    }));
                }
                length => received.extend_from_slice(&chunk[..length]),
            }
        };
        let mut client = Self {
            link,
            deflates: accepted.deflate.is_some(),
            decoder: Decoder::new(Role::Client, accepted.deflate),
            inflater: Inflater::new(),
            input: received.split_off(used),
            replies: VecDeque::new(),
            pushes: VecDeque::new(),
            closed: None,
            last_id: 0,
            answers_pings: true,
            pings: 0,
        };
        client.decode()?;
        Ok(client)
    }

    /// Opens a connection and connects with a token.
    pub fn connect(address: SocketAddr, token: &str) -> Result<Self, ClientError> {
        let mut client = Self::open(address, &Handshake::default())?;
        client.authenticate(token)?;
        Ok(client)
    }

    /// Sends the connect command; the result of the reply.
    pub fn authenticate(&mut self, token: &str) -> Result<Value, ClientError> {
        self.request("connect", json!({ "token": token }))
    }

    /// Subscribes; the result of the reply.
    pub fn subscribe(&mut self, channel: &str) -> Result<Value, ClientError> {
        self.request("subscribe", json!({ "channel": channel }))
    }

    /// Subscribes from a position; the result of the reply.
    pub fn recover(
        &mut self,
        channel: &str,
        epoch: &str,
        offset: u64,
    ) -> Result<Value, ClientError> {
        let ask = json!({ "channel": channel, "recover": true, "epoch": epoch, "offset": offset });
        self.request("subscribe", ask)
    }

    /// Publishes and waits for the reply.
    pub fn publish(&mut self, channel: &str, data: &Value) -> Result<(), ClientError> {
        self.request("publish", json!({ "channel": channel, "data": data }))
            .map(drop)
    }

    /// Sends a command and waits for its reply; the result named like the command.
    pub fn request(&mut self, command: &str, body: Value) -> Result<Value, ClientError> {
        let id = self.send_command(command, body)?;
        let mut reply = self.wait(PATIENCE, |client| {
            let index = client.replies.iter().position(|reply| reply["id"] == id)?;
            client.replies.remove(index)
        })?;
        match reply.get("error") {
            Some(error) => Err(ClientError::Reply {
                code: error["code"].as_u64().unwrap_or_default(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            }),
            None => Ok(reply[command].take()),
        }
    }

    /// Sends a command without waiting; its id.
    pub fn send_command(&mut self, command: &str, body: Value) -> Result<u64, ClientError> {
        self.last_id += 1;
        let mut frame = serde_json::Map::new();
        frame.insert("id".to_owned(), self.last_id.into());
        frame.insert(command.to_owned(), body);
        self.send_text(&Value::Object(frame).to_string())?;
        Ok(self.last_id)
    }

    /// Sends a text frame.
    pub fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        self.send_frame(OpCode::Text, false, text.as_bytes())
    }

    /// Sends a whole message or a control frame; `rsv1` marks it as compressed.
    pub fn send_frame(
        &mut self,
        opcode: OpCode,
        rsv1: bool,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let mut wire = Vec::with_capacity(payload.len() + 14);
        encode_frame(&mut wire, opcode, true, rsv1, Some(MASK), payload);
        self.send_bytes(&wire)
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.link.write_all(bytes)?;
        Ok(())
    }

    /// The next reply to a command whose reply nobody waits for, waiting for it.
    pub fn next_reply(&mut self, timeout: Duration) -> Result<Value, ClientError> {
        self.wait(timeout, |client| client.replies.pop_front())
    }

    /// The next push, waiting for it.
    pub fn next_push(&mut self, timeout: Duration) -> Result<Value, ClientError> {
        self.wait(timeout, |client| client.pushes.pop_front())
    }

    /// The next publication on a channel, waiting for it; other pushes are dropped.
    pub fn next_publication(&mut self, channel: &str) -> Result<Value, ClientError> {
        self.wait(PATIENCE, |client| {
            while let Some(mut push) = client.pushes.pop_front() {
                if push["channel"] == channel && push.get("pub").is_some() {
                    return Some(push["pub"].take());
                }
            }
            None
        })
    }

    /// A push that has come already.
    pub fn take_push(&mut self) -> Option<Value> {
        self.pushes.pop_front()
    }

    /// Waits for the server to end the connection.
    pub fn wait_close(&mut self, timeout: Duration) -> Result<Close, ClientError> {
        let deadline = Instant::now() + timeout;
        while self.closed.is_none() {
            self.pump(remaining(deadline, timeout)?)?;
        }
        Ok(self.closed.clone().unwrap_or(Close {
            code: None,
            reason: String::new(),
        }))
    }

    /// Waits for an application ping.
    pub fn wait_ping(&mut self, timeout: Duration) -> Result<(), ClientError> {
        let before = self.pings;
        self.wait(timeout, |client| (client.pings > before).then_some(()))
    }

    /// How the server ended the connection, if that is known yet.
    pub fn close(&self) -> Option<&Close> {
        self.closed.as_ref()
    }

    /// Reads once, waiting at most so long, and takes in what came.
    pub fn pump(&mut self, timeout: Duration) -> Result<(), ClientError> {
        if self.closed.is_some() {
            return Ok(());
        }
        // Zero would mean "for ever".
        self.link
            .tcp()
            .set_read_timeout(Some(timeout.max(Duration::from_millis(1))))?;
        let mut chunk = [0; 16 * 1024];
        match self.link.read(&mut chunk) {
            Ok(0) => self.ended(),
            Ok(length) => {
                self.input.extend_from_slice(&chunk[..length]);
                self.decode()?;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
                ) =>
            {
                self.ended();
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The socket, for waiting on many at once.
    pub fn stream(&self) -> &TcpStream {
        self.link.tcp()
    }

    fn wait<T>(
        &mut self,
        timeout: Duration,
        mut ready: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(found) = ready(self) {
                return Ok(found);
            }
            if let Some(close) = &self.closed {
                return Err(ClientError::Closed(close.clone()));
            }
            self.pump(remaining(deadline, timeout)?)?;
        }
    }

    fn decode(&mut self) -> Result<(), ClientError> {
        let mut input = std::mem::take(&mut self.input);
        let mut rest = input.as_mut_slice();
        let mut texts = Vec::new();
        let mut pongs = Vec::new();
        while !rest.is_empty() {
            let (used, event) = self
                .decoder
                .decode(&LIMITS, &mut self.inflater, rest)
                .map_err(anyhow::Error::from)?;
            match event {
                Some(Event::Message { payload, .. }) => texts.push(payload.to_vec()),
                Some(Event::Ping(payload)) => pongs.push(payload.to_vec()),
                Some(Event::Close { code, reason }) => {
                    self.closed = Some(Close {
                        code,
                        reason: reason.to_owned(),
                    });
                }
                Some(Event::Pong(_)) | None => {}
            }
            rest = &mut rest[used..];
        }
        for payload in pongs {
            self.send_frame(OpCode::Pong, false, &payload)?;
        }
        for text in texts {
            for message in text.split(|byte| *byte == b'\n') {
                self.receive(serde_json::from_slice(message).map_err(anyhow::Error::from)?)?;
            }
        }
        if self.closed.is_some() {
            // The answer to a close frame; the server may be gone by now.
            drop(self.send_frame(OpCode::Close, false, b""));
        }
        Ok(())
    }

    fn receive(&mut self, mut message: Value) -> Result<(), ClientError> {
        if message.get("id").is_some() {
            self.replies.push_back(message);
        } else if message.get("push").is_some() {
            self.pushes.push_back(message["push"].take());
        } else {
            self.pings += 1;
            if self.answers_pings {
                self.send_text("{}")?;
            }
        }
        Ok(())
    }

    fn ended(&mut self) {
        self.closed.get_or_insert(Close {
            code: None,
            reason: String::new(),
        });
    }
}

fn remaining(deadline: Instant, timeout: Duration) -> Result<Duration, ClientError> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ClientError::TimedOut(timeout)),
        left => Ok(left),
    }
}

/// Any key serves: nothing between test and gateway can be fooled by bytes on the wire.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x96, 0x0f];

/// What a server may send to a test: anything.
const LIMITS: Limits = Limits {
    message_max: 64 << 20,
    frame_max: 64 << 20,
    inflated_max: 64 << 20,
    inflate_ratio_max: u32::MAX,
};
