//! What operators see: metrics and the access log; and what nobody sees.

use e2e::proxy::api::Api;
use e2e::proxy::origin::Origin;
use e2e::proxy::wire::Wire;
use e2e::proxy::{gateway, route};
use serde_json::{Value, json};
use testkit::{PATIENCE, http, token};

use super::{get, post};

#[test]
fn metrics_have_the_names_of_the_contract_and_add_up() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let named = json!({ "name": "named", "maxConcurrent": 1 });
    let routes = json!([
        route("/-/a", &origin.url(), &named),
        route(
            "/-/b",
            &origin.url(),
            &json!({ "retry": { "attempts": 0 } })
        ),
        route("/-/gone", "http://127.0.0.1:1", &json!({})),
    ]);
    let gateway = gateway(&routes, &json!({}))?;
    for _ in 0..5 {
        get(&gateway, "/-/a/x", &[])?;
        get(&gateway, "/-/b/status/404", &[])?;
    }
    for _ in 0..3 {
        get(&gateway, "/-/b/status/500", &[])?;
        get(&gateway, "/-/gone", &[])?;
        get(&gateway, "/-/nowhere", &[])?;
    }
    let api = Api::of(&gateway)?;
    let page = api.call("GET", "/api/gateway/metrics", None, None)?;
    assert_eq!(page.status, 200);
    let page = page.text();
    let value = |series: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(f64::NAN)
    };
    for (series, expected) in [
        (
            "gateway_requests_total{proxy=\"named\",status=\"2xx\"}",
            5.0,
        ),
        ("gateway_requests_total{proxy=\"/-/b\",status=\"4xx\"}", 5.0),
        ("gateway_requests_total{proxy=\"/-/b\",status=\"5xx\"}", 3.0),
        (
            "gateway_requests_total{proxy=\"/-/gone\",status=\"5xx\"}",
            3.0,
        ),
        ("gateway_errors_total{proxy=\"/-/b\",type=\"5xx\"}", 3.0),
        (
            "gateway_errors_total{proxy=\"/-/gone\",type=\"connect\"}",
            3.0,
        ),
        ("gateway_active_connections{proxy=\"named\"}", 0.0),
        ("gateway_circuit_breaker_state{proxy=\"named\"}", 0.0),
    ] {
        let told = value(series);
        assert!(
            (told - expected).abs() < f64::EPSILON,
            "{series} is {told}\n{page}"
        );
    }
    for family in [
        "gateway_request_duration_seconds",
        "gateway_upstream_latency_seconds",
        "gateway_latency_seconds",
    ] {
        let count = value(&format!("{family}_count{{proxy=\"named\"}}"));
        let all = value(&format!("{family}_bucket{{le=\"+Inf\",proxy=\"named\"}}"));
        let all = match all.is_nan() {
            true => value(&format!("{family}_bucket{{proxy=\"named\",le=\"+Inf\"}}")),
            false => all,
        };
        assert!(
            (count - 5.0).abs() < f64::EPSILON,
            "{family} counts {count}\n{page}"
        );
        assert!(
            (count - all).abs() < f64::EPSILON,
            "{family}: {count} and {all}"
        );
    }
    // They are for administrators, and among the other metrics too.
    let refused = http::get(gateway.admin_addr(), "/api/gateway/metrics", &[])?;
    assert_eq!(refused.status, 401);
    assert!((gateway.metric("gateway_requests_total")? - 16.0).abs() < f64::EPSILON);
    assert!((gateway.metric("tidegate_proxy_unrouted_total")? - 3.0).abs() < f64::EPSILON);
    Ok(())
}

