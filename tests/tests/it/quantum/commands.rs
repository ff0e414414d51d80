//! `tidegate quantum`: keys, a server, and a look at it from outside.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use anyhow::Context;
use e2e::desk::{Desk, Way};
use testkit::PATIENCE;
use testkit::gateway::executable;
use testkit::log::Log;

/// Runs `tidegate quantum …` in a folder.
fn quantum(folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(executable()?);
    command.arg("quantum").args(arguments).current_dir(folder);
    Ok(command.output()?)
}

/// What a command printed that ended well.
fn printed(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{error}");
    out.into_owned()
}

/// What a command said that ended badly.
fn complaint(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(!output.status.success(), "{out}{error}");
    assert!(!error.contains("panicked"), "{error}");
    format!("{out}{error}")
}

struct Echo {
    child: Child,
    address: String,
}

impl Echo {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(executable()?)
            .args([
                "quantum",
                "echo",
                "--listen",
                "127.0.0.1:0",
                "--keys",
                "keys",
            ])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()?;
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().context("no stdout")?)?;
        let mut echo = Self {
            child,
            address: String::new(),
        };
        let deadline = std::time::Instant::now() + PATIENCE;
        while echo.address.is_empty() {
            let text = log.text();
            let said = text
                .split_whitespace()
                .find(|word| word.starts_with("127.0.0.1:"));
            echo.address = said.unwrap_or_default().to_owned();
            anyhow::ensure!(std::time::Instant::now() < deadline, "echo said {text:?}");
            std::thread::yield_now();
        }
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn keys_echo_ping_and_bench_work_with_each_other() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let told = printed(&quantum(at, &["keys", "keys"])?);
    assert!(told.contains("ca: keys/authority.pem"), "{told}");
    let again = complaint(&quantum(at, &["keys", "keys"])?);
    assert!(again.contains("is there already"), "{again}");
    let echo = Echo::start(at)?;
    let to = &*echo.address;
    let told = printed(&quantum(
        at,
        &["ping", to, "--keys", "keys", "-n", "3", "-i", "10ms"],
    )?);
    assert!(told.contains("handshake") && told.contains(to), "{told}");
    assert!(told.lines().count() >= 5, "{told}");
    let told = printed(&quantum(
        at,
        &["bench", to, "--keys", "keys", "-d", "500ms"],
    )?);
    assert!(told.contains("calls/s") && told.contains("p99"), "{told}");
    Ok(())
}

#[test]
fn ping_reaches_any_service_and_says_what_keeps_it_from_one() -> anyhow::Result<()> {
    let desk = Desk::start()?;
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let own = desk.identity();
    let own = own.authority.parent().context("no folder")?;
    let own = own.to_str().context("no text")?;
    let to = desk.address(Way::Quantum).to_string();
    let ping = |to: &str, more: &[&str]| {
        let few = ["ping", to, "-n", "2", "-i", "10ms"];
        quantum(at, &[&few, more].concat())
    };
    printed(&ping(&to, &["--keys", own])?);

    let nobody = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let error = complaint(&ping(&nobody, &["--keys", own])?);
    assert!(error.contains(&nobody), "{error}");
    let error = complaint(&ping("nobody.invalid:9", &["--keys", own])?);
    assert!(error.contains("nobody.invalid"), "{error}");
    let error = complaint(&ping("no-port", &["--keys", own])?);
    assert!(error.contains("no-port"), "{error}");
    printed(&quantum(at, &["keys", "strange"])?);
    let error = complaint(&ping(&to, &["--keys", "strange"])?);
    assert!(error.contains("certificate"), "{error}");
    let error = complaint(&ping(
        &to,
        &["--keys", own, "--server-name", "elsewhere.example"],
    )?);
    assert!(error.contains("certificate"), "{error}");
    let error = complaint(&ping(&to, &["--keys", own, "--anonymous"])?);
    assert!(error.contains("ertificate"), "{error}");
    let error = complaint(&ping(&to, &["--keys", "nowhere"])?);
    assert!(error.contains("nowhere"), "{error}");
    Ok(())
}
