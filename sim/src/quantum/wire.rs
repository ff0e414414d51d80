//! Watches the wire: opens every packet that leaves, and knows what both sides may say.
//!
//! It sees datagrams when they are sent, and is told which of them were taken in.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use quantum_proto::Guuid;
use quantum_proto::config::Config;
use quantum_proto::fec::Decoder;
use quantum_proto::frame::{Frame, Frames};
use quantum_proto::packet::{Flags, Header, Numbering, Packet};
use quantum_proto::streams::Role;

use super::failure::{Held, check};
use super::keys::AllKeys;

/// A packet that one side has sent.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pair: usize,
    pub(super) from: Role,
    pub(super) counter: u64,
    pub(super) header: Header,
    pub(super) frames: Vec<Frame>,
    pub(super) part: Option<Bytes>,
}

impl Seen {
    /// It belongs to the handshake.
    pub(super) fn is_shaking(&self) -> bool {
        self.header.flags.contains(Flags::SYN)
    }

    fn is_eliciting(&self) -> bool {
        self.frames.iter().any(Frame::is_eliciting)
    }
}

/// Everything that is known of one direction.
struct Way {
    numbering: Numbering,
    last: Option<u64>,
    /// What became of each counter: bits.
    fates: Vec<u8>,
    parts: HashMap<u32, Bytes>,
    /// Repairs as the receiver has them.
    decoder: Decoder,
    /// The highest sequence that was taken in, for the decoder's view of what is near.
    newest: u64,
    /// What the receiver allows.
    connection_limit: u64,
    stream_limit: u64,
    stream_limits: HashMap<u32, u64>,
    streams: u32,
    packet_window: u32,
    /// How many the sender has opened.
    opened: u32,
    /// How far each stream has come.
    ends: HashMap<u32, u64>,
    total: u64,
}

const ELICITING: u8 = 1;
const TAKEN: u8 = 2;
const ACKED: u8 = 4;

/// Both directions of one connection.
pub(super) struct Wire {
    pair: usize,
    pub(super) keys: AllKeys,
    ways: [Way; 2],
    pub(super) recovered: u64,
    pub(super) pieces: u64,
    /// One side breaks the rules, so the other one need not make sense.
    pub(super) has_liar: bool,
}

impl Wire {
    /// `starts` and `configs` are those of client and server.
    pub(super) fn new(
        pair: usize,
        guuid: Guuid,
        starts: [u32; 2],
        configs: [&Config; 2],
    ) -> Held<Self> {
        let way = |start: u32, receiver: &Config| Way {
            numbering: Numbering::new(start),
            last: None,
            fates: Vec::new(),
            parts: HashMap::new(),
            decoder: Decoder::new(),
            newest: 0,
            connection_limit: u64::from(receiver.connection_window),
            stream_limit: u64::from(receiver.stream_window),
            stream_limits: HashMap::new(),
            streams: receiver.max_streams,
            packet_window: receiver.packet_window,
            opened: 0,
            ends: HashMap::new(),
            total: 0,
        };
        Ok(Self {
            pair,
            keys: AllKeys::new(guuid)?,
            ways: [way(starts[0], configs[1]), way(starts[1], configs[0])],
            recovered: 0,
            pieces: 0,
            has_liar: false,
        })
    }

    /// A datagram leaves `from`, which `tracks` what becomes of it if it can.
    pub(super) fn on_sent(&mut self, from: Role, bytes: &[u8], tracks: bool) -> Held<Rc<Seen>> {
        let packet = Packet::parse(BytesMut::from(bytes));
        let Ok(Packet::Sealed(sealed)) = packet else {
            return Err(failure("packets-are-readable", "sent what is no packet"));
        };
        let counter = sealed.counter;
        let last = self.ways[from as usize].last;
        check(
            "counter-used-once",
            last.is_none_or(|last| last < counter),
            || format!("{from:?} sent counter {counter} after {last:?}"),
        )?;
        let Some(payload) = self.keys.open(from, &sealed) else {
            return Err(failure(
                "packets-are-readable",
                "its own keys do not open it",
            ));
        };
        let mut read = Frames::new(payload);
        let mut frames = Vec::new();
        for frame in &mut read {
            frames.push(frame.map_err(|error| failure("packets-are-readable", error))?);
        }
        let seen = Seen {
            pair: self.pair,
            from,
            counter,
            header: sealed.header.clone(),
            frames,
            part: read.source_part(),
        };
        let way = &mut self.ways[from as usize];
        way.last = Some(counter);
        let index = usize::try_from(counter).unwrap_or(usize::MAX);
        check("counters-are-dense", index <= way.fates.len() + 64, || {
            format!("{from:?} jumped to counter {counter}")
        })?;
        way.fates.resize(index + 1, 0);
        if !seen.is_shaking() && !self.has_liar {
            if tracks && seen.is_eliciting() {
                way.fates[index] |= ELICITING;
            }
            self.check_source(&seen)?;
            self.check_frames(&seen)?;
        }
        Ok(Rc::new(seen))
    }

