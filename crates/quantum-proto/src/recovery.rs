//! What was sent and not acknowledged yet, and what of it was lost.
//!
//! Everything here goes by packet counter, which names one transmission. An acknowledgement thus
//! never means another transmission than the one that arrived: RTTs are right though sequence
//! numbers repeat, and a late original is told from its copy.
//!
//! A packet is lost when the third one after it was acknowledged, or when one after it was and it
//! has been under way for longer than an RTT and a reordering window (RFC 8985, RFC 9002). If a
//! packet that was given up arrives after all, the network reorders: the window grows, to one RTT
//! at most, and the count of three is suspended, until 16 losses in a row were real.
//!
//! If nothing comes back at all a probe is due, after the RTT with a margin for its variation and
//! for the peer's delay. There is no floor below that margin: on a path of 2 ms a probe goes
//! out after about 8 ms, not after 200.
//!
//! Packets are kept in order of their counters, which is that of sending. An acknowledgement costs
//! what it newly tells, not what is in flight.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;
use crate::congestion::Stamp;
use crate::ranges::RangeSet;

mod reorder;
mod rtt;

use reorder::Reorder;
pub use rtt::Rtt;

/// A packet that asks for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Names the transmission; each is larger than the one before.
    pub counter: u64,
    /// When it was sent; not before the one before.
    pub at: Time,
    /// Bytes of the datagram.
    pub bytes: u32,
    /// What it carries.
    pub content: Content,
    /// What congestion control knew when it was sent.
    pub stamp: Stamp,
    /// The largest counter that it acknowledges, for
    /// [`crate::received::Received::on_ack_acknowledged`].
    pub ack_told: Option<u64>,
}

/// What is to be done if a packet is lost depends on what it carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The source part with this sequence number.
    Source {
        /// The sequence number, from 1.
        seq: u64,
    },
    /// A repair of source parts among these; nothing to send again.
    Repair {
        /// The first sequence number covered.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A piece of a source part that no longer fits into a packet.
    Piece {
        /// The part's sequence number.
        seq: u64,
    },
    /// Volatile frames that ask for an acknowledgement; nothing to send again.
    Control,
    /// Finds out whether the path carries datagrams of this size. Its loss says nothing else.
    MtuProbe {
        /// Bytes of the datagram.
        size: u16,
    },
}

/// What an acknowledgement or a timer has revealed. The caller keeps one and clears it, so that
/// nothing is allocated.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Arrived.
    pub acked: Vec<Sent>,
    /// Given up.
    pub lost: Vec<Sent>,
    /// Given up some time ago, yet arrived.
    pub spurious: Vec<Sent>,
    /// A new sample of the RTT, less the peer's delay.
    pub rtt: Option<Duration>,
}

impl Outcome {
    /// Forgets everything but the room for it.
    pub fn clear(&mut self) {
        self.acked.clear();
        self.lost.clear();
        self.spurious.clear();
        self.rtt = None;
    }
}

/// The peer acknowledges a packet that was never sent. It lies, so the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packet {counter} is acknowledged, but was never sent")]
pub struct AckOfUnsent {
    /// The packet's counter.
    pub counter: u64,
}

/// Loss detection for one direction of a connection.
#[derive(Debug)]
pub struct Recovery {
    /// In order of counters; the first, if any, is in flight.
    packets: VecDeque<Entry>,
    /// Bytes in flight.
    inflight: u64,
    /// The largest counter sent, in whatever packet.
    largest_sent: Option<u64>,
    /// The largest counter acknowledged.
    largest_acked: Option<u64>,
    /// The newest packet acknowledged that is or was in `packets`.
    newest_acked: Option<u64>,
    /// All counters acknowledged, as far as that can still matter: of an acknowledgement only
    /// what is new to it is looked at.
    acked: RangeSet,
    /// Given up lately, by counter.
    given_up: VecDeque<Sent>,
    rtt: Rtt,
    reorder: Reorder,
    peer_delay: Duration,
    /// When the first packet in flight is lost, if it is older than one that was acknowledged.
    loss_at: Option<Time>,
    /// From when the wait for a probe counts.
    probe_from: Time,
    /// Probes in a row without an answer.
    probes: u32,
}

