//! Frames: each is read as it was written, and nothing else is read at all.

use bytes::{BufMut, BytesMut};

use super::*;
use crate::chance::Random;

/// One of each volatile frame.
fn volatile() -> Vec<Frame> {
    vec![
        Frame::Padding(4),
        Frame::Repair(Repair {
            scheme: 2,
            row: 200,
            first: u32::MAX,
            mask: 0b101,
            symbol: Bytes::from_static(b"symbol"),
        }),
        Frame::Options(Bytes::from_static(&[4, 1, 9])),
        Frame::Close {
            code: 7,
            text: "f\u{fc}r immer".to_owned(),
        },
        Frame::Piece {
            sequence: 3,
            offset: 10,
            total: 15,
            data: Bytes::from_static(b"piece"),
        },
        Frame::Ping,
        Frame::PathChallenge([1; 8]),
        Frame::PathResponse([2; 8]),
        Frame::Crypto {
            offset: u32::MAX - 5,
            data: Bytes::from_static(b"hello"),
        },
        Frame::Done,
        Frame::Ecn(17),
    ]
}

/// One of each source frame.
fn source() -> Vec<Frame> {
    vec![
        Frame::Stream {
            id: 1,
            offset: u64::MAX - 4,
            fin: true,
            message_end: false,
            data: Bytes::from_static(b"data"),
        },
        Frame::Stream {
            id: u32::MAX,
            offset: 0,
            fin: false,
            message_end: true,
            data: Bytes::new(),
        },
        Frame::MaxData {
            id: 0,
            limit: u64::MAX,
        },
        Frame::Reset { id: 2, code: 3 },
        Frame::Stop { id: 4, code: 5 },
        Frame::MaxStreams(1_024),
    ]
}

fn write(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Padding(size) => write_padding(out, FRAME_HEAD + size),
        Frame::Stream {
            id,
            offset,
            fin,
            message_end,
            data,
        } => {
            let end = (u8::from(*fin) * END_STREAM) | (u8::from(*message_end) * END_MESSAGE);
            let (first, second) = data.split_at(data.len() / 2);
            write_stream(out, *id, *offset, end, &[first, second]);
        }
        Frame::MaxData { id, limit } => write_max_data(out, *id, *limit),
        Frame::Reset { id, code } => write_reset(out, *id, *code),
        Frame::Stop { id, code } => write_stop(out, *id, *code),
        Frame::MaxStreams(count) => write_max_streams(out, *count),
        Frame::Repair(repair) => write_repair(out, repair),
        Frame::Options(tlvs) => write_options(out, tlvs),
        Frame::Close { code, text } => write_close(out, *code, text, 1_000),
        Frame::AckExt(ack) => {
            let (ranges, recovered) = (ack.ranges(), ack.recovered());
            assert!(write_ack_ext(out, ack.delay, ranges, recovered, 2_000));
        }
        Frame::Piece {
            sequence,
            offset,
            total,
            data,
        } => write_piece(out, *sequence, *offset, *total, data),
        Frame::Ping => write_ping(out),
        Frame::PathChallenge(token) => write_path_challenge(out, *token),
        Frame::PathResponse(token) => write_path_response(out, *token),
        Frame::Crypto { offset, data } => write_crypto(out, *offset, data),
        Frame::Done => write_done(out),
        Frame::Ecn(count) => write_ecn(out, *count),
    }
}

fn payload(frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    for frame in frames {
        write(frame, &mut out);
    }
    out.freeze()
}

fn read(payload: Bytes) -> Result<Vec<Frame>, FrameError> {
    Frames::new(payload).collect()
}

#[track_caller]
fn refused(payload: &[u8]) -> Problem {
    read(Bytes::copy_from_slice(payload)).unwrap_err().problem
}

#[test]
fn every_frame_is_read_as_it_was_written() {
    let frames = [volatile(), source()].concat();
    let payload = payload(&frames);
    assert_eq!(read(payload).unwrap(), frames);
}

#[test]
fn heads_have_the_lengths_that_are_promised() {
    let len = |write: fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        out.len()
    };
    assert_eq!(len(|out| write_stream_head(out, 1, 2, 3, 4)), STREAM_HEAD);
    assert_eq!(
        len(|out| write_repair_head(out, (1, 2), 3, 4, 5)),
        REPAIR_HEAD
    );
    assert_eq!(len(|out| write_crypto_head(out, 1, 2)), CRYPTO_HEAD);
    assert_eq!(len(|out| write_piece(out, 1, 2, 3, &[])), PIECE_HEAD);
    let ack = |out: &mut BytesMut| {
        write_ack_ext(out, 0, [(1, 1)].into_iter(), [].into_iter(), ACK_EXT_HEAD);
    };
    assert_eq!(len(ack), ACK_EXT_HEAD);
}

