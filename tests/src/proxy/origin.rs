//! An upstream that does as it is told, and remembers what it was asked.
//!
//! One thread per connection: what it does reads from top to bottom.

use std::collections::HashMap;
use std::io::{self, BufReader, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use testkit::PATIENCE;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::message::{Body, Head, read_head};
use super::wire::is_timeout;

/// A running upstream; dropping it closes its port and its connections.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What an upstream does with each request.
type Answers = dyn Fn(&mut Asked<'_>) -> io::Result<()> + Send + Sync;

struct Shared {
    answer: Box<Answers>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    seen: Seen,
    open: HashMap<usize, TcpStream>,
    is_held: bool,
    has_stopped: bool,
}

/// What an upstream has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Connections that came.
    pub connections: usize,
    /// Connections that are open.
    pub open: usize,
    /// Heads of requests, in their order.
    pub requests: Vec<Head>,
    /// Requests being answered.
    pub in_flight: usize,
    /// The most of them at once.
    pub in_flight_max: usize,
    /// Callers that left while they waited.
    pub left: usize,
}

/// A request that is to be answered.
pub struct Asked<'a> {
    /// Its head.
    pub head: Head,
    /// Which connection it came on, from 1 on.
    pub connection: usize,
    reader: &'a mut BufReader<TcpStream>,
    body: Body,
    shared: &'a Shared,
    closes: bool,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// [`Origin::release`], or the upstream stops.
    Released,
    /// The caller closed its connection.
    CallerLeft,
    /// The time is over.
    TimedOut,
}

impl Origin {
    /// One that answers as [`by_path`] says.
    pub fn start() -> anyhow::Result<Self> {
        Self::answering(by_path)
    }

    /// One with answers of its own.
    pub fn answering(
        answer: impl Fn(&mut Asked<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), answer)
    }

    /// One at a certain address, as it was before it stopped.
    pub fn at(
        address: SocketAddr,
        answer: impl Fn(&mut Asked<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).context("upstream can't listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        let accepting = Builder::new()
            .name("origin".to_owned())
            .spawn(move || accepting.accept(&listener))?;
        Ok(Self {
            address,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, as routes say it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes [`Asked::wait`] wait until [`Origin::release`].
    pub fn hold(&self) {
        self.shared.lock().is_held = true;
    }

    /// Lets whoever waits go on.
    pub fn release(&self) {
        self.shared.lock().is_held = false;
        self.shared.changed.notify_all();
    }

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        self.shared.lock().seen.clone()
    }

    /// The last request.
    pub fn last(&self) -> anyhow::Result<Head> {
        let state = self.shared.lock();
        state.seen.requests.last().cloned().context("no request")
    }

    /// Waits until it has seen what is wanted.
    pub fn wait(&self, timeout: Duration, wanted: impl Fn(&Seen) -> bool) -> anyhow::Result<Seen> {
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), timeout, |state| !wanted(&state.seen))
            .unwrap_or_else(PoisonError::into_inner);
        let seen = state.seen.clone();
        ensure!(wanted(&seen), "upstream has only seen {seen:?}");
        Ok(seen)
    }

    /// Closes all connections, as an upstream does that has had enough.
    pub fn hang_up(&self) {
        for stream in self.shared.lock().open.values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.has_stopped = true;
            state.is_held = false;
        }
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
        self.hang_up();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.lock().has_stopped {
                return;
            }
            let shared = Arc::clone(self);
            let connection = {
                let mut state = self.lock();
                state.seen.connections += 1;
                state.seen.open += 1;
                let connection = state.seen.connections;
                state
                    .open
                    .extend(stream.try_clone().map(|stream| (connection, stream)));
                connection
            };
            self.changed.notify_all();
            let serve = move || {
                // The end of a connection is an error like any other here.
                drop(shared.serve(stream, connection));
                let mut state = shared.lock();
                state.open.remove(&connection);
                state.seen.open -= 1;
                shared.changed.notify_all();
            };
            let builder = Builder::new().name("origin connection".to_owned());
            if builder.stack_size(STACK).spawn(serve).is_err() {
                return;
            }
        }
    }

    fn serve(&self, stream: TcpStream, connection: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(stream);
        while let Some(head) = read_head(&mut reader)? {
            self.begins(&head);
            let mut asked = Asked {
                body: Body::of_request(&head),
                head,
                connection,
                reader: &mut reader,
                shared: self,
                closes: false,
            };
            let answered = (self.answer)(&mut asked);
            let closes = asked.closes;
            self.lock().seen.in_flight -= 1;
            self.changed.notify_all();
            answered?;
            if closes {
                return reader.get_ref().shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    fn begins(&self, head: &Head) {
        let mut state = self.lock();
        let seen = &mut state.seen;
        seen.requests.push(head.clone());
        seen.in_flight += 1;
        seen.in_flight_max = seen.in_flight_max.max(seen.in_flight);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.head.word(1).split('?').next().unwrap_or_default()
    }

    /// All of the body.
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        self.body.all(self.reader)
    }

    /// What came after the last chunk of the body.
    pub fn trailers(&self) -> &[(String, String)] {
        &self.body.trailers
    }

    /// The connection ends after this answer.
    pub fn closes(&mut self) {
        self.closes = true;
    }

    /// Answers with a body of known length.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut bytes = head(status, headers);
        if !matches!(status, 204 | 304) {
            bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        if self.head.word(0) != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.raw(&bytes)
    }

    /// Answers with JSON.
    pub fn json(&mut self, body: &Value) -> io::Result<()> {
        let headers = [("Content-Type", "application/json")];
        self.answer(200, &headers, body.to_string().as_bytes())
    }

    /// Begins an answer in chunks.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> io::Result<()> {
        let head = head(status, headers);
        self.raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())
    }

    /// Begins an event stream.
    pub fn begin_events(&mut self) -> io::Result<()> {
        self.begin(200, &[("Content-Type", "text/event-stream")])
    }

    /// Sends a chunk.
    pub fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.raw(&chunk)
    }

    /// Ends an answer in chunks.
    pub fn end(&mut self, trailers: &[(&str, &str)]) -> io::Result<()> {
        let mut end = "0\r\n".to_owned();
        for (name, value) in trailers {
            end.push_str(&format!("{name}: {value}\r\n"));
        }
        end.push_str("\r\n");
        self.raw(end.as_bytes())
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_ref().write_all(bytes)
    }

    /// Waits while the upstream is held, and notices if the caller leaves meanwhile.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        let deadline = Instant::now() + timeout;
        loop {
            if !self.shared.lock().is_held {
                return Ok(Woken::Released);
            }
            if self.has_left()? {
                self.shared.lock().seen.left += 1;
                self.shared.changed.notify_all();
                return Ok(Woken::CallerLeft);
            }
            if Instant::now() >= deadline {
                return Ok(Woken::TimedOut);
            }
            let (_state, _) = self
                .shared
                .changed
                .wait_timeout_while(self.shared.lock(), TICK, |state| state.is_held)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets some time pass.
    pub fn pause(&self, time: Duration) {
        // Not a condition of all: hundreds that pause need not hear of each other.
        std::thread::park_timeout(time);
    }

    /// Whether the upstream is held.
    pub fn is_held(&self) -> bool {
        self.shared.lock().is_held
    }

    /// Accepts the WebSocket upgrade that was asked.
    pub fn websocket(&mut self) -> io::Result<WebSocket<TcpStream>> {
        let key = self.head.header("sec-websocket-key").unwrap_or_default();
        let accept = derive_accept_key(key.as_bytes());
        let head = head(
            101,
            &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Accept", &accept),
            ],
        );
        self.raw(format!("{head}\r\n").as_bytes())?;
        self.closes = true;
        let stream = self.reader.get_ref().try_clone()?;
        Ok(WebSocket::from_raw_socket(stream, Role::Server, None))
    }

    fn has_left(&self) -> io::Result<bool> {
        let stream = self.reader.get_ref();
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        match peeked {
            Ok(count) => Ok(count == 0),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(_) => Ok(true),
        }
    }
}

