//! The npm packages of the browser side: `@tidegate/client`, and the pages made with it.

use crate::run::{self, Report};

/// Their folders, in the order in which they build on each other.
pub(crate) const FOLDERS: [&str; 2] = ["sdk/typescript", "console"];

/// Builds `@tidegate/client`, for pages that stand on it.
pub(crate) fn build_client(report: &mut Report) -> bool {
    report.step("@tidegate/client: build", || {
        npm(FOLDERS[0], &["run", "build"])
    })
}

/// Builds the packages, checks their types and runs their tests; their browser tests are
/// in [`crate::suites`].
pub(crate) fn step(report: &mut Report) {
    report.step(
        "@tidegate/client: build, types, tests, size of what browsers load",
        || npm(FOLDERS[0], &["run", "test"]),
    );
    report.step("console: types and tests", || {
        npm(FOLDERS[1], &["run", "check"])?;
        npm(FOLDERS[1], &["run", "test"])
    });
}

fn npm(folder: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut npm = run::command("npm");
    run::run(npm.args(arguments).current_dir(folder))
}
