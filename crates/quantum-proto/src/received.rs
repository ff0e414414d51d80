//! What arrived, and when to say so.
//!
//! Two numbers of a packet are kept apart. Its *counter* names the transmission: a counter seen
//! before is a replay, and ACK_EXT tells the counters, from which the peer learns RTT, losses
//! and delivery rate. Its *sequence number* names the source part: the header's acknowledgement
//! and SACK blocks tell what need not be sent again. A source part rebuilt from repairs counts
//! as received by sequence, and never by counter: its packet was lost.
//!
//! An acknowledgement is due at once when something is missing or was late, and when a packet
//! bears the mark "congestion experienced"; soon after the end of a message, so that an answer
//! may carry it; else with every second packet, or every tenth at high rates, or when the
//! oldest has waited long enough. Packets that ask for no acknowledgement never make one due.
//!
//! Everything is bounded: 2,048 bits against replays, 64 ranges of counters, 1,024 gaps between
//! sequence numbers, 32 rebuilt ranges, 64 acknowledgements whose arrival is awaited.

use std::time::Duration;

use bytes::BytesMut;

use crate::Time;
use crate::frame;
use crate::packet::{Numbering, SACK_MAX, Sacks};
use crate::ranges::{Inserted, RangeSet};

mod replay;
mod timing;
mod told;

use replay::Window;
use timing::Timing;
use told::Told;

/// A packet that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The packet's counter.
    pub counter: u64,
    /// Whether it asks for an acknowledgement.
    pub eliciting: bool,
    /// The sequence number of its source part, if it has one; from 1.
    pub sequence: Option<u64>,
    /// Whether a message or stream ends in it.
    pub push: bool,
    /// Whether it bears the mark "congestion experienced".
    pub ce: bool,
}

/// Whether a packet tells anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    /// It does, or has no source part.
    New,
    /// Its source part was there already: by another transmission, or from repairs. Its volatile
    /// frames hold.
    Duplicate,
    /// Its sequence number lies beyond the window, or leaves one gap too many. It is not
    /// acknowledged; forget it.
    Refused,
}

/// What one side of a connection has received.
#[derive(Debug)]
pub struct Received {
    replay: Window,
    /// Counters to be told.
    counters: RangeSet,
    /// When the largest counter arrived.
    largest_at: Time,
    /// All sequence numbers up to it are here.
    cumulative: u64,
    /// Sequence numbers beyond that.
    beyond: RangeSet,
    window: u64,
    timing: Timing,
    told: Told,
}

impl Received {
    /// Nothing received. `window`: how far a sequence number may lie beyond the last in order.
    pub fn new(window: u64) -> Self {
        Self {
            replay: Window::default(),
            counters: RangeSet::new(COUNTER_RANGES),
            largest_at: Time::ZERO,
            cumulative: 0,
            beyond: RangeSet::new(SEQUENCE_RANGES),
            window: window.max(1),
            timing: Timing::default(),
            told: Told::default(),
        }
    }

    /// Whether a packet with this counter was received, or may have been: it lies 2,048 or more
    /// below the largest. To be asked before decrypting.
    pub fn is_replay(&self, counter: u64) -> bool {
        self.replay.has(counter)
    }

    /// Takes note of an opened packet.
    pub fn on_packet(&mut self, now: Time, arrival: Arrival) -> Fresh {
        if self.replay.has(arrival.counter) {
            return Fresh::Refused;
        }
        let largest = self.replay.largest();
        self.replay.set(arrival.counter);
        let fresh = match arrival.sequence {
            Some(sequence) => self.take(sequence),
            None => Fresh::New,
        };
        if fresh == Fresh::Refused {
            return fresh;
        }
        self.note_counter(arrival.counter);
        let late = largest.is_some_and(|largest| arrival.counter < largest);
        if late {
            self.told.on_late(arrival.counter);
        } else {
            self.largest_at = now;
        }
        if arrival.ce {
            self.told.on_ce();
        }
        // Counters before the first packet belong to the handshake.
        let missing = largest.is_some_and(|largest| arrival.counter.saturating_sub(largest) > 1);
        self.timing.on_packet(now, &arrival, missing, late);
        fresh
    }

    /// A source part was rebuilt from repairs. False if it was here already, or cannot be taken.
    pub fn on_recovered(&mut self, sequence: u64) -> bool {
        let new = self.take(sequence) == Fresh::New;
        if new {
            self.told.on_recovered(sequence);
        }
        new
    }

    /// Whether this source part is here.
    pub fn has(&self, sequence: u64) -> bool {
        sequence <= self.cumulative || self.beyond.contains(sequence)
    }

    /// The last sequence number in order; 0 if there is none.
    pub fn cumulative(&self) -> u64 {
        self.cumulative
    }

    /// The largest sequence number received; 0 if there is none.
    pub fn highest(&self) -> u64 {
        self.beyond.last().map_or(self.cumulative, |(_, high)| high)
    }

    /// Whether this is the largest counter received.
    pub fn is_newest(&self, counter: u64) -> bool {
        self.replay.largest() == Some(counter)
    }

    /// The largest counter received.
    pub fn largest(&self) -> Option<u64> {
        self.replay.largest()
    }

