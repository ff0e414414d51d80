//! Connections that break, and connections that can not be made.

use std::time::Duration;

use testkit::stratix_agent::{Behaviour, StratixAgent};
use upstream::ws_agent::Outcome;

use crate::stage::{Stage, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_after_it_was_sent_is_unknown_and_the_link_comes_back() {
    let agent = StratixAgent::start(Behaviour {
        close_after: Some(1),
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.acks = true;
    let link = stage.connect(&target);
    assert!(matches!(
        stage.deliver(link, "m1").await,
        Outcome::Unknown { .. }
    ));
    // Something was outstanding, so that it reconnects by itself.
    stage.up(link, 2);
    agent.behave(|behaviour| {
        behaviour.close_after = None;
        behaviour.acks = true;
    });
    assert_eq!(stage.deliver(link, "m1").await, Outcome::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_while_the_link_is_down() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let link = stage.connect(&target(&agent, "/a"));
    agent.drop_connection("/a").unwrap();
    stage.ear.wait("the end", |heard| heard.downs.len() == 1);
    assert!(matches!(
        stage.deliver(link, "m1").await,
        Outcome::NotSent { reason } if reason == "agent is not connected"
    ));
    // Nobody has asked for it since, and nothing was outstanding.
    assert_eq!(agent.ledger().requests.len(), 1);
    stage.agents.wake(link);
    stage.up(link, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_connections_are_tried_again_ever_more_slowly() {
    let agent = StratixAgent::start(Behaviour {
        refusal: Some((403, r#"{"error":"no entry"}"#.to_owned())),
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::with(|config| {
        config.reconnect_min = Duration::from_millis(40);
        config.reconnect_max = Duration::from_secs(10);
    });
    let link = stage.agents.link(&target(&agent, "/a"));
    let began = std::time::Instant::now();
    stage.agents.wake(link);
    let heard = stage
        .ear
        .wait("four refusals", |heard| heard.downs.len() >= 4);
    // 40, 80 and 160 ms, each at least 80 % of it.
    assert!(began.elapsed() >= Duration::from_millis(224));
    let reason = &heard.downs[0].1;
    assert_eq!(
        reason,
        r#"upgrade was refused with status 403: {"error":"no entry"}"#
    );
    assert!(stage.agents.totals().failures >= 4);
    assert_eq!(stage.agents.figures()[0].last_error.as_ref(), Some(reason));

    agent.behave(|behaviour| behaviour.refusal = None);
    stage.up(link, 1);
    assert_eq!(stage.agents.figures()[0].last_error, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_answer_the_handshake_is_given_up_in_time() {
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.url = format!("ws://{}/", mute.local_addr().unwrap()).into();
    target.dial_timeout = Duration::from_millis(100);
    let link = stage.agents.link(&target);
    stage.agents.wake(link);
    let heard = stage.ear.wait("the end", |heard| !heard.downs.is_empty());
    assert_eq!(heard.downs[0].1, "no connection within 100ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_link_is_closed_when_nothing_is_in_flight() {
    let agent = StratixAgent::start(Behaviour {
        acks: true,
        delay: Duration::from_millis(100),
        ..Behaviour::default()
    })
    .unwrap();
    let stage = Stage::new();
    let mut target = target(&agent, "/a");
    target.acks = true;
    let link = stage.connect(&target);
    let outcome = stage.deliver(link, "m1");
    let released = async {
        agent
            .wait("the message", |ledger| ledger.received.len() == 1)
            .unwrap();
        stage.agents.release(link);
    };
    let (outcome, ()) = tokio::join!(outcome, released);
    assert_eq!(outcome, Outcome::Delivered);
    agent
        .wait("the close frame", |ledger| ledger.closes.len() == 1)
        .unwrap();
    stage.ear.wait("the end", |heard| heard.downs.len() == 1);
    stage.agents.close(Duration::from_secs(5)).await;
    assert!(stage.agents.figures().is_empty());
    assert_ne!(stage.agents.link(&target), link);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_waits_for_what_is_in_flight_as_long_as_it_may() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let mut acking = target(&agent, "/a");
    acking.acks = true;
    let link = stage.connect(&acking);
    let outcome = stage.deliver(link, "m1");
    let closed = async {
        agent
            .wait("the message", |ledger| ledger.received.len() == 1)
            .unwrap();
        stage.agents.close(Duration::from_millis(50)).await;
    };
    let (outcome, ()) = tokio::join!(outcome, closed);
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    agent
        .wait("the close frame", |ledger| {
            ledger.closes == [("/a".to_owned(), Some(1001))]
        })
        .unwrap();
    assert_eq!(stage.agents.totals().up, 0);
}
