//! Keeps flags: one task through which all changes go.
//!
//! A change is kept before it is in force, and in force before it is published; so what a
//! client was told is still there after a crash. Where the bus keeps them, what other
//! gateways set comes in the order in which the bus has it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, HistoryPolicy, Now, Publish};
use bytes::Bytes;
use lifecycle::{CancellationToken, Clock, Tasks};
use protocol::channel::Channel;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::Flags;
use super::place::{self, Place};
use super::shared::{News, Shared};
use super::state::{Change, FlagError, State};

/// How the channel of the flags keeps publications, at this moment.
pub type Policy = Box<dyn Fn() -> Option<HistoryPolicy> + Send + Sync>;

/// What keeping flags takes.
pub struct Setup {
    /// Where they are published.
    pub bus: Bus,
    /// The channel of the publications.
    pub channel: Channel,
    /// See [`Policy`].
    pub policy: Policy,
    /// Where they are kept.
    pub place: Place,
    /// Dates publications.
    pub clock: Clock,
    /// For what has to wait for the disk.
    pub tasks: Tasks,
}

/// Flags that were kept can't be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error("{} can't be used for feature flags: {problem}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The bus.
    #[error("feature flags can't be had from the bus: {0}")]
    Bus(String),
}

/// Why flags were not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// They are at another version than whoever asked has seen.
    #[error("the flags are at version {}", .0.version)]
    Version(Arc<State>),
    /// They can't be like that.
    #[error(transparent)]
    Wrong(#[from] FlagError),
    /// They can't be kept at the moment.
    #[error("the flags can't be kept: {0}")]
    NotKept(String),
    /// The gateway is stopping, or too many changes wait.
    #[error("no change is taken at the moment")]
    Unavailable,
}

/// Where changes are asked for. Clones ask the same task.
#[derive(Debug, Clone)]
pub struct Desk {
    flags: Flags,
    asks: mpsc::Sender<Ask>,
}

/// A change that was made.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The flags as they are now.
    pub state: Arc<State>,
    /// What differs, as `name=on`, `name=25%` or `name removed`.
    pub differences: Vec<String>,
}

#[derive(Debug)]
struct Ask {
    change: Change,
    expected: Option<u64>,
    reply: oneshot::Sender<Result<Changed, ChangeError>>,
}

/// The task that keeps flags; see [`Keeper::run`].
pub struct Keeper {
    setup: Setup,
    flags: Flags,
    asks: mpsc::Receiver<Ask>,
    kept: Kept,
    /// The version that clients have been told.
    told: u64,
}

impl Desk {
    /// The flags in force.
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// Changes flags, if they are at the expected version; `None` expects none.
    pub async fn change(
        &self,
        change: Change,
        expected: Option<u64>,
    ) -> Result<Changed, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            change,
            expected,
            reply,
        };
        let asked = self.asks.try_send(ask);
        asked.map_err(|_full_or_closed| ChangeError::Unavailable)?;
        answer.await.unwrap_or(Err(ChangeError::Unavailable))
    }
}

impl Keeper {
    /// Reads what was kept.
    ///
    /// # Errors
    ///
    /// If it can't be read; flags are not forgotten silently.
    pub async fn open(setup: Setup) -> Result<(Desk, Self), OpenError> {
        let (state, kept) = match &setup.place {
            Place::File(path) => {
                let state = place::read(path).map_err(|problem| OpenError::File {
                    path: path.clone(),
                    problem,
                })?;
                (state, Kept::File(path.clone()))
            }
            Place::Bus(bus) => {
                let (state, shared) = Shared::open(bus).await.map_err(OpenError::Bus)?;
                (state, Kept::Shared(Box::new(shared)))
            }
        };
        let flags = Flags::new(state);
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        let desk = Desk {
            flags: flags.clone(),
            asks: sender,
        };
        let keeper = Self {
            setup,
            flags,
            asks,
            kept,
            told: 0,
        };
        Ok((desk, keeper))
    }

