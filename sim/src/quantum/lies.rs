//! Peers that have the keys and break the rules.

use bytes::{BufMut, BytesMut};
use quantum_proto::Guuid;
use quantum_proto::codes::close;
use quantum_proto::frame::{self, Repair};
use quantum_proto::packet::{Flags, Header, Sacks};
use quantum_proto::streams::Role;

use super::wire::Wire;
use crate::chance::Chance;

/// What a peer says that it must not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// Acknowledges a packet that was never sent.
    AckOfUnsent,
    /// Acknowledges, in the header, a source part that was never sent.
    HeaderOfUnsent,
    /// The same in a SACK block.
    SackOfUnsent,
    /// A SACK block that ends before it begins.
    SackBackwards,
    /// Says that repairs brought what was never sent.
    RecoveredUnsent,
    BeyondStreamWindow,
    BeyondConnectionWindow,
    TooManyStreams,
    StreamNeverOpened,
    EndMoved,
    UnknownFrame,
    /// A volatile frame behind a source frame.
    WrongOrder,
    SequenceOfNothing,
    SourceWithoutSequence,
    HandshakeAfterwards,
    /// Repairs of nonsense, which solve nothing or solve to nonsense.
    Repairs,
    /// Pieces of source parts that never become whole.
    Pieces,
    /// Every other source part only.
    Gaps,
    /// Asks for many proofs of a path.
    Challenges,
}

pub(super) const LIES: [Lie; 19] = [
    Lie::AckOfUnsent,
    Lie::HeaderOfUnsent,
    Lie::SackOfUnsent,
    Lie::SackBackwards,
    Lie::RecoveredUnsent,
    Lie::BeyondStreamWindow,
    Lie::BeyondConnectionWindow,
    Lie::TooManyStreams,
    Lie::StreamNeverOpened,
    Lie::EndMoved,
    Lie::UnknownFrame,
    Lie::WrongOrder,
    Lie::SequenceOfNothing,
    Lie::SourceWithoutSequence,
    Lie::HandshakeAfterwards,
    Lie::Repairs,
    Lie::Pieces,
    Lie::Gaps,
    Lie::Challenges,
];

impl Lie {
    /// What the other side must close with at once, and the name of the check; nothing where it
    /// only must not suffer.
    pub(super) fn answer(self) -> Option<(u32, &'static str)> {
        let answer = match self {
            Self::AckOfUnsent
            | Self::HeaderOfUnsent
            | Self::SackOfUnsent
            | Self::SackBackwards
            | Self::RecoveredUnsent => {
                (close::VIOLATION, "acknowledging-unsent-ends-the-connection")
            }
            Self::BeyondStreamWindow | Self::BeyondConnectionWindow => {
                (close::FLOW_CONTROL, "flow-control-is-enforced")
            }
            Self::TooManyStreams => (close::STREAM_LIMIT, "stream-limit-is-enforced"),
            Self::StreamNeverOpened => (close::STREAM_STATE, "stream-states-are-enforced"),
            Self::EndMoved => (close::FINAL_SIZE, "ends-stay-where-they-are"),
            Self::UnknownFrame | Self::WrongOrder => (close::FRAME, "frames-must-be-readable"),
            Self::SequenceOfNothing | Self::SourceWithoutSequence | Self::HandshakeAfterwards => {
                (close::VIOLATION, "rules-are-enforced")
            }
            Self::Repairs | Self::Pieces | Self::Gaps | Self::Challenges => return None,
        };
        Some(answer)
    }
}

/// Writes the packets of one lie.
pub(super) struct Liar<'a> {
    pub(super) guuid: Guuid,
    pub(super) from: Role,
    pub(super) wire: &'a Wire,
    pub(super) chance: &'a mut Chance,
    counter: u64,
    sequence: u64,
    packets: Vec<Vec<u8>>,
}

impl<'a> Liar<'a> {
    pub(super) fn new(guuid: Guuid, from: Role, wire: &'a Wire, chance: &'a mut Chance) -> Self {
        Self {
            guuid,
            from,
            wire,
            chance,
            counter: wire.last(from).map_or(0, |last| last + 1),
            sequence: wire.parts(from) + 1,
            packets: Vec::new(),
        }
    }

