//! From the header to the seal, for packets of the application level.

use bytes::BytesMut;

use crate::Time;
use crate::connection::Connection;
use crate::frame;
use crate::packet::{self, Flags, HEADER_LEN, Header, SACK_LEN, Sacks, TRAILER_LEN};
use crate::recovery::{Content, Sent};

/// A packet that is being written at the end of a buffer.
pub(super) struct Draft {
    pub(super) start: usize,
    /// Bytes of header and SACK blocks.
    pub(super) head: usize,
    /// The largest counter that it acknowledges.
    told: Option<u64>,
}

impl Connection {
    /// Writes the header and, if wanted and anything is to be told, an acknowledgement, leaving
    /// `reserve` of the `limit` bytes for what follows.
    pub(super) fn begin(
        &mut self,
        now: Time,
        limit: usize,
        reserve: usize,
        with_ack: bool,
        out: &mut BytesMut,
    ) -> Draft {
        let start = out.len();
        let spare = limit.saturating_sub(HEADER_LEN + TRAILER_LEN + reserve);
        let with_ack = with_ack && self.received.has_news() && spare > frame::ACK_EXT_HEAD;
        let mut sacks = Sacks::default();
        if with_ack {
            let most = (spare - frame::ACK_EXT_HEAD) / (SACK_LEN * 2);
            let all = self.received.sacks(&self.theirs);
            for (first, last) in &all.as_slice()[all.len().saturating_sub(most)..] {
                sacks.push(*first, *last);
            }
        }
        let cumulative = self.received.cumulative();
        let ack = if cumulative == 0 {
            0
        } else {
            self.theirs.to_wire(cumulative)
        };
        let header = Header {
            flags: Flags::NONE,
            guuid: self.guuid,
            sequence: 0,
            ack,
            sacks,
        };
        header.write(0, out);
        let head = header.len();
        let mut told = None;
        if with_ack {
            let room = spare - (head - HEADER_LEN);
            told = self.received.write_ack(now, room, &self.theirs, out);
        }
        Draft { start, head, told }
    }

    /// Seals the packet, and remembers it if the peer will acknowledge it.
    pub(super) fn finish(
        &mut self,
        now: Time,
        draft: &Draft,
        flags: Flags,
        sequence: Option<u32>,
        content: Option<Content>,
        out: &mut BytesMut,
    ) {
        let Some(keyring) = &mut self.keyring else {
            return;
        };
        let (key, phase) = keyring.seal_with(self.counter);
        let flags = flags
            .with_if(Flags::ACK, self.received.cumulative() > 0)
            .with_if(Flags::KEY_PHASE, phase)
            .with_if(Flags::ECE, self.received.ecn_changed());
        packet::amend(out, draft.start, flags, sequence.unwrap_or(0));
        packet::seal(out, draft.start, draft.head, self.counter, key);
        let counter = self.counter;
        self.counter += 1;
        if draft.told.is_some() {
            self.received.on_ack_sent();
        }
        let Some(content) = content else {
            self.recovery.on_silent(counter);
            return;
        };
        let bytes = u32::try_from(out.len() - draft.start).unwrap_or(u32::MAX);
        let inflight = self.recovery.inflight();
        let stamp = self.bbr.on_send(now, bytes, inflight);
        self.pacer.on_send(now, u64::from(bytes));
        self.timers.said(now);
        self.recovery.on_sent(Sent {
            counter,
            at: now,
            bytes,
            content,
            stamp,
            ack_told: draft.told,
        });
    }
}
