//! Plays a scenario: moves time, carries datagrams, lets everybody act.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use quantum_proto::config::Config;
use quantum_proto::connection::Connection;
use quantum_proto::crypto::ServerCrypto;
use quantum_proto::crypto::null::{NullMacs, NullServer};
use quantum_proto::endpoint::{Endpoint, EndpointConfig, Handle};
use quantum_proto::frame::Frame;
use quantum_proto::streams::Role;
use quantum_proto::{Guuid, Time};

use super::failure::{Failure, Figures, Held, check};
use super::ledger::Ledger;
use super::lies::Lie;
use super::node::Node;
use super::scenario::{Action, Kind, Scenario};
use super::traffic::Traffic;
use super::wire::{Seen, Wire};
use crate::chance::Chance;
use crate::network::{Datagram, Fate, Network};

mod actions;
mod arrivals;
mod ends;

type Flying = Datagram<Rc<Seen>>;

/// A client, its connection's two ends, and what is known of them.
struct Pair {
    guuid: Guuid,
    /// Where the client's datagrams seem to come from.
    outer: SocketAddr,
    endpoint: Endpoint,
    client: Option<Node>,
    server: Option<Node>,
    wire: Wire,
    traffic: Traffic,
    moves: u64,
    /// The server has forgotten it, and knows nothing of it any more.
    is_lost: bool,
    /// A copy of its first packet has begun another connection at the server.
    has_twin: bool,
}

/// A connection at the server for a client that does not exist.
struct Stray {
    handle: Handle,
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Pair(usize),
    Stray,
}

pub(super) struct World {
    scenario: Scenario,
    now: Time,
    chance: Chance,
    network: Network<Rc<Seen>>,
    endpoint: Endpoint,
    crypto: Arc<dyn ServerCrypto>,
    pairs: Vec<Pair>,
    owners: Vec<Option<Owner>>,
    strays: Vec<Stray>,
    script: VecDeque<(Time, Action)>,
    ledger: Ledger,
    /// Who was lied to, and how; `None` where the lie couldn't be told.
    lied: Option<(usize, Role, Lie)>,
    /// Datagrams that somebody on the way has kept.
    kept: VecDeque<Flying>,
    buffer: BytesMut,
    figures: Figures,
    events: u64,
    verbose: bool,
}

/// More than any honest run needs.
const EVENTS_MAX: u64 = 3_000_000;
const KEPT_MAX: usize = 256;

fn server_address() -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, 1), 4_433).into()
}

fn client_address(pair: usize, host: u64, port: u64) -> SocketAddr {
    let host = Ipv4Addr::new(10, 1, host as u8, pair as u8 + 1);
    (host, 10_000 + port as u16).into()
}

/// Bytes that a side may hold with these settings: what it has received and not read, what it
/// was given to send, what is under way, and what repairs need.
///
/// Windows grow up to 16 times while somebody reads.
fn budget(config: &Config, peer: &Config, streams: usize, reads: bool) -> u64 {
    let unread = u64::from(config.connection_window) * if reads { 16 } else { 1 };
    let unsent = u64::from(config.send_buffer) * streams as u64;
    let under_way = (u64::from(peer.connection_window) * 16 + 64 * streams as u64)
        .min(u64::from(peer.packet_window) * 1_400);
    let repairs = 160 << 10;
    unread + unsent + under_way + repairs
}

impl World {
    pub(super) fn new(scenario: Scenario, mut chance: Chance, verbose: bool) -> Held<Self> {
        let crypto: Arc<dyn ServerCrypto> = Arc::new(NullServer {
            certificate: scenario.certificate,
        });
        let macs = || Box::new(NullMacs { key: 1 });
        let mut network = Network::new(chance.fork());
        let mut pairs = Vec::new();
        for (index, plan) in scenario.pairs.iter().enumerate() {
            network.add(plan.profiles);
            let mut name = [index as u8 + 1; 16];
            name[8..].copy_from_slice(&chance.next().to_be_bytes());
            let Some(guuid) = Guuid::new(name) else {
                continue;
            };
            pairs.push(Pair {
                guuid,
                outer: client_address(index, 0, 0),
                endpoint: Endpoint::new(EndpointConfig::default(), macs(), None),
                client: None,
                server: None,
                wire: Wire::new(index, guuid, plan.starts, [&plan.config, &scenario.server])?,
                traffic: Traffic::new(plan.plans.clone()),
                moves: 0,
                is_lost: false,
                has_twin: false,
            });
        }
        Ok(Self {
            now: Time::ZERO,
            endpoint: Endpoint::new(scenario.endpoint, macs(), Some(Arc::clone(&crypto))),
            script: scenario.script.iter().cloned().collect(),
            scenario,
            chance,
            network,
            crypto,
            pairs,
            owners: Vec::new(),
            strays: Vec::new(),
            ledger: Ledger::default(),
            lied: None,
            kept: VecDeque::new(),
            buffer: BytesMut::new(),
            figures: Figures::default(),
            events: 0,
            verbose,
        })
    }

