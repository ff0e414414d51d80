//! What arrives: whose it is, and who is let in.

use bytes::BytesMut;
use quantum_proto::Time;
use quantum_proto::connection::{Connection, Setup};
use quantum_proto::crypto::ClientCrypto;
use quantum_proto::crypto::null::NullClient;
use quantum_proto::endpoint::{Handle, Incoming, Reason, Verdict};
use quantum_proto::frame::Frame;
use quantum_proto::packet::{Flags, Packet};
use quantum_proto::streams::Role;

use super::{Flying, Node, Owner, Stray, World, budget, server_address};
use crate::network::Datagram;
use crate::quantum::failure::{Failure, Held, check};
use crate::quantum::wire::Wire;

impl World {
    pub(super) fn deliver(&mut self, datagram: Flying) -> Held {
        if datagram.to == server_address() {
            return self.deliver_to_server(datagram);
        }
        let Some(index) = self.pairs.iter().position(|it| it.outer == datagram.to) else {
            return Ok(());
        };
        let pair = &mut self.pairs[index];
        let Ok(packet) = Packet::parse(BytesMut::from(&datagram.bytes[..])) else {
            return Ok(());
        };
        match pair.endpoint.handle(self.now, datagram.from, &packet) {
            Verdict::Connection(_) => {
                let Some(node) = &mut pair.client else {
                    return Ok(());
                };
                take(node, self.now, &datagram, packet, &mut pair.wire)
            }
            Verdict::Respond(bytes) => {
                let answer = Datagram {
                    from: pair.outer,
                    to: datagram.from,
                    bytes: bytes.to_vec(),
                    ecn: false,
                    known: None,
                };
                self.network.send(self.now, index, 0, answer);
                Ok(())
            }
            Verdict::New(_) | Verdict::Drop(_) => Ok(()),
        }
    }

    fn deliver_to_server(&mut self, datagram: Flying) -> Held {
        self.ledger.on_received(datagram.from, datagram.bytes.len());
        let Ok(packet) = Packet::parse(BytesMut::from(&datagram.bytes[..])) else {
            self.endpoint.dropped(Reason::Malformed);
            return Ok(());
        };
        match self.endpoint.handle(self.now, datagram.from, &packet) {
            Verdict::Connection(handle) => self.deliver_to(handle, &datagram, packet),
            Verdict::New(incoming) => {
                let handle = self.take_in(incoming)?;
                self.deliver_to(handle, &datagram, packet)
            }
            Verdict::Respond(bytes) => {
                self.ledger.on_sent(datagram.from, bytes.len())?;
                if bytes.get(5) == Some(&Flags::SYN.with(Flags::ACK).0) {
                    self.figures.cookies += 1;
                }
                let link = self.pairs.iter().position(|it| it.outer == datagram.from);
                let answer = Datagram {
                    from: server_address(),
                    to: datagram.from,
                    bytes: bytes.to_vec(),
                    ecn: false,
                    known: None,
                };
                self.network.send(self.now, link.unwrap_or(0), 1, answer);
                Ok(())
            }
            Verdict::Drop(_) => Ok(()),
        }
    }

    fn deliver_to(&mut self, handle: Handle, datagram: &Flying, packet: Packet) -> Held {
        match self.owners.get(handle.0 as usize).copied().flatten() {
            Some(Owner::Pair(index)) => {
                let pair = &mut self.pairs[index];
                let Some(node) = &mut pair.server else {
                    return Ok(());
                };
                // What was kept until the handshake's end may move it at once.
                let remote = node.connection.remote();
                take(node, self.now, datagram, packet, &mut pair.wire)?;
                let Some(seen) = &datagram.known else {
                    return Ok(());
                };
                let later = Flags::SYN.with(Flags::KEY_PHASE);
                if seen.header.flags.contains(later) {
                    self.ledger.on_proved(remote);
                }
                for frame in &seen.frames {
                    if let Frame::PathResponse(token) = frame {
                        self.ledger.on_response(*token);
                    }
                }
                Ok(())
            }
            Some(Owner::Stray) => {
                if let Packet::Sealed(sealed) = packet
                    && let Some(stray) = self.strays.iter_mut().find(|it| it.handle == handle)
                {
                    stray
                        .connection
                        .handle(self.now, datagram.from, false, sealed);
                }
                Ok(())
            }
            None => check("handles-have-owners", false, || format!("{handle:?}")),
        }
    }

