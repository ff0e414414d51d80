//! Requests through the proxy to upstreams on real sockets: tries, breakers, limits.

#![expect(
    clippy::disallowed_methods,
    reason = "the test owns its tasks and clock"
)]

mod stage;

use std::sync::atomic::Ordering;

use serde_json::json;
use stage::{BUSY, Does, OK, Stage, Upstream};

const SLOW: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

#[tokio::test]
async fn an_answer_is_passed_on_and_the_request_rewritten() {
    let upstream = Upstream::start(&[OK]).await;
    let stage = Stage::new(&[&upstream.url], json!({}));
    let got = stage.post("body").await;
    assert_eq!((got.status, got.text.as_str()), (200, "ok"));
    let request = upstream.requests().remove(0);
    assert!(
        request.starts_with("POST /x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:"),
        "{request}"
    );
    assert!(
        request.contains("x-forwarded-for: 192.0.2.1\r\n"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\nbody"), "{request}");
    let figures = stage.figures();
    assert_eq!((figures.active, figures.requests[2]), (0, 1));
    assert_eq!((figures.request_bytes, figures.response_bytes), (4, 2));
}

#[tokio::test]
async fn what_found_no_connection_is_tried_elsewhere() {
    let dead = Upstream::nobody().await;
    let upstream = Upstream::start(&[OK]).await;
    let stage = Stage::new(&[&dead, &upstream.url], json!({}));
    for _ in 0..20 {
        assert_eq!(stage.post("body").await.status, 200);
    }
    assert_eq!(upstream.count(), 20);
    assert!(stage.figures().retries > 0);
    assert_eq!(stage.route().guard_state().gate.extra_tries, 0);
}

#[tokio::test]
async fn what_may_have_been_done_is_done_once() {
    let upstream = Upstream::start(&[Does::Closes]).await;
    let stage = Stage::new(&[&upstream.url], json!({}));
    let got = stage.post("body").await;
    assert_eq!(got.status, 502);
    assert!(
        got.text.contains("\"error\":\"Upstream Unavailable\""),
        "{}",
        got.text
    );
    assert_eq!(upstream.count(), 1);
    assert_eq!(stage.get().await.status, 502);
    assert_eq!(upstream.count(), 3, "a GET has a second try");
}

#[tokio::test]
async fn a_key_makes_a_post_repeatable() {
    let upstream = Upstream::start(&[Does::Closes, OK]).await;
    let stage = Stage::new(&[&upstream.url], json!({}));
    let fields = "idempotency-key: 1\r\ncontent-length: 4\r\n";
    let got = stage
        .ask("POST", fields, &mut stage.client(&["body"]))
        .await;
    assert_eq!(got.status, 200);
    let [first, second] = upstream.requests().try_into().unwrap();
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_post_that_a_used_connection_lost_is_not_repeated() {
    let upstream = Upstream::start(&[OK, Does::Closes, OK]).await;
    let stage = Stage::new(&[&upstream.url], json!({}));
    assert_eq!(stage.get().await.status, 200);
    assert_eq!(stage.post("body").await.status, 502);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_replay_on_a_fresh_connection_is_no_try() {
    let upstream = Upstream::start(&[OK, Does::Closes, Does::Closes, OK]).await;
    let stage = Stage::new(&[&upstream.url], json!({}));
    assert_eq!(stage.get().await.status, 200);
    assert_eq!(stage.get().await.status, 200);
    assert_eq!(upstream.count(), 4);
    assert_eq!(stage.figures().retries, 1);
}

#[tokio::test]
async fn an_overloaded_upstream_is_left_for_another() {
    let busy = Upstream::start(&[BUSY]).await;
    let upstream = Upstream::start(&[OK]).await;
    let stage = Stage::new(&[&busy.url, &upstream.url], json!({}));
    for _ in 0..20 {
        assert_eq!(stage.get().await.status, 200);
    }
    assert!(busy.count() > 0);
    let alone = Stage::new(&[&busy.url], json!({}));
    let before = busy.count();
    let got = alone.get().await;
    assert_eq!((got.status, got.text.as_str()), (503, "busy"));
    assert_eq!(busy.count(), before + 1);
}

#[tokio::test]
async fn an_open_breaker_answers_before_the_limiter() {
    let upstream = Upstream::start(&[BUSY]).await;
    let breaker = json!({ "enabled": true, "failureThreshold": 2, "recoveryTimeout": 60 });
    let more = json!({ "circuitBreaker": breaker, "maxConcurrent": 1 });
    let stage = Stage::new(&[&upstream.url], more);
    for _ in 0..2 {
        let got = stage.get().await;
        assert_eq!((got.status, got.field("x-circuit-breaker")), (503, None));
    }
    let admitted = stage.route().guard_state().counts.admitted;
    let got = stage.get().await;
    assert_eq!(
        (got.status, got.field("x-circuit-breaker")),
        (503, Some("open"))
    );
    assert!(got.text.contains("Circuit breaker is open"), "{}", got.text);
    assert_eq!(stage.route().guard_state().counts.admitted, admitted);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_trial_says_that_it_is_one_and_closes_the_breaker() {
    let upstream = Upstream::start(&[Does::Closes, BUSY, OK]).await;
    let breaker =
        json!({ "enabled": true, "failureThreshold": 1, "recoveryTimeout": 1, "ramp": 0 });
    let more = json!({ "circuitBreaker": breaker, "retry": { "attempts": 0 } });
    let stage = Stage::new(&[&upstream.url], more);
    assert_eq!(stage.get().await.status, 502);
    let mut trials = Vec::new();
    while trials.len() < 2 {
        let got = stage.get().await;
        if got.field("x-circuit-breaker") != Some("open") {
            assert_eq!(got.field("x-circuit-breaker"), Some("half-open"));
            trials.push(got.status);
        }
    }
    assert_eq!(trials, [503, 200]);
    assert_eq!(stage.get().await.field("x-circuit-breaker"), None);
}

#[tokio::test]
async fn a_broken_answer_is_a_failure_and_cut_for_the_client() {
    let upstream = Upstream::start(&[Does::SaysAndCloses(SLOW)]).await;
    let breaker = json!({ "enabled": true, "failureThreshold": 2 });
    let stage = Stage::new(&[&upstream.url], json!({ "circuitBreaker": breaker }));
    for _ in 0..2 {
        let got = stage.get().await;
        assert_eq!(
            (got.status, got.text.as_str(), got.is_cut),
            (200, "ha", true)
        );
    }
    assert_eq!(stage.get().await.status, 503);
    assert_eq!(stage.figures().broken, 2);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_failure_too() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    let upstream = Upstream::start(&[Does::SaysAndCloses(broken)]).await;
    let breaker = json!({ "enabled": true, "failureThreshold": 1 });
    let stage = Stage::new(&[&upstream.url], json!({ "circuitBreaker": breaker }));
    let got = stage.get().await;
    assert_eq!((got.text.as_str(), got.is_cut), ("data: 1\n\n", true));
    assert_eq!(stage.get().await.status, 503);
}

#[tokio::test]
async fn a_client_that_leaves_takes_everything_along_and_is_no_failure() {
    let upstream = Upstream::start(&[Does::Waits]).await;
    let breaker = json!({ "enabled": true, "failureThreshold": 1 });
    let more = json!({ "circuitBreaker": breaker, "maxConcurrent": 1 });
    let stage = Stage::new(&[&upstream.url], more);
    let (mut client, leave) = stage.restless();
    let asking = stage.ask("GET", "", &mut client);
    let leaving = async {
        upstream.until(|it| it.count() == 1).await;
        leave.send(true).unwrap();
    };
    tokio::join!(asking, leaving);
    upstream
        .until(|it| it.left.load(Ordering::SeqCst) == 1)
        .await;
    let figures = stage.figures();
    assert_eq!(
        (figures.active, figures.left, figures.requests[0]),
        (0, 1, 1)
    );
    assert_eq!(stage.route().guard_state().gate.in_flight, 0);
    let look = stage.route().endpoints(0).remove(0);
    assert_eq!(look.opened, 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_back_what_it_holds() {
    let upstream = Upstream::start(&[Does::Waits]).await;
    let stage = Stage::new(&[&upstream.url], json!({ "maxConcurrent": 1 }));
    {
        let mut client = stage.client(&[]);
        let asking = stage.ask("GET", "", &mut client);
        tokio::select! {
            _ = asking => unreachable!(),
            () = upstream.until(|it| it.count() == 1) => {}
        }
    }
    upstream
        .until(|it| it.left.load(Ordering::SeqCst) == 1)
        .await;
    assert_eq!(stage.route().guard_state().gate.in_flight, 0);
    assert_eq!(stage.figures().active, 0);
}

#[tokio::test]
async fn a_stream_holds_its_slot_until_it_ends() {
    let upstream = Upstream::start(&[Does::SaysAndWaits(EVENTS)]).await;
    let stage = Stage::new(&[&upstream.url], json!({ "maxConcurrent": 1 }));
    let mut client = stage.client(&[]);
    let answer = stage.begin("GET", "", &mut client).await;
    let got = stage.get().await;
    assert_eq!((got.status, got.field("retry-after")), (429, Some("30")));
    assert!(
        got.text.contains("AI Engine is at capacity"),
        "{}",
        got.text
    );
    drop(answer);
    upstream
        .until(|it| it.left.load(Ordering::SeqCst) == 1)
        .await;
    assert_eq!(stage.route().guard_state().gate.in_flight, 0);
}

#[tokio::test]
async fn a_change_keeps_what_is_under_way_and_learnt() {
    let upstream = Upstream::start(&[Does::Closes, Does::SaysAndWaits(EVENTS)]).await;
    let breaker = json!({ "enabled": true, "failureThreshold": 2 });
    let more = json!({ "circuitBreaker": breaker, "maxConcurrent": 1, "retry": { "attempts": 0 } });
    let stage = Stage::new(&[&upstream.url], more);
    assert_eq!(stage.get().await.status, 502);
    let mut client = stage.client(&[]);
    let answer = stage.begin("GET", "", &mut client).await;
    let changed =
        json!({ "circuitBreaker": breaker, "maxConcurrent": 1, "timeout": 7, "name": "other" });
    stage.install(&[&upstream.url], changed);
    assert_eq!(
        stage.get().await.status,
        429,
        "the stream has the only slot"
    );
    assert_eq!(stage.figures().active, 1);
    drop(answer);
    stage.until(|figures| figures.active == 0).await;
}

#[tokio::test]
async fn another_weight_closes_no_breaker() {
    let upstream = Upstream::start(&[BUSY]).await;
    let breaker = json!({ "enabled": true, "failureThreshold": 1 });
    let stage = Stage::new(&[&upstream.url], json!({ "circuitBreaker": breaker }));
    assert_eq!(stage.get().await.status, 503);
    let weighted = json!([{ "url": upstream.url, "weight": 5 }]);
    let more = json!({ "circuitBreaker": breaker, "upstreams": weighted });
    stage.install(&[], more);
    let got = stage.get().await;
    assert_eq!(got.field("x-circuit-breaker"), Some("open"));
    assert_eq!(stage.route().endpoints(0).remove(0).opened, 1);
    let other = json!({ "enabled": true, "failureThreshold": 2 });
    let more = json!({ "circuitBreaker": other, "upstreams": weighted });
    stage.install(&[], more);
    assert_eq!(stage.get().await.field("x-circuit-breaker"), None);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let upstream = Upstream::start(&[Does::Waits]).await;
    let stage = Stage::new(&[&upstream.url], json!({ "maxBody": 3 }));
    let got = stage.post("body").await;
    assert_eq!(got.status, 413);
    assert_eq!(upstream.count(), 0, "its length says so");
    let chunked = "transfer-encoding: chunked\r\n";
    let mut client = stage.client(&["bo", "dy"]);
    assert_eq!(stage.ask("POST", chunked, &mut client).await.status, 413);
    let figures = stage.figures();
    assert_eq!((figures.active, figures.refused[0]), (0, 2));
}

#[tokio::test]
async fn a_head_that_does_not_come_is_a_504() {
    let upstream = Upstream::start(&[Does::Waits]).await;
    let more = json!({ "timeoutConfig": { "response_header": 0.05 }, "retry": { "attempts": 0 } });
    let stage = Stage::new(&[&upstream.url], more);
    let got = stage.get().await;
    assert_eq!(got.status, 504);
    assert!(
        got.text.contains("upstream request timed out: headers"),
        "{}",
        got.text
    );
    // What was waited for is not the gateway's own time.
    assert!(stage.figures().overhead.sum_us < 50_000);
}

#[tokio::test]
async fn a_slow_try_is_hedged_and_the_faster_answer_used() {
    let slow = Upstream::start(&[Does::Waits]).await;
    let fast = Upstream::start(&[OK]).await;
    let more = json!({ "retry": { "hedgeAfter": 0.02, "attempts": 0 } });
    let stage = Stage::new(&[&slow.url, &fast.url], more);
    while slow.count() == 0 {
        let got = stage.get().await;
        assert_eq!((got.status, got.text.as_str()), (200, "ok"));
    }
    slow.until(|it| it.left.load(Ordering::SeqCst) == 1).await;
    let figures = stage.figures();
    assert_eq!((figures.hedges, figures.retries, figures.active), (1, 0, 0));
    assert_eq!(stage.route().guard_state().gate.extra_tries, 0);
    assert!(
        stage
            .route()
            .endpoints(0)
            .iter()
            .all(|it| it.state.unwrap().pending == 0)
    );
}

#[tokio::test]
async fn what_is_not_to_be_repeated_is_not_hedged() {
    let slow = Upstream::start(&[Does::Waits]).await;
    let more = json!({
        "retry": { "hedgeAfter": 0.01 }, "timeoutConfig": { "response_header": 0.2 },
    });
    let stage = Stage::new(
        &[&slow.url, &slow.url.replace("127.0.0.1", "localhost")],
        more,
    );
    assert_eq!(stage.post("body").await.status, 504);
    assert_eq!((slow.count(), stage.figures().hedges), (1, 0));
    assert_eq!(stage.get().await.status, 504);
    assert_eq!(stage.figures().hedges, 1);
}

#[tokio::test]
async fn a_hedge_that_fails_leaves_the_first_to_answer() {
    let bad = Upstream::start(&[Does::Closes]).await;
    let slow = Upstream::start(&[Does::Waits]).await;
    let more = json!({
        "retry": { "hedgeAfter": 0.02, "attempts": 0 },
        "timeoutConfig": { "response_header": 0.3 },
    });
    let stage = Stage::new(&[&slow.url, &bad.url], more);
    while stage.figures().hedges == 0 {
        let got = stage.get().await;
        assert!(matches!(got.status, 502 | 504), "{}", got.text);
    }
    assert_eq!(stage.figures().active, 0);
}

const CHAT: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
const SPEECH: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";

#[tokio::test]
async fn another_model_is_asked_before_the_first_byte() {
    let limited = "HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    let error = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    for first in [
        Does::Says(limited),
        BUSY,
        Does::SaysAndCloses(error),
        Does::SaysAndCloses(EVENTS),
        Does::SaysAndWaits(EVENTS),
        Does::Closes,
    ] {
        let bad = Upstream::start(&[first]).await;
        let good = Upstream::start(&[Does::SaysAndCloses(SPEECH)]).await;
        let more = json!({ "ai": true, "timeoutConfig": { "first_byte": 0.1 } });
        let stage = Stage::new(&[&bad.url, &good.url], more);
        while bad.count() == 0 {
            let got = stage.post(CHAT).await;
            assert_eq!((got.status, got.is_cut), (200, false), "{first:?}");
            assert!(got.text.ends_with("[DONE]\n\n"), "{first:?}: {}", got.text);
        }
        let figures = stage.figures();
        assert_eq!(figures.retries, 1, "{first:?}");
        assert_eq!(figures.output_tokens, 2 * figures.requests[2], "{first:?}");
    }
}

#[tokio::test]
async fn a_model_that_breaks_off_says_so_in_its_own_words() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let upstream = Upstream::start(&[Does::SaysAndCloses(cut)]).await;
    let stage = Stage::new(&[&upstream.url], json!({ "ai": true }));
    let got = stage.post(CHAT).await;
    assert_eq!(got.status, 200);
    assert!(got.text.contains("\"error\":"), "{}", got.text);
    let figures = stage.figures();
    assert_eq!((figures.broken, figures.estimated), (1, 1));
}

#[tokio::test]
async fn a_budget_is_given_back_by_whatever_uses_nothing() {
    let upstream = Upstream::start(&[
        Does::Says("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n"),
        BUSY,
        Does::Closes,
        Does::SaysAndCloses(SPEECH),
    ])
    .await;
    let ai = json!({ "outputReserve": 95, "budget": { "tokensPerDay": 100 } });
    let stage = Stage::new(&[&upstream.url], json!({ "ai": ai }));
    // The connection that was lost had served before: the question goes once more.
    for status in [400, 503, 200] {
        assert_eq!(stage.post(CHAT).await.status, status);
    }
    // Seven are spent, so the reserve and the question are too many.
    let got = stage.post(CHAT).await;
    assert_eq!(got.status, 429, "{}", got.text);
    assert!(got.text.contains("tokens per day"), "{}", got.text);
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn who_leaves_while_a_model_thinks_pays_for_the_question() {
    let upstream = Upstream::start(&[Does::Waits]).await;
    let stage = Stage::new(&[&upstream.url], json!({ "ai": true }));
    let (client, leave) = stage.restless();
    let mut client = client.with(&[CHAT]);
    let fields = format!("content-length: {}\r\n", CHAT.len());
    let asking = stage.ask("POST", &fields, &mut client);
    let leaving = async {
        upstream.until(|it| it.count() == 1).await;
        leave.send(true).unwrap();
    };
    tokio::join!(asking, leaving);
    let figures = stage.figures();
    assert!(figures.input_tokens > 0);
    assert_eq!((figures.output_tokens, figures.left), (0, 1));
}
