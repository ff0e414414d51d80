//! Tries the admin API of a real gateway against its OpenAPI document.
//!
//! `cargo xtask schemathesis` installs what it needs and starts it: its arguments are the
//! program and its configuration.

use std::path::{Path, PathBuf};

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = |what: &'static str| {
        let path = arguments.next().context(what)?;
        // A program in an environment of its own is not to be reached by another path.
        std::path::absolute(path).context(what)
    };
    let program = next("expected: the installed program")?;
    let settings = next("expected: its configuration")?;
    e2e::schemathesis::run(Path::new(&program), &settings)
}
