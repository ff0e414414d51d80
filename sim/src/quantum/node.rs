//! One connection, and what must hold of it whenever it is touched.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;
use quantum_proto::Time;
use quantum_proto::connection::{Closed, Connection, Event, Stats, Transmit};
use quantum_proto::endpoint::Handle;
use quantum_proto::packet::Sealed;
use quantum_proto::streams::Role;

use super::failure::{Held, check};
use super::traffic::Traffic;
use super::wire::{Seen, Wire};

pub(super) struct Node {
    pub(super) role: Role,
    pub(super) connection: Connection,
    pub(super) handle: Handle,
    pub(super) closed: Option<Closed>,
    pub(super) is_dirty: bool,
    pub(super) was_connected: bool,
    /// Application packets that came before the handshake's end.
    early: Vec<Rc<Seen>>,
    began: Time,
    /// Calls of `handle_timeout`, in all and at the present moment.
    timeouts: u64,
    spins: u32,
    spun_at: Time,
    /// Packets that may exceed the window: probes.
    credit: u32,
    /// Bytes that this side may hold.
    pub(super) budget: u64,
    /// It awaits acknowledgements of what it has just sent.
    pub(super) tracks: bool,
    /// Its endpoint knows it no more.
    pub(super) is_forgotten: bool,
}

/// As many application packets are kept before the handshake's end, no more.
const EARLY_MAX: usize = 32;
/// Timers at one moment that bring nothing.
const SPINS_MAX: u32 = 8;

impl Node {
    pub(super) fn new(
        now: Time,
        role: Role,
        connection: Connection,
        handle: Handle,
        budget: u64,
    ) -> Self {
        Self {
            role,
            connection,
            handle,
            closed: None,
            is_dirty: true,
            was_connected: false,
            early: Vec::new(),
            began: now,
            timeouts: 0,
            spins: 0,
            spun_at: now,
            credit: 0,
            budget,
            tracks: false,
            is_forgotten: false,
        }
    }

    /// A packet arrived; `known` is what its sender put into it, if it is genuine and undamaged.
    pub(super) fn receive(
        &mut self,
        now: Time,
        from: SocketAddr,
        ce: bool,
        sealed: Sealed,
        known: Option<&Rc<Seen>>,
        wire: &mut Wire,
    ) -> Held {
        self.is_dirty = true;
        let before = self.connection.stats();
        let was_open = self.connection.is_open();
        self.connection.handle(now, from, ce, sealed);
        let after = self.connection.stats();
        if !was_open && self.connection.is_open() {
            for seen in std::mem::take(&mut self.early) {
                wire.on_taken(&seen);
                wire.on_decoded(&seen)?;
            }
        }
        let Some(seen) = known else {
            if wire.has_liar {
                return Ok(());
            }
            return self.unmoved("damaged-packets-change-nothing", before, after);
        };
        if wire.has_liar || seen.is_shaking() || self.closed.is_some() {
            return Ok(());
        }
        if !was_open {
            let kept = after.dropped_no_key == before.dropped_no_key;
            if kept && self.early.len() < EARLY_MAX && !self.connection.is_open() {
                self.early.push(Rc::clone(seen));
            }
            return Ok(());
        }
        if wire.was_taken(seen) {
            check(
                "replays-are-counted",
                after.dropped_replayed == before.dropped_replayed + 1,
                || {
                    format!(
                        "{:?} did not notice the replay of counter {}",
                        self.role, seen.counter
                    )
                },
            )?;
            return self.unmoved("replays-change-nothing", before, after);
        }
        if after.packets_received > before.packets_received {
            wire.on_taken(seen);
            if after.dropped_beyond_window == before.dropped_beyond_window {
                wire.on_decoded(seen)?;
            }
            return Ok(());
        }
        // Keys of a phase that is over, or so late that nobody can tell whether it is a replay.
        check(
            "genuine-packets-are-taken-in",
            after.dropped_replayed + after.decrypt_failures + after.dropped_no_key
                > before.dropped_replayed + before.decrypt_failures + before.dropped_no_key,
            || {
                format!(
                    "{:?} ignored counter {} without a word",
                    self.role, seen.counter
                )
            },
        )?;
        let largest = wire.last(seen.from).unwrap_or(0);
        check(
            "genuine-packets-are-taken-in",
            after.dropped_replayed == before.dropped_replayed || seen.counter + 2_048 <= largest,
            || format!("{:?} took counter {} for a replay", self.role, seen.counter),
        )
    }

