//! The admin API against its own OpenAPI document.
//!
//! Installs Schemathesis from PyPI at pinned versions into an environment of its own below
//! the target folder, and has it try a real gateway. Nothing outside `target` is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

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

/// Makes the environment, unless it is there with these versions.
fn install() -> anyhow::Result<PathBuf> {
    let folder = deps::services_folder()?.join("schemathesis");
    let program = folder.join("bin/schemathesis");
    let wanted = fs::read(REQUIREMENTS).context("tests/requirements.txt is not there")?;
    let stamp = folder.join(".installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("    all there: {}", program.display());
        return Ok(program);
    }
    deps::python_environments()?;
    if folder.exists() {
        fs::remove_dir_all(&folder).context("stale environment was not removed")?;
    }
    run::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"]);
    pip.args(["--disable-pip-version-check", "--retries", "5"]);
    // No package's own build runs here.
    pip.args(["--only-binary", ":all:", "--requirement", REQUIREMENTS]);
    run::run(&mut pip)?;
    ensure!(
        Path::new(&program).is_file(),
        "{} is not there after the installation",
        program.display()
    );
    fs::write(stamp, wanted)?;
    Ok(program)
}

const REQUIREMENTS: &str = "tests/requirements.txt";
const SETTINGS: &str = "tests/schemathesis.toml";
