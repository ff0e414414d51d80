//! The handshake's bytes and its own retransmission.
//!
//! CRYPTO frames carry TLS messages, per level from offset 0. Nothing acknowledges them: a side
//! sends all it has said on a level again, with growing pauses, until what the other side says
//! shows that it was heard. Each flight is at most a few datagrams, so this costs little and
//! needs no state of packets.

use std::time::Duration;

use bytes::Bytes;

use super::assembly::{Assembly, TooMuch};
use crate::Time;
use crate::crypto::Keys;

/// Where a handshake packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// Sealed with keys that everybody can derive from the GUUID.
    Initial,
    /// Sealed with the keys that the key exchange gave.
    Handshake,
}

/// What is left to do of a handshake.
pub(super) struct Shaking {
    pub(super) initial: Option<Keys>,
    pub(super) handshake: Option<Keys>,
    /// What TLS says on each level, from the beginning.
    pub(super) outgoing: [Vec<u8>; 2],
    incoming: [Assembly; 2],
    /// What an endpoint under load asked us to repeat.
    pub(super) cookie: Option<Bytes>,
    /// Where the flight that is being sent stands: space and offset; `None` when all is out.
    sending: Option<(Space, usize)>,
    /// A packet without handshake bytes is to be sent, which shows that we have the keys.
    signal: bool,
    resend_at: Time,
    pause: Duration,
}

/// The first pause before a flight is sent again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(150);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// More than any reasonable hello: anybody may make us keep so much.
const HELLO_MAX: usize = 16 << 10;
/// More than any reasonable chain of certificates.
const BYTES_MAX: usize = 64 << 10;

impl Shaking {
    pub(super) fn new(initial: Keys) -> Self {
        Self {
            initial: Some(initial),
            handshake: None,
            outgoing: [Vec::new(), Vec::new()],
            incoming: [Assembly::new(HELLO_MAX), Assembly::new(BYTES_MAX)],
            cookie: None,
            sending: None,
            signal: false,
            resend_at: Time::NEVER,
            pause: FIRST_PAUSE,
        }
    }

    pub(super) fn keys(&self, space: Space) -> Option<&Keys> {
        match space {
            Space::Initial => self.initial.as_ref(),
            Space::Handshake => self.handshake.as_ref(),
        }
    }

    /// Puts what came in its place; gives what is readable in order.
    pub(super) fn put(
        &mut self,
        space: Space,
        offset: usize,
        data: &[u8],
    ) -> Result<Option<Vec<u8>>, TooMuch> {
        let assembly = &mut self.incoming[index(space)];
        assembly.put(offset, data)?;
        Ok(assembly.take().map(<[u8]>::to_vec))
    }

    /// The whole flight is to be sent, now, and again after a first pause.
    pub(super) fn start_flight(&mut self, now: Time) {
        self.pause = FIRST_PAUSE;
        self.send_again(now);
    }

    /// The pause is over, or the peer has shown that it missed something.
    pub(super) fn send_again(&mut self, now: Time) {
        self.sending = self.first();
        self.signal |= self.sending.is_none() && self.handshake.is_some();
        self.resend_at = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    pub(super) fn resend_at(&self) -> Time {
        self.resend_at
    }

    /// A packet is wanted that shows that we have handshake keys, although there is nothing to
    /// say: a server may be held back by the limit on addresses that have not proved themselves.
    pub(super) fn take_signal(&mut self) -> bool {
        self.sending.is_none() && std::mem::take(&mut self.signal)
    }

    /// The next piece of the flight, of at most `room` bytes.
    pub(super) fn next(&self, room: usize) -> Option<(Space, usize, &[u8])> {
        let (space, offset) = self.sending?;
        let rest = self.outgoing[index(space)].get(offset..)?;
        Some((space, offset, &rest[..rest.len().min(room)]))
    }

    /// A piece of `length` bytes went out.
    pub(super) fn sent(&mut self, length: usize) {
        let Some((space, offset)) = self.sending else {
            return;
        };
        let offset = offset + length;
        self.sending = if offset < self.outgoing[index(space)].len() {
            Some((space, offset))
        } else if space == Space::Initial && !self.outgoing[1].is_empty() {
            Some((Space::Handshake, 0))
        } else {
            None
        };
    }

    /// The peer has handshake keys, so it has heard all that we said before them.
    pub(super) fn drop_initial(&mut self) {
        self.signal |= self.initial.take().is_some();
        if self.sending.is_some_and(|(it, _)| it == Space::Initial) {
            self.sending = self.first();
        }
    }

    fn first(&self) -> Option<(Space, usize)> {
        if self.initial.is_some() && !self.outgoing[0].is_empty() {
            Some((Space::Initial, 0))
        } else if !self.outgoing[1].is_empty() {
            Some((Space::Handshake, 0))
        } else {
            None
        }
    }
}

pub(super) fn index(space: Space) -> usize {
    match space {
        Space::Initial => 0,
        Space::Handshake => 1,
    }
}