    /// The datagrams; nothing if the lie can't be told here.
    pub(super) fn tell(mut self, lie: Lie) -> Vec<Vec<u8>> {
        let other = self.from.other();
        let unsent = self.wire.parts(other) + 500;
        let theirs = self.wire.numbering(other);
        let (_, stream_limit, streams) = self.wire.limits(self.from);
        let mut body = BytesMut::new();
        match lie {
            Lie::AckOfUnsent => {
                let counter = self.wire.last(other).unwrap_or(0) + 1 + self.chance.below(1_000);
                let ranges = [(counter, counter)].into_iter();
                frame::write_ack_ext(&mut body, 0, ranges, std::iter::empty(), 1_000);
                self.volatile(&body);
            }
            Lie::RecoveredUnsent => {
                let known = self.wire.last(other).unwrap_or(0);
                let unsent = theirs.to_wire(unsent);
                let recovered = [(unsent, unsent)].into_iter();
                let ranges = [(known, known)].into_iter();
                frame::write_ack_ext(&mut body, 0, ranges, recovered, 1_000);
                self.volatile(&body);
            }
            Lie::HeaderOfUnsent => self.header(theirs.to_wire(unsent), &[]),
            Lie::SackOfUnsent | Lie::SackBackwards if self.wire.parts(other) < 3 => {}
            Lie::SackOfUnsent => {
                let block = (theirs.to_wire(2), theirs.to_wire(unsent));
                self.header(theirs.to_wire(1), &[block]);
            }
            Lie::SackBackwards => {
                let block = (theirs.to_wire(3), theirs.to_wire(2));
                self.header(theirs.to_wire(1), &[block]);
            }
            Lie::BeyondStreamWindow => {
                if let Some(id) = self.new_stream(0) {
                    frame::write_stream(&mut body, id, stream_limit, 0, &[b"x"]);
                    self.source(&body);
                }
            }
            Lie::BeyondConnectionWindow => self.exceed_connection(),
            Lie::TooManyStreams => {
                let id = self.nth(self.from, streams + 1);
                frame::write_stream(&mut body, id, 0, 0, &[b"x"]);
                self.source(&body);
            }
            Lie::StreamNeverOpened => {
                let id = self.nth(other, 1_000_000);
                frame::write_stream(&mut body, id, 0, 0, &[b"x"]);
                self.source(&body);
            }
            // Both frames must fit the connection's window, or that is what is broken.
            Lie::EndMoved if self.wire.room(self.from) < 6 => {}
            Lie::EndMoved => {
                if let Some(id) = self.new_stream(0) {
                    frame::write_stream(&mut body, id, 0, frame::END_STREAM, &[b"12345"]);
                    self.source(&body);
                    body.clear();
                    frame::write_stream(&mut body, id, 5, 0, &[b"6"]);
                    self.source(&body);
                }
            }
            Lie::UnknownFrame => self.volatile(&[0x7f, 0, 0]),
            Lie::WrongOrder => {
                frame::write_max_data(&mut body, 0, 1);
                frame::write_ping(&mut body);
                self.source(&body);
            }
            Lie::SequenceOfNothing => {
                frame::write_ping(&mut body);
                self.source(&body);
            }
            Lie::SourceWithoutSequence => {
                frame::write_max_data(&mut body, 0, 1);
                self.volatile(&body);
            }
            Lie::HandshakeAfterwards => {
                frame::write_crypto(&mut body, 0, b"hello");
                self.volatile(&body);
            }
            Lie::Repairs => self.repairs(),
            Lie::Pieces => self.pieces(),
            Lie::Gaps => {
                for _ in 0..3_000 {
                    self.sequence += 1;
                    body.clear();
                    frame::write_max_data(&mut body, 0, 1);
                    self.source(&body);
                }
            }
            Lie::Challenges => {
                for number in 0..2_000_u64 {
                    body.clear();
                    frame::write_path_challenge(&mut body, number.to_be_bytes());
                    self.volatile(&body);
                }
            }
        }
        self.packets
    }

