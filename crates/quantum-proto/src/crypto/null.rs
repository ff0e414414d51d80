//! Cryptography for simulations. **It protects nothing**: payloads stay readable, anybody can
//! compute the tags, and the handshake proves nothing. No setting leads here.
//!
//! What simulations need of the real one holds: the tag notices corruption, packets under the
//! wrong counter, associated data or key, and the handshake has the shape of TLS 1.3: one round
//! trip, with two levels and a reply of several datagrams if so wished. It is the same in each run.

use super::{
    ClientCrypto, Handshake, HandshakeError, Keys, Level, Macs, NewKeys, PacketKey, Peer, Rejected,
    ServerCrypto,
};
use crate::Guuid;
use crate::codes::close;

/// Client side.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullClient;

/// Server side.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullServer {
    /// Bytes that the server's reply is made longer by, in place of certificates; at most
    /// 32,768, more counts as that.
    pub certificate: u16,
}

/// A keyed checksum.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullMacs {
    /// The key.
    pub key: u64,
}

impl ClientCrypto for NullClient {
    fn start(
        &self,
        guuid: Guuid,
        _server_name: &str,
        options: &[u8],
    ) -> Result<Box<dyn Handshake>, HandshakeError> {
        Shake::start(guuid, Side::Client, options, 0)
    }

    fn initial(&self, guuid: Guuid) -> Keys {
        keys(guuid, Side::Client, INITIAL)
    }
}

impl ServerCrypto for NullServer {
    fn start(&self, guuid: Guuid, options: &[u8]) -> Result<Box<dyn Handshake>, HandshakeError> {
        Shake::start(guuid, Side::Server, options, self.certificate)
    }

    fn initial(&self, guuid: Guuid) -> Keys {
        keys(guuid, Side::Server, INITIAL)
    }
}

impl Macs for NullMacs {
    fn mac(&self, purpose: u8, parts: &[&[u8]]) -> [u8; 32] {
        let mut out = [0; 32];
        for (lane, half) in (0..).zip(out.chunks_exact_mut(16)) {
            let mut sum = Checksum::new(self.key, u64::from(purpose) << 8 | lane);
            for part in parts {
                sum.add(part);
            }
            half.copy_from_slice(&sum.finish());
        }
        out
    }
}

/// Generations of keys: application keys count up from the last.
const INITIAL: u64 = 0;
const HANDSHAKE: u64 = 1;
const APPLICATION: u64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

fn keys(guuid: Guuid, side: Side, generation: u64) -> Keys {
    Keys {
        local: Box::new(NullKey::new(guuid, side, generation)),
        remote: Box::new(NullKey::new(guuid, side.other(), generation)),
    }
}

struct NullKey(u64);

impl NullKey {
    fn new(guuid: Guuid, sender: Side, generation: u64) -> Self {
        let mut id = Checksum::new(generation, sender as u64);
        id.add(guuid.as_bytes());
        Self(id.lanes[0])
    }

    fn tag(&self, counter: u64, associated: &[u8], payload: &[u8]) -> [u8; 16] {
        let mut sum = Checksum::new(self.0, counter);
        sum.add(associated);
        sum.add(payload);
        sum.finish()
    }
}

impl PacketKey for NullKey {
    fn seal(&self, counter: u64, associated: &[u8], payload: &mut [u8]) -> [u8; 16] {
        self.tag(counter, associated, payload)
    }

