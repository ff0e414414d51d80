//! Streams and tunnels run through the proxy while its routes change again and again.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use testkit::{Gateway, http};
use tungstenite::{Message, WebSocket};

use super::api::{Api, id};
use super::origin::{Asked, Origin};
use super::route;
use crate::config::config;

/// How large the scenario is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Event streams.
    pub streams: usize,
    /// WebSocket tunnels.
    pub tunnels: usize,
    /// Changes of routes.
    pub changes: usize,
}

/// What happened, if nothing went wrong.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Events that were received, each in its place and whole.
    pub events: u64,
    /// Messages that came back through tunnels, each in its place and whole.
    pub messages: u64,
    /// For all changes.
    pub took: Duration,
}

/// Runs the scenario. It fails if a stream or a tunnel ends before it should, or if what
/// comes through one is not exactly what was sent, in its order.
pub fn while_routes_change(size: Size) -> anyhow::Result<Outcome> {
    let origin = Origin::answering(serve)?;
    origin.hold();
    let gateway = Gateway::start(&config("limits: { handshake_rate: 0 }"))?;
    let api = Api::of(&gateway)?;
    // Routes that carry something; their irrelevant fields change as well.
    let carriers = ["/-/one", "/-/two", "/-/three"]
        .iter()
        .map(|path| {
            let more = json!({ "websocket": true, "timeoutConfig": { "idle": 600 } });
            id(&api.create(&route(path, &origin.url(), &more))?)
        })
        .collect::<anyhow::Result<Vec<String>>>()?;
    let main = gateway.main_addr();
    let mut streams = open_all(size.streams, |nth| Stream::open(main, nth))?;
    let mut tunnels = open_all(size.tunnels, |nth| Tunnel::open(main, nth))?;
    let done = &AtomicBool::new(false);
    let begun = Instant::now();
    let took = std::thread::scope(|scope| -> anyhow::Result<Duration> {
        let listening = scope.spawn(|| read_all(&mut streams, done));
        let talking = scope.spawn(|| talk_all(&mut tunnels, done));
        let changed = change(&api, &carriers, &origin.url(), size.changes);
        let took = begun.elapsed();
        done.store(true, Ordering::Relaxed);
        listening
            .join()
            .map_err(|_| anyhow!("reader panicked"))?
            .context("streams")?;
        talking
            .join()
            .map_err(|_| anyhow!("talker panicked"))?
            .context("tunnels")?;
        changed?;
        Ok(took)
    })?;
    // The ones that were opened first end as they should, too.
    origin.release();
    for stream in &mut streams {
        stream.finish()?;
    }
    for tunnel in &mut tunnels {
        tunnel.turn()?;
        tunnel.finish()?;
    }
    let events = streams.iter().map(|stream| stream.next).sum();
    let messages = tunnels.iter().map(|tunnel| tunnel.next).sum();
    ensure!(
        events >= size.streams as u64 && messages >= size.tunnels as u64,
        "{events} events and {messages} messages are no load"
    );
    Ok(Outcome {
        events,
        messages,
        took,
    })
}

/// Creates, changes and deletes routes, and changes those that carry something in ways
/// that concern nothing under way.
fn change(api: &Api, carriers: &[String], url: &str, changes: usize) -> anyhow::Result<()> {
    let mut others: Vec<String> = Vec::new();
    for nth in 0..changes {
        let what = || format!("change {nth}");
        match nth % 5 {
            0 | 1 => {
                let record = route(&format!("/-/other/{nth}"), url, &json!({}));
                others.push(id(&api.create(&record).with_context(what)?)?);
            }
            2 => {
                let other = others.last().context("no other route")?;
                let change = json!({ "timeout": 1 + nth % 200, "name": format!("other {nth}") });
                api.patch(other, &change).with_context(what)?;
            }
            3 => {
                let carrier = &carriers[nth / 5 % carriers.len()];
                let change = match nth / 5 % 3 {
                    0 => json!({ "timeout": 1 + nth % 200 }),
                    1 => json!({ "name": format!("carrier {nth}") }),
                    _ => json!({ "maxConcurrent": 2_000 + nth % 100, "accessRule": "true" }),
                };
                api.patch(carrier, &change).with_context(what)?;
            }
            _ => {
                let other = others.remove(0);
                api.delete(&other).with_context(what)?;
            }
        }
    }
    Ok(())
}