    /// Fills new streams within their own limits until the connection's is broken.
    fn exceed_connection(&mut self) {
        let (connection_limit, stream_limit, _) = self.wire.limits(self.from);
        let mut left = connection_limit + 2_000;
        let mut packets = Vec::new();
        let mut index = 0;
        while left > 0 {
            let Some(id) = self.new_stream(index) else {
                return;
            };
            index += 1;
            let mut at = 0;
            while at < stream_limit && left > 0 {
                let length = (stream_limit - at).min(left).min(1_100);
                let mut body = BytesMut::new();
                frame::write_stream(&mut body, id, at, 0, &[&vec![0; length as usize]]);
                packets.push(body);
                (at, left) = (at + length, left - length);
            }
            // Packets that go beyond the window are refused one by one.
            if packets.len() as u64 * 2 + 64 > u64::from(self.wire.packet_window(self.from)) {
                return;
            }
        }
        for body in packets {
            self.source(&body);
        }
    }

    fn repairs(&mut self) {
        let ours = self.wire.numbering(self.from);
        for _ in 0..300 {
            let length = self.chance.between(1, 1_390) as usize;
            let symbol: Vec<u8> = (0..length).map(|_| self.chance.next() as u8).collect();
            let first = (self.sequence + self.chance.below(40))
                .saturating_sub(20)
                .max(1);
            let repair = Repair {
                scheme: self.chance.below(4) as u8,
                row: self.chance.below(5) as u8,
                first: ours.to_wire(first),
                mask: (self.chance.next() as u32 & self.chance.next() as u32) | 1,
                symbol: symbol.into(),
            };
            let mut body = BytesMut::new();
            frame::write_repair(&mut body, &repair);
            self.volatile(&body);
        }
    }

    fn pieces(&mut self) {
        let ours = self.wire.numbering(self.from);
        for _ in 0..500 {
            let total = self.chance.between(2, 60_000);
            let length = self.chance.between(1, 1_000.min(total - 1));
            let offset = self.chance.below(total - length);
            let sequence = ours.to_wire(self.sequence + self.chance.below(1_000));
            let data = vec![0x55; length as usize];
            let mut body = BytesMut::new();
            frame::write_piece(&mut body, sequence, offset as u16, total as u16, &data);
            self.volatile(&body);
        }
    }

    /// A stream of the liar that it has not opened, if it may open one.
    fn new_stream(&self, after: u32) -> Option<u32> {
        let (_, _, streams) = self.wire.limits(self.from);
        let index = self.wire.opened(self.from) + 1 + after;
        (index <= streams).then(|| self.nth(self.from, index))
    }

    fn nth(&self, role: Role, index: u32) -> u32 {
        match role {
            Role::Client => index * 2 - 1,
            Role::Server => index * 2,
        }
    }

    /// A packet with a source part.
    fn source(&mut self, frames: &[u8]) {
        let wire = self.wire.numbering(self.from).to_wire(self.sequence);
        self.sequence += 1;
        self.packet(wire, 0, &[], frames);
    }

    fn volatile(&mut self, frames: &[u8]) {
        self.packet(0, 0, &[], frames);
    }

    /// A packet whose header acknowledges.
    fn header(&mut self, ack: u32, blocks: &[(u32, u32)]) {
        let mut ping = BytesMut::new();
        frame::write_ping(&mut ping);
        self.packet(0, ack, blocks, &ping);
    }

    fn packet(&mut self, sequence: u32, ack: u32, blocks: &[(u32, u32)], frames: &[u8]) {
        let mut sacks = Sacks::default();
        for (start, end) in blocks {
            sacks.push(*start, *end);
        }
        let header = Header {
            flags: Flags::NONE
                .with_if(Flags::ACK, ack != 0)
                .with_if(Flags::KEY_PHASE, self.wire.keys.phase(self.from)),
            guuid: self.guuid,
            sequence,
            ack,
            sacks,
        };
        let mut out = BytesMut::new();
        header.write(0, &mut out);
        out.put_slice(frames);
        self.wire
            .keys
            .seal(self.from, self.counter, header.len(), &mut out);
        self.counter += 1;
        self.packets.push(out.to_vec());
    }
}
