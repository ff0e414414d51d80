use admin::control::RelayOperator;
use bus::{Bus, MemoryBus, MemoryConfig};
use lifecycle::Clock;
use protocol::stratix::{self, Level, Message};
use router::relay::Submission;
use tokio::sync::oneshot;

use super::*;
use crate::assembly::relay::{self, Running};
use crate::config::Config;

const DEADLINE: Duration = Duration::from_secs(20);

/// A relay whose only agent is not there, with room for two messages.
async fn stuck(folder: &std::path::Path) -> (Running, Desk) {
    let config = format!(
        "data_dir: {}\nrelay:\n  buffer: {{ size: 2 }}\n  routes:\n    \
         - {{ client_id_prefix: c-, agent: \"ws://127.0.0.1:1/ws?token=canary\", \
         protocol: stratix }}\n",
        folder.display()
    );
    let config = Config::parse(&config).unwrap_or_else(|errors| panic!("{errors}"));
    let bus = Bus::Memory(Arc::new(MemoryBus::new(&MemoryConfig::default())));
    let running = Box::pin(relay::start(&config, &bus, Clock::start())).await;
    let running = running.unwrap().expect("a relay with routes is on");
    let desk = Desk {
        relay: Arc::clone(&running.relay),
        tasks: Tasks::new(),
    };
    (running, desk)
}

/// Waits until a message of this client is taken and waits for its agent.
async fn submit(desk: &Desk, client: &str) {
    let taking = async {
        while !is_taken(desk, client).await {
            tokio::task::yield_now().await;
        }
        while desk.summary().held.queue_depth_max != desk.summary().held.pending {
            tokio::task::yield_now().await;
        }
    };
    let taken = tokio::time::timeout(DEADLINE, taking).await;
    taken.expect("taken in time");
}

/// It is not while those that wait are just being tried, so that none may be dropped.
async fn is_taken(desk: &Desk, client: &str) -> bool {
    let (told, when_told) = oneshot::channel();
    let submission = Submission {
        client: client.into(),
        message: Message {
            message_id: "m1".to_owned(),
            data: "hello".to_owned(),
            ..Message::default()
        },
        priority: stratix::Priority::Bulk,
        level: Some(Level::Durable),
        traceparent: None,
    };
    let tell = Box::new(move |what: Result<_, _>| {
        let _gone = told.send(what.is_ok());
    });
    desk.relay.submit(submission, tell);
    when_told.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_dead_letters_and_decide_what_becomes_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (running, desk) = Box::pin(stuck(folder.path())).await;
    for client in ["c-1", "c-2", "c-3", "c-4"] {
        submit(&desk, client).await;
    }
    let letters = desk.dead_letters(0, None, 10);
    let [first, second] = &letters[..] else {
        panic!("two were dropped for want of room: {letters:?}");
    };
    assert!(first.client_id.starts_with("c-"), "{first:?}");
    assert_eq!(first.priority, "bulk");
    assert!(first.reason.contains("buffer"), "{}", first.reason);
    assert!(first.accepted_at <= first.dead_at && first.size > 0);
    assert_eq!(desk.dead_letters(0, Some(&second.client_id), 10).len(), 1);
    assert_eq!(desk.dead_letters(first.id, None, 10).len(), 1);
    let message = desk.dead_message(first.id).await.unwrap().unwrap();
    assert_eq!(message["data"], "hello");
    assert_eq!(message["clientId"], *first.client_id);
    assert_eq!(desk.dead_message(second.id + 99).await, Ok(None));

    assert_eq!(desk.replay(first.id).await, Ok(true));
    assert_eq!(desk.replay(first.id).await, Ok(false));
    assert!(desk.discard(second.id));
    assert!(!desk.discard(second.id));

    let summary = desk.summary();
    assert_eq!(summary.messages.durable, 4);
    assert_eq!(summary.messages.dead.dropped, 2);
    assert_eq!(summary.messages.replayed, 1);
    assert_eq!(summary.messages.forgotten, 1);
    assert_eq!((summary.held.pending, summary.held.dead_letters), (3, 0));
    assert!(summary.outbox.appended == 4 && summary.outbox.failed.is_none());
    let agents = desk.agents();
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0].url, "ws://127.0.0.1:1/ws");
    assert_eq!(agents[0].queue_depth, 3);
    running.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_explained_without_the_secrets_of_its_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (running, desk) = Box::pin(stuck(folder.path())).await;
    let route = desk.route("c-1").await.unwrap();
    assert_eq!(route.agent.as_deref(), Some("ws://127.0.0.1:1/ws"));
    let winner = route.winner.as_ref().expect("a rule matches");
    assert!(winner.rule.contains("relay.routes[0]"), "{winner:?}");
    let none = desk.route("d-1").await.unwrap();
    assert_eq!((none.agent, none.winner), (None, None));
    submit(&desk, "c-1").await;
    let shown = format!("{route:?} {:?}", desk.agents());
    assert!(!shown.contains("canary"), "{shown}");
    running.stop(Duration::from_secs(5)).await;
}
