//! Streams: what a connection carries.
//!
//! A stream is a pair of ordered sequences of bytes, one in each direction, each with an end of
//! its own, and with ends of messages marked on the way. [`Streams`] holds all of a connection:
//! the application opens, writes and reads; packets are filled from it and emptied into it.
//!
//! **What is kept.** Bytes that are not in a packet yet, and bytes that were not read yet. Once
//! [`Streams::fill`] has put bytes into a source part they belong to whoever sends that again
//! when it is lost; so `fill` never says the same twice, and each source part is to be taken in
//! once, however often it arrives.
//!
//! **Life of a stream.** Each half ends by itself. The sending half is over when its end is in a
//! packet, when it was reset, or when a write has said that the peer stopped it. The receiving
//! half is over when it was read to its end or to the peer's reset, or stopped. When both are
//! over the stream is forgotten and costs nothing, and a stream of the peer makes room for a new
//! one. Whoever loses interest in a half must say so with [`Streams::reset`] or
//! [`Streams::stop`], else the stream stays.
//!
//! **Flow control.** A stream and the connection each have a window: bytes received and not read
//! yet are never more than that. Data of a half that was given up count for the connection when
//! they arrive, since the peer has counted them when they left.

use std::time::Duration;

use bytes::Bytes;

use crate::Time;
use events::{Events, News};
use ids::Map;
use receiving::{Held, Receiving, Taken};
use schedule::{Place, Schedule};
use sending::Sending;
use window::Window;

mod events;
mod ids;
mod queue;
mod receiving;
mod schedule;
mod sending;
mod window;
mod wire;

pub use ids::StreamId;
pub use wire::{FILL_ROOM_MIN, Filled};

/// Which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It began the connection; opens streams 1, 3, 5 ….
    Client,
    /// It was called; opens streams 2, 4, 6 ….
    Server,
}

/// What we grant the peer and ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unread bytes that the peer may send on one stream, at least 1. Grows to 16 times that
    /// while it limits the peer.
    pub stream_window: u32,
    /// Unread bytes that the peer may send in all, at least 1. Grows to 16 times that while it
    /// limits the peer.
    pub connection_window: u32,
    /// Bytes that wait to be sent on one stream before writing takes no more, at least 1.
    pub send_buffer: u32,
    /// Streams that the peer may have open at once.
    pub max_streams: u32,
}

/// What the peer grants us in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// Bytes in all.
    pub connection_window: u64,
    /// Bytes on each stream.
    pub stream_window: u64,
    /// Streams that we may open.
    pub max_streams: u32,
}

/// Whose data leave first. A class waits for all above it, without end if need be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Small and urgent: health, cancellation, coordination.
    Control,
    /// A call that somebody waits for.
    #[default]
    Unary,
    /// A sequence of answers.
    ServerStream,
    /// Large transfers.
    Bulk,
}

/// What stands behind some bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum End {
    /// Nothing in particular.
    #[default]
    More,
    /// A message ends. A message has at least one byte: marking the end where one has ended
    /// already, or where the stream begins, does nothing.
    Message,
    /// The stream ends, and its last message with it.
    Stream,
}

/// Bytes read from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes. Empty only if an end came after its bytes had been read.
    pub data: Bytes,
    /// What stands behind them. If a message and the stream end at one place the former is told
    /// first, the latter with an empty chunk.
    pub end: End,
}

/// What happened to streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamEvent {
    /// The peer opened it; [`Streams::accept`] has it too.
    Opened(StreamId),
    /// There is something to read, if only an end or a reset.
    Readable(StreamId),
    /// A writer that had found too little room finds some.
    Writable(StreamId),
    /// The peer gave up its sending half; the next read says so too.
    Reset(StreamId, u32),
    /// The peer reads no more; the next write says so too.
    Stopped(StreamId, u32),
    /// [`Streams::open`], which was refused, may work again.
    Room,
}

/// Why no stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many are open as may be; [`StreamEvent::Room`] comes when that changes.
    #[error("no more streams may be open at once")]
    Blocked,
    /// The connection has no names left: a new one is needed.
    #[error("the connection has used up its stream ids")]
    Exhausted,
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
}

/// Why nothing can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The peer reads no more, for the reason with this code. Said once.
    #[error("the peer stopped reading the stream with code {0}")]
    Stopped(u32),
    /// The half is over, or there is no such stream.
    #[error("the stream takes no more data")]
    Closed,
}

/// Why nothing can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The peer gave the stream up, for the reason with this code. Said once.
    #[error("the peer reset the stream with code {0}")]
    Reset(u32),
    /// The half is over, or there is no such stream.
    #[error("the stream has no more data")]
    Closed,
}

/// The peer has broken a rule: the connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Violation {
    /// One of [`crate::codes::close`].
    pub code: u32,
    /// For people.
    pub text: &'static str,
}

/// All streams of a connection; see the module.
#[derive(Debug)]
pub struct Streams {
    role: Role,
    limits: Limits,
    /// What the handshake told the peer of each stream's window, whatever is set later.
    told_window: u32,
    closed: bool,
    streams: Map<Stream>,
    events: Events,
    srtt: Duration,

