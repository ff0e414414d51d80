//! What needs no credentials: health, metrics, the documents.

use admin::{Settings, Stage};
use serde_json::json;

use crate::http::{Server, TOKEN};

#[tokio::test]
async fn readiness_follows_the_stages_and_health_does_not() {
    let server = Server::start().await;
    let stages = [
        (Stage::Starting, 503, "starting"),
        (Stage::Ready, 200, "ready"),
        (Stage::Draining, 503, "draining"),
    ];
    for (stage, status, word) in stages {
        server.readiness.advance(stage);
        let answer = server.get("/readyz").await;
        assert_eq!(
            (answer.status, answer.json()),
            (status, json!({"status": word}))
        );
        let answer = server.get("/healthz").await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"status": "ok"}))
        );
    }
    assert_eq!(server.send("POST", "/healthz", &[], "").await.status, 405);
    assert_eq!(server.get("/nothing").await.status, 401);
    assert_eq!(server.operate("GET", "/nothing", "").await.status, 404);
}

#[tokio::test]
async fn metrics_count_the_requests_of_this_listener_by_route() {
    let server = Server::start().await;
    server.get("/healthz").await;
    server.get("/some/guess").await;
    server.operate("GET", "/admin/connections/c001", "").await;
    let answer = server.get("/metrics").await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    for line in [
        r#"gateway_http_requests_total{route="/healthz",method="GET",status="200"} 1"#,
        r#"gateway_http_requests_total{route="other",method="GET",status="401"} 1"#,
        r#"gateway_http_requests_total{route="/admin/connections/{client}",method="GET",status="200"} 1"#,
        r#"gateway_http_errors_total{route="/api/publish"} 0"#,
    ] {
        assert!(
            answer.body.contains(line),
            "{line} is not in\n{}",
            answer.body
        );
    }
    assert!(answer.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn without_operators_there_is_nothing_below_admin() {
    let server = Server::with(Settings {
        operators: false,
        ..Settings::default()
    })
    .await;
    for path in ["/admin/config", "/admin/openapi.json", "/admin"] {
        assert_eq!(server.operate("GET", path, "").await.status, 404, "{path}");
    }
    assert_eq!(server.get("/administrator").await.status, 401);
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_can_be_put_behind_a_token() {
    let server = Server::with(Settings {
        metrics_guarded: true,
        ..Settings::default()
    })
    .await;
    assert_eq!(server.get("/metrics").await.status, 401);
    let token = format!("authorization: Bearer {TOKEN}");
    assert_eq!(
        server.send("GET", "/metrics", &[&token], "").await.status,
        200
    );
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn documents_are_served_to_everybody() {
    let server = Server::start().await;
    for path in ["/api/openapi.json", "/admin/openapi.json"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["openapi"], "3.1.0");
    }
}
