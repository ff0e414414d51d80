//! Clients of others.

use std::process::Command;

use anyhow::{Context, ensure};
use e2e::config::config;
use testkit::certificate::Certificate;
use testkit::{Gateway, PATIENCE};

use crate::smuggling;
use crate::smuggling::origin::Origin;

/// A program and what it printed.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} is not there; `cargo xtask deps` installs it"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {said}{complaint}"
    );
    Ok(said)
}

const WRITE_OUT: &str = " %{http_version} %{http_code}";

#[test]
fn curl_speaks_http2_with_and_without_tls() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let url = format!("http://{}/-/o/c0/curl", gateway.main_addr());
    let patience = PATIENCE.as_secs().to_string();
    let plain = [
        "--http2-prior-knowledge",
        "-sS",
        "-m",
        &patience,
        "-w",
        WRITE_OUT,
    ];
    let said = run("curl", &[&plain[..], &[&url]].concat())?;
    assert_eq!(said, "GET /c0/curl 2 200");
    let said = run("curl", &[&plain[..], &["-d", "hello", &url]].concat())?;
    assert_eq!(said, "POST /c0/curl 2 200");
    let seen = origin.seen();
    assert_eq!(
        seen.last().map(|seen| seen.body.clone()),
        Some(b"hello".to_vec())
    );
    // Without prior knowledge curl offers h2c, which is passed over.
    let said = run(
        "curl",
        &["--http2", "-sS", "-m", &patience, "-w", WRITE_OUT, &url],
    )?;
    assert_eq!(said, "GET /c0/curl 1.1 200");

    let certificate = Certificate::for_localhost()?;
    let upstream = origin.address();
    let with_tls = config(&format!(
        "proxy: {{ routes: [{{ path: /-/o, upstream: \"http://{upstream}\", allowPrivate: true, accessRule: \"true\" }}] }}"
    ))
    .replace(
        r#"main: { address: "127.0.0.1:0" }"#,
        r#"main: { address: "127.0.0.1:0", tls: { certificate: certificate.pem, key: key.pem } }"#,
    );
    let gateway = Gateway::start_with(&with_tls, |folder| certificate.write(folder))?;
    let url = format!("https://{}/-/o/c0/curl", gateway.main_addr());
    let sealed = ["-k", "-sS", "-m", &patience, "-w", WRITE_OUT];
    let said = run("curl", &[&sealed[..], &["--http2", &url]].concat())?;
    assert_eq!(said, "GET /c0/curl 2 200");
    let said = run("curl", &[&sealed[..], &["--http1.1", &url]].concat())?;
    assert_eq!(said, "GET /c0/curl 1.1 200");
    let seen = origin.seen();
    let last = seen.last().context("origin saw nothing")?;
    assert_eq!(last.all("x-forwarded-proto"), ["https"]);
    Ok(())
}

#[test]
fn h2load_gets_every_answer() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let url = format!("http://{}/-/o/c0/load", gateway.main_addr());
    let said = run(
        "h2load",
        &["-n", "2000", "-c", "4", "-m", "25", "-t", "1", &url],
    )?;
    assert!(
        said.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{said}"
    );
    assert!(said.contains("status codes: 2000 2xx"), "{said}");
    // Each of them once, over few connections.
    assert_eq!(origin.seen().len(), 2_000);
    Ok(())
}

#[test]
fn h2spec_finds_nothing() -> anyhow::Result<()> {
    let Some(program) = std::env::var_os("H2SPEC") else {
        println!("not run: H2SPEC does not name the program");
        return Ok(());
    };
    let origin = Origin::start()?;
    let gateway = smuggling::gateway(origin.address())?;
    let port = gateway.main_addr().port().to_string();
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-P", "/-/o/c0/spec", "-S"];
    let said = run(&program.to_string_lossy(), &arguments)?;
    assert!(said.contains(" 0 failed"), "{said}");
    Ok(())
}
