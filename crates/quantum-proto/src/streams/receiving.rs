//! The receiving half of a stream: puts pieces in order, keeps them until they are read.
//!
//! **Memory.** What is in order and not read yet lies in `ready`, then in `tail`; what came too
//! early lies in `islands`. Few and large pieces in order are kept as they came, since a reader
//! is about to take them; everything else is copied, because a piece of a datagram keeps the
//! whole datagram in memory. So a stream costs its unread bytes and little more, whatever the
//! peer's frames look like. Islands and marks are counted for the whole connection in [`Held`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};

use super::queue::Queue;
use super::window::Window;
use super::{Chunk, End, Violation};
use crate::codes::close;

/// What all streams of a connection hold for their readers.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Bytes not read yet.
    pub(super) bytes: u64,
    /// Pieces behind gaps.
    pub(super) islands: usize,
    /// Ends of messages not read yet.
    pub(super) marks: usize,
}

/// The receiving half; see the module.
#[derive(Debug)]
pub(super) struct Receiving {
    state: State,
    pub(super) window: Window,
    /// The peer is about to be told of a larger window.
    pub(super) window_due: bool,
    /// Bytes read.
    read: u64,
    /// Bytes received without a gap.
    next: u64,
    /// Bytes received, each counted once.
    received: u64,
    /// The end of the data farthest from the beginning.
    highest: u64,
    /// Where the stream ends, once that is known.
    end: Option<u64>,
    ready: Queue<Bytes>,
    tail: BytesMut,
    islands: BTreeMap<u64, BytesMut>,
    /// Ends of messages that were not read yet, as far as they came in order.
    marks: Queue<u64>,
    /// Those that came out of order; one may be among the others too.
    marks_apart: BTreeSet<u64>,
    /// The last end of a message that was read; 0 is none, so no message is empty.
    marked: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The peer has given it up; the reader does not know yet.
    Reset(u32),
    /// Read to its end, or given up.
    Over,
}

/// What comes of a read.
pub(super) enum Taken {
    /// The next bytes.
    Chunk(Chunk),
    /// The peer gave the stream up.
    Reset(u32),
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Over,
}

/// Pieces below this size are copied.
const KEEP_FROM: usize = 256;
/// So many pieces of datagrams are kept as they came; further ones are copied.
const KEEP_PIECES: usize = 8;
/// Nothing is kept as it came while the connection holds so many unread bytes.
const KEEP_BELOW: u64 = 256 << 10;
/// Copies are put together up to this size.
const BLOCK: usize = 16 << 10;
/// Islands of a connection. A loss makes one per stream whose data follow in flight.
pub(super) const ISLANDS_MAX: usize = 32_768;
/// Unread ends of messages of a connection, 8 bytes each.
pub(super) const MARKS_MAX: usize = 262_144;

impl Receiving {
    pub(super) fn new(window: u32) -> Self {
        Self {
            state: State::Open,
            window: Window::new(window),
            window_due: false,
            read: 0,
            next: 0,
            received: 0,
            highest: 0,
            end: None,
            ready: Queue::default(),
            tail: BytesMut::new(),
            islands: BTreeMap::new(),
            marks: Queue::default(),
            marks_apart: BTreeSet::new(),
            marked: 0,
        }
    }

    /// Takes `data` that stand at `offset`. Returns how many of the bytes are new.
    pub(super) fn on_data(
        &mut self,
        offset: u64,
        data: Bytes,
        (fin, message_end): (bool, bool),
        held: &mut Held,
    ) -> Result<u64, Violation> {
        let end = self.check(offset, data.len(), fin)?;
        self.highest = self.highest.max(end);
        let before = self.received;
        if offset > self.next {
            self.put_ahead(offset, data, held);
        } else if end > self.next {
            self.put_next(data, self.next - offset, held);
        }
        if message_end {
            self.put_mark(end, held);
        }
        let fresh = self.received - before;
        held.bytes += fresh;
        if held.islands > ISLANDS_MAX {
            return Err(Violation {
                code: close::VIOLATION,
                text: "too many pieces out of order",
            });
        }
        if held.marks > MARKS_MAX {
            return Err(Violation {
                code: close::VIOLATION,
                text: "too many messages unread",
            });
        }
        Ok(fresh)
    }

