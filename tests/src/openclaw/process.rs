//! A real OpenClaw gateway as a child process, in a home of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http;

use super::model::Model;

/// A gateway and its folder; both end with this value.
#[derive(Debug)]
pub(super) struct OpenClaw {
    /// `node_modules` with OpenClaw and its Node.js.
    modules: PathBuf,
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
}

impl OpenClaw {
    /// Starts a gateway whose only model is the stub, and waits until it is ready.
    pub(super) fn start(modules: &Path, model: &Model) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("folder for OpenClaw could not be made")?;
        for inside in ["home", "state", "tmp"] {
            fs::create_dir(folder.path().join(inside))?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let config = json!({
            "gateway": {
                "mode": "local",
                "port": port,
                "bind": "loopback",
                "auth": { "mode": "token", "token": TOKEN },
                // What comes with X-Forwarded-For counts as remote, the rest as local.
                "trustedProxies": ["127.0.0.1"],
            },
            "update": { "checkOnStart": false },
            "logging": { "file": folder.path().join("tmp/openclaw.log") },
            "models": {
                "catalogRefresh": { "enabled": false },
                "providers": { "mock": {
                    "baseUrl": model.base_url(),
                    "apiKey": "none",
                    "api": "openai-completions",
                    "models": [{ "id": "m1", "name": "m1" }],
                }},
            },
            "agents": { "defaults": { "model": "mock/m1" } },
        });
        fs::write(
            folder.path().join("state/openclaw.json"),
            config.to_string(),
        )?;
        let mut gateway = Self {
            modules: modules.to_owned(),
            folder,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            child: None,
        };
        gateway.spawn()?;
        Ok(gateway)
    }

    /// Where it listens, also while it is down.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it and all its processes at once, as a power cut would.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.end(Signal::KILL)
    }

    /// Ends it as an operator would, and starts it again.
    pub(super) fn restart(&mut self) -> anyhow::Result<()> {
        self.end(Signal::TERM)?;
        self.spawn()
    }

    /// Starts it again after [`OpenClaw::kill`], and waits until it is ready.
    pub(super) fn spawn(&mut self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("gateway.log"))?;
        let mut command = self.command(&["gateway", "--port", &self.address.port().to_string()]);
        command.stdout(log.try_clone()?).stderr(log);
        // Its helpers end with it.
        command.process_group(0);
        let child = command.spawn().context("OpenClaw could not be started")?;
        let child = self.child.insert(child);
        let deadline = Instant::now() + START_MAX;
        loop {
            let ready = http::get(self.address, "/readyz", &[]);
            if ready.is_ok_and(|response| response.status == 200) {
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                bail!("OpenClaw ended with {status}:\n{}", self.log_end());
            }
            ensure!(
                Instant::now() < deadline,
                "OpenClaw is not ready after {START_MAX:?}:\n{}",
                self.log_end()
            );
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Waits for a device that asks to be paired; the id of its request.
    pub(super) fn wait_pending(&self, patience: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            let listed = self.operator(&["devices", "list", "--json"])?;
            let start = listed.find('{').context("no JSON in the list of devices")?;
            let listed: Value = serde_json::from_str(listed[start..].trim())?;
            if let Some(request) = listed["pending"][0]["requestId"].as_str() {
                return Ok(request.to_owned());
            }
            ensure!(
                Instant::now() < deadline,
                "no device asked to be paired within {patience:?}: {listed}"
            );
        }
    }

    /// Approves a device.
    pub(super) fn approve(&self, request: &str) -> anyhow::Result<()> {
        self.operator(&["devices", "approve", request]).map(drop)
    }

    /// The last lines it wrote.
    pub(super) fn log_end(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("gateway.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Runs its command line as the operator; what that prints.
    fn operator(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let url = format!("ws://{}", self.address);
        let mut command = self.command(arguments);
        command.args(["--url", &url, "--token", TOKEN]);
        let output = command.output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} failed: {complaint}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.folder.path();
        let node = self.modules.join("node/bin");
        let mut command = Command::new(node.join("node"));
        command
            .arg(self.modules.join("openclaw/openclaw.mjs"))
            .args(arguments)
            .stdin(Stdio::null())
            .current_dir(folder.join("home"))
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", node.display()))
            .env("HOME", folder.join("home"))
            .env("TMPDIR", folder.join("tmp"))
            .env("OPENCLAW_STATE_DIR", folder.join("state"))
            .env("OPENCLAW_DISABLE_BONJOUR", "1")
            .env("OPENCLAW_NO_RESPAWN", "1")
            .env("OPENCLAW_SKIP_CHANNELS", "1")
            .env("OPENCLAW_EXEC_SHELL_SNAPSHOT", "0")
            .env("OPENCLAW_NO_AUTO_UPDATE", "1");
        command
    }

    fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let sent = kill_process_group(group.context("process has no id")?, signal);
        sent.context("signal could not be sent to OpenClaw")?;
        let deadline = Instant::now() + END_MAX;
        while child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                bail!("OpenClaw did not end within {END_MAX:?}");
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for OpenClaw {
    fn drop(&mut self) {
        // Nobody is left to tell.
        drop(self.end(Signal::KILL));
    }
}

/// What operators and the relay show it.
pub(super) const TOKEN: &str = "token-of-a-gateway-that-lives-for-a-minute";

const START_MAX: Duration = Duration::from_secs(120);
const END_MAX: Duration = Duration::from_secs(30);