/// What [`Origin::start`] answers.
///
/// - `/status/<number>`: that status, with a short body
/// - `/hold`: waits while the upstream is held, then answers 200
/// - `/events`: an event stream that ends when the upstream is not held any more
/// - `/websocket`: accepts the upgrade and sends every message back
/// - anything else: 200, with what was asked as JSON
pub fn by_path(asked: &mut Asked<'_>) -> io::Result<()> {
    let path = asked.path().to_owned();
    if let Some(status) = path.strip_prefix("/status/") {
        asked.body()?;
        return asked.answer(status.parse().unwrap_or(500), &[], b"as you wish");
    }
    match path.as_str() {
        "/hold" => {
            asked.body()?;
            match asked.wait(PATIENCE * 3)? {
                Woken::CallerLeft => Err(io::ErrorKind::ConnectionAborted.into()),
                _ => asked.answer(200, &[], b"released"),
            }
        }
        "/events" => {
            asked.begin_events()?;
            asked.chunk(b"data: first\n\n")?;
            match asked.wait(PATIENCE * 3)? {
                Woken::CallerLeft => Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {
                    asked.chunk(b"data: last\n\n")?;
                    asked.end(&[])
                }
            }
        }
        "/websocket" => echo(asked.websocket()?),
        _ => {
            let body = asked.body()?;
            let told = json!({
                "method": asked.head.word(0),
                "target": asked.head.word(1),
                "headers": asked.head.headers,
                "trailers": asked.trailers(),
                "length": body.len(),
                "body": String::from_utf8_lossy(body.get(..body.len().min(1_024)).unwrap_or_default()),
                "connection": asked.connection,
            });
            asked.json(&told)
        }
    }
}

fn echo(mut socket: WebSocket<TcpStream>) -> io::Result<()> {
    loop {
        let sent = match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            return Ok(());
        }
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let mut head = format!("HTTP/1.1 {status} Said\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

const STACK: usize = 256 * 1_024;
/// How often a wait looks whether its caller is still there.
const TICK: Duration = Duration::from_millis(10);
