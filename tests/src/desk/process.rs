//! The process of the service, from outside.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use quantum::identity::Identity;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::PATIENCE;
use testkit::log::Log;

use super::serve::{self, LISTENING, READY};

/// How callers reach the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// HTTP/2 over TCP.
    Tcp,
    /// Quantum.
    Quantum,
    /// Quantum through a link that loses datagrams.
    Link,
}

/// What the service is started with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The share of datagrams that a link in front of Quantum loses, each way; `None` is no
    /// link.
    pub loss: Option<f64>,
}

/// A running service with an identity of its own. Both end with this value.
#[derive(Debug)]
pub struct Desk {
    folder: TempDir,
    options: Options,
    child: Child,
    log: Arc<Log>,
    tcp: SocketAddr,
    quantum: SocketAddr,
    link: Option<SocketAddr>,
}

impl Desk {
    /// Starts the service and waits until it is ready.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default())
    }

    /// As [`Desk::start`].
    pub fn start_with(options: Options) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let unbound = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (child, log) = spawn(folder.path(), options, 0, 0)?;
        let mut desk = Self {
            folder,
            options,
            child,
            log,
            tcp: unbound,
            quantum: unbound,
            link: None,
        };
        desk.wait_until_ready()?;
        Ok(desk)
    }

    /// Ends the process in the middle of whatever it does.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, after [`Desk::kill`], at the same addresses, apart from that of a link.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        let (tcp, quantum) = (self.tcp.port(), self.quantum.port());
        (self.child, self.log) = spawn(self.folder.path(), self.options, tcp, quantum)?;
        self.wait_until_ready()
    }

    /// Where it is reached.
    pub fn address(&self, way: Way) -> SocketAddr {
        match way {
            Way::Tcp => self.tcp,
            Way::Quantum => self.quantum,
            Way::Link => self.link.unwrap_or(self.quantum),
        }
    }

    /// Where it is reached, as the gateway's configuration has it.
    pub fn url(&self, way: Way) -> String {
        let scheme = match way {
            Way::Tcp => "grpc",
            Way::Quantum | Way::Link => "quantum",
        };
        format!("{scheme}://{}", self.address(way))
    }

    /// Files of the authority that it trusts, and of the two sides.
    pub fn identity(&self) -> Identity {
        Identity::in_folder(&keys(self.folder.path()))
    }

    /// What a client shows and trusts, as the gateway's configuration has it (`tls`).
    pub fn tls(&self) -> Value {
        tls(&self.identity())
    }

    /// What it has logged, since its last start.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits until it logs an action, and gives the line.
    pub fn wait_action(&self, mark: usize, action: &str) -> anyhow::Result<Value> {
        self.log
            .wait_for(mark, PATIENCE, |line| line["action"] == action)
            .with_context(|| format!("the service never logged {action:?}"))
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        self.log.wait_for_message(0, PATIENCE, READY)?;
        self.tcp = self.bound("tcp")?;
        self.quantum = self.bound("quantum")?;
        self.link = match self.options.loss {
            Some(_) => Some(self.bound("link")?),
            None => None,
        };
        Ok(())
    }

    fn bound(&self, way: &str) -> anyhow::Result<SocketAddr> {
        let line = self.log.wait_for(0, PATIENCE, |line| {
            line["message"] == LISTENING && line["way"] == way
        })?;
        let address = line["address"].as_str().context("no address")?;
        Ok(address.parse()?)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("process has no id")?, signal).context("signal was not sent")
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            // The harness shows this with the failed test only.
            #[expect(clippy::print_stdout, reason = "captured by the test harness")]
            {
                println!("log of the service:\n{}", self.log.text());
            }
        }
    }
}

/// What a client with this identity shows and trusts, as the gateway's configuration has it.
pub fn tls(identity: &Identity) -> Value {
    json!({
        "ca": identity.authority,
        "certificate": identity.client.chain,
        "key": identity.client.key,
        "server_name": "localhost",
    })
}

/// Another identity than that of any service.
pub fn stranger(folder: &Path) -> anyhow::Result<Identity> {
    serve::identity(folder)
}

fn keys(folder: &Path) -> PathBuf {
    folder.join("keys")
}

fn spawn(
    folder: &Path,
    options: Options,
    tcp: u16,
    quantum: u16,
) -> anyhow::Result<(Child, Arc<Log>)> {
    let mut command = Command::new(executable()?);
    command
        .arg(format!("keys={}", keys(folder).display()))
        .args([format!("tcp={tcp}"), format!("quantum={quantum}")])
        .args(options.loss.map(|loss| format!("loss={loss}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("service could not be started")?;
    let log = Arc::new(Log::default());
    log.follow(child.stdout.take().context("no stdout")?)?;
    log.follow(child.stderr.take().context("no stderr")?)?;
    Ok((child, log))
}

/// The example `desk`, beside the tests' own folder; built if it is not there.
fn executable() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/<profile>/deps/<test>
    let profile = test.ancestors().nth(2).context("no target folder")?;
    let path = profile.join("examples/desk");
    if !path.exists() {
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "-p", "e2e", "--example", "desk"]);
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "service could not be built");
    }
    Ok(path)
}