    /// The peer has given the stream up. Returns how many unread bytes were dropped, or nothing
    /// if the reader need not know: the stream is over, or has arrived whole.
    pub(super) fn on_reset(&mut self, code: u32, held: &mut Held) -> Option<u64> {
        if !self.is_open() || self.is_whole() {
            return None;
        }
        self.state = State::Reset(code);
        Some(self.clear(held))
    }

    /// The next bytes in order.
    pub(super) fn read(&mut self, held: &mut Held) -> Taken {
        match self.state {
            State::Open => {}
            State::Reset(code) => {
                self.state = State::Over;
                return Taken::Reset(code);
            }
            State::Over => return Taken::Over,
        }
        let mark = self.mark();
        let data = if mark == Some(self.read) {
            // The mark came after its bytes had been read.
            Bytes::new()
        } else if let Some(data) = self.take_ready(mark) {
            data
        } else if self.end == Some(self.read) {
            Bytes::new()
        } else {
            return Taken::Nothing;
        };
        let len = data.len() as u64;
        self.read += len;
        held.bytes -= len;
        let end = if mark == Some(self.read) {
            self.take_mark(held);
            End::Message
        } else if self.end == Some(self.read) {
            self.state = State::Over;
            End::Stream
        } else {
            End::More
        };
        Taken::Chunk(Chunk { data, end })
    }

    /// The reader wants no more. Returns how many unread bytes were dropped.
    pub(super) fn stop(&mut self, held: &mut Held) -> u64 {
        self.state = State::Over;
        self.clear(held)
    }

    /// Nothing can be read any more, and the reader knows.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Neither read to its end nor given up by anyone.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Everything up to the end is here.
    pub(super) fn is_whole(&self) -> bool {
        self.end == Some(self.next)
    }

    /// The peer may send bytes that it has not sent, as far as we know.
    pub(super) fn expects_more(&self) -> bool {
        self.is_open() && self.end.is_none()
    }

    /// A read would say something.
    pub(super) fn is_readable(&self) -> bool {
        match self.state {
            State::Open => {
                self.next > self.read
                    || self.end == Some(self.read)
                    || self.mark() == Some(self.read)
            }
            State::Reset(_) => true,
            State::Over => false,
        }
    }

    /// The code of a reset that the reader does not know of.
    pub(super) fn reset_code(&self) -> Option<u32> {
        match self.state {
            State::Reset(code) => Some(code),
            State::Open | State::Over => None,
        }
    }

    /// Checks a piece against the rules; returns its end.
    fn check(&mut self, offset: u64, len: usize, fin: bool) -> Result<u64, Violation> {
        let Some(end) = offset.checked_add(len as u64) else {
            return Err(Violation {
                code: close::FRAME,
                text: "stream data beyond the largest offset",
            });
        };
        if end > self.window.told() {
            return Err(Violation {
                code: close::FLOW_CONTROL,
                text: "more stream data than allowed",
            });
        }
        let moved = match self.end {
            Some(known) => end > known || (fin && end != known),
            None => fin && end < self.highest,
        };
        if moved {
            return Err(Violation {
                code: close::FINAL_SIZE,
                text: "the end of a stream moved",
            });
        }
        if fin {
            self.end = Some(end);
        }
        Ok(end)
    }

