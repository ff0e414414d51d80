//! One link: lazy, shared, idle, bounded.

use std::time::Duration;

use serde_json::json;
use testkit::PATIENCE;
use testkit::stratix_agent::{Behaviour, StratixAgent};
use upstream::ws_agent::{AgentAuth, AnswerKind, LinkState, Outcome, Secret};

use crate::stage::{Stage, delivery, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_dialled_when_asked_for_and_shared_by_equal_targets() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let first = stage.agents.link(&target(&agent, "/a"));
    let second = stage.agents.link(&target(&agent, "/a"));
    assert_eq!(first, second);
    assert!(!stage.agents.is_up(first));
    assert_eq!(stage.agents.figures()[0].state, LinkState::Resting);
    assert!(agent.ledger().requests.is_empty());
    assert!(matches!(
        stage.deliver(first, "m0").await,
        Outcome::NotSent { .. }
    ));

    stage.connect(&target(&agent, "/a"));
    stage.agents.wake(first);
    assert_eq!(stage.deliver(first, "m1").await, Outcome::Delivered);
    assert_eq!(stage.deliver(second, "m2").await, Outcome::Delivered);
    agent
        .wait("two messages", |ledger| ledger.received.len() == 2)
        .unwrap();
    let ledger = agent.ledger();
    assert_eq!(ledger.requests.len(), 1);
    assert_eq!(ledger.requests[0].header("x-forwarded-for"), None);
    assert_eq!(ledger.requests[0].header("sec-websocket-extensions"), None);
    let ids: Vec<_> = ledger.received.iter().map(|one| &*one.message_id).collect();
    assert_eq!(ids, ["m1", "m2"]);
    assert_eq!(stage.agents.totals().delivered, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_shown_as_a_bearer_token() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.auth = AgentAuth::Token(Secret::new("s3cret"));
    stage.connect(&target);
    let request = &agent.ledger().requests[0];
    assert_eq!(request.header("authorization"), Some("Bearer s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_to_the_listener() {
    let agent = StratixAgent::start(Behaviour {
        echoes: true,
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::new();
    let link = stage.connect(&target(&agent, "/a"));
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    let heard = stage.ear.wait("the echo", |heard| heard.answers.len() == 1);
    assert_eq!(&*heard.answers[0].message_id, "re-m1");

    let control = json!({"type": 2, "clientId": "c", "action": "typing"});
    agent.say("/a", &control).unwrap();
    let heard = stage
        .ear
        .wait("the control message", |heard| heard.answers.len() == 2);
    assert_eq!(heard.answers[1].kind, AnswerKind::Control);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_are_awaited_where_the_target_says_so() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.acks = true;
    let link = stage.connect(&target);
    let waiting = stage.deliver(link, "m1");
    tokio::pin!(waiting);
    tokio::select! {
        outcome = &mut waiting => panic!("{outcome:?} without an acknowledgement"),
        () = until_received(&agent, 1) => {}
    }
    let ack = json!({"type": 2, "action": "ack", "clientId": "c", "messageId": "m1"});
    agent.say("/a", &ack).unwrap();
    assert_eq!(waiting.await, Outcome::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_link_is_closed_and_can_be_woken() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.idle_timeout = Duration::from_millis(50);
    let link = stage.connect(&target);
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    agent
        .wait("the close frame", |ledger| {
            ledger.closes == [("/a".to_owned(), Some(1000))]
        })
        .unwrap();
    stage.ear.wait("the end", |heard| heard.downs.len() == 1);
    stage.agents.wake(link);
    stage.up(link, 2);
    assert_eq!(agent.ledger().requests.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_agent_is_pinged_and_a_dead_one_is_noticed() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::with(|config| config.keepalive = Duration::from_millis(100));
    let link = stage.connect(&target(&agent, "/a"));
    agent
        .wait("three pings", |ledger| ledger.pings >= 3)
        .unwrap();
    assert!(stage.agents.is_up(link));
    agent.behave(|behaviour| behaviour.answers_control = false);
    let heard = stage.ear.wait("the end", |heard| heard.downs.len() == 1);
    assert_eq!(heard.downs[0].1, "no sign of life from the agent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_was_quiet_for_long_is_not_stalled() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::with(|config| {
        config.keepalive = Duration::from_millis(100);
        config.write_stall = Duration::from_millis(50);
    });
    let link = stage.connect(&target(&agent, "/a"));
    agent
        .wait("three pings", |ledger| ledger.pings >= 3)
        .unwrap();
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
    assert_eq!(stage.ear.wait("nothing", |_| true).downs, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_closes_with_1009() {
    let agent = StratixAgent::start(Behaviour {
        greeting_len: Some(2000),
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::with(|config| config.message_max = 1000);
    let link = stage.agents.link(&target(&agent, "/a"));
    stage.agents.wake(link);
    agent
        .wait("the close frame", |ledger| {
            ledger.closes.first() == Some(&("/a".to_owned(), Some(1009)))
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_queue_is_bounded() {
    let agent = StratixAgent::start(Behaviour {
        reads: false,
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::with(|config| config.write_queue_bytes = 256 * 1024);
    let link = stage.connect(&target(&agent, "/a"));
    let large = "x".repeat(200 * 1024);
    let mut open = Vec::new();
    let mut refused = None;
    for number in 0..200 {
        let message = delivery("c", &format!("m{number}"), &large);
        let mut outcome = Box::pin(stage.agents.deliver(link, message));
        // What fits is written or waits; what does not is refused at once.
        tokio::select! {
            biased;
            outcome = &mut outcome => match outcome {
                Outcome::Delivered => continue,
                Outcome::NotSent { reason } => { refused = Some(reason); break; }
                other => panic!("{other:?}"),
            },
            () = settled() => open.push(outcome),
        }
    }
    assert_eq!(refused.as_deref(), Some("write queue is full"));

    agent.behave(|behaviour| behaviour.reads = true);
    for outcome in open {
        assert_eq!(outcome.await, Outcome::Delivered);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_are_in_flight_than_the_target_allows() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.acks = true;
    target.in_flight = 2;
    let link = stage.connect(&target);
    let mut first = Box::pin(stage.deliver(link, "m1"));
    let mut second = Box::pin(stage.deliver(link, "m2"));
    tokio::select! {
        outcome = &mut first => panic!("{outcome:?}"),
        outcome = &mut second => panic!("{outcome:?}"),
        () = until_received(&agent, 2) => {}
    }
    assert!(matches!(
        stage.deliver(link, "m3").await,
        Outcome::NotSent { reason } if reason.contains("in flight")
    ));
    // A try that nobody waits for any more makes room.
    drop(first);
    agent.behave(|behaviour| behaviour.acks = true);
    assert_eq!(stage.deliver(link, "m3").await, Outcome::Delivered);
    assert_eq!(stage.agents.totals().in_flight, 1);
}

/// Waits, without blocking the task, until so many messages have come.
async fn until_received(agent: &StratixAgent, count: usize) {
    let arrival = async {
        while agent.ledger().received.len() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arrival).await.unwrap();
}

/// Lets the pool's tasks take what is on the doorstep.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