    /// When an acknowledgement is due; `None` if nothing asks for one.
    pub fn ack_at(&self) -> Option<Time> {
        self.timing.ack_at()
    }

    /// Whether some packet waits for its acknowledgement, due or not: one should travel with
    /// whatever is sent.
    pub fn has_news(&self) -> bool {
        self.timing.waiting() > 0
    }

    /// Whether marks "congestion experienced" arrived that the peer may not know of: the flag ECE.
    pub fn ecn_changed(&self) -> bool {
        self.told.ecn_changed()
    }

    /// Whether so many acknowledgements went out in packets that nothing acknowledges that one
    /// should be sent with a PING: else they grow to their full size.
    pub fn wants_ping(&self) -> bool {
        self.told.wants_confirmation() && self.counters.len() > 1
    }

    /// The SACK blocks of the next header: the highest ranges beyond [`Self::cumulative`], from
    /// the lowest of them up.
    pub fn sacks(&self, numbering: &Numbering) -> Sacks {
        let mut sacks = Sacks::default();
        let skipped = self.beyond.len().saturating_sub(SACK_MAX);
        for (start, end) in self.beyond.iter().skip(skipped) {
            sacks.push(numbering.to_wire(start), numbering.to_wire(end));
        }
        sacks
    }

    /// Appends ACK_EXT, and ECN if that changed, of at most `room` bytes. Gives the largest
    /// counter told, which the packet shall remember for [`Self::on_ack_acknowledged`]; `None` if
    /// there is nothing to tell or no room, and nothing was written.
    ///
    /// [`Self::on_ack_sent`] follows when the packet goes out.
    pub fn write_ack(
        &mut self,
        now: Time,
        room: usize,
        numbering: &Numbering,
        out: &mut BytesMut,
    ) -> Option<u64> {
        let (_, largest) = self.counters.last()?;
        let ecn = self.told.ecn_to_tell();
        let room = room.checked_sub(ecn.map_or(0, |_| ECN_LEN))?;
        let delay = now.since(self.largest_at).as_micros();
        let delay = u32::try_from(delay).unwrap_or(u32::MAX);
        // Counts what is taken: not everything may fit.
        let (mut counters, mut rebuilt) = (0, 0);
        let ranges = self.counters.iter().rev().inspect(|_| counters += 1);
        let recovered = self.told.recovered().inspect(|_| rebuilt += 1);
        let recovered =
            recovered.map(|(first, last)| (numbering.to_wire(first), numbering.to_wire(last)));
        if !frame::write_ack_ext(out, delay, ranges, recovered, room) {
            return None;
        }
        if let Some(count) = ecn {
            frame::write_ecn(out, count);
        }
        let complete = counters == self.counters.len();
        self.told.on_told(largest, complete, rebuilt);
        Some(largest)
    }

    /// An acknowledgement was sent: nothing waits for one any more.
    pub fn on_ack_sent(&mut self) {
        self.timing.on_ack_sent();
    }

    /// The peer has a packet that told counters up to `largest`: it knows them now.
    pub fn on_ack_acknowledged(&mut self, largest: u64) {
        if let Some(bound) = self.told.on_confirmed(largest) {
            // The largest stays: an acknowledgement always has something to tell.
            let keep = self.replay.largest().unwrap_or(0);
            self.counters.remove_below(bound.min(keep));
        }
    }

    /// The smoothed RTT, from which the delays follow. Before the first call: 100 ms.
    pub fn set_rtt(&mut self, smoothed: Duration) {
        self.timing.set_rtt(smoothed);
    }

    /// How long an acknowledgement may be held back at most, at any RTT: what OPTIONS tell.
    pub fn ack_delay_max() -> Duration {
        timing::DELAY_MAX
    }

    fn take(&mut self, sequence: u64) -> Fresh {
        if self.has(sequence) {
            return Fresh::Duplicate;
        }
        if sequence - self.cumulative > self.window {
            return Fresh::Refused;
        }
        if sequence - self.cumulative > 1 {
            return match self.beyond.insert(sequence) {
                Inserted::New => Fresh::New,
                Inserted::Known => Fresh::Duplicate,
                Inserted::Full => Fresh::Refused,
            };
        }
        self.cumulative = sequence;
        if let Some((low, high)) = self.beyond.first()
            && low - sequence == 1
        {
            self.cumulative = high;
            self.beyond.pop_lowest();
        }
        Fresh::New
    }

    fn note_counter(&mut self, counter: u64) {
        if self.counters.insert(counter) != Inserted::Full {
            return;
        }
        // A late one below all that is remembered is not worth a range of a newer one.
        let lowest = self.counters.first();
        if lowest.is_some_and(|(low, _)| low < counter) {
            self.counters.pop_lowest();
            self.counters.insert(counter);
        }
    }
}

/// Ranges of counters remembered; the lowest is forgotten at the limit.
const COUNTER_RANGES: usize = 64;
/// Ranges of sequence numbers beyond the last in order.
const SEQUENCE_RANGES: usize = 1_024;
/// Bytes of an ECN frame.
const ECN_LEN: usize = 7;

#[cfg(test)]
mod tests;
