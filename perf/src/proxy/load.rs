//! Connections that send the same request again and again, and what came of it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;

use super::origin::BODY_BYTES;
use super::ready::Ready;

/// A generator with its connections; one thread.
pub(super) struct Load {
    address: SocketAddr,
    request: Vec<u8>,
    ready: Ready,
    connections: Vec<Connection>,
    keys: Vec<u64>,
    buffer: Vec<u8>,
    /// Answers that were none: another status, a short body, a closed connection.
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// Connections opened again after the server had closed them between two requests.
    pub(super) reopened: u64,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    is_waiting: bool,
}

/// What a closed loop came to.
pub(super) struct Closed {
    pub(super) requests: u64,
    pub(super) elapsed: Duration,
    /// Nanoseconds; only of use with one connection.
    pub(super) latency: Histogram<u64>,
}

impl Load {
    /// Opens the connections.
    pub(super) fn connect(
        address: SocketAddr,
        path: &str,
        connections: usize,
    ) -> anyhow::Result<Self> {
        let mut load = Self {
            address,
            request: format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: perf\r\n\r\n")
                .into_bytes(),
            ready: Ready::new()?,
            connections: Vec::with_capacity(connections),
            keys: Vec::new(),
            buffer: vec![0; 8 * 1024],
            errors: 0,
            first_error: None,
            reopened: 0,
        };
        for key in 0..connections {
            let connection = load.opened(key)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Every connection sends its next request when the answer to its last has come.
    pub(super) fn closed(&mut self, duration: Duration) -> anyhow::Result<Closed> {
        let mut latency = histogram()?;
        let mut sent = vec![Instant::now(); self.connections.len()];
        let mut done = Vec::new();
        let started = Instant::now();
        let end = started + duration;
        let mut requests = 0;
        let mut under_way = self.connections.len();
        for (key, sent) in sent.iter_mut().enumerate() {
            *sent = Instant::now();
            self.send(key)?;
        }
        while under_way > 0 {
            self.turn(Some(Duration::from_millis(100)), &mut done)?;
            let now = Instant::now();
            if now > end + PATIENCE {
                self.fail(format!(
                    "{under_way} requests had no answer within {PATIENCE:?}"
                ));
                break;
            }
            for &key in &done {
                requests += 1;
                latency.saturating_record((now - sent[key]).as_nanos() as u64);
                if now < end {
                    sent[key] = Instant::now();
                    self.send(key)?;
                } else {
                    under_way -= 1;
                }
            }
        }
        Ok(Closed {
            requests,
            elapsed: started.elapsed(),
            latency,
        })
    }

    /// Sends a request.
    pub(super) fn send(&mut self, key: usize) -> anyhow::Result<()> {
        let connection = &mut self.connections[key];
        connection.is_waiting = true;
        match connection.stream.write(&self.request) {
            Ok(length) if length == self.request.len() => Ok(()),
            Ok(length) => bail!("only {length} bytes of a request were taken"),
            // The answer to it never comes: whoever reads notices that.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("a request was not taken at all")
            }
            Err(_) => Ok(()),
        }
    }

    /// Waits for answers; the keys whose answer came, or will not come any more.
    pub(super) fn turn(
        &mut self,
        timeout: Option<Duration>,
        done: &mut Vec<usize>,
    ) -> anyhow::Result<()> {
        done.clear();
        let mut keys = std::mem::take(&mut self.keys);
        self.ready.wait(timeout, &mut keys)?;
        for &key in &keys {
            let key = usize::try_from(key)?;
            match self.connections[key].read(&mut self.buffer) {
                Ok(true) => done.push(key),
                Ok(false) => {}
                Err(error) => {
                    if self.connections[key].is_waiting {
                        self.fail(format!("{error:#}"));
                        done.push(key);
                    } else {
                        self.reopened += 1;
                    }
                    self.connections[key] = self.opened(key)?;
                }
            }
        }
        self.keys = keys;
        Ok(())
    }

    /// Notes that something went wrong that must not.
    pub(super) fn fail(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }

    fn opened(&self, key: usize) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).context("generator did not connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.ready.watch(&stream, key as u64)?;
        Ok(Connection {
            stream,
            received: Vec::new(),
            is_waiting: false,
        })
    }
}

impl Connection {
    /// Reads what came; whether the answer is whole.
    fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        let length = match self.stream.read(buffer) {
            Ok(0) => bail!("connection was closed"),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("connection broke"),
        };
        if self.received.is_empty() && is_whole(&buffer[..length])? {
            self.is_waiting = false;
            return Ok(true);
        }
        self.received.extend_from_slice(&buffer[..length]);
        let is_whole = is_whole(&self.received)?;
        if is_whole {
            self.received.clear();
            self.is_waiting = false;
        }
        Ok(is_whole)
    }
}

/// Whether an answer is there to its end; an error if it is not the one expected.
fn is_whole(bytes: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(false);
    };
    if !bytes.starts_with(b"HTTP/1.1 200 ") {
        let line = String::from_utf8_lossy(&bytes[..end.min(100)]).into_owned();
        bail!("answered {:?}", line.lines().next().unwrap_or_default());
    }
    match (bytes.len() - end - 4).cmp(&BODY_BYTES) {
        std::cmp::Ordering::Less => Ok(false),
        std::cmp::Ordering::Equal => Ok(true),
        std::cmp::Ordering::Greater => bail!("answer is longer than the origin's"),
    }
}

/// Of nanoseconds, up to a minute.
pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, 60_000_000_000, 3).context("latency bounds are wrong")
}

/// An answer that takes longer does not come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_whole_with_the_last_byte_of_its_body() {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n".to_vec();
        assert!(!is_whole(&answer[..20]).unwrap());
        assert!(!is_whole(&answer).unwrap());
        answer.resize(answer.len() + BODY_BYTES, b'x');
        assert!(is_whole(&answer).unwrap());
        answer.push(b'x');
        assert!(is_whole(&answer).is_err());
        assert!(is_whole(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").is_err());
    }
}