#[derive(Debug)]
struct Entry {
    counter: u64,
    /// None: its fate is known.
    sent: Option<Sent>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self::new()
    }
}

impl Recovery {
    /// Nothing sent.
    pub fn new() -> Self {
        Self {
            packets: VecDeque::new(),
            inflight: 0,
            largest_sent: None,
            largest_acked: None,
            newest_acked: None,
            acked: RangeSet::new(ACKED_RANGES),
            given_up: VecDeque::new(),
            rtt: Rtt::default(),
            reorder: Reorder::default(),
            peer_delay: Duration::ZERO,
            loss_at: None,
            probe_from: Time::ZERO,
            probes: 0,
        }
    }

    /// How long the peer may hold an acknowledgement back, as its OPTIONS say.
    pub fn set_peer_ack_delay(&mut self, delay: Duration) {
        self.peer_delay = delay;
    }

    /// A packet was sent that asks for an acknowledgement.
    pub fn on_sent(&mut self, sent: Sent) {
        self.on_silent(sent.counter);
        self.inflight += u64::from(sent.bytes);
        self.probe_from = sent.at;
        self.packets.push_back(Entry {
            counter: sent.counter,
            sent: Some(sent),
        });
    }

    /// A packet was sent that asks for no acknowledgement. Takes no room.
    pub fn on_silent(&mut self, counter: u64) {
        debug_assert!(self.largest_sent.is_none_or(|largest| largest < counter));
        self.largest_sent = Some(counter);
    }

    /// ACK_EXT came: `largest` and `ranges` (from the largest down, ends included) as it tells
    /// them, `delay` as the peer reports. What follows from it is added to `outcome`.
    ///
    /// # Errors
    /// A counter is acknowledged that was never sent; nothing has changed then.
    pub fn on_ack(
        &mut self,
        now: Time,
        largest: u64,
        delay: Duration,
        ranges: impl Iterator<Item = (u64, u64)>,
        outcome: &mut Outcome,
    ) -> Result<(), AckOfUnsent> {
        if self.largest_sent.is_none_or(|sent| sent < largest) {
            return Err(AckOfUnsent { counter: largest });
        }
        let (acked, spurious) = (outcome.acked.len(), outcome.spurious.len());
        for (low, high) in ranges {
            self.take_range(low, high.min(largest), outcome);
        }
        self.largest_acked = self.largest_acked.max(Some(largest));
        let newest = outcome.acked[acked..].iter().max_by_key(|it| it.counter);
        // The delay is that of the largest counter, so no other one gives a sample.
        if let Some(sent) = newest.filter(|sent| sent.counter == largest) {
            let delay = delay.min(self.peer_delay);
            outcome.rtt = Some(self.rtt.on_sample(now.since(sent.at), delay));
        }
        let late = outcome.spurious[spurious..].iter();
        let late = late.map(|sent| sent.counter).max();
        if let Some(counter) = late {
            self.reorder.on_spurious(counter, self.largest_sent);
        }
        let newest = newest.map(|sent| sent.counter).max(late);
        if newest.is_some() {
            self.newest_acked = self.newest_acked.max(newest);
            self.probes = 0;
        }
        self.detect(now, outcome);
        self.shrink();
        Ok(())
    }

    /// When [`Self::on_timeout`] is to be called; `None` while nothing is in flight.
    pub fn timeout(&self) -> Option<Time> {
        if self.packets.is_empty() {
            return None;
        }
        Some(self.loss_at.unwrap_or_else(|| self.probe_at()))
    }

    /// The time told by [`Self::timeout`] has come. Packets may be lost, or, if true is returned,
    /// a packet should be sent now that asks for an acknowledgement, whatever the congestion
    /// window says. Too early a call changes nothing.
    pub fn on_timeout(&mut self, now: Time, outcome: &mut Outcome) -> bool {
        if self.packets.is_empty() {
            return false;
        }
        if self.loss_at.is_some() {
            self.detect(now, outcome);
            self.shrink();
            return false;
        }
        if now < self.probe_at() {
            return false;
        }
        self.probes = (self.probes + 1).min(BACKOFF_MAX);
        self.probe_from = now;
        true
    }

