//! One client's path from TCP to a subscription and what it does there.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Address, Buffers, Tally};
use crate::frame::{self, Kind};

/// What a client is to do.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) token: String,
    /// Channels to subscribe to; none for a bare connection.
    pub(crate) channels: Vec<Arc<str>>,
    pub(crate) purpose: Purpose,
    /// Whether the socket gets a small receive buffer, so that it fills up soon
    /// once the client stops reading.
    pub(crate) narrow: bool,
}

impl Opening {
    /// A client that stays, with one channel or none.
    pub(crate) fn stay(token: String, channel: Option<Arc<str>>) -> Self {
        let channels = channel.into_iter().collect();
        Self {
            token,
            channels,
            purpose: Purpose::Stay,
            narrow: false,
        }
    }

    /// A client that closes as soon as it is connected.
    pub(crate) fn leave(token: String) -> Self {
        Self {
            token,
            channels: Vec::new(),
            purpose: Purpose::Leave,
            narrow: false,
        }
    }

    /// A client that fetches the address's path and is gone.
    pub(crate) fn visit() -> Self {
        Self {
            token: String::new(),
            channels: Vec::new(),
            purpose: Purpose::Visit,
            narrow: false,
        }
    }

    fn is_visit(&self) -> bool {
        self.purpose == Purpose::Visit
    }
}

/// What a client does once it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Stays and counts.
    Stay,
    /// Closes by the closing handshake.
    Leave,
    /// Asks for a page over HTTP instead of upgrading, and closes.
    Visit,
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Securing,
    Upgrading,
    /// This many replies are still to come: to `connect`, then to each `subscribe`.
    Joining(u32),
    Ready,
    Closing,
}

pub(super) struct Connection {
    pub(super) group: usize,
    /// Publications received since progress is kept.
    pub(super) received: u64,
    stream: TcpStream,
    phase: Phase,
    answers_pings: bool,
    /// Not yet taken by the socket.
    unsent: Vec<u8>,
    /// Received, but not yet a whole frame.
    partial: Vec<u8>,
    tls: Option<Box<ClientConnection>>,
    opening: Option<Box<Opening>>,
}

