//! The built gateway as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::log::Log;
use crate::{PATIENCE, http};

/// A running gateway in a folder of its own; both end with this value.
///
/// Its configuration should bind port 0 everywhere: the addresses are read from its log.
#[derive(Debug)]
pub struct Gateway {
    folder: TempDir,
    child: Child,
    log: Arc<Log>,
    main: SocketAddr,
    admin: SocketAddr,
}

impl Gateway {
    /// Starts a gateway with this configuration file and waits until it is ready. Relative
    /// paths in the configuration are relative to [`Gateway::folder`].
    pub fn start(config: &str) -> anyhow::Result<Self> {
        Self::start_with(config, |_| Ok(()))
    }

    /// Like [`Gateway::start`]; `prepare` may put files into the folder before.
    pub fn start_with(
        config: &str,
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("folder for the gateway could not be made")?;
        prepare(folder.path())?;
        std::fs::write(folder.path().join(CONFIG), config)?;
        let (child, log) = spawn(folder.path())?;
        let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self {
            folder,
            child,
            log,
            main: unbound,
            admin: unbound,
        };
        gateway.wait_until_ready()?;
        Ok(gateway)
    }

    /// Ends the process as an operator would, and starts another in the same folder, with
    /// whatever its configuration file says now. Ports may change.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.terminate()?;
        self.start_again()
    }

    /// Waits for the end of the process, which something has brought about, and starts
    /// another in the same folder. Ports may change.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.wait_exit(PATIENCE)?;
        (self.child, self.log) = spawn(self.folder.path())?;
        self.wait_until_ready()
    }

    /// Sends SIGKILL: it ends in the middle of whatever it does.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Replaces the configuration file at once, as a careful editor does; the gateway sees
    /// the old file or the new one.
    pub fn rewrite_config(&self, config: &str) -> anyhow::Result<()> {
        let new = self.folder.path().join("tidegate.yaml.new");
        std::fs::write(&new, config)?;
        std::fs::rename(&new, self.folder.path().join(CONFIG))?;
        Ok(())
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends SIGHUP.
    pub fn hangup(&self) -> anyhow::Result<()> {
        self.signal(Signal::HUP)
    }

    /// Runs the executable once more, beside the running gateway and with the same
    /// configuration, and returns what it prints (`["admin-token", "--name", "ops"]`).
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(executable()?)
            .args(arguments)
            .args(["-c", CONFIG])
            .current_dir(self.folder())
            .output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?} failed: {complaint}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        // The streams end with the process, so no polling is needed.
        self.log.wait_for_end(timeout)?;
        Ok(self.child.wait()?)
    }

    /// Where clients connect.
    pub fn main_addr(&self) -> SocketAddr {
        self.main
    }

    /// Where operators and services connect.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// What the process has written.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The process, for `/proc`.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The working folder of the process.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A metric's value. `series` is a name (all its series are added up) or a name with
    /// labels, `name{reason="x"}` (series that have at least these labels are added up). A
    /// series that does not exist counts as 0.
    pub fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let response = http::get(self.admin, "/metrics", &[])?;
        ensure!(
            response.status == 200,
            "metrics answered {}",
            response.status
        );
        sum_series(&response.text(), series)
    }

    /// Waits until a metric satisfies `enough`.
    pub fn wait_metric(&self, series: &str, enough: impl Fn(f64) -> bool) -> anyhow::Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(series)?;
            if enough(value) {
                return Ok(value);
            }
            ensure!(Instant::now() < deadline, "{series} stayed at {value}");
        }
    }

    /// Waits until a GET on the admin listener is answered with `status`.
    pub fn wait_status(&self, path: &str, status: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answered = http::get(self.admin, path, &[])?.status;
            if answered == status {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{path} stayed at {answered}");
        }
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        self.main = self.bound("main")?;
        self.admin = self.bound("admin")?;
        // Addresses are announced once bound; a little later everything behind them runs.
        self.wait_status("/readyz", 200)
    }

    fn bound(&self, listener: &str) -> anyhow::Result<SocketAddr> {
        let line = self.log.wait_for(0, PATIENCE, |line| {
            line["message"] == "listening" && line["listener"] == listener
        })?;
        let address = line["address"]
            .as_str()
            .context("listening line without address")?;
        address
            .parse()
            .with_context(|| format!("{address:?} is not an address"))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("process has no id")?, signal).context("signal could not be sent")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            // The harness shows this with the failed test only.
            #[expect(clippy::print_stdout, reason = "captured by the test harness")]
            {
                println!("log of the gateway:\n{}", self.log.text());
            }
        }
    }
}

/// The executable, beside the tests' own folder; built if it is not there.
pub fn executable() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    // target/<profile>/deps/<test>
    let profile = test
        .ancestors()
        .nth(2)
        .context("test is not in a target folder")?;
    let path = profile.join("tidegate");
    if !path.exists() {
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "-p", "tidegate"]);
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "gateway could not be built");
    }
    Ok(path)
}

fn spawn(folder: &Path) -> anyhow::Result<(Child, Arc<Log>)> {
    let mut child = Command::new(executable()?)
        .args(["-c", CONFIG])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("gateway could not be started")?;
    let log = Arc::new(Log::default());
    log.follow(child.stdout.take().context("no stdout")?)?;
    log.follow(child.stderr.take().context("no stderr")?)?;
    Ok((child, log))
}

fn sum_series(exposition: &str, series: &str) -> anyhow::Result<f64> {
    let (name, labels) = split_series(series);
    let mut sum = 0.0;
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (key_name, key_labels) = split_series(key);
        let has_labels = labels.iter().all(|label| key_labels.contains(label));
        if key_name == name && has_labels {
            sum += value
                .parse::<f64>()
                .with_context(|| format!("{line:?} has no number"))?;
        }
    }
    Ok(sum)
}

/// Name and labels. Labels with commas in their values do not occur here.
fn split_series(series: &str) -> (&str, Vec<&str>) {
    match series.split_once('{') {
        Some((name, labels)) => (name, labels.trim_end_matches('}').split(',').collect()),
        None => (series, Vec::new()),
    }
}

const CONFIG: &str = "tidegate.yaml";

#[cfg(test)]
mod tests {
    use super::sum_series;

    #[test]
    fn series_are_added_up_by_name_and_labels() {
        let text =
            "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\nab 9\n";
        let sum = |series| sum_series(text, series).expect("numbers");
        assert!((sum("a_total") - 7.0).abs() < f64::EPSILON);
        assert!((sum("a_total{y=\"2\"}") - 3.0).abs() < f64::EPSILON);
        assert!((sum("a_total{y=\"9\"}")).abs() < f64::EPSILON);
        assert!((sum("ab") - 9.0).abs() < f64::EPSILON);
    }
}
