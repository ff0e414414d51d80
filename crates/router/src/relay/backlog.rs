//! Answers that wait because their receivers have no room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bus::{Answer, BusError, Now, Publish};

use super::{Relay, lock};

/// What waits, oldest first. As long as something does everything else waits behind it, so
/// that answers keep their order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Publish>,
    bytes: usize,
    /// Somebody works it off.
    is_running: bool,
}

impl Backlog {
    /// Takes an answer in; how many older ones had to go for it.
    fn push(&mut self, publish: Publish) -> u64 {
        self.bytes += publish.data.len();
        self.waiting.push_back(publish);
        let mut dropped = 0;
        while self.waiting.len() > MESSAGES_MAX
            || (self.bytes > BYTES_MAX && self.waiting.len() > 1)
        {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Publish> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.data.len();
        Some(first)
    }
}

impl Relay {
    /// Publishes, behind what waits already.
    pub(super) fn publish_in_turn(&self, publish: Publish) {
        let must_wait = {
            let backlog = lock(&self.backlog);
            backlog.is_running || !backlog.waiting.is_empty()
        };
        if !must_wait && self.try_publish(&publish) {
            return;
        }
        let dropped = lock(&self.backlog).push(publish);
        self.counters.answers_dropped.add(dropped);
        self.steward.notify_one();
    }

    /// Whether somebody is needed to work off what waits; whoever asks has to do it.
    pub(super) fn has_new_backlog(&self) -> bool {
        let mut backlog = lock(&self.backlog);
        !backlog.waiting.is_empty() && !std::mem::replace(&mut backlog.is_running, true)
    }

    /// `false` if there is no room at the moment.
    fn try_publish(&self, publish: &Publish) -> bool {
        let now = Now {
            mono_ms: self.clock.mono_ms(),
            unix_ms: self.clock.unix_ms(),
        };
        // What has no history is answered at once.
        let Answer::Now(published) = self.bus.publish(now, publish.clone()) else {
            return true;
        };
        match published {
            Ok(_) => true,
            Err(BusError::Busy) => false,
            Err(error) => {
                self.counters.answers_dropped.one();
                if self.may_warn(now.mono_ms) {
                    tracing::warn!(%error, "answer could not be published");
                }
                true
            }
        }
    }
}

/// Works off what waits; what finds no room for long is dropped.
pub(super) async fn run(relay: Arc<Relay>) {
    let stopping = relay.tasks.stopping();
    loop {
        let first = {
            let mut backlog = lock(&relay.backlog);
            let first = backlog.pop();
            backlog.is_running = first.is_some();
            first
        };
        let Some(first) = first else { return };
        let mut tries = 0;
        while !relay.try_publish(&first) {
            tries += 1;
            if tries > BUSY_TRIES {
                relay.counters.answers_dropped.one();
                if relay.may_warn(relay.clock.mono_ms()) {
                    tracing::warn!("answer was not passed on: receivers have no room");
                }
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(BUSY_PAUSE) => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}

/// Most answers that wait.
const MESSAGES_MAX: usize = 10_000;

/// Most bytes of them; one may wait whatever its size.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long and how often a busy bus is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const BUSY_TRIES: usize = 500;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::agent;

    use super::*;

    #[test]
    fn what_waits_is_bounded_and_the_oldest_goes_first() {
        let mut backlog = Backlog::default();
        let answer = |size: usize| {
            let channel = agent::channel_of("c").unwrap();
            Publish::new(channel, Bytes::from(vec![b'1'; size]))
        };
        let dropped: u64 = (0..MESSAGES_MAX + 5).map(|_| backlog.push(answer(1))).sum();
        assert_eq!((dropped, backlog.waiting.len()), (5, MESSAGES_MAX));
        assert_eq!(backlog.push(answer(BYTES_MAX)), MESSAGES_MAX as u64);
        assert_eq!(backlog.push(answer(2)), 1);
        assert_eq!((backlog.bytes, backlog.waiting.len()), (2, 1));
    }
}