    /// A packet that says nothing new changes counts only.
    fn unmoved(&self, oracle: &'static str, before: Stats, after: Stats) -> Held {
        let counted = Stats {
            bytes_received: after.bytes_received,
            dropped_replayed: after.dropped_replayed,
            decrypt_failures: after.decrypt_failures,
            dropped_no_key: after.dropped_no_key,
            ..before
        };
        check(oracle, counted == after, || {
            format!("{:?}: {counted:?} became {after:?}", self.role)
        })
    }

    /// Its time has come.
    pub(super) fn time(&mut self, now: Time) -> Held {
        self.is_dirty = true;
        self.connection.handle_timeout(now);
        self.credit = 2;
        self.timeouts += 1;
        if self.spun_at == now {
            self.spins += 1;
        } else {
            (self.spun_at, self.spins) = (now, 0);
        }
        check("timers-bring-something", self.spins < SPINS_MAX, || {
            format!(
                "{:?} wants to be woken at {:?} again and again: {:?}",
                self.role,
                now.elapsed(),
                self.connection.stats()
            )
        })?;
        let stats = self.connection.stats();
        let most = 100.0
            + 20.0 * now.since(self.began).as_secs_f64()
            + 3.0 * (stats.packets_sent + stats.packets_received) as f64;
        check("no-storm-of-timers", (self.timeouts as f64) < most, || {
            format!(
                "{:?} was woken {} times in {:?}, sent {}, received {}",
                self.role,
                self.timeouts,
                now.since(self.began),
                stats.packets_sent,
                stats.packets_received
            )
        })
    }

    /// The next datagrams to send.
    pub(super) fn transmit(
        &mut self,
        now: Time,
        segments: usize,
        out: &mut BytesMut,
    ) -> Held<Option<Transmit>> {
        let before = self.connection.stats();
        out.clear();
        let transmit = self.connection.poll_transmit(now, segments, out);
        let after = self.connection.stats();
        if let Some(transmit) = &transmit {
            let grew = after.inflight > before.inflight;
            let packets = after.packets_sent - before.packets_sent;
            // Proofs of a path and the handshake's end are small and never held back.
            let small = transmit.size < 300;
            if grew && !small && after.inflight > after.cwnd + MTU_PROBE {
                check("window-is-kept", u64::from(self.credit) >= packets, || {
                    format!(
                        "{:?} has {} bytes in flight after {packets} packets, the window is {}",
                        self.role, after.inflight, after.cwnd
                    )
                })?;
                self.credit -= packets as u32;
            }
            self.tracks = grew || packets > 1;
        }
        check(
            "memory-is-bounded",
            after.memory as u64 <= self.budget,
            || {
                format!(
                    "{:?} holds {} bytes, allowed are {}",
                    self.role, after.memory, self.budget
                )
            },
        )?;
        Ok(transmit)
    }

    /// Takes its events.
    pub(super) fn events(
        &mut self,
        traffic: &mut Traffic,
        has_liar: bool,
        mut tell: impl FnMut(&Event),
    ) -> Held {
        while let Some(event) = self.connection.poll() {
            tell(&event);
            check("nothing-follows-closed", self.closed.is_none(), || {
                format!("{:?} said {event:?}", self.role)
            })?;
            match event {
                Event::Connected => {
                    self.was_connected = true;
                    traffic.on_connected(self.role)?;
                }
                Event::Moved(_) => {}
                Event::Stream(_) if has_liar => {}
                Event::Stream(event) => traffic.on_event(self.role, event)?,
                Event::Closed(closed) => self.closed = Some(closed),
            }
        }
        Ok(())
    }

    /// At the end, when nothing is in flight: every packet that asked for an acknowledgement and
    /// got none counts as lost, those that a repair replaced among them.
    pub(super) fn check_losses(&self, wire: &Wire) -> Held {
        let stats = self.connection.stats();
        let (asked, acked) = wire.asked_and_acked(self.role);
        check(
            "what-was-repaired-counts-as-lost",
            stats.packets_lost - stats.spurious == asked - acked,
            || {
                format!(
                    "{:?} sent {asked} packets that ask for an acknowledgement, of which {acked} \
                     got one, and counts {} as lost, {} of them wrongly",
                    self.role, stats.packets_lost, stats.spurious
                )
            },
        )
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "{:?} {:?} {:?}",
            self.role,
            self.closed,
            self.connection.stats()
        )
    }
}

/// A probe of the path's size may be larger than what the window was asked for.
const MTU_PROBE: u64 = 4_000;
