//! What the operators' console asks: its pages, the overview, channels, feature flags.

use std::time::Duration;

use admin::Settings;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{DEADLINE, Server, TOKEN};

const FLAGS: &str = "/admin/feature-flags";

/// A stream of events whose head has been sent.
async fn open_stream(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /admin/overview/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until what has come has the text in it so many times.
async fn read_until(stream: &mut TcpStream, text: &str, times: usize) -> String {
    let mut read = String::new();
    let reading = async {
        while read.matches(text).count() < times {
            let mut buffer = [0; 4_096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "it ended after {read}");
            read.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("in time");
    read
}

#[tokio::test]
async fn nothing_of_it_is_told_without_a_token() {
    let server = Server::start().await;
    for path in [
        "/admin/overview",
        "/admin/overview/stream",
        "/admin/channels",
        "/admin/channels/a/presence",
        FLAGS,
    ] {
        assert_eq!(server.get(path).await.status, 401, "{path}");
    }
    for method in ["PUT", "POST"] {
        let answer = server.send(method, FLAGS, &[], r#"{"flags":{}}"#).await;
        assert_eq!(answer.status, 401, "{method}");
    }
}

#[tokio::test]
async fn the_pages_are_there_without_a_token_and_load_only_what_is_ours() {
    let server = Server::start().await;
    let moved = server.get("/console").await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (308, Some("/console/"))
    );
    for path in ["/console/", "/console/channels/some.name"] {
        let page = server.send("HEAD", path, &[], "").await;
        assert_eq!(page.status, 200, "{path}");
        let type_of = page.header("content-type").unwrap();
        assert!(type_of.starts_with("text/html"), "{type_of}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        let tag = format!("if-none-match: {}", page.header("etag").unwrap());
        let known = server.send("GET", path, &[&tag], "").await;
        assert_eq!((known.status, known.body.as_str()), (304, ""));
    }
    assert_eq!(server.get("/console/assets/nothing.js").await.status, 404);
    assert_eq!(server.get("/consoles").await.status, 401);
    let server = Server::with(Settings {
        operators: false,
        ..Settings::default()
    })
    .await;
    assert_eq!(server.get("/console/").await.status, 404);
}

#[tokio::test]
async fn the_overview_is_told_once_or_every_second() {
    let server = Server::start().await;
    let once = server.operate("GET", "/admin/overview", "").await;
    assert_eq!((once.status, &once.json()["node"]), (200, &json!("n")));
    let mut stream = open_stream(&server).await;
    let read = read_until(&mut stream, "data: {", 2).await;
    assert!(read.contains("content-type: text/event-stream"), "{read}");
    assert!(read.contains(r#""messages_out":2"#), "{read}");
}

#[tokio::test]
async fn a_stream_ends_with_its_listener() {
    let mut server = Server::start().await;
    let mut stream = open_stream(&server).await;
    read_until(&mut stream, "data: {", 1).await;
    drop(server.stop.take());
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(4), stream.read_to_end(&mut rest));
    ended.await.expect("before the grace is over").unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the answer is whole");
}

#[tokio::test]
async fn streams_are_limited_in_number() {
    let server = Server::start().await;
    let mut open = Vec::new();
    for _ in 0..32 {
        let mut stream = open_stream(&server).await;
        read_until(&mut stream, "data: {", 1).await;
        open.push(stream);
    }
    let refused = server.operate("GET", "/admin/overview/stream", "").await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (503, &json!("limit_reached"))
    );
    open.pop();
    let retry = async {
        loop {
            let mut stream = open_stream(&server).await;
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.unwrap();
            if start.ends_with(b"200") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, retry)
        .await
        .expect("the slot is free again");
}

#[tokio::test]
async fn connections_are_searched_and_the_cursor_has_two_names() {
    let server = Server::start().await;
    let found = server
        .operate("GET", "/admin/connections?search=c20&limit=3", "")
        .await
        .json();
    let clients: Vec<_> = found["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["client"].as_str().unwrap())
        .collect();
    assert_eq!(clients, ["c200", "c201", "c202"]);
    assert_eq!(found["next"], "c202");
    let rest = server
        .operate("GET", "/admin/connections?search=c20&cursor=c207", "")
        .await
        .json();
    assert_eq!(rest["connections"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn channels_come_in_pages_and_say_who_is_there() {
    let server = Server::start().await;
    let list = server.operate("GET", "/admin/channels", "").await.json();
    assert_eq!(
        list,
        json!({"channels": [{"name": "chat:hall", "subscribers": 2}]})
    );
    for (query, count) in [("search=HALL", 1), ("search=x", 0), ("cursor=chat:hall", 0)] {
        let path = format!("/admin/channels?{query}");
        let list = server.operate("GET", &path, "").await.json();
        assert_eq!(list["channels"].as_array().unwrap().len(), count, "{query}");
    }
    let wrong = server.operate("GET", "/admin/channels?limit=0", "").await;
    assert_eq!(wrong.status, 400);
    let who = server
        .operate("GET", "/admin/channels/a%2Fb%23c/presence", "")
        .await
        .json();
    assert_eq!(
        who,
        json!({"presence": {"c1": {"client": "c1", "user": "u7"}}})
    );
    for (channel, status) in [("off", 422), ("gone:x", 404), ("broken", 503)] {
        let path = format!("/admin/channels/{channel}/presence");
        assert_eq!(
            server.operate("GET", &path, "").await.status,
            status,
            "{channel}"
        );
    }
}

#[tokio::test]
async fn flags_are_set_by_whoever_has_seen_the_present_ones() {
    let server = Server::start().await;
    let none = server.operate("GET", FLAGS, "").await.json();
    assert_eq!(none, json!({"flags": {}, "version": 0}));
    let body = r#"{"flags":{"a":true,"b":{"enabled":true,"percentage":25}},"version":0}"#;
    let put = server.operate("PUT", FLAGS, body).await;
    let expected =
        json!({"flags": {"a": true, "b": {"enabled": true, "percentage": 25}}, "version": 1});
    assert_eq!((put.status, put.json()), (200, expected.clone()));
    let late = server
        .operate("POST", FLAGS, r#"{"flags":{"a":false},"version":0}"#)
        .await;
    let told = late.json();
    assert_eq!(
        (late.status, &told["error"]["code"]),
        (409, &json!("conflict"))
    );
    assert_eq!(
        (&told["flags"], &told["version"]),
        (&expected["flags"], &expected["version"])
    );
    let merged = server
        .operate("POST", FLAGS, r#"{"flags":{"a":null,"c":false}}"#)
        .await;
    assert_eq!(
        merged.json(),
        json!({"flags": {"b": {"enabled": true, "percentage": 25}, "c": false}, "version": 2})
    );
}

#[tokio::test]
async fn what_is_no_flag_is_refused() {
    let server = Server::start().await;
    for (method, body, status) in [
        ("PUT", r#"{"flags":{"a":null}}"#, 400),
        ("PUT", r#"{"flags":{"a":1}}"#, 400),
        ("PUT", r#"{"flags":{"a":{"percentage":5}}}"#, 400),
        (
            "PUT",
            r#"{"flags":{"a":{"enabled":true,"percent":5}}}"#,
            400,
        ),
        (
            "PUT",
            r#"{"flags":{"a":{"enabled":true,"percentage":300}}}"#,
            400,
        ),
        (
            "POST",
            r#"{"flags":{"a":{"enabled":true,"percentage":101}}}"#,
            400,
        ),
        (
            "POST",
            r#"{"flags":{"a":{"enabled":true,"percentage":7.5}}}"#,
            400,
        ),
        ("POST", r#"{"flags":{"unwanted":true}}"#, 422),
        (
            "POST",
            r#"{"flags":{"a":{"enabled":true,"percentage":16.0}},"version":null}"#,
            200,
        ),
        ("POST", r#"{"flags":{},"version":"1"}"#, 400),
        ("POST", r#"{"flag":{}}"#, 400),
        ("POST", "", 400),
    ] {
        let answer = server.operate(method, FLAGS, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    let said = server
        .operate("PUT", FLAGS, r#"{"flags":{"a":1}}"#)
        .await
        .body;
    assert!(said.contains("true, false, or a map"), "{said}");
}
