//! When a connection has something to do although nothing happens, and when it is over.

use std::sync::atomic::Ordering::Relaxed;

use websocket::{OpCode, close};

use super::super::super::Peer;
use super::super::super::peer::Input;
use super::super::super::pool::Cause;
use super::super::Phase;
use super::{Session, millis};

impl Session<'_> {
    /// Timers of the peer and of the connection.
    pub(super) fn watch_time(&mut self, now_ms: u64) {
        if self.peer.deadline_ms() <= now_ms {
            self.feed(Input::Time);
        }
        if !self.ready && now_ms >= self.began_ms + millis(self.link.target.dial_timeout) {
            let after = self.link.target.dial_timeout;
            self.close(close::POLICY, "handshake took too long", Cause::Lost);
            if let Some(closing) = &mut self.closing {
                closing.end.reason = format!("agent was not ready within {after:?}");
            }
        }
        if self.pings() && now_ms >= self.heard_ms + self.agents.keepalive_ms() {
            match self.pinged_ms {
                None => {
                    self.pinged_ms = Some(now_ms);
                    self.push(OpCode::Ping, b"");
                }
                Some(pinged_ms) if now_ms >= pinged_ms + self.agents.keepalive_ms() => {
                    self.end("no sign of life from the agent".to_owned());
                }
                Some(_) => {}
            }
        }
    }

    /// Ends the connection if nobody needs it.
    pub(super) fn watch_need(&mut self, now_ms: u64) {
        if self.closing.is_some() {
            return;
        }
        if !self.ready {
            if self.agents.is_draining() {
                self.close(close::GOING_AWAY, "gateway stops", Cause::Stopped);
            }
            return;
        }
        let used_ms = self.link.used_ms.load(Relaxed);
        let expects = self.peer.expects_answers();
        if expects && std::mem::take(&mut self.link.state().evicted) {
            // Its turn to make room comes last.
            self.agents.stays(self.link, now_ms);
        }
        let cause = {
            let mut state = self.link.state();
            if !state.waiting.is_empty() {
                return;
            }
            let cause = if self.agents.is_draining() {
                Cause::Stopped
            } else if state.released {
                Cause::Released
            } else if state.evicted && now_ms >= used_ms + EVICTION_GRACE_MS {
                Cause::Evicted
            } else if self.idle_due_ms(used_ms, expects) <= now_ms {
                Cause::Idle
            } else {
                return;
            };
            // From here on nothing is taken on, so that nothing has to be given back.
            state.phase = Phase::Closing;
            cause
        };
        match cause {
            Cause::Stopped => self.close(close::GOING_AWAY, "gateway stops", cause),
            Cause::Released => self.close(close::NORMAL, "no longer needed", cause),
            Cause::Evicted => self.close(close::NORMAL, "place is needed", cause),
            Cause::Idle | Cause::Lost => self.close(close::NORMAL, "idle", cause),
        }
    }

    pub(super) fn idle_due_ms(&self, used_ms: u64, expects: bool) -> u64 {
        let idle = self.link.target.idle_timeout;
        if idle.is_zero() || expects {
            u64::MAX
        } else {
            used_ms.saturating_add(millis(idle))
        }
    }

    /// When [`Self::turn`] has something to do even if nothing happens.
    pub(super) fn due_ms(&self) -> u64 {
        let mut due_ms = self.peer.deadline_ms();
        if self.out.backlog() > 0 {
            due_ms = due_ms.min(self.wrote_ms + self.agents.write_stall_ms());
        }
        if let Some(closing) = &self.closing {
            return due_ms.min(closing.due_ms);
        }
        if !self.ready {
            due_ms = due_ms.min(self.began_ms + millis(self.link.target.dial_timeout));
        }
        if self.pings() {
            let since_ms = self.pinged_ms.unwrap_or(self.heard_ms);
            due_ms = due_ms.min(since_ms + self.agents.keepalive_ms());
        }
        let (quiet, evicted) = {
            let state = self.link.state();
            (state.waiting.is_empty(), state.evicted)
        };
        if self.ready && quiet {
            let used_ms = self.link.used_ms.load(Relaxed);
            let expects = self.peer.expects_answers();
            due_ms = due_ms.min(self.idle_due_ms(used_ms, expects));
            if evicted {
                due_ms = due_ms.min(used_ms + EVICTION_GRACE_MS);
            }
        }
        due_ms
    }

    /// `OpenClaw` gateways send ticks, whose absence their peer notices.
    pub(super) fn pings(&self) -> bool {
        match self.link.target.peer {
            Peer::Stratix => true,
            Peer::OpenClaw => false,
        }
    }
}

/// How long a link that has just been used keeps its place although another one wants it.
const EVICTION_GRACE_MS: u64 = 500;
