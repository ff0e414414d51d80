//! Gateways on a NATS server, and who publishes there.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use testkit::services::Nats;

use crate::server_process::Server;
use crate::token::SECRET;

/// Starts a gateway whose bus is this server. Subjects below `xy.md.` are conflated, and no
/// rate limit stands between the clients and its own pace.
///
/// `client` are further keys of that section (`, queue_max_size: 65536`), `more` further lines.
pub(crate) fn gateway(
    executable: &Path,
    nats: &Nats,
    client: &str,
    more: &str,
) -> anyhow::Result<Server> {
    let url = nats.url();
    Server::written(executable, |folder| {
        let data = folder.join("data");
        Ok(format!(
            "listeners: {{ main: {{ address: \"127.0.0.1:0\" }}, admin: {{ address: \"127.0.0.1:0\" }} }}\n\
             client: {{ token: {{ hmac_secret_key: \"{SECRET}\" }}, ping_interval: 25s, command_rate: 0{client} }}\n\
             channel: {{ namespaces: [ {{ name: market-data, pattern: \"xy.md.>\", \
             allow_subscribe_for_client: true, slow_client: conflate }} ] }}\n\
             rpc: {{ requests: [ {{ method: md.snapshot, subject: \"xy.md.req.snapshot.{{group}}\", \
             channel: \"xy.md.snapshot.{{group}}\" }} ] }}\n\
             bus: {{ kind: nats, nats: {{ urls: [ \"{url}\" ] }} }}\n\
             limits: {{ handshake_rate: 0, connections_per_address: 0 }}\n\
             demo: {{ enabled: false }}\n\
             data_dir: {data:?}\n\
             {more}"
        ))
    })
}

/// A source: a plain connection to NATS that only publishes.
pub(crate) struct Source {
    stream: TcpStream,
    unsent: Vec<u8>,
    /// The end of what was received, for a `PING` that was cut.
    received: Vec<u8>,
}

impl Source {
    pub(crate) fn connect(nats: &Nats) -> anyhow::Result<Self> {
        let mut stream =
            TcpStream::connect(nats.address()).context("nats-server was not reached")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")?;
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        while memchr::memmem::find(&received, b"PONG\r\n").is_none() {
            let length = stream.read(&mut buffer)?;
            ensure!(
                length > 0 && received.len() < 65_536,
                "nats-server did not greet: {:?}",
                String::from_utf8_lossy(&received)
            );
            received.extend_from_slice(&buffer[..length]);
        }
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unsent: Vec::new(),
            received: Vec::new(),
        })
    }

    /// Appends a message to what [`Source::flush`] sends.
    pub(crate) fn publish(&mut self, subject: &str, payload: &[u8]) {
        self.unsent
            .extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
        self.unsent.extend_from_slice(payload);
        self.unsent.extend_from_slice(b"\r\n");
    }

    /// Sends what waits, as far as the socket takes it, and answers pings.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                ensure!(length > 0, "nats-server closed the source's connection");
                self.received.extend_from_slice(&buffer[..length]);
                while let Some(end) = memchr::memchr(b'\n', &self.received) {
                    let line: Vec<u8> = self.received.drain(..=end).collect();
                    ensure!(
                        !line.starts_with(b"-ERR"),
                        "nats-server said {:?}",
                        String::from_utf8_lossy(&line)
                    );
                    if line == b"PING\r\n" {
                        self.unsent.extend_from_slice(b"PONG\r\n");
                    }
                }
            }
            Err(error) if would_wait(&error) => {}
            Err(error) => return Err(error).context("source failed"),
        }
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(taken) => drop(self.unsent.drain(..taken)),
                Err(error) if would_wait(&error) => return Ok(()),
                Err(error) => return Err(error).context("source failed"),
            }
        }
        Ok(())
    }
}

fn would_wait(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}
