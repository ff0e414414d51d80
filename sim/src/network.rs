//! A network in virtual time: datagrams go in, and come out later, damaged, twice or not at all.
//!
//! Each client has a link of its own with two directions. A direction loses (independently or in
//! bursts), delays, jitters, reorders, repeats and corrupts, has a rate with a finite queue whose
//! tail is dropped, lets nothing pass that is larger than its MTU, and marks ECN-capable
//! datagrams when its queue is long. Everything can change while datagrams are under way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use quantum_proto::Time;

use crate::chance::Chance;

/// How one direction of a link loses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Loss {
    /// Each datagram with this probability.
    Independent(f64),
    /// Gilbert-Elliott: in the bad state everything is lost.
    Bursts {
        /// The probability to enter the bad state with a datagram.
        enter: f64,
        /// The probability to leave it.
        leave: f64,
    },
}

/// What one direction of a link does to datagrams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Profile {
    pub(crate) loss: Loss,
    pub(crate) delay: Duration,
    /// Each datagram takes up to so much longer, in order if `keeps_order`.
    pub(crate) jitter: Duration,
    pub(crate) keeps_order: bool,
    /// The probability that a datagram is held back, and for how long.
    pub(crate) holds: f64,
    pub(crate) hold: Duration,
    pub(crate) repeats: f64,
    pub(crate) corrupts: f64,
    /// Bytes per second.
    pub(crate) rate: f64,
    /// Bytes that wait at most.
    pub(crate) queue: f64,
    /// Bytes of UDP payload that pass at most.
    pub(crate) mtu: usize,
    /// Bytes waiting from which datagrams are marked.
    pub(crate) marks_at: f64,
    /// Nothing passes.
    pub(crate) dark: bool,
}

impl Profile {
    /// The same without anything that goes wrong.
    pub(crate) fn healed(self) -> Self {
        Self {
            loss: Loss::Independent(0.0),
            jitter: Duration::ZERO,
            holds: 0.0,
            repeats: 0.0,
            corrupts: 0.0,
            dark: false,
            ..self
        }
    }
}

/// A datagram with what the simulation knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Datagram<K> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    /// ECN-capable on the way in, marked on the way out.
    pub(crate) ecn: bool,
    /// What its sender put into it; nothing if it was damaged or forged.
    pub(crate) known: Option<K>,
}

/// What became of a datagram that went in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Passed,
    Lost,
    Dark,
    QueueFull,
    TooLarge,
    Corrupted,
    Repeated,
}

#[derive(Debug)]
struct Direction {
    profile: Profile,
    is_bad: bool,
    /// When its queue will be empty.
    busy: Time,
    /// When the last one in order arrives.
    last: Time,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network<K> {
    chance: Chance,
    links: Vec<[Direction; 2]>,
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    flying: Vec<Option<Datagram<K>>>,
    free: Vec<usize>,
    number: u64,
}

impl<K: Clone> Network<K> {
    pub(crate) fn new(chance: Chance) -> Self {
        Self {
            chance,
            links: Vec::new(),
            order: BinaryHeap::new(),
            flying: Vec::new(),
            free: Vec::new(),
            number: 0,
        }
    }

    /// Adds a link; `profiles` are those to the server and from it. Returns its number.
    pub(crate) fn add(&mut self, profiles: [Profile; 2]) -> usize {
        self.links.push(profiles.map(|profile| Direction {
            profile,
            is_bad: false,
            busy: Time::ZERO,
            last: Time::ZERO,
        }));
        self.links.len() - 1
    }

    pub(crate) fn profile(&mut self, link: usize, direction: usize) -> &mut Profile {
        &mut self.links[link][direction].profile
    }

    /// When the next datagram arrives.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.order.peek().map(|Reverse((at, _, _))| *at)
    }

    /// A datagram that has arrived by now.
    pub(crate) fn arrived(&mut self, now: Time) -> Option<Datagram<K>> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        self.flying[slot].take()
    }

    /// Lets a datagram arrive, whatever the links are like.
    pub(crate) fn inject(&mut self, at: Time, datagram: Datagram<K>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.flying.push(None);
            self.flying.len() - 1
        });
        self.flying[slot] = Some(datagram);
        self.number += 1;
        self.order.push(Reverse((at, self.number, slot)));
    }

    /// Sends a datagram over a direction of a link.
    pub(crate) fn send(
        &mut self,
        now: Time,
        link: usize,
        direction: usize,
        mut datagram: Datagram<K>,
    ) -> Fate {
        let chance = &mut self.chance;
        let way = &mut self.links[link][direction];
        let profile = way.profile;
        if datagram.bytes.len() > profile.mtu {
            return Fate::TooLarge;
        }
        let waiting = way.busy.since(now).as_secs_f64() * profile.rate;
        if waiting > profile.queue {
            return Fate::QueueFull;
        }
        // What is lost further on has taken its time here.
        let wire = (datagram.bytes.len() + IP_AND_UDP) as f64;
        way.busy = way.busy.max(now) + Duration::from_secs_f64(wire / profile.rate);
        datagram.ecn &= waiting > profile.marks_at;
        if profile.dark {
            return Fate::Dark;
        }
        if way.loses(chance) {
            return Fate::Lost;
        }
        let mut at = way.busy + profile.delay + chance.within(profile.jitter);
        if profile.keeps_order {
            at = at.max(way.last);
        }
        way.last = way.last.max(at);
        if chance.happens(profile.holds) {
            at = at + chance.within(profile.hold);
        }
        let mut fate = Fate::Passed;
        if chance.happens(profile.repeats) {
            fate = Fate::Repeated;
            let again = at + chance.within(profile.hold.max(Duration::from_millis(1)));
            let copy = datagram.clone();
            self.inject(again, copy);
        }
        if self.chance.happens(profile.corrupts) {
            fate = Fate::Corrupted;
            corrupt(&mut datagram.bytes, &mut self.chance);
            datagram.known = None;
        }
        self.inject(at, datagram);
        fate
    }
}

impl Direction {
    fn loses(&mut self, chance: &mut Chance) -> bool {
        match self.profile.loss {
            Loss::Independent(probability) => chance.happens(probability),
            Loss::Bursts { enter, leave } => {
                let turns = if self.is_bad { leave } else { enter };
                if chance.happens(turns) {
                    self.is_bad = !self.is_bad;
                }
                self.is_bad
            }
        }
    }
}

/// Flips some bits, or cuts something off, or appends something.
fn corrupt(bytes: &mut Vec<u8>, chance: &mut Chance) {
    match chance.below(4) {
        0 => {
            let keep = chance.below(bytes.len() as u64);
            bytes.truncate(keep as usize);
        }
        1 => {
            for _ in 0..=chance.below(16) {
                bytes.push(chance.next() as u8);
            }
        }
        _ => {
            // Different bits, or they would undo each other.
            let first = chance.below(bytes.len() as u64 * 8);
            for step in 0..=chance.below(3) {
                let bit = ((first + step * 13) % (bytes.len() as u64 * 8)) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

/// Bytes of the headers below.
const IP_AND_UDP: usize = 28;
