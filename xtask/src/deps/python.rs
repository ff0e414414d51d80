//! Environments of Python, each with its pinned packages, in the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{apt_get, services_folder};
use crate::run;

/// The folder of the environment `name` with what the file `requirements` lists.
/// It is made anew unless it is there from the same list.
pub(crate) fn environment(name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let folder = services_folder()?.join(name);
    let wanted = fs::read(requirements).with_context(|| format!("{requirements} is not there"))?;
    let stamp = folder.join(".installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        println!("    all there: {}", folder.display());
        return Ok(folder);
    }
    environments_can_be_made()?;
    if folder.exists() {
        fs::remove_dir_all(&folder).context("stale environment was not removed")?;
    }
    run::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"]);
    pip.args(["--disable-pip-version-check", "--retries", "5"]);
    // No package's own build runs here.
    pip.args(["--only-binary", ":all:", "--requirement"]);
    run::run(pip.arg(Path::new(requirements)))?;
    fs::write(stamp, wanted)?;
    Ok(folder)
}

/// Python with what makes environments of its own.
fn environments_can_be_made() -> anyhow::Result<()> {
    let is_there = || run::output("python3 -m ensurepip --version").is_ok();
    if is_there() {
        return Ok(());
    }
    println!("    missing: python3-venv");
    apt_get(&["update", "-qq"])?;
    apt_get(&[
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "python3-venv",
    ])?;
    ensure!(
        is_there(),
        "python3 makes no environments after the installation"
    );
    Ok(())
}
