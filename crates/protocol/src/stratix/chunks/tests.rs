use std::time::Duration;

use super::{
    Assembled, CHUNK_COUNT_MAX, Chunk, ChunkError, ChunkProblem, Chunks, Frame, Limits, PARKED_MAX,
    hash,
};

mod random;

const LIMITS: Limits = Limits {
    message_max: 1000,
    assemblies: 3,
    bytes: 1500,
    age: Duration::from_millis(100),
};

fn start(id: &str, size: u64, count: u64) -> Vec<u8> {
    let mut frame = vec![1];
    let json = format!(r#"{{"messageId":"{id}","totalSize":{size},"chunkCount":{count}}}"#);
    frame.extend_from_slice(json.as_bytes());
    frame
}

fn data(id: &str, index: u32, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![2];
    for number in [index, hash(id), data.len() as u32] {
        frame.extend_from_slice(&number.to_be_bytes());
    }
    frame.extend_from_slice(data);
    frame
}

fn end(id: &str) -> Vec<u8> {
    let mut frame = vec![3];
    frame.extend_from_slice(format!(r#"{{"messageId":"{id}","checksum":""}}"#).as_bytes());
    frame
}

fn feed(chunks: &mut Chunks, frame: &[u8]) -> Result<Option<Assembled>, ChunkError> {
    match Frame::read(frame)? {
        Frame::Raw(raw) => panic!("{raw:?} is no chunk"),
        Frame::Chunk(chunk) => chunks.handle(0, chunk, &LIMITS),
    }
}

#[track_caller]
fn accept(chunks: &mut Chunks, frame: &[u8]) {
    assert_eq!(feed(chunks, frame), Ok(None));
}

#[track_caller]
fn refuse(chunks: &mut Chunks, frame: &[u8]) -> (Option<String>, ChunkProblem) {
    let error = feed(chunks, frame).unwrap_err();
    (error.message_id, error.problem)
}

fn lost(id: &str, problem: ChunkProblem) -> (Option<String>, ChunkProblem) {
    (Some(id.to_owned()), problem)
}

#[test]
fn hash_is_that_of_the_contract() {
    assert_eq!(hash(""), 0);
    assert_eq!(hash("a"), 97);
    assert_eq!(hash("msg"), (109 * 31 + 115) * 31 + 103);
    assert_eq!(hash("😀"), 0x1f600);
    assert_eq!(hash("Aa"), hash("BB"));
    assert_eq!(hash("msg-uuid"), 2_965_436_039);
}

#[test]
fn first_byte_says_what_a_frame_is() {
    for raw in [&b""[..], b"\0", b"\x04\x01", b"{}", b"\xff"] {
        assert_eq!(Frame::read(raw), Ok(Frame::Raw(raw)));
    }
    let frame = b"\x02\0\0\0\x07\0\0\x01\0\0\0\0\x02hi";
    let expected = Chunk::Data {
        index: 7,
        hash: 256,
        data: b"hi",
    };
    assert_eq!(Frame::read(frame), Ok(Frame::Chunk(expected)));
    let checksum = "0123456789abcdefABCDEF0123456789".repeat(2);
    for prefix in ["", "sha256:"] {
        let mut frame = vec![1];
        let json = format!(
            r#"{{"messageId":"m","totalSize":5,"chunkCount":2,"contentType":"image/png","compressed":true,"checksum":"{prefix}{checksum}","x":[]}}"#
        );
        frame.extend_from_slice(json.as_bytes());
        let Ok(Frame::Chunk(Chunk::Start(start))) = Frame::read(&frame) else {
            panic!("{json} was refused");
        };
        assert_eq!((start.size, start.count), (5, 2));
        assert_eq!(start.content_type, "image/png");
        assert!(start.compressed);
        assert_eq!(start.checksum.unwrap()[..3], [0x01, 0x23, 0x45]);
    }
}

#[test]
fn what_is_malformed_is_refused() {
    let cases: &[&[u8]] = &[
        b"\x01",
        b"\x01[]",
        b"\x01{",
        b"\x01{}",
        b"\x01{\"messageId\":\"m\"}",
        b"\x01{\"messageId\":\"m\",\"totalSize\":-1,\"chunkCount\":1}",
        b"\x01{\"messageId\":\"m\",\"totalSize\":1.5,\"chunkCount\":1}",
        b"\x01{\"messageId\":\"\",\"totalSize\":1,\"chunkCount\":1}",
        b"\x01{\"messageId\":\"\\n\",\"totalSize\":1,\"chunkCount\":1}",
        b"\x01{\"messageId\":\"m\",\"totalSize\":1,\"chunkCount\":1,\"checksum\":\"abc\"}",
        b"\x01{\"messageId\":\"m\",\"totalSize\":1,\"chunkCount\":1,\"contentType\":\"\\u0000\"}",
        b"\x01{\"messageId\":\"\xff\",\"totalSize\":1,\"chunkCount\":1}",
        b"\x02",
        b"\x02\0\0\0\0\0\0\0\0\0\0\0",
        b"\x02\0\0\0\0\0\0\0\0\0\0\0\x01",
        b"\x02\0\0\0\0\0\0\0\0\0\0\0\x01ab",
        b"\x02\0\0\0\0\0\0\0\0\xff\xff\xff\xffab",
        b"\x03",
        b"\x03null",
        b"\x03{}",
        b"\x03{\"messageId\":\"m\",\"checksum\":1}",
        b"\x03{\"messageId\":\"m\",\"checksum\":\"sha1:00\"}",
    ];
    for frame in cases {
        assert!(Frame::read(frame).is_err(), "{frame:?}");
    }
    let digits = [
        "g".repeat(64),
        "é".repeat(32),
        "0".repeat(63),
        "0".repeat(65),
    ];
    for digits in digits {
        let frame = format!("\x03{{\"messageId\":\"m\",\"checksum\":\"{digits}\"}}");
        let error = Frame::read(frame.as_bytes()).unwrap_err();
        assert_eq!(error.problem, ChunkProblem::Checksum);
        assert_eq!(error.message_id.as_deref(), Some("m"));
    }
}

#[test]
fn chunks_make_a_message_in_any_order() {
    let mut chunks = Chunks::default();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
        accept(&mut chunks, &start("m", 8, 3));
        for index in order {
            let part = [&b"abc"[..], b"def", b"gh"][index as usize];
            accept(&mut chunks, &data("m", index, part));
            accept(&mut chunks, &data("m", index, part));
        }
        assert_eq!(chunks.bytes(), 8);
        let whole = feed(&mut chunks, &end("m")).unwrap().unwrap();
        assert_eq!(whole.data, b"abcdefgh");
        assert_eq!(whole.data.capacity(), 8);
        assert_eq!((whole.message_id.as_str(), whole.checksum), ("m", None));
        assert!(chunks.is_empty());
    }
}

#[test]
fn empty_payloads_and_chunks_are_messages() {
    let mut chunks = Chunks::default();
    accept(&mut chunks, &start("m", 0, 0));
    assert_eq!(feed(&mut chunks, &end("m")).unwrap().unwrap().data, b"");
    accept(&mut chunks, &start("m", 1, 3));
    for (index, part) in [(2, &b""[..]), (0, b""), (1, b"x")] {
        accept(&mut chunks, &data("m", index, part));
    }
    assert_eq!(feed(&mut chunks, &end("m")).unwrap().unwrap().data, b"x");
}

#[test]
fn what_a_start_announces_is_bounded() {
    let mut chunks = Chunks::default();
    let large = ChunkProblem::TooLarge {
        size: 1001,
        max: 1000,
    };
    let refused = refuse(&mut chunks, &start("m", 1001, 1));
    assert_eq!(refused, lost("m", large));
    let huge = refuse(&mut chunks, &start("m", u64::MAX, 1));
    assert!(matches!(huge.1, ChunkProblem::TooLarge { .. }));
    let most = u64::from(CHUNK_COUNT_MAX);
    for (size, count) in [(10, 0), (10, most + 1), (10, u64::MAX)] {
        let problem = ChunkProblem::Count { count, size };
        let refused = refuse(&mut chunks, &start("m", size, count));
        assert_eq!(refused, lost("m", problem));
    }
    assert!(chunks.is_empty());
    accept(&mut chunks, &start("m", 1000, most));
}

#[test]
fn what_is_under_way_is_bounded_by_number_and_bytes() {
    let mut chunks = Chunks::default();
    accept(&mut chunks, &start("a", 1000, 1));
    let refused = refuse(&mut chunks, &start("b", 501, 1));
    assert_eq!(refused, lost("b", ChunkProblem::Busy));
    accept(&mut chunks, &start("b", 250, 1));
    accept(&mut chunks, &start("c", 250, 1));
    let error = feed(&mut chunks, &start("d", 0, 0)).unwrap_err();
    assert_eq!(error.problem, ChunkProblem::Busy);
    assert!(!error.is_final());
}

#[test]
fn second_start_of_an_id_is_refused_and_the_first_goes_on() {
    let mut chunks = Chunks::default();
    accept(&mut chunks, &start("m", 2, 2));
    accept(&mut chunks, &data("m", 0, b"a"));
    let refused = refuse(&mut chunks, &start("m", 3, 1));
    assert_eq!(refused, lost("m", ChunkProblem::InFlight));
    accept(&mut chunks, &data("m", 1, b"b"));
    assert_eq!(feed(&mut chunks, &end("m")).unwrap().unwrap().data, b"ab");
}

#[test]
fn data_of_two_ids_with_one_hash_is_never_mixed() {
    let mut chunks = Chunks::default();
    accept(&mut chunks, &start("Aa", 2, 2));
    accept(&mut chunks, &data("Aa", 0, b"a"));
    let refused = refuse(&mut chunks, &start("BB", 2, 2));
    assert_eq!(refused, lost("BB", ChunkProblem::InFlight));
    let refused = refuse(&mut chunks, &data("BB", 1, b"X"));
    assert_eq!(refused, lost("Aa", ChunkProblem::Contested));
    let refused = refuse(&mut chunks, &end("Aa"));
    assert_eq!(refused, lost("Aa", ChunkProblem::Unknown));

    accept(&mut chunks, &start("Aa", 2, 1));
    accept(&mut chunks, &data("Aa", 0, b"ab"));
    assert!(feed(&mut chunks, &start("BB", 2, 1)).is_err());
    let refused = refuse(&mut chunks, &data("BB", 0, b"XY"));
    assert_eq!(refused, (None, ChunkProblem::Contested));
    let refused = refuse(&mut chunks, &end("BB"));
    assert_eq!(refused, lost("BB", ChunkProblem::Unknown));
    assert_eq!(feed(&mut chunks, &end("Aa")).unwrap().unwrap().data, b"ab");
}

#[test]
fn broken_rules_end_the_message() {
    let a = || data("m", 0, b"aaa");
    let cases = [
        (
            vec![data("m", 3, b"")],
            ChunkProblem::Index { index: 3, count: 3 },
        ),
        (
            vec![a(), data("m", 0, b"aa")],
            ChunkProblem::Changed { index: 0 },
        ),
        (
            vec![a(), data("m", 0, b"aab")],
            ChunkProblem::Changed { index: 0 },
        ),
        (
            vec![data("m", 2, b"c"), data("m", 2, b"d")],
            ChunkProblem::Changed { index: 2 },
        ),
        (
            vec![a(), data("m", 2, b"bbbbbb")],
            ChunkProblem::Overrun { size: 8 },
        ),
        (
            vec![a(), data("m", 2, b"c"), end("m")],
            ChunkProblem::Incomplete { came: 2, count: 3 },
        ),
        (
            vec![a(), data("m", 1, b"b"), data("m", 2, b"c"), end("m")],
            ChunkProblem::Short { came: 5, size: 8 },
        ),
    ];
    for (mut frames, problem) in cases {
        let mut chunks = Chunks::default();
        accept(&mut chunks, &start("m", 8, 3));
        let last = frames.pop().unwrap();
        for frame in frames {
            accept(&mut chunks, &frame);
        }
        let error = feed(&mut chunks, &last).unwrap_err();
        assert!(error.is_final(), "{problem:?}");
        assert_eq!((error.message_id, error.problem), lost("m", problem));
        assert!(chunks.is_empty());
        let after = refuse(&mut chunks, &a());
        assert_eq!(after, (None, ChunkProblem::Unknown));
    }
}

#[test]
fn few_chunks_may_come_before_their_turn() {
    let mut chunks = Chunks::default();
    accept(&mut chunks, &start("m", 1000, 60_000));
    for index in 1..=PARKED_MAX as u32 {
        accept(&mut chunks, &data("m", index, b""));
    }
    let refused = refuse(&mut chunks, &data("m", PARKED_MAX as u32 + 1, b""));
    assert_eq!(refused, lost("m", ChunkProblem::Disorder));
}

#[test]
fn checksums_of_start_and_end_agree() {
    let ended = |first: &str, last: &str| {
        let mut chunks = Chunks::default();
        let start = format!(
            "\x01{{\"messageId\":\"m\",\"totalSize\":1,\"chunkCount\":1,\"checksum\":\"{first}\"}}"
        );
        accept(&mut chunks, start.as_bytes());
        accept(&mut chunks, &data("m", 0, b"x"));
        let end = format!("\x03{{\"messageId\":\"m\",\"checksum\":\"{last}\"}}");
        feed(&mut chunks, end.as_bytes()).map(|whole| whole.unwrap().checksum)
    };
    let (one, two) = ("01".repeat(32), format!("sha256:{}", "02".repeat(32)));
    assert_eq!(ended("", ""), Ok(None));
    assert_eq!(ended(&one, ""), Ok(Some([1; 32])));
    assert_eq!(ended("", &two), Ok(Some([2; 32])));
    assert_eq!(ended(&one, &one), Ok(Some([1; 32])));
    let error = ended(&one, &two).unwrap_err();
    assert_eq!(error.problem, ChunkProblem::ChecksumChanged);
}

#[test]
fn what_is_too_old_is_dropped() {
    let mut chunks = Chunks::default();
    let at = |chunks: &mut Chunks, now_ms, frame: &[u8]| match Frame::read(frame) {
        Ok(Frame::Chunk(chunk)) => chunks.handle(now_ms, chunk, &LIMITS),
        other => panic!("{other:?}"),
    };
    assert_eq!(chunks.next_expiry_ms(), None);
    at(&mut chunks, 50, &start("b", 1, 1)).unwrap();
    at(&mut chunks, 40, &start("a", 1, 1)).unwrap();
    at(&mut chunks, 130, &data("a", 0, b"x")).unwrap();
    assert_eq!(chunks.next_expiry_ms(), Some(140));
    assert!(chunks.expire(139).is_empty());
    assert_eq!(chunks.expire(140), ["a"]);
    assert_eq!(chunks.next_expiry_ms(), Some(150));
    assert_eq!(chunks.expire(u64::MAX), ["b"]);
    assert!(chunks.is_empty());
}
