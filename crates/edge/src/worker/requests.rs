//! What sessions ask for, and who answers.

use std::sync::Arc;

use bus::Answer;
use protocol::code::{Disconnect, ErrorCode};
use protocol::session::{Operation, Request, Response, Session, SubscribeAsk};
use router::services::Who;
use router::{Found, Subscriber, Subscribing};

use super::Worker;
use super::inbox::Mail;
use super::slab::Key;
use crate::gate::Kind;
use crate::live::UNSENT_FLAG;

impl Worker {
    /// Answers a request, or sees to it that an answer comes by mail.
    pub(super) fn request(&mut self, slot: u32, request: Request) -> Option<Response> {
        let now = self.now;
        match request {
            Request::Authenticate { token } => {
                self.check_token(slot, Kind::Connection, token);
                None
            }
            Request::AuthorizeSubscription { token } => {
                self.check_token(slot, Kind::Subscription, token);
                None
            }
            Request::Register { single_connection } => {
                if self.is_revoked(slot) {
                    self.end_session(slot, Disconnect::INVALID_TOKEN);
                    return None;
                }
                Some(Response::Registered(self.register(slot, single_connection)))
            }
            Request::Subscribe(mut ask) => {
                self.adapt(slot, &mut ask);
                let who = self.subscriber(slot)?;
                if self.registers.door.is_out_of_memory(self.live.door.memory) {
                    return Some(Response::Subscribed(Err(ErrorCode::TooManyRequests)));
                }
                match self.router.subscribe(now, who, &ask) {
                    Subscribing::Done(answer) => Some(Response::Subscribed(answer)),
                    Subscribing::Later(asking) => {
                        let key = self.connections.key(slot)?;
                        let inbox = Arc::clone(&self.inbox);
                        self.gate.tasks().spawn("subscribing", async move {
                            let found = asking.await;
                            inbox.post(Mail::Entered(key, Box::new(ask), found));
                        });
                        None
                    }
                }
            }
            Request::Publish {
                channel,
                data,
                info,
                options,
            } => {
                if self.registers.door.is_out_of_memory(self.live.door.memory) {
                    return Some(Response::Published(Err(ErrorCode::TooManyRequests)));
                }
                let options = &options.options;
                let answer = self.router.publish(now, channel, data, info, options);
                let metrics = Arc::clone(&self.metrics);
                let answer = answer.map(move |published| {
                    if published.is_err() {
                        metrics.push_failed.inc();
                    }
                    Response::Published(published)
                });
                self.now_or_later(slot, answer)
            }
            Request::Call { subject, data } => {
                let answer = self.router.call(&subject, data);
                let told = |answer: Result<_, ErrorCode>| answer.map_err(ErrorCode::to_error);
                self.now_or_later(slot, answer.map(move |it| Response::Called(told(it))))
            }
            Request::CallService { method, data } => {
                let session = &self.connections.get(slot)?.session;
                let who = Who {
                    user: session.identity().map_or("", |identity| &identity.user),
                    encoding: session.encoding(),
                };
                let answer = self.live.services.call(&method, who, data);
                self.now_or_later(slot, answer.map(Response::Called))
            }
            Request::History(ask) => {
                let answer = self.router.history(now, &ask).map(Response::History);
                self.now_or_later(slot, answer)
            }
            Request::Presence { channel } => {
                let answer = self.router.presence(&channel).map(Response::Presence);
                self.now_or_later(slot, answer)
            }
            Request::PresenceStats { channel } => {
                let answer = self.router.presence_stats(&channel);
                self.now_or_later(slot, answer.map(Response::PresenceStats))
            }
        }
    }

    /// The answer, or nothing if it is to come by mail. A session waits for one answer at
    /// most, so these tasks are bounded by the connections.
    fn now_or_later(&self, slot: u32, answer: Answer<Response>) -> Option<Response> {
        let later = match answer {
            Answer::Now(response) => return Some(response),
            Answer::Later(later) => later,
        };
        let key = self.connections.key(slot)?;
        let inbox = Arc::clone(&self.inbox);
        self.gate.tasks().spawn("bus answer", async move {
            inbox.post(Mail::Answer(key, later.await));
        });
        None
    }

    /// The bus has answered a session that subscribes.
    pub(super) fn entered(&mut self, key: Key, ask: &SubscribeAsk, found: Found) {
        let slot = key.slot;
        // A connection that closes is there still, but has left all its channels.
        if !self.connections.holds(key) || !self.router.awaits(slot) {
            return self.router.undo(ask);
        }
        self.guarded(slot, |worker| {
            let Some(who) = worker.subscriber(slot) else {
                return;
            };
            let (answer, held) = worker.router.settle(who, ask, found);
            worker.answer(slot, Response::Subscribed(answer));
            worker.release(slot, ask, &held);
        });
    }

    fn subscriber(&self, slot: u32) -> Option<Subscriber> {
        let connection = self.connections.get(slot)?;
        let client = connection.session.client();
        Some(Subscriber {
            slot,
            client,
            flavor: connection.flavor,
        })
    }

    /// Signature checks take too long for the loop: they run elsewhere.
    fn check_token(&self, slot: u32, kind: Kind, token: String) {
        let Some(key) = self.connections.key(slot) else {
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        self.gate.check(kind, token, move |response| {
            inbox.post(Mail::Answer(key, response));
        });
    }

    /// A token that came with the request may have been revoked before it was used.
    fn is_revoked(&self, slot: u32) -> bool {
        let session = self
            .connections
            .get(slot)
            .map(|connection| &connection.session);
        session.and_then(Session::identity).is_some_and(|identity| {
            let token_id = identity.token_id.as_deref();
            self.gate
                .revocations()
                .check(&identity.user, token_id, identity.issued_at)
        })
    }

    fn register(&mut self, slot: u32, single_connection: bool) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else {
            return false;
        };
        let Some(identity) = connection.session.identity() else {
            return false;
        };
        let limit = self.live.session.client.user_connection_limit;
        if !self.registers.users.enter(&identity.user, limit) {
            return false;
        }
        connection.is_registered = true;
        let unsent_max = self.live.websocket.unsent_max;
        let is_bounded = || (self.live.flags)(UNSENT_FLAG, &identity.user).unwrap_or(true);
        if unsent_max > 0 && is_bounded() {
            connection.link.bound_unsent(unsent_max);
        }
        let user = identity.user.clone();
        let client = connection.session.client();
        let arrival = connection.stratix().map(|own| own.arrival);
        self.users.add(&self.connections, slot, &user);
        if single_connection {
            self.registers.disconnect_others(&user, client);
        }
        if let Some(arrival) = arrival {
            if !self.registers.latest.enter(&user, arrival) {
                self.end_session(slot, Disconnect::REPLACED);
                return true;
            }
            self.registers.replace_before(&user, arrival);
        }
        true
    }

    /// Does something to each of a user's connections here.
    pub(crate) fn operate_user(
        &mut self,
        user: &str,
        select: &super::Select,
        operation: &Operation,
    ) {
        for slot in self.users.of(&self.connections, user) {
            let is_meant = self
                .connections
                .get(slot)
                .is_some_and(|connection| select.covers(connection));
            if is_meant {
                let operation = operation.clone();
                self.guarded(slot, |worker| worker.operate(slot, operation));
            }
        }
    }
}
