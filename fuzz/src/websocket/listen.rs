//! Our decoder, fed in pieces.

use websocket::{Decoder, DeflateParams, Event, FrameError, Inflater, Limits, Role};

/// An event that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl Heard {
    pub(super) fn close_code(&self) -> Option<u16> {
        match self {
            Self::Close(code, _) => *code,
            Self::Text(_) | Self::Binary(_) | Self::Ping(_) | Self::Pong(_) => None,
        }
    }
}

/// How listening ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// By a close frame.
    Closed,
    /// By the end of the bytes.
    Cut,
    /// By an error of ours.
    Refused(FrameError),
    /// By an error of the oracle.
    RefusedThere,
}

/// Everything heard, and the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) heard: Vec<Heard>,
    pub(super) end: End,
}

/// Feeds `data` in pieces of `step` bytes.
pub(super) fn listen(
    role: Role,
    deflate: Option<DeflateParams>,
    limits: &Limits,
    data: &[u8],
    step: usize,
) -> Outcome {
    let mut decoder = Decoder::new(role, deflate);
    let mut inflater = Inflater::new();
    let mut heard = Vec::new();
    let mut bytes = data.to_vec();
    for mut input in bytes.chunks_mut(step) {
        while !input.is_empty() {
            let (used, event) = match decoder.decode(limits, &mut inflater, input) {
                Ok(progress) => progress,
                Err(error) => {
                    return Outcome {
                        heard,
                        end: End::Refused(error),
                    };
                }
            };
            assert!(used > 0, "decoder made no progress");
            heard.extend(event.map(|event| own(event, limits)));
            if matches!(heard.last(), Some(Heard::Close(..))) {
                return Outcome {
                    heard,
                    end: End::Closed,
                };
            }
            input = &mut input[used..];
        }
        let ceiling = 2 * limits.message_max + 1024;
        assert!(
            decoder.held_bytes() <= ceiling,
            "decoder holds {} bytes",
            decoder.held_bytes()
        );
    }
    Outcome {
        heard,
        end: End::Cut,
    }
}

fn own(event: Event<'_>, limits: &Limits) -> Heard {
    match event {
        Event::Message { binary, payload } => {
            let most = limits.message_max.max(limits.inflated_max);
            assert!(payload.len() <= most, "message passes its limit");
            if binary {
                Heard::Binary(payload.to_vec())
            } else {
                match str::from_utf8(payload) {
                    Ok(text) => Heard::Text(text.to_owned()),
                    Err(error) => panic!("text is not utf-8: {error}"),
                }
            }
        }
        Event::Ping(payload) => Heard::Ping(payload.to_vec()),
        Event::Pong(payload) => Heard::Pong(payload.to_vec()),
        Event::Close { code, reason } => Heard::Close(code, reason.to_owned()),
    }
}
