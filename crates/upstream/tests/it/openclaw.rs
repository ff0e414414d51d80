//! Links to a scripted `OpenClaw` gateway.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::json;
use testkit::openclaw::{Behaviour, FakeGateway, Next};
use upstream::ws_agent::{
    AgentAuth, Answer, AnswerKind, DataEncoding, Outcome, Peer, Secret, Target,
};

use crate::stage::Stage;

fn gateway(next: impl Into<VecDeque<Next>>, echoes: bool) -> FakeGateway {
    FakeGateway::start(Behaviour {
        next: next.into(),
        echoes,
        ..Behaviour::default()
    })
    .unwrap()
}

fn target(gateway: &FakeGateway) -> Target {
    Target {
        url: gateway.url().into(),
        peer: Peer::OpenClaw,
        auth: AgentAuth::Token(Secret::new("secret")),
        tls_fingerprint: None,
        agent_id: "main".into(),
        deltas: false,
        acks: false,
        data_encoding: DataEncoding::Auto,
        dial_timeout: Duration::from_secs(10),
        try_timeout: Duration::from_secs(30),
        in_flight: 256,
        idle_timeout: Duration::ZERO,
    }
}

fn keys(gateway: &FakeGateway) -> Vec<String> {
    gateway
        .ledger()
        .runs
        .into_iter()
        .map(|run| run.key)
        .collect()
}

