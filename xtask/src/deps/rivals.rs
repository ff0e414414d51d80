//! What the benchmarks compare against, recent enough to be worth comparing with.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::{apt_get, exists, suites};

/// nginx and HAProxy into the target folder, h2load onto the machine. The broadcaster that
/// the edge is compared with is part of the perf package.
pub(super) fn install() -> anyhow::Result<()> {
    for proxy in PROXIES {
        unpack(proxy)?;
    }
    if exists("h2load") {
        println!("    all there: h2load on the path");
        return Ok(());
    }
    apt_get(&["update", "-qq"])?;
    apt_get(&[
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "nghttp2-client",
    ])
}

/// A proxy that is driven beside ours.
struct Proxy {
    /// Of the package and of its program in `usr/sbin`.
    name: &'static str,
    /// `perf proxy` refuses older ones.
    at_least: (u32, u32),
}

fn unpack(proxy: &Proxy) -> anyhow::Result<()> {
    let Proxy { name, at_least } = *proxy;
    let folder = suites::services_folder()?.join(name);
    let script = folder.join("run");
    if is_recent(&script, at_least) {
        println!("    all there: {}", script.display());
        return Ok(());
    }
    suites::unpack(name, at_least, suites::With::Libraries, &folder)?;
    let script = suites::start_script(&folder, &format!("usr/sbin/{name}"))?;
    ensure!(
        is_recent(&script, at_least),
        "the unpacked {} does not start or is too old",
        script.display()
    );
    Ok(())
}

/// Both tell their version after `-v`: nginx on standard error, HAProxy on standard output.
fn is_recent(script: &Path, at_least: (u32, u32)) -> bool {
    version(script).is_ok_and(|found| found >= at_least)
}

fn version(script: &Path) -> anyhow::Result<(u32, u32)> {
    let output = Command::new(script).arg("-v").output()?;
    ensure!(output.status.success(), "it ended with {}", output.status);
    let said = [output.stdout, output.stderr].concat();
    suites::version(&String::from_utf8_lossy(&said)).context("it told no version")
}

const PROXIES: &[Proxy] = &[
    Proxy {
        name: "nginx",
        at_least: (1, 28),
    },
    Proxy {
        name: "haproxy",
        at_least: (3, 0),
    },
];
