//! Redis and nats-server, both made to sync before they answer.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use testkit::services;

use super::load::{Load, Taken, What, Wire};
use super::{Shape, Subject, Turn};
use crate::proc;

/// Redis, with one command in flight per client or several.
pub(super) struct Redis {
    server: services::Redis,
    load: Load<Resp>,
    name: &'static str,
}

impl Redis {
    pub(super) fn start(shape: Shape, depth: usize) -> anyhow::Result<Self> {
        let server = services::Redis::start()?;
        let clients = (shape.in_flight / depth).max(1);
        let value = vec![b'x'; shape.size];
        let mut add = b"*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nr\r\n".to_vec();
        add.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
        add.extend_from_slice(&value);
        add.extend_from_slice(b"\r\n");
        let wires = (0..clients).map(|_| Resp {
            add: add.clone(),
            greeted: false,
        });
        let load = Load::connect(server.address(), depth, wires)?;
        let name = match depth {
            1 => REDIS,
            _ => REDIS_PIPELINED,
        };
        Ok(Self { server, load, name })
    }
}

impl Subject for Redis {
    fn name(&self) -> &str {
        self.name
    }

    fn turn(&mut self, duration: Duration) -> anyhow::Result<Turn> {
        turn(&mut self.load, self.server.process_id(), duration)
    }
}

/// nats-server with one stream.
pub(super) struct JetStream {
    server: services::Nats,
    load: Load<Core>,
}

impl JetStream {
    pub(super) fn start(shape: Shape) -> anyhow::Result<Self> {
        let server = services::Nats::start_durable()?;
        make_stream(&server)?;
        // A few connections share the load: one would be bound by its own reader.
        let clients = shape.in_flight.min(JETSTREAM_CLIENTS);
        let payload = vec![b'x'; shape.size];
        let wires = (0..clients).map(|index| {
            let mut publish =
                format!("PUB s.{index} _INBOX.{index} {}\r\n", payload.len()).into_bytes();
            publish.extend_from_slice(&payload);
            publish.extend_from_slice(b"\r\n");
            Core { index, publish }
        });
        let load = Load::connect(server.address(), shape.in_flight / clients, wires)?;
        Ok(Self { server, load })
    }
}

impl Subject for JetStream {
    fn name(&self) -> &str {
        JETSTREAM
    }

    fn turn(&mut self, duration: Duration) -> anyhow::Result<Turn> {
        turn(&mut self.load, self.server.process_id(), duration)
    }
}

fn turn<W: Wire>(load: &mut Load<W>, pid: Option<u32>, duration: Duration) -> anyhow::Result<Turn> {
    let pid = pid.context("the server does not run")?;
    let cpu = proc::cpu_seconds(pid)?;
    let outcome = load.run(duration)?;
    Ok(Turn {
        records: outcome.done,
        elapsed: outcome.elapsed,
        latency: outcome.latency,
        cpu_seconds: proc::cpu_seconds(pid)? - cpu,
        refused: outcome.refused,
    })
}

/// Redis' protocol, as far as `XADD` and `PING` need it.
struct Resp {
    add: Vec<u8>,
    greeted: bool,
}

impl Wire for Resp {
    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.add);
    }

    fn take(&mut self, received: &[u8], _out: &mut Vec<u8>) -> anyhow::Result<Option<Taken>> {
        let Some((line, length)) = line(received) else {
            return Ok(None);
        };
        let taken = |length, what| Ok(Some(Taken { length, what }));
        match line.first() {
            Some(b'+') if !std::mem::replace(&mut self.greeted, true) => taken(length, What::Ready),
            Some(b'-') => taken(length, What::Refused),
            Some(b'$') => {
                let size: usize = std::str::from_utf8(&line[1..])?.parse()?;
                let whole = length + size + 2;
                match received.len() >= whole {
                    true => taken(whole, What::Done),
                    false => Ok(None),
                }
            }
            _ => bail!("Redis said {:?}", String::from_utf8_lossy(line)),
        }
    }
}

/// NATS' protocol, as far as publishing with an answer needs it.
struct Core {
    index: usize,
    publish: Vec<u8>,
}

