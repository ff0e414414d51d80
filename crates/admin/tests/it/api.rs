//! The server API: doors, shapes, errors.

use admin::{ApiKeys, ErrorMode, Settings};
use serde_json::json;

use crate::http::{KEY, Server};

#[tokio::test]
async fn only_a_right_key_in_one_of_three_places_opens_the_api() {
    let server = Server::start().await;
    let info = async |path: &str, headers: &[&str]| server.send("POST", path, headers, "{}").await;
    let right = format!("x-api-key: {KEY}");
    assert_eq!(info("/api/info", &[&right]).await.status, 200);
    let right = format!("authorization: apikey {KEY}");
    assert_eq!(info("/api/info", &[&right]).await.status, 200);
    assert_eq!(
        info(&format!("/api/info?api_key={KEY}"), &[]).await.status,
        200
    );
    let refused = [
        info("/api/info", &[]).await,
        info("/api/info", &["x-api-key: wrong"]).await,
        info("/api/info", &["x-api-key:"]).await,
        info(&format!("/api/info?api_key={KEY}"), &["x-api-key: wrong"]).await,
        info("/api/info", &[&format!("authorization: Bearer {KEY}")]).await,
        info("/api/nothing", &[]).await,
        info("/api", &[]).await,
    ];
    for answer in refused {
        assert_eq!((answer.status, answer.body.as_str()), (401, ""));
    }
    let metrics = server.get("/metrics").await.body;
    assert!(
        metrics.contains("tidegate_admin_auth_refused_total{area=\"api\"} 7"),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_a_configured_key_the_api_is_closed() {
    let server = Server::with(Settings::default()).await;
    for key in ["x-api-key:", "x-api-key: anything"] {
        assert_eq!(
            server.send("POST", "/api/info", &[key], "{}").await.status,
            401
        );
    }
    server.settings.store(
        Settings {
            api_keys: ApiKeys::new(["new"]),
            ..Settings::default()
        }
        .into(),
    );
    assert_eq!(
        server
            .send("POST", "/api/info", &["x-api-key: new"], "{}")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn what_is_not_a_call_gets_its_http_status() {
    let server = Server::start().await;
    let key = format!("x-api-key: {KEY}");
    let answer = server.send("GET", "/api/publish", &[&key], "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(
        server.send("POST", "/api/brew", &[&key], "{}").await.status,
        404
    );
    assert_eq!(
        server
            .send("POST", "/api/publish", &[&key], "{\"channel\":")
            .await
            .status,
        400
    );
    assert_eq!(
        server
            .send("POST", "/api/publish", &[&key], "[]")
            .await
            .status,
        400
    );
    assert_eq!(
        server
            .call("publish", &json!({"channel": 1, "data": 1}))
            .await
            .status,
        400
    );
    assert_eq!(server.fake.calls(), [""; 0]);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_at_the_limit_exactly() {
    let server = Server::start().await;
    let limit = 4_096;
    let keys = ApiKeys::new([KEY]);
    server.settings.store(
        Settings {
            body_bytes_max: limit,
            api_keys: keys,
            ..Settings::default()
        }
        .into(),
    );
    let around = json!({"channel": "a", "data": ""}).to_string().len();
    let fits = json!({"channel": "a", "data": "x".repeat(limit - around)});
    assert_eq!(server.call("publish", &fits).await.status, 200);
    let over = json!({"channel": "a", "data": "x".repeat(limit - around + 1)});
    assert_eq!(server.call("publish", &over).await.status, 413);
    let chunked = format!(
        "POST /api/publish HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-api-key: {KEY}\r\n\
         transfer-encoding: chunked\r\n\r\n1001\r\n{}\r\n0\r\n\r\n",
        " ".repeat(0x1001)
    );
    assert_eq!(server.raw(&chunked).await.status, 413);
    assert_eq!(server.fake.calls().len(), 1);
}

#[tokio::test]
async fn publish_answers_with_the_position_where_there_is_one() {
    let server = Server::start().await;
    let request = json!({"channel": "kept", "data": {"a": 1}, "idempotency_key": "k"});
    let answer = server.call("publish", &request).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.json(),
        json!({"result": {"offset": 7, "epoch": "abcd"}})
    );
    let skipping = json!({"channel": "kept", "data": 1, "skip_history": true});
    let bytes = json!({"channel": "b", "b64data": "aGk="});
    for request in [skipping, bytes] {
        assert_eq!(
            server.call("publish", &request).await.body,
            r#"{"result":{}}"#
        );
    }
    assert_eq!(
        server.fake.calls(),
        [
            "publish kept {\"a\":1} k",
            "publish kept 1 ",
            "publish b hi "
        ]
    );
}

#[tokio::test]
async fn errors_come_in_the_body_or_as_the_status() {
    let server = Server::start().await;
    let cases = [
        ("broken", 100, "internal server error", 500),
        ("gone:x", 102, "unknown channel", 404),
        ("", 107, "bad request", 400),
        ("off", 108, "not available", 400),
        ("old", 112, "unrecoverable position", 416),
        ("taken", 113, "conflict", 409),
    ];
    for (channel, code, message, status) in cases {
        let request = json!({"channel": channel, "data": 1});
        let answer = server.call("publish", &request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.json(),
            json!({"error": {"code": code, "message": message}})
        );
        let key = format!("x-api-key: {KEY}");
        let headers = [key.as_str(), "x-centrifugo-error-mode: transport"];
        let answer = server
            .send("POST", "/api/publish", &headers, &request.to_string())
            .await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json(), json!({"code": code, "message": message}));
    }
    let settings = Settings {
        api_keys: ApiKeys::new([KEY]),
        error_mode: ErrorMode::Transport,
        ..Settings::default()
    };
    server.settings.store(settings.into());
    let answer = server.call("rpc", &json!({"method": "add"})).await;
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({"code": 104, "message": "not found"}))
    );
}

#[tokio::test]
async fn broadcast_answers_for_each_channel_in_order() {
    let server = Server::start().await;
    let request = json!({"channels": ["kept:1", "gone:x", "b", ""], "data": 1});
    assert_eq!(
        server.call("broadcast", &request).await.json(),
        json!({"result": {"responses": [
            {"result": {"offset": 7, "epoch": "abcd"}},
            {"error": {"code": 102, "message": "unknown channel"}},
            {"result": {}},
            {"error": {"code": 107, "message": "bad request"}},
        ]}})
    );
}

#[tokio::test]
async fn calls_about_connections_reach_the_gateway_as_sent() {
    let server = Server::start().await;
    let calls = [
        (
            "subscribe",
            json!({"user": "u", "channel": "a", "client": "c", "info": [1]}),
        ),
        ("unsubscribe", json!({"user": "u", "channel": "a"})),
        ("disconnect", json!({"user": "u", "whitelist": ["c1"]})),
        (
            "disconnect",
            json!({"user": "", "disconnect": {"code": 4501, "reason": "moved"}}),
        ),
        (
            "refresh",
            json!({"user": "u", "expire_at": 1_900_000_000, "info": {"a": 1}}),
        ),
    ];
    for (method, request) in calls {
        assert_eq!(
            server.call(method, &request).await.body,
            r#"{"result":{}}"#,
            "{method}"
        );
    }
    assert_eq!(
        server.fake.calls(),
        [
            r#"subscribe Selector { user: "u", client: Some("c"), session: None } a [1]"#,
            "unsubscribe u a",
            r#"disconnect u ["c1"] 3503 force disconnect"#,
            "disconnect  [] 4501 moved",
            r#"refresh u RefreshOptions { expired: false, expire_at: Some(1900000000), info: Some(b"{\"a\":1}") }"#,
        ]
    );
}

#[tokio::test]
async fn what_is_read_has_the_shapes_of_the_contract() {
    let server = Server::start().await;
    let in_channel = json!({"channel": "a"});
    let cases = [
        (
            "presence",
            json!({"presence": {"c1": {"user": "u7", "client": "c1", "conn_info": {"a": 1}, "b64chan_info": "/w=="}}}),
        ),
        ("presence_stats", json!({"num_clients": 3, "num_users": 2})),
        (
            "history",
            json!({"publications": [
            {"data": {"n": 41}, "info": {"user": "u7", "client": ""}, "offset": 41, "tags": {"kind": "x"}},
            {"b64data": "AQI=", "offset": 42},
        ], "epoch": "abcd", "offset": 42}),
        ),
        ("history_remove", json!({})),
        (
            "channels",
            json!({"channels": {"chat:hall": {"num_clients": 2}}}),
        ),
        (
            "info",
            json!({"nodes": [{"uid": "n", "name": "", "version": "", "num_clients": 4, "num_users": 0, "num_channels": 0, "num_subs": 0, "uptime": 61}]}),
        ),
    ];
    for (method, result) in cases {
        assert_eq!(
            server.call(method, &in_channel).await.json(),
            json!({"result": result}),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_batch_answers_each_command_without_an_envelope() {
    let server = Server::start().await;
    for parallel in [false, true] {
        let request = json!({"parallel": parallel, "commands": [
            {"publish": {"channel": "kept", "data": 1}},
            {"publish": {"channel": "gone:x", "data": 2}},
            {"presence_stats": {"channel": "a"}},
            {"brew": {}},
            {"broadcast": {"channels": ["b"], "data": 3}},
        ]});
        assert_eq!(
            server.call("batch", &request).await.json(),
            json!({"replies": [
                {"publish": {"offset": 7, "epoch": "abcd"}},
                {"error": {"code": 102, "message": "unknown channel"}},
                {"presence_stats": {"num_clients": 3, "num_users": 2}},
                {"error": {"code": 104, "message": "not found"}},
                {"broadcast": {"responses": [{"result": {}}]}},
            ]})
        );
    }
}

#[tokio::test]
async fn a_batch_with_an_ill_typed_command_does_nothing() {
    let server = Server::start().await;
    let request = json!({"commands": [{"publish": {"channel": "a", "data": 1}}, {"presence": {"channel": 3}}]});
    assert_eq!(server.call("batch", &request).await.status, 400);
    assert_eq!(server.fake.calls(), [""; 0]);
}

#[tokio::test]
async fn the_bare_path_takes_method_and_params() {
    let server = Server::start().await;
    let key = format!("authorization: apikey {KEY}");
    let bare = async |body: &str| server.send("POST", "/api", &[&key], body).await;
    let answer = bare(r#"{"method":"publish","params":{"channel":"kept","data":1}}"#).await;
    assert_eq!(
        answer.json(),
        json!({"result": {"offset": 7, "epoch": "abcd"}})
    );
    let answer = bare(
        "{\"method\":\"presence_stats\",\"params\":{\"channel\":\"a\"}}\n{\"method\":\"brew\"}",
    )
    .await;
    let lines: Vec<_> = answer.body.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"result":{"num_clients":3,"num_users":2}}"#,
            r#"{"error":{"code":104,"message":"not found"}}"#,
        ]
    );
    assert_eq!(
        bare("").await.json(),
        json!({"error": {"code": 107, "message": "bad request"}})
    );
    assert_eq!(bare("7").await.status, 400);
}

#[tokio::test]
async fn a_panic_costs_its_request_only() {
    let server = Server::start().await;
    let request = json!({"channel": "panic", "data": 1});
    assert_eq!(server.call("publish", &request).await.status, 500);
    assert_eq!(server.get("/healthz").await.status, 200);
}
