//! What is done twice a second: interests that ended, presence that is due, streams that
//! are gone, channels that may have missed something.
//!
//! A message that NATS lost, or that a receiver had no room for, shows by the next
//! position. Where none follows, nobody would know; so the top of every channel with
//! positions is read after each reconnection and, if nothing came, every half minute. It
//! is told to the subscribers a second later: what was under way by then has come, so
//! whoever is still behind has missed it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use lifecycle::CancellationToken;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use super::NatsBus;
use super::connection::NatsState;
use super::figures::add;
use crate::{Kind, Message, Now};

/// Runs until the group stops.
pub(super) async fn run(bus: Arc<NatsBus>, stopping: CancellationToken) {
    let mut state = bus.connection.state();
    let mut losses = bus.connection.losses();
    let mut tops: VecDeque<(u64, Arc<Message>)> = VecDeque::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_second = false;
    let mut lack = Lack::default();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            changed = state.changed() => if changed.is_err() {
                break;
            },
            _ = ticks.tick() => {
                is_second = !is_second;
                if is_second {
                    let lately = bus.figures.subscribed_lately.swap(0, Ordering::Relaxed);
                    add(&bus.figures.storms, u64::from(lately > STORM));
                }
            }
        }
        let is_connected = *state.borrow_and_update() == NatsState::Connected;
        // The state may have changed twice since it was looked at.
        let came_back = is_connected && bus.connection.losses() > losses;
        let now = bus.now();
        if came_back {
            losses = bus.connection.losses();
            let interests = bus.interests.len() as u64;
            add(&bus.figures.reconnects, 1);
            add(&bus.figures.resubscriptions, interests);
            add(&bus.figures.subscribed_lately, interests);
            lack = Lack {
                is_felt: true,
                ..Lack::default()
            };
        }
        lack.is_felt |= bus.store.was_absent();
        if is_connected && lack.is_felt && lack.due_ms <= now.mono_ms {
            // A cluster that comes up may not be ready for that; it is tried again.
            let done = tokio::select! {
                done = bus.provision_again() => done,
                () = stopping.cancelled() => break,
            };
            lack.tried(done, bus.now().mono_ms);
            if done {
                bus.presence.renew_all(now.mono_ms);
                bus.connection.refresh();
            }
        }
        bus.interests.end_lingering(now.mono_ms);
        if !is_connected {
            continue;
        }
        bus.presence.renew(now.mono_ms);
        while let Some((due_ms, message)) = tops.pop_front() {
            if due_ms > now.mono_ms {
                tops.push_front((due_ms, message));
                break;
            }
            bus.memory.spread_to_subscribed(&message);
        }
        let read = tops_of(&bus, now, came_back);
        tokio::select! {
            read = read => tops.extend(read),
            () = stopping.cancelled() => break,
        }
    }
}

/// Streams that may be gone: with a server that restarted, or by somebody's hand.
#[derive(Default)]
struct Lack {
    is_felt: bool,
    /// When to look for them next; in milliseconds.
    due_ms: u64,
    failures: u32,
}

impl Lack {
    /// They are there again, or will be looked for later, and later each time.
    fn tried(&mut self, done: bool, now_ms: u64) {
        self.is_felt = !done;
        self.failures = if done { 0 } else { self.failures + 1 };
        self.due_ms = now_ms + (LOOK_AGAIN_MS << self.failures.min(LOOKS_SLOWER));
    }
}

/// Reads where the channels stand that may have missed something, to be told later.
async fn tops_of(bus: &Arc<NatsBus>, now: Now, all: bool) -> Vec<(u64, Arc<Message>)> {
    let due = bus.interests.to_check(now.mono_ms, all);
    let asking = stream::iter(due).map(|channel| async move {
        match bus.top(now, &channel).await {
            Ok(top) => Some(Arc::new(Message {
                channel,
                kind: Kind::Top(top?),
            })),
            Err(error) => {
                debug!(%channel, %error, "position was not read");
                None
            }
        }
    });
    let read: Vec<_> = asking.buffer_unordered(READS_AT_ONCE).collect().await;
    let due_ms = bus.now().mono_ms + SETTLED_MS;
    let known = read.into_iter().flatten();
    known.map(|message| (due_ms, message)).collect()
}

/// Half a second: what is told after a second is told soon after it.
const TICK: Duration = Duration::from_millis(500);

/// Subscriptions within two ticks beyond which they count as a storm.
const STORM: u64 = 100;

/// After so long what was under way has come.
const SETTLED_MS: u64 = 1_000;

/// Between two looks for streams, doubled after each that failed but so many times.
const LOOK_AGAIN_MS: u64 = 250;
const LOOKS_SLOWER: u32 = 5;

const READS_AT_ONCE: usize = 64;
