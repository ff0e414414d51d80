//! What is kept of a connection while it rests.
//!
//! Every byte here is paid very many times: a test asserts the size. Buffers, queues
//! and timers belong to the worker; what is rare is boxed.

use std::net::IpAddr;

use protocol::session::Session;
use router::Flavor;
use websocket::Decoder;

use super::link::Link;
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
    /// What a client of that dialect has asked for, and what it has begun.
    pub(crate) stratix: Option<Box<Stratix>>,
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