/// Opens connections on a few threads, as each takes a while.
fn open_all<T: Send>(
    count: usize,
    open: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let open = &open;
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|opener| {
                scope.spawn(move || {
                    (opener..count)
                        .step_by(OPENERS)
                        .map(open)
                        .collect::<anyhow::Result<Vec<T>>>()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for opener in openers {
            all.extend(opener.join().map_err(|_| anyhow!("opener panicked"))??);
        }
        Ok(all)
    })
}

/// The upstream: `/stream/<n>` is an event stream of numbered events, `/tunnel/<n>` a
/// WebSocket that sends back what it gets.
fn serve(asked: &mut Asked<'_>) -> io::Result<()> {
    let path = asked.path().to_owned();
    let Some((kind, name)) = path.rsplit_once('/') else {
        return asked.answer(404, &[], b"");
    };
    if kind.ends_with("/tunnel") {
        let mut socket = asked.websocket()?;
        loop {
            let sent = match socket.read() {
                Ok(Message::Text(text)) => socket.send(Message::Text(text)),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if sent.is_err() {
                return Ok(());
            }
        }
    }
    asked.begin_events()?;
    let mut next = 0;
    while asked.is_held() {
        asked.chunk(event(name, next).as_bytes())?;
        next += 1;
        asked.pause(EVENT_EVERY);
    }
    asked.chunk(format!("data: end {name} {next}\n\n").as_bytes())?;
    asked.end(&[])
}

/// An event that shows whether it is whole, and whose it is.
fn event(name: &str, nth: u64) -> String {
    let filling = "x".repeat(usize::try_from(nth % 97).unwrap_or(0) * 7);
    let text = format!("{name} {nth} {filling}");
    format!("data: {text} {:08x}\n\n", checksum(&text))
}

/// FNV-1a.
fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

fn carrier_of(nth: usize) -> &'static str {
    ["/-/one", "/-/two", "/-/three"][nth % 3]
}

/// An event stream that is being read. Its chunks are taken apart here, so that one thread
/// can read them all.
struct Stream {
    socket: TcpStream,
    name: String,
    /// What came and was not understood yet.
    raw: Vec<u8>,
    text: String,
    /// The number of the next event.
    next: u64,
    has_ended: bool,
}

impl Stream {
    fn open(address: SocketAddr, nth: usize) -> anyhow::Result<Self> {
        let mut socket = http::connect(address)?;
        let carrier = carrier_of(nth);
        let name = format!("s{nth}");
        let request = format!("GET {carrier}/stream/{name} HTTP/1.1\r\nHost: x\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            raw.extend_from_slice(&byte);
        }
        ensure!(
            raw.starts_with(b"HTTP/1.1 200 "),
            "stream {name} was refused"
        );
        raw.clear();
        Ok(Self {
            socket,
            name,
            raw,
            text: String::new(),
            next: 0,
            has_ended: false,
        })
    }

    /// Takes what there is.
    fn pump(&mut self) -> anyhow::Result<()> {
        let mut part = [0; 8_192];
        let count = self.socket.read(&mut part)?;
        ensure!(count > 0, "stream {} was dropped", self.name);
        self.raw.extend_from_slice(&part[..count]);
        self.unchunk()?;
        while let Some(at) = self.text.find("\n\n") {
            let rest = self.text.split_off(at + 2);
            let came = std::mem::replace(&mut self.text, rest);
            self.check(&came)?;
        }
        ensure!(
            !self.has_ended || self.text.is_empty(),
            "stream {} ended within an event",
            self.name
        );
        Ok(())
    }

    fn unchunk(&mut self) -> anyhow::Result<()> {
        loop {
            let Some(line_end) = self.raw.windows(2).position(|two| two == b"\r\n") else {
                return Ok(());
            };
            let size = std::str::from_utf8(&self.raw[..line_end])?;
            let size = usize::from_str_radix(size, 16)
                .with_context(|| format!("{size:?} is no size of a chunk"))?;
            let end = line_end + 2 + size;
            if self.raw.len() < end + 2 {
                return Ok(());
            }
            ensure!(&self.raw[end..end + 2] == b"\r\n", "chunk has no end");
            self.text
                .push_str(std::str::from_utf8(&self.raw[line_end + 2..end])?);
            self.raw.drain(..end + 2);
            if size == 0 {
                self.has_ended = true;
                return Ok(());
            }
        }
    }

    fn check(&mut self, came: &str) -> anyhow::Result<()> {
        if came == format!("data: end {} {}\n\n", self.name, self.next) {
            return Ok(());
        }
        let expected = event(&self.name, self.next);
        ensure!(came == expected, "{came:?} came instead of {expected:?}");
        self.next += 1;
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        while !self.has_ended {
            self.pump()?;
        }
        Ok(())
    }
}

/// Reads streams as their sockets become readable, until it is done.
fn read_all(streams: &mut [Stream], done: &AtomicBool) -> anyhow::Result<()> {
    while !done.load(Ordering::Relaxed) {
        let mut sockets: Vec<_> = streams
            .iter()
            .map(|stream| PollFd::new(&stream.socket, PollFlags::IN))
            .collect();
        poll(&mut sockets, Some(&TICK))?;
        let ready: Vec<bool> = sockets
            .iter()
            .map(|socket| !socket.revents().is_empty())
            .collect();
        for (stream, _) in streams.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            stream.pump()?;
            ensure!(!stream.has_ended, "stream {} ended too early", stream.name);
        }
    }
    Ok(())
}

