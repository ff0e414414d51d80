//! `/admin/relay`: how it fares, agents, routes, dead letters.

use serde_json::json;

use crate::http::Server;

const LETTERS: &str = "/admin/relay/dead-letters";

#[tokio::test]
async fn without_a_relay_each_path_says_so() {
    let server = Server::start().await;
    for (method, path) in [
        ("GET", "/admin/relay"),
        ("GET", "/admin/relay/agents"),
        ("GET", "/admin/relay/route?client=a"),
        ("GET", LETTERS),
        ("GET", "/admin/relay/dead-letters/1"),
        ("DELETE", "/admin/relay/dead-letters/1"),
        ("POST", "/admin/relay/dead-letters/1/replay"),
        ("POST", "/admin/relay/dead-letters/replay"),
    ] {
        let answer = server.operate(method, path, "").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        let error = json!({"code": "not_found", "message": "the relay is off"});
        assert_eq!(answer.json()["error"], error, "{method} {path}");
        assert_eq!(server.send(method, path, &[], "").await.status, 401);
    }
}

#[tokio::test]
async fn the_summary_shows_counts_and_what_is_held() {
    let server = Server::start().await;
    server.fake.turn_relay_on(0);
    let summary = server.operate("GET", "/admin/relay", "").await.json();
    assert_eq!(summary["messages"]["delivered"], 7);
    assert_eq!(summary["messages"]["refused"]["signature"], 0);
    assert_eq!(summary["held"]["oldestSeconds"], 1.5);
    assert_eq!(summary["outbox"]["failed"], json!(null));
}

