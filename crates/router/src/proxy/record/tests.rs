use serde_json::{Value, json};

use super::{AiDialect, MASK, Problem, Record, Timeouts};

fn with(more: Value) -> Value {
    let base = json!({ "path": "/a", "upstream": "https://one.example" });
    Record::patched(&base, &more)
}

fn problems(document: &Value) -> Vec<Problem> {
    Record::read(document).unwrap_err()
}

/// The only problem of a record with these fields.
fn problem(more: Value) -> Problem {
    let mut found = problems(&with(more));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn what_is_left_out_has_the_contracts_default() {
    let record = Record::read(&with(
        json!({ "circuitBreaker": null, "timeout_config": null }),
    ))
    .unwrap();
    assert_eq!(record.path, "/-/a");
    assert!(record.strip_path && record.active && !record.websocket && !record.allow_private);
    assert_eq!((record.access_rule.as_str(), record.timeout), ("", 30.0));
    assert_eq!(record.timeout_config, Timeouts::DEFAULT);
    assert_eq!((record.max_concurrent, record.queue.max), (0, 0));
    let breaker = record.circuit_breaker;
    assert!(!breaker.enabled);
    assert_eq!(
        (breaker.failure_threshold, breaker.recovery_timeout),
        (5, 30.0)
    );
    assert_eq!((breaker.half_open_requests, breaker.ramp), (1, 10.0));
    assert_eq!((record.retry.attempts, record.retry.body_max), (1, 65_536));
    assert!(record.ai.is_none());
}

#[test]
fn both_spellings_are_read_and_one_is_written() {
    let snake = json!({
        "path": "/-/a/", "target_url": "https://one.example/", "strip_path": false,
        "access_rule": "true", "max_concurrent": 5,
        "circuit_breaker": { "failure_threshold": 2 }, "timeout_config": { "response_header": 0 },
    });
    let camel = json!({
        "path": "/a", "upstream": "https://one.example", "stripPath": false,
        "accessRule": "true", "maxConcurrent": 5.0,
        "circuitBreaker": { "failureThreshold": 2 }, "timeoutConfig": { "responseHeader": 0 },
    });
    let record = Record::read(&snake).unwrap();
    assert_eq!(record, Record::read(&camel).unwrap());
    let written = record.write();
    assert_eq!(written["upstream"], "https://one.example");
    assert_eq!(written["maxConcurrent"], 5);
    assert_eq!(written["circuitBreaker"]["failure_threshold"], 2);
    assert_eq!(written["timeoutConfig"]["response_header"], 0);
    assert!(written.get("upstreams").is_none() && written.get("strip_path").is_none());
}

#[test]
fn what_is_written_is_read_as_the_same() {
    for more in [
        json!({}),
        json!({ "ai": true }),
        json!({
            "name": "n", "upstreams": ["http://a", { "url": "http://b:81/x", "weight": 9 }],
            "upstreamHttp": "1.1", "headers": { "X-A": "{env.A}" }, "timeout": 2.5, "active": false,
            "concurrencyMode": "adaptive", "queue": { "max": 1 }, "rate": { "perSecond": 0.5, "by": "identity" },
            "circuitBreaker": { "enabled": true, "failureRate": 0.5 }, "maxBody": 10, "websocket": true,
            "retry": { "attempts": 0, "unsafeMethods": true, "onOverload": false, "hedgeAfter": 1.5 },
            "ai": { "dialect": "anthropic", "inputPrice": 2.5, "budget": { "tokensPerMinute": 7, "costPerDay": 1 } },
        }),
        json!({ "upstream": null, "upstreams": [{ "url": "http://a", "weight": 2 }] }),
    ] {
        let record = Record::read(&with(more)).unwrap();
        assert_eq!(Record::read(&record.write()).unwrap(), record);
    }
}

#[test]
fn models_have_their_own_phases() {
    let record = Record::read(&with(json!({ "ai": true }))).unwrap();
    assert_eq!((record.timeout, record.timeout_config), (0.0, Timeouts::AI));
    assert_eq!(record.retry.body_max, 1_048_576);
    let told = with(
        json!({ "ai": { "dialect": "anthropic" }, "timeout": 60, "timeoutConfig": { "gap": 0 } }),
    );
    let record = Record::read(&told).unwrap();
    assert_eq!(record.ai.unwrap().dialect, AiDialect::Anthropic);
    assert_eq!((record.timeout, record.timeout_config.gap), (60.0, 0.0));
    assert_eq!(record.timeout_config.first_byte, 180.0);
    let off = Record::read(&with(json!({ "ai": false }))).unwrap();
    assert!(off.ai.is_none());
}

#[test]
fn paths_are_refused_in_the_contracts_words() {
    for (path, said) in [
        ("", "path cannot be empty"),
        ("a", "path must start with /"),
        ("/", "path cannot be root /"),
        ("/-", "path cannot be root /"),
        ("/-/", "path cannot be root /"),
        (
            "/api",
            "path cannot start with /api/ (reserved for data API)",
        ),
        (
            "/api/x",
            "path cannot start with /api/ (reserved for data API)",
        ),
        ("/_", "path cannot start with /_/ (reserved for admin UI)"),
        ("/_/x", "path cannot start with /_/ (reserved for admin UI)"),
        ("/a//b", "path has an empty segment (//)"),
        ("/a/../b", "path has a segment . or .."),
        ("/a%2fb", "path has %; write the character itself"),
    ] {
        let problem = problem(json!({ "path": path }));
        assert_eq!(
            (problem.field.as_str(), problem.message.as_str()),
            ("path", said)
        );
    }
    assert!(
        problem(json!({ "path": "/é b" }))
            .message
            .starts_with("path may have letters")
    );
    assert!(
        problem(json!({ "path": format!("/{}", "a".repeat(500)) }))
            .message
            .contains("2 to 500")
    );
    assert_eq!(problem(json!({ "path": null })).code, "validation_required");
    for (path, kept) in [
        ("/apix", "/-/apix"),
        ("/-/api", "/-/api"),
        ("/a/b/", "/-/a/b"),
        ("/-x", "/-/-x"),
    ] {
        assert_eq!(
            Record::read(&with(json!({ "path": path }))).unwrap().path,
            kept
        );
    }
}

#[test]
fn upstreams_that_can_not_be_reached_safely_are_refused() {
    for (url, part) in [
        ("", "is empty"),
        ("ftp://a", "must begin with http://"),
        ("one.example", "must begin with http://"),
        ("http://", "has no host"),
        ("grpc://a", "needs a port"),
        ("grpc://a:1/b", "end after the port"),
        ("quantum://a", "needs a port"),
        ("http://u:p@a", "user or password"),
        ("http://a?x", "query"),
        ("http://a/#x", "fragment"),
        ("http://a b", "spaces"),
        ("http://a:0", "port"),
        ("http://a:+80", "port"),
        ("http://a:99999", "port"),
        ("http://[::1", "["),
        ("http://[x]", "IPv6"),
        ("http://127.1", "four numbers"),
        ("http://2130706433", "four numbers"),
        ("http://0x7f000001", "four numbers"),
        ("http://a..b", "neither a name"),
        ("http://a\\b", "backslash"),
        ("http://a/../b", "segment"),
    ] {
        let problem = problem(json!({ "upstream": url }));
        assert_eq!(problem.field, "upstream");
        assert!(problem.message.contains(part), "{url}: {}", problem.message);
        assert!(
            url.is_empty() || !problem.message.contains(url),
            "{}",
            problem.message
        );
    }
    let twice = problem(json!({ "upstreams": ["http://a:80/", { "url": "HTTP://A" }] }));
    assert_eq!(twice.field, "upstreams[1].url");
    assert_eq!(problem(json!({ "upstreams": [] })).field, "upstreams");
    assert_eq!(
        problem(json!({ "upstream": null })).code,
        "validation_required"
    );
    let both = json!({ "path": "/a", "upstream": "http://a", "upstreams": ["http://b"] });
    assert_eq!(
        problems(&both)[0].message,
        "is instead of upstream, not beside it"
    );
}

#[test]
fn every_problem_is_told_at_once_with_its_field() {
    let found = problems(&json!({
        "path": "/", "targetUrl": "x", "stripPth": true, "timeout": 0, "accessRule": "maybe",
        "maxConcurrent": 10_001, "circuitBreaker": { "failureTreshold": 1, "ramp": -1 },
        "upstreamHttp": "3", "headers": { "Host": "x", "Bad Name": "x", "X-A": 1, "X-B": "{env.}", "x-c": "a\nb" },
        "rate": {}, "ai": "yes", "strip_path": "no",
    }));
    let mut fields: Vec<_> = found.iter().map(|problem| problem.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "accessRule",
            "ai",
            "circuitBreaker.failureTreshold",
            "circuitBreaker.ramp",
            "headers.Bad Name",
            "headers.Host",
            "headers.X-A",
            "headers.X-B",
            "headers.x-c",
            "maxConcurrent",
            "path",
            "rate.per_second",
            "stripPth",
            "strip_path",
            "targetUrl",
            "timeout",
            "upstreamHttp",
        ]
    );
    let unknown = found
        .iter()
        .find(|problem| problem.field == "stripPth")
        .unwrap();
    assert_eq!(unknown.message, "unknown field; did you mean stripPath?");
    assert_eq!(unknown.code, "validation_unknown");
    assert!(
        problems(&json!([1]))[0]
            .message
            .contains("must be an object, not a list")
    );
}

