//! When something has to happen although nothing arrives.

use std::time::Duration;

use super::outbound::Blocked;
use super::path::CHALLENGE_DATAGRAM;
use super::{BASE_DATAGRAM, Closed, Connection, Phase};
use crate::Time;
use crate::config::Config;

/// Deadlines that belong to no part of their own.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) started: Time,
    /// When the peer was last heard.
    heard: Time,
    /// When we last sent something that the peer acknowledges.
    said: Time,
    pub(super) idle: Duration,
    /// When the client was last told that the handshake is done.
    pub(super) done_at: Time,
    /// Pacing or the window's state says: not before. `NEVER` if nothing waits for it.
    pub(super) paced_until: Time,
    /// When a closing connection falls silent.
    pub(super) over_at: Time,
}

impl Timers {
    pub(super) fn new(now: Time, config: &Config) -> Self {
        Self {
            started: now,
            heard: now,
            said: now,
            idle: match config.idle_timeout {
                Duration::ZERO => Duration::MAX,
                timeout => timeout,
            },
            done_at: now,
            paced_until: Time::NEVER,
            over_at: Time::NEVER,
        }
    }

    pub(super) fn heard(&mut self, now: Time) {
        self.heard = now;
    }

    pub(super) fn said(&mut self, now: Time) {
        self.said = now;
    }
}

impl Connection {
    /// When [`Self::handle_timeout`] is to be called; `None` if only an arrival can change anything.
    pub fn timeout(&self) -> Option<Time> {
        let at = match self.phase {
            Phase::Over => return None,
            Phase::Closing => self.timers.over_at,
            Phase::Shaking => self.handshake_deadline().min(self.resend_handshake_at()),
            Phase::Open => self.next_open_deadline(),
        };
        (at != Time::NEVER).then_some(at)
    }

    fn next_open_deadline(&self) -> Time {
        let patience = [
            self.recovery.timeout().unwrap_or(Time::NEVER),
            self.resend_handshake_at(),
            self.timers.heard + self.timers.idle,
            self.keep_alive_at(),
        ];
        let challenge = self.path.challenge.as_ref();
        let fails_at = challenge.map_or(Time::NEVER, |it| it.fails_at);
        let ask_at = challenge.map_or(Time::NEVER, |it| it.ask_at);
        let mut next = patience.into_iter().fold(fails_at, Time::min);
        // What cannot be sent anyway must not wake anybody: its time has come already.
        if self.blocked != Blocked::Address {
            let ack_at = self.received.ack_at().unwrap_or(Time::NEVER);
            next = next.min(ack_at).min(ask_at);
        } else if self.path.allows(CHALLENGE_DATAGRAM) {
            next = next.min(ask_at);
        }
        match self.blocked {
            Blocked::No => {
                let repair_at = self.encoder.timeout().unwrap_or(Time::NEVER);
                next.min(repair_at).min(self.probe_size_at())
            }
            Blocked::Window => next.min(self.timers.paced_until),
            Blocked::Address => next,
        }
    }

    /// The time has come that [`Self::timeout`] told; afterwards poll for datagrams and events.
    pub fn handle_timeout(&mut self, now: Time) {
        match self.phase {
            Phase::Over => return,
            Phase::Closing => {
                if now >= self.timers.over_at {
                    self.phase = Phase::Over;
                }
                return;
            }
            Phase::Shaking if now >= self.handshake_deadline() => {
                let waited = self.config.handshake_timeout;
                self.end(now, Phase::Over, Closed::HandshakeTimedOut { waited });
                return;
            }
            Phase::Shaking | Phase::Open => {}
        }
        if now >= self.resend_handshake_at()
            && let Some(shaking) = &mut self.shaking
        {
            shaking.send_again(now);
        }
        if self.phase != Phase::Open {
            return;
        }
        if now >= self.timers.heard + self.timers.idle {
            let waited = self.timers.idle;
            self.end(now, Phase::Over, Closed::Silent { waited });
            return;
        }
        if now >= self.timers.paced_until {
            self.timers.paced_until = Time::NEVER;
        }
        if now >= self.keep_alive_at() {
            self.wishes.ping = true;
        }
        if let Some(keyring) = &mut self.keyring {
            keyring.forget(now);
        }
        self.check_challenge(now);
        self.on_recovery_timeout(now);
    }

    fn on_recovery_timeout(&mut self, now: Time) {
        if self.recovery.timeout().is_none_or(|at| now < at) {
            return;
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.clear();
        if self.recovery.on_timeout(now, &mut outcome) {
            // Two probes, so that one loss more does not cost another timeout; nothing that is
            // held for a repair waits longer.
            self.wishes.probes = 2;
            self.sources.release(u64::MAX);
            let base = u32::from(BASE_DATAGRAM);
            let large = self.recovery.in_flight().any(|it| it.bytes > base);
            if self.mtu.on_timeout(now, large) {
                self.on_datagram_size(now);
            }
        }
        self.apply_outcome(now, &mut outcome);
        self.outcome = outcome;
    }

    /// The new path has had its time to answer: back to the one before, if there is one.
    fn check_challenge(&mut self, now: Time) {
        let failed = self
            .path
            .challenge
            .as_ref()
            .is_some_and(|it| now >= it.fails_at);
        if !failed {
            return;
        }
        self.path.challenge = None;
        if let Some(before) = self.moved_from.take() {
            self.path = before;
        }
    }

    fn handshake_deadline(&self) -> Time {
        self.timers.started + self.config.handshake_timeout
    }

    fn resend_handshake_at(&self) -> Time {
        self.shaking
            .as_ref()
            .map_or(Time::NEVER, super::shaking::Shaking::resend_at)
    }

    fn keep_alive_at(&self) -> Time {
        if self.config.keep_alive.is_zero() || self.wishes.ping {
            return Time::NEVER;
        }
        // Whoever forgets us sooner is reminded sooner.
        self.timers.said + self.config.keep_alive.min(self.timers.idle / 3)
    }
}
