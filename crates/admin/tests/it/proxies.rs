//! `/admin/proxies…` and `/admin/secrets…`.

use serde_json::{Value, json};

use crate::http::Server;

const RECORDS: &str = "/api/collections/_proxies/records";
const ONE: &str = "/admin/proxies/record000000001";

/// A server with one record that was made and changed twice.
async fn with_history() -> Server {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    server.operate("POST", RECORDS, r#"{"path":"/-/a"}"#).await;
    let record = format!("{RECORDS}/record000000001");
    for name in ["b", "c"] {
        let body = json!({ "name": name }).to_string();
        server.operate("PATCH", &record, &body).await;
    }
    server
}

#[tokio::test]
async fn without_a_proxy_there_is_nothing_at_its_paths() {
    let server = Server::start().await;
    for (method, path) in [
        ("GET", "/admin/proxies/x/history"),
        ("POST", "/admin/proxies/x/rollback"),
        ("GET", "/admin/proxies/x/explain"),
        ("GET", "/admin/secrets"),
        ("GET", "/admin/secrets/X"),
        ("PUT", "/admin/secrets/X"),
        ("DELETE", "/admin/secrets/X"),
    ] {
        let answer = server.operate(method, path, "{}").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        let error = json!({"code": "not_found", "message": "the HTTP proxy is off"});
        assert_eq!(answer.json()["error"], error, "{method} {path}");
        assert_eq!(server.send(method, path, &[], "").await.status, 401);
    }
}

#[tokio::test]
async fn history_is_told_newest_first_in_pages() {
    let server = with_history().await;
    let page = server
        .operate("GET", &format!("{ONE}/history?limit=2"), "")
        .await
        .json();
    let told = |page: &Value| {
        let changes = page["history"].as_array().unwrap().iter();
        let lines = changes.map(|change| {
            let text = |name: &str| change[name].as_str().unwrap().to_owned();
            format!("{} {} {}", change["version"], text("kind"), text("author"))
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(told(&page), ["3 update ops", "2 update ops"]);
    assert_eq!(page["next"], 2);
    assert_eq!(page["history"][0]["record"]["name"], "c");
    assert_eq!(page["history"][0]["at"], "2026-01-30 12:00:00.001Z");
    let last = server
        .operate("GET", &format!("{ONE}/history?before=2"), "")
        .await
        .json();
    assert_eq!(told(&last), ["1 create ops"]);
    assert_eq!(last.get("next"), None);
    for wrong in ["limit=0", "limit=101", "before=-1", "colour=red"] {
        let path = format!("{ONE}/history?{wrong}");
        assert_eq!(
            server.operate("GET", &path, "").await.status,
            400,
            "{wrong}"
        );
    }
    let answer = server
        .operate("GET", "/admin/proxies/none/history", "")
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_record_goes_back_to_an_older_version_as_a_new_one() {
    let server = with_history().await;
    let path = format!("{ONE}/rollback");
    let stale = server
        .operate_if("\"2\"", "POST", &path, r#"{"version":1}"#)
        .await;
    assert_eq!(
        (stale.status, &stale.json()["error"]),
        (
            412,
            &json!({"code": "changed", "message": "record has changed: its version is 3"})
        )
    );
    let back = server
        .operate_if("\"3\"", "POST", &path, r#"{"version":2}"#)
        .await;
    assert_eq!((back.status, back.header("etag")), (200, Some("\"4\"")));
    assert_eq!(back.json()["name"], "b");
    assert_eq!(back.json()["version"], 4);
    for (body, status) in [
        (r#"{"version":9}"#, 404),
        (r#"{"version":0}"#, 400),
        (r#"{"version":"2"}"#, 400),
        (r#"{"version":1.5}"#, 400),
        (r#"{"version":2.0}"#, 200),
        (r#"{"version":2,"path":"/-/z"}"#, 400),
        ("{}", 400),
    ] {
        let answer = server.operate("POST", &path, body).await;
        assert_eq!(answer.status, status, "{body}");
    }
    server.fake.turn_proxy_on().declare("fixed");
    let answer = server
        .operate("POST", "/admin/proxies/fixed/rollback", r#"{"version":1}"#)
        .await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (403, &json!("read_only"))
    );
}

#[tokio::test]
async fn a_request_is_explained_without_being_made() {
    let server = with_history().await;
    let path = format!("{ONE}/explain?path=%2F-%2Fa%2Fx%3Fq%3D1&method=POST");
    let told = server.operate("GET", &path, "").await.json();
    assert_eq!(told["path"], "/-/a/x?q=1");
    assert_eq!(told["method"], "POST");
    assert_eq!(told["upstreams"][0]["latencyMs"], json!(null));
    let told = server.operate("GET", &format!("{ONE}/explain"), "").await;
    assert_eq!(told.json()["path"], "/-/a");
    assert_eq!(told.json()["method"], "GET");
    for wrong in ["path=a", "path=", "method=get", "method=BREW", "user=a"] {
        let path = format!("{ONE}/explain?{wrong}");
        assert_eq!(
            server.operate("GET", &path, "").await.status,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn secrets_go_in_and_never_come_out() {
    let server = Server::start().await;
    let proxies = server.fake.turn_proxy_on();
    let key = "/admin/secrets/OPENAI_KEY";
    let put = server.operate("PUT", key, r#"{"value":"sk-1"}"#).await;
    assert_eq!((put.status, put.body.as_str()), (204, ""));
    let other = "/admin/secrets/A?environment=staging";
    server.operate("PUT", other, r#"{"value":"sk-2"}"#).await;
    assert_eq!(
        proxies.secret("global", "OPENAI_KEY").as_deref(),
        Some("sk-1")
    );
    assert_eq!(proxies.secret("staging", "A").as_deref(), Some("sk-2"));
    let entry = json!({"name": "OPENAI_KEY", "environment": "global", "value": "********",
        "updated": "1970-01-01 00:00:00.000Z", "author": "ops"});
    assert_eq!(server.operate("GET", key, "").await.json(), entry);
    let list = server.operate("GET", "/admin/secrets", "").await.json();
    assert_eq!(list["secrets"][0], entry);
    assert_eq!(list["secrets"][1]["environment"], "staging");
    assert_eq!(
        server.operate("GET", "/admin/secrets/A", "").await.status,
        404
    );
    assert_eq!(server.operate("DELETE", key, "").await.status, 204);
    assert_eq!(server.operate("DELETE", key, "").await.status, 404);
}

#[tokio::test]
async fn values_that_could_not_be_used_are_refused() {
    let server = Server::start().await;
    let proxies = server.fake.turn_proxy_on();
    for value in ["", "********", "a\n", "a\u{0}b", &"x".repeat(8_193)] {
        let body = json!({ "value": value }).to_string();
        let answer = server.operate("PUT", "/admin/secrets/X", &body).await;
        assert_eq!(answer.status, 400, "{value}");
        assert!(!answer.body.contains("xxx"));
    }
    for body in ["{}", r#"{"value":7}"#, r#"{"value":"a","name":"b"}"#] {
        let answer = server.operate("PUT", "/admin/secrets/X", body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    assert_eq!(proxies.secret("global", "X"), None);
    let long = format!("/admin/secrets/{}", "x".repeat(101));
    for path in [
        "/admin/secrets/1X",
        "/admin/secrets/a-b",
        "/admin/secrets/a%20b",
        "/admin/secrets/X?environment=",
        "/admin/secrets/X?environment=a%2Fb",
        "/admin/secrets/X?colour=red",
        &long,
    ] {
        let answer = server.operate("PUT", path, r#"{"value":"a"}"#).await;
        assert_eq!(answer.status, 400, "{path}");
    }
    let refused = server
        .operate("PUT", "/admin/secrets/NO_KEY", r#"{"value":"a"}"#)
        .await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["message"]),
        (422, &json!("no key is configured"))
    );
}
