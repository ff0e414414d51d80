//! A relay, its outbox in a folder of its own, and agents.

#![expect(
    clippy::disallowed_methods,
    reason = "the test owns its threads and its clock"
)]

use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bus::{Bus, MemoryBus, MemoryConfig, Message as Delivered, Sink};
use lifecycle::{Clock, Tasks};
use outbox::disk;
use policy::{Backoff, Retries};
use protocol::stratix::{Level, Message, Priority};
use router::relay::{
    HistoryLimits, Overflow, Parts, Rates, Receipt, Refused, Relay, Settings, Submission,
};
use router::table::{Builder, RouteTable, Rule};
use tokio::runtime::Runtime;
use upstream::ws_agent::{AgentAuth, AgentsConfig, DataEncoding, Identity, Peer, Target};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a submission came to.
pub(crate) type Told = Result<Receipt, Refused>;

pub(crate) struct Scene {
    pub(crate) relay: Arc<Relay>,
    _bus: Arc<MemoryBus>,
    pub(crate) heard: Arc<Heard>,
    tasks: Tasks,
    agent_tasks: Tasks,
    outbox_tasks: Tasks,
    runtime: Runtime,
}

/// What the bus has delivered.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<(String, serde_json::Value)>>);

impl Sink for Heard {
    fn has_room(&self) -> bool {
        true
    }

    fn deliver(&self, message: Arc<Delivered>) {
        let Some(publication) = message.publication() else {
            return;
        };
        let value = serde_json::from_slice(&publication.data).unwrap();
        let channel = message.channel.as_str().to_owned();
        self.0.lock().unwrap().push((channel, value));
    }
}

impl Heard {
    pub(crate) fn all(&self) -> Vec<(String, serde_json::Value)> {
        self.0.lock().unwrap().clone()
    }
}

/// Settings with these rules and no patience.
pub(crate) fn settings(table: RouteTable) -> Settings {
    let backoff = Backoff::new(
        Duration::from_millis(5),
        2.0,
        Duration::from_millis(20),
        0.2,
    );
    Settings {
        table: Arc::new(table),
        level: Level::Durable,
        policy: policy::Settings {
            retries: Retries {
                attempts: 3,
                backoff: backoff.unwrap(),
                ..Retries::default()
            },
            ..policy::Settings::default()
        },
        rates: Rates::default(),
        buffer_size: 1_000,
        overflow: Overflow::DropOldest,
        message_size_max: 100_000,
        dedup_window_ms: 300_000,
        dedup_max: 10_000,
        history: HistoryLimits {
            per_client: 100,
            message_size_max: 1_000,
            ttl_ms: 60_000,
            bytes_max: 1_000_000,
        },
        dead_max: 100,
        dead_retention_ms: 3_600_000,
        held_bytes_max: 1_000_000,
        log_interval: Duration::ZERO,
    }
}

/// A table of prefixes.
pub(crate) fn table(rules: &[(&str, Target)]) -> RouteTable {
    let mut builder = Builder::default();
    for (prefix, target) in rules {
        builder
            .add(Rule::prefix(prefix, vec![target.clone()]).unwrap())
            .unwrap();
    }
    builder.build()
}

/// An agent that acknowledges.
pub(crate) fn target(url: &str) -> Target {
    Target {
        url: url.into(),
        peer: Peer::Stratix,
        auth: AgentAuth::None,
        tls_fingerprint: None,
        agent_id: "main".into(),
        deltas: false,
        acks: true,
        data_encoding: DataEncoding::Auto,
        dial_timeout: Duration::from_secs(5),
        try_timeout: Duration::from_secs(5),
        in_flight: 16,
        idle_timeout: Duration::ZERO,
    }
}

impl Scene {
    pub(crate) fn start(folder: &Path, settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let clock = Clock::start();
        let (tasks, agent_tasks, outbox_tasks) = (Tasks::new(), Tasks::new(), Tasks::new());
        let bus = Arc::new(MemoryBus::new(&MemoryConfig::default()));
        let heard = Arc::new(Heard::default());
        let sink = bus.attach(Arc::clone(&heard) as Arc<dyn Sink>);
        let pattern = protocol::subject::Pattern::new(protocol::agent::PATTERN).unwrap();
        bus.subscribe_pattern(sink, &pattern).unwrap();
        let mut log = disk::Config::new(folder);
        log.segment_bytes = 1 << 20;
        let relay = runtime.block_on(async {
            let outbox = outbox::open(outbox::Config::Disk(log), &outbox_tasks, clock)
                .await
                .unwrap();
            let mut agents = AgentsConfig::new(Arc::new(Identity::ephemeral().unwrap()), 7);
            agents.reconnect_min = Duration::from_millis(10);
            agents.reconnect_max = Duration::from_millis(50);
            Relay::start(Parts {
                outbox,
                settings,
                agents,
                bus: Bus::Memory(Arc::clone(&bus)),
                clock,
                tasks: tasks.clone(),
                agent_tasks: agent_tasks.clone(),
            })
        });
        Self {
            relay,
            _bus: bus,
            heard,
            tasks,
            agent_tasks,
            outbox_tasks,
            runtime,
        }
    }

    /// Sends a text; what it came to is told later.
    pub(crate) fn send(&self, client: &str, id: &str, data: &str) -> Receiver<Told> {
        self.send_as(client, id, data, Priority::Interactive, None)
    }

    pub(crate) fn send_as(
        &self,
        client: &str,
        id: &str,
        data: &str,
        priority: Priority,
        level: Option<Level>,
    ) -> Receiver<Told> {
        let (tell, told) = sync_channel(1);
        let submission = Submission {
            client: client.into(),
            message: Message {
                message_id: id.to_owned(),
                data: data.to_owned(),
                ..Message::default()
            },
            priority,
            level,
            traceparent: None,
        };
        let answer = Box::new(move |what| tell.send(what).unwrap_or(()));
        self.relay.submit(submission, answer);
        told
    }

    /// Sends a text and waits until it is safe.
    #[track_caller]
    pub(crate) fn send_safely(&self, client: &str, id: &str, data: &str) -> Receipt {
        told(&self.send(client, id, data)).unwrap()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Ends as the process does on a signal.
    pub(crate) fn stop(self) {
        self.runtime.block_on(async {
            assert!(self.tasks.stop(PATIENCE).await);
            self.relay.close(PATIENCE).await;
            assert!(self.agent_tasks.stop(PATIENCE).await);
            assert!(self.outbox_tasks.stop(PATIENCE).await);
        });
    }
}

#[track_caller]
pub(crate) fn told(receiver: &Receiver<Told>) -> Told {
    receiver
        .recv_timeout(PATIENCE)
        .expect("a submission is told about")
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let (_never, wait) = sync_channel::<()>(0);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        // Nobody sends: this only lets a moment pass.
        let _timeout = wait.recv_timeout(Duration::from_millis(5));
    }
}
