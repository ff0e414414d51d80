//! Makes Rust types of the contracts, without `protoc`.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = contracts(&root)?;
    let descriptors = protox::compile(&files, [&root])?;
    // Maps sorted by key: the same message is always the same bytes.
    prost_build::Config::new()
        .btree_map(["."])
        .include_file("contracts.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

/// Every `*.proto` below a folder, sorted.
fn contracts(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(contracts(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
