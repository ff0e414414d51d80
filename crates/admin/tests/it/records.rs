//! `/api/collections/_proxies…` and `/api/gateway/metrics`: PocketBase's shapes.

use admin::Settings;
use serde_json::{Value, json};

use crate::http::{Answer, KEY, Server, TOKEN};

const RECORDS: &str = "/api/collections/_proxies/records";

async fn create(server: &Server, path: &str, name: &str) -> String {
    let body = json!({"path": path, "name": name, "upstream": "http://model.internal"});
    let answer = server.operate("POST", RECORDS, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// PocketBase's error with these words.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let error = json!({"status": status, "message": message, "data": {}});
    assert_eq!(answer.json(), error);
}

#[tokio::test]
async fn nothing_is_served_without_a_token_of_an_administrator() {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    let key = format!("x-api-key: {KEY}");
    for (method, path) in [
        ("GET", RECORDS),
        ("POST", RECORDS),
        ("DELETE", "/api/collections/_proxies"),
        ("GET", "/api/collections/_proxies/records/x"),
        ("GET", "/api/collections"),
        ("GET", "/api/gateway/metrics"),
        ("GET", "/api/gateway/nothing"),
    ] {
        let answer = server.send(method, path, &[&key], "{}").await;
        let words = "A valid administrator token is needed: Authorization: Bearer tga_….";
        assert_error(&answer, 401, words);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    // As PocketBase's clients send it.
    let bare = format!("authorization: {TOKEN}");
    assert_eq!(server.send("GET", RECORDS, &[&bare], "").await.status, 200);
    // A key of the server API opens the server API, and a token does not.
    let answer = server.operate("POST", "/api/info", "{}").await;
    assert_eq!((answer.status, answer.body.as_str()), (401, ""));
}

#[tokio::test]
async fn wrong_tokens_run_into_the_limit_here_too() {
    let server = Server::with(Settings {
        failed_tries_per_minute: 2,
        ..Settings::default()
    })
    .await;
    let guess = ["authorization: Bearer tga_wrong"];
    for status in [401, 401, 429] {
        let answer = server.send("GET", RECORDS, &guess, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["status"], status);
    }
}

#[tokio::test]
async fn without_operators_or_a_proxy_there_is_nothing() {
    let server = Server::start().await;
    let answer = server.operate("GET", RECORDS, "").await;
    assert_error(&answer, 404, "The requested resource wasn't found.");
    let server = Server::with(Settings {
        operators: false,
        ..Settings::default()
    })
    .await;
    server.fake.turn_proxy_on();
    let answer = server.get(RECORDS).await;
    assert_error(&answer, 404, "There is nothing at this path.");
}

#[tokio::test]
async fn a_record_is_made_read_changed_and_removed() {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    let body = json!({"path": "/-/openai", "upstream": "http://m", "id": "mine", "version": 9});
    let made = server.operate("POST", RECORDS, &body.to_string()).await;
    assert_eq!(made.status, 200);
    assert_eq!(made.header("etag"), Some("\"1\""));
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let record = json!({"collectionId": "_proxies", "collectionName": "_proxies",
        "id": "record000000001", "created": "2026-01-30 12:00:00.001Z",
        "updated": "2026-01-30 12:00:00.001Z", "version": 1, "readOnly": false,
        "path": "/-/openai", "upstream": "http://m"});
    assert_eq!(made.json(), record);
    let one = format!("{RECORDS}/record000000001");
    let read = server.operate("GET", &one, "").await;
    assert_eq!((read.status, read.json()), (200, record.clone()));
    // A record may be sent back as it was read.
    let mut edited = record.clone();
    edited["name"] = json!("models");
    let changed = server
        .operate_if("\"1\"", "PATCH", &one, &edited.to_string())
        .await;
    assert_eq!(
        (changed.status, changed.header("etag")),
        (200, Some("\"2\""))
    );
    assert_eq!(changed.json()["name"], "models");
    assert_eq!(changed.json()["path"], "/-/openai");
    let removed = server.operate("DELETE", &one, "").await;
    assert_eq!((removed.status, removed.body.as_str()), (204, ""));
    for method in ["GET", "PATCH", "DELETE"] {
        let answer = server.operate(method, &one, "{}").await;
        assert_error(&answer, 404, "The requested resource wasn't found.");
    }
}

#[tokio::test]
async fn a_change_of_a_version_that_is_gone_is_refused() {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    let one = format!("{RECORDS}/{}", create(&server, "/-/a", "").await);
    let stale = server.operate_if("\"7\"", "PATCH", &one, "{}").await;
    assert_error(&stale, 412, "Record has changed: its version is 1.");
    let stale = server.operate_if("\"7\"", "DELETE", &one, "").await;
    assert_eq!(stale.status, 412);
    for wrong in ["x", "W/\"1\"", "\"x\""] {
        let answer = server.operate_if(wrong, "PATCH", &one, "{}").await;
        assert_eq!(answer.status, 400, "{wrong}");
        let words = "If-Match must be one version in quotes, as ETag has it, or *.";
        assert_eq!(answer.json()["message"], words);
    }
    for right in ["*", "\"2\""] {
        let answer = server.operate_if(right, "PATCH", &one, "{}").await;
        assert_eq!(answer.status, 200, "{right}");
    }
}

#[tokio::test]
async fn fields_that_are_wrong_are_named_with_the_reason() {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    let required = server.operate("POST", RECORDS, "{}").await;
    assert_eq!(
        (required.status, required.json()),
        (
            400,
            json!({"status": 400, "message": "Failed to create record.", "data": {"path":
                {"code": "validation_required", "message": "path cannot be empty"}}})
        )
    );
    let one = format!("{RECORDS}/{}", create(&server, "/-/a", "").await);
    let wrong = server
        .operate("PATCH", &one, r#"{"path":"a"}"#)
        .await
        .json();
    assert_eq!(
        wrong,
        json!({"status": 400, "message": "Failed to update record.", "data": {
            "path": {"code": "validation_invalid", "message": "path must start with /"},
            "circuitBreaker.failure_threshold": {"code": "validation_invalid",
                "message": "must be a whole number from 1 to 100000"}}})
    );
    let taken = server
        .operate("POST", RECORDS, r#"{"path":"/-/a"}"#)
        .await
        .json();
    assert_eq!(
        taken["data"]["path"],
        json!({"code": "validation_not_unique", "message": "path is taken by another record"})
    );
}

#[tokio::test]
async fn bodies_that_are_no_object_or_too_large_are_refused() {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    for body in ["", "[]", "7", "{", "{\"path\":\"/-/\\ud800\"}"] {
        let answer = server.operate("POST", RECORDS, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["data"], json!({}));
    }
    let large = json!({"name": "x".repeat(256 * 1024)}).to_string();
    let answer = server.operate("POST", RECORDS, &large).await;
    assert_error(&answer, 413, "The body is too large.");
}

#[tokio::test]
async fn records_of_the_configuration_file_are_read_only() {
    let server = Server::start().await;
    server.fake.turn_proxy_on().declare("fixed");
    let one = format!("{RECORDS}/fixed");
    let record = server.operate("GET", &one, "").await.json();
    assert_eq!(record["readOnly"], true);
    for method in ["PATCH", "DELETE"] {
        let answer = server.operate(method, &one, "{}").await;
        let words = "Record is declared in the configuration file and can only be changed there.";
        assert_error(&answer, 403, words);
    }
}

#[tokio::test]
async fn the_list_has_pages_an_order_and_a_search() {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    for (path, name) in [("/-/c", "One"), ("/-/a", "two"), ("/-/b", "One more")] {
        create(&server, path, name).await;
    }
    let list = async |query: &str| {
        let answer = server
            .operate("GET", &format!("{RECORDS}?{query}"), "")
            .await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        answer.json()
    };
    let paths = |list: &Value| {
        let items = list["items"].as_array().unwrap().iter();
        let paths = items.map(|item| item["path"].as_str().unwrap().to_owned());
        paths.collect::<Vec<_>>().join(" ")
    };
    let all = list("").await;
    assert_eq!(paths(&all), "/-/c /-/a /-/b");
    let totals = |list: &Value| {
        let field = |name: &str| list[name].as_i64().unwrap();
        [
            field("page"),
            field("perPage"),
            field("totalItems"),
            field("totalPages"),
        ]
    };
    assert_eq!(totals(&all), [1, 30, 3, 1]);
    let second = list("page=2&perPage=2&sort=path").await;
    assert_eq!(
        (paths(&second).as_str(), totals(&second)),
        ("/-/c", [2, 2, 3, 2])
    );
    let beyond = list("page=9&skipTotal=1").await;
    assert_eq!(
        (paths(&beyond).as_str(), totals(&beyond)),
        ("", [9, 30, -1, -1])
    );
    assert_eq!(paths(&list("sort=-name,id").await), "/-/a /-/b /-/c");
    assert_eq!(paths(&list("sort=active,-updated").await), "/-/b /-/a /-/c");
    assert_eq!(paths(&list("search=oNe&sort=%2Bpath").await), "/-/b /-/c");
    assert_eq!(paths(&list("search=MODEL.").await), "/-/c /-/a /-/b");
    assert_eq!(totals(&list("search=nowhere").await), [1, 30, 0, 0]);
    for wrong in [
        "page=0",
        "perPage=0",
        "perPage=1001",
        "page=x",
        "sort=colour",
        "sort=id,id,id,id,id,id,id",
        "colour=red",
        "page=1&page=2",
        "skipTotal=maybe",
    ] {
        let answer = server
            .operate("GET", &format!("{RECORDS}?{wrong}"), "")
            .await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(answer.json()["status"], 400, "{wrong}");
    }
    let path = format!("{RECORDS}?filter=active%3Dtrue");
    let answer = server.operate("GET", &path, "").await;
    let words = "Filter is not supported; search=<text> looks in names, paths and upstreams.";
    assert_error(&answer, 400, words);
}

#[tokio::test]
async fn the_collection_itself_cannot_be_deleted() {
    let server = Server::start().await;
    server.fake.turn_proxy_on();
    let answer = server
        .operate("DELETE", "/api/collections/_proxies", "")
        .await;
    assert_error(&answer, 400, "Cannot delete system collection _proxies.");
    let answer = server.operate("GET", "/api/collections/_proxies", "").await;
    assert_error(&answer, 405, "The path does not have this method.");
    assert_eq!(answer.header("allow"), Some("DELETE"));
    let answer = server.operate("GET", "/api/collections/users", "").await;
    assert_error(&answer, 404, "There is nothing at this path.");
}

#[tokio::test]
async fn ids_that_cannot_be_any_are_not_looked_up() {
    let server = Server::start().await;
    server.fake.turn_proxy_on().break_down();
    let long = "x".repeat(101);
    for id in ["%2e", "a%20b", "a'b", long.as_str()] {
        let answer = server.operate("GET", &format!("{RECORDS}/{id}"), "").await;
        assert_eq!(answer.status, 404, "{id}");
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_said_to_be() {
    let server = Server::start().await;
    server.fake.turn_proxy_on().break_down();
    let answer = server.operate("GET", RECORDS, "").await;
    assert_error(&answer, 503, "Database can't be used: gone.");
}

#[tokio::test]
async fn metrics_are_for_administrators_unless_they_are_public() {
    let server = Server::start().await;
    let path = "/api/gateway/metrics";
    let off = server.operate("GET", path, "").await;
    assert_eq!(
        (off.status, off.body.as_str()),
        (200, "# No metrics available\n")
    );
    server.fake.turn_proxy_on().measure("# EOF\n");
    assert_eq!(server.get(path).await.status, 401);
    let on = server.operate("GET", path, "").await;
    assert_eq!((on.status, on.body.as_str()), (200, "# EOF\n"));
    let kind = on.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text;"), "{kind}");
    server.settings.store(std::sync::Arc::new(Settings {
        proxy_metrics_public: true,
        ..Settings::default()
    }));
    assert_eq!(server.get(path).await.status, 200);
    assert_eq!(server.get(RECORDS).await.status, 401);
}
