//! Traffic beside a measurement: TLS handshakes on a schedule and plain HTTP in bulk.
//!
//! Each kind has its own thread and its own connections, so that the thread
//! which measures latencies only measures latencies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustls::pki_types::ServerName;

use crate::client::{Address, Engine, Opening};
use crate::token::Mint;

/// How much goes on beside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Connections opened and closed again, at each of the places.
    pub(crate) handshakes_per_second: u32,
    /// Most bytes of HTTP responses, in millions.
    pub(crate) megabytes_per_second: u32,
    /// What is fetched.
    pub(crate) path: &'a str,
}

/// Where connections are opened, and what they do there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: Address,
    /// Whether they upgrade, authenticate and close by the closing handshake;
    /// otherwise they fetch the address's path.
    pub(crate) is_websocket: bool,
}

/// What went on beside.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Completed to the end, at all places together.
    pub(crate) handshakes: u64,
    pub(crate) failed: u64,
    /// Not started, since [`UNDER_WAY_MAX`] were under way.
    pub(crate) skipped: u64,
    pub(crate) responses: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) complaints: Vec<String>,
}

/// Runs `measure` while connections are opened at `places` and a file is
/// fetched at `bulk`.
pub(crate) fn beside<T>(
    places: &[Place],
    bulk: &Address,
    mint: &Mint,
    load: Load<'_>,
    measure: impl FnOnce() -> T,
) -> anyhow::Result<(T, Beside)> {
    let tokens = (0..1000)
        .map(|number| mint.token(100_000 + number))
        .collect::<Result<Vec<_>, _>>()?;
    let over = AtomicBool::new(false);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let handshakes = scope.spawn(|| open_and_close(places, &tokens, load, &over));
        let bulk = scope.spawn(|| fetch(bulk, load, &over));
        let measured = measure();
        over.store(true, Ordering::Relaxed);
        let mut beside = Beside {
            seconds: started.elapsed().as_secs_f64(),
            ..Beside::default()
        };
        match handshakes.join() {
            Ok(result) => result?.add_to(&mut beside),
            Err(_) => beside
                .complaints
                .push("handshake thread panicked".to_owned()),
        }
        match bulk.join() {
            Ok(Ok((responses, bytes))) => {
                (beside.responses, beside.fetched_bytes) = (responses, bytes);
            }
            Ok(Err(error)) => beside.complaints.push(format!("bulk ended: {error:#}")),
            Err(_) => beside.complaints.push("bulk thread panicked".to_owned()),
        }
        Ok((measured, beside))
    })
}

/// What the handshake thread did.
#[derive(Default)]
struct Handshakes {
    done: u64,
    failed: u64,
    skipped: u64,
    complaints: Vec<String>,
}

impl Handshakes {
    fn add_to(self, beside: &mut Beside) {
        beside.handshakes = self.done;
        beside.failed = self.failed;
        beside.skipped = self.skipped;
        beside.complaints.extend(self.complaints);
    }
}

fn open_and_close(
    places: &[Place],
    tokens: &[String],
    load: Load<'_>,
    over: &AtomicBool,
) -> anyhow::Result<Handshakes> {
    let mut engine = Engine::new()?;
    let groups: Vec<_> = places
        .iter()
        .map(|place| (engine.group(place.address.clone()), place.is_websocket))
        .collect();
    let interval = 1_000_000_000 / u64::from(load.handshakes_per_second.max(1));
    let (mut number, mut skipped) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        let due = number * interval;
        let now = engine.nanos();
        if now < due || load.handshakes_per_second == 0 {
            let wait = due.saturating_sub(now).clamp(1_000_000, 20_000_000);
            engine.turn(Duration::from_nanos(wait))?;
            continue;
        }
        for &(group, is_websocket) in &groups {
            if engine.tally(group).opening >= UNDER_WAY_MAX {
                skipped += 1;
                continue;
            }
            let opening = match is_websocket {
                true => Opening::leave(tokens[number as usize % tokens.len()].clone()),
                false => Opening::visit(),
            };
            engine.open(group, opening);
        }
        number += 1;
        engine.turn(Duration::ZERO)?;
    }
    engine.turn_until(Duration::from_secs(5), |engine| {
        groups
            .iter()
            .all(|&(group, _)| engine.tally(group).opening == 0)
    })?;
    let mut handshakes = Handshakes {
        skipped,
        ..Handshakes::default()
    };
    for &(group, _) in &groups {
        let tally = engine.tally(group);
        handshakes.done += tally.left;
        handshakes.failed += tally.failed + tally.opening as u64;
        handshakes
            .complaints
            .extend(tally.complaints.iter().cloned());
    }
    Ok(handshakes)
}