#[test]
fn a_field_stands_there_once() {
    let twice =
        json!({ "path": "/a", "upstream": "http://a", "strip_path": true, "stripPath": true });
    let found = problems(&twice);
    assert!(
        found[0].message.starts_with("is the same field as"),
        "{found:?}"
    );
    assert!(
        problem(json!({ "headers": { "X-A": "1", "x-a": "2" } }))
            .message
            .contains("case does not matter")
    );
}

#[test]
fn sizes_are_limited() {
    let long = "x".repeat(11_000);
    for more in [
        json!({ "headers": { "X-A": long } }),
        json!({ "accessRule": long }),
        json!({ "name": long }),
        json!({ "upstreamRoots": long }),
        json!({ "upstream": format!("http://a/{long}") }),
    ] {
        problem(more);
    }
    let found = problems(&with(json!({ "circuitBreaker": { "x".repeat(1_100): 1 } })));
    assert!(
        found
            .iter()
            .any(|problem| problem.message.contains("1024 bytes")),
        "{found:?}"
    );
}

#[test]
fn fields_that_frame_a_message_are_the_gateways() {
    for name in [
        "host",
        "Connection",
        "content-length",
        "Transfer-Encoding",
        "TE",
        "Upgrade",
        "Expect",
        "Keep-Alive",
        "trailer",
    ] {
        assert_eq!(
            problem(json!({ "headers": { name: "x" } })).message,
            "is set by the gateway itself"
        );
    }
}