impl Wire for Core {
    fn greet(&mut self, out: &mut Vec<u8>) {
        let inbox = self.index;
        out.extend_from_slice(
            format!("CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.{inbox} 1\r\nPING\r\n").as_bytes(),
        );
    }

    fn request(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.publish);
    }

    fn take(&mut self, received: &[u8], out: &mut Vec<u8>) -> anyhow::Result<Option<Taken>> {
        let Some((line, length)) = line(received) else {
            return Ok(None);
        };
        let taken = |length, what| Ok(Some(Taken { length, what }));
        if line.starts_with(b"MSG ") {
            let line = std::str::from_utf8(line)?;
            let size = line.rsplit(' ').next().context("MSG without size")?;
            let end = length + size.parse::<usize>()?;
            let Some(payload) = received
                .get(length..end)
                .filter(|_| received.len() >= end + 2)
            else {
                return Ok(None);
            };
            let stored = memchr::memmem::find(payload, b"\"seq\"").is_some();
            taken(end + 2, if stored { What::Done } else { What::Refused })
        } else if line == b"PONG" {
            taken(length, What::Ready)
        } else if line == b"PING" {
            out.extend_from_slice(b"PONG\r\n");
            taken(length, What::Other)
        } else if line.starts_with(b"INFO ") || line == b"+OK" {
            taken(length, What::Other)
        } else {
            bail!("nats-server said {:?}", String::from_utf8_lossy(line))
        }
    }
}

/// The first line without its end, and the bytes with it.
fn line(received: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', received)?;
    let line = &received[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

fn make_stream(server: &services::Nats) -> anyhow::Result<()> {
    let config = "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"storage\":\"file\",\
        \"retention\":\"limits\",\"num_replicas\":1,\"max_msgs\":-1,\"max_bytes\":-1}";
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB made 1\r\nPUB $JS.API.STREAM.CREATE.S made {}\r\n{config}\r\n",
        config.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("MSG ") {
        line.clear();
        ensure!(
            lines.read_line(&mut line)? > 0,
            "nats-server closed the connection"
        );
    }
    let size = line
        .trim_end()
        .rsplit(' ')
        .next()
        .context("MSG without size")?;
    let mut answer = vec![0; size.parse()?];
    lines.read_exact(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(
        !answer.contains("\"error\""),
        "stream was not made: {answer}"
    );
    Ok(())
}

pub(super) const REDIS: &str = "redis always";
pub(super) const REDIS_PIPELINED: &str = "redis always, pipelined";
pub(super) const JETSTREAM: &str = "jetstream always";

/// Connections that publish.
const JETSTREAM_CLIENTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_whole() {
        let mut redis = Resp {
            add: Vec::new(),
            greeted: false,
        };
        let mut out = Vec::new();
        let mut what = |bytes: &[u8]| {
            let taken = redis.take(bytes, &mut out).unwrap();
            taken.map(|taken| (taken.length, taken.what))
        };
        assert_eq!(what(b"+PONG\r\n"), Some((7, What::Ready)));
        assert_eq!(what(b"$3\r\n1-"), None);
        assert_eq!(what(b"$3\r\n1-0\r\n+"), Some((9, What::Done)));
        assert_eq!(what(b"-ERR no\r\n"), Some((9, What::Refused)));

        let mut nats = Core {
            index: 3,
            publish: Vec::new(),
        };
        let mut what = |bytes: &[u8]| {
            let taken = nats.take(bytes, &mut out).unwrap();
            taken.map(|taken| (taken.length, taken.what))
        };
        assert_eq!(what(b"MSG _INBOX.3 1 9\r\n{\"seq\":1}"), None);
        assert_eq!(
            what(b"MSG _INBOX.3 1 9\r\n{\"seq\":1}\r\n"),
            Some((29, What::Done))
        );
        assert_eq!(
            what(b"MSG _INBOX.3 1 2\r\n{}\r\n"),
            Some((22, What::Refused))
        );
        assert_eq!(what(b"PING\r\n"), Some((6, What::Other)));
        assert_eq!(out, b"PONG\r\n");
    }
}