    pub(super) fn play(mut self) -> Held<Figures> {
        let kind = self.scenario.kind;
        let at = |error: Failure, now: Time| Failure {
            text: format!("{} (at {:?}, {kind:?})", error.text, now.elapsed()),
            ..error
        };
        match self.play_to_the_end() {
            Ok(()) => {}
            Err(error) => return Err(at(error, self.now)),
        }
        self.figures.virtual_seconds = self.now.elapsed().as_secs();
        Ok(self.figures)
    }

    /// Lets time pass until `done` or until the time is up; tells whether it is done.
    fn run_until(&mut self, until: Time, mut done: impl FnMut(&mut Self) -> bool) -> Held<bool> {
        loop {
            self.settle()?;
            self.events += 1;
            check("time-goes-on", self.events < EVENTS_MAX, || {
                let nodes: Vec<String> = self.nodes().map(Node::describe).collect();
                format!("{} events\n{}", self.events, nodes.join("\n"))
            })?;
            if done(self) {
                return Ok(true);
            }
            let timers = self.nodes().filter_map(|it| it.connection.timeout());
            let strays = self.strays.iter().filter_map(|it| it.connection.timeout());
            let script = self.script.front().map(|(at, _)| *at);
            let next = timers
                .chain(strays)
                .chain(script)
                .chain(self.network.next_at());
            let Some(next) = next.min().filter(|it| *it <= until) else {
                self.now = self.now.max(until);
                return Ok(false);
            };
            self.now = self.now.max(next);
            while let Some(datagram) = self.network.arrived(self.now) {
                self.deliver(datagram)?;
            }
            self.timers()?;
            while self.script.front().is_some_and(|(at, _)| *at <= self.now) {
                if let Some((_, action)) = self.script.pop_front() {
                    self.act(action)?;
                }
            }
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.pairs
            .iter()
            .flat_map(|it| it.client.iter().chain(&it.server))
    }

    fn timers(&mut self) -> Held {
        let now = self.now;
        for pair in &mut self.pairs {
            for node in pair.client.iter_mut().chain(&mut pair.server) {
                if node.connection.timeout().is_some_and(|at| at <= now) {
                    node.time(now)?;
                }
            }
        }
        for stray in &mut self.strays {
            if stray.connection.timeout().is_some_and(|at| at <= now) {
                stray.connection.handle_timeout(now);
            }
        }
        Ok(())
    }

    /// Everybody says what there is to say.
    fn settle(&mut self) -> Held {
        for index in 0..self.pairs.len() {
            for role in [Role::Client, Role::Server] {
                self.settle_node(index, role)?;
            }
        }
        self.forget_drained();
        self.settle_strays()
    }

    fn settle_node(&mut self, index: usize, role: Role) -> Held {
        let now = self.now;
        let mut rounds = 0;
        loop {
            rounds += 1;
            check("time-goes-on", rounds < 10_000, || {
                format!("{role:?} of pair {index} always has something to do")
            })?;
            self.flush(index, role)?;
            let verbose = self.verbose;
            let pair = &mut self.pairs[index];
            let node = match role {
                Role::Client => &mut pair.client,
                Role::Server => &mut pair.server,
            };
            let Some(node) = node else { return Ok(()) };
            if !std::mem::take(&mut node.is_dirty) {
                return Ok(());
            }
            let has_liar = pair.wire.has_liar;
            node.events(&mut pair.traffic, has_liar, |event| {
                if verbose {
                    println!("{:>16?} {index} {role:?}: {event:?}", now.elapsed());
                }
            })?;
            if node.was_connected && node.closed.is_none() && !has_liar {
                if role == Role::Server {
                    self.endpoint.established(node.handle);
                }
                if pair.traffic.pump(role, now, &mut node.connection)? {
                    node.is_dirty = true;
                }
            }
        }
    }

    /// Forgets connections of the server that have nothing left to say: whoever speaks to them
    /// later gets a stateless reset.
    fn forget_drained(&mut self) {
        for pair in &mut self.pairs {
            if let Some(node) = &mut pair.server
                && node.connection.is_drained()
                && !std::mem::replace(&mut node.is_forgotten, true)
            {
                self.endpoint.remove(node.handle);
                self.owners[node.handle.0 as usize] = None;
            }
        }
    }

    /// Sends all that one side has to send.
    fn flush(&mut self, index: usize, role: Role) -> Held {
        let now = self.now;
        let mut buffer = std::mem::take(&mut self.buffer);
        let segments = self.chance.pick(&[1, 10]);
        let mut rounds = 0;
        loop {
            rounds += 1;
            check("time-goes-on", rounds < 100_000, || {
                format!("{role:?} of pair {index} sends without end")
            })?;
            let pair = &mut self.pairs[index];
            let node = match role {
                Role::Client => &mut pair.client,
                Role::Server => &mut pair.server,
            };
            let Some(node) = node.as_mut().filter(|it| it.is_dirty) else {
                break;
            };
            let Some(transmit) = node.transmit(now, segments, &mut buffer)? else {
                break;
            };
            let tracks = node.tracks;
            let size = transmit.segment.unwrap_or(transmit.size);
            check(
                "batches-are-even",
                transmit.size == buffer.len() && size > 0,
                || format!("{transmit:?} for {} bytes", buffer.len()),
            )?;
            for bytes in buffer.chunks(size) {
                let seen = self.pairs[index].wire.on_sent(role, bytes, tracks)?;
                if role == Role::Server {
                    self.ledger.on_sent(transmit.to, bytes.len())?;
                    for frame in &seen.frames {
                        if let Frame::PathChallenge(token) = frame {
                            self.ledger.on_challenge(transmit.to, *token);
                        }
                    }
                }
                let from = match role {
                    Role::Client => self.pairs[index].outer,
                    Role::Server => server_address(),
                };
                let datagram = Datagram {
                    from,
                    to: transmit.to,
                    bytes: bytes.to_vec(),
                    ecn: transmit.ecn,
                    known: Some(Rc::clone(&seen)),
                };
                if self.kept.len() == KEPT_MAX {
                    self.kept.pop_front();
                }
                self.kept.push_back(datagram.clone());
                let fate = self.network.send(now, index, role as usize, datagram);
                self.count(fate);
                if self.verbose {
                    self.trace(&seen, bytes.len(), fate);
                }
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn settle_strays(&mut self) -> Held {
        let (now, mut buffer) = (self.now, BytesMut::new());
        for stray in &mut self.strays {
            buffer.clear();
            while let Some(transmit) = stray.connection.poll_transmit(now, 1, &mut buffer) {
                self.ledger.on_sent(transmit.to, buffer.len())?;
                buffer.clear();
            }
            while stray.connection.poll().is_some() {}
        }
        let (endpoint, owners) = (&mut self.endpoint, &mut self.owners);
        self.strays.retain(|stray| {
            let over = stray.connection.is_drained();
            if over {
                endpoint.remove(stray.handle);
                owners[stray.handle.0 as usize] = None;
            }
            !over
        });
        Ok(())
    }

    fn count(&mut self, fate: Fate) {
        self.figures.datagrams += 1;
        match fate {
            Fate::Passed => {}
            Fate::Lost | Fate::Dark | Fate::QueueFull | Fate::TooLarge => {
                self.figures.lost_on_the_way += 1;
            }
            Fate::Corrupted => self.figures.corrupted += 1,
            Fate::Repeated => self.figures.repeated += 1,
        }
    }

    fn trace(&self, seen: &Seen, size: usize, fate: Fate) {
        let frames: Vec<String> = seen.frames.iter().map(brief).collect();
        println!(
            "{:>16?} {} {:?} #{} {:02x} seq {} ack {} {:?} {size} B {fate:?}: {}",
            self.now.elapsed(),
            seen.pair,
            seen.from,
            seen.counter,
            seen.header.flags.0,
            seen.header.sequence,
            seen.header.ack,
            seen.header.sacks.as_slice(),
            frames.join(", ")
        );
    }
}

fn brief(frame: &Frame) -> String {
    match frame {
        Frame::Stream {
            id,
            offset,
            fin,
            message_end,
            data,
        } => format!(
            "STREAM {id} {offset}+{}{}{}",
            data.len(),
            if *message_end { " end" } else { "" },
            if *fin { " fin" } else { "" }
        ),
        Frame::AckExt(ack) => {
            let ranges: Vec<_> = ack.ranges().collect();
            let recovered: Vec<_> = ack.recovered().collect();
            format!("ACK {ranges:?} {recovered:?}")
        }
        Frame::Repair(repair) => {
            format!("REPAIR {} {} {:#x}", repair.row, repair.first, repair.mask)
        }
        Frame::Crypto { offset, data } => format!("CRYPTO {offset}+{}", data.len()),
        Frame::Piece {
            sequence,
            offset,
            total,
            data,
        } => format!("PIECE {sequence} {offset}+{} of {total}", data.len()),
        other => format!("{other:?}"),
    }
}
