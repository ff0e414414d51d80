//! The admin API against its own OpenAPI document.
//!
//! Installs Schemathesis from PyPI at pinned versions into an environment of its own below
//! the target folder, and has it try a real gateway. Nothing outside `target` is touched.

use std::path::PathBuf;

use anyhow::ensure;

use crate::deps;
use crate::run::{self, Report};

/// Installs, builds, checks.
pub(crate) fn run(report: &mut Report) {
    let built = report.step("build the gateway", || {
        run::run(&mut run::command("cargo build --package tidegate"))
    });
    if built {
        step(report);
    }
}

/// As [`run()`], with a gateway that is built already.
pub(crate) fn step(report: &mut Report) {
    let mut program = None;
    let installed = report.step(
        "schemathesis: packages of Python in the target folder",
        || {
            program = Some(install()?);
            Ok(())
        },
    );
    if let (true, Some(program)) = (installed, program) {
        report.step("the admin API against its OpenAPI document", || {
            let mut check =
                run::command("cargo run --quiet --package e2e --example schemathesis --");
            run::run(check.arg(program).arg(SETTINGS))
        });
    }
}

fn install() -> anyhow::Result<PathBuf> {
    let folder = deps::python::environment("schemathesis", REQUIREMENTS)?;
    let program = folder.join("bin/schemathesis");
    ensure!(
        program.is_file(),
        "{} is not there after the installation",
        program.display()
    );
    Ok(program)
}

const REQUIREMENTS: &str = "tests/requirements.txt";
const SETTINGS: &str = "tests/schemathesis.toml";
