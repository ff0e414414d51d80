//! Datagrams and payloads of the Quantum transport.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quantum_proto::Time;
use quantum_proto::congestion::Stamp;
use quantum_proto::crypto::ClientCrypto;
use quantum_proto::crypto::null::NullClient;
use quantum_proto::frame::{
    self, AckExt, END_MESSAGE, END_STREAM, FRAME_HEAD, Frame, Frames, Options,
};
use quantum_proto::packet::{Numbering, Packet, Sealed, TRAILER_LEN, seal, write_reset};
use quantum_proto::recovery::{Content, Outcome, Recovery, Sent};

/// A datagram. What has the form of a packet is made of what was read of it and of nothing else;
/// it does not open, and its payload does once it is sealed with the key.
pub fn packet(data: &[u8]) {
    let sealed = match Packet::parse(BytesMut::from(data)) {
        Ok(Packet::Sealed(sealed)) => sealed,
        Ok(Packet::Reset { guuid, token }) => {
            let mut again = BytesMut::new();
            write_reset(guuid, &token, &mut again);
            assert_eq!(again, data);
            return;
        }
        Err(error) => {
            assert!(error.to_string().len() < 200);
            return;
        }
    };
    let head = sealed.header.len();
    let (associated, rest) = data.split_at(head);
    let (payload, trailer) = rest.split_at(rest.len() - TRAILER_LEN);
    assert_eq!(sealed.associated(), associated);
    assert_eq!(sealed.len(), data.len());
    assert_eq!(sealed.payload_len(), payload.len());
    assert_eq!(trailer[..8], sealed.counter.to_be_bytes());
    let mut again = BytesMut::new();
    sealed.header.write(payload.len() as u16, &mut again);
    assert_eq!(again, associated);

    let (header, counter) = (sealed.header.clone(), sealed.counter);
    let numbering = Numbering::new(header.ack);
    if let Some(number) = numbering.expand(header.sequence, counter) {
        assert_eq!(numbering.to_wire(number), header.sequence);
    }
    let keys = NullClient.initial(header.guuid);
    drop(sealed.open(keys.local.as_ref()));
    again.put_slice(payload);
    seal(&mut again, 0, head, counter, keys.local.as_ref());
    let sealed = Sealed::parse(again).expect("what we seal we read");
    assert_eq!((&sealed.header, sealed.counter), (&header, counter));
    let opened = sealed.open(keys.local.as_ref()).expect("it opens");
    assert_eq!(opened, payload);
}

/// A payload. Its frames, written again, are read alike; its source part holds its source frames
/// and only those; its options keep their rules; its acknowledgements, true or lies, are borne.
pub fn frames(data: &[u8]) {
    let payload = Bytes::copy_from_slice(data);
    let mut frames = Frames::new(payload.clone());
    let (mut source, mut recovery) = (Vec::new(), flight());
    for frame in &mut frames {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                assert!(error.at < data.len() && error.to_string().len() < 200);
                return;
            }
        };
        let mut again = BytesMut::new();
        write(&frame, &mut again);
        assert_eq!(Frames::new(again.freeze()).next(), Some(Ok(frame.clone())));
        match &frame {
            Frame::Options(tlvs) => options(tlvs),
            Frame::AckExt(ack) => acknowledge(&mut recovery, ack),
            _ => {}
        }
        if frame.is_source() {
            source.push(frame);
        }
    }
    assert_eq!(frames.source_offset().is_some(), !source.is_empty());
    if let Some(part) = frames.source_part() {
        assert!(payload.ends_with(&part));
        let again: Result<Vec<_>, _> = Frames::of_source_part(part).collect();
        assert_eq!(again, Ok(source));
    }
}

fn options(tlvs: &[u8]) {
    let Ok(read) = Options::decode(tlvs) else {
        return;
    };
    let mut again = Vec::new();
    read.encode(&mut again);
    assert!(again.len() <= tlvs.len());
    assert_eq!(Options::decode(&again), Ok(read));
}

/// Packets sent: each third one asks for nothing.
fn flight() -> Recovery {
    let mut recovery = Recovery::new();
    for counter in 0..FLIGHT {
        if counter % 3 == 2 {
            recovery.on_silent(counter);
            continue;
        }
        recovery.on_sent(Sent {
            counter,
            at: Time::after(Duration::from_micros(100 * counter)),
            bytes: 1,
            content: Content::Control,
            stamp: Stamp::default(),
            ack_told: None,
        });
    }
    recovery
}

fn acknowledge(recovery: &mut Recovery, ack: &AckExt) {
    let now = Time::after(Duration::from_millis(20));
    let delay = Duration::from_micros(u64::from(ack.delay));
    let (before, mut outcome) = (recovery.inflight(), Outcome::default());
    let taken = recovery.on_ack(now, ack.largest, delay, ack.ranges(), &mut outcome);
    assert_eq!(taken.is_err(), ack.largest >= FLIGHT);
    let gone = outcome.acked.len() + outcome.lost.len();
    assert_eq!(recovery.inflight() + gone as u64, before);
    assert_eq!(recovery.inflight(), recovery.in_flight().count() as u64);
    let told = |sent: &Sent| {
        let mut ranges = ack.ranges();
        ranges.any(|(low, high)| (low..=high).contains(&sent.counter))
    };
    assert!(outcome.acked.iter().chain(&outcome.spurious).all(told));
    assert!(!outcome.lost.iter().any(told));
    assert_eq!(recovery.timeout().is_some(), recovery.inflight() > 0);
}

fn write(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Padding(size) => frame::write_padding(out, FRAME_HEAD + size),
        Frame::Stream {
            id,
            offset,
            fin,
            message_end,
            data,
        } => {
            let mut end = if *fin { END_STREAM } else { 0 };
            if *message_end {
                end |= END_MESSAGE;
            }
            frame::write_stream(out, *id, *offset, end, &[data]);
        }
        Frame::MaxData { id, limit } => frame::write_max_data(out, *id, *limit),
        Frame::Reset { id, code } => frame::write_reset(out, *id, *code),
        Frame::Stop { id, code } => frame::write_stop(out, *id, *code),
        Frame::MaxStreams(count) => frame::write_max_streams(out, *count),
        Frame::Repair(repair) => frame::write_repair(out, repair),
        Frame::Options(tlvs) => frame::write_options(out, tlvs),
        Frame::Close { code, text } => frame::write_close(out, *code, text, usize::MAX),
        Frame::AckExt(ack) => {
            let (ranges, recovered) = (ack.ranges(), ack.recovered());
            assert!(frame::write_ack_ext(
                out,
                ack.delay,
                ranges,
                recovered,
                usize::MAX
            ));
        }
        Frame::Piece {
            sequence,
            offset,
            total,
            data,
        } => frame::write_piece(out, *sequence, *offset, *total, data),
        Frame::Ping => frame::write_ping(out),
        Frame::PathChallenge(token) => frame::write_path_challenge(out, *token),
        Frame::PathResponse(token) => frame::write_path_response(out, *token),
        Frame::Crypto { offset, data } => frame::write_crypto(out, *offset, data),
        Frame::Done => frame::write_done(out),
        Frame::Ecn(count) => frame::write_ecn(out, *count),
    }
}

/// Packets in flight when acknowledgements come.
const FLIGHT: u64 = 100;
