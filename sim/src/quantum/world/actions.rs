//! What the scenario lets happen.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quantum_proto::Guuid;
use quantum_proto::codes::close;
use quantum_proto::crypto::ClientCrypto;
use quantum_proto::crypto::null::{NullClient, NullMacs};
use quantum_proto::endpoint::{Endpoint, FIRST_DATAGRAM};
use quantum_proto::frame;
use quantum_proto::packet::{self, Flags, Header, Sacks, TRAILER_LEN};
use quantum_proto::streams::Role;

use super::{Node, World, client_address, server_address};
use crate::network::Datagram;
use crate::quantum::failure::Held;
use crate::quantum::lies::{Liar, Lie};
use crate::quantum::scenario::Action;

impl World {
    pub(super) fn act(&mut self, action: Action) -> Held {
        if self.verbose {
            println!("{:>16?} {action:?}", self.now.elapsed());
        }
        match action {
            Action::Restart | Action::Lie(..) if !self.is_connected() => {
                self.script.push_front((self.now + RETRY, action));
                let script = self.script.make_contiguous();
                script.sort_by_key(|(at, _)| *at);
            }
            Action::Restart => self.restart(),
            Action::Lie(pair, liar, lie) => self.lie(pair, liar, lie),
            Action::Connect(pair) => self.connect(pair)?,
            Action::Begin(pair, plan) => {
                let opener = self.pairs[pair].traffic.begin(plan);
                self.touch(pair, opener, |_| {});
            }
            Action::Link(pair, direction, profile) => {
                *self.network.profile(pair, direction) = *profile;
            }
            Action::Move { pair, host } => self.move_client(pair, host),
            Action::Configure(pair, role, config) => {
                let now = self.now;
                let plan = &self.scenario.pairs[pair];
                let peer = match role {
                    Role::Client => self.scenario.server,
                    Role::Server => plan.config,
                };
                let streams = self.pairs[pair].traffic.len();
                let more = super::budget(&config, &peer, streams, true);
                self.touch(pair, role, |node| {
                    node.budget += more;
                    node.connection.configure(now, &config);
                });
                self.touch(pair, role.other(), |node| node.budget += more);
            }
            Action::RenewKeys(pair, role) => {
                self.touch(pair, role, |node| node.connection.renew_keys());
            }
            Action::Replay { count, elsewhere } => self.replay(count, elsewhere),
            Action::Garbage(count) => self.garbage(count),
            Action::Flood(count) => self.flood(count),
            Action::Pause(pair, role, paused) => {
                self.pairs[pair].traffic.paused[role as usize] = paused;
                let config = match role {
                    Role::Client => &self.scenario.pairs[pair].config,
                    Role::Server => &self.scenario.server,
                };
                let more = u64::from(config.connection_window) * if paused { 0 } else { 15 };
                self.touch(pair, role, |node| node.budget += more);
            }
            Action::Close(pair, role) => {
                let now = self.now;
                self.touch(pair, role, |node| {
                    node.connection.close(now, close::APPLICATION, "enough");
                });
            }
        }
        Ok(())
    }

    pub(super) fn touch(&mut self, pair: usize, role: Role, act: impl FnOnce(&mut Node)) {
        let pair = &mut self.pairs[pair];
        let node = match role {
            Role::Client => &mut pair.client,
            Role::Server => &mut pair.server,
        };
        if let Some(node) = node {
            node.is_dirty = true;
            act(node);
        }
    }

    fn is_connected(&self) -> bool {
        self.pairs.iter().all(|pair| {
            let nodes = [&pair.client, &pair.server];
            nodes
                .iter()
                .all(|it| it.as_ref().is_some_and(|it| it.was_connected))
        })
    }

    /// The server knows nothing any more but the key of its resets.
    fn restart(&mut self) {
        let macs = Box::new(NullMacs { key: 1 });
        self.endpoint = Endpoint::new(self.scenario.endpoint, macs, Some(Arc::clone(&self.crypto)));
        self.owners.clear();
        self.strays.clear();
        for pair in &mut self.pairs {
            pair.server = None;
            pair.is_lost = true;
        }
    }

