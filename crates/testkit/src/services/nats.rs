//! A NATS server.

mod accounts;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, ensure};

use super::{Server, free_port};
use crate::PATIENCE;
use crate::certificate::Certificate;

pub use accounts::{Accounts, Permissions};

/// How a NATS server is set up. The default is neither durable nor guarded.
#[derive(Debug, Clone, Default)]
pub struct NatsOptions {
    /// Whether it keeps streams on disk.
    pub jetstream: bool,
    /// Whether it syncs before it acknowledges.
    pub sync_always: bool,
    /// Whether it takes WebSocket connections on a port of their own, without TLS.
    pub websocket: bool,
    /// Speaks TLS with this certificate.
    pub tls: Option<Certificate>,
    /// More lines of its configuration file, `authorization { token: "t" }` for one.
    pub more: String,
}

/// A running NATS server.
#[derive(Debug)]
pub struct Nats {
    server: Server,
    websocket: Option<SocketAddr>,
}

impl Nats {
    /// Starts one.
    pub fn start(options: &NatsOptions) -> anyhow::Result<Self> {
        let mut server = Server::new("nats-server")?;
        let folder = server.folder.path();
        let NatsOptions {
            jetstream,
            sync_always,
            websocket,
            tls,
            more,
        } = options;
        let mut config = format!("listen: \"{}\"\n", server.address);
        if *jetstream {
            let sync = if *sync_always {
                "sync_interval: always"
            } else {
                ""
            };
            config += &format!("jetstream {{ store_dir: \"jetstream\"\n {sync} }}\n");
        }
        if let Some(certificate) = tls {
            certificate.write(folder)?;
            config += "tls { cert_file: \"certificate.pem\", key_file: \"key.pem\" }\n";
        }
        let websocket = if *websocket {
            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
        } else {
            None
        };
        if let Some(address) = websocket {
            config += &format!("websocket {{ listen: \"{address}\", no_tls: true }}\n");
        }
        config += more;
        fs::write(folder.join("nats.conf"), config)
            .context("configuration of nats-server could not be written")?;
        server.arguments = vec!["-c".to_owned(), "nats.conf".to_owned()];
        server.start(greets)?;
        Ok(Self { server, websocket })
    }

    /// Starts one with JetStream that syncs before it acknowledges.
    pub fn start_durable() -> anyhow::Result<Self> {
        Self::start(&NatsOptions {
            jetstream: true,
            sync_always: true,
            ..NatsOptions::default()
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Where it listens, as clients want it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.server.address)
    }

    /// Where it takes WebSocket connections, if it does.
    pub fn websocket_url(&self) -> Option<String> {
        self.websocket.map(|address| format!("ws://{address}"))
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Kills it, if it still runs, and starts it again: same port, same files.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.server.kill()?;
        self.server.start(greets)
    }

    /// Replaces a part of its configuration file, for the next start.
    pub fn reconfigure(&mut self, part: &str, replacement: &str) -> anyhow::Result<()> {
        let path = self.server.folder.path().join("nats.conf");
        let before = fs::read_to_string(&path)?;
        ensure!(before.contains(part), "no {part:?} in {before}");
        fs::write(path, before.replace(part, replacement))?;
        Ok(())
    }

    /// The process, for `/proc`; none after [`Nats::kill`].
    pub fn process_id(&self) -> Option<u32> {
        self.server.process_id()
    }
}

/// The greeting comes once streams are recovered.
fn greets(address: SocketAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting)?;
    ensure!(
        greeting.starts_with("INFO "),
        "no greeting but {greeting:?}"
    );
    Ok(())
}
