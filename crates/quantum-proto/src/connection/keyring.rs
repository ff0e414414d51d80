//! Application keys and their renewal.
//!
//! The flag KEY_PHASE says which of two keys sealed a packet. A side renews its keys long before
//! the cipher's limit, and whoever sees the new phase follows at once. Keys of the phase before
//! are kept for a while, for packets that were overtaken.

use std::time::Duration;

use crate::Time;
use crate::crypto::{Keys, PacketKey};

/// Keys of the application level.
pub(super) struct Keyring {
    current: Keys,
    phase: bool,
    next: Option<Keys>,
    previous: Option<(Box<dyn PacketKey>, Time)>,
    /// Packets sealed with the current key.
    sealed: u64,
    /// The counter of the first of them.
    first_sealed: Option<u64>,
    /// The lowest counter that was opened in this phase.
    first_opened: Option<u64>,
    /// Packets that would not open, over all phases.
    rejected: u64,
}

/// Which key opens a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Current,
    Previous,
    Next,
}

/// Well below every cipher's limit (RFC 9001 section 6.6).
const RENEW_AFTER: u64 = 1 << 23;

impl Keyring {
    pub(super) fn new(current: Keys) -> Self {
        Self {
            current,
            phase: false,
            next: None,
            previous: None,
            sealed: 0,
            first_sealed: None,
            first_opened: None,
            rejected: 0,
        }
    }

    /// The key to seal that packet with and its phase; counts it.
    pub(super) fn seal_with(&mut self, counter: u64) -> (&dyn PacketKey, bool) {
        self.sealed += 1;
        self.first_sealed.get_or_insert(counter);
        (self.current.local.as_ref(), self.phase)
    }

    /// So many packets were sealed that a renewal is due, and the peer can follow. `acked` is the
    /// largest counter that it has acknowledged.
    pub(super) fn is_worn(&self, acked: Option<u64>) -> bool {
        let limit = self.current.local.confidentiality_limit() / 2;
        self.sealed >= RENEW_AFTER.min(limit) && self.may_renew(acked)
    }

    /// The peer has taken in a packet with the present keys: one flag cannot tell more than two
    /// phases. That it has spoken with them is not enough, for we may be the one who followed.
    pub(super) fn may_renew(&self, acked: Option<u64>) -> bool {
        self.first_opened.is_some() && self.first_sealed.is_some_and(|first| acked >= Some(first))
    }

    /// Nothing more may be sealed, or too much was forged.
    pub(super) fn is_spent(&self) -> bool {
        self.sealed >= self.current.local.confidentiality_limit()
            || self.rejected >= self.current.remote.integrity_limit()
    }

    /// The key for a packet of that phase.
    pub(super) fn choose(&self, phase: bool, counter: u64) -> Choice {
        if phase == self.phase {
            Choice::Current
        } else if self.previous.is_some() && self.first_opened.is_none_or(|first| counter < first) {
            Choice::Previous
        } else {
            Choice::Next
        }
    }

    /// The key itself; the next one is made by `make` when first asked for.
    pub(super) fn key(
        &mut self,
        choice: Choice,
        make: &mut dyn FnMut() -> Option<Keys>,
    ) -> Option<&dyn PacketKey> {
        match choice {
            Choice::Current => Some(self.current.remote.as_ref()),
            Choice::Previous => self.previous.as_ref().map(|(key, _)| key.as_ref()),
            Choice::Next => {
                if self.next.is_none() {
                    self.next = make();
                }
                self.next.as_ref().map(|keys| keys.remote.as_ref())
            }
        }
    }

    /// A packet was opened with that key.
    pub(super) fn opened(&mut self, now: Time, choice: Choice, counter: u64, pto: Duration) {
        if choice == Choice::Next {
            self.turn(None);
        }
        if choice == Choice::Previous {
            return;
        }
        if self.first_opened.is_none_or(|first| counter < first) {
            self.first_opened = Some(counter);
        }
        // The peer has followed, so what it sealed before can only be late.
        if let Some((_, until @ Time::NEVER)) = &mut self.previous {
            *until = now + pto * 3;
        }
    }

    pub(super) fn rejected(&mut self) {
        self.rejected += 1;
    }

    /// Goes on to the next keys; the peer will follow.
    pub(super) fn renew(&mut self, make: &mut dyn FnMut() -> Option<Keys>) {
        let fresh = if self.next.is_none() { make() } else { None };
        self.turn(fresh);
    }

    /// Forgets the phase before once nothing of it can be under way.
    pub(super) fn forget(&mut self, now: Time) {
        if self
            .previous
            .as_ref()
            .is_some_and(|(_, until)| now >= *until)
        {
            self.previous = None;
        }
    }

    fn turn(&mut self, fresh: Option<Keys>) {
        let Some(next) = self.next.take().or(fresh) else {
            return;
        };
        let before = std::mem::replace(&mut self.current, next);
        self.previous = Some((before.remote, Time::NEVER));
        self.phase = !self.phase;
        self.sealed = 0;
        self.first_sealed = None;
        self.first_opened = None;
    }
}