    /// Appends what follows the first `known` bytes of `data`, and the islands that it reaches.
    fn put_next(&mut self, mut data: Bytes, known: u64, held: &mut Held) {
        let _ = data.split_to(known as usize);
        let len = data.len() as u64;
        self.next += len;
        self.received += len;
        let few = self.ready.len() < KEEP_PIECES && held.bytes < KEEP_BELOW;
        let keeps = few && data.len() >= KEEP_FROM;
        self.push_ready(data, keeps);
        while let Some(island) = self.islands.first_entry() {
            if *island.key() > self.next {
                break;
            }
            let (start, mut island) = island.remove_entry();
            held.islands -= 1;
            // What the new data cover of it has been counted twice.
            let covered = (self.next - start).min(island.len() as u64);
            self.received -= covered;
            let _ = island.split_to(covered as usize);
            if !island.is_empty() {
                self.next += island.len() as u64;
                let keeps = island.len() >= BLOCK / 4;
                self.push_ready(island.freeze(), keeps);
            }
        }
    }

    fn push_ready(&mut self, data: Bytes, keeps: bool) {
        if keeps {
            self.end_tail();
            self.ready.push_back(data);
            return;
        }
        self.tail.extend_from_slice(&data);
        if self.tail.len() >= BLOCK {
            self.end_tail();
        }
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ready
                .push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// The next bytes, not beyond `mark`.
    fn take_ready(&mut self, mark: Option<u64>) -> Option<Bytes> {
        if self.ready.is_empty() {
            self.end_tail();
        }
        let first = self.ready.front_mut()?;
        match mark {
            Some(mark) if first.len() as u64 > mark - self.read => {
                Some(first.split_to((mark - self.read) as usize))
            }
            _ => self.ready.pop_front(),
        }
    }

    /// Copies what is new of `data`, which stand at `offset` behind a gap.
    fn put_ahead(&mut self, offset: u64, data: Bytes, held: &mut Held) {
        let end = offset + data.len() as u64;
        let mut at = offset;
        while at < end {
            let before = self.islands.range_mut(..=at).next_back();
            let mut joins = None;
            if let Some((start, island)) = before {
                let island_end = start + island.len() as u64;
                if island_end > at {
                    at = island_end;
                    continue;
                }
                if island_end == at && island.len() < BLOCK {
                    joins = Some(*start);
                }
            }
            let next = self.islands.range(at..end).next();
            let until = next.map_or(end, |(start, _)| *start);
            let part = &data[(at - offset) as usize..(until - offset) as usize];
            let key = joins.unwrap_or(at);
            let island = self.islands.entry(key).or_insert_with(|| {
                held.islands += 1;
                BytesMut::new()
            });
            island.extend_from_slice(part);
            self.received += part.len() as u64;
            at = until;
        }
    }

    /// A message ends at `at`. Where one has ended already, or nothing stands before, that says
    /// nothing.
    fn put_mark(&mut self, at: u64, held: &mut Held) {
        if at <= self.marked || at < self.read {
            return;
        }
        let last = self.marks.back_mut().copied().unwrap_or(0);
        let fresh = if at > last && at <= self.next && self.marks_apart.is_empty() {
            self.marks.push_back(at);
            true
        } else {
            at != last && self.marks_apart.insert(at)
        };
        held.marks += usize::from(fresh);
    }

    /// Where the next message ends, as far as known.
    fn mark(&self) -> Option<u64> {
        let apart = self.marks_apart.first().copied();
        match (self.marks.front().copied(), apart) {
            (Some(first), Some(other)) => Some(first.min(other)),
            (first, other) => first.or(other),
        }
    }

    /// The reader is told of the end of a message where it stands.
    fn take_mark(&mut self, held: &mut Held) {
        self.marked = self.read;
        if self.marks.front() == Some(&self.read) {
            self.marks.pop_front();
            held.marks -= 1;
        }
        if self.marks_apart.remove(&self.read) {
            held.marks -= 1;
        }
    }

    /// Drops everything; returns how many unread bytes that were.
    fn clear(&mut self, held: &mut Held) -> u64 {
        let unread = self.received - self.read;
        self.received = self.read;
        held.bytes -= unread;
        held.islands -= self.islands.len();
        held.marks -= self.marks.len() + self.marks_apart.len();
        self.ready = Queue::default();
        self.tail = BytesMut::new();
        self.islands = BTreeMap::new();
        self.marks = Queue::default();
        self.marks_apart = BTreeSet::new();
        unread
    }
}
