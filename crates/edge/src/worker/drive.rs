//! The loop around a session: carry out what it says, answer what it asks.

use std::sync::Arc;

use protocol::claims::TokenError;
use protocol::code::Disconnect;
use protocol::session::{Output, Response, Subscription};

use super::connection::Stage;
use super::{Worker, context};

impl Worker {
    /// Carries out all outputs, and continues the session as long as its requests
    /// are answered at once.
    pub(super) fn drive(&mut self, slot: u32) {
        while !self.outputs.is_empty() {
            let mut outputs = std::mem::take(&mut self.outputs);
            for output in outputs.drain(..) {
                self.carry_out(slot, output);
            }
            if self.outputs.is_empty() {
                self.outputs = outputs;
            }
        }
        self.plan_wake(slot);
    }

    /// Continues a session whose request took a while.
    pub(super) fn answer(&mut self, slot: u32, mut response: Response) {
        // Whoever was revoked while the answer was on its way has missed the sweep.
        if let Response::Authenticated(Ok(claims)) = &response
            && self.gate.revocations().check(
                &claims.user,
                claims.token_id.as_deref(),
                claims.issued_at,
            )
        {
            response = Response::Authenticated(Err(TokenError::Revoked));
        }
        self.resume(slot, response);
        self.drive(slot);
    }

    fn carry_out(&mut self, slot: u32, output: Output) {
        match output {
            Output::Reply(reply) => {
                // An empty reply is a ping.
                if reply.id == 0 && reply.push.is_none() {
                    self.tally.pulses += 1;
                }
                self.reply(slot, &reply);
            }
            Output::Request(request) => {
                if let Some(response) = self.request(slot, request) {
                    self.resume(slot, response);
                }
            }
            Output::Ping => self.ping_peer(slot),
            Output::Begun => self.begun(slot),
            Output::Submit { via, data } => self.submit(slot, via, &data),
            Output::Join { channel, info } => self.router.join(&channel, info),
            Output::Leave(sub) => self.leave(slot, &sub),
            Output::Close(disconnect) => self.begin_close(slot, &disconnect),
        }
    }

    fn resume(&mut self, slot: u32, response: Response) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let cx = context(&self.live, self.now);
        connection.session.resume(cx, response, &mut self.outputs);
    }

    /// Leaves one channel: nothing of it reaches the client any more.
    fn leave(&mut self, slot: u32, sub: &Subscription) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if let Some(queue) = &mut connection.queue {
            queue.remove_channel(&sub.channel);
        }
        let client = connection.session.client();
        self.router.leave(slot, client, sub);
        if sub.announces_leave() {
            self.announce_leave(slot, sub);
        }
    }

    pub(super) fn announce_leave(&mut self, slot: u32, sub: &Subscription) {
        if let Some(connection) = self.connections.get(slot) {
            let info = connection.session.info(sub.chan_info());
            self.router.announce_leave(&sub.channel, Arc::new(info));
        }
    }

    /// Looks whether the connection's time has come.
    pub(super) fn wake(&mut self, slot: u32, tick: u64) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.wake_tick == tick {
            connection.wake_tick = 0;
        }
        let is_impatient =
            connection.patience_ms != 0 && connection.patience_ms <= self.now.mono_ms;
        match connection.stage {
            Stage::Open if is_impatient => self.end_session(slot, Disconnect::WRITE_ERROR),
            Stage::Open => {
                let cx = context(&self.live, self.now);
                connection.session.time(cx, &mut self.outputs);
                self.drive(slot);
            }
            Stage::Closing | Stage::Lingering if is_impatient => self.depart(slot),
            Stage::Closing | Stage::Lingering => self.plan_wake(slot),
        }
    }

    /// Makes sure the wheel wakes the connection in time.
    pub(super) fn plan_wake(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let mut at_ms = match connection.stage {
            Stage::Open => {
                let session = &connection.session;
                let expiry_ms = match session.expiry_s() {
                    u64::MAX => u64::MAX,
                    at_s => {
                        let ahead_ms = at_s.saturating_mul(1_000).saturating_sub(self.now.unix_ms);
                        self.now.mono_ms.saturating_add(ahead_ms)
                    }
                };
                session.deadline_ms().min(expiry_ms)
            }
            Stage::Closing | Stage::Lingering => u64::MAX,
        };
        if connection.patience_ms != 0 {
            at_ms = at_ms.min(connection.patience_ms);
        }
        let is_planned =
            connection.wake_tick != 0 && connection.wake_tick <= at_ms / super::wheel::TICK_MS + 1;
        if at_ms != u64::MAX && !is_planned {
            connection.wake_tick = self.wheel.schedule(slot, at_ms);
        }
    }
}
