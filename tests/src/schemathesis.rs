//! The APIs of the admin listener against their own OpenAPI documents, tried by
//! Schemathesis.
//!
//! The gateway is a real one with a store and a relay. Whatever the document promises has
//! to hold for thousands of made-up requests, right ones and wrong ones, alone and in
//! sequences: documented statuses, types and headers, no server error, no way in without
//! a token. `tests/schemathesis.toml` says how it is done.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use testkit::Gateway;

use crate::config::config;

/// Runs all checks with `program`, the installed Schemathesis; `settings` is its
/// configuration, and its report goes to standard output.
pub fn run(program: &Path, settings: &Path) -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(EXTRA))?;
    let token = gateway.command(&["admin-token", "--name", "schemathesis"])?;
    let check = |document: &str, further: &[&str]| -> anyhow::Result<()> {
        let url = format!("http://{}{document}", gateway.admin_addr());
        let status = Command::new(program)
            .args(["--no-color", "--config-file"])
            .arg(settings)
            .args(["run", &url, "--checks", "all", "--warnings", "off"])
            .args(further)
            .env("TIDEGATE_ADMIN_TOKEN", &token)
            // It remembers what it found in the folder it runs in.
            .current_dir(gateway.folder())
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("{} did not start", program.display()))?;
        let alive = gateway.wait_status("/readyz", 200);
        let log = gateway.log().text();
        alive.with_context(|| {
            let last = log.lines().rev().take(20).collect::<Vec<_>>();
            format!("the gateway serves no more; last lines of its log, backwards: {last:#?}")
        })?;
        ensure!(!log.contains("panicked"), "a request made it panic: {log}");
        ensure!(
            status.success(),
            "the API is not what {document} says about it"
        );
        Ok(())
    };
    check("/admin/openapi.json", &[])?;
    // Existing clients of the server API may send what it does not know, and most of its
    // errors are a 200.
    let lenient = "positive_data_acceptance,negative_data_rejection";
    let further = ["--header", "X-API-Key: k", "--exclude-checks", lenient];
    check("/api/openapi.json", &further)
}

/// Wrong tokens are part of the checks and must not close the door to the right one.
const EXTRA: &str = r#"
admin: { failed_tries_per_minute: 1000000 }
http_api: { key: "k" }
relay:
  routes:
    - { client_id_prefix: "c", agent: "ws://127.0.0.1:9/", protocol: stratix }
"#;
