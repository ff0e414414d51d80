//! Real servers that the gateway talks to, each in a folder of its own on a free port.
//!
//! `cargo xtask deps` installs them. A value is the process: dropping it kills the server
//! and removes what it stored.

mod nats;
mod postgres;
mod redis;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::PATIENCE;

pub use nats::{Accounts, Nats, NatsOptions, Permissions};
pub use postgres::Postgres;
pub use redis::{AppendFsync, Redis};

/// A server as a child process.
#[derive(Debug)]
struct Server {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    folder: TempDir,
    address: SocketAddr,
    /// User and group it runs as, if not as ours.
    account: Option<(u32, u32)>,
    /// What ends it as a crash would.
    crash: Signal,
    child: Option<Child>,
}

impl Server {
    /// A server that is not started yet.
    fn new(name: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            name,
            program: program(name)?,
            arguments: Vec::new(),
            folder: tempfile::tempdir().context("folder for the server could not be made")?,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)),
            account: None,
            crash: Signal::KILL,
            child: None,
        })
    }

    /// Starts the process and waits until `ready` holds of its address.
    fn start(&mut self, ready: impl Fn(SocketAddr) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .context("log of the server could not be made")?;
        let child = self
            .command(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} could not be started", self.name))?;
        let child = self.child.insert(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(error) = ready(self.address) else {
                return Ok(());
            };
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() >= deadline {
                bail!(
                    "{} is not ready ({error:#}); its log:\n{}",
                    self.name,
                    fs::read_to_string(self.log_path()).unwrap_or_default()
                );
            }
            // A refused connection comes back at once.
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// A program that runs in the server's folder, as the server's user.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        #[cfg(unix)]
        if let Some((user, group)) = self.account {
            use std::os::unix::process::CommandExt as _;
            command.uid(user).gid(group);
        }
        command
    }

    /// Ends the process at once, as a crash would.
    fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&child), self.crash)?;
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                child.kill()?;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    }

    fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("output.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        drop(self.kill());
        if std::thread::panicking() {
            // The harness shows this with the failed test only.
            #[expect(clippy::print_stdout, reason = "captured by the test harness")]
            {
                let log = fs::read_to_string(self.log_path()).unwrap_or_default();
                println!("log of {}:\n{log}", self.name);
            }
        }
    }
}

/// The executable: what `cargo xtask deps` unpacked beside the build, else from the path.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let unpacked = own.ancestors().flat_map(|folder| {
        let folder = folder.join("services").join(name).join("usr");
        [
            folder.join("sbin").join(name),
            folder.join("bin").join(name),
        ]
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .collect::<Vec<_>>();
    unpacked
        .chain(installed)
        .chain((name == "postgres").then(postgres::installed).flatten())
        .find(|program| Path::is_file(program))
        .with_context(|| format!("{name} is not there; `cargo xtask deps` installs it"))
}

/// A port that nobody listens on. Somebody else may take it before the server does; the
/// server then fails to start and says so.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests;