    /// A packet was taken in as new by the other side.
    pub(super) fn on_taken(&mut self, seen: &Seen) {
        let (way, back) = self.both(seen.from);
        if let Some(fate) = way.fates.get_mut(seen.counter as usize) {
            *fate |= TAKEN;
        }
        for frame in &seen.frames {
            let Frame::AckExt(ack) = frame else { continue };
            for (low, high) in ack.ranges() {
                let high = (high as usize).min(back.fates.len().saturating_sub(1));
                for fate in &mut back.fates[low as usize..=high] {
                    *fate |= ACKED;
                }
            }
        }
    }

    /// What the receiver's decoder must make of a packet: the bytes that were sent.
    pub(super) fn on_decoded(&mut self, seen: &Seen) -> Held {
        let way = &mut self.ways[seen.from as usize];
        let near = way.newest + 1;
        if let Some(part) = &seen.part
            && let Some(sequence) = way.numbering.expand(seen.header.sequence, near)
        {
            way.newest = way.newest.max(sequence);
            way.decoder.on_source(sequence, part);
        }
        for frame in &seen.frames {
            if let Frame::Repair(repair) = frame {
                let refused = way.decoder.on_repair(repair, &way.numbering).err();
                check("repairs-are-consistent", refused.is_none(), || {
                    format!("{:?} sent {repair:?}: {refused:?}", seen.from)
                })?;
            }
        }
        while let Some((sequence, part)) = way.decoder.poll_recovered() {
            let sent = way.parts.get(&way.numbering.to_wire(sequence));
            self.recovered += 1;
            check(
                "recovered-is-what-was-sent",
                sent.is_some_and(|it| *it == part),
                || {
                    format!(
                        "source part {sequence} of {:?} came out otherwise",
                        seen.from
                    )
                },
            )?;
        }
        Ok(())
    }

    /// Whether a packet was taken in before.
    pub(super) fn was_taken(&self, seen: &Seen) -> bool {
        let fates = &self.ways[seen.from as usize].fates;
        fates
            .get(seen.counter as usize)
            .is_some_and(|it| it & TAKEN != 0)
    }

    /// The largest counter that `from` has sent.
    pub(super) fn last(&self, from: Role) -> Option<u64> {
        self.ways[from as usize].last
    }

    /// How `from` numbers its source parts.
    pub(super) fn numbering(&self, from: Role) -> Numbering {
        self.ways[from as usize].numbering
    }

    /// How many source parts `from` has sent.
    pub(super) fn parts(&self, from: Role) -> u64 {
        self.ways[from as usize].parts.len() as u64
    }

    /// Bytes that `from` may send in all, and on one stream that it has not opened.
    pub(super) fn limits(&self, from: Role) -> (u64, u64, u32) {
        let way = &self.ways[from as usize];
        (way.connection_limit, way.stream_limit, way.streams)
    }

    /// Packets that `from` may send beyond the last one in order.
    pub(super) fn packet_window(&self, from: Role) -> u32 {
        self.ways[from as usize].packet_window
    }

    /// Bytes that `from` may still send in all.
    pub(super) fn room(&self, from: Role) -> u64 {
        let way = &self.ways[from as usize];
        way.connection_limit - way.total
    }

    /// How many streams `from` has opened.
    pub(super) fn opened(&self, from: Role) -> u32 {
        self.ways[from as usize].opened
    }

    /// Packets of `from` that ask for an acknowledgement, and how many of them have got one.
    pub(super) fn asked_and_acked(&self, from: Role) -> (u64, u64) {
        let fates = &self.ways[from as usize].fates;
        let asked = fates.iter().filter(|it| **it & ELICITING != 0).count();
        let both = ELICITING | ACKED;
        let acked = fates.iter().filter(|it| **it & both == both).count();
        (asked as u64, acked as u64)
    }

    fn both(&mut self, from: Role) -> (&mut Way, &mut Way) {
        let [client, server] = &mut self.ways;
        match from {
            Role::Client => (client, server),
            Role::Server => (server, client),
        }
    }

