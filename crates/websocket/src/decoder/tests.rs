use super::*;
use crate::close::close_payload;
use crate::deflate::{Deflater, encode_message};
use crate::frame::encode_frame;

mod limits;
mod random;

const KEY: [u8; 4] = [0xa1, 0x02, 0xf3, 0x44];
const PARAMS: DeflateParams = DeflateParams { window_bits: 15 };

/// An event that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Refused(FrameError),
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message {
                binary: true,
                payload,
            } => Self::Binary(payload.to_vec()),
            Event::Message {
                binary: false,
                payload,
            } => Self::Text(str::from_utf8(payload).expect("text is checked").to_owned()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// A decoder with its surroundings.
struct Ear {
    decoder: Decoder,
    inflater: Inflater,
    limits: Limits,
    heard: Vec<Heard>,
}

impl Ear {
    fn new(role: Role) -> Self {
        Self {
            decoder: Decoder::new(role, Some(PARAMS)),
            inflater: Inflater::new(),
            limits: Limits::default(),
            heard: Vec::new(),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let mut input = bytes.as_mut_slice();
        while !input.is_empty() {
            match self.decoder.decode(&self.limits, &mut self.inflater, input) {
                Ok((used, event)) => {
                    assert!(used > 0, "no progress");
                    self.heard.extend(event.map(Heard::from));
                    input = &mut input[used..];
                }
                Err(error) => {
                    self.heard.push(Heard::Refused(error));
                    return;
                }
            }
        }
    }
}

fn hear_in_parts(role: Role, wire: &[u8], cuts: &[usize]) -> Vec<Heard> {
    let mut ear = Ear::new(role);
    let mut start = 0;
    for cut in cuts.iter().copied().chain([wire.len()]) {
        ear.hear(&wire[start..cut]);
        start = cut;
    }
    if !ear.decoder.ended {
        assert_eq!(ear.decoder.held_bytes(), 0, "box is left behind");
        assert_eq!(ear.decoder.held_bytes(), 0);
    }
    ear.heard
}

fn frame(opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    encode_frame(&mut wire, opcode, fin, false, Some(KEY), payload);
    wire
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut deflater = Deflater::new(6);
    encode_message(
        &mut wire,
        false,
        Some(KEY),
        payload,
        Some((&mut deflater, PARAMS)),
    );
    assert_eq!(wire[0], 0xc1);
    wire
}

/// A compressed message in three frames.
fn compressed_fragments(payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    assert!(Deflater::new(6).compress(15, payload, &mut body));
    let mut wire = Vec::new();
    encode_frame(&mut wire, OpCode::Text, false, true, Some(KEY), &body[..3]);
    encode_frame(&mut wire, OpCode::Ping, true, false, Some(KEY), b"mid");
    encode_frame(
        &mut wire,
        OpCode::Continuation,
        false,
        false,
        Some(KEY),
        &body[3..5],
    );
    encode_frame(
        &mut wire,
        OpCode::Continuation,
        true,
        false,
        Some(KEY),
        &body[5..],
    );
    wire
}

fn text(text: &str) -> Heard {
    Heard::Text(text.to_owned())
}

/// Wire bytes and the events they mean.
fn samples() -> Vec<(&'static str, Vec<u8>, Vec<Heard>)> {
    use OpCode::{Binary, Close, Continuation, Ping, Pong, Text};
    let word = "κόσμε 😀 ".repeat(20);
    let refused = |error| vec![Heard::Refused(error)];
    vec![
        (
            "one text",
            frame(Text, true, "héllo".as_bytes()),
            vec![text("héllo")],
        ),
        ("empty text", frame(Text, true, b""), vec![text("")]),
        (
            "bytes",
            frame(Binary, true, &[0xff; 200]),
            vec![Heard::Binary(vec![0xff; 200])],
        ),
        (
            "two",
            [frame(Text, true, b"a"), frame(Text, true, b"b")].concat(),
            vec![text("a"), text("b")],
        ),
        (
            "fragments cut inside a character, with control frames between",
            [
                frame(Text, false, &"a😀".as_bytes()[..3]),
                frame(Ping, true, b"now?"),
                frame(Continuation, false, b""),
                frame(Continuation, false, &"😀".as_bytes()[2..3]),
                frame(Pong, true, b""),
                frame(Continuation, true, &"😀z".as_bytes()[3..]),
                frame(Binary, true, b"next"),
            ]
            .concat(),
            vec![
                Heard::Ping(b"now?".to_vec()),
                Heard::Pong(vec![]),
                text("a😀z"),
                Heard::Binary(b"next".to_vec()),
            ],
        ),
        ("compressed", compressed(word.as_bytes()), vec![text(&word)]),
        (
            "compressed fragments",
            compressed_fragments(word.as_bytes()),
            vec![Heard::Ping(b"mid".to_vec()), text(&word)],
        ),
        (
            "close, then anything",
            [
                frame(Close, true, &close_payload(1001, "späť")),
                vec![0xff; 5],
            ]
            .concat(),
            vec![Heard::Close(Some(1001), "späť".to_owned())],
        ),
        (
            "bare close",
            frame(Close, true, b""),
            vec![Heard::Close(None, String::new())],
        ),
        (
            "half a code",
            frame(Close, true, b"x"),
            refused(FrameError::CloseTruncated),
        ),
        (
            "reserved code",
            frame(Close, true, &[3, 237]),
            refused(FrameError::CloseCode(1005)),
        ),
        (
            "text that is not",
            frame(Text, true, &[0xc0, 0x80]),
            refused(FrameError::TextUtf8),
        ),
        (
            "text that ends in a character",
            [
                frame(Text, false, b"a"),
                frame(Continuation, true, &[0xe2, 0x82]),
            ]
            .concat(),
            refused(FrameError::TextUtf8),
        ),
        (
            "lone surrogate",
            frame(Text, true, &[0xed, 0xa0, 0x80]),
            refused(FrameError::TextUtf8),
        ),
        (
            "continuation of nothing",
            frame(Continuation, true, b"x"),
            refused(FrameError::UnexpectedContinuation),
        ),
        (
            "message inside a message",
            [frame(Text, false, b"x"), frame(Text, true, b"y")].concat(),
            refused(FrameError::ExpectedContinuation),
        ),
    ]
}

#[test]
fn every_split_in_two_and_three_gives_the_same_events() {
    for (name, wire, expected) in samples() {
        assert_eq!(
            hear_in_parts(Role::Server, &wire, &[]),
            expected,
            "{name}, whole"
        );
        let each: Vec<usize> = (1..wire.len()).collect();
        assert_eq!(
            hear_in_parts(Role::Server, &wire, &each),
            expected,
            "{name}, by bytes"
        );
        for first in 1..wire.len() {
            let heard = hear_in_parts(Role::Server, &wire, &[first]);
            assert_eq!(heard, expected, "{name}, cut at {first}");
            for second in first..wire.len() {
                let heard = hear_in_parts(Role::Server, &wire, &[first, second]);
                assert_eq!(heard, expected, "{name}, cut at {first} and {second}");
            }
        }
    }
}

#[test]
fn client_reads_unmasked_frames() {
    let mut wire = Vec::new();
    encode_frame(&mut wire, OpCode::Text, false, false, None, b"from ");
    encode_frame(&mut wire, OpCode::Continuation, true, false, None, b"afar");
    for cut in 1..wire.len() {
        assert_eq!(
            hear_in_parts(Role::Client, &wire, &[cut]),
            [text("from afar")]
        );
    }
}

#[test]
fn invalid_text_fails_before_its_frame_is_complete() {
    let mut wire = frame(OpCode::Text, true, b"abc\xf4\x90\x80\x80 and so on");
    wire.truncate(6 + 5);
    let mut ear = Ear::new(Role::Server);
    ear.hear(&wire[..10]);
    assert_eq!(ear.heard, []);
    ear.hear(&wire[10..]);
    assert_eq!(ear.heard, [Heard::Refused(FrameError::TextUtf8)]);
}

#[test]
fn compressed_text_is_checked_after_decompression() {
    let wire = compressed(&[0xff; 100]);
    assert_eq!(
        hear_in_parts(Role::Server, &wire, &[]),
        [Heard::Refused(FrameError::TextUtf8)]
    );
    let parts = hear_in_parts(Role::Server, &wire, &[4, 8]);
    assert_eq!(parts, [Heard::Refused(FrameError::TextUtf8)]);
}

#[test]
fn nothing_is_heard_after_the_end() {
    let mut ear = Ear::new(Role::Server);
    ear.hear(&frame(OpCode::Continuation, true, b""));
    ear.hear(&frame(OpCode::Text, true, b"too late"));
    assert_eq!(
        ear.heard,
        [Heard::Refused(FrameError::UnexpectedContinuation)]
    );
}

#[test]
fn resting_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 16, "{} bytes", size_of::<Decoder>());
}

#[test]
fn unfinished_message_is_freed_with_its_last_byte() {
    let wire = frame(OpCode::Binary, true, &[7; 5000]);
    let mut ear = Ear::new(Role::Server);
    ear.hear(&wire[..2000]);
    assert!(ear.decoder.held_bytes() >= 1992);
    ear.hear(&wire[2000..]);
    assert_eq!(ear.decoder.held_bytes(), 0);
    assert_eq!(ear.heard, [Heard::Binary(vec![7; 5000])]);
}