    /// The peer is reached over another path: what was measured says nothing about it. Packets in
    /// flight stay.
    pub fn on_path_change(&mut self) {
        self.rtt = Rtt::default();
        self.reorder = Reorder::default();
        self.probes = 0;
    }

    /// Bytes in flight: sent, and neither acknowledged nor given up.
    pub fn inflight(&self) -> u64 {
        self.inflight
    }

    /// The round trip.
    pub fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// How long silence lasts until a probe is due, without backoff.
    pub fn pto(&self) -> Duration {
        self.rtt.smoothed + (self.rtt.variation * 4).max(GRANULARITY) + self.peer_delay
    }

    /// Probes sent in a row without an answer.
    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// The packets in flight, from the oldest on.
    pub fn in_flight(&self) -> impl DoubleEndedIterator<Item = &Sent> {
        self.packets.iter().filter_map(|entry| entry.sent.as_ref())
    }

    /// The largest counter that the peer has acknowledged.
    pub fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    fn probe_at(&self) -> Time {
        let pto = self.pto();
        let wait = (pto * (1 << self.probes)).min(PROBE_WAIT_MAX.max(pto));
        self.probe_from + wait
    }

    /// Counters from `low` to `high` are acknowledged; looks at those only that are news.
    fn take_range(&mut self, low: u64, high: u64, outcome: &mut Outcome) {
        let (packets, given_up) = (&mut self.packets, &mut self.given_up);
        let inflight = &mut self.inflight;
        self.acked.insert_range(low, high, |low, high| {
            let first = packets.partition_point(|entry| entry.counter < low);
            for entry in packets.range_mut(first..) {
                if entry.counter > high {
                    break;
                }
                if let Some(sent) = entry.sent.take() {
                    *inflight -= u64::from(sent.bytes);
                    outcome.acked.push(sent);
                }
            }
            let first = given_up.partition_point(|sent| sent.counter < low);
            while given_up.get(first).is_some_and(|sent| sent.counter <= high) {
                outcome.spurious.extend(given_up.remove(first));
            }
        });
    }

    /// Gives up what is lost. Both rules hold for a packet only if they hold for all before it.
    fn detect(&mut self, now: Time, outcome: &mut Outcome) {
        self.loss_at = None;
        let Some(newest) = self.newest_acked else {
            return;
        };
        let wait = self.reorder.wait(&self.rtt);
        let lost_before = outcome.lost.len();
        while let Some(entry) = self.packets.front() {
            let Some(sent) = entry.sent else {
                self.packets.pop_front();
                continue;
            };
            if sent.counter >= newest {
                break;
            }
            let lost_at = sent.at + wait;
            let overtaken = newest - sent.counter >= self.reorder.packets();
            if now < lost_at && !overtaken {
                self.loss_at = Some(lost_at);
                break;
            }
            self.packets.pop_front();
            self.inflight -= u64::from(sent.bytes);
            outcome.lost.push(sent);
            self.remember(sent);
        }
        if let Some(last) = outcome.lost[lost_before..].last() {
            self.reorder.on_lost(last.counter, self.largest_sent);
        }
    }

    /// Keeps a packet that was given up, in case it arrives.
    fn remember(&mut self, sent: Sent) {
        if self.given_up.len() == GIVEN_UP_MAX {
            self.given_up.pop_front();
        }
        self.given_up.push_back(sent);
    }

    /// Forgets what cannot matter any more.
    fn shrink(&mut self) {
        while self
            .packets
            .front()
            .is_some_and(|entry| entry.sent.is_none())
        {
            self.packets.pop_front();
        }
    }
}

/// What clocks and timers are good for, in every case.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Doublings of the wait for a probe.
const BACKOFF_MAX: u32 = 6;
/// The longest wait for a probe, unless the path itself takes longer.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Packets remembered after they were given up.
const GIVEN_UP_MAX: usize = 2_048;
/// Ranges of acknowledged counters remembered. Beyond it the lowest are forgotten, and looked at
/// again when they are told again, which changes nothing.
const ACKED_RANGES: usize = 256;

#[cfg(test)]
mod tests;