/// The answers after so many have come.
fn answers(stage: &Stage, count: usize) -> Vec<Answer> {
    let heard = stage
        .ear
        .wait("the answers", |heard| heard.answers.len() >= count);
    heard.answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_starts_a_run_and_its_end_is_the_answer() {
    let gateway = gateway([], true);
    let stage = Stage::new();
    let link = stage.connect(&target(&gateway));
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    let answer = answers(&stage, 1).remove(0);
    assert_eq!((&*answer.client, &*answer.in_reply_to), ("c", "m1"));
    assert_eq!((answer.kind, &*answer.data), (AnswerKind::Final, "hello"));
    let run = gateway.ledger().runs.remove(0);
    assert_eq!((&*run.key, &*run.session), ("c:m1", "agent:main:c"));
    assert_eq!(run.text, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_whose_fate_is_unknown_runs_once() {
    for cause in [Next::DropUnanswered, Next::DropBefore] {
        let gateway = gateway([cause], true);
        let stage = Stage::new();
        let link = stage.connect(&target(&gateway));
        let outcome = stage.deliver(link, "m1").await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
        stage.up(link, 2);
        assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
        assert_eq!(answers(&stage, 1).len(), 1);
        assert_eq!(keys(&gateway), ["c:m1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_gateway_has_forgotten_the_key_but_runs_the_message_once() {
    let gateway = gateway([Next::Silent], false);
    let stage = Stage::new();
    let link = stage.connect(&target(&gateway));
    let started = async {
        stage.until(|| gateway.ledger().runs.len() == 1).await;
        gateway.restart();
    };
    let (outcome, ()) = tokio::join!(stage.deliver(link, "m1"), started);
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    stage.up(link, 2);
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    assert_eq!(keys(&gateway), ["c:m1"]);

    // One that has lost the transcript, too, can't know it, nor the one that has no answer yet.
    gateway.behave(|behaviour| behaviour.next.push_back(Next::DropUnanswered));
    let outcome = stage.deliver(link, "m2").await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    gateway.forget();
    stage.up(link, 3);
    gateway.drop_connections();
    stage.agents.wake(link);
    stage.up(link, 4);
    assert_eq!(stage.deliver(link, "m2").await, Outcome::Delivered);
    assert_eq!(keys(&gateway), ["c:m1", "c:m2", "c:m1", "c:m2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_that_was_missed_is_found_in_the_transcript() {
    let gateway = gateway([], false);
    let stage = Stage::new();
    let link = stage.connect(&target(&gateway));
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    gateway.finish_unheard("c:m1", "missed").unwrap();
    gateway.broadcast("presence", &json!({}));
    assert_eq!(&*answers(&stage, 1)[0].data, "missed");

    assert_eq!(stage.deliver(link, "m2").await, Outcome::Delivered);
    gateway.drop_connections();
    stage.ear.wait("the end", |heard| heard.downs.len() == 1);
    gateway.finish("c:m2", "meanwhile").unwrap();
    stage.agents.wake(link);
    assert_eq!(&*answers(&stage, 2)[1].data, "meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_a_busy_session_are_answered_each_and_in_order() {
    let gateway = gateway([], false);
    let stage = Stage::new();
    let link = stage.connect(&target(&gateway));
    for name in ["m1", "m2", "m3"] {
        assert_eq!(stage.deliver(link, name).await, Outcome::Delivered);
    }
    for name in ["m1", "m2", "m3"] {
        gateway.finish(&format!("c:{name}"), name).unwrap();
    }
    let answers = answers(&stage, 3);
    let told: Vec<_> = answers
        .iter()
        .map(|it| (&*it.message_id, &*it.in_reply_to, &*it.data))
        .collect();
    let expected = [
        ("c:m1#final", "m1", "m1"),
        ("c:m2#final", "m2", "m2"),
        ("c:m3#final", "m3", "m3"),
    ];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_gateway_gets_what_it_lost_and_goes_on_with_the_rest() {
    let gateway = gateway([Next::Unwritten], false);
    let stage = Stage::new();
    let link = stage.connect(&target(&gateway));
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    gateway.kill();
    stage.up(link, 2);
    stage.until(|| gateway.ledger().runs.len() == 2).await;
    assert_eq!(keys(&gateway), ["c:m1", "c:m1"]);

    gateway.kill();
    stage.up(link, 3);
    gateway.finish("c:m1", "resumed").unwrap();
    let answer = answers(&stage, 1).remove(0);
    assert_eq!((&*answer.in_reply_to, &*answer.data), ("m1", "resumed"));
    assert_eq!(keys(&gateway), ["c:m1", "c:m1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_told_apart() {
    let after_ms = Some(5);
    let gateway = gateway(
        [
            Next::Busy { after_ms },
            Next::Invalid,
            Next::Twice,
            Next::InFlight,
            Next::Fail,
        ],
        true,
    );
    let stage = Stage::new();
    let link = stage.connect(&target(&gateway));
    let outcome = stage.deliver(link, "m1").await;
    let after = Some(Duration::from_millis(5));
    assert!(matches!(&outcome, Outcome::Retryable { after: told, .. } if *told == after));
    let outcome = stage.deliver(link, "m1").await;
    assert!(matches!(outcome, Outcome::Final { .. }), "{outcome:?}");
    for message_id in ["m1", "m2", "m3"] {
        let outcome = stage.deliver(link, message_id).await;
        assert_eq!(outcome, Outcome::Delivered, "{message_id}");
    }
    let kinds: Vec<AnswerKind> = answers(&stage, 3).iter().map(|it| it.kind).collect();
    assert_eq!(
        kinds,
        [AnswerKind::Final, AnswerKind::Final, AnswerKind::Failed]
    );
    assert_eq!(keys(&gateway), ["c:m1", "c:m2", "c:m3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_that_is_not_approved_waits_and_is_named() {
    let gateway = FakeGateway::start(Behaviour {
        pairing: true,
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::new();
    let link = stage.agents.link(&target(&gateway));
    stage.agents.wake(link);
    let ledger = gateway
        .wait("the request", |ledger| !ledger.pending.is_empty())
        .unwrap();
    assert_eq!(ledger.pending[0].0, "pair-1");
    assert!(!stage.agents.is_up(link));
    // An approval does not help a connection that was refused.
    gateway.approve("pair-1").unwrap();
    assert_eq!(gateway.ledger().greeted, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_gateway_is_left() {
    let gateway = FakeGateway::start(Behaviour {
        ticks: false,
        tick: Duration::from_secs(1),
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::new();
    let _ = stage.connect(&target(&gateway));
    let ledger = gateway
        .wait("the close", |ledger| !ledger.closes.is_empty())
        .unwrap();
    assert_eq!(ledger.closes, [Some(4000)]);
}