#[test]
fn each_request_has_its_line() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let routes = json!([
        route("/-/a", &origin.url(), &json!({ "name": "named" })),
        route(
            "/-/closed",
            &origin.url(),
            &json!({ "accessRule": "false" })
        ),
    ]);
    let gateway = gateway(&routes, &json!({ "access_log": { "enabled": true } }))?;
    let line = |path: &str| -> anyhow::Result<Value> {
        let of_path = |line: &Value| line["path"] == path && line.get("proxy_name").is_some();
        gateway.log().wait_for(0, PATIENCE, of_path)
    };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let bearer = format!("Bearer {}", token::user("anna")?);
    let headers = [("traceparent", parent.as_str()), ("Authorization", &bearer)];
    post(&gateway, "/-/a/x?secret=canary-query", &headers, b"12345")?;
    let logged = line("/-/a/x")?;
    assert_eq!(logged["proxy_name"], "named", "{logged}");
    assert_eq!(logged["method"], "POST");
    assert_eq!(logged["status"], 200);
    assert_eq!(logged["upstream"], origin.url());
    assert_eq!(logged["circuit_state"], "closed");
    assert_eq!(logged["concurrent_count"], 1);
    assert_eq!(logged["decided_by"], "upstream");
    assert_eq!(logged["ended"], "complete");
    assert_eq!(logged["request_bytes"], 5);
    assert_eq!(logged["trace_id"], trace);
    assert_eq!(logged["caller"], "anna");
    for measured in ["upstream_latency_ms", "proxy_latency_ms", "duration_ms"] {
        let value = logged[measured].as_f64().unwrap_or(-1.0);
        assert!((0.0..60_000.0).contains(&value), "{measured} of {logged}");
    }
    // The upstream goes on with the same trace.
    let passed = origin.last()?;
    let passed = passed.header("traceparent").unwrap_or_default();
    assert!(passed.contains(trace) && passed != parent, "{passed}");
    get(&gateway, "/-/closed/y", &[])?;
    let logged = line("/-/closed/y")?;
    assert_eq!(logged["decided_by"], "access");
    assert_eq!(logged["status"], 403);
    get(&gateway, "/-/mistyped", &[])?;
    let logged = line("/-/mistyped")?;
    assert_eq!(logged["proxy_name"], "");
    assert_eq!(logged["status"], 404);
    origin.hold();
    let mut wire = Wire::connect(gateway.main_addr())?;
    wire.ask("GET", "/-/a/hold", &[], b"")?;
    origin.wait(PATIENCE, |seen| seen.in_flight == 1)?;
    wire.leave();
    assert_eq!(line("/-/a/hold")?["ended"], "client_left");
    assert!(!gateway.log().text().contains("canary-query"));
    Ok(())
}

#[test]
fn secrets_are_seen_by_upstreams_only() -> anyhow::Result<()> {
    let origin = Origin::start()?;
    let extra = json!({ "access_log": { "enabled": true } });
    let literal = json!({ "headers": { "Authorization": "Bearer canary-in-file" } });
    let routes = json!([route("/-/file", &origin.url(), &literal)]);
    let gateway = gateway(&routes, &extra)?;
    let api = Api::of(&gateway)?;
    api.put_secret("KEY", "canary-secret")?;
    let template = json!({ "headers": {
        "X-Key": "{secret.KEY}",
        "X-Api-Key": "canary-in-api",
    }});
    let created = api.create(&route("/-/api", &origin.url(), &template))?;
    let id = e2e::proxy::api::id(&created)?;
    // Fields that can't be sent fail without telling what was in them.
    api.put_secret("BROKEN", "canary-unsendable\u{e9}")?;
    let broken = json!({ "headers": { "X-Broken": "{secret.BROKEN}", "X-None": "{secret.NONE}" } });
    api.create(&route("/-/broken", &origin.url(), &broken))?;
    let seen = [
        get(&gateway, "/-/file", &[])?.text(),
        get(&gateway, "/-/api", &[])?.text(),
    ];
    assert!(seen[0].contains("canary-in-file"), "{}", seen[0]);
    assert!(seen[1].contains("canary-secret") && seen[1].contains("canary-in-api"));
    get(&gateway, "/-/broken", &[])?;
    api.patch(&id, &json!({ "timeout": 7 }))?;
    let explain = format!("/admin/proxies/{id}/explain?path=/-/api/x");
    let shown = [
        api.list()?.to_string(),
        api.get(&id)?.to_string(),
        api.call("GET", &explain, None, None)?.text(),
        api.call("GET", "/admin/secrets", None, None)?.text(),
        serde_json::to_string(&api.history(&id)?)?,
        api.call("GET", "/api/gateway/metrics", None, None)?.text(),
        http::get(gateway.admin_addr(), "/metrics", &[])?.text(),
        gateway.log().text(),
    ];
    for text in &shown {
        assert!(!text.contains("canary"), "a secret is shown: {text}");
    }
    // Nor are they to be read in the store's files.
    for file in std::fs::read_dir(gateway.folder())?.chain(files_below(&gateway, "data")) {
        let path = file?.path();
        if path.is_file() && path.file_name().is_none_or(|name| name != "tidegate.yaml") {
            let bytes = std::fs::read(&path)?;
            let needle = b"canary-secret";
            let is_there = bytes.windows(needle.len()).any(|part| part == needle);
            assert!(!is_there, "{} has a secret in clear", path.display());
        }
    }
    Ok(())
}

/// What is in a folder of the gateway's; nothing if there is no such folder.
fn files_below(
    gateway: &testkit::Gateway,
    folder: &str,
) -> impl Iterator<Item = std::io::Result<std::fs::DirEntry>> + use<> {
    std::fs::read_dir(gateway.folder().join(folder))
        .into_iter()
        .flatten()
}