    /// One side is replaced by somebody who has its keys.
    fn lie(&mut self, index: usize, liar: Role, lie: Lie) {
        let pair = &mut self.pairs[index];
        let packets = Liar::new(pair.guuid, liar, &pair.wire, &mut self.chance).tell(lie);
        if !packets.is_empty() {
            self.lied = Some((index, liar.other(), lie));
        }
        pair.wire.has_liar = true;
        let (from, to) = match liar {
            Role::Client => {
                pair.client = None;
                (pair.outer, server_address())
            }
            Role::Server => {
                pair.server = None;
                pair.is_lost = true;
                (server_address(), pair.outer)
            }
        };
        for bytes in packets {
            self.figures.forged += 1;
            let datagram = Datagram {
                from,
                to,
                bytes,
                ecn: false,
                known: None,
            };
            self.network.inject(self.now, datagram);
        }
    }

    fn move_client(&mut self, index: usize, host: bool) {
        let pair = &mut self.pairs[index];
        // A handshake belongs to the address where it began, as in QUIC.
        let nodes = [&pair.client, &pair.server];
        if !nodes
            .iter()
            .all(|it| it.as_ref().is_some_and(|it| it.was_connected))
        {
            return;
        }
        self.figures.moves += 1;
        pair.moves += 1;
        let host = if host { pair.moves } else { 0 };
        pair.outer = client_address(index, host, pair.moves);
    }

    fn replay(&mut self, count: u64, elsewhere: bool) {
        for _ in 0..count {
            let index = self.chance.below(self.kept.len() as u64) as usize;
            let Some(mut datagram) = self.kept.get(index).cloned() else {
                return;
            };
            let shakes = datagram.known.as_ref().is_some_and(|it| it.is_shaking());
            // A handshake belongs to the address where it began: whoever is faster wins.
            if elsewhere && !shakes {
                datagram.from = stranger(self.chance.next());
            }
            self.network.inject(self.now, datagram);
        }
    }

    fn garbage(&mut self, count: u64) {
        for _ in 0..count {
            let index = self.chance.below(self.kept.len() as u64) as usize;
            let Some(mut datagram) = self.kept.get(index).cloned() else {
                return;
            };
            datagram.known = None;
            let length = datagram.bytes.len() as u64;
            match self.chance.below(4) {
                0 => {
                    for byte in &mut datagram.bytes {
                        *byte = self.chance.next() as u8;
                    }
                }
                // The header of a packet with another payload.
                1 => {
                    for byte in datagram.bytes.iter_mut().skip(32) {
                        *byte = self.chance.next() as u8;
                    }
                }
                2 => datagram.bytes.truncate(self.chance.below(length) as usize),
                _ => {
                    let bit = self.chance.below(length * 8) as usize;
                    datagram.bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            self.figures.forged += 1;
            self.network.inject(self.now, datagram);
        }
    }

    /// First packets of clients that do not exist.
    fn flood(&mut self, count: u64) {
        for _ in 0..count {
            let mut name = [0xee; 16];
            name[..8].copy_from_slice(&self.chance.next().to_be_bytes());
            let Some(guuid) = Guuid::new(name) else {
                continue;
            };
            let header = Header {
                flags: Flags::SYN,
                guuid,
                sequence: 0,
                ack: 0,
                sacks: Sacks::default(),
            };
            let mut out = BytesMut::new();
            header.write(0, &mut out);
            // As the null handshake begins: kind 1 and no options.
            frame::write_crypto(&mut out, 0, &[1, 0, 0]);
            let padding = FIRST_DATAGRAM - out.len() - TRAILER_LEN;
            frame::write_padding(&mut out, padding);
            let keys = NullClient.initial(guuid);
            packet::seal(&mut out, 0, header.len(), 0, keys.local.as_ref());
            self.figures.forged += 1;
            let datagram = Datagram {
                from: stranger(self.chance.next()),
                to: server_address(),
                bytes: out.to_vec(),
                ecn: false,
                known: None,
            };
            self.network.inject(self.now, datagram);
        }
    }
}

/// How long to wait for connections that are not there yet.
const RETRY: Duration = Duration::from_millis(50);

fn stranger(number: u64) -> SocketAddr {
    let [a, b, c, d, ..] = number.to_be_bytes();
    (Ipv4Addr::new(172, a, b, c), 1_024 + u16::from(d)).into()
}
