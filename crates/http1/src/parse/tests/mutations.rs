//! Seeded mutations: nothing panics, and what is accepted reads the same in another
//! parser and after it is written again.

use super::*;
use crate::write::{write_fields, write_request_line, write_status_line};

const REQUESTS: &[&str] = &[
    "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\nUser-Agent: x y\r\n\r\n",
    "POST http://a:80/x HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    "PUT / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nConnection: close, x\r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "\r\nOPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\nA:\t b\t \r\n\r\n",
];

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    "HTTP/1.1 204 No Content\r\nDate: x\r\nConnection: close\r\n\r\n",
    "HTTP/1.0 404\r\nX_y:  z \r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

const TELLING: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ",",
    "\0",
    "_",
    "#",
    "\r\n ",
    "\r\nHost: b",
    "chunked",
    "\u{7f}",
    "\r\nContent-Length: 3",
    "\r\nTransfer-Encoding: chunked",
    "\r\n\r\n",
    "0",
    "+",
    "HTTP/1.0",
    "@",
    "\u{e9}",
];

/// A small generator; the same seed gives the same inputs.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn mutated(&mut self, seeds: &[&str]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            let until = (at + self.below(4)).min(bytes.len());
            match self.below(4) {
                0 => drop(bytes.drain(at..until)),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 if at < bytes.len() => bytes[at] ^= 0x20,
                _ => {
                    let piece = TELLING[self.below(TELLING.len())].bytes();
                    bytes.splice(at..until, piece);
                }
            }
        }
        bytes
    }
}

#[test]
fn accepted_requests_read_the_same_elsewhere_and_again() {
    let mut accepted = 0;
    for round in 1..=60_000_u64 {
        let bytes = Random(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).mutated(REQUESTS);
        let mut buffer = BytesMut::from(&bytes[..]);
        let Ok(Some(head)) = request(&mut buffer, &LIMITS) else {
            continue;
        };
        accepted += 1;
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut other = httparse::Request::new(&mut slots);
        let length = other.parse(&bytes).unwrap().unwrap();
        assert_eq!(buffer, bytes[length..], "{}", bytes.escape_ascii());
        assert_eq!(other.method, Some(head.method.as_str()));
        same(&head.fields, other.headers, &bytes);

        let mut again = BytesMut::new();
        write_request_line(&mut again, &head.method, head.target.as_str().as_bytes());
        write_fields(&mut again, &head.fields);
        again.extend_from_slice(b"\r\n");
        if head.version == Version::Http10 {
            continue;
        }
        let twin = request(&mut again, &LIMITS).unwrap().unwrap();
        assert!(again.is_empty());
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
    assert!(accepted > 5_000, "only {accepted} accepted");
}

#[test]
fn accepted_answers_read_the_same_elsewhere_and_again() {
    let mut accepted = 0;
    for round in 1..=60_000_u64 {
        let bytes = Random(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).mutated(ANSWERS);
        let mut buffer = BytesMut::from(&bytes[..]);
        let Ok(Some(head)) = response(&mut buffer, &Method::GET, &LIMITS) else {
            continue;
        };
        accepted += 1;
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut other = httparse::Response::new(&mut slots);
        let length = other.parse(&bytes).unwrap().unwrap();
        assert_eq!(buffer, bytes[length..], "{}", bytes.escape_ascii());
        assert_eq!(other.code, Some(head.status));
        same(&head.fields, other.headers, &bytes);

        let mut again = BytesMut::new();
        write_status_line(&mut again, head.status);
        write_fields(&mut again, &head.fields);
        again.extend_from_slice(b"\r\n");
        let twin = response(&mut again, &Method::GET, &LIMITS)
            .unwrap()
            .unwrap();
        assert_eq!((twin.status, twin.framing), (head.status, head.framing));
        assert!(twin.fields.iter().eq(head.fields.iter()));
    }
    assert!(accepted > 5_000, "only {accepted} accepted");
}

#[track_caller]
fn same(fields: &crate::Fields, others: &[httparse::Header<'_>], bytes: &[u8]) {
    let ours = fields.iter().map(|field| (field.name(), field.value));
    let theirs = others.iter().map(|field| (field.name, field.value));
    assert!(ours.eq(theirs), "{}", bytes.escape_ascii());
}
