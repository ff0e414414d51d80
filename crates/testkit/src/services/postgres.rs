//! A PostgreSQL server.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::process::{Signal, geteuid};

use super::Server;
use crate::PATIENCE;

/// A running PostgreSQL server. It does not sync: it is killed in tests, the machine is not.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    programs: PathBuf,
}

impl Postgres {
    /// Starts one with an empty cluster, as another user if this one is root.
    pub fn start() -> anyhow::Result<Self> {
        let mut server = Server::new("postgres")?;
        // It has started children: killed alone, it would leave them behind.
        server.crash = Signal::QUIT;
        let program = server.program.canonicalize()?;
        let programs = program.parent().map(Path::to_owned).unwrap_or_default();
        if geteuid().is_root() {
            let (user, group) = another_user()?;
            std::os::unix::fs::chown(server.folder.path(), Some(user), Some(group))?;
            server.account = Some((user, group));
        }
        let mut make = server.command(&programs.join("initdb"));
        make.args(["--pgdata=data", "--no-sync", "--auth=trust"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={USER}"));
        run(&mut make)?;
        let port = server.address.port();
        let arguments = format!(
            "-D data -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
             -c fsync=off -c shared_buffers=16MB"
        );
        server.arguments = arguments.split(' ').map(str::to_owned).collect();
        server.start(lets_in)?;
        Ok(Self { server, programs })
    }

    /// Makes an empty database; its URL.
    pub fn database(&self, name: &str) -> anyhow::Result<String> {
        let address = self.server.address;
        let mut create = Command::new(self.programs.join("createdb"));
        create
            .arg(format!("--host={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--username={USER}"))
            .arg(name);
        run(&mut create)?;
        Ok(format!("postgres://{USER}@{address}/{name}"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// Kills it, if it still runs, and starts it again: same port, same files.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.server.kill()?;
        self.server.start(lets_in)
    }

    /// The process, for `/proc`; none after [`Postgres::kill`].
    pub fn process_id(&self) -> Option<u32> {
        self.server.process_id()
    }
}

/// The newest of those that Debian puts beside the path.
pub(super) fn installed() -> Option<PathBuf> {
    let version = |folder: &PathBuf| {
        let name = folder.file_name().and_then(OsStr::to_str);
        name.and_then(|name| name.parse::<u32>().ok())
    };
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .max_by_key(version)
        .map(|folder| folder.join("bin/postgres"))
}

/// PostgreSQL does not run as root. Its own user, which its package makes, else anybody.
fn another_user() -> anyhow::Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let fields = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        fields.into_iter().find_map(|fields| match fields[..] {
            [found, _, user, group, ..] if found == name => {
                Some((user.parse().ok()?, group.parse().ok()?))
            }
            _ => None,
        })
    };
    ids("postgres")
        .or_else(|| ids("nobody"))
        .context("there is no user to run postgres as")
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("{name} could not be started"))?;
    ensure!(
        output.status.success(),
        "{name} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// While it starts it answers with an error.
fn lets_in(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let parameters = format!("user\0{USER}\0database\0postgres\0\0");
    let length = u32::try_from(8 + parameters.len())?;
    let mut hello = length.to_be_bytes().to_vec();
    hello.extend(PROTOCOL.to_be_bytes());
    hello.extend(parameters.as_bytes());
    stream.write_all(&hello)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"R", "PostgreSQL is starting");
    Ok(())
}

const USER: &str = "tidegate";

/// Version 3.0 of its protocol.
const PROTOCOL: u32 = 3 << 16;
