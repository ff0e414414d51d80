//! What sessions ask for, and who answers.

use protocol::code::{Disconnect, ErrorCode};
use protocol::session::{Operation, Request, Response, Session};
use router::Subscriber;

use super::Worker;
use crate::gate::Kind;
use crate::worker::inbox::Mail;

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
                Some(Response::Subscribed(self.router.subscribe(now, who, &ask)))
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
                let published = self.router.publish(now, channel, data, info, options);
                if published.is_err() {
                    self.metrics.push_failed.inc();
                }
                Some(Response::Published(published))
            }
            Request::History(ask) => Some(Response::History(self.router.history(now, &ask))),
            Request::Presence { channel } => {
                Some(Response::Presence(Ok(self.router.presence(&channel))))
            }
            Request::PresenceStats { channel } => Some(Response::PresenceStats(Ok(self
                .router
                .presence_stats(&channel)))),
        }
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
        let inbox = std::sync::Arc::clone(&self.inbox);
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
        let user = identity.user.clone();
        let client = connection.session.client();
        let arrival = connection.stratix.as_ref().map(|own| own.arrival);
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