#[test]
fn source_part_begins_with_the_first_source_frame() {
    let (before, source) = (payload(&volatile()), payload(&source()));
    let whole = [before.clone(), source.clone()].concat();
    let mut frames = Frames::new(Bytes::from(whole));
    assert_eq!(frames.source_offset(), None);
    assert!(frames.by_ref().all(|frame| frame.is_ok()));
    assert_eq!(frames.source_offset(), Some(before.len()));
    assert_eq!(frames.source_part(), Some(source.clone()));

    let mut without = Frames::new(before);
    assert!(without.by_ref().all(|frame| frame.is_ok()));
    assert_eq!(without.source_part(), None);

    let rebuilt: Result<Vec<_>, _> = Frames::of_source_part(source).collect();
    assert_eq!(rebuilt.unwrap(), self::source());
}

#[test]
fn retransmission_keeps_the_source_part_behind_other_volatile_frames() {
    let source = payload(&source());
    let parts = [&[][..], &[Frame::Ping], &[Frame::Ecn(1), Frame::Done]].map(|volatile| {
        let whole = [payload(volatile), source.clone()].concat();
        let mut frames = Frames::new(Bytes::from(whole));
        assert!(frames.by_ref().all(|frame| frame.is_ok()));
        frames.source_part().unwrap()
    });
    assert!(parts.iter().all(|part| *part == source));
}

#[test]
fn volatile_frame_behind_a_source_frame_is_refused() {
    for frame in volatile() {
        let whole = payload(&[Frame::MaxStreams(1), frame.clone()]);
        assert_eq!(refused(&whole), Problem::Order, "{frame:?}");
        let mut rebuilt = Frames::of_source_part(payload(&[frame]));
        assert_eq!(rebuilt.next().unwrap().unwrap_err().problem, Problem::Order);
        assert_eq!(rebuilt.next(), None);
    }
}

#[test]
fn cut_payload_is_refused_unless_the_cut_is_between_frames() {
    let frames = [volatile(), source()].concat();
    let whole = payload(&frames);
    let ends: Vec<usize> = (0..=frames.len())
        .map(|count| payload(&frames[..count]).len())
        .collect();
    for end in 0..whole.len() {
        let read = read(whole.slice(..end));
        match ends.iter().position(|at| *at == end) {
            Some(count) => assert_eq!(read.unwrap(), frames[..count]),
            None => assert_eq!(read.unwrap_err().problem, Problem::Cut, "{end} bytes"),
        }
    }
}

#[test]
fn bodies_shorter_or_longer_than_their_type_wants_are_refused() {
    let open_ended = |frame: &Frame| {
        matches!(
            frame,
            Frame::Padding(_)
                | Frame::Stream { .. }
                | Frame::Options(_)
                | Frame::Close { .. }
                | Frame::Crypto { .. }
        )
    };
    for frame in [volatile(), source()].concat() {
        if open_ended(&frame) {
            continue;
        }
        let mut longer = BytesMut::from(&payload(std::slice::from_ref(&frame))[..]);
        longer.put_u8(0);
        let len = (longer.len() - FRAME_HEAD) as u16;
        longer[1..3].copy_from_slice(&len.to_be_bytes());
        let problem = refused(&longer);
        let piece = matches!(frame, Frame::Piece { .. });
        let expected = if piece {
            Problem::Value("offset")
        } else {
            Problem::Length(usize::from(len))
        };
        assert_eq!(problem, expected, "{frame:?}");
    }
    for kind in 1..=kind::ECN {
        let bare = matches!(kind, kind::OPTIONS | kind::PING | kind::DONE);
        if !bare {
            assert_eq!(refused(&[kind, 0, 0]), Problem::Length(0), "{kind:#04x}");
        }
    }
}

