//! The one connection of a channel: made when needed, replaced when it is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::Tasks;
use quantum_proto::Time;
use tokio::sync::Notify;

use super::{Target, TargetError};
use crate::error::ConnectError;
use crate::{Closed, Connection, Endpoint};

pub(super) struct Connecting {
    endpoint: Endpoint,
    target: Target,
    pub(super) tasks: Tasks,
    state: Mutex<State>,
    changed: Notify,
    /// A call was answered on the present connection. A server may let us in and then turn us
    /// away, which the handshake alone does not show.
    is_proven: AtomicBool,
    /// It was said that the server is not reached: once, until a call is answered again.
    is_told: AtomicBool,
}

struct State {
    now: Now,
    /// Attempts in a row that failed, or led to a connection that answered nothing.
    failures: u32,
    /// When it was last looked at what has come from the server, and how many packets those
    /// were.
    heard: Option<(Time, u64)>,
}

impl State {
    /// Not even an acknowledgement has come for [`SILENCE`], and for some round trips where those
    /// are long, though something was sent: calls are sent after this is asked, so each changes
    /// the count if anybody is there.
    fn is_silent(&mut self, connection: &Connection) -> bool {
        let now = connection.now();
        if let Some((at, _)) = self.heard
            && now.since(at) < SILENCE
        {
            return false;
        }
        let stats = connection.stats();
        if let Some((at, _)) = self.heard
            && now.since(at) < ROUND_TRIPS * stats.rtt
        {
            return false;
        }
        let known = self.heard.replace((now, stats.packets_received));
        stats.inflight > 0 && known.is_some_and(|(_, count)| count == stats.packets_received)
    }
}

enum Now {
    Idle,
    /// A task is at it.
    Connecting,
    Ready(Connection),
    /// Calls fail at once until the next attempt may begin.
    Failed(TargetError),
}

/// Calls do not go on with a connection on which nothing has come for so long.
const SILENCE: Duration = Duration::from_secs(1);
const ROUND_TRIPS: u32 = 4;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(5);

impl Connecting {
    pub(super) fn new(endpoint: Endpoint, target: Target, tasks: Tasks) -> Self {
        Self {
            endpoint,
            target,
            tasks,
            state: Mutex::new(State {
                now: Now::Idle,
                failures: 0,
                heard: None,
            }),
            changed: Notify::new(),
            is_proven: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
        }
    }

    /// A connection that is not closed as far as we know. All who wait share one attempt.
    pub(super) async fn ready(self: &Arc<Self>) -> Result<Connection, TargetError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if let Now::Ready(connection) = &state.now {
                    let connection = connection.clone();
                    match connection.close_reason() {
                        None if !state.is_silent(&connection) => return Ok(connection),
                        // The server may have started anew, and nobody says so over UDP.
                        None => {
                            self.not_reached(&Closed::Silent { waited: SILENCE });
                            state.now = Now::Idle;
                        }
                        Some(closed) => self.lost(&mut state, closed),
                    }
                }
                match &state.now {
                    Now::Failed(error) => return Err(error.clone()),
                    Now::Connecting => {}
                    Now::Ready(_) | Now::Idle => {
                        state.now = Now::Connecting;
                        let attempt = Arc::clone(self);
                        self.tasks
                            .spawn("quantum connecting", async move { attempt.attempt().await });
                    }
                }
            }
            changed.await;
        }
    }

    /// The connection is over. The first that ends without an answer is replaced at once, after
    /// that there are pauses.
    fn lost(self: &Arc<Self>, state: &mut State, closed: Closed) {
        if self.is_proven.load(Ordering::Relaxed) {
            state.now = Now::Idle;
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures == 1 {
            state.now = Now::Idle;
            return;
        }
        state.now = Now::Failed(TargetError::Connect(ConnectError::Closed(closed)));
        let (pausing, failures) = (Arc::clone(self), state.failures);
        self.tasks.spawn(
            "quantum pause",
            async move { pausing.pause(failures).await },
        );
    }

    /// This one takes no more calls; those on it go on.
    pub(super) fn retire(&self, connection: &Connection) {
        let mut state = self.state();
        let is_present = match &state.now {
            Now::Ready(present) => present.guuid() == connection.guuid(),
            Now::Idle | Now::Connecting | Now::Failed(_) => false,
        };
        if is_present {
            state.now = Now::Idle;
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// The connection, if there is one.
    pub(super) fn present(&self) -> Option<Connection> {
        match &self.state().now {
            Now::Ready(connection) => Some(connection.clone()),
            Now::Idle | Now::Connecting | Now::Failed(_) => None,
        }
    }

    async fn attempt(&self) {
        let outcome = self.target.connect(&self.endpoint).await;
        let failures = {
            let mut state = self.state();
            match outcome {
                Ok(connection) => {
                    self.is_proven.store(false, Ordering::Relaxed);
                    state.heard = None;
                    state.now = Now::Ready(connection);
                    0
                }
                Err(error) => {
                    self.not_reached(&error);
                    state.failures = state.failures.saturating_add(1);
                    state.now = Now::Failed(error);
                    state.failures
                }
            }
        };
        self.changed.notify_waiters();
        if failures > 0 {
            self.pause(failures).await;
        }
    }

    /// Lets some time pass, more after each failure, until the next attempt may begin.
    async fn pause(&self, failures: u32) {
        let doubled = BACKOFF_FIRST * 2_u32.pow(failures.clamp(1, 10) - 1);
        let stopping = self.tasks.stopping();
        let pause = tokio::time::sleep(spread(doubled.min(BACKOFF_LAST)));
        stopping.run_until_cancelled(pause).await;
        self.state().now = Now::Idle;
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        if !self.is_proven.load(Ordering::Relaxed) && !self.is_proven.swap(true, Ordering::Relaxed)
        {
            self.state().failures = 0;
        }
        if self.is_told.load(Ordering::Relaxed) && self.is_told.swap(false, Ordering::Relaxed) {
            tracing::info!(server = %self.target.address, "server is reached again");
        }
    }

    /// Says why the server is not reached. Whoever causes this again and again fills no log.
    pub(super) fn not_reached(&self, error: &dyn std::error::Error) {
        let (server, error) = (&*self.target.address, chain(error));
        if self.is_told.swap(true, Ordering::Relaxed) {
            tracing::debug!(server, error, "server is not reached");
        } else {
            tracing::warn!(server, error, "server is not reached");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Half of a span to all of it, by chance: those who lost the same server do not come back as one.
fn spread(span: Duration) -> Duration {
    let mut chance = [0; 1];
    // Without chance they do, which is no reason not to wait.
    let _ = getrandom::fill(&mut chance);
    span * (256 - u32::from(chance[0]) / 2) / 256
}

/// An error with what led to it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
