//! The sending half of a stream: keeps what was written until it is put into packets.
//!
//! An end of a message that is written when its data are in packets already goes out in a frame
//! without data. If that were lost, the data behind it could be read before it comes, and two
//! messages would look like one: so it is said again in the packet of those data.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::End;
use super::queue::Queue;
use crate::frame::{END_MESSAGE, END_STREAM, FRAME_HEAD, STREAM_HEAD, write_stream_head};

/// The sending half; see the module.
#[derive(Debug)]
pub(super) struct Sending {
    state: State,
    queue: Queue<Piece>,
    queued: usize,
    /// Bytes put into packets.
    offset: u64,
    /// Bytes that the peer takes in all.
    limit: u64,
    /// A message has begun and its end is not written yet.
    in_message: bool,
    /// A part of a message is in packets, and its end is not.
    divided: bool,
    /// The last frame was an end of a message without data.
    bare: bool,
    /// A write took less than it was given.
    wants_room: bool,
    /// Bytes left of its turn; see the schedule.
    pub(super) turn: usize,
}

/// Bytes and what ends behind them: [`END_STREAM`], [`END_MESSAGE`]. Only the first
/// piece may be empty: an end that was written when its data were in packets already.
#[derive(Debug)]
struct Piece {
    data: Bytes,
    end: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The end is written, but not in a packet yet.
    Ending,
    /// The peer wants no more; the writer does not know yet.
    Stopped(u32),
    /// The end is in a packet, or it was given up.
    Over,
}

/// What a stream could send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sendable {
    /// Nothing, or its window is used up.
    Nothing,
    /// An end without data, which takes nothing of any window.
    Mark,
    /// Data.
    Data,
}

/// What one frame took.
pub(super) struct Put {
    /// Bytes of stream data.
    pub(super) data: usize,
    /// A message or the stream ends in the frame.
    pub(super) pushes: bool,
    /// And it began there too.
    pub(super) whole: bool,
}

/// Pieces that wait at most; many small writes count as a full buffer.
const PIECES_MAX: usize = 4_096;

