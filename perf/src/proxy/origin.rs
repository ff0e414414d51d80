//! The server behind the proxies: one thread, one answer, event streams; it counts
//! connections.
//!
//! It runs in a process of its own (this program again). Whatever the path, the answer is 200
//! with 1 KiB; a path that ends in `/sse` begins an event stream that has an event at once and
//! then one in every few seconds; `/figures` tells the counts.

mod http2;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::pin;
use super::ready::Ready;
use crate::report::say;
use crate::server_process::Server;

/// How the origin runs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Serves HTTP/2 by prior knowledge, and event streams only.
    #[arg(long)]
    http2: bool,
}

/// Serves on a free port, which it prints, until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    crate::proc::files_max();
    let listener = TcpListener::bind("127.0.0.1:0").context("origin did not bind")?;
    let address = listener.local_addr().context("address is not known")?;
    say(&format!(
        "{{\"message\":\"listening\",\"listener\":\"main\",\"address\":\"{address}\"}}"
    ));
    match options.http2 {
        true => http2::serve(listener),
        false => Service::new(listener)?.serve(),
    }
}

/// What the origin has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) connections: u64,
    pub(super) requests: u64,
}

/// An origin as a child process.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) pid: u32,
    /// The connection that asks for the counts; it is among them.
    control: Option<TcpStream>,
    _server: Server,
}

impl Origin {
    /// Starts one for HTTP/1.1 that stays on this core.
    pub(super) fn start(cores: pin::Cores) -> anyhow::Result<Self> {
        let mut origin = Self::started(cores, &["proxy-origin"])?;
        origin.control = Some(TcpStream::connect(origin.address).context("no origin")?);
        Ok(origin)
    }

    /// Starts one for HTTP/2 that stays on this core; it has no counts.
    pub(super) fn start_http2(cores: pin::Cores) -> anyhow::Result<Self> {
        Self::started(cores, &["proxy-origin", "--http2"])
    }

    fn started(cores: pin::Cores, arguments: &[&str]) -> anyhow::Result<Self> {
        let server = pin::started_on(cores.others, cores.others, || {
            Server::again("origin", arguments)
        })?;
        Ok(Self {
            address: server.address.socket,
            pid: server.pid,
            control: None,
            _server: server,
        })
    }

    /// Connections and requests so far.
    pub(super) fn figures(&mut self) -> anyhow::Result<Figures> {
        let control = self.control.as_mut().context("this origin has no counts")?;
        control.write_all(b"GET /figures HTTP/1.1\r\nHost: origin\r\n\r\n")?;
        let mut answer = [0; 256];
        let length = control.read(&mut answer)?;
        let text = String::from_utf8_lossy(&answer[..length]);
        let (_, body) = text.split_once("\r\n\r\n").context("no counts")?;
        let mut numbers = body.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || anyhow::Ok(numbers.next().context("no count")??);
        Ok(Figures {
            connections: next()?,
            requests: next()?,
        })
    }
}

/// All connections of the origin.
struct Service {
    listener: TcpListener,
    ready: Ready,
    /// By key; a key is used again when its connection is gone.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Streams by the time of their next event: all wait equally long.
    streams: VecDeque<(Instant, usize, u64)>,
    accepted: u64,
    requests: u64,
    answer: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// Distinguishes it from others of the same key.
    number: u64,
    received: Vec<u8>,
}

