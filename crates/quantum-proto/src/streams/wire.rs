//! What streams say to the peer, and what it says to them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::events::News;
use super::ids::STREAMS_MAX;
use super::receiving::Receiving;
use super::sending::Sendable;
use super::{Priority, StreamId, Streams, Violation};
use crate::codes::close;
use crate::frame::{STREAM_HEAD, write_max_data, write_max_streams, write_reset, write_stop};

/// What [`Streams::fill`] has put into a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    /// Bytes appended, of whole source frames; 0 is nothing.
    pub bytes: usize,
    /// A message or a stream ends in there.
    pub pushes: bool,
    /// A whole message is in there, and nothing waits behind it that could be sent: a packet
    /// that no other is likely to follow.
    pub alone: bool,
}

/// Room in which [`Streams::fill`] always makes progress if [`Streams::has_data`].
pub const FILL_ROOM_MIN: usize = 2 * STREAM_HEAD + 1;

/// What is to be said besides data.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The connection's window has moved on.
    pub(super) window: bool,
    /// The peer may open more streams.
    pub(super) streams: bool,
    queue: VecDeque<Say>,
}

/// Something about one stream. At most one of each kind waits for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    Window(StreamId),
    Reset(StreamId, u32),
    Stop(StreamId, u32),
}

impl Control {
    pub(super) fn push(&mut self, say: Say) {
        self.queue.push_back(say);
    }

    /// The peer is to be told of the stream's window, if there is more to come.
    pub(super) fn offer_window(&mut self, id: StreamId, receiving: &mut Receiving) {
        if receiving.window_due || !receiving.expects_more() {
            return;
        }
        receiving.window_due = true;
        self.push(Say::Window(id));
    }

    /// The stream's window does not matter any more.
    pub(super) fn withdraw_window(&mut self, id: StreamId, receiving: &mut Receiving) {
        if std::mem::take(&mut receiving.window_due) {
            self.queue.retain(|say| *say != Say::Window(id));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn is_empty(&self) -> bool {
        !self.window && !self.streams && self.queue.is_empty()
    }
}

/// A frame that does not begin its packet carries at least so many bytes, or all that is left.
const FRAGMENT_MIN: usize = 64;

impl Streams {
    /// A STREAM frame.
    ///
    /// # Errors
    /// A [`Violation`] for data beyond a window, a stream beyond the limit or never opened, an
    /// end that moved, or more pieces out of order than anybody honest makes.
    pub fn on_stream(
        &mut self,
        id: u32,
        offset: u64,
        data: Bytes,
        fin: bool,
        message_end: bool,
    ) -> Result<(), Violation> {
        let len = data.len() as u64;
        let id = self.admit(id)?;
        let open = self.streams.get_mut(&id);
        let Some(stream) = open.filter(|stream| stream.receiving.is_open()) else {
            // The peer has counted these bytes, and nobody will read them.
            self.receive(len)?;
            self.use_window(len);
            return Ok(());
        };
        let ends = (fin, message_end);
        let fresh = stream
            .receiving
            .on_data(offset, data, ends, &mut self.held)?;
        if stream.receiving.is_readable() {
            self.events.push(id, &mut stream.news, News::READABLE);
        }
        if !stream.receiving.expects_more() {
            self.control.withdraw_window(id, &mut stream.receiving);
        }
        self.receive(fresh)
    }

    /// A MAX_DATA frame: of the connection, if `id` is 0.
    ///
    /// # Errors
    /// A [`Violation`] for a stream beyond the limit or never opened.
    pub fn on_max_data(&mut self, id: u32, limit: u64) -> Result<(), Violation> {
        if id == 0 {
            self.peer.connection_window = self.peer.connection_window.max(limit);
            return Ok(());
        }
        let id = self.admit(id)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sending.on_max_data(limit);
            self.schedule.update(id, &mut stream.place, &stream.sending);
        }
        Ok(())
    }

    /// A RESET frame: nothing more comes of the stream.
    ///
    /// # Errors
    /// A [`Violation`] for a stream beyond the limit or never opened.
    pub fn on_reset(&mut self, id: u32, code: u32) -> Result<(), Violation> {
        let id = self.admit(id)?;
        if let Some(stream) = self.streams.get_mut(&id)
            && let Some(dropped) = stream.receiving.on_reset(code, &mut self.held)
        {
            self.control.withdraw_window(id, &mut stream.receiving);
            let news = &mut stream.news;
            self.events.push(id, news, News::RESET);
            self.events.push(id, news, News::READABLE);
            self.use_window(dropped);
        }
        Ok(())
    }

    /// A STOP frame: the peer reads no more of the stream. It is told that no more comes.
    ///
    /// # Errors
    /// A [`Violation`] for a stream beyond the limit or never opened.
    pub fn on_stop(&mut self, id: u32, code: u32) -> Result<(), Violation> {
        let id = self.admit(id)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            let queued = stream.sending.queued();
            if stream.sending.on_stop(code) {
                self.unsent -= queued;
                self.schedule.remove(id, &mut stream.place);
                self.control.push(Say::Reset(id, code));
                self.events.push(id, &mut stream.news, News::STOPPED);
                self.retire(id);
            }
        }
        Ok(())
    }

    /// A MAX_STREAMS frame: so many streams may we have opened since the beginning.
    ///
    /// # Errors
    /// A [`Violation`] for more streams than there are names.
    pub fn on_max_streams(&mut self, count: u32) -> Result<(), Violation> {
        if count > STREAMS_MAX {
            return Err(Violation {
                code: close::STREAM_LIMIT,
                text: "more streams granted than have names",
            });
        }
        self.peer.max_streams = self.peer.max_streams.max(count);
        self.offer_room();
        Ok(())
    }

