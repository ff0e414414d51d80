//! Names of streams, and a map of them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use super::Role;

/// The name of a stream within its connection. The client opens 1, 3, 5 …, the server 2, 4, 6 …;
/// names are not used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The name as on the wire.
    pub fn get(self) -> u32 {
        self.0
    }

    /// Who opened the stream.
    pub fn opener(self) -> Role {
        if self.0 % 2 == 1 {
            Role::Client
        } else {
            Role::Server
        }
    }

    /// Reads a name from the wire; 0 is none, it means the connection.
    pub(super) fn from_wire(id: u32) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The `index`-th stream of `role`, counted from 1.
    pub(super) fn nth(role: Role, index: u32) -> Option<Self> {
        let id = index.checked_sub(1)?.checked_mul(2)?;
        Some(Self(match role {
            Role::Client => id.checked_add(1)?,
            Role::Server => id.checked_add(2)?,
        }))
    }

    /// Which stream of its opener it is, counted from 1.
    pub(super) fn index(self) -> u32 {
        self.0 / 2 + self.0 % 2
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A side has names for so many streams; the server for one less.
pub(super) const STREAMS_MAX: u32 = 1 << 31;

/// Streams by name. Hashing is the same in each run, so that a run can be repeated; a peer that
/// picks names which collide only slows down its own, at most as many as it may have open.
pub(super) type Map<T> = HashMap<StreamId, T, BuildHasherDefault<Spread>>;

/// Spreads the few bits in which neighbouring names differ over the whole hash.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        let mixed = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
