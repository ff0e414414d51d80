//! The Autobahn test suite against the WebSocket codec, server and client.
//!
//! The suite judges the echo examples of the crate `websocket`: its fuzzing client against our
//! server, its fuzzing server against our client, all 517 cases. Everything but OK is a failure,
//! NON-STRICT included, except for three cases that the suite itself only reports: 7.1.6, 7.13.1
//! and 7.13.2.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use suite::Suite;

mod suite;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Runs only these cases, such as `6.*`; may be repeated
    #[arg(long = "case")]
    cases: Vec<String>,
    /// Tests only this end; both by default
    #[arg(long, value_enum)]
    role: Option<Role>,
}

/// Which of our ends is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Role {
    Server,
    Client,
}

/// Installs the suite if need be, runs it, prints a table.
///
/// # Errors
///
/// If the suite could not be run, or judged anything else than what the module says.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = std::env::current_dir()?.join("target").join("autobahn");
    let suite = suite::install(&folder)?;
    let examples = build_examples()?;

    let whole = arguments.cases.is_empty();
    let shards = match whole {
        true => SHARDS
            .iter()
            .map(|cases| cases.iter().map(ToString::to_string).collect())
            .collect(),
        false => vec![arguments.cases.clone()],
    };
    let jobs: Vec<Job> = [Role::Server, Role::Client]
        .into_iter()
        .filter(|role| arguments.role.is_none_or(|wanted| wanted == *role))
        .flat_map(|role| {
            shards
                .iter()
                .cloned()
                .enumerate()
                .map(move |(n, cases)| (role, n, cases))
        })
        .map(|(role, number, cases)| Job {
            role,
            cases,
            folder: folder
                .join("runs")
                .join(format!("{}-{number}", role.name())),
            suite: suite.clone(),
            examples: examples.clone(),
        })
        .collect();
    println!(
        "    {} runs beside each other, reports in target/autobahn/runs",
        jobs.len()
    );
    let outcomes = thread::scope(|scope| {
        let running: Vec<_> = jobs.iter().map(|job| scope.spawn(|| job.run())).collect();
        running
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect::<Vec<_>>()
    });

    let mut verdicts = BTreeMap::<Role, Verdict>::new();
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let index = match outcome {
            Ok(index) => {
                index.with_context(|| format!("run in {} failed", job.folder.display()))?
            }
            Err(_) => bail!("run in {} panicked", job.folder.display()),
        };
        verdicts
            .entry(job.role)
            .or_default()
            .count(&index, &job.folder)?;
    }
    report(&verdicts, whole)
}

/// One process of the suite with one of ours.
struct Job {
    role: Role,
    cases: Vec<String>,
    folder: PathBuf,
    suite: Suite,
    examples: PathBuf,
}

impl Job {
    /// Runs the cases and returns the suite's index of verdicts.
    fn run(&self) -> anyhow::Result<Value> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::create_dir_all(&self.folder)?;
        match self.role {
            Role::Server => self.test_server()?,
            Role::Client => self.test_client()?,
        }
        let index = File::open(self.folder.join("index.json")).context("suite left no index")?;
        Ok(serde_json::from_reader(index)?)
    }

    fn test_server(&self) -> anyhow::Result<()> {
        let mut server = Command::new(self.examples.join("echo_server"));
        let mut server = Running::start(server.arg("127.0.0.1:0"))?;
        let mut line = String::new();
        BufReader::new(server.output()?).read_line(&mut line)?;
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .context("server did not listen")?;
        let servers = json!([{ "agent": self.role.name(), "url": format!("ws://{address}") }]);
        let log = File::create(self.folder.join("suite.log"))?;
        let status = self
            .suite
            .command("fuzzingclient", &self.specification("servers", servers)?)
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()?;
        ensure!(status.success(), "fuzzing client ended with {status}");
        Ok(())
    }

    fn test_client(&self) -> anyhow::Result<()> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let specification = self.specification("url", json!(format!("ws://{address}")))?;
        let mut log = File::create(self.folder.join("suite.log"))?;
        let errors = log.try_clone()?;
        let mut suite = self.suite.command("fuzzingserver", &specification);
        let mut suite = Running::start(suite.stderr(errors))?;
        let output = BufReader::new(suite.output()?);
        let (said, hear) = sync_channel(1);
        thread::scope(|scope| {
            scope.spawn(move || keep_log(output, &mut log, &said));
            let outcome = await_listener(&address, &hear).and_then(|()| {
                let mut client = Command::new(self.examples.join("echo_client"));
                let status = client
                    .args([&address, self.role.name()])
                    .stdout(Stdio::null())
                    .status()?;
                ensure!(status.success(), "echo client ended with {status}");
                Ok(())
            });
            // Ends the thread above, too.
            drop(suite);
            outcome
        })
    }

    /// Writes the suite's parameters, with the one that differs by role.
    fn specification(&self, key: &str, value: Value) -> anyhow::Result<PathBuf> {
        let mut specification = json!({
            "outdir": &self.folder,
            "cases": &self.cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        });
        specification[key] = value;
        let path = self.folder.join("suite.json");
        fs::write(&path, specification.to_string())?;
        Ok(path)
    }
}