    /// A sequence number names the same bytes always.
    fn check_source(&mut self, seen: &Seen) -> Held {
        let way = &mut self.ways[seen.from as usize];
        let sequence = seen.header.sequence;
        check(
            "sequence-names-a-source-part",
            (sequence != 0) == seen.part.is_some(),
            || format!("{:?} sent sequence {sequence} with {seen:?}", seen.from),
        )?;
        if let Some(part) = &seen.part {
            let known = way
                .parts
                .entry(sequence)
                .or_insert_with(|| Bytes::copy_from_slice(part));
            check("sequence-names-the-same-bytes", known == part, || {
                format!("{:?} sent sequence {sequence} with other bytes", seen.from)
            })?;
        }
        Ok(())
    }

    fn check_frames(&mut self, seen: &Seen) -> Held {
        let from = seen.from;
        for frame in &seen.frames {
            self.note_opened(from, frame);
            match frame {
                Frame::AckExt(ack) => self.check_ack(from, ack.largest, ack.ranges())?,
                Frame::Stream {
                    id, offset, data, ..
                } => self.check_stream(from, *id, offset + data.len() as u64)?,
                Frame::MaxData { id: 0, limit } => {
                    let back = self.both(from).1;
                    back.connection_limit = back.connection_limit.max(*limit);
                }
                Frame::MaxData { id, limit } => {
                    let back = self.both(from).1;
                    let known = back.stream_limits.entry(*id).or_insert(0);
                    *known = (*known).max(*limit);
                }
                Frame::MaxStreams(count) => {
                    let back = self.both(from).1;
                    back.streams = back.streams.max(*count);
                }
                Frame::Piece {
                    sequence,
                    offset,
                    total,
                    data,
                } => {
                    self.pieces += 1;
                    let part = self.ways[from as usize].parts.get(sequence);
                    let (start, total) = (usize::from(*offset), usize::from(*total));
                    let fits = part.is_some_and(|part| {
                        part.len() == total && part.get(start..start + data.len()) == Some(data)
                    });
                    check("sequence-names-the-same-bytes", fits, || {
                        format!("{from:?} sent a piece of {sequence} with other bytes")
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn note_opened(&mut self, from: Role, frame: &Frame) {
        let id = match frame {
            Frame::Stream { id, .. }
            | Frame::MaxData { id, .. }
            | Frame::Reset { id, .. }
            | Frame::Stop { id, .. } => *id,
            _ => return,
        };
        if id > 0 && (id % 2 == 1) == (from == Role::Client) {
            let way = &mut self.ways[from as usize];
            way.opened = way.opened.max(id / 2 + id % 2);
        }
    }

    /// Only what was taken in is acknowledged.
    fn check_ack(
        &mut self,
        from: Role,
        largest: u64,
        ranges: impl Iterator<Item = (u64, u64)>,
    ) -> Held {
        let back = self.both(from).1;
        for (low, high) in ranges {
            let known = back.fates.get(low as usize..=high as usize);
            let all = known.is_some_and(|fates| fates.iter().all(|it| it & TAKEN != 0));
            check("acknowledges-only-what-arrived", all, || {
                format!(
                    "{from:?} acknowledged counters {low} to {high} (largest {largest}); not all \
                     of them had arrived"
                )
            })?;
        }
        Ok(())
    }

    /// A sender stays within what it was granted.
    fn check_stream(&mut self, from: Role, id: u32, end: u64) -> Held {
        let way = &mut self.ways[from as usize];
        let granted = way.stream_limits.get(&id).copied().unwrap_or(0);
        let limit = granted.max(way.stream_limit);
        check("flow-control-is-kept", end <= limit, || {
            format!("{from:?} sent up to {end} on stream {id}, allowed are {limit}")
        })?;
        let before = way.ends.entry(id).or_insert(0);
        way.total += end.saturating_sub(*before);
        *before = (*before).max(end);
        check(
            "flow-control-is-kept",
            way.total <= way.connection_limit,
            || {
                format!(
                    "{from:?} sent {} bytes in all, allowed are {}",
                    way.total, way.connection_limit
                )
            },
        )?;
        let own = (id % 2 == 1) == (from == Role::Client);
        let index = id / 2 + id % 2;
        check("stream-limit-is-kept", !own || index <= way.streams, || {
            format!("{from:?} opened stream {id}, allowed are {}", way.streams)
        })
    }
}

fn failure(oracle: &'static str, text: impl ToString) -> super::Failure {
    super::Failure {
        oracle,
        text: text.to_string(),
    }
}
