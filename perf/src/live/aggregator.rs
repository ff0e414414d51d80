//! `tidegate market` as a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use testkit::services::Nats;

/// The process; dropping it ends it.
pub(super) struct Aggregator {
    child: Child,
    folder: TempDir,
    /// Of the process that runs now.
    log: PathBuf,
    starts: usize,
}

impl Aggregator {
    /// Starts one and waits until it runs. `market` is that section of its configuration.
    pub(super) fn start(executable: &Path, nats: &Nats, market: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("temporary folder was not made")?;
        let (child, log) = spawn(executable, nats, market, folder.path(), 0)?;
        let mut aggregator = Self {
            child,
            folder,
            log,
            starts: 1,
        };
        aggregator.rebuild_ms(START_WITHIN)?;
        Ok(aggregator)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("aggregator was not killed")?;
        self.child.wait().context("aggregator was not waited for")?;
        Ok(())
    }

    /// Starts another in its place, and does not wait for it.
    pub(super) fn replace(
        &mut self,
        executable: &Path,
        nats: &Nats,
        market: &str,
    ) -> anyhow::Result<()> {
        let folder = self.folder.path();
        (self.child, self.log) = spawn(executable, nats, market, folder, self.starts)?;
        self.starts += 1;
        Ok(())
    }

    /// Waits until it says that it runs; milliseconds that it took to read what it had been.
    pub(super) fn rebuild_ms(&mut self, within: Duration) -> anyhow::Result<f64> {
        let deadline = Instant::now() + within;
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(took) = log.lines().find_map(rebuilt) {
                return Ok(took);
            }
            if let Some(status) = self.child.try_wait().context("child was not waited for")? {
                bail!("aggregator ended with {status}:\n{log}");
            }
            if Instant::now() >= deadline {
                bail!("aggregator does not run within {within:?}:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote at level warn or above, at most a few lines.
    pub(super) fn warnings(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\""))
            .take(3)
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        drop(self.kill());
    }
}

fn spawn(
    executable: &Path,
    nats: &Nats,
    market: &str,
    folder: &Path,
    number: usize,
) -> anyhow::Result<(Child, PathBuf)> {
    let url = nats.url();
    let data = folder.join("data");
    let configuration = format!(
        "bus: {{ kind: nats, nats: {{ urls: [ \"{url}\" ] }} }}\n\
         listeners: {{ main: {{ address: \"127.0.0.1:0\" }}, admin: {{ address: \"127.0.0.1:0\" }} }}\n\
         data_dir: {data:?}\n{market}"
    );
    let file = folder.join("market.yaml");
    fs::write(&file, configuration).context("configuration was not written")?;
    let log = folder.join(format!("market-{number}.log"));
    let output = File::create(&log).context("log file was not made")?;
    let errors = output.try_clone().context("log file was not shared")?;
    let child = Command::new(executable)
        .arg("market")
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .context("aggregator was not started")?;
    Ok((child, log))
}

/// What the line says about the start, if it is the one that does.
fn rebuilt(line: &str) -> Option<f64> {
    let entry: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = entry.get("fields").unwrap_or(&entry);
    (fields.get("message")?.as_str()? == "aggregator runs")
        .then(|| fields.get("rebuild_ms")?.as_f64())
        .flatten()
}

const START_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_in_the_log() {
        let line = r#"{"level":"INFO","fields":{"message":"aggregator runs","rebuild_ms":14}}"#;
        assert_eq!(rebuilt(line), Some(14.0));
        assert_eq!(rebuilt(r#"{"message":"aggregator stopped"}"#), None);
        assert_eq!(rebuilt("plain"), None);
    }
}