impl Sending {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            state: State::Open,
            queue: Queue::default(),
            queued: 0,
            offset: 0,
            limit,
            in_message: false,
            divided: false,
            bare: false,
            wants_room: false,
            turn: 0,
        }
    }

    /// Takes as much of `data` as `buffer` allows, and the end if all was taken. `Err` holds the
    /// code of a STOP, or nothing if no more can be written.
    pub(super) fn write(
        &mut self,
        mut data: Bytes,
        end: End,
        buffer: usize,
    ) -> Result<usize, Option<u32>> {
        match self.state {
            State::Open => {}
            State::Stopped(code) => {
                self.state = State::Over;
                return Err(Some(code));
            }
            State::Ending | State::Over => return Err(None),
        }
        let mut room = buffer.saturating_sub(self.queued);
        if self.queue.len() >= PIECES_MAX {
            room = 0;
        }
        let whole = data.len() <= room;
        if !whole {
            self.wants_room = true;
            data.truncate(room);
        }
        let taken = data.len();
        let end = if whole { end } else { End::More };
        if taken > 0 {
            self.queued += taken;
            self.in_message = true;
            self.queue.push_back(Piece { data, end: 0 });
        }
        match end {
            End::More => {}
            End::Message => {
                if self.in_message {
                    self.in_message = false;
                    self.mark(END_MESSAGE);
                }
            }
            End::Stream => {
                self.state = State::Ending;
                self.mark(END_STREAM);
            }
        }
        Ok(taken)
    }

    /// Gives up what is not in packets yet. Says whether the peer has to know.
    pub(super) fn reset(&mut self) -> bool {
        let tells = matches!(self.state, State::Open | State::Ending);
        self.state = State::Over;
        self.clear();
        tells
    }

    /// The peer wants no more. Says whether the peer is to be told that no more comes.
    pub(super) fn on_stop(&mut self, code: u32) -> bool {
        match self.state {
            State::Open => self.state = State::Stopped(code),
            // Nobody will write again.
            State::Ending => self.state = State::Over,
            State::Stopped(_) | State::Over => return false,
        }
        self.clear();
        true
    }

    /// The peer takes `limit` bytes in all; less than before says nothing.
    pub(super) fn on_max_data(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Appends at most `room` bytes, of which `credit` may be data: one STREAM frame, and before
    /// it the end of a message that has to be said again. There must be room for
    /// [`Self::needs`] the data.
    pub(super) fn put(&mut self, id: u32, out: &mut BytesMut, room: usize, credit: u64) -> Put {
        let window = usize::try_from(credit.min(self.limit - self.offset)).unwrap_or(usize::MAX);
        let (mut end, mut pushes) = (0, false);
        let mut room = room.saturating_sub(STREAM_HEAD);
        let most = room.saturating_sub(STREAM_HEAD).min(window);
        if most > 0
            && self.queue.len() > 1
            && let Some(first) = self.queue.front()
            && first.data.is_empty()
        {
            self.queue.pop_front();
            self.bare = true;
            self.divided = false;
            pushes = true;
        }
        if std::mem::take(&mut self.bare) {
            if self.sendable() == Sendable::Mark {
                end = END_MESSAGE;
            } else {
                write_stream_head(out, id, self.offset, END_MESSAGE, 0);
                room = room.saturating_sub(STREAM_HEAD);
            }
        }
        let most = room.min(window);
        let head = out.len();
        write_stream_head(out, id, self.offset, 0, 0);
        let began = !self.divided;
        let mut data = 0;
        while let Some(piece) = self.queue.front_mut() {
            let part = piece.data.len().min(most - data);
            out.put_slice(&piece.data[..part]);
            data += part;
            if part < piece.data.len() {
                piece.data.advance(part);
                break;
            }
            let ends = piece.end;
            self.queue.pop_front();
            if ends != 0 {
                end |= ends;
                break;
            }
        }
        out[head + 1..head + FRAME_HEAD].copy_from_slice(&((13 + data) as u16).to_be_bytes());
        out[head + STREAM_HEAD - 1] = end;
        self.offset += data as u64;
        self.queued -= data;
        self.divided = end == 0;
        self.bare = data == 0 && end == END_MESSAGE;
        if end & END_STREAM != 0 {
            self.state = State::Over;
        }
        Put {
            data,
            pushes: pushes || end != 0,
            whole: end != 0 && began,
        }
    }

    /// Room that [`Self::put`] needs for `data` bytes of data.
    pub(super) fn needs(&self, data: usize) -> usize {
        let again = self.bare && self.sendable() == Sendable::Data;
        STREAM_HEAD + data + if again { STREAM_HEAD } else { 0 }
    }

    /// There is room again for a writer that had found too little. Says so once.
    pub(super) fn takes_room(&mut self, buffer: usize) -> bool {
        let takes = self.wants_room && self.has_room(buffer);
        if takes {
            self.wants_room = false;
        }
        takes
    }

    /// What could be sent as far as the stream's own window allows.
    pub(super) fn sendable(&self) -> Sendable {
        match self.queue.front() {
            None => Sendable::Nothing,
            Some(piece) if piece.data.is_empty() => Sendable::Mark,
            Some(_) if self.offset < self.limit => Sendable::Data,
            Some(_) => Sendable::Nothing,
        }
    }

    /// Bytes written and not in packets yet.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Writing would do something, if only say why not.
    pub(super) fn is_writable(&self, buffer: usize) -> bool {
        match self.state {
            State::Open => self.has_room(buffer),
            State::Stopped(_) => true,
            State::Ending | State::Over => false,
        }
    }

    /// The end is in a packet, or it was given up and the writer knows.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The code of a STOP that the writer does not know of.
    pub(super) fn stop_code(&self) -> Option<u32> {
        match self.state {
            State::Stopped(code) => Some(code),
            State::Open | State::Ending | State::Over => None,
        }
    }

    /// The last byte written is the last of something.
    fn mark(&mut self, end: u8) {
        if let Some(last) = self.queue.back_mut() {
            last.end |= end;
        } else {
            self.queue.push_back(Piece {
                data: Bytes::new(),
                end,
            });
        }
    }

    fn has_room(&self, buffer: usize) -> bool {
        self.queued <= buffer / 2 && self.queue.len() <= PIECES_MAX / 2
    }

    fn clear(&mut self) {
        self.queue = Queue::default();
        self.queued = 0;
        self.wants_room = false;
    }
}