#[test]
fn values_that_never_may_be_are_refused() {
    let refused = |write: fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        refused(&out)
    };
    let stream = refused(|out| write_stream(out, 0, 0, 0, &[]));
    assert_eq!(stream, Problem::Value("stream id"));
    let end = refused(|out| write_stream(out, 1, 0, 4, &[]));
    assert_eq!(end, Problem::Value("end"));
    let offset = refused(|out| write_stream(out, 1, u64::MAX, 0, &[b"x"]));
    assert_eq!(offset, Problem::Value("offset"));
    let crypto = refused(|out| write_crypto(out, u32::MAX, b"x"));
    assert_eq!(crypto, Problem::Value("offset"));
    let reset = refused(|out| write_reset(out, 0, 1));
    assert_eq!(reset, Problem::Value("stream id"));
    let stop = refused(|out| write_stop(out, 0, 1));
    assert_eq!(stop, Problem::Value("stream id"));
    let first = refused(|out| write_repair_head(out, (1, 0), 0, 1, 0));
    assert_eq!(first, Problem::Value("first"));
    let mask = refused(|out| write_repair_head(out, (1, 0), 1, 0, 0));
    assert_eq!(mask, Problem::Value("mask"));
    let symbol = refused(|out| {
        write_repair_head(out, (1, 0), 1, 1, 1);
        out[2] -= 1;
    });
    assert_eq!(symbol, Problem::Length(12));
    let piece = refused(|out| write_piece(out, 0, 0, 1, b"x"));
    assert_eq!(piece, Problem::Value("sequence"));
    let piece = refused(|out| write_piece(out, 1, u16::MAX, u16::MAX, b"x"));
    assert_eq!(piece, Problem::Value("offset"));
    let text = refused(|out| {
        write_close(out, 1, "x", 100);
        out[7] = 0xff;
    });
    assert_eq!(text, Problem::Value("text"));
}

