//! Agents that are away, slow or refuse; full buffers; restarts.

use std::time::Duration;

use protocol::stratix::Level;
use router::relay::{Overflow, Refused, Stage};
use tempfile::tempdir;
use testkit::stratix_agent::{Behaviour, StratixAgent};

use crate::scene::{Scene, settings, table, target, told, until};

/// An agent that is not there, on a port of its own.
fn absent() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("ws://{}/a", socket.local_addr().unwrap())
}

fn refusing() -> StratixAgent {
    StratixAgent::start(Behaviour {
        acks: true,
        refusal: Some((503, "not now".to_owned())),
        ..Behaviour::default()
    })
    .unwrap()
}

fn data(agent: &StratixAgent) -> Vec<String> {
    let received = agent.ledger().received;
    received.into_iter().map(|one| one.data).collect()
}

#[test]
fn what_waits_for_an_agent_that_is_away_arrives_in_order_when_it_is_back() {
    let (folder, agent) = (tempdir().unwrap(), refusing());
    let mut settings = settings(table(&[("", target(&agent.url("/a")))]));
    // Nothing is kept in memory: everything is read back from the log.
    settings.held_bytes_max = 0;
    let scene = Scene::start(folder.path(), settings);
    for n in 0..50 {
        scene.send_safely("c", &n.to_string(), &format!("text {n}"));
    }
    until("a refused connection", || {
        !agent.ledger().requests.is_empty()
    });
    assert_eq!(scene.relay.gauges().pending, 50);
    assert_eq!(scene.relay.gauges().held_bytes, 0);
    agent.behave(|behaviour| behaviour.refusal = None);
    until("everything delivered", || {
        scene.relay.counters().delivered.value() == 50
    });
    let expected: Vec<String> = (0..50).map(|n| format!("text {n}")).collect();
    assert_eq!(data(&agent), expected);
    // Waiting spends no tries.
    assert_eq!(scene.relay.status("c", "0").unwrap().attempts, 1);
    scene.stop();
}

#[test]
fn a_restart_goes_on_where_the_process_ended() {
    let folder = tempdir().unwrap();
    let scene = Scene::start(folder.path(), settings(table(&[("", target(&absent()))])));
    for n in 0..20 {
        scene.send_safely("c", &n.to_string(), &format!("text {n}"));
    }
    scene.stop();
    let agent = StratixAgent::start(Behaviour {
        acks: true,
        ..Behaviour::default()
    })
    .unwrap();
    // The route has changed meanwhile.
    let rules = table(&[("", target(&agent.url("/a")))]);
    let scene = Scene::start(folder.path(), settings(rules));
    assert_eq!(scene.relay.counters().recovered.value(), 20);
    // A client that never heard of its acknowledgement sends again.
    assert!(scene.send_safely("c", "19", "text 19").is_duplicate);
    scene.send_safely("c", "20", "text 20");
    until("everything delivered", || {
        scene.relay.counters().delivered.value() == 21
    });
    let expected: Vec<String> = (0..21).map(|n| format!("text {n}")).collect();
    assert_eq!(data(&agent), expected);
    scene.stop();
    // And nothing of it is left.
    let scene = Scene::start(
        folder.path(),
        settings(table(&[("", target(&agent.url("/a")))])),
    );
    assert_eq!(scene.relay.counters().recovered.value(), 0);
    scene.stop();
}

#[test]
fn tries_that_are_used_up_make_a_dead_letter_that_can_be_replayed() {
    let folder = tempdir().unwrap();
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let mut silent = target(&agent.url("/a"));
    silent.try_timeout = Duration::from_millis(50);
    let mut settings = settings(table(&[("", silent)]));
    settings.level = Level::Delivered;
    let scene = Scene::start(folder.path(), settings.clone());
    let Err(Refused::Failed(reason)) = told(&scene.send("c", "1", "hello")) else {
        panic!("the message is not delivered");
    };
    assert!(reason.contains("4 tries"), "{reason}");
    assert_eq!(data(&agent).len(), 4, "one try and three more");
    let letters = scene.relay.dead_letters(0, None, 10);
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    let message = scene.block_on(scene.relay.dead_message(letter)).unwrap();
    assert_eq!((message.data.as_str(), &*letter.client), ("hello", "c"));
    let (channel, notice) = scene.heard.all().pop().unwrap();
    assert_eq!(channel, "agent.c");
    assert_eq!(notice["action"], "error");
    assert_eq!(notice["messageId"], "1");
    scene.stop();
    // It outlives a restart.
    agent.behave(|behaviour| behaviour.acks = true);
    let scene = Scene::start(folder.path(), settings);
    let letter = scene.relay.dead_letters(0, Some("c"), 10).remove(0);
    assert!(scene.relay.dead_letters(0, Some("d"), 10).is_empty());
    scene.block_on(scene.relay.replay(letter.id.seq)).unwrap();
    until("delivered", || {
        scene.relay.counters().delivered.value() == 1
    });
    assert!(scene.relay.dead_letters(0, None, 10).is_empty());
    assert_eq!(
        scene.relay.status("c", "1").map(|status| status.stage),
        Some(Stage::Delivered)
    );
    assert!(!scene.relay.discard(letter.id.seq));
    scene.stop();
}

