//! The gateway under test: `tidegate serve` in one folder, started and killed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::http;

/// A process of the gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    started: Instant,
    addresses: Receiver<(String, SocketAddr)>,
    admin: Option<SocketAddr>,
}

/// Writes the configuration for the gateways of this folder.
pub(super) fn configure(folder: &Path, agent: SocketAddr) -> anyhow::Result<()> {
    let config = format!(
        r#"
listeners:
  main: {{ address: "127.0.0.1:0" }}
  admin: {{ address: "127.0.0.1:0" }}
demo: {{ enabled: false }}
data_dir: data
relay:
  auth: none
  ack: durable
  # Nothing is refused, given up or left alone here: whatever does not arrive is lost.
  rate: {{ per_client: {{ rate: 0 }} }}
  retries: {{ attempts: 1000, base: 20ms, max: 200ms }}
  breaker: {{ failures: 0 }}
  history: {{ per_client: 10 }}
  metrics_log_interval: 0s
  routes:
    - client_id_prefix: "client-"
      agent: "ws://{agent}/ws"
      protocol: stratix
      acks: true
      try_timeout: 500ms
"#
    );
    std::fs::write(folder.join(CONFIG), config)?;
    Ok(())
}

impl Gateway {
    /// Starts a process. Its log is appended to `gateway.log`.
    pub(super) fn spawn(executable: &Path, folder: &Path) -> anyhow::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("gateway.log"))?;
        let started = Instant::now();
        let mut child = Command::new(executable)
            .args(["serve", "-c", CONFIG])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("gateway could not be started")?;
        let stderr = child.stderr.take().context("gateway has no stderr")?;
        let (announce, addresses) = sync_channel(ADDRESSES_MAX);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || drop(follow(stderr, log, &announce)))?;
        Ok(Self {
            child,
            started,
            addresses,
            admin: None,
        })
    }

    /// Waits until clients can connect: where, and how long that took from the start on.
    pub(super) fn wait_listening(
        &mut self,
        patience: Duration,
    ) -> anyhow::Result<(SocketAddr, Duration)> {
        let address = self.wait_address("main", patience)?;
        let took = self.started.elapsed();
        self.admin = Some(self.wait_address("admin", patience)?);
        Ok((address, took))
    }

    /// Whether it has ended.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills it.
    ///
    /// # Errors
    /// If there is nothing to be killed any more.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("gateway ended by itself with {status}");
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it as an operator would.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("gateway has no id")?, Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "gateway does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        ensure!(status.success(), "gateway ended with {status}");
        Ok(())
    }

    /// A metric, its series added up; one that is missing is an error.
    pub(super) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let admin = self.admin.context("gateway does not listen yet")?;
        let text = http::get(admin, "/metrics", &[])?.text();
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_meant = series.split('{').next() == Some(name);
            is_meant.then_some(value)
        });
        let mut sum = None;
        for value in values {
            let value: f64 = value.parse()?;
            *sum.get_or_insert(0.0) += value;
        }
        let sum = sum.with_context(|| format!("no metric {name}"))?;
        Ok(sum as u64)
    }

    fn wait_address(&mut self, wanted: &str, patience: Duration) -> anyhow::Result<SocketAddr> {
        loop {
            match self.addresses.recv_timeout(patience) {
                Ok((listener, address)) if listener == wanted => return Ok(address),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("gateway does not listen"),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!("gateway ended with {status} at its start");
                }
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It has ended already unless something went wrong.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// Keeps the log and says where the gateway listens.
fn follow(
    stderr: ChildStderr,
    mut log: File,
    announce: &SyncSender<(String, SocketAddr)>,
) -> anyhow::Result<()> {
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        writeln!(log, "{line}")?;
        if !line.contains("\"listening\"") {
            continue;
        }
        let line: Value = serde_json::from_str(&line)?;
        let of = |key: &str| line[key].as_str().unwrap_or_default();
        if let Ok(address) = of("address").parse() {
            // There is room for all listeners, whether anybody waits or not.
            drop(announce.try_send((of("listener").to_owned(), address)));
        }
    }
    Ok(())
}

/// Waits until the log of the gateway has a segment more or less; whether that came.
pub(super) fn wait_new_segment(folder: &Path, patience: Duration) -> anyhow::Result<bool> {
    let folder = folder.join("data/relay");
    let deadline = Instant::now() + patience;
    let before = segments(&folder)?;
    while segments(&folder)? == before {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::park_timeout(Duration::from_micros(500));
    }
    Ok(true)
}

fn segments(folder: &Path) -> anyhow::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|it| it == "seg") {
            names.insert(name);
        }
    }
    Ok(names)
}

const CONFIG: &str = "tidegate.yaml";
const ADDRESSES_MAX: usize = 8;
