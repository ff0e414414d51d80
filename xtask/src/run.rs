//! Steps: announced before they run, timed, counted, summed up at the end.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::deps;

/// What the steps of one command came to.
///
/// A step that fails does not stop the ones after it: a developer wants every failure of a run, not the first.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
}

struct Step {
    name: String,
    took: Duration,
    counts: Counts,
    failure: Option<String>,
    skipped: Option<String>,
}

/// How many checks a step held; a step that counts nothing itself counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Report {
    /// Runs one step that either holds or does not.
    /// Returns whether it held, for steps that make no sense without it.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> bool {
        self.counted(name, || {
            work()?;
            Ok(Counts {
                passed: 1,
                failed: 0,
            })
        })
    }

    /// Runs one step that counts its own checks.
    pub(crate) fn counted(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<Counts>,
    ) -> bool {
        println!("\n==> {name}");
        let started = now();
        let (mut counts, failure) = match work() {
            Ok(counts) if counts.failed == 0 => (counts, None),
            Ok(counts) => (counts, Some(format!("{} failed", counts.failed))),
            Err(error) => (Counts::default(), Some(format!("{error:#}"))),
        };
        if let Some(failure) = &failure {
            counts.failed = counts.failed.max(1);
            println!("    failed: {failure}");
        }
        let held = failure.is_none();
        self.steps.push(Step {
            name: name.to_owned(),
            took: now() - started,
            counts,
            failure,
            skipped: None,
        });
        held
    }

    /// Records a step that was not run, with the reason.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        println!("\n==> {name}\n    skipped: {reason}");
        self.steps.push(Step {
            name: name.to_owned(),
            took: Duration::ZERO,
            counts: Counts::default(),
            failure: None,
            skipped: Some(reason.to_owned()),
        });
    }

    /// Prints the summary, the count on its last line.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n==> summary");
        let mut total = Counts::default();
        for step in &self.steps {
            total.passed += step.counts.passed;
            total.failed += step.counts.failed;
            let seconds = step.took.as_secs_f64();
            match (&step.failure, &step.skipped) {
                (Some(failure), _) => {
                    let first = failure.lines().next().unwrap_or_default();
                    println!("    FAILED  {seconds:7.1} s  {}: {first}", step.name);
                }
                (None, Some(reason)) => println!("    skipped          -  {}: {reason}", step.name),
                (None, None) => println!(
                    "    ok      {seconds:7.1} s  {} ({})",
                    step.name, step.counts.passed
                ),
            }
        }
        println!("\n{} passed, {} failed", total.passed, total.failed);
        if total.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// The folder that holds the workspace, so that `cargo xtask` works from anywhere inside it.
pub(crate) fn repository_root() -> anyhow::Result<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.parent()
        .map(PathBuf::from)
        .context("the folder of xtask has no parent")
}

/// A command given as one line without quoting, output shown, input closed.
pub(crate) fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).stdin(Stdio::null()).env("PATH", path());
    // One setting for all builds, or each would build anew what the one before has built.
    if std::env::var_os(SKIP_CONSOLE).is_none() {
        command.env(SKIP_CONSOLE, "0");
    }
    command
}

/// The path, with the programs before it that had to be installed.
pub(crate) fn path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let folders = deps::node::folder()
        .into_iter()
        .chain(std::env::split_paths(&own));
    std::env::join_paths(folders).unwrap_or(own.clone())
}

/// Set to 1, the console is left out of what is built.
pub(crate) const SKIP_CONSOLE: &str = "TIDEGATE_SKIP_CONSOLE";

/// Runs a command, showing it and its output.
///
/// # Errors
/// If it cannot be started or exits with anything but 0.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("    $ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("`{}` did not start", shown(command)))?;
    ensure!(status.success(), "`{}` ended with {status}", shown(command));
    Ok(())
}

/// Runs a command, showing its output, and hands every line of its standard output to `line`.
/// Returns whether it exited with 0.
pub(crate) fn run_reading(
    command: &mut Command,
    mut line: impl FnMut(&str),
) -> anyhow::Result<bool> {
    println!("    $ {}", shown(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{}` did not start", shown(command)))?;
    let output = child
        .stdout
        .take()
        .context("the child's output was asked for")?;
    for read in BufReader::new(output).lines() {
        let read = read?;
        println!("{read}");
        line(&read);
    }
    Ok(child.wait()?.success())
}

/// The standard output of a quiet command.
///
/// # Errors
/// If it cannot be started or exits with anything but 0; its standard error is in the message.
pub(crate) fn output(line: &str) -> anyhow::Result<String> {
    let output = command(line)
        .output()
        .with_context(|| format!("`{line}` did not start"))?;
    if !output.status.success() {
        bail!(
            "`{line}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[expect(
    clippy::disallowed_methods,
    reason = "xtask times its own steps; no product code runs here"
)]
fn now() -> Instant {
    Instant::now()
}