#[tokio::test]
async fn agents_with_the_most_waiting_come_first() {
    let server = Server::start().await;
    server.fake.turn_relay_on(0);
    let urls = async |query: &str| {
        let path = format!("/admin/relay/agents?{query}");
        let list = server.operate("GET", &path, "").await.json();
        let agents = list["agents"].as_array().unwrap().iter();
        let urls: Vec<String> = agents
            .map(|agent| agent["url"].as_str().unwrap().to_owned())
            .collect();
        (urls.join(" "), list["total"].as_u64().unwrap())
    };
    assert_eq!(urls("").await, ("ws://b ws://a ws://c".to_owned(), 3));
    assert_eq!(urls("limit=1").await, ("ws://b".to_owned(), 3));
    assert_eq!(urls("sort=url").await.0, "ws://a ws://b ws://c");
    assert_eq!(urls("sort=failures").await.0, "ws://c ws://a ws://b");
    for wrong in ["sort=age", "limit=0", "limit=1001", "colour=red"] {
        let path = format!("/admin/relay/agents?{wrong}");
        let answer = server.operate("GET", &path, "").await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    let list = server
        .operate("GET", "/admin/relay/agents?limit=1", "")
        .await;
    assert_eq!(
        list.json()["agents"][0],
        json!({"url": "ws://b", "state": "waiting", "queueDepth": 5, "inFlight": 0,
        "breaker": "open", "retryAfterMs": 250, "lastError": "refused", "connects": 0,
        "failures": 0, "delivered": 0, "answers": 0})
    );
}

#[tokio::test]
async fn a_route_is_explained() {
    let server = Server::start().await;
    server.fake.turn_relay_on(0);
    let path = "/admin/relay/route?client=client%2D7";
    let route = server.operate("GET", path, "").await.json();
    assert_eq!(
        route,
        json!({"clientId": "client-7", "agent": "ws://a", "losers": [], "hints": [],
        "winner": {"rule": "relay.routes[0] (\"client-1-9\")", "reason": "in the range"}})
    );
    for wrong in ["", "?client=", "?user=a"] {
        let path = format!("/admin/relay/route{wrong}");
        assert_eq!(server.operate("GET", &path, "").await.status, 400);
    }
}

#[tokio::test]
async fn dead_letters_come_in_pages() {
    let server = Server::start().await;
    server.fake.turn_relay_on(5);
    let mut path = format!("{LETTERS}?limit=2");
    let mut ids = Vec::new();
    loop {
        let page = server.operate("GET", &path, "").await.json();
        let letters = page["deadLetters"].as_array().unwrap().clone();
        ids.push(letters.iter().map(|letter| letter["id"].clone()).collect());
        let Some(next) = page["next"].as_u64() else {
            break;
        };
        path = format!("{LETTERS}?limit=2&after={next}");
    }
    assert_eq!(serde_json::Value::Array(ids), json!([[1, 2], [3, 4], [5]]));
    let path = format!("{LETTERS}?client=even&limit=1");
    let page = server.operate("GET", &path, "").await.json();
    assert_eq!(
        page,
        json!({"deadLetters": [{"id": 2, "clientId": "even", "priority": "interactive",
        "reason": "refused", "acceptedAt": 1000, "deadAt": 2000, "size": 6_000_000}], "next": 2})
    );
    for wrong in ["limit=0", "limit=1001", "after=x", "agent=a"] {
        let path = format!("{LETTERS}?{wrong}");
        assert_eq!(
            server.operate("GET", &path, "").await.status,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn messages_are_shown_if_asked_for_and_bounded_by_bytes() {
    let server = Server::start().await;
    server.fake.turn_relay_on(5);
    let path = format!("{LETTERS}?messages=true");
    let page = server.operate("GET", &path, "").await.json();
    // 6 MB each: two of them are within 16 MiB, a third is not.
    assert_eq!(page["deadLetters"].as_array().unwrap().len(), 2);
    assert_eq!(page["next"], 2);
    assert_eq!(page["deadLetters"][0]["message"]["messageId"], "m1");
    let path = format!("{LETTERS}/1");
    let letter = server.operate("GET", &path, "").await.json();
    assert_eq!(letter["message"]["messageId"], "m1");
    assert_eq!(letter.get("messageError"), None);
    let broken = server.operate("GET", &format!("{LETTERS}/4"), "").await;
    assert_eq!(broken.json()["messageError"], "record is damaged");
    assert_eq!(broken.json().get("message"), None);
    for (id, status) in [("9", 404), ("0", 404), ("x", 400), ("-1", 400)] {
        let answer = server.operate("GET", &format!("{LETTERS}/{id}"), "").await;
        assert_eq!(answer.status, status, "{id}");
    }
}

#[tokio::test]
async fn a_dead_letter_is_replayed_or_discarded_once() {
    let server = Server::start().await;
    server.fake.turn_relay_on(5);
    let replay = format!("{LETTERS}/1/replay");
    let answer = server.operate("POST", &replay, "").await;
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({"status": "pending"}))
    );
    assert_eq!(server.operate("POST", &replay, "").await.status, 404);
    let refused = server
        .operate("POST", &format!("{LETTERS}/3/replay"), "")
        .await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (422, &json!("refused"))
    );
    let one = format!("{LETTERS}/2");
    assert_eq!(server.operate("DELETE", &one, "").await.status, 204);
    assert_eq!(server.operate("DELETE", &one, "").await.status, 404);
    let left = server.operate("GET", LETTERS, "").await.json();
    assert_eq!(left["deadLetters"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn many_dead_letters_are_replayed_and_those_that_fail_are_named() {
    let server = Server::start().await;
    server.fake.turn_relay_on(5);
    let replay = format!("{LETTERS}/replay");
    let answer = server
        .operate("POST", &format!("{replay}?limit=2"), "")
        .await;
    assert_eq!(
        (answer.status, answer.json()),
        (202, json!({"replayed": 2, "failed": [], "next": 2}))
    );
    let even = server
        .operate("POST", &format!("{replay}?client=even"), "")
        .await;
    assert_eq!(even.json(), json!({"replayed": 1, "failed": []}));
    let rest = server.operate("POST", &replay, "").await;
    assert_eq!(
        rest.json(),
        json!({"replayed": 1, "failed": [{"id": 3, "error": "no route"}]})
    );
    let left = server.operate("GET", LETTERS, "").await.json();
    assert_eq!(left["deadLetters"][0]["id"], 3);
}
