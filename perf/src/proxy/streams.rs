//! Event streams held: all at once, each with its events, and what one costs in memory.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::load::PATIENCE;
use super::origin::EVENT_INTERVAL;
use super::ready::Ready;
use super::subject::Subject;

/// What holding streams came to.
#[derive(Debug)]
pub(super) struct Held {
    /// Streams that had all their events and stand.
    pub(super) streams: usize,
    /// Streams that did not begin, ended, or had fewer events than were due.
    pub(super) broken: usize,
    /// What a broken one received.
    pub(super) complaint: Option<String>,
    pub(super) events: u64,
    pub(super) rss_before: u64,
    pub(super) rss_after: u64,
    /// From the first stream's opening to the last one's first event, in seconds.
    pub(super) opened_within: f64,
}

impl Held {
    /// Resident memory of the proxy for each stream, in bytes.
    pub(super) fn bytes_per_stream(&self) -> f64 {
        self.rss_after.saturating_sub(self.rss_before) as f64 / self.streams.max(1) as f64
    }
}

/// Opens the streams and holds them for a few events each.
pub(super) fn hold(subject: &Subject, path: &str, streams: usize) -> anyhow::Result<Held> {
    let mut held = Streams::new()?;
    let request =
        format!("GET {path}/sse HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n");
    let rss_before = subject.rss()?;
    let started = Instant::now();
    while held.streams.len() < streams {
        // A flood of connections would measure the backlog of the listener.
        if held.streams.len() - held.begun < OPENING_MAX {
            held.open(subject, &request)?;
        }
        let is_full = held.streams.len() - held.begun >= OPENING_MAX;
        held.turn(Duration::from_millis(if is_full { 10 } else { 0 }))?;
        if started.elapsed() > OPEN_WITHIN {
            break;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while held.begun < held.streams.len() && Instant::now() < deadline {
        held.turn(Duration::from_millis(10))?;
    }
    let opened_within = started.elapsed().as_secs_f64();
    let end = Instant::now() + EVENT_INTERVAL * EVENTS_MIN + EVENT_INTERVAL / 5;
    while Instant::now() < end {
        held.turn(Duration::from_millis(100))?;
    }
    let rss_after = subject.rss()?;
    let due = 1 + u64::from(EVENTS_MIN);
    let is_well = |stream: &&Stream| stream.stream.is_some() && stream.events >= due;
    let well = held.streams.iter().filter(is_well).count();
    Ok(Held {
        streams: well,
        broken: streams - well,
        complaint: held.complaint,
        events: held.streams.iter().map(|stream| stream.events).sum(),
        rss_before,
        rss_after,
        opened_within,
    })
}

struct Streams {
    ready: Ready,
    streams: Vec<Stream>,
    keys: Vec<u64>,
    buffer: Vec<u8>,
    /// Had their first event, or ended before it.
    begun: usize,
    /// What the first stream that ended had received.
    complaint: Option<String>,
}

struct Stream {
    /// None once it has ended.
    stream: Option<TcpStream>,
    events: u64,
}

impl Streams {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            ready: Ready::new()?,
            streams: Vec::new(),
            keys: Vec::new(),
            buffer: vec![0; 16 * 1024],
            begun: 0,
            complaint: None,
        })
    }

    fn open(&mut self, subject: &Subject, request: &str) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(subject.address).context("stream did not connect")?;
        stream
            .write_all(request.as_bytes())
            .context("request was not sent")?;
        stream.set_nonblocking(true)?;
        self.ready.watch(&stream, self.streams.len() as u64)?;
        self.streams.push(Stream {
            stream: Some(stream),
            events: 0,
        });
        Ok(())
    }

    fn turn(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let mut keys = std::mem::take(&mut self.keys);
        self.ready.wait(Some(timeout), &mut keys)?;
        for &key in &keys {
            self.read(usize::try_from(key)?);
        }
        self.keys = keys;
        Ok(())
    }

    fn read(&mut self, key: usize) {
        let stream = &mut self.streams[key];
        let Some(socket) = &mut stream.stream else {
            return;
        };
        let received = match socket.read(&mut self.buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(length) if length > 0 => &self.buffer[..length],
            Ok(_) | Err(_) => {
                stream.stream = None;
                self.complaint
                    .get_or_insert_with(|| "a stream ended".to_owned());
                if stream.events == 0 {
                    self.begun += 1;
                }
                return;
            }
        };
        let events = memchr::memmem::find_iter(received, b"data:").count() as u64;
        if events == 0 && stream.events == 0 && !received.starts_with(b"HTTP/1.1 200") {
            let text = String::from_utf8_lossy(&received[..received.len().min(200)]).into_owned();
            self.complaint.get_or_insert(text);
        }
        if stream.events == 0 && events > 0 {
            self.begun += 1;
        }
        stream.events += events;
    }
}

/// Streams without their first event at once.
const OPENING_MAX: usize = 128;

/// Streams that have not begun by then do not.
const OPEN_WITHIN: Duration = Duration::from_secs(120);

/// Events that each stream must have beside its first.
const EVENTS_MIN: u32 = 2;