    fn open(&self, counter: u64, associated: &[u8], sealed: &mut [u8]) -> Result<(), Rejected> {
        let (payload, tag) = sealed.split_last_chunk().ok_or(Rejected)?;
        if self.tag(counter, associated, payload) == *tag {
            Ok(())
        } else {
            Err(Rejected)
        }
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

/// Two checksums of 64 bits that differ in start and factor.
struct Checksum {
    lanes: [u64; 2],
}

const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

impl Checksum {
    fn new(key: u64, tweak: u64) -> Self {
        let mut sum = Self {
            lanes: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
        };
        sum.word(key);
        sum.word(tweak);
        sum
    }

    /// Takes the length too, so that bytes cannot wander from one part to the next.
    fn add(&mut self, part: &[u8]) {
        self.word(part.len() as u64);
        let (words, rest) = part.as_chunks();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    fn word(&mut self, word: u64) {
        for (lane, factor) in self.lanes.iter_mut().zip(FACTORS) {
            *lane = (*lane ^ word).wrapping_mul(factor);
            *lane ^= *lane >> 29;
        }
    }

    fn finish(mut self) -> [u8; 16] {
        self.word(0);
        let mut tag = [0; 16];
        for (out, lane) in tag.chunks_exact_mut(8).zip(self.lanes) {
            out.copy_from_slice(&lane.to_be_bytes());
        }
        tag
    }
}

/// ```text
/// client                                  server
/// hello, options           Initial ──►
///                      ◄── Initial        hello
///                      ◄── Handshake      options, filling
/// finished               Handshake ──►
/// ```
/// A message is `kind u8 | length u16 | body`.
struct Shake {
    guuid: Guuid,
    side: Side,
    options: Vec<u8>,
    certificate: u16,
    step: Step,
    /// Bytes of a message that is not complete.
    partial: Vec<u8>,
    peer_options: Option<Vec<u8>>,
    complete: bool,
    generation: u64,
}

/// What [`Shake::write`] does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hello,
    HandshakeKeys,
    Rest,
    Wait(Level),
    Done,
}

const HELLO: u8 = 1;
const OPTIONS: u8 = 2;
const FILLING: u8 = 3;
const FINISHED: u8 = 4;
const FILLING_MAX: u16 = 32 << 10;
const OPTIONS_MAX: usize = 4 << 10;

impl Shake {
    fn start(
        guuid: Guuid,
        side: Side,
        options: &[u8],
        certificate: u16,
    ) -> Result<Box<dyn Handshake>, HandshakeError> {
        if options.len() > OPTIONS_MAX {
            return Err(failed(format!(
                "options of {} bytes exceed {OPTIONS_MAX}",
                options.len()
            )));
        }
        Ok(Box::new(Self {
            guuid,
            side,
            options: options.to_vec(),
            certificate: certificate.min(FILLING_MAX),
            step: match side {
                Side::Client => Step::Hello,
                Side::Server => Step::Wait(Level::Initial),
            },
            partial: Vec::new(),
            peer_options: None,
            complete: false,
            generation: APPLICATION,
        }))
    }

    fn message(&mut self, kind: u8, body: &[u8]) -> Result<(), HandshakeError> {
        match (self.side, self.step, kind) {
            (Side::Server, Step::Wait(Level::Initial), HELLO) => {
                self.peer_options = Some(body.to_vec());
                self.step = Step::Hello;
            }
            (Side::Client, Step::Wait(Level::Initial), HELLO) => self.step = Step::HandshakeKeys,
            (Side::Client, Step::Wait(Level::Handshake), OPTIONS) => {
                self.peer_options = Some(body.to_vec());
            }
            (Side::Client, Step::Wait(Level::Handshake), FILLING) => {
                self.step = Step::Rest;
                self.complete = true;
            }
            (Side::Server, Step::Wait(Level::Handshake), FINISHED) => {
                self.step = Step::Done;
                self.complete = true;
            }
            _ => {
                return Err(failed(format!(
                    "message {kind} is out of place in a handshake"
                )));
            }
        }
        Ok(())
    }
}

impl Handshake for Shake {
    fn read(&mut self, level: Level, bytes: &[u8]) -> Result<(), HandshakeError> {
        if self.step == Step::Done {
            return Ok(());
        }
        match self.step {
            Step::Wait(expected) if level < expected => return Ok(()),
            Step::Wait(expected) if level == expected => {}
            _ => {
                return Err(failed(format!(
                    "bytes of level {level:?} came out of place"
                )));
            }
        }
        self.partial.extend_from_slice(bytes);
        let mut rest = std::mem::take(&mut self.partial);
        while let Some((&[kind, high, low], after)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some((body, after)) = after.split_at_checked(length) else {
                break;
            };
            self.message(kind, body)?;
            rest = after.to_vec();
        }
        self.partial = rest;
        Ok(())
    }

    fn write(&mut self, out: &mut Vec<u8>) -> Option<NewKeys> {
        match (self.side, self.step) {
            (_, Step::Wait(_) | Step::Done) => None,
            (Side::Client, Step::Hello) => {
                put(out, HELLO, &self.options);
                self.step = Step::Wait(Level::Initial);
                None
            }
            (Side::Server, Step::Hello) => {
                put(out, HELLO, &[]);
                self.step = Step::Rest;
                Some(NewKeys::Handshake(keys(self.guuid, self.side, HANDSHAKE)))
            }
            (_, Step::HandshakeKeys) => {
                self.step = Step::Wait(Level::Handshake);
                Some(NewKeys::Handshake(keys(self.guuid, self.side, HANDSHAKE)))
            }
            (Side::Server, Step::Rest) => {
                put(out, OPTIONS, &self.options);
                put(out, FILLING, &vec![0; usize::from(self.certificate)]);
                self.step = Step::Wait(Level::Handshake);
                Some(NewKeys::Application(keys(
                    self.guuid,
                    self.side,
                    APPLICATION,
                )))
            }
            (Side::Client, Step::Rest) => {
                put(out, FINISHED, &[]);
                self.step = Step::Done;
                Some(NewKeys::Application(keys(
                    self.guuid,
                    self.side,
                    APPLICATION,
                )))
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn peer_options(&self) -> Option<&[u8]> {
        self.peer_options.as_deref()
    }

    fn next_keys(&mut self) -> Option<Keys> {
        let has_keys = match self.step {
            Step::Done => true,
            Step::Wait(Level::Handshake) => self.side == Side::Server,
            Step::Wait(Level::Initial) | Step::Hello | Step::HandshakeKeys | Step::Rest => false,
        };
        has_keys.then(|| {
            self.generation += 1;
            keys(self.guuid, self.side, self.generation)
        })
    }

    fn peer(&self) -> Option<Peer> {
        None
    }
}

/// Bodies are at most [`OPTIONS_MAX`] or [`FILLING_MAX`] bytes.
fn put(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&body[..usize::from(length)]);
}

fn failed(text: String) -> HandshakeError {
    HandshakeError {
        code: close::VIOLATION,
        text,
    }
}

#[cfg(test)]
mod tests;
