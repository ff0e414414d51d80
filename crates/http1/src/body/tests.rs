use super::chunks::{LONGEST_EXTENSION, MOST_EXTENSIONS, MOST_TRAILER_BYTES, MOST_TRAILERS};
use super::*;

/// Content, names of the trailers, and what is left.
type Read = (Vec<u8>, Vec<String>, Vec<u8>);

/// Reads a body fed in pieces of `step` bytes.
fn decoded(bytes: &[u8], step: usize) -> Result<Read, BodyError> {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let (mut buffer, mut content) = (BytesMut::new(), Vec::new());
    let mut pieces = bytes.chunks(step);
    loop {
        match decoder.decode(&mut buffer)? {
            Decoded::Data(part) => {
                assert!(!part.is_empty());
                content.extend_from_slice(&part);
            }
            Decoded::End(trailers) => {
                assert!(decoder.is_complete());
                decoder.closed().unwrap();
                let names = trailers
                    .iter()
                    .flat_map(|fields| fields.iter())
                    .map(|field| field.name().to_owned())
                    .collect();
                buffer.extend_from_slice(&pieces.flatten().copied().collect::<Vec<_>>());
                return Ok((content, names, buffer.to_vec()));
            }
            Decoded::Wants => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => return decoder.closed().map(|()| unreachable!("wants more")),
            },
        }
    }
}

#[test]
fn chunks_are_taken_apart_however_they_come() {
    let bytes =
        b"5\r\nhello\r\n0001;a=b;c=\"d e\"\r\n \r\nA\r\n0123456789\r\n000\r\nX: y\r\n\r\nnext";
    for step in 1..=bytes.len() {
        let (content, trailers, rest) = decoded(bytes, step).unwrap();
        assert_eq!(content, b"hello 0123456789");
        assert_eq!(trailers, ["X"]);
        assert_eq!(rest, b"next");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let cases: &[&[u8]] = &[
        b"\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5\t;a\r\n",
        b"0x5\r\n",
        b"+5\r\n",
        b"-5\r\n",
        b"5_0\r\n",
        b"5\n",
        b"5\r\r\n",
        b"g\r\n",
        b";a\r\n",
        b"5;a\n",
        b"5;\0\r\n",
        b"5;a\rb\r\n",
        b"5,\r\n",
        b"8000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"00000000000000005\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\r\r\n",
        b"1\r\na0\r\n\r\n",
        b"1\r\na\rb",
        b"5\r\x0bhello",
    ];
    for bytes in cases {
        for step in [1, bytes.len()] {
            let error = decoded(bytes, step).unwrap_err();
            assert_eq!(error, BodyError::Chunk, "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn malformed_trailers_are_refused() {
    let cases: &[&[u8]] = &[
        b"a\r\n",
        b": b\r\n",
        b" a: b\r\n",
        b"a : b\r\n",
        b"a: b\n",
        b"a: \0\r\n",
        b"\n",
        b"a: b\r\n\n",
        b"a: b\r\n c\r\n",
        b"a: b\rc\r\n",
        b"\rx",
    ];
    for trailers in cases {
        let bytes = [b"0\r\n", *trailers].concat();
        for step in [1, bytes.len()] {
            let error = decoded(&bytes, step).unwrap_err();
            assert_eq!(error, BodyError::Trailers, "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn cut_bodies_are_told() {
    let bytes = b"5;a\r\nhello\r\n0\r\na: b\r\n\r\n";
    for length in 0..bytes.len() {
        assert_eq!(
            decoded(&bytes[..length], 7).unwrap_err(),
            BodyError::Cut,
            "{length}"
        );
    }
    assert_eq!(
        BodyDecoder::new(Framing::Length(1)).closed(),
        Err(BodyError::Cut)
    );
    assert_eq!(BodyDecoder::new(Framing::UntilClose).closed(), Ok(()));
    assert_eq!(BodyDecoder::new(Framing::Empty).closed(), Ok(()));
}

#[test]
fn overhead_is_limited_to_the_byte() {
    let chunk = |extension: usize| format!("1;{}\r\na\r\n", "x".repeat(extension - 1));
    let body = |chunks: String, trailers: String| format!("{chunks}0\r\n{trailers}\r\n");
    let trailer = |length: usize| format!("{}:\r\n", "t".repeat(length - 3));
    let many = |count: usize| "t:\r\n".repeat(count);
    let full = chunk(LONGEST_EXTENSION).repeat(MOST_EXTENSIONS / LONGEST_EXTENSION);
    let (one_more, none) = (format!("{full}1;\r\na\r\n"), String::new);
    for (fine, over) in [
        (
            body(chunk(LONGEST_EXTENSION), none()),
            body(chunk(LONGEST_EXTENSION + 1), none()),
        ),
        (body(full, none()), body(one_more, none())),
        (
            body(none(), trailer(MOST_TRAILER_BYTES)),
            body(none(), trailer(MOST_TRAILER_BYTES + 1)),
        ),
        (
            body(none(), many(MOST_TRAILERS)),
            body(none(), many(MOST_TRAILERS + 1)),
        ),
    ] {
        decoded(fine.as_bytes(), 1000).unwrap();
        assert_eq!(
            decoded(over.as_bytes(), 1000).unwrap_err(),
            BodyError::Overhead
        );
    }
}

#[test]
fn trailers_that_frame_route_or_authenticate_are_dropped() {
    let body = b"0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: x\r\nAuthorization: y\r\n\
        grpc-status: 0\r\nX-Forwarded-For: z\r\nTrailer: a\r\nlocation: b\r\nChecksum: 1\r\nset-cookie: c\r\n\r\n";
    assert_eq!(decoded(body, 9).unwrap().1, ["grpc-status", "Checksum"]);
    assert!(decoded(b"0\r\nHost: x\r\n\r\n", 9).unwrap().1.is_empty());
}

#[test]
fn length_counts_down_over_several_reads() {
    let mut decoder = BodyDecoder::new(Framing::Length(5));
    let mut buffer = BytesMut::from(&b"he"[..]);
    assert!(matches!(decoder.decode(&mut buffer), Ok(Decoded::Data(part)) if part == "he"));
    assert!(matches!(decoder.decode(&mut buffer), Ok(Decoded::Wants)));
    buffer.extend_from_slice(b"lloGET");
    assert!(matches!(decoder.decode(&mut buffer), Ok(Decoded::Data(part)) if part == "llo"));
    assert!(decoder.is_complete());
    assert!(matches!(
        decoder.decode(&mut buffer),
        Ok(Decoded::End(None))
    ));
    assert_eq!(buffer, "GET");
}
