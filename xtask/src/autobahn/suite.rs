//! The suite itself: a Python 2.7 program in a virtual environment of its own.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// An installed suite.
#[derive(Debug, Clone)]
pub(super) struct Suite {
    wstest: PathBuf,
}

impl Suite {
    /// Its command in one of its modes.
    pub(super) fn command(&self, mode: &str, specification: &Path) -> Command {
        let mut command = Command::new(&self.wstest);
        // The fuzzing server also serves a page, by default on a port that others like.
        command
            .args(["-u", "0", "-m", mode, "-s"])
            .arg(specification);
        command.env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
        command
    }
}

/// Installs the suite below `folder`, unless it is there.
///
/// # Errors
///
/// If there is no Python 2.7, or the network does not give what is missing.
pub(super) fn install(folder: &Path) -> anyhow::Result<Suite> {
    let environment = folder.join("ab");
    let suite = Suite {
        wstest: environment.join("bin").join("wstest"),
    };
    let mut import = Command::new(environment.join("bin").join("python"));
    if suite.wstest.exists() && is_quiet_success(import.args(["-c", "import autobahntestsuite"])) {
        return Ok(suite);
    }

    let python = find_python().context(
        "no Python 2.7 was found, which the suite is written for. Install one, for instance by \
         `pyenv install 2.7.18`, or name one in PYTHON27.",
    )?;
    println!("    installing {SUITE} with {}", python.to_string_lossy());
    fs::create_dir_all(folder)?;
    // Only an old virtualenv can still make an environment for Python 2.7.
    let tools = folder.join("v3");
    run(Command::new("python3").args(["-m", "venv"]).arg(&tools))?;
    let tools = tools.join("bin");
    run(Command::new(tools.join("pip")).args(["install", "--quiet", VIRTUALENV]))?;
    let mut create = Command::new(tools.join("virtualenv"));
    run(create
        .args(["--quiet", "-p"])
        .arg(&python)
        .arg(&environment))?;
    let mut install = Command::new(environment.join("bin").join("pip"));
    run(install.args(["install", "--quiet", SUITE]))?;
    ensure!(suite.wstest.exists(), "{SUITE} has no wstest");
    Ok(suite)
}

/// A Python 2.7 that runs: the one named in `PYTHON27`, the one on the path, one of pyenv's.
fn find_python() -> anyhow::Result<OsString> {
    let mut candidates = Vec::new();
    candidates.extend(env::var_os("PYTHON27"));
    candidates.push("python2.7".into());
    let pyenv = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".pyenv")));
    let versions = pyenv.and_then(|root| fs::read_dir(root.join("versions")).ok());
    for version in versions.into_iter().flatten().flatten() {
        if version.file_name().to_string_lossy().starts_with("2.7") {
            candidates.push(version.path().join("bin").join("python2.7").into());
        }
    }
    for candidate in &candidates {
        let check = "import sys; sys.exit(sys.version_info[:2] != (2, 7))";
        if is_quiet_success(Command::new(candidate).args(["-c", check])) {
            return Ok(candidate.clone());
        }
    }
    bail!("none of {candidates:?} runs")
}

fn is_quiet_success(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{program} did not start"))?;
    ensure!(status.success(), "{program} ended with {status}");
    Ok(())
}

const VIRTUALENV: &str = "virtualenv==20.21.1";
const SUITE: &str = "autobahntestsuite==25.10.1";
