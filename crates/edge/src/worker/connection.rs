//! What is kept of a connection while it rests.
//!
//! Every byte here is paid very many times: a test asserts the size. Buffers, queues
//! and timers belong to the worker; what is rare is boxed.

use std::net::IpAddr;

use protocol::session::Session;
use router::Flavor;
use websocket::Decoder;

use super::link::Link;
use super::live_dialect::LiveClient;
use super::queue::SendQueue;
use super::stratix::Stratix;
use crate::door::{Bucket, Pass};

/// One client's connection.
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) decoder: Decoder,
    pub(crate) session: Session,
    /// Only while something waits to be written.
    pub(crate) queue: Option<Box<SendQueue>>,
    pub(crate) flavor: Flavor,
    /// What a client of a dialect of its own has asked for, and what it has begun.
    pub(crate) own: Option<Box<Own>>,
    pub(crate) stage: Stage,
    /// Listed in the worker's table of users.
    pub(crate) is_registered: bool,
    /// Waits to be flushed at the end of the turn.
    pub(crate) is_dirty: bool,
    /// The socket took no more; it will say when it does.
    pub(crate) is_blocked: bool,
    /// The wheel wakes it at this tick; 0 is never.
    pub(crate) wake_tick: u64,
    /// When writing stopped making progress, or when closing has to be over, in ms;
    /// 0 is never.
    pub(crate) patience_ms: u64,
    /// Limits control frames.
    pub(crate) control_frames: Bucket,
    /// When it came, in seconds on the worker's clock.
    pub(crate) since_s: u32,
    pub(crate) address: IpAddr,
    /// Its place in the process's counts; given back when the connection is dropped.
    pub(crate) _pass: Pass,
}

/// What is kept of a client beside its session, by dialect.
#[derive(Debug)]
pub(crate) enum Own {
    Stratix(Stratix),
    Live(LiveClient),
}

impl Own {
    pub(crate) fn stratix(own: Option<&Self>) -> Option<&Stratix> {
        match own {
            Some(Self::Stratix(stratix)) => Some(stratix),
            Some(Self::Live(_)) | None => None,
        }
    }

    pub(crate) fn stratix_mut(own: Option<&mut Self>) -> Option<&mut Stratix> {
        match own {
            Some(Self::Stratix(stratix)) => Some(stratix),
            Some(Self::Live(_)) | None => None,
        }
    }

    pub(crate) fn live_mut(own: Option<&mut Self>) -> Option<&mut LiveClient> {
        match own {
            Some(Self::Live(client)) => Some(client),
            Some(Self::Stratix(_)) | None => None,
        }
    }
}

impl Connection {
    /// What a client of the relay's dialect has asked for.
    pub(crate) fn stratix(&self) -> Option<&Stratix> {
        Own::stratix(self.own.as_deref())
    }

    pub(crate) fn stratix_mut(&mut self) -> Option<&mut Stratix> {
        Own::stratix_mut(self.own.as_deref_mut())
    }

    /// What a live-data client has asked for.
    pub(crate) fn live_mut(&mut self) -> Option<&mut LiveClient> {
        Own::live_mut(self.own.as_deref_mut())
    }
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Frames go both ways.
    Open,
    /// The close frame waits to be written; nothing is read any more.
    Closing,
    /// The close frame is out; the peer is to close its side.
    Lingering,
}
