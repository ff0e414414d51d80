use bytes::BytesMut;

use super::*;
use crate::body::{BodyDecoder, Decoded};

const BODIES: &[(Framing, &[u8], usize)] = &[
    (Framing::Empty, b"GET / HTTP/1.1", 0),
    (Framing::Length(5), b"helloGET", 5),
    (Framing::Chunked, b"0\r\n\r\nGET", 5),
    (
        Framing::Chunked,
        b"5\r\nhello\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET",
        38,
    ),
    (
        Framing::Chunked,
        b"1\r\n\n\r\n0\r\nA: b\r\nGrpc-Status: 0\r\n\r\n0\r\n\r\n",
        33,
    ),
];

#[test]
fn boundary_is_where_the_decoder_stops() {
    for (framing, bytes, length) in BODIES {
        for step in 1..=bytes.len() {
            let mut boundary = Boundary::new(*framing);
            let mut taken = 0;
            for piece in bytes.chunks(step) {
                if boundary.is_complete() {
                    break;
                }
                let (count, complete) = boundary.take(piece).unwrap();
                assert!(complete || count == piece.len());
                assert_eq!(complete, boundary.is_complete());
                taken += count;
            }
            assert!(boundary.is_complete(), "{}", bytes.escape_ascii());
            assert_eq!(taken, *length, "{} by {step}", bytes.escape_ascii());
        }
        let mut buffer = BytesMut::from(*bytes);
        let mut decoder = BodyDecoder::new(*framing);
        while !matches!(decoder.decode(&mut buffer).unwrap(), Decoded::End(_)) {}
        assert_eq!(buffer, bytes[*length..]);
    }
}

#[test]
fn body_until_close_takes_everything() {
    let mut boundary = Boundary::new(Framing::UntilClose);
    assert_eq!(boundary.take(b"abc").unwrap(), (3, false));
    assert!(!boundary.is_complete());
}

#[test]
fn broken_chunks_are_refused() {
    for bytes in [
        &b"g\r\n"[..],
        b"5\nhello\r\n",
        b"1\r\nabc",
        b"0\r\na\r\n\r\n",
    ] {
        Boundary::new(Framing::Chunked).take(bytes).unwrap_err();
    }
}