/// Fetches a path over one keep-alive connection again and again; responses and
/// bytes. Small files are fetched at most [`REQUESTS_PER_SECOND_MAX`] times a second.
fn fetch(address: &Address, load: Load<'_>, over: &AtomicBool) -> anyhow::Result<(u64, u64)> {
    let bytes_per_second = f64::from(load.megabytes_per_second) * 1e6;
    let (mut responses, mut bytes) = (0_u64, 0_u64);
    if load.megabytes_per_second == 0 {
        return Ok((responses, bytes));
    }
    let mut stream = Stream::connect(address)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        load.path, address.host
    );
    let mut buffer = Vec::new();
    let started = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let due = (bytes as f64 / bytes_per_second).max(responses as f64 / REQUESTS_PER_SECOND_MAX);
        let early = due - started.elapsed().as_secs_f64();
        if early > 0.001 {
            std::thread::sleep(Duration::from_secs_f64(early.min(0.02)));
            continue;
        }
        bytes += stream.exchange(request.as_bytes(), &mut buffer)? as u64;
        responses += 1;
    }
    Ok((responses, bytes))
}

/// A blocking connection, plain or TLS.
enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    fn connect(address: &Address) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(address.socket).context("bulk did not connect")?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))
            .context("no read timeout")?;
        let Some(config) = &address.tls else {
            return Ok(Self::Plain(tcp));
        };
        let name = ServerName::IpAddress(address.socket.ip().into());
        let client =
            rustls::ClientConnection::new(Arc::clone(config), name).context("bulk has no TLS")?;
        Ok(Self::Tls(Box::new(rustls::StreamOwned::new(client, tcp))))
    }

    /// Sends a request and reads its response; the response's length in bytes.
    fn exchange(&mut self, request: &[u8], buffer: &mut Vec<u8>) -> anyhow::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write_all(request),
            Self::Tls(stream) => stream.write_all(request),
        }
        .context("request was not sent")?;
        buffer.clear();
        let mut whole = None;
        while whole.is_none_or(|whole| buffer.len() < whole) {
            let start = buffer.len();
            buffer.resize(start + 64 * 1024, 0);
            let read = match self {
                Self::Plain(stream) => stream.read(&mut buffer[start..]),
                Self::Tls(stream) => stream.read(&mut buffer[start..]),
            }
            .context("response was not read")?;
            ensure!(read > 0, "server closed the connection");
            buffer.truncate(start + read);
            if whole.is_none() {
                whole = response_length(buffer)?;
            }
        }
        Ok(buffer.len())
    }
}

/// Length of head and body, once the head is there.
fn response_length(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok());
    ensure!(
        length.is_some(),
        "response has no length: {:?}",
        head.lines().next()
    );
    Ok(length.map(|length| end + 4 + length))
}

/// Handshakes under way at most: beyond it the server is overrun and more would
/// only measure the generator.
const UNDER_WAY_MAX: usize = 2000;

const REQUESTS_PER_SECOND_MAX: f64 = 2000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_whole_at_head_and_content_length() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(response_length(&head[..head.len() - 1]).unwrap(), None);
        assert_eq!(response_length(head).unwrap(), Some(head.len() + 5));
        assert!(response_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
