//! The ordinary way.

use protocol::stratix::{Level, Priority};
use router::relay::{Refused, Stage};
use tempfile::tempdir;
use testkit::stratix_agent::{Behaviour, StratixAgent};

use crate::scene::{Scene, settings, table, target, told, until};

fn acking() -> Behaviour {
    Behaviour {
        acks: true,
        ..Behaviour::default()
    }
}

fn ids(agent: &StratixAgent, client: &str) -> Vec<String> {
    agent
        .ledger()
        .received
        .into_iter()
        .filter(|received| received.client == client)
        .map(|received| received.message_id)
        .collect()
}

#[test]
fn messages_are_acknowledged_delivered_in_order_and_settled() {
    let (folder, agent) = (tempdir().unwrap(), StratixAgent::start(acking()).unwrap());
    let rules = table(&[("client-", target(&agent.url("/a")))]);
    let scene = Scene::start(folder.path(), settings(rules));
    let sent: Vec<String> = (0..200).map(|n| format!("m{n:03}")).collect();
    let receipts: Vec<_> = sent
        .iter()
        .flat_map(|id| ["client-1", "client-2"].map(|client| scene.send(client, id, "text")))
        .collect();
    for receipt in &receipts {
        assert_eq!(told(receipt).unwrap().level, Level::Durable);
    }
    until("everything delivered", || {
        scene.relay.counters().delivered.value() == 400
    });
    assert_eq!(ids(&agent, "client-1"), sent);
    assert_eq!(ids(&agent, "client-2"), sent);
    assert_eq!(scene.relay.gauges().pending, 0);
    let status = scene.relay.status("client-1", "m007").unwrap();
    assert_eq!((status.stage, status.attempts), (Stage::Delivered, 1));
    scene.stop();
}

#[test]
fn who_wants_to_hear_of_the_delivery_waits_for_it() {
    let (folder, agent) = (tempdir().unwrap(), StratixAgent::start(acking()).unwrap());
    let rules = table(&[("", target(&agent.url("/a")))]);
    let scene = Scene::start(folder.path(), settings(rules));
    let level = Some(Level::Delivered);
    let receipt = scene.send_as("c", "1", "text", Priority::Control, level);
    assert_eq!(told(&receipt).unwrap().level, Level::Delivered);
    assert_eq!(ids(&agent, "c"), ["1"]);
    let level = Some(Level::Accepted);
    let receipt = scene.send_as("c", "2", "text", Priority::Bulk, level);
    assert!(told(&receipt).is_ok());
    scene.stop();
}

#[test]
fn a_message_sent_again_is_delivered_once_and_acknowledged_twice() {
    let (folder, agent) = (tempdir().unwrap(), StratixAgent::start(acking()).unwrap());
    let rules = table(&[("", target(&agent.url("/a")))]);
    let scene = Scene::start(folder.path(), settings(rules));
    let first = scene.send("c", "1", "text");
    let at_once = scene.send("c", "1", "text");
    assert!(!told(&first).unwrap().is_duplicate);
    assert!(told(&at_once).unwrap().is_duplicate);
    until("delivered", || {
        scene.relay.counters().delivered.value() == 1
    });
    let later = scene.send_safely("c", "1", "text");
    assert!(later.is_duplicate);
    assert_eq!(later.level, Level::Delivered);
    // The same id of another client is another message.
    assert!(!scene.send_safely("d", "1", "text").is_duplicate);
    until("delivered", || {
        scene.relay.counters().delivered.value() == 2
    });
    assert_eq!(ids(&agent, "c"), ["1"]);
    scene.stop();
}

#[test]
fn what_can_not_be_taken_is_refused_with_the_reason() {
    let (folder, agent) = (tempdir().unwrap(), StratixAgent::start(acking()).unwrap());
    let rules = table(&[("client-1-10", target(&agent.url("/a")))]);
    let mut settings = settings(rules);
    settings.rates.client = Some(policy::Rate::new(0.01, 2).unwrap());
    let scene = Scene::start(folder.path(), settings);
    let refused = |client: &str, id: &str, data: &str| told(&scene.send(client, id, data));
    assert_eq!(refused("other", "1", "x"), Err(Refused::NoRoute));
    assert_eq!(refused("client-11", "1", "x"), Err(Refused::NoRoute));
    assert_eq!(refused("", "1", "x"), Err(Refused::ClientId));
    assert!(matches!(
        refused("client-2", "a\nb", "x"),
        Err(Refused::MessageId { .. })
    ));
    assert!(matches!(
        refused("client-2", "1", &"x".repeat(100_001)),
        Err(Refused::TooLarge { .. })
    ));
    assert_eq!(refused("client-2\n", "1", "x"), Err(Refused::ClientId));
    assert!(refused("client-3", "1", "x").is_ok());
    assert!(refused("client-3", "2", "x").is_ok());
    assert_eq!(refused("client-3", "3", "x"), Err(Refused::TooMany));
    // A message that was refused may come again.
    assert_eq!(scene.relay.status("client-3", "3"), None);
    assert_eq!(scene.relay.counters().failed(), 7);
    scene.stop();
}
