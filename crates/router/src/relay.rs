//! From clients to their agents and back, without losing anything on the way.
//!
//! A message is checked, routed, appended to the outbox and, once it is safe there,
//! acknowledged. Only then it enters the *lane* of its agent ([`lane`]), which a
//! [`courier`] works off: one message of a client at a time, through the policy of the
//! agent's guard, until the agent has acknowledged it or it has become a dead letter. What
//! was acknowledged to the client is in the outbox until one of the two is noted there, so
//! that a restart goes on where the process ended.
//!
//! What agents say comes back through [`Listener`](upstream::ws_agent::Listener), is remembered in the client's
//! [`history`] and published on the channel `agent.<client>`, on which the client's
//! connections listen, whatever they speak.
//!
//! Locks are held for a few lines, and nothing is told to anybody under a lock. Only two
//! are held while others are taken, in this order: `moving`, which keeps those who move
//! messages between lanes apart from those who add to them, and the table of lanes.

mod answers;
mod backlog;
mod courier;
mod dead;
mod figures;
mod history;
mod intake;
mod known;
mod lane;
mod moving;
mod operate;
mod pending;
mod runs;
mod settings;
mod steward;
mod stored;

pub use dead::DeadLetter;
pub use figures::{Count, Counters, Gauges};
pub use history::{HistoryFigures, HistoryLimits, Remembered};
pub use known::{Stage, Status};
pub use operate::{LaneGlimpse, ReplayError};
pub use settings::{Overflow, Rates, Settings};

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwap;
use bus::Bus;
use lifecycle::{Clock, Tasks};
use outbox::{Entry, Outbox, State};
use protocol::agent;
use protocol::code::ErrorCode;
use protocol::stratix::{Kind, Level, Message, Priority};
use tokio::sync::Notify;
use upstream::ws_agent::{Agents, AgentsConfig, LinkId, Target};

use answers::Recent;
use backlog::Backlog;
use dead::{DeadLetter as Letter, DeadLetters};
use history::History;
use known::{Due, Known};
use lane::{Item, LineName, Queue};
use pending::Pending;
use policy::TokenLine;
use runs::Runs;
use settings::Lines;

/// See the module's documentation.
pub struct Relay {
    settings: ArcSwap<Settings>,
    outbox: Outbox,
    agents: OnceLock<Arc<Agents>>,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    counters: Counters,
    /// Taken by clients of the same number while a message is entered and appended.
    turns: [Mutex<()>; TURNS as usize],
    known: Mutex<Known>,
    pending: Mutex<Pending>,
    lanes: Mutex<HashMap<LinkId, Arc<Lane>>>,
    moving: RwLock<()>,
    history: Mutex<History>,
    dead: Mutex<DeadLetters>,
    recent: Mutex<Recent>,
    backlog: Mutex<Backlog>,
    runs: Mutex<Runs>,
    client_lines: Mutex<Lines>,
    agent_lines: Mutex<Lines>,
    /// Limits warnings that clients can cause.
    warnings: Mutex<TokenLine>,
    /// Clients of the relay's own dialect that are connected.
    connections: AtomicUsize,
    held_bytes: AtomicUsize,
    /// Lanes whose courier is to be started, and the word that there are some.
    starting: Mutex<Vec<Arc<Lane>>>,
    steward: Notify,
}

/// What a relay is made of.
pub struct Parts {
    /// The outbox, and what was unsettled in it.
    pub outbox: (Outbox, Vec<Entry>),
    /// Settings in force.
    pub settings: Settings,
    /// How agents are dialled.
    pub agents: AgentsConfig,
    /// Where answers are published.
    pub bus: Bus,
    /// The process's clock.
    pub clock: Clock,
    /// Owns the couriers.
    pub tasks: Tasks,
    /// Owns the links to agents: they outlive the couriers, which let what travels arrive.
    pub agent_tasks: Tasks,
}

/// A message as a client hands it in.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who sends it; this, not what the message says, is its client.
    pub client: Arc<str>,
    /// The message; one without an id is given one.
    pub message: Message,
    /// How urgent it is.
    pub priority: Priority,
    /// When the client wants to be told; `None` means as configured.
    pub level: Option<Level>,
    /// W3C `traceparent`; one is made where there is none.
    pub traceparent: Option<String>,
}

/// A message was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its id.
    pub message_id: Arc<str>,
    /// What holds now; at least what was asked for.
    pub level: Level,
    /// It was taken before, and not taken again.
    pub is_duplicate: bool,
}

/// Called once with what became of a submission. Runs on whatever thread knows it first:
/// it must be short and must not block.
pub type Told = Box<dyn FnOnce(Result<Receipt, Refused>) + Send>;