/// A tunnel that is being used.
struct Tunnel {
    socket: WebSocket<TcpStream>,
    name: String,
    next: u64,
}

impl Tunnel {
    fn open(address: SocketAddr, nth: usize) -> anyhow::Result<Self> {
        let name = format!("t{nth}");
        let url = format!("ws://{address}{}/tunnel/{name}", carrier_of(nth));
        let (socket, _) = tungstenite::client(url, http::connect(address)?)
            .map_err(|error| anyhow!("tunnel {name} was refused: {error}"))?;
        Ok(Self {
            socket,
            name,
            next: 0,
        })
    }

    /// Sends a message and waits until it comes back.
    fn turn(&mut self) -> anyhow::Result<()> {
        let said = event(&self.name, self.next);
        self.socket.send(Message::text(said.as_str()))?;
        let heard = self.socket.read()?;
        ensure!(
            heard == Message::text(said),
            "{heard:?} came back through {}",
            self.name
        );
        self.next += 1;
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.socket.close(None)?;
        loop {
            match self.socket.read() {
                Ok(Message::Close(_)) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(anyhow!("tunnel {} did not close: {error}", self.name)),
            }
        }
    }
}

/// Has each tunnel say something in turn, until it is done.
fn talk_all(tunnels: &mut [Tunnel], done: &AtomicBool) -> anyhow::Result<()> {
    for tunnel in &mut *tunnels {
        tunnel.turn()?;
    }
    while !done.load(Ordering::Relaxed) {
        for tunnel in &mut *tunnels {
            if done.load(Ordering::Relaxed) {
                break;
            }
            tunnel.turn().with_context(|| tunnel.name.clone())?;
            // A round takes a while, so that there is time for the rest.
            std::thread::park_timeout(TALK_EVERY);
        }
    }
    Ok(())
}

/// How often each stream has an event.
const EVENT_EVERY: Duration = Duration::from_millis(300);
/// How often one of the tunnels has a message.
const TALK_EVERY: Duration = Duration::from_millis(3);
const OPENERS: usize = 8;
/// How long a poll waits before conditions are looked at again.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
