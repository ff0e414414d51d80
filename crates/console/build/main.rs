//! Makes the table of embedded files.
//!
//! With npm at hand, `console/` and the package it stands on are built and their output is
//! embedded. Whatever goes wrong on that way is a warning and never an error: then the
//! files of `fallback/` are embedded, which need no build and say what is missing.

#![expect(clippy::print_stdout, reason = "a build script speaks to cargo so")]

mod embed;
mod npm;

use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-env-changed={SKIP}");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=fallback");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from);
    let out = out.ok_or_else(|| std::io::Error::other("OUT_DIR is not set"))?;
    let copy = out.join("pages");
    let outcome = match std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        true => Err(npm::Missing::Skipped),
        false => npm::build(here, &out, &copy),
    };
    match outcome {
        Ok(()) => embed::table(&copy, &out.join("pages.rs"), None),
        Err(missing) => {
            if !matches!(missing, npm::Missing::Skipped) {
                println!(
                    "cargo::warning=the console is not embedded: {} (mend that, then `cargo clean -p console`)",
                    missing.for_builders()
                );
            }
            // Whoever puts a recent one on the path wants it used.
            if matches!(missing, npm::Missing::Npm | npm::Missing::Node(_)) {
                println!("cargo::rerun-if-env-changed=PATH");
            }
            let fallback = here.join("fallback");
            embed::table(
                &fallback,
                &out.join("pages.rs"),
                Some(missing.for_readers()),
            )
        }
    }
}

/// Set to 1, nothing is built and the plain pages are embedded.
const SKIP: &str = "TIDEGATE_SKIP_CONSOLE";