impl Connection {
    pub(super) fn start(address: &Address, group: usize, opening: Opening) -> io::Result<Self> {
        let domain = Domain::for_address(address.socket);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if opening.narrow {
            // Has to be known before the window is negotiated.
            socket.set_recv_buffer_size(4096)?;
        }
        match socket.connect(&address.socket.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let tls = match &address.tls {
            Some(config) => {
                let name = ServerName::IpAddress(address.socket.ip().into());
                let client = ClientConnection::new(Arc::clone(config), name);
                Some(Box::new(client.map_err(io::Error::other)?))
            }
            None => None,
        };
        Ok(Self {
            group,
            received: 0,
            stream: TcpStream::from_std(socket.into()),
            phase: Phase::Connecting,
            answers_pings: false,
            unsent: Vec::new(),
            partial: Vec::new(),
            tls,
            opening: Some(Box::new(opening)),
        })
    }

    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Handles readiness: sends what waits, reads what came. `closed` says that
    /// the end of the stream is known to follow; `now` gives the engine's time.
    pub(super) fn ready(
        &mut self,
        address: &Address,
        tally: &mut Tally,
        buffers: &mut Buffers,
        closed: bool,
        now: &dyn Fn() -> u64,
    ) -> io::Result<Fate> {
        if self.phase == Phase::Connecting {
            match self.stream.take_error()? {
                Some(error) => return Err(error),
                None if self.stream.peer_addr().is_err() => return Ok(Fate::Open),
                None => self.connected(address)?,
            }
        }
        if !self.unsent.is_empty() {
            self.flush()?;
        }
        let mut received = std::mem::take(&mut buffers.received);
        let fate = self.read_all(&mut received, address, tally, buffers, closed, now);
        buffers.received = received;
        fate
    }

    /// Sends encoded frames.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<Fate> {
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(bytes)?;
                while tls.wants_write() {
                    tls.write_tls(&mut self.unsent)?;
                }
                self.flush()?;
            }
            None if self.unsent.is_empty() => {
                let taken = match self.stream.write(bytes) {
                    Ok(taken) => taken,
                    Err(error) if would_wait(&error) => 0,
                    Err(error) => return Err(error),
                };
                self.unsent.extend_from_slice(&bytes[taken..]);
            }
            None => self.unsent.extend_from_slice(bytes),
        }
        Ok(Fate::Open)
    }

    /// Closes without leaving the port in TIME_WAIT: a run opens more
    /// connections than there are ports.
    pub(super) fn abandon(&self) {
        // Without it the port merely rests for a minute.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Enters the end of the connection into the tally.
    pub(super) fn account(&self, tally: &mut Tally, outcome: &io::Result<Fate>) {
        let reason = match outcome {
            Ok(Fate::Open) => return,
            Ok(Fate::Gone) => "server closed the connection".to_owned(),
            Err(error) => error.to_string(),
        };
        match self.phase {
            Phase::Closing => {
                tally.left += 1;
                tally.opening -= 1;
            }
            Phase::Ready => {
                tally.lost += 1;
                tally.complain(reason);
            }
            Phase::Connecting | Phase::Securing | Phase::Upgrading | Phase::Joining(_) => {
                tally.failed += 1;
                tally.opening -= 1;
                tally.complain(format!("{reason} while {:?}", self.phase));
            }
        }
    }

    fn read_all(
        &mut self,
        received: &mut [u8],
        address: &Address,
        tally: &mut Tally,
        buffers: &mut Buffers,
        closed: bool,
        now: &dyn Fn() -> u64,
    ) -> io::Result<Fate> {
        loop {
            let length = match self.stream.read(received) {
                Ok(0) => return Ok(Fate::Gone),
                Ok(length) => length,
                Err(error) if would_wait(&error) => return Ok(Fate::Open),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let bytes = &received[..length];
            let fate = match self.tls.is_some() {
                true => self.decrypt(bytes, address, tally, buffers, now)?,
                false => self.take(bytes, tally, buffers, now)?,
            };
            if fate == Fate::Gone {
                return Ok(Fate::Gone);
            }
            // A short read has emptied the socket; the next bytes raise an event
            // (epoll(7), question 9). Only the end of the stream may be known already.
            if length < received.len() && !closed {
                return Ok(Fate::Open);
            }
        }
    }

    fn connected(&mut self, address: &Address) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                self.phase = Phase::Securing;
                while tls.wants_write() {
                    tls.write_tls(&mut self.unsent)?;
                }
                self.flush()
            }
            None => self.upgrade(address),
        }
    }

    fn upgrade(&mut self, address: &Address) -> io::Result<()> {
        self.phase = Phase::Upgrading;
        if self.visits() {
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
                address.path, address.host
            );
            return self.send(request.as_bytes()).map(drop);
        }
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            address.path, address.host,
        );
        self.send(request.as_bytes()).map(drop)
    }

    fn visits(&self) -> bool {
        self.opening
            .as_ref()
            .is_some_and(|opening| opening.is_visit())
    }

    fn decrypt(
        &mut self,
        mut bytes: &[u8],
        address: &Address,
        tally: &mut Tally,
        buffers: &mut Buffers,
        now: &dyn Fn() -> u64,
    ) -> io::Result<Fate> {
        let mut decrypted = std::mem::take(&mut buffers.decrypted);
        let mut fate = Ok(Fate::Open);
        while !bytes.is_empty() && matches!(fate, Ok(Fate::Open)) {
            let Some(tls) = &mut self.tls else { break };
            fate = tls
                .read_tls(&mut bytes)
                .and_then(|_| tls.process_new_packets().map_err(io::Error::other))
                .map(|_| Fate::Open);
            while tls.wants_write() {
                tls.write_tls(&mut self.unsent)?;
            }
            let secured = !tls.is_handshaking();
            let mut length = 0;
            loop {
                match tls.reader().read(&mut decrypted[length..]) {
                    Ok(0) => break,
                    Ok(more) => length += more,
                    Err(_) => break,
                }
            }
            self.flush()?;
            if secured && self.phase == Phase::Securing {
                self.upgrade(address)?;
            }
            if length > 0 && matches!(fate, Ok(Fate::Open)) {
                fate = self.take(&decrypted[..length], tally, buffers, now);
            }
        }
        buffers.decrypted = decrypted;
        fate
    }

    /// Takes plain bytes: the answer to the upgrade, then frames.
    fn take(
        &mut self,
        bytes: &[u8],
        tally: &mut Tally,
        buffers: &Buffers,
        now: &dyn Fn() -> u64,
    ) -> io::Result<Fate> {
        let whole;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            whole = std::mem::take(&mut self.partial);
            &whole
        };
        if self.phase == Phase::Upgrading {
            let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                self.partial = rest.to_vec();
                return Ok(Fate::Open);
            };
            let visits = self.visits();
            let expected = if visits {
                &b"HTTP/1.1 200"[..]
            } else {
                b"HTTP/1.1 101"
            };
            if !rest.starts_with(expected) {
                let line = rest.split(|&byte| byte == b'\r').next().unwrap_or_default();
                let line = String::from_utf8_lossy(line);
                return Err(io::Error::other(format!("server answered {line:?}")));
            }
            if visits {
                tally.ready += 1;
                self.phase = Phase::Closing;
                return Ok(Fate::Gone);
            }
            rest = &rest[end + 4..];
            self.join()?;
        }
        // Clocks are read once per batch: its frames were received together.
        let received_at = if tally.latency.is_some() { now() } else { 0 };
        while let Some(found) = frame::next(rest) {
            rest = &rest[found.length..];
            match found.kind {
                Kind::Message => self.message(found.payload, received_at, tally, buffers)?,
                Kind::Ping => {
                    let mut pong = Vec::new();
                    frame::pong(&mut pong, found.payload);
                    self.send(&pong)?;
                }
                Kind::Pong => {}
                Kind::Close => {
                    if let [high, low, reason @ ..] = found.payload {
                        let code = u16::from_be_bytes([*high, *low]);
                        *tally.closes.entry(code).or_default() += 1;
                        if self.phase != Phase::Closing {
                            let reason = String::from_utf8_lossy(reason);
                            tally.complain(format!("server closed with {code} {reason:?}"));
                        }
                    }
                    return Ok(Fate::Gone);
                }
            }
        }
        if !rest.is_empty() {
            self.partial = rest.to_vec();
        }
        Ok(Fate::Open)
    }

    /// Sends `connect` and the subscriptions in one frame, as SDKs do.
    fn join(&mut self) -> io::Result<()> {
        let Some(opening) = &self.opening else {
            return Ok(());
        };
        let mut commands = format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, opening.token);
        for (index, channel) in opening.channels.iter().enumerate() {
            commands += &format!(
                "\n{{\"id\":{},\"subscribe\":{{\"channel\":\"{channel}\"}}}}",
                index + 2
            );
        }
        self.phase = Phase::Joining(1 + opening.channels.len() as u32);
        let mut out = Vec::with_capacity(commands.len() + 14);
        frame::text(&mut out, commands.as_bytes());
        self.send(&out).map(drop)
    }

    /// One message: replies and pushes, one per line.
    fn message(
        &mut self,
        payload: &[u8],
        received_at: u64,
        tally: &mut Tally,
        buffers: &Buffers,
    ) -> io::Result<()> {
        let mut start = 0;
        while start < payload.len() {
            let end = memchr::memchr(b'\n', &payload[start..])
                .map_or(payload.len(), |length| start + length);
            let line = &payload[start..end];
            start = end + 1;
            if line.starts_with(br#"{"push""#) {
                tally.pushes += 1;
                if let Some(progress) = &mut tally.progress {
                    progress.receive(self.received);
                    self.received += 1;
                }
                if let Some(latency) = &mut tally.latency
                    && let Some(sent_at) = sent_at(line, buffers)
                {
                    latency.saturating_record(received_at.saturating_sub(sent_at) / 1000);
                }
            } else if line == b"{}" {
                tally.pings += 1;
                if self.answers_pings {
                    let mut pong = Vec::with_capacity(8);
                    frame::text(&mut pong, b"{}");
                    self.send(&pong)?;
                }
            } else {
                self.reply(line, tally)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, line: &[u8], tally: &mut Tally) -> io::Result<()> {
        let failed = memchr::memmem::find(line, br#""error":"#).is_some();
        match self.phase {
            Phase::Joining(_) if failed => {
                let line = String::from_utf8_lossy(line);
                Err(io::Error::other(format!("server refused: {line}")))
            }
            Phase::Joining(replies) => {
                self.answers_pings |= memchr::memmem::find(line, br#""pong":true"#).is_some();
                self.phase = Phase::Joining(replies - 1);
                if replies > 1 {
                    Ok(())
                } else {
                    self.joined(tally)
                }
            }
            Phase::Ready if failed => {
                tally.refused += 1;
                tally.complain(String::from_utf8_lossy(line).into_owned());
                Ok(())
            }
            Phase::Ready => {
                tally.acknowledged += 1;
                Ok(())
            }
            Phase::Connecting | Phase::Securing | Phase::Upgrading | Phase::Closing => Ok(()),
        }
    }

    fn joined(&mut self, tally: &mut Tally) -> io::Result<()> {
        tally.ready += 1;
        let purpose = self
            .opening
            .take()
            .map_or(Purpose::Stay, |opening| opening.purpose);
        match purpose {
            Purpose::Stay => {
                self.phase = Phase::Ready;
                tally.opening -= 1;
                Ok(())
            }
            // It counts as opening until it is gone: whoever limits how many are
            // under way means the whole life of these.
            Purpose::Leave | Purpose::Visit => {
                self.phase = Phase::Closing;
                let mut close = Vec::with_capacity(8);
                frame::close(&mut close);
                self.send(&close).map(drop)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if would_wait(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.unsent = Vec::new();
        Ok(())
    }
}

/// The time a publication was due, which its payload carries as 16 hex digits.
fn sent_at(line: &[u8], buffers: &Buffers) -> Option<u64> {
    let start = buffers.timestamp.find(line)? + TIMESTAMP_KEY.len();
    let digits = std::str::from_utf8(line.get(start..start + 16)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}

/// What stands before the time in a payload.
pub(super) const TIMESTAMP_KEY: &[u8] = b"\"t\":\"";

/// Linux: the connection is being made.
const EINPROGRESS: i32 = 115;
