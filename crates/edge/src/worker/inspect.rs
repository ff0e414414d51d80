//! What operators may see and do across a worker's connections.

use std::net::IpAddr;

use protocol::code::Disconnect;
use protocol::dialect::Dialect;
use protocol::session::{ClientId, Operation, Transport};
use router::Flavor;

use super::Worker;
use super::connection::{Connection, Stage};

/// Which of a user's connections are meant.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// Only this one.
    pub client: Option<ClientId>,
    /// Only the one with this emulated session.
    pub session: Option<u128>,
    /// None of these.
    pub except: Vec<ClientId>,
    /// Only clients of the relay that came before this one.
    pub arrived_before: Option<u64>,
}

impl Select {
    pub(super) fn covers(&self, connection: &Connection) -> bool {
        let session = &connection.session;
        let emulated = match session.transport() {
            Transport::Emulated { session } => Some(session),
            Transport::WebSocket => None,
        };
        self.client.is_none_or(|client| client == session.client())
            && self.session.is_none_or(|wanted| emulated == Some(wanted))
            && !self.except.contains(&session.client())
            && self.arrived_before.is_none_or(|later| {
                let own = connection.stratix();
                own.is_some_and(|own| own.arrival < later)
            })
    }
}

/// A connection as operators see it; nothing secret in it.
#[derive(Debug, Clone)]
pub struct Glimpse {
    /// Its public id.
    pub client: ClientId,
    /// Its user; empty means anonymous.
    pub user: String,
    /// Where it comes from.
    pub address: IpAddr,
    /// What it speaks.
    pub dialect: Dialect,
    /// Encoding and framing.
    pub flavor: Flavor,
    /// Whether TLS ends here.
    pub is_tls: bool,
    /// When it came, in Unix ms.
    pub since_unix_ms: u64,
    /// When its token expires, in Unix seconds; 0 means never.
    pub expires_at: u64,
    /// Its channels.
    pub channels: Vec<String>,
    /// Bytes waiting to be written to it.
    pub queue_bytes: usize,
}

/// What connections sum up to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Census {
    /// No connect command, or no answer to it yet.
    pub(crate) connecting: usize,
    pub(crate) connected: usize,
    /// A close frame is due or out.
    pub(crate) closing: usize,
    /// Bytes waiting to be written.
    pub(crate) queue_bytes: usize,
    /// Most publications that wait for one connection.
    pub(crate) queue_longest: usize,
    pub(crate) subscriptions: usize,
}

/// How far draining came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Clients sent away.
    pub(crate) sent: usize,
    /// Where to go on; `None` if there was nobody left behind the starting point.
    pub(crate) next: Option<u32>,
}

impl Worker {
    /// The connections with a session, in no particular order.
    pub(crate) fn glimpses(&self) -> Vec<Glimpse> {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.session.is_connected())
            .map(|(_, connection)| {
                let session = &connection.session;
                let identity = session.identity();
                let age_ms = self
                    .now
                    .mono_ms
                    .saturating_sub(u64::from(connection.since_s) * 1_000);
                Glimpse {
                    client: session.client(),
                    user: identity
                        .map(|identity| identity.user.to_string())
                        .unwrap_or_default(),
                    address: connection.address,
                    dialect: session.dialect(),
                    flavor: connection.flavor,
                    is_tls: matches!(connection.link, super::link::Link::Tls(..)),
                    since_unix_ms: self.now.unix_ms.saturating_sub(age_ms),
                    expires_at: identity.map_or(0, |identity| identity.expires_at),
                    channels: session
                        .subscriptions()
                        .iter()
                        .map(|sub| sub.channel.as_str().to_owned())
                        .collect(),
                    queue_bytes: connection.queue.as_ref().map_or(0, |queue| queue.bytes()),
                }
            })
            .collect()
    }

    /// Subscribers by channel.
    pub(crate) fn channel_counts(&self) -> Vec<(String, usize)> {
        self.router
            .channels()
            .map(|(name, count)| (name.as_str().to_owned(), count))
            .collect()
    }

    /// What the connections sum up to.
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for (_, connection) in self.connections.iter() {
            census.subscriptions += connection.session.subscriptions().len();
            if let Some(queue) = &connection.queue {
                census.queue_bytes += queue.bytes();
                census.queue_longest = census.queue_longest.max(queue.publications());
            }
            *match connection.stage {
                Stage::Open if connection.session.is_connected() => &mut census.connected,
                Stage::Open => &mut census.connecting,
                Stage::Closing | Stage::Lingering => &mut census.closing,
            } += 1;
        }
        census
    }

    /// Disconnects one connection, whoever's it is; whether it was here.
    pub(crate) fn disconnect_client(&mut self, client: ClientId, disconnect: &Disconnect) -> bool {
        let found = self
            .connections
            .iter()
            .find(|(_, connection)| connection.session.client() == client)
            .map(|(slot, _)| slot);
        if let Some(slot) = found {
            let operation = Operation::Disconnect(disconnect.clone());
            self.guarded(slot, |worker| worker.operate(slot, operation));
        }
        found.is_some()
    }

    /// Disconnects the connections whose token an operator has revoked.
    pub(crate) fn disconnect_revoked(&mut self) {
        let revocations = self.gate.revocations();
        let revoked: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                connection.session.identity().is_some_and(|identity| {
                    let token_id = identity.token_id.as_deref();
                    revocations.check(&identity.user, token_id, identity.issued_at)
                })
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in revoked {
            self.guarded(slot, |worker| {
                worker.end_session(slot, Disconnect::INVALID_TOKEN);
            });
        }
    }

    /// Sends up to `most` clients away to another node, from slot `from` on.
    pub(crate) fn drain(&mut self, from: u32, most: usize) -> Drained {
        let mut sent = 0;
        for slot in from..self.connections.capacity() {
            if sent == most {
                return Drained {
                    sent,
                    next: Some(slot),
                };
            }
            let is_open = |connection: &Connection| connection.stage == Stage::Open;
            if self.connections.get(slot).is_some_and(is_open) {
                self.guarded(slot, |worker| {
                    worker.end_session(slot, Disconnect::SHUTDOWN);
                });
                sent += 1;
            }
        }
        Drained { sent, next: None }
    }

    /// Ends all connections at once: the grace is over.
    pub(crate) fn abandon_all(&mut self) {
        let slots: Vec<u32> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.guarded(slot, |worker| {
                worker.end_session(slot, Disconnect::SHUTDOWN);
                worker.flush(slot);
                worker.depart(slot);
            });
        }
    }
}