#[test]
fn unknown_type_is_refused_where_it_stands() {
    let error = read(Bytes::from_static(&[0x0b, 0, 0, 0x11, 0, 0])).unwrap_err();
    let expected = "frame 0x11 at byte 3 of the payload is of no known type";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn reading_ends_after_an_error() {
    let mut frames = Frames::new(Bytes::from_static(&[0x11, 0, 0, 0x0b, 0, 0]));
    assert!(frames.next().unwrap().is_err());
    assert_eq!(frames.next(), None);
}

#[test]
fn close_keeps_whole_characters() {
    for room in 0..20 {
        let mut out = BytesMut::new();
        write_close(&mut out, 1, "\u{20ac}\u{20ac}\u{20ac}", room);
        assert!(out.len() <= room.max(FRAME_HEAD + 4));
        let text = "\u{20ac}".repeat((out.len() - FRAME_HEAD - 4) / 3);
        let expected = Frame::Close { code: 1, text };
        assert_eq!(read(out.freeze()).unwrap(), [expected]);
    }
}

#[test]
fn acknowledgements_are_read_as_they_were_written() {
    let mut random = Random::new(3);
    for round in 0..5_000 {
        let mut top = match random.below(2) {
            0 => u64::MAX - random.below(3),
            _ => random.below(1 << 16),
        };
        let mut ranges = Vec::new();
        for _ in 0..=random.below(70) {
            let low = top.saturating_sub(random.below(9));
            ranges.push((low, top));
            let Some(next) = low.checked_sub(2 + random.below(9)) else {
                break;
            };
            top = next;
        }
        let recovered: Vec<_> = (0..random.below(5))
            .map(|_| (random.next() as u32, random.next() as u32))
            .collect();
        let room = random.below(700) as usize;
        let delay = random.next() as u32;

        let mut out = BytesMut::new();
        let from = (ranges.iter().copied(), recovered.iter().copied());
        if !write_ack_ext(&mut out, delay, from.0, from.1, room) {
            assert!(room < ACK_EXT_HEAD && out.is_empty());
            continue;
        }
        assert!(out.len() <= room, "round {round}");
        let fit = (room - FRAME_HEAD - 13) / 8;
        let Some(Ok(Frame::AckExt(ack))) = Frames::new(out.freeze()).next() else {
            panic!("round {round} is not read");
        };
        assert_eq!((ack.largest, ack.delay), (ranges[0].1, delay));
        ranges.truncate(fit);
        assert_eq!(ack.ranges().collect::<Vec<_>>(), ranges, "round {round}");
        let rest = &recovered[..recovered.len().min(fit - ranges.len())];
        assert_eq!(ack.recovered().collect::<Vec<_>>(), rest);
    }
}

#[test]
fn nothing_is_acknowledged_by_an_empty_set() {
    let mut out = BytesMut::new();
    let nothing = write_ack_ext(&mut out, 0, [].into_iter(), [(1, 1)].into_iter(), 1_000);
    assert!(!nothing && out.is_empty());
}

#[test]
fn ranges_that_lie_are_refused() {
    let ack = |largest: u64, count: u8, ranges: &[(u32, u32)]| {
        let mut out = BytesMut::new();
        out.put_slice(&[kind::ACK_EXT, 0, 13 + 8 * ranges.len() as u8]);
        out.put_u64(largest);
        out.put_u32(0);
        out.put_u8(count);
        for (gap, length) in ranges {
            out.put_u32(*gap);
            out.put_u32(*length);
        }
        read(out.freeze()).map_err(|error| error.problem)
    };
    assert!(ack(9, 2, &[(0, 5), (1, 4)]).is_ok());
    assert_eq!(ack(9, 0, &[]), Err(Problem::Value("count")));
    assert_eq!(ack(9, 2, &[(0, 1)]), Err(Problem::Length(21)));
    // The largest is not in the first range.
    assert_eq!(ack(9, 1, &[(1, 1)]), Err(Problem::Value("gap")));
    // Two ranges that touch.
    assert_eq!(ack(9, 2, &[(0, 1), (0, 1)]), Err(Problem::Value("gap")));
    assert_eq!(ack(9, 1, &[(0, 0)]), Err(Problem::Value("length")));
    // Below zero.
    assert_eq!(ack(9, 1, &[(0, 11)]), Err(Problem::Value("length")));
    assert_eq!(ack(9, 2, &[(0, 10), (1, 1)]), Err(Problem::Value("gap")));
    assert_eq!(ack(9, 2, &[(0, 9), (1, 1)]), Err(Problem::Value("gap")));
    assert_eq!(
        ack(9, 2, &[(0, 1), (u32::MAX, 1)]),
        Err(Problem::Value("gap"))
    );
}

fn options() -> Options {
    Options {
        packet_window: 65_536,
        largest_datagram: 1_472,
        fec_schemes: 3,
        cookie: Some(Bytes::from_static(b"cookie")),
        reset_token: Some([8; 16]),
        first_sequence: u32::MAX - 1,
        connection_window: 1,
        stream_window: 2,
        max_streams: 3,
        ack_delay_max: 4,
        idle_timeout: 0,
    }
}

#[test]
fn options_are_read_as_they_were_written() {
    for options in [options(), Options::default()] {
        let mut out = Vec::new();
        options.encode(&mut out);
        assert_eq!(Options::decode(&out), Ok(options));
    }
    let mut out = Vec::new();
    Options::default().encode(&mut out);
    assert_eq!(out, []);
}

#[test]
fn unknown_options_are_ignored() {
    let read = Options::decode(&[99, 2, 1, 1, 200, 0, 3, 1, 2, 99, 0]).unwrap();
    let expected = Options {
        fec_schemes: 2,
        ..Options::default()
    };
    assert_eq!(read, expected);
}

#[test]
fn options_that_break_a_rule_are_refused() {
    use OptionsError::{Cut, Length, Twice, Value};
    let refused = |tlvs: &[u8]| Options::decode(tlvs).unwrap_err();
    assert_eq!(refused(&[3, 1, 2, 1]), Cut { at: 3 });
    assert_eq!(refused(&[3, 2, 2]), Cut { at: 0 });
    assert_eq!(refused(&[3, 1, 2, 3, 1, 2]), Twice { kind: 3, at: 3 });
    let (kind, at) = (1, 0);
    assert_eq!(refused(&[1, 2, 0, 1]), Length { kind, at, len: 2 });
    assert_eq!(refused(&[1, 4, 0, 0, 0, 0]), Value { kind, at });
    let kind = 2;
    assert_eq!(refused(&[2, 2, 0x04, 0xaf]), Value { kind, at });
    let kind = 5;
    assert_eq!(refused(&[5, 1, 0]), Length { kind, at, len: 1 });
    let kind = 10;
    assert_eq!(refused(&[10, 4, 1, 0, 0, 0]), Value { kind, at });
}

#[test]
fn arbitrary_bytes_are_read_or_refused() {
    let mut random = Random::new(4);
    let whole = payload(&[volatile(), source()].concat());
    for _ in 0..20_000 {
        let mut bytes = whole.to_vec();
        for _ in 0..=random.below(6) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        for frame in Frames::new(Bytes::from(bytes)).map_while(Result::ok) {
            if let Frame::AckExt(ack) = frame {
                assert!(ack.ranges().count() > 0);
            }
        }
    }
}
