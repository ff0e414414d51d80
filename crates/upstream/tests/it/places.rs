//! More links than connections.

use std::time::Duration;

use testkit::stratix_agent::{Behaviour, StratixAgent};
use upstream::ws_agent::Outcome;

use crate::stage::{Stage, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_recently_used_idle_link_makes_room() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::with(|config| config.connections_max = 2);
    let first = stage.connect(&target(&agent, "/1"));
    let second = stage.connect(&target(&agent, "/2"));
    // The order of use is in milliseconds.
    tokio::time::timeout(Duration::from_millis(5), std::future::pending::<()>())
        .await
        .unwrap_err();
    assert_eq!(stage.deliver(first, "m1").await, Outcome::Delivered);

    let third = stage.connect(&target(&agent, "/3"));
    assert!(stage.agents.is_up(first));
    assert!(!stage.agents.is_up(second));
    assert!(stage.agents.is_up(third));
    let ledger = agent.ledger();
    assert_eq!(ledger.closes, [("/2".to_owned(), Some(1000))]);
    assert_eq!(ledger.most_open, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_waits_its_turn_while_all_others_are_busy() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::with(|config| config.connections_max = 1);
    let mut busy = target(&agent, "/1");
    busy.acks = true;
    let first = stage.connect(&busy);
    let outcome = stage.deliver(first, "m1");
    let others = async {
        agent
            .wait("the message", |ledger| ledger.received.len() == 1)
            .unwrap();
        let second = stage.agents.link(&target(&agent, "/2"));
        stage.agents.wake(second);
        assert!(!stage.agents.is_up(second));
        stage.until(|| stage.agents.totals().waiting == 1).await;
        let ack = serde_json::json!({"type": 2, "action": "ack", "messageId": "m1"});
        agent.say("/1", &ack).unwrap();
        stage.up(second, 1);
    };
    let (outcome, ()) = tokio::join!(outcome, others);
    assert_eq!(outcome, Outcome::Delivered);
    assert_eq!(agent.ledger().most_open, 1);
}