    /// Makes changes and publishes them until told to stop. The present state is published
    /// at once, for clients that come.
    pub async fn run(mut self, stopping: CancellationToken) {
        loop {
            let is_told = self.publish().await;
            let again = async {
                match is_told {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(PUBLISH_AGAIN).await,
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                Some(ask) = self.asks.recv() => self.serve(ask).await,
                news = self.kept.news() => self.hear(news),
                () = again => {}
            }
        }
    }

    async fn serve(&mut self, ask: Ask) {
        let outcome = self.change(&ask.change, ask.expected).await;
        // Whoever asked may have gone; the change is made all the same.
        let _gone = ask.reply.send(outcome);
    }

    async fn change(
        &mut self,
        change: &Change,
        expected: Option<u64>,
    ) -> Result<Changed, ChangeError> {
        for _ in 0..TRIES {
            let before = self.flags.state();
            if expected.is_some_and(|expected| expected != before.version) {
                return Err(ChangeError::Version(before));
            }
            let state = before.changed(change)?;
            match self.kept.keep(&self.setup.tasks, &state).await? {
                Outcome::Kept => {
                    let differences = state.differences(&before);
                    self.flags.replace(state);
                    return Ok(Changed {
                        state: self.flags.state(),
                        differences,
                    });
                }
                // Another gateway was faster: is the change still wanted, and what of?
                Outcome::Elsewhere(state) => self.adopt(state),
            }
        }
        Err(ChangeError::Unavailable)
    }

    fn hear(&mut self, news: News) {
        match news {
            News::State(state) => self.adopt(state),
            News::Wrong(problem) => {
                warn!(
                    problem,
                    "feature flags of another gateway can't be read, ours stay"
                );
            }
        }
    }

    /// Takes over what another gateway has set. It is published from here as well, in case
    /// the other did not come to it; whoever is second is suppressed by the version.
    fn adopt(&mut self, state: State) {
        let before = self.flags.state();
        if state == *before {
            return;
        }
        let (version, changes) = (state.version, state.differences(&before).join(", "));
        info!(version, changes, "feature flags were changed elsewhere");
        self.flags.replace(state);
    }

    /// Whether clients know the present state.
    async fn publish(&mut self) -> bool {
        let state = self.flags.state();
        if self.told == state.version {
            return true;
        }
        let publish = Publish {
            history: (self.setup.policy)(),
            // What another gateway has published already is not published again.
            version: state.version,
            ..Publish::new(self.setup.channel.clone(), Bytes::from(state.to_message()))
        };
        let now = Now {
            mono_ms: self.setup.clock.mono_ms(),
            unix_ms: self.setup.clock.unix_ms(),
        };
        match self.setup.bus.publish(now, publish).await {
            Ok(_) => {
                self.told = state.version;
                true
            }
            Err(error) => {
                let version = state.version;
                warn!(version, %error, "feature flags could not be published, trying again");
                false
            }
        }
    }
}

/// Where flags are kept, while the gateway runs.
enum Kept {
    File(PathBuf),
    Shared(Box<Shared>),
}

/// What came of keeping flags.
pub(super) enum Outcome {
    /// They are kept.
    Kept,
    /// They are not: others have been kept meanwhile, these.
    Elsewhere(State),
}

impl Kept {
    async fn keep(&mut self, tasks: &Tasks, state: &State) -> Result<Outcome, ChangeError> {
        match self {
            Self::File(path) => {
                let (path, state) = (path.clone(), state.clone());
                let written = tasks.blocking(move || place::replace(&path, &state));
                match written.await {
                    Some(Ok(())) => Ok(Outcome::Kept),
                    Some(Err(error)) => Err(ChangeError::NotKept(error.to_string())),
                    None => Err(ChangeError::Unavailable),
                }
            }
            Self::Shared(shared) => shared.keep(state).await.map_err(ChangeError::NotKept),
        }
    }

    /// What another gateway has set; never ends. Safe to cancel.
    async fn news(&mut self) -> News {
        match self {
            Self::File(_) => std::future::pending().await,
            Self::Shared(shared) => shared.news().await,
        }
    }
}

/// How often a change is tried when other gateways change flags at the same moment.
const TRIES: usize = 8;

/// Changes that may wait for the one being made.
const ASKS_MAX: usize = 16;

/// When a publication that failed is tried again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);
