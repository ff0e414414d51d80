//! Everything that must hold before a change lands, cheapest first.

use anyhow::bail;

use crate::run::{self, Report};
use crate::{buf, house, suites};

/// Runs every check, then the tests.
pub(crate) fn run(report: &mut Report) {
    house::check(report);
    report.step("format", || {
        run::run(&mut run::command("cargo fmt --all --check"))
    });
    buf::check(report);
    report.step("one cryptography provider: ring is absent", ring_is_absent);
    report.step("lints", || {
        run::run(&mut run::command(
            "cargo clippy --workspace --all-targets -- --deny warnings",
        ))
    });
    report.step("documentation", || {
        let mut doc = run::command("cargo doc --workspace --no-deps --document-private-items");
        run::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    });
    if run::output("cargo deny --version").is_ok() {
        report.step("dependencies: bans, licenses, sources", || {
            run::run(&mut run::command("cargo deny check bans licenses sources"))
        });
    } else {
        report.skip(
            "dependencies: bans, licenses, sources",
            "cargo-deny is not installed",
        );
    }
    suites::run(report);
}

fn ring_is_absent() -> anyhow::Result<()> {
    let tree =
        run::command("cargo tree --workspace --invert ring --edges normal,build,dev").output()?;
    let (found, said) = (
        String::from_utf8_lossy(&tree.stdout),
        String::from_utf8_lossy(&tree.stderr),
    );
    if tree.status.success() && !found.trim().is_empty() {
        bail!("something needs ring:\n{found}");
    }
    if !tree.status.success() && !said.contains("did not match any packages") {
        bail!("cargo tree failed: {said}");
    }
    Ok(())
}
