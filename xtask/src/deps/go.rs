//! Go, recent enough for the tools that modules name themselves.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use super::{services_folder, suites};
use crate::run;

/// Takes the Go on the path, or unpacks one from a newer suite of Debian into the target folder.
/// Returns the folder of its programs if that is not on the path.
pub(crate) fn install() -> anyhow::Result<Option<PathBuf>> {
    if is_recent("go") {
        println!("    all there: go on the path");
        return Ok(None);
    }
    let folder = services_folder()?.join("go");
    let programs = folder.join("usr/lib/go/bin");
    let program = programs.join("go");
    let program = program
        .to_str()
        .filter(|path| !path.contains(char::is_whitespace))
        .context("the target folder's path has a space or is not UTF-8")?;
    if is_recent(program) {
        println!("    all there: {program}");
        return Ok(Some(programs));
    }
    suites::unpack(
        "golang-go",
        VERSION_MIN,
        suites::With::Family("golang-"),
        &folder,
    )?;
    ensure!(
        is_recent(program),
        "the unpacked {program} does not start or is too old"
    );
    Ok(Some(programs))
}

fn is_recent(program: &str) -> bool {
    let said = run::output(&format!("{program} version")).unwrap_or_default();
    suites::version(&said).is_some_and(|version| version >= VERSION_MIN)
}

/// The first with `go tool` for tools of a module, by which the generator is pinned in `go.mod`.
const VERSION_MIN: (u32, u32) = (1, 24);
