//! What reaches the upstream, and what comes back.

use e2e::proxy::origin::Origin;
use e2e::proxy::wire::Wire;
use serde_json::{Value, json};
use testkit::{PATIENCE, http};

use super::{before, get, post};

/// The value that an upstream saw of a field.
fn seen<'a>(told: &'a Value, name: &str) -> Option<&'a str> {
    let fields = told["headers"].as_array()?;
    let field = fields.iter().find(|field| field[0] == name)?;
    field[1].as_str()
}

#[test]
fn the_prefix_goes_and_the_query_stays() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let url = origin.url();
    let base = format!("{url}/base/");
    let more = json!({});
    let kept = json!({ "stripPath": false });
    let routes = json!([
        e2e::proxy::route("/-/a", &url, &more),
        e2e::proxy::route("/-/a/b", &base, &more),
        e2e::proxy::route("/-/kept", &url, &kept),
    ]);
    let gateway = e2e::proxy::gateway(&routes, &json!({}))?;
    for (asked, target) in [
        ("/-/a", "/"),
        ("/-/a/", "/"),
        ("/-/a?q=1", "/?q=1"),
        ("/-/a/x/y?a=b%20c&d", "/x/y?a=b%20c&d"),
        ("/-/a/%7Ex%2Cy", "/%7Ex%2Cy"),
        ("/-/a/b", "/base"),
        ("/-/a/b/c", "/base/c"),
        ("/-/a/bc", "/bc"),
        ("/-/kept/x", "/-/kept/x"),
    ] {
        let response = get(&gateway, asked, &[])?;
        assert_eq!(response.status, 200, "{asked}: {}", response.text());
        assert_eq!(response.json()?["target"], target, "{asked}");
    }
    let response = get(&gateway, "/-/aextra", &[])?;
    assert_eq!(response.status, 404);
    for ambiguous in ["/-/a/../b", "/-/a/%2e%2e/b", "/-/a/x%2fy", "/-/a/./x"] {
        assert_eq!(get(&gateway, ambiguous, &[])?.status, 400, "{ambiguous}");
    }
    Ok(())
}

#[test]
fn what_ends_at_the_gateway_is_not_forwarded() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let told = get(
        &gateway,
        "/-/a/x",
        &[
            ("Connection", "x-hop, keep-alive"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("Accept-Encoding", "gzip"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=1.2.3.4"),
            ("X-Own", "stays"),
            ("Cookie", "a=1"),
        ],
    )?
    .json()?;
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-authorization",
        "accept-encoding",
    ] {
        assert_eq!(seen(&told, gone), None, "{told}");
    }
    let main = gateway.main_addr().to_string();
    let host = origin.address().to_string();
    assert_eq!(seen(&told, "host"), Some(host.as_str()));
    assert_eq!(seen(&told, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen(&told, "x-forwarded-host"), Some(main.as_str()));
    assert_eq!(seen(&told, "x-forwarded-proto"), Some("http"));
    assert_eq!(seen(&told, "via"), Some("1.1 tidegate"));
    assert_eq!(seen(&told, "x-own"), Some("stays"));
    assert_eq!(seen(&told, "cookie"), Some("a=1"));
    Ok(())
}

#[test]
fn an_answer_passes_as_it_is() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        let headers = [
            ("Content-Type", "text/x-own"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Connection", "x-hop"),
            ("X-Hop", "1"),
        ];
        asked.answer(418, &headers, b"short and stout")
    })?;
    let gateway = before(&origin, &json!({}))?;
    let response = get(&gateway, "/-/a", &[])?;
    assert_eq!(response.status, 418);
    assert_eq!(response.text(), "short and stout");
    assert_eq!(response.header("content-type"), Some("text/x-own"));
    assert_eq!(response.header("x-hop"), None);
    let cookies = response.headers.iter();
    let cookies: Vec<&str> = cookies
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    Ok(())
}

#[test]
fn answers_without_a_body_have_none_and_keep_the_connection() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| match asked.path() {
        "/204" => asked.answer(204, &[], b""),
        "/304" => asked.answer(304, &[("ETag", "\"x\"")], b""),
        _ => asked.answer(200, &[], b"body"),
    })?;
    let gateway = before(&origin, &json!({}))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    for _ in 0..3 {
        wire.ask("HEAD", "/-/a/x", &[], b"")?;
        let head = wire.answer_to_head()?;
        assert_eq!(
            (head.status(), head.header("content-length")),
            (200, Some("4"))
        );
        for (target, status) in [("/-/a/204", 204), ("/-/a/304", 304)] {
            wire.ask("GET", target, &[], b"")?;
            let response = wire.answer()?;
            assert_eq!((response.status, response.text()), (status, String::new()));
        }
        wire.ask("GET", "/-/a/x", &[], b"")?;
        assert_eq!(wire.answer()?.text(), "body");
    }
    assert_eq!(origin.seen().connections, 1);
    Ok(())
}

#[test]
fn trailers_pass_both_ways() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        asked.body()?;
        let sum = asked.trailers().iter().find(|(name, _)| name == "x-sum");
        let sum = sum.map_or_else(|| "missing".to_owned(), |(_, sum)| sum.clone());
        asked.begin(200, &[("Trailer", "x-echo")])?;
        asked.chunk(b"hello")?;
        asked.end(&[("X-Echo", &sum)])
    })?;
    let gateway = before(&origin, &json!({}))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask(
        "POST",
        "/-/a",
        &[
            ("Transfer-Encoding", "chunked"),
            ("TE", "trailers"),
            ("Connection", "TE"),
            ("Trailer", "x-sum"),
        ],
        b"5\r\nhello\r\n0\r\nX-Sum: 5d41\r\n\r\n",
    )?;
    assert_eq!(wire.answer()?.text(), "hello");
    assert_eq!(wire.trailers(), [("x-echo".to_owned(), "5d41".to_owned())]);
    Ok(())
}

