//! House rules that no lint can express, checked over the tracked files and `cargo metadata`.

mod dependencies;
mod sources;

use crate::run::Report;

/// Checks every rule; needs no build.
pub(crate) fn check(report: &mut Report) {
    report.step(
        "house: which crate may use which, as ARCHITECTURE.md says",
        dependencies::direction,
    );
    report.step(
        "house: one door for each big dependency",
        dependencies::doors,
    );
    report.step(
        "house: pure crates have no I/O, clock or task",
        sources::pure_crates,
    );
    report.step(
        "house: no forgotten marks, ignored tests or sleeps",
        sources::marks,
    );
    report.step("house: documents keep to their length", sources::lengths);
    report.step(
        "house: lock files name no registry host",
        sources::lock_files,
    );
}

/// Fails with one line per violation.
fn none(violations: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(
        violations.is_empty(),
        "{}",
        violations.join("\n            ")
    );
    Ok(())
}