#[test]
fn a_full_buffer_drops_the_oldest_and_says_so() {
    let folder = tempdir().unwrap();
    let mut settings = settings(table(&[("", target(&absent()))]));
    settings.buffer_size = 5;
    let scene = Scene::start(folder.path(), settings);
    for n in 0..8 {
        scene.send_safely(&format!("c{n}"), "1", "text");
    }
    assert_eq!(scene.relay.gauges().pending, 5);
    assert_eq!(scene.relay.counters().dead_dropped.value(), 3);
    let dropped: Vec<String> = scene
        .relay
        .dead_letters(0, None, 10)
        .iter()
        .map(|letter| letter.client.to_string())
        .collect();
    assert_eq!(dropped, ["c0", "c1", "c2"]);
    let told: Vec<String> = scene
        .heard
        .all()
        .into_iter()
        .map(|(channel, _)| channel)
        .collect();
    assert_eq!(told, ["agent.c0", "agent.c1", "agent.c2"]);
    scene.stop();
}

#[test]
fn a_full_buffer_refuses_what_is_new_where_it_is_told_to() {
    let folder = tempdir().unwrap();
    let mut settings = settings(table(&[("", target(&absent()))]));
    settings.buffer_size = 2;
    settings.overflow = Overflow::Reject;
    let scene = Scene::start(folder.path(), settings);
    scene.send_safely("c", "1", "text");
    scene.send_safely("c", "2", "text");
    assert_eq!(told(&scene.send("c", "3", "text")), Err(Refused::Full));
    assert_eq!(scene.relay.gauges().pending, 2);
    scene.stop();
}

#[test]
fn what_waits_moves_when_its_route_does() {
    let folder = tempdir().unwrap();
    let agent = StratixAgent::start(Behaviour {
        acks: true,
        ..Behaviour::default()
    })
    .unwrap();
    let scene = Scene::start(folder.path(), settings(table(&[("", target(&absent()))])));
    for n in 0..10 {
        scene.send_safely("c", &n.to_string(), &format!("text {n}"));
    }
    scene
        .relay
        .reconfigure(settings(table(&[("", target(&agent.url("/a")))])));
    until("everything delivered", || {
        scene.relay.counters().delivered.value() == 10
    });
    let expected: Vec<String> = (0..10).map(|n| format!("text {n}")).collect();
    assert_eq!(data(&agent), expected);
    scene.stop();
}

#[test]
fn what_travels_when_its_route_moves_stays_before_what_waits() {
    let folder = tempdir().unwrap();
    let silent = StratixAgent::start(Behaviour::default()).unwrap();
    let agent = StratixAgent::start(Behaviour {
        acks: true,
        ..Behaviour::default()
    })
    .unwrap();
    let mut first = target(&silent.url("/a"));
    first.try_timeout = Duration::from_millis(300);
    let scene = Scene::start(folder.path(), settings(table(&[("", first)])));
    for n in 0..5 {
        scene.send_safely("c", &n.to_string(), &format!("text {n}"));
    }
    until("the first is on its way", || !data(&silent).is_empty());
    let moved = settings(table(&[("", target(&agent.url("/a")))]));
    scene.relay.reconfigure(moved);
    for n in 5..10 {
        scene.send_safely("c", &n.to_string(), &format!("text {n}"));
    }
    until("everything delivered", || {
        scene.relay.counters().delivered.value() == 10
    });
    let expected: Vec<String> = (0..10).map(|n| format!("text {n}")).collect();
    assert_eq!(data(&agent), expected);
    assert_eq!(scene.relay.gauges().pending, 0);
    assert_eq!(scene.relay.lanes().len(), 1, "the old lane is gone");
    scene.stop();
}

#[test]
fn what_waits_without_a_route_is_a_dead_letter() {
    let folder = tempdir().unwrap();
    let scene = Scene::start(folder.path(), settings(table(&[("", target(&absent()))])));
    scene.send_safely("c", "1", "text");
    scene.relay.reconfigure(settings(table(&[])));
    until("given up", || {
        let status = scene.relay.status("c", "1");
        status.is_some_and(|status| matches!(status.stage, Stage::Dead { .. }))
    });
    assert_eq!(scene.relay.counters().dead_unroutable.value(), 1);
    assert_eq!(scene.relay.gauges().pending, 0);
    assert_eq!(told(&scene.send("c", "2", "text")), Err(Refused::NoRoute));
    // Whoever sends it again hears what became of it.
    scene
        .relay
        .reconfigure(settings(table(&[("", target(&absent()))])));
    assert!(matches!(
        told(&scene.send("c", "1", "text")),
        Err(Refused::GivenUp(_))
    ));
    scene.stop();
}

#[test]
fn nobody_is_told_that_a_message_was_accepted_before_there_is_room() {
    let folder = tempdir().unwrap();
    let mut settings = settings(table(&[("", target(&absent()))]));
    settings.buffer_size = 1;
    settings.overflow = Overflow::Reject;
    settings.level = Level::Accepted;
    let scene = Scene::start(folder.path(), settings);
    scene.send_safely("c", "1", "text");
    assert_eq!(told(&scene.send("c", "2", "text")), Err(Refused::Full));
    scene.stop();
}

#[test]
fn an_agent_that_dies_between_receipt_and_answer_gets_the_message_again() {
    let folder = tempdir().unwrap();
    let agent = StratixAgent::start(Behaviour {
        acks: true,
        delay: Duration::from_millis(50),
        close_after: Some(1),
        ..Behaviour::default()
    })
    .unwrap();
    let scene = Scene::start(
        folder.path(),
        settings(table(&[("", target(&agent.url("/a")))])),
    );
    scene.send_safely("c", "1", "text");
    until("the connection was lost", || agent.ledger().ended > 0);
    agent.behave(|behaviour| behaviour.close_after = None);
    until("delivered", || {
        scene.relay.counters().delivered.value() == 1
    });
    let received = agent.ledger().received;
    assert!(received.len() >= 2, "{received:?}");
    assert!(received.iter().all(|one| one.message_id == "1"));
    scene.stop();
}