#[test]
fn continue_is_said_when_the_body_is_wanted() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    let headers = [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")];
    wire.ask("POST", "/-/a/x", &headers, b"")?;
    assert_eq!(wire.head()?.status(), 100);
    wire.send(b"4\r\nbody\r\n0\r\n\r\n")?;
    let told = wire.answer()?.json()?;
    assert_eq!(told["body"], "body");
    // One that is refused is not asked for its body.
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("POST", "/-/nothing", &headers, b"")?;
    assert_eq!(wire.head()?.status(), 404);
    Ok(())
}

#[test]
fn curl_uploads_with_and_without_asking_first() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b'x'; 3 << 20])?;
    let url = format!("http://{}/-/a/x", gateway.main_addr());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for expect in ["Expect: 100-continue", "Expect:"] {
            let output = std::process::Command::new("curl")
                .args([
                    version,
                    "-sS",
                    "--max-time",
                    "20",
                    "-H",
                    expect,
                    "--data-binary",
                ])
                .arg(format!("@{}", file.display()))
                .arg(&url)
                .output()?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{version} {expect}: {complaint}");
            let told: Value = serde_json::from_slice(&output.stdout)?;
            assert_eq!(told["length"], 3 << 20, "{version} {expect}");
        }
    }
    Ok(())
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() -> anyhow::Result<()> {
    let origin = Origin::answering(|asked| {
        asked.closes();
        asked.answer(413, &[], b"far too much")
    })?;
    let gateway = before(&origin, &json!({}))?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.send(b"POST /-/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")?;
    wire.send(&[b'x'; 10_000])?;
    let response = wire.answer()?;
    assert_eq!(response.status, 413);
    assert_eq!(response.text(), "far too much");
    Ok(())
}

#[test]
fn a_body_above_the_limit_is_413() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({ "maxBody": 1_000 }))?;
    assert_eq!(post(&gateway, "/-/a/x", &[], &[b'x'; 1_000])?.status, 200);
    let mut wire = Wire::connect(gateway.main_addr())?;
    let chunked = [("Transfer-Encoding", "chunked")];
    wire.ask("POST", "/-/a/x", &chunked, b"3e9\r\n")?;
    wire.send(&[b'x'; 1_001])?;
    assert_eq!(wire.answer()?.status, 413);
    assert_eq!(post(&gateway, "/-/a/x", &[], &[b'x'; 1_001])?.status, 413);
    Ok(())
}

#[test]
fn large_bodies_pass_both_ways_in_bounded_memory() -> anyhow::Result<()> {
    const LENGTH: usize = 50 << 20;
    let origin = Origin::answering(|asked| {
        let body = asked.body()?;
        asked.answer(200, &[], &body)
    })?;
    let gateway = before(&origin, &json!({}))?;
    post(&gateway, "/-/a", &[], &[b'x'; 1 << 20])?;
    let rest = peak_bytes(&gateway)?;
    let body: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let response = post(&gateway, "/-/a", &[], &body)?;
    assert_eq!(response.status, 200);
    assert!(response.body == body, "the body came back changed");
    let peak = peak_bytes(&gateway)?;
    assert!(peak - rest < 16 << 20, "{rest} bytes became {peak}");
    Ok(())
}

#[test]
fn a_slow_client_holds_the_upstream_back() -> anyhow::Result<()> {
    const LENGTH: usize = 64 << 20;
    let origin = Origin::answering(|asked| asked.answer(200, &[], &vec![b'x'; LENGTH]))?;
    let gateway = before(&origin, &json!({}))?;
    let rest = peak_bytes(&gateway)?;
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("GET", "/-/a", &[], b"")?;
    wire.head()?;
    // Others are served meanwhile; this one takes a part at a time.
    let mut taken = 0;
    while let Some(part) = wire.part()? {
        taken += part.len();
        if taken % (16 << 20) < part.len() {
            assert_eq!(http::get(gateway.main_addr(), "/-/b", &[])?.status, 404);
        }
    }
    assert_eq!(taken, LENGTH);
    let peak = peak_bytes(&gateway)?;
    assert!(peak - rest < 16 << 20, "{rest} bytes became {peak}");
    Ok(())
}

#[test]
fn a_client_that_leaves_takes_its_request_along() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let gateway = before(&origin, &json!({}))?;
    origin.hold();
    // While it waits for the first byte, and within a stream.
    for (target, nth) in [("/-/a/hold", 1), ("/-/a/events", 2)] {
        let mut wire = Wire::connect(gateway.main_addr())?;
        wire.ask("GET", target, &[], b"")?;
        origin.wait(PATIENCE, |seen| seen.requests.len() == nth)?;
        if nth == 2 {
            wire.head()?;
            wire.event()?;
        }
        wire.leave();
        origin.wait(std::time::Duration::from_secs(1), |seen| seen.left == nth)?;
    }
    origin.release();
    gateway.wait_metric("gateway_active_connections", |active| active == 0.0)?;
    let left = gateway.metric("tidegate_proxy_clients_left_total")?;
    assert!((left - 2.0).abs() < f64::EPSILON, "{left}");
    Ok(())
}

/// The most memory the gateway ever had.
fn peak_bytes(gateway: &testkit::Gateway) -> anyhow::Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process_id()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.unwrap_or_default().parse::<usize>()? * 1_024)
}
