//! A Redis server.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::ensure;

use super::Server;
use crate::PATIENCE;

/// When Redis syncs its append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFsync {
    /// Before it answers.
    Always,
    /// Once a second.
    EverySecond,
}

/// A running Redis with an append-only file.
#[derive(Debug)]
pub struct Redis {
    server: Server,
}

impl Redis {
    /// Starts one that syncs before it answers.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(AppendFsync::Always)
    }

    /// Starts one that syncs as told.
    pub fn start_with(fsync: AppendFsync) -> anyhow::Result<Self> {
        let mut server = Server::new("redis-server")?;
        let fsync = match fsync {
            AppendFsync::Always => "always",
            AppendFsync::EverySecond => "everysec",
        };
        let port = server.address.port();
        let arguments = format!(
            "--bind 127.0.0.1 --port {port} --daemonize no --appendonly yes --appendfsync {fsync} --dir ."
        );
        server.arguments = arguments.split(' ').map(str::to_owned).collect();
        // No snapshots beside the append-only file.
        server
            .arguments
            .extend(["--save".to_owned(), String::new()]);
        server.start(answers_pings)?;
        Ok(Self { server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Where it listens, as clients want it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.server.address)
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Kills it, if it still runs, and starts it again: same port, same files.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.server.kill()?;
        self.server.start(answers_pings)
    }

    /// The process, for `/proc`; none after [`Redis::kill`].
    pub fn process_id(&self) -> Option<u32> {
        self.server.process_id()
    }
}

/// While Redis loads its file it answers with an error.
fn answers_pings(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"+PONG\r\n", "Redis is loading");
    Ok(())
}