#[test]
fn a_patch_replaces_whole_fields_in_any_spelling() {
    let old = json!({ "path": "/a", "target_url": "http://a", "max_concurrent": 3, "headers": { "X-A": "1" }, "retry": { "attempts": 3 } });
    let patch = json!({ "maxConcurrent": 4, "upstreams": ["http://b"], "headers": { "X-B": "2" }, "retry": null });
    let expected = json!({ "path": "/a", "upstreams": ["http://b"], "maxConcurrent": 4, "headers": { "X-B": "2" } });
    assert_eq!(Record::patched(&old, &patch), expected);
    let twice = json!({ "max_concurrent": 1, "maxConcurrent": 2 });
    assert!(Record::read(&Record::patched(&old, &twice)).is_err());
    assert_eq!(Record::patched(&old, &json!("x")), json!("x"));
}

#[test]
fn secrets_are_masked_and_the_mask_is_not_saved() {
    let document = with(json!({ "headers": {
        "Authorization": "Bearer sk-1", "authorization2": "Bearer {secret.A}", "X-Api-Key": "abc",
        "X-Key2": "{secret.A}", "Cookie": "a=b", "X-Region": "eu", "X-Other": "Basic dTpw", "X-Token": "",
        "X-Mixed-Token": "abc-{env.A}", "Api-Secret": "{broken.template}",
    } }));
    let shown = &Record::masked(&document)["headers"];
    for (name, expected) in [
        ("Authorization", "Bearer ********"),
        ("X-Api-Key", MASK),
        ("Cookie", MASK),
        ("X-Other", "Basic ********"),
        ("X-Mixed-Token", MASK),
        ("Api-Secret", MASK),
    ] {
        assert_eq!(shown[name], expected, "{name}");
    }
    for name in ["authorization2", "X-Key2", "X-Region", "X-Token"] {
        assert_eq!(shown[name], document["headers"][name], "{name}");
    }
    for value in [MASK.to_owned(), format!("Bearer {MASK}")] {
        let problem = problem(json!({ "headers": { "Authorization": value } }));
        assert_eq!(
            (problem.field.as_str(), problem.code),
            ("headers.Authorization", "validation_masked")
        );
    }
    assert_eq!(Record::masked(&json!(null)), json!(null));
}

#[test]
fn upstreams_of_grpc_have_no_limit_for_the_whole_and_may_claim_services() {
    let record = Record::read(&json!({
        "path": "/-/echo", "upstreams": ["grpc://a:1", "quantum://b:2", "grpcs://c:3"],
        "grpcServices": ["echo.v1.Echo", "echo.v1.Echo", "a.B"],
    }))
    .unwrap();
    assert!(record.is_grpc());
    assert!(record.timeout <= 0.0);
    assert_eq!(record.grpc_services, ["a.B", "echo.v1.Echo"]);
    let again = Record::read(&record.write()).unwrap();
    assert_eq!(again, record);
}

#[test]
fn grpc_and_http_do_not_mix() {
    let grpc = json!({ "upstreams": ["grpc://a:1", "http://b"] });
    assert_eq!(problem(grpc).field, "upstreams");
    let ai = json!({ "upstream": "grpc://a:1", "ai": true });
    assert_eq!(problem(ai).field, "ai");
    let claimed = json!({ "upstream": "http://a", "grpcServices": ["a.B"] });
    assert_eq!(problem(claimed).field, "grpcServices");
    let odd = json!({ "upstream": "grpc://a:1", "grpcServices": ["a/B"] });
    assert_eq!(problem(odd).field, "grpcServices");
}