/// A process that ends with its owner.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Ok(Self(
            started.with_context(|| format!("{program} did not start"))?,
        ))
    }

    fn output(&mut self) -> anyhow::Result<std::process::ChildStdout> {
        self.0.stdout.take().context("output is taken once")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the suite thinks of one role.
#[derive(Default)]
struct Verdict {
    ok: usize,
    informational: usize,
    bad: Vec<String>,
}

impl Verdict {
    fn count(&mut self, index: &Value, folder: &Path) -> anyhow::Result<()> {
        let agents = index.as_object().context("index is not an object")?;
        for (case, result) in agents.values().filter_map(Value::as_object).flatten() {
            let of = |key: &str| result[key].as_str().unwrap_or("missing").to_owned();
            let (behavior, close) = (of("behavior"), of("behaviorClose"));
            let both = |wanted: [&str; 2]| {
                wanted.contains(&behavior.as_str()) && wanted.contains(&close.as_str())
            };
            if both(["OK", "OK"]) {
                self.ok += 1;
            } else if INFORMATIONAL.contains(&case.as_str()) && both(["OK", "INFORMATIONAL"]) {
                self.informational += 1;
            } else {
                let file = folder.join(result["reportfile"].as_str().unwrap_or_default());
                let file = file.display();
                self.bad
                    .push(format!("{case}: {behavior}, closing {close}, see {file}"));
            }
        }
        Ok(())
    }

    fn cases(&self) -> usize {
        self.ok + self.informational + self.bad.len()
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

fn build_examples() -> anyhow::Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--package", "websocket", "--examples"])
        .status()
        .context("cargo did not start")?;
    ensure!(status.success(), "echo examples do not build");
    Ok(std::env::current_dir()?
        .join("target")
        .join("release")
        .join("examples"))
}

/// Copies what the suite says to its log; sends a word when it is about to listen.
fn keep_log(output: impl BufRead, log: &mut File, said: &SyncSender<()>) {
    for line in output.lines().map_while(Result::ok) {
        if line.contains("will run") {
            // Nobody listens any more if the run has failed.
            let _ = said.try_send(());
        }
        if writeln!(log, "{line}").is_err() {
            return;
        }
    }
}

/// Waits until the suite accepts connections, at most half a minute.
fn await_listener(address: &str, hear: &Receiver<()>) -> anyhow::Result<()> {
    hear.recv_timeout(Duration::from_secs(30))
        .context("fuzzing server did not start")?;
    for _ in 0..300 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        // Nothing more is said: this only lets time pass.
        let _ = hear.recv_timeout(Duration::from_millis(100));
    }
    bail!("fuzzing server does not accept connections")
}

fn report(verdicts: &BTreeMap<Role, Verdict>, whole: bool) -> anyhow::Result<()> {
    println!("\n    agent   cases     ok  informational  bad");
    for (role, verdict) in verdicts {
        println!(
            "    {:<6}  {:>5}  {:>5}  {:>13}  {:>3}",
            role.name(),
            verdict.cases(),
            verdict.ok,
            verdict.informational,
            verdict.bad.len()
        );
    }
    for (role, verdict) in verdicts {
        for bad in &verdict.bad {
            println!("    {} {bad}", role.name());
        }
    }
    let bad: usize = verdicts.values().map(|verdict| verdict.bad.len()).sum();
    ensure!(
        bad == 0,
        "{bad} cases are neither OK nor permitted to be informational"
    );
    for (role, verdict) in verdicts {
        let cases = verdict.cases();
        ensure!(cases > 0, "no case was run for the {}", role.name());
        ensure!(
            !whole || cases == CASES,
            "{cases} cases were run instead of {CASES}"
        );
    }
    Ok(())
}

/// All cases of the suite in two parts that take about as long, so that two cores are used.
const SHARDS: [&[&str]; 2] = [
    &[
        "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*",
    ],
    &["13.*"],
];

/// How many cases the shards have together.
const CASES: usize = 517;

/// What the suite reports without judging: closing with a large message under way, and close
/// codes from 5000, which no document defines.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];

#[cfg(test)]
mod tests;
