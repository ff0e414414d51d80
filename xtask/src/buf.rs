//! The contracts in `proto/`: their form, what may change in them, and what other languages
//! make of them.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::deps;
use crate::run::{self, Counts, Report};
use crate::suites;

/// Installs buf if it is missing, then checks the contracts; with `release_baseline` a release
/// then makes them what later changes are compared with.
pub(crate) fn run(report: &mut Report, release_baseline: bool) {
    let held = check(report);
    if !release_baseline {
        return;
    }
    let name = "contracts: the baseline is moved";
    if held {
        report.step(name, write_baseline);
    } else {
        report.skip(name, "the contracts do not hold as they are");
    }
}

/// Form, lints, and nothing that breaks who reads or writes by the baseline.
/// Returns whether all held.
pub(crate) fn check(report: &mut Report) -> bool {
    let steps: [(&str, &[&str]); 3] = [
        (
            "contracts: format",
            &["format", CONTRACTS, "--diff", "--exit-code"],
        ),
        ("contracts: lints", &["lint", CONTRACTS]),
        (
            "contracts: additions only, against the baseline",
            &["breaking", CONTRACTS, "--against", BASELINE],
        ),
    ];
    if !report.step("contracts: buf, from npm", || deps::npm_packages(PACKAGES)) {
        return false;
    }
    let mut held = true;
    for (name, arguments) in steps {
        held &= report.step(name, || run::run(buf().args(arguments)));
    }
    held
}

/// Installs what is missing, then runs [`languages`].
pub(crate) fn install_and_run_languages(report: &mut Report) {
    deps::contracts(report);
    languages(report);
}

/// Generates TypeScript, Go and Python, compiles or imports them, has them read what Rust wrote,
/// and tries changes against the baseline. What they need is there.
pub(crate) fn languages(report: &mut Report) {
    report.counted(
        "contracts: TypeScript, Go and Python read what Rust writes; what a change may do",
        tests,
    );
}

fn tests() -> anyhow::Result<Counts> {
    let tools = deps::contract_tools()?;
    let own = run::path();
    let folders = tools.into_iter().chain(std::env::split_paths(&own));
    let path: OsString = std::env::join_paths(folders).context("a folder has a colon")?;
    let caches = deps::services_folder()?;
    suites::node(PACKAGES, |node| {
        node.env("PATH", path)
            .env("GOPATH", caches.join("go-path"))
            .env("GOCACHE", caches.join("go-cache"))
            .env("GOTOOLCHAIN", "local")
            // Caches that can be deleted with the target folder; sources that may lie in any repository.
            .env("GOFLAGS", "-modcacherw -buildvcs=false")
            .env("CGO_ENABLED", "0");
    })
}

fn write_baseline() -> anyhow::Result<()> {
    // Beside it first: what is torn off midway is no baseline.
    let fresh = Path::new("target/xtask/baseline.binpb");
    std::fs::create_dir_all(fresh.parent().context("the path has a parent")?)?;
    let build = ["build", CONTRACTS, "--exclude-source-info", "--output"];
    run::run(buf().args(build).arg(fresh))?;
    let (old, new) = (std::fs::read(BASELINE)?, std::fs::read(fresh)?);
    ensure!(!new.is_empty(), "buf wrote an empty image");
    if old == new {
        println!("    the baseline is what the contracts are already");
        return Ok(());
    }
    std::fs::copy(fresh, BASELINE)?;
    println!("    {BASELINE} has changed; commit it with the release");
    Ok(())
}

fn buf() -> Command {
    run::command("tests/contracts/node_modules/.bin/buf")
}

const CONTRACTS: &str = "proto";
/// Packages from npm and the tests that use them.
const PACKAGES: &str = "tests/contracts";
/// The contracts of the last release, as an image without comments.
const BASELINE: &str = "proto/baseline.binpb";