    // What we send.
    peer: PeerLimits,
    schedule: Schedule,
    control: wire::Control,
    /// Bytes put into packets, of all streams.
    sent: u64,
    /// Bytes written and not in packets yet.
    unsent: usize,
    /// How many streams we have opened.
    opened: u32,
    /// How many of them live.
    ours: usize,

    // What we receive.
    held: Held,
    window: Window,
    /// Bytes received, of all streams, each counted once.
    received: u64,
    /// How many streams the peer has opened, how many were accepted, and how many are gone.
    theirs: u32,
    accepted: u32,
    gone: u32,
    /// How many streams the peer knows that it may open.
    granted: u32,
}

#[derive(Debug)]
struct Stream {
    place: Place,
    news: News,
    sending: Sending,
    receiving: Receiving,
}

/// Streams that we open live at most in this number, whatever the peer allows.
const OURS_MAX: usize = 65_536;
/// No stream is opened while so many control frames wait.
const CONTROL_MAX: usize = 65_536;

impl Streams {
    /// No streams. The peer's limits are not known yet, so none can be opened.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            told_window: limits.stream_window,
            closed: false,
            streams: Map::default(),
            events: Events::default(),
            srtt: Duration::ZERO,
            peer: PeerLimits {
                connection_window: 0,
                stream_window: 0,
                max_streams: 0,
            },
            schedule: Schedule::default(),
            control: wire::Control::default(),
            sent: 0,
            unsent: 0,
            opened: 0,
            ours: 0,
            held: Held::default(),
            window: Window::new(limits.connection_window),
            received: 0,
            theirs: 0,
            accepted: 0,
            gone: 0,
            granted: limits.max_streams.min(ids::STREAMS_MAX),
        }
    }

    /// The handshake is done: the peer grants this.
    pub fn set_peer(&mut self, peer: PeerLimits) {
        self.peer = peer;
        for (id, stream) in &mut self.streams {
            stream.sending.on_max_data(peer.stream_window);
            self.schedule
                .update(*id, &mut stream.place, &stream.sending);
        }
        self.offer_room();
    }

    /// Takes over changed limits. Windows only grow; what the peer was granted stays granted.
    pub fn configure(&mut self, limits: Limits) {
        self.limits = limits;
        self.window.grow(limits.connection_window);
        self.control.window |= self.window.is_due();
        for (id, stream) in &mut self.streams {
            stream.receiving.window.grow(limits.stream_window);
            if stream.receiving.window.is_due() {
                self.control.offer_window(*id, &mut stream.receiving);
            }
            if stream.sending.takes_room(limits.send_buffer as usize) {
                self.events.push(*id, &mut stream.news, News::WRITABLE);
            }
        }
        self.update_grant();
    }

    /// The smoothed round-trip time, by which windows grow.
    pub fn set_rtt(&mut self, srtt: Duration) {
        self.srtt = srtt;
    }

    /// The connection is over: all streams are forgotten, and every call says so.
    pub fn close(&mut self) {
        self.closed = true;
        self.streams = Map::default();
        self.events = Events::default();
        self.schedule = Schedule::default();
        self.control = wire::Control::default();
        self.held = Held::default();
        self.unsent = 0;
        self.ours = 0;
    }

    /// Opens a stream.
    pub fn open(&mut self, priority: Priority) -> Result<StreamId, OpenError> {
        if self.closed {
            return Err(OpenError::Closed);
        }
        let Some(id) = StreamId::nth(self.role, self.opened.saturating_add(1)) else {
            return Err(OpenError::Exhausted);
        };
        if !self.has_room() {
            self.events.want_room();
            return Err(OpenError::Blocked);
        }
        self.opened += 1;
        self.ours += 1;
        self.insert_stream(id, priority);
        Ok(id)
    }

    /// The next stream that the peer opened, in the order of their names.
    pub fn accept(&mut self) -> Option<StreamId> {
        while self.accepted < self.theirs {
            self.accepted += 1;
            let id = StreamId::nth(self.role.other(), self.accepted)?;
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.news.forget(News::OPENED);
                return Some(id);
            }
        }
        None
    }

    /// Takes `data` to be sent, and behind them `end`; returns how many bytes were taken. If
    /// those are not all, for want of room in the buffer, `end` was not taken either:
    /// [`StreamEvent::Writable`] comes when there is room. An end without data is always taken.
    pub fn write(&mut self, id: StreamId, data: Bytes, end: End) -> Result<usize, WriteError> {
        let buffer = self.limits.send_buffer.max(1) as usize;
        let stream = self.streams.get_mut(&id).ok_or(WriteError::Closed)?;
        let written = stream.sending.write(data, end, buffer);
        self.schedule.update(id, &mut stream.place, &stream.sending);
        match written {
            Ok(taken) => {
                self.unsent += taken;
                Ok(taken)
            }
            Err(stopped) => {
                self.retire(id);
                Err(stopped.map_or(WriteError::Closed, WriteError::Stopped))
            }
        }
    }

    /// The next bytes in order; `None` if there are none now.
    pub fn read(&mut self, now: Time, id: StreamId) -> Result<Option<Chunk>, ReadError> {
        let stream = self.streams.get_mut(&id).ok_or(ReadError::Closed)?;
        let receiving = &mut stream.receiving;
        match receiving.read(&mut self.held) {
            Taken::Nothing => {
                self.window.start(now);
                receiving.window.start(now);
                Ok(None)
            }
            Taken::Chunk(chunk) => {
                let len = chunk.data.len() as u64;
                self.window.on_used(len);
                if self.window.is_due() && !self.control.window {
                    self.window.tune(now, self.srtt);
                    self.control.window = true;
                }
                receiving.window.on_used(len);
                if receiving.window.is_due() && !receiving.window_due {
                    receiving.window.tune(now, self.srtt);
                    self.control.offer_window(id, receiving);
                }
                if chunk.end == End::Stream {
                    self.retire(id);
                }
                Ok(Some(chunk))
            }
            Taken::Reset(code) => {
                self.retire(id);
                Err(ReadError::Reset(code))
            }
            Taken::Over => Err(ReadError::Closed),
        }
    }

    /// Gives up the sending half: what is not in packets yet is dropped, and the peer is told.
    /// Does nothing if the half is over.
    pub fn reset(&mut self, id: StreamId, code: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        self.unsent -= stream.sending.queued();
        if stream.sending.reset() {
            self.control.push(wire::Say::Reset(id, code));
        }
        self.schedule.remove(id, &mut stream.place);
        self.retire(id);
    }

    /// Gives up the receiving half: what was not read is dropped, and the peer is asked to send no
    /// more. Does nothing if the half is over.
    pub fn stop(&mut self, id: StreamId, code: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.receiving.is_over() {
            return;
        }
        if stream.receiving.is_open() && !stream.receiving.is_whole() {
            self.control.push(wire::Say::Stop(id, code));
        }
        let dropped = stream.receiving.stop(&mut self.held);
        self.use_window(dropped);
        self.retire(id);
    }

    /// Moves the stream to another class; from now on, not for what is in packets.
    pub fn set_priority(&mut self, id: StreamId, priority: Priority) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.schedule.set_priority(id, &mut stream.place, priority);
        }
    }

    /// The next event. What has become stale in the meantime is left out.
    pub fn poll(&mut self) -> Option<StreamEvent> {
        let buffer = self.limits.send_buffer as usize;
        self.events.poll(&mut self.streams, buffer)
    }

    /// Bytes that are kept: not in packets yet, or not read yet.
    pub fn buffered(&self) -> usize {
        self.unsent + usize::try_from(self.held.bytes).unwrap_or(usize::MAX)
    }

    /// Streams that live.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// No stream lives.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes up a new stream; tells the peer at once of a window that was made much larger.
    fn insert_stream(&mut self, id: StreamId, priority: Priority) {
        let mut receiving = Receiving::new(self.told_window);
        receiving.window.grow(self.limits.stream_window);
        if receiving.window.is_due() {
            self.control.offer_window(id, &mut receiving);
        }
        let stream = Stream {
            place: Place::new(priority),
            news: News::default(),
            sending: Sending::new(self.peer.stream_window),
            receiving,
        };
        self.streams.insert(id, stream);
    }

    fn has_room(&self) -> bool {
        self.opened < self.peer.max_streams
            && self.ours < OURS_MAX
            && self.control.len() < CONTROL_MAX
    }

    fn offer_room(&mut self) {
        if self.has_room() {
            self.events.offer_room();
        }
    }

    /// Bytes of the connection's window were used, by nobody's reading.
    fn use_window(&mut self, bytes: u64) {
        self.window.on_used(bytes);
        self.control.window |= self.window.is_due();
    }

    /// Forgets the stream if both halves are over.
    fn retire(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.receiving.is_over() {
            self.control.withdraw_window(id, &mut stream.receiving);
        }
        if !stream.receiving.is_over() || !stream.sending.is_over() {
            return;
        }
        self.streams.remove(&id);
        self.events.prune(&self.streams);
        if id.opener() == self.role {
            self.ours -= 1;
            self.offer_room();
        } else {
            self.gone += 1;
            self.update_grant();
        }
    }

    /// How many streams the peer may open now.
    fn grant(&self) -> u32 {
        let grant = self.gone.saturating_add(self.limits.max_streams);
        self.granted.max(grant.min(ids::STREAMS_MAX))
    }

    /// Tells the peer of room for streams if that is much, or if it has little left.
    fn update_grant(&mut self) {
        let news = self.grant() - self.granted;
        let left = self.granted - self.theirs;
        let half = self.limits.max_streams / 2;
        self.control.streams |= news > 0 && (news >= half || left < half);
    }
}

impl Role {
    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[cfg(test)]
mod tests;