/// Why a message was not taken, or not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The client id can't be one.
    #[error("client id is empty, longer than {max} bytes, or has control characters", max = agent::CLIENT_ID_MAX)]
    ClientId,
    /// The message id can't be one.
    #[error("message id is longer than {max} bytes or has control characters")]
    MessageId {
        /// Most bytes.
        max: usize,
    },
    /// The message is too large.
    #[error("message of {size} bytes is larger than {max}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// Most bytes.
        max: usize,
    },
    /// A binary message whose payload can't be read.
    #[error("payload of a binary message is not Base64")]
    Payload,
    /// No rule of the route table matches the client.
    #[error("no route for this client")]
    NoRoute,
    /// The client, or its agent, gets more than its rate allows.
    #[error("over the rate limit")]
    TooMany,
    /// The buffer is full, and nothing may be dropped for this.
    #[error("buffer is full")]
    Full,
    /// The outbox takes nothing; the operator knows why.
    #[error("message can't be stored at the moment")]
    Unavailable,
    /// It was taken and given up.
    #[error("message was not delivered: {0}")]
    Failed(Arc<str>),
    /// It was sent before, taken and given up.
    #[error("message was sent before and not delivered: {0}")]
    GivenUp(Arc<str>),
}

impl Refused {
    /// What clients of the native protocol are told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::ClientId | Self::MessageId { .. } | Self::Payload => ErrorCode::BadRequest,
            Self::TooLarge { .. } => ErrorCode::LimitExceeded,
            Self::NoRoute => ErrorCode::NotAvailable,
            Self::TooMany | Self::Full => ErrorCode::TooManyRequests,
            Self::Unavailable | Self::Failed(_) | Self::GivenUp(_) => ErrorCode::Internal,
        }
    }

    /// Whether sending it again may help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::TooMany | Self::Full | Self::Unavailable => false,
            Self::ClientId
            | Self::MessageId { .. }
            | Self::Payload
            | Self::TooLarge { .. }
            | Self::NoRoute
            | Self::Failed(_)
            | Self::GivenUp(_) => true,
        }
    }
}

/// The way to one agent.
struct Lane {
    link: LinkId,
    target: Arc<Target>,
    guard: upstream::guard::Guard,
    state: Mutex<LaneState>,
    /// Something to do: a message, a connection.
    stirred: Notify,
}

#[derive(Default)]
struct LaneState {
    queue: Queue,
    is_running: bool,
    /// Since when it has had nothing to do, in ms.
    idle_since_ms: u64,
    /// It takes nothing more: its messages are in other lanes.
    is_retired: bool,
    /// Where lines went that had a message on its way when they were moved.
    moved: HashMap<LineName, Arc<Lane>>,
}

impl Relay {
    /// Takes up what was left and starts to work. To be called within the runtime.
    pub fn start(parts: Parts) -> Arc<Self> {
        let (outbox, entries) = parts.outbox;
        let rates = parts.settings.rates;
        let relay = Arc::new(Self {
            settings: ArcSwap::from_pointee(parts.settings),
            outbox,
            agents: OnceLock::new(),
            bus: parts.bus,
            clock: parts.clock,
            tasks: parts.tasks.clone(),
            counters: Counters::default(),
            turns: std::array::from_fn(|_| Mutex::default()),
            known: Mutex::default(),
            pending: Mutex::default(),
            lanes: Mutex::default(),
            moving: RwLock::default(),
            history: Mutex::default(),
            dead: Mutex::default(),
            recent: Mutex::default(),
            backlog: Mutex::default(),
            runs: Mutex::default(),
            client_lines: Mutex::new(rates.client_lines()),
            agent_lines: Mutex::new(rates.agent_lines()),
            warnings: Mutex::default(),
            connections: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            starting: Mutex::default(),
            steward: Notify::new(),
        });
        let agents = Agents::new(
            parts.agents,
            parts.agent_tasks,
            parts.clock,
            Arc::clone(&relay) as Arc<dyn upstream::ws_agent::Listener>,
        );
        // Set once, before anybody else sees the relay.
        let _first = relay.agents.set(agents);
        relay.restore(entries);
        parts
            .tasks
            .spawn("relay steward", steward::run(Arc::clone(&relay)));
        relay
    }

    /// Puts other settings in force. Messages that wait keep the agent they were routed
    /// to, unless no rule names that agent any more: those are routed anew.
    pub fn reconfigure(self: &Arc<Self>, settings: Settings) {
        let old = self.settings.load_full();
        if settings.rates != old.rates {
            *lock(&self.client_lines) = settings.rates.client_lines();
            *lock(&self.agent_lines) = settings.rates.agent_lines();
        }
        let has_new_policy = settings.policy != old.policy;
        self.settings.store(Arc::new(settings));
        let settings = self.settings.load();
        let lanes: Vec<Arc<Lane>> = lock(&self.lanes).values().cloned().collect();
        if has_new_policy {
            for lane in &lanes {
                lane.guard.adopt(settings.policy_or_none(&lane.target));
            }
        }
        let mut nameless: HashMap<&Target, &Arc<Lane>> =
            lanes.iter().map(|lane| (&*lane.target, lane)).collect();
        for agent in settings.table.agents() {
            nameless.remove(&**agent);
        }
        for lane in nameless.into_values() {
            self.retire(lane);
        }
    }

