//! The tests: Rust's own, against the built gateway the official JavaScript SDK, Schemathesis
//! and a browser, and those of the contracts in other languages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::buf;
use crate::deps;
use crate::packages;
use crate::run::{self, Counts, Report};
use crate::schemathesis;

/// Installs what is missing, builds the gateway, runs every test.
pub(crate) fn run(report: &mut Report) {
    deps::install(report, false);
    simulations(report);
    let built = build(report);
    if built {
        report.counted("Rust tests: unit, crate, end to end, docs", rust_tests);
        report.counted(SDK_SUITE, sdk_suite);
        schemathesis::step(report);
    }
    packages::step(report);
    if built {
        browser_step(report);
    }
    buf::languages(report);
}

/// Quantum in virtual time, and whether the simulation notices what it is there to notice.
fn simulations(report: &mut Report) {
    let held = report.step("Quantum in the simulator: 2,000 seeds", || {
        run::run(&mut run::command(
            "cargo run --release --package sim -- quantum --seeds 2000",
        ))
    });
    if held {
        report.step("mutations of Quantum that the simulator must catch", || {
            run::run(&mut run::command(
                "cargo run --release --package sim -- mutations",
            ))
        });
    }
}

/// As [`run()`], the browser tests only.
pub(crate) fn browser(report: &mut Report) {
    deps::install(report, false);
    if packages::build_client(report) && build(report) {
        browser_step(report);
    }
}

/// As [`run()`], without the Rust tests.
pub(crate) fn sdk(report: &mut Report) {
    deps::install(report, false);
    if build(report) {
        report.counted(SDK_SUITE, sdk_suite);
    }
}

const SDK_SUITE: &str = "SDK suite: Node, headless Chromium, playground, examples of the documents";

fn browser_step(report: &mut Report) {
    const NAME: &str = "market screen and console in headless Chromium";
    if std::env::var_os(run::SKIP_CONSOLE).is_some_and(|value| value == "1") {
        report.skip(
            NAME,
            "TIDEGATE_SKIP_CONSOLE=1 leaves them out of the gateway",
        );
        return;
    }
    report.counted(NAME, browser_suite);
}

fn build(report: &mut Report) -> bool {
    report.step("build the gateway that the end-to-end tests start", || {
        run::run(&mut run::command("cargo build --package tidegate"))
    })
}

fn rust_tests() -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let success = run::run_reading(
        &mut run::command("cargo test --workspace --no-fail-fast"),
        |line| {
            let found = test_result(line);
            counts.passed += found.passed;
            counts.failed += found.failed;
        },
    )?;
    ensure!(
        success || counts.failed > 0,
        "the tests did not build or did not end"
    );
    Ok(counts)
}

/// Reads the closing line of one test binary.
fn test_result(line: &str) -> Counts {
    let Some(result) = line.trim().strip_prefix("test result: ") else {
        return Counts::default();
    };
    let number = |what: &str| {
        let before = result.split(what).next().unwrap_or_default().trim_end();
        before
            .rsplit([' ', ';'])
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    Counts {
        passed: number(" passed"),
        failed: number(" failed"),
    }
}

fn sdk_suite() -> anyhow::Result<Counts> {
    let gateway = gateway()?;
    run::run(&mut run::command(
        "cargo build --package e2e --example desk",
    ))?;
    node("tests/sdk", |node| {
        node.env("TIDEGATE_BIN", gateway);
    })
}

fn browser_suite() -> anyhow::Result<Counts> {
    let (gateway, services) = (gateway()?, deps::services_folder()?);
    node("tests/browser", |node| {
        // Each file measures times, and two browsers at once would measure each other.
        node.arg("--test-concurrency=1")
            .env("TIDEGATE_BIN", gateway)
            .env("TIDEGATE_SERVICES", services);
    })
}

/// Cargo puts what it builds into one folder, which need not be `target`.
fn gateway() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("tidegate"))
}

/// Runs the `*.test.mjs` of a folder with Node's own test runner.
pub(crate) fn node(folder: &str, prepare: impl FnOnce(&mut Command)) -> anyhow::Result<Counts> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "{folder} has no *.test.mjs");

    // One reporter for the reader, one for the count.
    let name = Path::new(folder)
        .file_name()
        .context("the folder has a name")?;
    let tap = Path::new("target/xtask").join(name).with_extension("tap");
    std::fs::create_dir_all(tap.parent().context("the path has a parent")?)?;
    let mut node =
        run::command("node --test --test-reporter=spec --test-reporter-destination=stdout");
    node.arg("--test-reporter=tap")
        .arg(format!("--test-reporter-destination={}", tap.display()));
    prepare(&mut node);
    node.args(files);
    let ended = run::run(&mut node);
    let counts = tap_counts(&std::fs::read_to_string(&tap).unwrap_or_default());
    if counts.failed == 0 {
        ended?;
        ensure!(counts.passed > 0, "no test ran");
    }
    Ok(counts)
}

/// Reads the totals that close a TAP report.
fn tap_counts(report: &str) -> Counts {
    let total = |key: &str| {
        let line = report.lines().rev().find_map(|line| line.strip_prefix(key));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or(0)
    };
    Counts {
        passed: total("# pass "),
        failed: total("# fail ") + total("# cancelled "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_binary_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(
            test_result(line),
            Counts {
                passed: 12,
                failed: 3
            }
        );
        assert_eq!(
            test_result("test subject::parses ... ok"),
            Counts::default()
        );
    }

    #[test]
    fn the_totals_of_a_tap_report_are_counted() {
        let report = "ok 1 - a\n# tests 9\n# pass 7\n# fail 1\n# cancelled 1\n";
        assert_eq!(
            tap_counts(report),
            Counts {
                passed: 7,
                failed: 2
            }
        );
    }
}