    /// Appends whole source frames, at most `room` bytes: what is to be said besides data, then
    /// data by priority. What was appended is not kept: the caller sends it until it arrives.
    pub fn fill(&mut self, out: &mut BytesMut, room: usize) -> Filled {
        let begin = out.len();
        self.fill_control(out, room);
        let mut filled = Filled::default();
        let mut whole = false;
        while let Some(id) = self.next_sender() {
            let left = room.saturating_sub(out.len() - begin);
            let Some(stream) = self.streams.get_mut(&id) else {
                break;
            };
            let sending = &mut stream.sending;
            let fragment = match (sending.sendable(), out.len() > begin) {
                (Sendable::Mark, _) => 0,
                (_, false) => 1,
                (_, true) => sending.queued().min(FRAGMENT_MIN),
            };
            if left < sending.needs(fragment) {
                break;
            }
            if sending.turn == 0 {
                sending.turn = room;
            }
            let credit = self.peer.connection_window.saturating_sub(self.sent);
            let before = out.len();
            let put = sending.put(id.get(), out, left, credit);
            sending.turn = sending.turn.saturating_sub(out.len() - before);
            self.sent += put.data as u64;
            self.unsent -= put.data;
            filled.pushes |= put.pushes;
            whole |= put.whole;
            if sending.takes_room(self.limits.send_buffer as usize) {
                self.events.push(id, &mut stream.news, News::WRITABLE);
            }
            let turn_over = sending.turn == 0;
            self.schedule.update(id, &mut stream.place, &stream.sending);
            if turn_over {
                self.schedule.rotate(id, &stream.place);
            }
            self.retire(id);
        }
        filled.bytes = out.len() - begin;
        filled.alone = whole && !self.has_data();
        filled
    }

    /// Something could be sent now, as far as the peer's windows allow.
    pub fn has_data(&self) -> bool {
        !self.control.is_empty() || self.schedule.has_any(self.credit())
    }

    /// Something waits to be sent, and only the peer's windows hold it back.
    pub fn blocked(&self) -> bool {
        self.unsent > 0 && !self.has_data()
    }

    fn fill_control(&mut self, out: &mut BytesMut, room: usize) {
        let end = out.len() + room;
        if self.control.window && end - out.len() >= MAX_DATA_LEN {
            self.control.window = false;
            write_max_data(out, 0, self.window.tell());
        }
        if self.control.streams && end - out.len() >= MAX_STREAMS_LEN {
            self.control.streams = false;
            self.granted = self.grant();
            write_max_streams(out, self.granted);
        }
        let before = self.control.len();
        while let Some(say) = self.control.queue.front().copied() {
            let len = match say {
                Say::Window(_) => MAX_DATA_LEN,
                Say::Reset(..) | Say::Stop(..) => RESET_LEN,
            };
            if end - out.len() < len {
                break;
            }
            self.control.queue.pop_front();
            match say {
                Say::Window(id) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.receiving.window_due = false;
                        write_max_data(out, id.get(), stream.receiving.window.tell());
                    }
                }
                Say::Reset(id, code) => write_reset(out, id.get(), code),
                Say::Stop(id, code) => write_stop(out, id.get(), code),
            }
        }
        if self.control.len() < before {
            self.offer_room();
        }
    }

    /// Who sends next: whose turn it is, or while the connection's window is used up, whoever
    /// has only an end to send.
    fn next_sender(&self) -> Option<StreamId> {
        if self.credit() > 0 {
            return self.schedule.first();
        }
        if self.schedule.marks() == 0 {
            return None;
        }
        self.schedule.iter().find(|id| {
            self.streams
                .get(id)
                .is_some_and(|stream| stream.sending.sendable() == Sendable::Mark)
        })
    }

    fn credit(&self) -> u64 {
        self.peer.connection_window.saturating_sub(self.sent)
    }

    /// Checks that the peer may speak of stream `id`, and opens it if it is new.
    fn admit(&mut self, id: u32) -> Result<StreamId, Violation> {
        let Some(id) = StreamId::from_wire(id) else {
            return Err(Violation {
                code: close::STREAM_STATE,
                text: "stream 0 carries no data",
            });
        };
        if id.opener() == self.role {
            if id.index() > self.opened {
                return Err(Violation {
                    code: close::STREAM_STATE,
                    text: "the stream was never opened",
                });
            }
            return Ok(id);
        }
        if id.index() > self.granted {
            return Err(Violation {
                code: close::STREAM_LIMIT,
                text: "more streams than allowed",
            });
        }
        while !self.closed && self.theirs < id.index() {
            self.theirs += 1;
            if let Some(id) = StreamId::nth(self.role.other(), self.theirs) {
                self.insert_stream(id, Priority::default());
                if let Some(stream) = self.streams.get_mut(&id) {
                    self.events.push(id, &mut stream.news, News::OPENED);
                }
            }
        }
        Ok(id)
    }

    /// Counts bytes against the connection's window.
    fn receive(&mut self, bytes: u64) -> Result<(), Violation> {
        self.received += bytes;
        if self.received > self.window.told() {
            return Err(Violation {
                code: close::FLOW_CONTROL,
                text: "more data than the connection allows",
            });
        }
        Ok(())
    }
}

const MAX_DATA_LEN: usize = 15;
const MAX_STREAMS_LEN: usize = 7;
const RESET_LEN: usize = 11;