    /// A client of the relay's own dialect has connected.
    pub fn client_came(&self, client: &str) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.counters.connections.one();
        tracing::info!("Client connected: clientId={client}");
        let settings = self.settings.load();
        match settings.table.lookup(client) {
            Some(found) => {
                let rule = settings.table.text(found.rule);
                tracing::info!("Route matched: clientId={client}, rule={rule}");
            }
            None => self.warn_of_missing_route(client, self.clock.mono_ms()),
        }
    }

    /// A client of the relay's own dialect is gone.
    pub fn client_went(&self, client: &str) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        tracing::info!("Client disconnected: clientId={client}");
    }

    /// Clients of the relay's own dialect that are connected.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counters from the start on.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The outbox, for its figures and its failure.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    fn warn_of_missing_route(&self, client: &str, now_ms: u64) {
        if self.may_warn(now_ms) {
            tracing::warn!("No route found: clientId={client}");
        }
    }

    /// Whether the log may hold one more warning that clients can cause.
    fn may_warn(&self, now_ms: u64) -> bool {
        let rate = settings::warning_rate();
        rate.take(&mut lock(&self.warnings), now_ms).is_ok()
    }

    /// Takes up what a recovery found.
    fn restore(&self, entries: Vec<Entry>) {
        let settings = self.settings.load();
        let window = settings.window(self.clock.mono_ms());
        let count = entries.len();
        for entry in entries {
            // A try that was under way when the process ended came to nothing known: one
            // more is made, however many were.
            let attempts = entry.attempts.min(settings.policy.retries.attempts);
            let stage = match &entry.state {
                State::Pending => Stage::Durable,
                State::Dead { reason, .. } => Stage::Dead {
                    reason: Arc::clone(reason),
                },
            };
            let status = Status { stage, attempts };
            lock(&self.known).restore(window, entry.key, status);
            if let State::Dead { reason, at_ms } = entry.state {
                let letter = Letter {
                    id: entry.id,
                    client: entry.client,
                    priority: entry.priority,
                    key: entry.key,
                    at_ms: entry.at_ms,
                    dead_ms: at_ms,
                    reason,
                    size: entry.size,
                };
                self.keep_letter(letter);
                continue;
            }
            let item = Item {
                id: entry.id,
                client: entry.client,
                message_id: "".into(),
                priority: entry.priority,
                key: entry.key,
                at_ms: entry.at_ms,
                size: entry.size,
                attempts,
                was_tried_before_restart: attempts > 0,
                // Its note may have been lost: it counts as sent when it was taken.
                first_attempt_ms: Some(entry.first_attempt_ms.unwrap_or(entry.at_ms)),
                held: None,
            };
            self.counters.recovered.one();
            lock(&self.pending).enter(usize::MAX);
            self.route(&settings, item);
        }
        if count > 0 {
            tracing::info!(records = count, "unsettled records were taken up");
        }
    }

    fn agents(&self) -> &Arc<Agents> {
        self.agents
            .get()
            .expect("the agents are set before anybody sees the relay")
    }

    fn advance(&self, key: u128, stage: Stage) {
        let mut due = Due::default();
        lock(&self.known).advance(key, stage, &mut due);
        due.tell();
    }

    /// Whether somebody waited for it, and was told.
    fn withdraw(&self, key: u128, why: &Refused) -> bool {
        let mut due = Due::default();
        lock(&self.known).withdraw(key, why, &mut due);
        let somebody_waited = !due.is_empty();
        due.tell();
        somebody_waited
    }

    fn release(&self, item: &Item) {
        if item.held.is_some() {
            self.held_bytes.fetch_sub(item.size, Ordering::Relaxed);
        }
    }
}

/// The key of a message among all: a collision would let one client suppress another's
/// message, so it is cryptographic.
fn key(client: &str, message_id: &str) -> u128 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(&(client.len() as u64).to_le_bytes());
    context.update(client.as_bytes());
    context.update(message_id.as_bytes());
    let digest = context.finish();
    let mut first = [0; 16];
    first.copy_from_slice(&digest.as_ref()[..16]);
    u128::from_le_bytes(first)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many clients may hand messages in at the same moment, on average.
const TURNS: u64 = 256;

/// Longest message id in bytes.
pub const MESSAGE_ID_MAX: usize = 256;

/// What clients are told about kinds they may not send on.
pub fn is_relayed(kind: Kind) -> bool {
    match kind {
        Kind::Text | Kind::Binary => true,
        Kind::Control => false,
    }
}
