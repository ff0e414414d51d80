//! Clients of the relay's own dialect: many connections, one thread.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::frame::{self, Kind};

/// What a client was told about one of its messages; they have numbers for ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is safe.
    Ack,
    /// The agent's answer.
    Echo,
    /// It was refused or given up.
    Refused,
}

/// Which client was told what, about which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    pub(super) client: usize,
    pub(super) message: u64,
    pub(super) told: Told,
}

/// All connections.
pub(super) struct Clients {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// The data of every message.
    payload: String,
}

struct Connection {
    stream: TcpStream,
    is_open: bool,
    received: Vec<u8>,
    out: Vec<u8>,
}

impl Clients {
    /// Connects clients with these ids; every message has so many bytes of data.
    pub(super) fn connect(
        address: SocketAddr,
        ids: impl IntoIterator<Item = String>,
        size: usize,
    ) -> anyhow::Result<Self> {
        let mut clients = Self {
            poll: Poll::new().context("readiness queue was not made")?,
            events: Events::with_capacity(1_024),
            connections: Vec::new(),
            buffer: vec![0; 256 * 1024],
            payload: "x".repeat(size),
        };
        for id in ids {
            // Connected before it is watched: a flood of connections may be refused.
            let stream = std::net::TcpStream::connect(address).context("client was refused")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let token = Token(clients.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registry = clients.poll.registry();
            registry.register(&mut stream, token, interest)?;
            let request = format!(
                "GET /relay/ws?clientId={id}&ack=true HTTP/1.1\r\nHost: {address}\r\n\
                 Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            );
            let mut connection = Connection {
                stream,
                is_open: false,
                received: Vec::new(),
                out: request.into_bytes(),
            };
            connection.write()?;
            clients.connections.push(connection);
        }
        let deadline = Instant::now() + OPEN_WITHIN;
        while !clients.connections.iter().all(|one| one.is_open) {
            ensure!(Instant::now() < deadline, "clients were not let in");
            clients.turn(Duration::from_millis(10), &mut Vec::new())?;
        }
        Ok(clients)
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Sends a message whose id is a number.
    pub(super) fn send(&mut self, client: usize, message: u64) -> anyhow::Result<()> {
        let connection = &mut self.connections[client];
        let text = format!(
            "{{\"type\":0,\"messageId\":\"m-{message}\",\"data\":\"{}\",\"ack\":\"durable\"}}",
            self.payload
        );
        frame::text(&mut connection.out, text.as_bytes());
        connection.write()
    }

    /// Waits, if there is nothing to do, and appends what clients were told; whether
    /// anything was ready.
    pub(super) fn turn(&mut self, wait: Duration, news: &mut Vec<News>) -> anyhow::Result<bool> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &self.events {
            let client = event.token().0;
            let connection = &mut self.connections[client];
            connection.read(&mut self.buffer)?;
            connection.understand(client, news)?;
            connection.write()?;
        }
        Ok(!self.events.is_empty())
    }
}

impl Connection {
    fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the gateway closed a connection"),
                Ok(read) => self.received.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("connection failed"),
            }
        }
    }

    fn understand(&mut self, client: usize, news: &mut Vec<News>) -> anyhow::Result<()> {
        let mut at = 0;
        if !self.is_open {
            let Some(end) = memmem::find(&self.received, b"\r\n\r\n") else {
                return Ok(());
            };
            let head = String::from_utf8_lossy(&self.received[..end]);
            ensure!(
                head.starts_with("HTTP/1.1 101 "),
                "the gateway answered {head:?}"
            );
            self.is_open = true;
            at = end + 4;
        }
        while let Some(found) = frame::next(&self.received[at..]) {
            match found.kind {
                Kind::Message => {
                    if let Some((message, told)) = meaning(found.payload) {
                        news.push(News {
                            client,
                            message,
                            told,
                        });
                    }
                }
                Kind::Ping => frame::pong(&mut self.out, found.payload),
                Kind::Pong => {}
                Kind::Close => {
                    let reason = found.payload.get(2..).unwrap_or_default();
                    let reason = String::from_utf8_lossy(reason);
                    bail!("the gateway closed a connection: {reason}");
                }
            }
            at += found.length;
        }
        self.received.drain(..at);
        Ok(())
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let mut done = 0;
        while done < self.out.len() {
            match self.stream.write(&self.out[done..]) {
                Ok(written) => done += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("connection failed"),
            }
        }
        self.out.drain(..done);
        Ok(())
    }
}

/// What a text says about which message.
fn meaning(text: &[u8]) -> Option<(u64, Told)> {
    const ID: &[u8] = b"\"messageId\":\"";
    let id = &text[memmem::find(text, ID)? + ID.len()..];
    let (id, is_answer) = match id.strip_prefix(b"re-") {
        Some(id) => (id, true),
        None => (id, false),
    };
    let digits = id.strip_prefix(b"m-")?;
    let end = memchr::memchr(b'"', digits)?;
    let message = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    let told = if is_answer {
        Told::Echo
    } else if memmem::find(text, b"\"action\":\"ack\"").is_some() {
        Told::Ack
    } else {
        Told::Refused
    };
    Some((message, told))
}

/// For all connections to be let in.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_told_apart() {
        let told = |text: &str| meaning(text.as_bytes());
        let ack = r#"{"type":2,"action":"ack","messageId":"m-7","level":"durable"}"#;
        assert_eq!(told(ack), Some((7, Told::Ack)));
        let echo = r#"{"type":0,"clientId":"c","messageId":"re-m-8","data":"x"}"#;
        assert_eq!(told(echo), Some((8, Told::Echo)));
        let error = r#"{"type":2,"action":"error","messageId":"m-9","code":111}"#;
        assert_eq!(told(error), Some((9, Told::Refused)));
        assert_eq!(told(r#"{"type":2,"action":"history_complete"}"#), None);
    }
}
