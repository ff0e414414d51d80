//! Installs what the tests need and nothing that is there already.

mod go;
pub(crate) mod node;
pub(crate) mod python;
mod rivals;
mod suites;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::packages;
use crate::run::{self, Report};

/// Installs what is missing; `rivals` adds what the benchmarks compare against.
pub(crate) fn install(report: &mut Report, rivals: bool) {
    report.step(
        "deps: Debian packages (C compiler, curl, OpenSSL, Chromium, Redis, PostgreSQL)",
        system_packages,
    );
    report.step(
        "deps: nats-server from a newer suite of Debian, into the target folder",
        nats_server,
    );
    report.step(
        "deps: Node.js 20.19 or newer, into the target folder if need be",
        node::install,
    );
    for folder in ["tests/sdk", "tests/browser"]
        .into_iter()
        .chain(packages::FOLDERS)
    {
        report.step(&format!("deps: npm packages of {folder}"), || {
            npm_packages(folder)
        });
    }
    contracts(report);
    if rivals {
        report.step(
            "deps: what the benchmarks compare against (nginx, HAProxy, h2load)",
            rivals::install,
        );
    }
}

/// Where what is not installed for the whole machine lies.
pub(crate) fn services_folder() -> anyhow::Result<PathBuf> {
    suites::services_folder()
}

/// Installs what generates and reads the contracts of `proto/` in other languages.
pub(crate) fn contracts(report: &mut Report) {
    report.step(
        "deps: npm packages of tests/contracts (buf, TypeScript)",
        || npm_packages("tests/contracts"),
    );
    report.step(
        "deps: Go and the Python packages of tests/contracts",
        || contract_tools().map(drop),
    );
}

/// Folders of the programs that the tests of the contracts need before others of that name.
pub(crate) fn contract_tools() -> anyhow::Result<Vec<PathBuf>> {
    let python = python::environment("contracts", "tests/contracts/python/requirements.txt")?;
    let go = go::install()?;
    Ok([python.join("bin")].into_iter().chain(go).collect())
}

/// The first Chromium-like browser on the path.
pub(crate) fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| exists(name))
}

fn system_packages() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if !exists("cc") {
        missing.extend(["gcc", "libc6-dev"]);
    }
    // The examples of the guides are run as they stand: with curl, and with a certificate of their own.
    missing.extend(
        ["curl", "openssl"]
            .into_iter()
            .filter(|program| !exists(program)),
    );
    if browser().is_none() {
        missing.push("chromium");
    }
    if !exists("redis-server") {
        missing.push("redis-server");
    }
    if !exists("h2load") {
        missing.push("nghttp2-client");
    }
    if !exists("postgres") && !postgres_beside_the_path() {
        missing.push("postgresql");
    }
    if missing.is_empty() {
        println!("    all there");
        return Ok(());
    }
    println!("    missing: {}", missing.join(", "));
    ensure!(
        exists("apt-get"),
        "apt-get is not there; install by hand: {}",
        missing.join(", ")
    );
    // The lists and archives come over the network, which may hiccup; nothing else is tried twice.
    apt_get(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(missing);
    apt_get(&install)
}

/// Its own release of Debian has none that is recent enough: acknowledgements of older ones
/// come before the disk has the message, and lose more than that.
fn nats_server() -> anyhow::Result<()> {
    let recent = |program: &str| {
        let said = run::output(&format!("{program} --version")).unwrap_or_default();
        suites::version(&said).is_some_and(|version| version >= NATS_VERSION_MIN)
    };
    if recent("nats-server") {
        println!("    all there: nats-server on the path");
        return Ok(());
    }
    let folder = suites::services_folder()?.join("nats-server");
    let program = folder.join("usr/sbin/nats-server");
    let program = program
        .to_str()
        .filter(|path| !path.contains(char::is_whitespace))
        .context("the target folder's path has a space or is not UTF-8")?;
    if recent(program) {
        println!("    all there: {program}");
        return Ok(());
    }
    suites::unpack(
        "nats-server",
        NATS_VERSION_MIN,
        suites::With::Nothing,
        &folder,
    )?;
    ensure!(
        recent(program),
        "the unpacked {program} does not start or is too old"
    );
    Ok(())
}

/// Installs what the lock file of a folder names.
pub(crate) fn npm_packages(folder: &str) -> anyhow::Result<()> {
    let folder = Path::new(folder);
    let wanted = std::fs::read(folder.join("package-lock.json"))
        .with_context(|| format!("{} has no package-lock.json", folder.display()))?;
    let stamp = folder.join("node_modules/.installed-from");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("    all there");
        return Ok(());
    }
    let mut npm = run::command("npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=5");
    run::run(npm.current_dir(folder))?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

/// `apt-get` as root, or through `sudo` if that asks for no password.
fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let root = run::output("id -u")?.trim() == "0";
    let mut command = if root {
        Command::new("apt-get")
    } else if run::output("sudo -n true").is_ok() {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    } else {
        bail!(
            "installing packages needs root or a sudo without password; run: apt-get {}",
            arguments.join(" ")
        );
    };
    command
        .args(["-o", "Acquire::Retries=5", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments);
    run::run(
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::null()),
    )
}

/// Debian keeps the server's programs out of the path, a folder for each version.
fn postgres_beside_the_path() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    versions
        .flatten()
        .any(|version| version.path().join("bin/postgres").is_file())
}

fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Oldest nats-server the tests and benchmarks accept.
const NATS_VERSION_MIN: (u32, u32) = (2, 15);
