//! A pool of links and what its listener has heard.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use lifecycle::{Clock, Tasks};
use testkit::PATIENCE;
use testkit::stratix_agent::StratixAgent;
use upstream::ws_agent::{
    AgentAuth, Agents, AgentsConfig, Answer, DataEncoding, Delivery, DeliveryBody, Identity,
    LinkId, Listener, Outcome, Peer, Target,
};

/// What a listener has heard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// Times each link came up.
    pub(crate) ups: HashMap<LinkId, usize>,
    /// Why links went down, in order.
    pub(crate) downs: Vec<(LinkId, String)>,
    pub(crate) answers: Vec<Answer>,
}

#[derive(Default)]
pub(crate) struct Ear {
    heard: Mutex<Heard>,
    changed: Condvar,
}

impl Ear {
    fn note(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until what was heard is as described.
    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut(&Heard) -> bool) -> Heard {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = self.heard.lock().unwrap();
        while !is_so(&heard) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what} did not happen: {heard:?}");
            heard = self.changed.wait_timeout(heard, left).unwrap().0;
        }
        heard.clone()
    }
}

impl Listener for Ear {
    fn up(&self, link: LinkId) {
        self.note(|heard| *heard.ups.entry(link).or_default() += 1);
    }

    fn down(&self, link: LinkId, reason: &str) {
        self.note(|heard| heard.downs.push((link, reason.to_owned())));
    }

    fn answer(&self, _: LinkId, answer: Answer) {
        self.note(|heard| heard.answers.push(answer));
    }
}

/// A pool with a listener.
pub(crate) struct Stage {
    pub(crate) agents: Arc<Agents>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) tasks: Tasks,
}

impl Stage {
    /// With fast reconnection.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut AgentsConfig)) -> Self {
        let identity = Arc::new(Identity::ephemeral().unwrap());
        let mut config = AgentsConfig::new(identity, 1);
        config.reconnect_min = Duration::from_millis(20);
        config.reconnect_max = Duration::from_millis(100);
        change(&mut config);
        let ear = Arc::new(Ear::default());
        let listener = Arc::clone(&ear) as Arc<dyn Listener>;
        let tasks = Tasks::new();
        let agents = Agents::new(config, tasks.clone(), Clock::start(), listener);
        Self { agents, ear, tasks }
    }

    /// Links to an agent and waits until it is up.
    pub(crate) fn connect(&self, target: &Target) -> LinkId {
        let link = self.agents.link(target);
        self.agents.wake(link);
        self.up(link, 1);
        link
    }

    /// Waits until a link has come up so often.
    pub(crate) fn up(&self, link: LinkId, times: usize) {
        self.ear.wait("the link coming up", |heard| {
            heard.ups.get(&link).is_some_and(|&ups| ups >= times)
        });
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{:?}", self.agents.figures());
            tokio::task::yield_now().await;
        }
    }

    /// Delivers, and reports the outcome.
    pub(crate) async fn deliver(&self, link: LinkId, message_id: &str) -> Outcome {
        let outcome = self
            .agents
            .deliver(link, delivery("c", message_id, "hello"));
        tokio::time::timeout(PATIENCE, outcome).await.unwrap()
    }
}

pub(crate) fn target(agent: &StratixAgent, path: &str) -> Target {
    Target {
        url: agent.url(path).into(),
        peer: Peer::Stratix,
        auth: AgentAuth::None,
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

pub(crate) fn delivery(client: &str, message_id: &str, data: &str) -> Arc<Delivery> {
    Arc::new(Delivery {
        client: client.into(),
        message_id: message_id.into(),
        body: DeliveryBody::Text(data.into()),
        content_type: "".into(),
        compressed: false,
        at_ms: 1_709_078_400_000,
        check_first: false,
        traceparent: None,
    })
}