impl Service {
    fn new(listener: TcpListener) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        let ready = Ready::new()?;
        ready.watch(&listener, LISTENER)?;
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        )
        .into_bytes();
        answer.resize(answer.len() + BODY_BYTES, b'x');
        Ok(Self {
            listener,
            ready,
            connections: Vec::new(),
            free: Vec::new(),
            streams: VecDeque::new(),
            accepted: 0,
            requests: 0,
            answer,
            buffer: vec![0; 16 * 1024],
        })
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        let mut keys = Vec::new();
        loop {
            let due = self.streams.front().map(|(due, ..)| *due);
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            self.ready.wait(wait, &mut keys)?;
            for &key in &keys {
                match key {
                    LISTENER => self.accept()?,
                    key => self.read(usize::try_from(key)?),
                }
            }
            self.send_events();
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("origin does not accept"),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.accepted += 1;
            let key = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.ready.watch(&stream, key as u64)?;
            self.connections[key] = Some(Connection {
                stream,
                number: self.accepted,
                received: Vec::new(),
            });
        }
    }

    /// Reads what came and answers the requests that are whole.
    fn read(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key).and_then(Option::as_mut) else {
            return;
        };
        let buffer = &mut self.buffer;
        let read = match connection.stream.read(buffer) {
            Ok(0) => return self.close(key),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => return self.close(key),
        };
        connection.received.extend_from_slice(&buffer[..read]);
        while let Some(end) = memchr::memmem::find(&connection.received, b"\r\n\r\n") {
            let request = connection.received.drain(..end + 4);
            let wanted = Wanted::of(request.as_slice());
            drop(request);
            self.requests += 1;
            let written = match wanted {
                Wanted::Answer => connection.stream.write_all(&self.answer),
                Wanted::Stream => {
                    let due = Instant::now() + EVENT_INTERVAL;
                    self.streams.push_back((due, key, connection.number));
                    connection
                        .stream
                        .write_all(&[STREAM_HEAD, EVENT_CHUNK].concat())
                }
                Wanted::Figures => {
                    let body = format!("{} {}", self.accepted, self.requests);
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    connection.stream.write_all(answer.as_bytes())
                }
            };
            if written.is_err() {
                return self.close(key);
            }
        }
    }

    fn send_events(&mut self) {
        let now = Instant::now();
        while let Some(&(due, key, number)) = self.streams.front() {
            if due > now {
                return;
            }
            self.streams.pop_front();
            let connection = self.connections.get_mut(key).and_then(Option::as_mut);
            let Some(connection) = connection.filter(|found| found.number == number) else {
                continue;
            };
            match connection.stream.write_all(EVENT_CHUNK) {
                Ok(()) => self.streams.push_back((now + EVENT_INTERVAL, key, number)),
                Err(_) => self.close(key),
            }
        }
    }

    fn close(&mut self, key: usize) {
        self.connections[key] = None;
        self.free.push(key);
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Answer,
    Stream,
    Figures,
}

impl Wanted {
    fn of(request: &[u8]) -> Self {
        let target = request.split(|&byte| byte == b' ').nth(1).unwrap_or(b"/");
        match target {
            b"/figures" => Self::Figures,
            target if target.ends_with(b"/sse") => Self::Stream,
            _ => Self::Answer,
        }
    }
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n";

/// [`EVENT`] as a chunk.
const EVENT_CHUNK: &[u8] = b"1d\r\ndata: {\"delta\":\"some text\"}\n\n\r\n";

/// An event of a stream.
const EVENT: &[u8] = b"data: {\"delta\":\"some text\"}\n\n";

/// Between two events of a stream.
pub(super) const EVENT_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of an answer's body.
pub(super) const BODY_BYTES: usize = 1024;

const LISTENER: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_holds_the_event() {
        let text = format!("{:x}\r\n", EVENT.len());
        let expected = [text.as_bytes(), EVENT, b"\r\n"].concat();
        assert_eq!(EVENT_CHUNK, expected);
    }

    #[test]
    fn path_tells_what_is_wanted() {
        assert_eq!(Wanted::of(b"GET /a HTTP/1.1\r\n\r\n"), Wanted::Answer);
        assert_eq!(Wanted::of(b"GET /x/sse HTTP/1.1\r\n\r\n"), Wanted::Stream);
        assert_eq!(
            Wanted::of(b"GET /figures HTTP/1.1\r\n\r\n"),
            Wanted::Figures
        );
    }
}
