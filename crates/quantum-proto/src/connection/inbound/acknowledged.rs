//! What the peer says it has, and what follows for what we sent.

use std::time::Duration;

use crate::Time;
use crate::codes::close;
use crate::congestion::{Delivered, Round};
use crate::connection::stats::Samples;
use crate::connection::{BASE_DATAGRAM, Connection};
use crate::frame::AckExt;
use crate::packet::{Flags, Header};
use crate::recovery::{Content, Outcome, Sent};

impl Connection {
    /// What the header acknowledges: sequences, so data that need not be sent again.
    pub(super) fn on_acknowledged(&mut self, now: Time, header: &Header) {
        if header.ack == 0 || !header.flags.contains(Flags::ACK) {
            return;
        }
        let next = self.sources.next();
        let expand = |wire: u32| self.ours.expand(wire, next).filter(|it| *it < next);
        let Some(cumulative) = expand(header.ack) else {
            return self.fail(now, close::VIOLATION, "acknowledges a sequence never sent");
        };
        self.peer_sacks.clear();
        for (start, end) in &header.sacks {
            let (Some(start), Some(end)) = (expand(start), expand(end)) else {
                return self.fail(now, close::VIOLATION, "acknowledges a sequence never sent");
            };
            if start > end {
                return self.fail(now, close::VIOLATION, "a SACK block ends before it starts");
            }
            self.peer_sacks.push((start, end));
        }
        while self.sources.base() <= cumulative {
            self.peer_has(self.sources.base());
        }
    }

    pub(in crate::connection) fn peer_has(&mut self, sequence: u64) {
        if self.sources.arrived(sequence) {
            self.encoder.on_received(sequence);
        }
    }

    pub(super) fn on_ack(&mut self, now: Time, ack: &AckExt) {
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.clear();
        let delay = Duration::from_micros(u64::from(ack.delay));
        if self
            .recovery
            .on_ack(now, ack.largest, delay, ack.ranges(), &mut outcome)
            .is_err()
        {
            self.outcome = outcome;
            return self.fail(now, close::VIOLATION, "acknowledges a packet never sent");
        }
        let next = self.sources.next();
        let mut after = 0;
        for (start, end) in ack.recovered() {
            let expand = |wire: u32| self.ours.expand(wire, next).filter(|it| *it < next);
            let (Some(start), Some(end)) = (expand(start), expand(end)) else {
                self.outcome = outcome;
                return self.fail(now, close::VIOLATION, "recovered a sequence never sent");
            };
            if start <= after || end < start {
                // In any other order a frame could make us walk the same numbers again and again.
                self.outcome = outcome;
                return self.fail(now, close::VIOLATION, "recovered ranges that do not ascend");
            }
            after = end;
            for sequence in start.max(self.sources.base())..=end {
                self.peer_has(sequence);
            }
        }
        self.apply_outcome(now, &mut outcome);
        self.outcome = outcome;
    }

    /// What recovery has found out about packets in flight.
    pub(in crate::connection) fn apply_outcome(&mut self, now: Time, outcome: &mut Outcome) {
        self.delivered.clear();
        self.lost.clear();
        for sent in outcome.acked.drain(..) {
            self.on_arrived(now, &sent);
        }
        self.stats.packets_lost += outcome.lost.len() as u64;
        for sent in outcome.lost.drain(..) {
            self.on_lost(now, &sent);
        }
        let oldest = self
            .repairs
            .front()
            .map_or(u64::MAX, |(counter, _, _)| *counter);
        self.sources.release(oldest);
        if let Some(rtt) = outcome.rtt {
            Samples::push(&mut self.samples.rtt, rtt);
            let smoothed = self.recovery.rtt().smoothed;
            self.received.set_rtt(smoothed);
            self.streams.set_rtt(smoothed);
        }
        if !outcome.spurious.is_empty() {
            self.stats.spurious += outcome.spurious.len() as u64;
            let mut spurious = Vec::with_capacity(outcome.spurious.len());
            for sent in outcome.spurious.drain(..) {
                match sent.content {
                    Content::Source { seq } => self.peer_has(seq),
                    Content::MtuProbe { size } => {
                        // Congestion control never heard of its loss.
                        self.mtu.on_arrived(now, size);
                        self.on_datagram_size(now);
                        continue;
                    }
                    Content::Repair { .. } | Content::Piece { .. } | Content::Control => {}
                }
                spurious.push(delivered(&sent));
            }
            self.bbr.on_spurious(now, &spurious);
        }
        let ce = std::mem::take(&mut self.ce_new);
        if self.delivered.is_empty() && self.lost.is_empty() && ce == 0 {
            return;
        }
        self.bbr.on_ack(
            now,
            &Round {
                acked: &self.delivered,
                lost: &self.lost,
                rtt: outcome.rtt,
                smoothed: self.recovery.rtt().smoothed,
                inflight: self.recovery.inflight(),
                ce,
            },
        );
        self.pacer.set_rate(now, self.bbr.pacing_rate());
    }

    fn on_arrived(&mut self, now: Time, sent: &Sent) {
        if let Some(told) = sent.ack_told {
            self.received.on_ack_acknowledged(told);
        }
        self.encoder.on_fate(now, false);
        match sent.content {
            Content::Source { seq } => self.peer_has(seq),
            Content::Repair { .. } => self.forget_repair(sent.counter),
            Content::MtuProbe { size } => {
                self.mtu.on_arrived(now, size);
                self.on_datagram_size(now);
            }
            Content::Control | Content::Piece { .. } => {}
        }
        if sent.bytes > u32::from(BASE_DATAGRAM) {
            self.mtu.on_large_arrived();
        }
        self.delivered.push(delivered(sent));
    }

    fn on_lost(&mut self, now: Time, sent: &Sent) {
        if let Content::MtuProbe { size } = sent.content {
            // Too large for the path, which says nothing about congestion.
            self.mtu.on_lost(now, size);
            return;
        }
        self.encoder.on_fate(now, true);
        match sent.content {
            Content::Source { seq } => {
                let covers = |(counter, first, last): &&(u64, u64, u64)| {
                    *counter > sent.counter && (*first..=*last).contains(&seq)
                };
                let newest = self.repairs.iter().rev().find(covers).map(|it| it.0);
                self.sources.lost(seq, sent.counter, newest);
            }
            Content::Repair { .. } => self.forget_repair(sent.counter),
            Content::Piece { seq } => {
                // From the beginning: which pieces have come nobody tells.
                self.piece_at = self.piece_at.filter(|(it, _)| *it != seq);
                self.sources.lost(seq, sent.counter, None);
            }
            Content::Control | Content::MtuProbe { .. } => {}
        }
        if sent.bytes > u32::from(BASE_DATAGRAM)
            && self.mtu.on_large_lost(now, sent.counter, self.counter)
        {
            self.on_datagram_size(now);
        }
        self.lost.push(delivered(sent));
    }

    fn forget_repair(&mut self, counter: u64) {
        if let Ok(index) = self.repairs.binary_search_by_key(&counter, |it| it.0) {
            self.repairs.remove(index);
        }
    }
}

fn delivered(sent: &Sent) -> Delivered {
    Delivered {
        stamp: sent.stamp,
        sent: sent.at,
        bytes: sent.bytes,
    }
}