    /// A client that is let in; it may not exist.
    fn take_in(&mut self, incoming: Incoming) -> Held<Handle> {
        let handle = self.endpoint.insert(incoming.guuid, true);
        let handle = handle.map_err(|error| broken("insert", error))?;
        let index = self.pairs.iter().position(|it| it.guuid == incoming.guuid);
        let plan = index.map(|index| &self.scenario.pairs[index]);
        let setup = Setup {
            guuid: incoming.guuid,
            remote: incoming.remote,
            config: self.scenario.server,
            start: plan.map_or(0, |it| it.starts[1]),
            reset_token: Some(self.endpoint.reset_token(incoming.guuid)),
            chance: [self.chance.next(), self.chance.next()],
        };
        let mut options = Vec::new();
        setup.options().encode(&mut options);
        let session = self.crypto.start(incoming.guuid, &options);
        let session = session.map_err(|error| broken("handshake", error))?;
        let connection = Connection::server(
            self.now,
            &setup,
            session,
            incoming.initial,
            incoming.validated,
        );
        if incoming.validated {
            self.ledger.on_proved(incoming.remote);
        }
        let slot = handle.0 as usize;
        if self.owners.len() <= slot {
            self.owners.resize(slot + 1, None);
        }
        match index {
            Some(index) if self.pairs[index].server.is_none() && !self.pairs[index].is_lost => {
                self.owners[slot] = Some(Owner::Pair(index));
                let streams = self.pairs[index].traffic.len();
                let plan = &self.scenario.pairs[index];
                let budget = budget(
                    &self.scenario.server,
                    &plan.config,
                    streams,
                    self.scenario.stalled != Some(Role::Server),
                );
                let node = Node::new(self.now, Role::Server, connection, handle, budget);
                self.pairs[index].server = Some(node);
            }
            _ => {
                if let Some(index) = index {
                    self.pairs[index].has_twin = true;
                }
                self.owners[slot] = Some(Owner::Stray);
                self.strays.push(Stray { handle, connection });
            }
        }
        Ok(handle)
    }

    pub(super) fn connect(&mut self, index: usize) -> Held {
        let plan = &self.scenario.pairs[index];
        let pair = &mut self.pairs[index];
        let handle = pair.endpoint.insert(pair.guuid, false);
        let handle = handle.map_err(|error| broken("insert", error))?;
        let setup = Setup {
            guuid: pair.guuid,
            remote: server_address(),
            config: plan.config,
            start: plan.starts[0],
            reset_token: Some(pair.endpoint.reset_token(pair.guuid)),
            chance: [self.chance.next(), self.chance.next()],
        };
        let mut options = Vec::new();
        setup.options().encode(&mut options);
        let session = NullClient.start(pair.guuid, "server", &options);
        let session = session.map_err(|error| broken("handshake", error))?;
        let initial = NullClient.initial(pair.guuid);
        let connection = Connection::client(self.now, &setup, session, initial);
        let budget = budget(
            &plan.config,
            &self.scenario.server,
            pair.traffic.len(),
            self.scenario.stalled != Some(Role::Client),
        );
        pair.client = Some(Node::new(
            self.now,
            Role::Client,
            connection,
            handle,
            budget,
        ));
        Ok(())
    }
}

/// Hands a packet to a connection.
fn take(node: &mut Node, now: Time, datagram: &Flying, packet: Packet, wire: &mut Wire) -> Held {
    match packet {
        Packet::Sealed(sealed) => {
            let known = datagram.known.as_ref();
            node.receive(now, datagram.from, datagram.ecn, sealed, known, wire)
        }
        Packet::Reset { token, .. } => {
            node.is_dirty = true;
            node.connection.handle_reset(now, token);
            Ok(())
        }
    }
}
fn broken(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure {
        oracle: "the-simulation-works",
        text: format!("{what}: {error}"),
    }
}
