//! The admin API against its own OpenAPI document, tried by Schemathesis.
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
    let document = format!("http://{}/admin/openapi.json", gateway.admin_addr());
    let status = Command::new(program)
        .args(["--no-color", "--config-file"])
        .arg(settings)
        .args(["run", &document, "--checks", "all", "--warnings", "off"])
        .env("TIDEGATE_ADMIN_TOKEN", token)
        // It remembers what it found in the folder it runs in.
        .current_dir(gateway.folder())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{} did not start", program.display()))?;
    gateway.wait_status("/readyz", 200)?;
    let log = gateway.log().text();
    ensure!(!log.contains("panicked"), "a request made it panic: {log}");
    ensure!(status.success(), "the API is not what its document says");
    Ok(())
}

/// Wrong tokens are part of the checks and must not close the door to the right one.
const EXTRA: &str = r#"
admin: { failed_tries_per_minute: 1000000 }
relay:
  routes:
    - { client_id_prefix: "c", agent: "ws://127.0.0.1:9/", protocol: stratix }
"#;
