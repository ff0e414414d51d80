//! Packets that carry something: what was lost, repairs, new data, probes of the path's size.

use bytes::{Bytes, BytesMut};

use super::{ACK_ROOM, PAYLOAD_MAX};
use crate::Time;
use crate::connection::Connection;
use crate::fec::{self, Situation};
use crate::frame;
use crate::packet::{Flags, HEADER_LEN, TRAILER_LEN};
use crate::recovery::Content;

impl Connection {
    /// What was lost and has not come by other ways.
    pub(super) fn lost_datagram(
        &mut self,
        now: Time,
        limit: usize,
        out: &mut BytesMut,
    ) -> Option<()> {
        loop {
            let sequence = self.sources.first_lost()?;
            let sacked = &self.peer_sacks;
            if sacked
                .iter()
                .any(|(start, end)| (*start..=*end).contains(&sequence))
            {
                self.peer_has(sequence);
                continue;
            }
            return self.source_again(now, limit, sequence, out);
        }
    }

    pub(super) fn source_again(
        &mut self,
        now: Time,
        limit: usize,
        sequence: u64,
        out: &mut BytesMut,
    ) -> Option<()> {
        let (part, pushes) = self.sources.part(sequence)?;
        let wire = self.ours.to_wire(sequence);
        self.stats.retransmissions += 1;
        let goes_on = self.piece_at.is_some_and(|(it, _)| it == sequence);
        self.sources.sent_again(sequence, self.counter, goes_on);
        if HEADER_LEN + part.len() + TRAILER_LEN > limit {
            return self.pieces_datagram(now, limit, sequence, &part, out);
        }
        let alone = pushes && !self.streams.has_data();
        self.encoder.on_source(now, sequence, &part, alone);
        let draft = self.begin(now, limit, part.len(), true, out);
        out.extend_from_slice(&part);
        let flags = Flags::NONE.with_if(Flags::PSH, pushes);
        let content = Content::Source { seq: sequence };
        self.finish(now, &draft, flags, Some(wire), Some(content), out);
        Some(())
    }

    /// The path has become narrower than the source part: one piece now, the others at once.
    fn pieces_datagram(
        &mut self,
        now: Time,
        limit: usize,
        sequence: u64,
        part: &Bytes,
        out: &mut BytesMut,
    ) -> Option<()> {
        let room = limit - HEADER_LEN - TRAILER_LEN - frame::PIECE_HEAD;
        let offset = match self.piece_at {
            Some((it, offset)) if it == sequence && offset < part.len() => offset,
            _ => 0,
        };
        let end = (offset + room).min(part.len());
        let draft = self.begin(now, limit, end - offset + frame::PIECE_HEAD, false, out);
        let [at, total] = [offset, part.len()].map(|it| u16::try_from(it).unwrap_or(u16::MAX));
        let wire = self.ours.to_wire(sequence);
        frame::write_piece(out, wire, at, total, &part[offset..end]);
        let content = Content::Piece { seq: sequence };
        self.finish(now, &draft, Flags::NONE, None, Some(content), out);
        self.piece_at = (end < part.len()).then_some((sequence, end));
        if self.piece_at.is_some() {
            self.sources.still_lost(sequence);
        }
        Some(())
    }

    pub(super) fn repair_datagram(
        &mut self,
        now: Time,
        limit: usize,
        out: &mut BytesMut,
    ) -> Option<()> {
        let more_queued = self.streams.has_data();
        let situation = Situation {
            cwnd_limited: self.is_bulk(),
            more_queued,
            srtt: self.recovery.rtt().smoothed,
            probe_rtt: self.bbr.is_probing_rtt(),
        };
        let start = out.len();
        let draft = self.begin(now, limit, limit, false, out);
        let room = limit - HEADER_LEN - TRAILER_LEN;
        let Some(repaired) = self.encoder.poll(now, &situation, room, &self.ours, out) else {
            out.truncate(start);
            return None;
        };
        let content = Content::Repair {
            first: repaired.first,
            last: repaired.last,
        };
        self.repairs
            .push_back((self.counter, repaired.first, repaired.last));
        self.finish(now, &draft, Flags::FEC, None, Some(content), out);
        self.stats.fec_repairs_sent += 1;
        self.stats.fec_repair_bytes += (out.len() - start) as u64;
        Some(())
    }

    pub(super) fn data_datagram(
        &mut self,
        now: Time,
        limit: usize,
        out: &mut BytesMut,
    ) -> Option<()> {
        if !self.streams.has_data() {
            return None;
        }
        let next = self.sources.next();
        if next - self.sources.base() >= self.peer_packet_window {
            return None;
        }
        let draft = self.begin(
            now,
            limit,
            limit - HEADER_LEN - TRAILER_LEN - ACK_ROOM,
            true,
            out,
        );
        let from = out.len();
        let volatile = from - draft.start - draft.head;
        let fixed = draft.head + TRAILER_LEN;
        let mut room = (limit - fixed).min(PAYLOAD_MAX) - volatile;
        if self.encoder.is_active() && !self.is_bulk() {
            let repair = usize::from(self.mtu.current()) - HEADER_LEN - TRAILER_LEN;
            room = room.min(fec::LARGEST_SOURCE).min(repair - fec::OVERHEAD);
        }
        let filled = self.streams.fill(out, room);
        if out.len() == from {
            out.truncate(draft.start);
            return None;
        }
        let part = Bytes::copy_from_slice(&out[from..]);
        let sequence = self.sources.push(part.clone(), self.counter, filled.pushes);
        let alone = filled.pushes && !self.streams.has_data();
        self.encoder.on_source(now, sequence, &part, alone);
        let wire = self.ours.to_wire(sequence);
        let flags = Flags::NONE.with_if(Flags::PSH, filled.pushes);
        let content = Content::Source { seq: sequence };
        self.finish(now, &draft, flags, Some(wire), Some(content), out);
        Some(())
    }

    pub(super) fn mtu_datagram(&mut self, now: Time, size: u16, out: &mut BytesMut) -> Option<()> {
        let draft = self.begin(now, usize::from(size), 0, false, out);
        frame::write_ping(out);
        let written = out.len() - draft.start + TRAILER_LEN;
        frame::write_padding(out, usize::from(size) - written);
        self.mtu.on_probe_sent();
        let content = Content::MtuProbe { size };
        self.finish(now, &draft, Flags::NONE, None, Some(content), out);
        Some(())
    }
}
