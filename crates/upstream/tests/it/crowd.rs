//! Very many links.

use std::time::{Duration, Instant};

use testkit::PATIENCE;
use testkit::stratix_agent::{Behaviour, StratixAgent};

use crate::stage::{Stage, delivery, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_links_connect_deliver_and_close() {
    const LINKS: usize = 1000;
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    let links: Vec<_> = (0..LINKS)
        .map(|number| stage.agents.link(&target(&agent, &format!("/{number}"))))
        .collect();
    for &link in &links {
        stage.agents.wake(link);
    }
    stage
        .ear
        .wait("all links coming up", |heard| heard.ups.len() == LINKS);
    for (number, &link) in links.iter().enumerate() {
        let client = format!("c{number}");
        let outcome = stage.agents.deliver(link, delivery(&client, "m", "hello"));
        tokio::time::timeout(PATIENCE, outcome).await.unwrap();
    }
    agent
        .wait("all messages", |ledger| ledger.received.len() == LINKS)
        .unwrap();
    let ledger = agent.ledger();
    assert!(
        ledger
            .received
            .iter()
            .all(|one| one.path[1..] == one.client[1..])
    );
    let began = Instant::now();
    stage.agents.close(PATIENCE).await;
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(1));
    assert_eq!(stage.agents.totals().up, 0);
    assert_eq!(ledger.most_open, LINKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_at_rest_cost_no_task() {
    let agent = StratixAgent::start(Behaviour::default()).unwrap();
    let stage = Stage::new();
    for number in 0..100_000 {
        stage.agents.link(&target(&agent, &format!("/{number}")));
    }
    assert_eq!(stage.agents.totals().links, 100_000);
    // The one of the schedule.
    assert_eq!(stage.tasks.running(), 1);
    assert!(agent.ledger().requests.is_empty());
}
