//! The aggregator as a process.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context;
use tempfile::TempDir;
use testkit::log::Log;
use testkit::{PATIENCE, gateway};

/// `tidegate market` in a folder of its own; both end with this value.
#[derive(Debug)]
pub struct Market {
    child: Child,
    log: Arc<Log>,
    folder: TempDir,
}

impl Market {
    /// Starts one with this configuration file and waits until it runs; `prepare` may put
    /// files into its folder before.
    pub fn start(
        config: &str,
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("folder for the aggregator could not be made")?;
        prepare(folder.path())?;
        std::fs::write(folder.path().join(CONFIG), config)?;
        let (child, log) = spawn(folder.path())?;
        let market = Self { child, log, folder };
        market.wait_until_ready()?;
        Ok(market)
    }

    /// Ends it as a crash would, and starts another in its place.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        (self.child, self.log) = spawn(self.folder.path())?;
        self.wait_until_ready()
    }

    /// What the process has written.
    pub fn log(&self) -> &Log {
        &self.log
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        self.log.wait_for_message(0, PATIENCE, "ready").map(drop)
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            // The harness shows this with the failed test only.
            #[expect(clippy::print_stdout, reason = "captured by the test harness")]
            {
                println!("log of the aggregator:\n{}", self.log.text());
            }
        }
    }
}

fn spawn(folder: &Path) -> anyhow::Result<(Child, Arc<Log>)> {
    let mut child = Command::new(gateway::executable()?)
        .args(["market", "-c", CONFIG])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("aggregator could not be started")?;
    let log = Arc::new(Log::default());
    log.follow(child.stdout.take().context("no stdout")?)?;
    log.follow(child.stderr.take().context("no stderr")?)?;
    Ok((child, log))
}

const CONFIG: &str = "market.yaml";
