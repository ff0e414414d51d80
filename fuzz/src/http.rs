//! HTTP/1.1 as the gateway reads it, from clients and from upstreams: against httparse, and
//! against itself however the bytes are cut.

use ::http::Method;
use bytes::BytesMut;
use http1::{
    BodyDecoder, BodyError, Boundary, Decoded, Fields, Framing, Limits, RequestHead, Version,
};

const LIMITS: Limits = Limits {
    head: 4096,
    fields: 64,
    target: 1024,
};

/// A request that is accepted is the same to another parser, after it was written again, and
/// fed byte by byte; its body ends where the boundary says.
pub fn request(data: &[u8]) {
    let mut rest = BytesMut::from(data);
    let Ok(Some(head)) = http1::request(&mut rest, &LIMITS) else {
        return;
    };
    let length = data.len() - rest.len();
    let mut storage = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Request::new(&mut storage);
    let status = other.parse(data).expect("the laxer parser takes it");
    assert_eq!(status, httparse::Status::Complete(length));
    assert_eq!(other.method, Some(head.method.as_str()));
    same_fields(&head.fields, other.headers);
    slowly(data, length, |buffer| {
        http1::request(buffer, &LIMITS).map(|head| head.is_some())
    });
    if head.version == Version::Http11 {
        written_again(&head);
    }
    bounded(head.framing, &rest);
}

/// As for [`request`], for an answer to `GET`.
pub fn response(data: &[u8]) {
    let mut rest = BytesMut::from(data);
    let Ok(Some(head)) = http1::response(&mut rest, &Method::GET, &LIMITS) else {
        return;
    };
    let length = data.len() - rest.len();
    let mut storage = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Response::new(&mut storage);
    let status = other.parse(data).expect("the laxer parser takes it");
    assert_eq!(status, httparse::Status::Complete(length));
    assert_eq!(other.code, Some(head.status));
    same_fields(&head.fields, other.headers);
    slowly(data, length, |buffer| {
        http1::response(buffer, &Method::GET, &LIMITS).map(|head| head.is_some())
    });
    bounded(head.framing, &rest);
}

/// A chunked body is the same however it is cut.
pub fn body(data: &[u8]) {
    let whole = decoded(Framing::Chunked, data, data.len());
    for step in [1, 2, 7] {
        assert_eq!(decoded(Framing::Chunked, data, step), whole, "by {step}");
    }
    bounded(Framing::Chunked, data);
}

/// Byte by byte, the head is complete with its last byte and not before.
fn slowly<E: std::fmt::Debug>(
    data: &[u8],
    length: usize,
    mut parse: impl FnMut(&mut BytesMut) -> Result<bool, E>,
) {
    let mut buffer = BytesMut::new();
    for (at, byte) in data[..length].iter().enumerate() {
        buffer.extend_from_slice(&[*byte]);
        let complete = parse(&mut buffer).expect("it is accepted as a whole");
        assert_eq!(complete, at + 1 == length, "after {at} bytes");
    }
}

fn same_fields(fields: &Fields, others: &[httparse::Header<'_>]) {
    let ours = fields.iter().map(|field| (field.name(), field.value));
    let theirs = others.iter().map(|field| (field.name, field.value));
    assert!(ours.eq(theirs), "{fields:?} and {others:?}");
}

fn written_again(head: &RequestHead) {
    let mut buffer = BytesMut::new();
    http1::write_request_line(&mut buffer, &head.method, head.target.as_str().as_bytes());
    http1::write_fields(&mut buffer, &head.fields);
    buffer.extend_from_slice(b"\r\n");
    let larger = Limits {
        head: 2 * LIMITS.head,
        ..LIMITS
    };
    let twin = http1::request(&mut buffer, &larger);
    let twin = twin.expect("it is accepted").expect("it is complete");
    assert!(buffer.is_empty());
    assert_eq!((&twin.method, &twin.target), (&head.method, &head.target));
    assert_eq!(
        (&twin.authority, &twin.upgrade),
        (&head.authority, &head.upgrade)
    );
    assert_eq!(
        (twin.framing, twin.keep_alive),
        (head.framing, head.keep_alive)
    );
    assert!(twin.fields.iter().eq(head.fields.iter()));
}

/// Content, trailers and length of a body with its framing. `None` if it is not complete.
type Read = Option<(Vec<u8>, Vec<(String, Vec<u8>)>, usize)>;

fn decoded(framing: Framing, data: &[u8], step: usize) -> Result<Read, BodyError> {
    let mut decoder = BodyDecoder::new(framing);
    let (mut buffer, mut content, mut fed) = (BytesMut::new(), Vec::new(), 0);
    loop {
        match decoder.decode(&mut buffer)? {
            Decoded::Data(part) => {
                assert!(!part.is_empty());
                content.extend_from_slice(&part);
            }
            Decoded::End(trailers) => {
                let trailers = trailers
                    .iter()
                    .flat_map(|fields| fields.iter())
                    .map(|field| (field.name().to_owned(), field.value.to_vec()))
                    .collect();
                return Ok(Some((content, trailers, fed - buffer.len())));
            }
            Decoded::Wants if fed == data.len() => return Ok(None),
            Decoded::Wants => {
                let piece = &data[fed..data.len().min(fed + step)];
                buffer.extend_from_slice(piece);
                fed += piece.len();
            }
        }
    }
}

/// The boundary is where the decoder stops, or both refuse, or both want more.
fn bounded(framing: Framing, data: &[u8]) {
    let read = decoded(framing, data, data.len().max(1));
    let mut boundary = Boundary::new(framing);
    match (read, boundary.take(data)) {
        (Ok(Some((_, _, length))), Ok(end)) => assert_eq!(end, (length, true)),
        (Ok(None), Ok(end)) => assert_eq!(end, (data.len(), false)),
        (Err(ours), Err(theirs)) => assert_eq!(ours, theirs),
        (read, end) => panic!("decoder: {read:?}, boundary: {end:?}"),
    }
}
