//! TLS on both sides, and clients of HTTP/2 that leave.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::config::config;
use e2e::proxy::origin::Origin;
use e2e::proxy::{gateway, route, settings};
use serde_json::{Value, json};
use testkit::certificate::Certificate;
use testkit::{Gateway, PATIENCE};

use super::{before, get};

/// A gateway with TLS, as others see it: it tells what it was asked.
fn with_tls(origin: &Origin, certificate: &Certificate) -> anyhow::Result<Gateway> {
    let routes = json!([route("/-/a", &origin.url(), &json!({}))]);
    let text = config(&settings(&routes, &json!({}))).replace(
        r#"main: { address: "127.0.0.1:0" }"#,
        r#"main: { address: "127.0.0.1:0", tls: { certificate: certificate.pem, key: key.pem } }"#,
    );
    Gateway::start_with(&text, |folder| certificate.write(folder))
}

fn curl(gateway: &Gateway, arguments: &[&str], path: &str) -> anyhow::Result<Value> {
    let certificate = gateway.folder().join("certificate.pem");
    let url = format!("https://localhost:{}{path}", gateway.main_addr().port());
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--cacert"])
        .arg(certificate)
        .args(arguments)
        .arg(url)
        .output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "curl: {complaint}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn clients_with_tls_choose_their_version_of_http() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = with_tls(&origin, &Certificate::for_localhost()?)?;
    for (version, via) in [("--http1.1", "1.1 tidegate"), ("--http2", "2.0 tidegate")] {
        let told = curl(&gateway, &[version], "/-/a/x")?;
        let text = told.to_string();
        assert!(text.contains(via), "{version}: {text}");
        assert!(text.contains(r#"["x-forwarded-proto","https"]"#), "{text}");
    }
    Ok(())
}

#[test]
fn an_upstream_with_tls_is_asked_only_if_its_certificate_is_trusted() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let certificate = Certificate::for_localhost()?;
    let behind = with_tls(&origin, &certificate)?;
    let port = behind.main_addr().port();
    let named = format!("https://localhost:{port}/-/a");
    let trusted = |version: &str| json!({ "upstreamRoots": certificate.certificate, "upstreamHttp": version });
    let other = Certificate::for_localhost()?;
    let routes = json!([
        route("/-/one", &named, &trusted("1.1")),
        route("/-/two", &named, &trusted("2")),
        route("/-/auto", &named, &trusted("auto")),
        route("/-/untrusted", &named, &json!({})),
        route(
            "/-/other",
            &named,
            &json!({ "upstreamRoots": other.certificate })
        ),
        route("/-/plain", &format!("http://localhost:{port}"), &json!({})),
    ]);
    let gateway = gateway(&routes, &json!({}))?;
    for (path, via) in [
        ("/-/one/x", "1.1 tidegate, 1.1 tidegate"),
        ("/-/two/x", "1.1 tidegate, 2.0 tidegate"),
        ("/-/auto/x", "1.1 tidegate, 2.0 tidegate"),
    ] {
        for _ in 0..3 {
            let response = get(&gateway, path, &[])?;
            assert_eq!(response.status, 200, "{path}: {}", response.text());
            assert!(response.text().contains(via), "{path}: {}", response.text());
        }
    }
    let sent = origin.seen().requests.len();
    for path in ["/-/untrusted/x", "/-/other/x", "/-/plain/x"] {
        let response = get(&gateway, path, &[])?;
        assert!(
            matches!(response.status, 400 | 502),
            "{path}: {} {}",
            response.status,
            response.text()
        );
    }
    assert_eq!(origin.seen().requests.len(), sent);
    Ok(())
}

#[test]
fn a_client_of_http2_that_leaves_takes_its_request_along() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "maxConcurrent": 1 }))?;
    origin.hold();
    for (path, nth) in [("/-/a/hold", 1), ("/-/a/events", 2)] {
        let url = format!("http://{}{path}", gateway.main_addr());
        let mut client = Leaving(
            Command::new("curl")
                .args(["-sSN", "--http2-prior-knowledge", "--max-time", "60", &url])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        origin.wait(PATIENCE, |seen| seen.requests.len() == nth)?;
        client.0.kill()?;
        origin.wait(Duration::from_secs(1), |seen| seen.in_flight == 0)?;
        gateway.wait_metric("gateway_active_connections", |active| active == 0.0)?;
    }
    Ok(())
}

/// A client that does not outlive the test.
struct Leaving(Child);

impl Drop for Leaving {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
