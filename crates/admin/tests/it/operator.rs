//! `/admin`: tokens, connections, revocations, reload, drain.

use admin::Settings;
use serde_json::json;

use crate::http::Server;

#[tokio::test]
async fn nothing_below_admin_is_served_or_told_without_a_token() {
    let server = Server::start().await;
    for path in [
        "/admin",
        "/admin/config",
        "/admin/connections",
        "/admin/nothing",
        "/admin/",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.json()["error"]["code"], "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let api_key = format!("x-api-key: {}", crate::http::KEY);
    assert_eq!(
        server
            .send("GET", "/admin/config", &[&api_key], "")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn wrong_tokens_run_into_a_limit_with_a_retry_time() {
    let server = Server::with(Settings {
        failed_tries_per_minute: 10,
        ..Settings::default()
    })
    .await;
    let guess = ["authorization: Bearer tga_wrong"];
    let mut answers = Vec::new();
    for _ in 0..11 {
        answers.push(server.send("GET", "/admin/config", &guess, "").await);
    }
    let last = answers.pop().unwrap();
    assert!(answers.iter().all(|answer| answer.status == 401));
    assert_eq!(last.status, 429);
    let wait: u64 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=7).contains(&wait), "{wait}");
    assert_eq!(server.operate("GET", "/admin/config", "").await.status, 429);
    let metrics = server.get("/metrics").await.body;
    assert!(
        metrics.contains("tidegate_admin_auth_refused_total{area=\"admin\"} 12"),
        "{metrics}"
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_get_our_envelope() {
    let server = Server::start().await;
    let answer = server.operate("GET", "/admin/nothing", "").await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (404, &json!("not_found"))
    );
    let answer = server.operate("PUT", "/admin/revocations", "{}").await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (405, &json!("method_not_allowed"))
    );
    let allowed = answer.header("allow").unwrap();
    assert!(
        ["GET", "POST", "DELETE"]
            .iter()
            .all(|method| allowed.contains(method)),
        "{allowed}"
    );
}

#[tokio::test]
async fn connections_come_in_pages() {
    let server = Server::start().await;
    let mut path = "/admin/connections?limit=100".to_owned();
    let mut sizes = Vec::new();
    loop {
        let page = server.operate("GET", &path, "").await.json();
        sizes.push(page["connections"].as_array().unwrap().len());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/admin/connections?limit=100&after={next}");
    }
    assert_eq!(sizes, [100, 100, 50]);
    let page = server
        .operate("GET", "/admin/connections?user=eve", "")
        .await
        .json();
    assert_eq!(
        page,
        json!({"connections": [{"client": "c200", "user": "eve", "address": "192.0.2.1",
        "transport": "websocket", "encoding": "json", "dialect": "centrifuge", "connected_at": 1_700_000_000,
        "channels": 1, "queue_bytes": 0}]})
    );
    for wrong in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "address=here",
        "colour=red",
    ] {
        let answer = server
            .operate("GET", &format!("/admin/connections?{wrong}"), "")
            .await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (400, &json!("malformed")),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn one_connection_can_be_looked_at_and_closed() {
    let server = Server::start().await;
    let detail = server
        .operate("GET", "/admin/connections/c001", "")
        .await
        .json();
    assert_eq!(detail["channel_names"], json!(["chat:hall"]));
    assert_eq!(detail["expires_at"], json!(null));
    assert_eq!(
        server
            .operate("GET", "/admin/connections/c999", "")
            .await
            .status,
        404
    );
    assert_eq!(
        server
            .operate("DELETE", "/admin/connections/c001", "")
            .await
            .status,
        204
    );
    let moved = "/admin/connections/c001?code=4000&reason=moved%20house";
    assert_eq!(server.operate("DELETE", moved, "").await.status, 204);
    assert_eq!(
        server
            .operate("DELETE", "/admin/connections/c999", "")
            .await
            .status,
        404
    );
    assert_eq!(
        server
            .operate("DELETE", "/admin/connections/c001?code=1000", "")
            .await
            .status,
        400
    );
    assert_eq!(
        server.fake.calls(),
        [
            "close c001 3503 force disconnect",
            "close c001 4000 moved house",
            "close c999 3503 force disconnect"
        ]
    );
}

#[tokio::test]
async fn revocations_are_made_listed_and_taken_back() {
    let server = Server::start().await;
    let path = "/admin/revocations";
    let answer = server
        .operate(
            "POST",
            path,
            r#"{"user":"eve","expires_in":"1h","reason":"left"}"#,
        )
        .await;
    assert_eq!(answer.status, 201);
    let eve = json!({"user": "eve", "issued_before": 1000, "expires_at": 4600, "reason": "left"});
    assert_eq!(answer.json(), eve);
    let answer = server
        .operate("POST", path, r#"{"token_id":"j1","expires_in":60}"#)
        .await;
    assert_eq!(answer.json(), json!({"token_id": "j1", "expires_at": 1060}));
    let list = server.operate("GET", path, "").await.json();
    assert_eq!(
        list,
        json!({"revocations": [eve, {"token_id": "j1", "expires_at": 1060}]})
    );
    assert_eq!(
        server
            .operate("DELETE", "/admin/revocations?user=eve", "")
            .await
            .status,
        204
    );
    assert_eq!(
        server
            .operate("DELETE", "/admin/revocations?user=eve", "")
            .await
            .status,
        404
    );
    assert_eq!(
        server
            .operate("DELETE", "/admin/revocations", "")
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn a_revocation_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    let long = format!(r#"{{"user":"u","reason":"{}"}}"#, "x".repeat(257));
    for wrong in [
        "",
        "{}",
        r#"{"user":""}"#,
        r#"{"user":"u","token_id":"j"}"#,
        r#"{"user":"u","expires_in":0}"#,
        r#"{"user":"u","expires_in":"soon"}"#,
        r#"{"user":"u","expires_in":5,"expires_at":2000}"#,
        r#"{"user":"u","until":5}"#,
        &long,
    ] {
        let answer = server.operate("POST", "/admin/revocations", wrong).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (400, &json!("malformed")),
            "{wrong}"
        );
    }
    let answer = server
        .operate(
            "POST",
            "/admin/revocations",
            r#"{"user":"u","expires_at":5}"#,
        )
        .await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (422, &json!("refused"))
    );
}

#[tokio::test]
async fn reload_drain_and_config_are_passed_on() {
    let server = Server::start().await;
    let answer = server.operate("POST", "/admin/reload", "").await;
    assert_eq!(
        answer.json(),
        json!({"changed": ["limits"], "restart_needed": []})
    );
    let answer = server.operate("POST", "/admin/reload", "").await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json()["error"]["message"], "line 3: unknown key");
    let answer = server.operate("POST", "/admin/drain", "").await;
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({"status": "draining"}))
    );
    let answer = server.operate("GET", "/admin/config", "").await;
    assert_eq!(answer.json()["http_api"]["key"], "(redacted)");
    assert_eq!(server.fake.calls(), ["reload", "reload", "drain"]);
}
