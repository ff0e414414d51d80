//! How connections come and go.

use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Token};
use protocol::code::Disconnect;
use protocol::session::{ClientId, Session, Transport};
use router::Framing;
use websocket::{Decoder, OpCode, Role};

use super::arrival::{Arrival, Socket};
use super::connection::{Connection, Own, Stage};
use super::link::Link;
use super::{Worker, context};
use crate::door::Bucket;

/// How long a closing connection may take to write its last bytes and hear the
/// peer's close (`contracts`: centrifuge 11.4).
const CLOSE_PATIENCE_MS: u64 = 5_000;

impl Worker {
    /// Takes a connection in.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival {
            socket,
            flavor,
            transport,
            verified,
            own,
            deflate,
            early,
            address,
            pass,
        } = arrival;
        let key = self.connections.next_key();
        let mut link = match socket {
            Socket::Tcp(stream) => Link::Tcp(TcpStream::from_std(stream)),
            Socket::Tls {
                stream,
                state,
                unsent,
            } => Link::tls(TcpStream::from_std(stream), state, unsent),
            Socket::Http { pipe, key: told } => {
                // Set once, here; the body reports back under this key.
                let _first = told.set(key);
                Link::Http(pipe)
            }
        };
        if let Some(source) = link.source() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(key.slot as usize);
            if let Err(error) = self.poll.registry().register(source, token, interest) {
                self.metrics.refused("watch");
                tracing::warn!(%error, "connection could not be watched and was closed");
                return;
            }
        }
        let client = ClientId(uuid::Uuid::new_v4().as_u128());
        let session = Session::of_dialect(
            context(&self.live, self.now),
            flavor.dialect,
            client,
            transport,
            flavor.encoding,
            verified,
        );
        let connection = Connection {
            link,
            decoder: Decoder::new(Role::Server, deflate),
            session,
            queue: None,
            flavor,
            own,
            stage: Stage::Open,
            is_registered: false,
            is_dirty: false,
            is_blocked: false,
            wake_tick: 0,
            patience_ms: 0,
            control_frames: Bucket::default(),
            since_s: u32::try_from(self.now.mono_ms / 1_000).unwrap_or(u32::MAX),
            address,
            _pass: pass,
        };
        self.connections.insert(connection);
        self.metrics.connected(flavor);
        if let Transport::Emulated { session } = transport {
            self.registers
                .emulated
                .add(session, Arc::clone(&self.inbox), key);
        }
        self.plan_wake(key.slot);
        if self.is_abandoned(key.slot) {
            return self.depart(key.slot);
        }
        if !flavor.dialect.profile().logs_in_by_command {
            self.guarded(key.slot, |worker| worker.begin(key.slot));
        }
        self.guarded(key.slot, |worker| match flavor.framing {
            Framing::WebSocket { .. } => worker.early_bytes(key.slot, &early),
            Framing::Stream | Framing::Events => worker.emulated_frame(key.slot, &early),
        });
    }

    /// Whether the HTTP client was gone before its key was known: then nobody else
    /// reports that it is. Its slot had to be taken all the same, so that a report
    /// under this key finds it vacated rather than somebody else in it.
    fn is_abandoned(&self, slot: u32) -> bool {
        self.connections.get(slot).is_some_and(
            |connection| matches!(&connection.link, Link::Http(pipe) if pipe.is_abandoned()),
        )
    }

    /// Starts to close: leaves all channels now, says why, and gives the peer a while.
    pub(super) fn begin_close(&mut self, slot: u32, disconnect: &Disconnect) {
        self.metrics.disconnected(disconnect.code);
        self.leave_all(slot);
        self.settle_data(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        let queue = self.spare_queues.fill(&mut connection.queue);
        match connection.flavor.framing {
            Framing::WebSocket { .. } => {
                let payload = websocket::close_payload(disconnect.code, &disconnect.reason);
                let out = queue.control_mut();
                websocket::encode_frame(out, OpCode::Close, true, false, None, &payload);
            }
            Framing::Stream | Framing::Events => {
                let told = protocol::message::Reply {
                    push: Some(disconnect.to_push().into()),
                    ..Default::default()
                };
                self.scratch.clear();
                let encoding = connection.flavor.encoding;
                // A disconnect carries no payload of the application: it always encodes.
                if protocol::codec::encode_reply(encoding, &told, &mut self.scratch).is_ok() {
                    let framing = connection.flavor.framing;
                    framing.wrap(encoding, &self.scratch, None, queue.control_mut());
                }
            }
        }
        self.await_close(slot);
    }

    /// Answers a close frame, broken frames and limits of the WebSocket layer, whose
    /// codes are not the protocol's.
    pub(super) fn begin_websocket_close(&mut self, slot: u32, code: u16, reason: &str) {
        self.leave_all(slot);
        self.settle_data(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.stage != Stage::Open {
            return;
        }
        let queue = self.spare_queues.fill(&mut connection.queue);
        let payload = websocket::close_payload(code, reason);
        websocket::encode_frame(
            queue.control_mut(),
            OpCode::Close,
            true,
            false,
            None,
            &payload,
        );
        self.await_close(slot);
    }

    /// Writes the publications that the socket takes and drops the others: nothing may
    /// follow the close frame, and a client too slow for them is not waited for.
    fn settle_data(&mut self, slot: u32) {
        let has_data = |connection: &Connection| {
            connection
                .queue
                .as_ref()
                .is_some_and(|queue| queue.bytes() > queue.control_bytes())
        };
        if self.connections.get(slot).is_some_and(has_data) {
            self.flush(slot);
        }
        if let Some(connection) = self.connections.get_mut(slot)
            && let Some(queue) = &mut connection.queue
        {
            queue.clear_data();
        }
    }

    fn await_close(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.stage = Stage::Closing;
            connection.patience_ms = self.now.mono_ms + CLOSE_PATIENCE_MS;
        }
        self.plan_wake(slot);
        self.mark_dirty(slot);
    }

    /// Ends a connection without a word, whatever its state.
    pub(super) fn depart(&mut self, slot: u32) {
        self.leave_all(slot);
        self.forget(slot);
    }

    /// Lets go of a connection and what it holds.
    pub(super) fn forget(&mut self, slot: u32) {
        let Some(mut connection) = self.connections.remove(slot) else {
            return;
        };
        if let Some(source) = connection.link.source()
            && let Err(error) = self.poll.registry().deregister(source)
        {
            tracing::debug!(%error, "closed socket was not watched");
        }
        if let Link::Http(pipe) = &connection.link {
            pipe.end();
        }
        if let Transport::Emulated { session } = connection.session.transport() {
            self.registers.emulated.remove(session);
        }
        self.metrics.gone(connection.flavor);
        self.stratix_went(&connection);
    }

    /// Ends all subscriptions and takes the connection off the table of users.
    fn leave_all(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let client = connection.session.client();
        let subs = connection.session.end();
        self.router.abandon(slot);
        let is_registered = std::mem::take(&mut connection.is_registered);
        if is_registered && let Some(identity) = connection.session.identity() {
            if let Some(own) = Own::stratix(connection.own.as_deref()) {
                self.registers.latest.leave(&identity.user, own.arrival);
            }
            self.users.remove(slot, &identity.user);
            self.registers.users.leave(&identity.user);
        }
        for sub in subs {
            self.router.leave(slot, client, &sub);
            if sub.announces_leave() {
                self.announce_leave(slot, &sub);
            }
        }
    }
}
