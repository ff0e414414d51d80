//! An origin that keeps what it is sent, and reads it by the letter.
//!
//! It shares no code with the gateway. Whatever could be read in two ways is a flaw of the
//! one who sent it: bytes without flaws are the same requests for every server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::ensure;
use testkit::PATIENCE;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Which of the origin's connections, from 0.
    pub(crate) connection: usize,
    /// The head as it was, without its empty line.
    pub(crate) head: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
    /// The trailers as they were.
    pub(crate) trailers: String,
    /// It arrived to its last byte.
    pub(crate) is_whole: bool,
    /// What another server might read differently.
    pub(crate) flaws: Vec<String>,
}

impl Seen {
    /// All values of a field (lower case).
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        fields(&self.head)
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_matches([' ', '\t']))
            .collect()
    }
}

/// The running origin.
pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    book: Mutex<Book>,
    changed: Condvar,
    is_over: AtomicBool,
}

#[derive(Default)]
struct Book {
    seen: Vec<Seen>,
    connections: usize,
    open: usize,
}

impl Origin {
    /// Starts one.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::Acquire) {
                    return;
                }
                let connection = shared.opens();
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    Connection::new(stream, connection, &shared).serve();
                    shared.closes();
                });
            }
        });
        Ok(Self { address, state })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything seen so far, in order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.book().seen.clone()
    }

    /// Everything, once all connections have ended.
    pub(crate) fn all_seen(&self) -> anyhow::Result<Vec<Seen>> {
        let (book, waited) = self
            .state
            .changed
            .wait_timeout_while(self.state.book(), PATIENCE, |book| book.open > 0)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(
            !waited.timed_out(),
            "{} connections to the origin stay open",
            book.open
        );
        Ok(book.seen.clone())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        // Wakes the listener; it may be gone already.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opens(&self) -> usize {
        let mut book = self.book();
        book.open += 1;
        book.connections += 1;
        book.connections - 1
    }

    fn closes(&self) {
        self.book().open -= 1;
        self.changed.notify_all();
    }

    fn saw(&self, seen: Seen) {
        self.book().seen.push(seen);
    }
}

/// One connection.
struct Connection<'a> {
    stream: TcpStream,
    input: Vec<u8>,
    number: usize,
    state: &'a State,
}

impl<'a> Connection<'a> {
    fn new(stream: TcpStream, number: usize, state: &'a State) -> Self {
        Self {
            stream,
            input: Vec::new(),
            number,
            state,
        }
    }

    fn serve(&mut self) {
        while let Some(seen) = self.read_request() {
            let answer = (seen.is_whole && seen.flaws.is_empty()).then(|| answer(&seen));
            self.state.saw(seen);
            let Some(answer) = answer else { return };
            if self.stream.write_all(&answer).is_err() {
                return;
            }
        }
    }

    /// More bytes; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    /// Up to and without `end`, which goes too; `None` at the end of the connection.
    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.input, end) {
                let found = self.input.drain(..at).collect();
                self.input.drain(..end.len());
                return Some(found);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// So many bytes.
    fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.input.len() < count {
            if !self.fill() {
                return None;
            }
        }
        Some(self.input.drain(..count).collect())
    }

    fn read_request(&mut self) -> Option<Seen> {
        let mut seen = Seen {
            connection: self.number,
            ..Seen::default()
        };
        let Some(head) = self.until(b"\r\n\r\n") else {
            if self.input.is_empty() {
                return None;
            }
            seen.head = text(&std::mem::take(&mut self.input));
            seen.flaws.push("head is cut".to_owned());
            return Some(seen);
        };
        seen.head = text(&head);
        let framing = read_head(&head, &mut seen);
        if !seen.flaws.is_empty() {
            return Some(seen);
        }
        seen.is_whole = match framing {
            Framing::Length(length) => match self.exactly(length) {
                Some(body) => {
                    seen.body = body;
                    true
                }
                None => false,
            },
            Framing::Chunked => self.read_chunks(&mut seen).is_some(),
        };
        Some(seen)
    }

    fn read_chunks(&mut self, seen: &mut Seen) -> Option<()> {
        loop {
            let size = text(&self.until(b"\r\n")?);
            let is_plain = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
            let Some(size) = usize::from_str_radix(&size, 16).ok().filter(|_| is_plain) else {
                seen.flaws.push(format!("chunk of size {size:?}"));
                return None;
            };
            if size == 0 {
                break;
            }
            seen.body.extend(self.exactly(size)?);
            let end = self.exactly(2)?;
            if end != b"\r\n" {
                seen.flaws.push(format!("chunk ends with {end:?}"));
                return None;
            }
        }
        loop {
            let line = text(&self.until(b"\r\n")?);
            if line.is_empty() {
                return Some(());
            }
            seen.trailers.push_str(&line);
            seen.trailers.push('\n');
            check_field(&line, &mut seen.flaws);
        }
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

/// What the head says; whatever is odd about it is a flaw.
fn read_head(head: &[u8], seen: &mut Seen) -> Framing {
    let lines = seen.head.clone();
    let line = lines.split("\r\n").next().unwrap_or_default();
    let parts: Vec<_> = line.split(' ').collect();
    if let [method, target, "HTTP/1.1"] = parts[..] {
        (seen.method, seen.target) = (method.to_owned(), target.to_owned());
        if !is_token(method) {
            seen.flaws.push(format!("method {method:?}"));
        }
        let is_origin = target.starts_with('/') || target == "*";
        if !is_origin || !target.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
            seen.flaws.push(format!("target {target:?}"));
        }
    } else {
        seen.flaws.push(format!("request line {line:?}"));
    }
    if head.contains(&0) {
        seen.flaws.push("zero byte".to_owned());
    }
    for field in lines.split("\r\n").skip(1) {
        check_field(field, &mut seen.flaws);
    }
    let hosts = seen.all("host").len();
    if hosts != 1 {
        seen.flaws.push(format!("{hosts} hosts"));
    }
    let lengths: Vec<_> = seen
        .all("content-length")
        .iter()
        .map(|s| (*s).to_owned())
        .collect();
    let codings: Vec<_> = seen
        .all("transfer-encoding")
        .iter()
        .map(|s| (*s).to_owned())
        .collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Framing::Length(0),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Framing::Length(length.parse().unwrap_or_else(|_| {
                seen.flaws.push(format!("content-length {length:?}"));
                0
            }))
        }
        ([], [coding]) if coding == "chunked" => Framing::Chunked,
        both => {
            seen.flaws.push(format!("framing {both:?}"));
            Framing::Length(0)
        }
    }
}

fn check_field(line: &str, flaws: &mut Vec<String>) {
    let is_fine = |byte: u8| byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
    match line.split_once(':') {
        Some((name, value)) if is_token(name) && value.bytes().all(is_fine) => {}
        _ => flaws.push(format!("field {line:?}")),
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte))
}

/// The answer says whose it is, so that one that reaches somebody else shows.
fn answer(seen: &Seen) -> Vec<u8> {
    let says = format!("{} {}", seen.method, seen.target);
    let status = seen
        .target
        .split_once("status=")
        .map_or("200", |(_, status)| status);
    let body = if seen.method == "HEAD" { "" } else { &says };
    format!(
        "HTTP/1.1 {status} Fine\r\nContent-Length: {}\r\n\r\n{body}",
        says.len()
    )
    .into_bytes()
}

fn fields(head: &str) -> impl Iterator<Item = (&str, &str)> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
}

/// Latin-1, so that nothing is lost.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
