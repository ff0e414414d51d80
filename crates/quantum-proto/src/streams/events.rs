//! What the application has not been told yet.
//!
//! Each stream stands in the queue at most once, with a set of what happened: so nothing piles up
//! however long nobody asks.

use std::collections::VecDeque;

use super::ids::Map;
use super::{Stream, StreamEvent, StreamId};

/// The queue of streams with news.
#[derive(Debug, Default)]
pub(super) struct Events {
    queue: VecDeque<StreamId>,
    /// `open` was refused for want of room.
    wants_room: bool,
    room: bool,
}

/// A set of what happened to a stream; it stands in the queue unless this is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News(u8);

impl News {
    pub(super) const OPENED: Self = Self(1);
    pub(super) const READABLE: Self = Self(2);
    pub(super) const WRITABLE: Self = Self(4);
    pub(super) const RESET: Self = Self(8);
    pub(super) const STOPPED: Self = Self(16);

    /// Forgets `what`; the stream keeps its place in the queue.
    pub(super) fn forget(&mut self, what: Self) {
        if self.0 != 0 {
            self.0 = (self.0 & !what.0) | QUEUED;
        }
    }

    fn take(&mut self, what: Self) -> bool {
        let had = self.0 & what.0 != 0;
        self.0 &= !what.0;
        had
    }
}

/// In the queue, perhaps for nothing.
const QUEUED: u8 = 128;

impl Events {
    /// `what` happened to stream `id`.
    pub(super) fn push(&mut self, id: StreamId, news: &mut News, what: News) {
        if news.0 == 0 {
            self.queue.push_back(id);
        }
        news.0 |= what.0 | QUEUED;
    }

    /// `open` was refused.
    pub(super) fn want_room(&mut self) {
        self.wants_room = true;
    }

    /// `open` would work: whoever was refused is told.
    pub(super) fn offer_room(&mut self) {
        if self.wants_room {
            self.wants_room = false;
            self.room = true;
        }
    }

    /// Streams that have gone leave the queue, unless that is short anyway.
    pub(super) fn prune(&mut self, streams: &Map<Stream>) {
        if self.queue.len() > 2 * streams.len() + 64 {
            self.queue.retain(|id| streams.contains_key(id));
        }
    }

    /// The next event. News that have become stale are left out.
    pub(super) fn poll(&mut self, streams: &mut Map<Stream>, buffer: usize) -> Option<StreamEvent> {
        if std::mem::take(&mut self.room) {
            return Some(StreamEvent::Room);
        }
        while let Some(id) = self.queue.front().copied() {
            if let Some(stream) = streams.get_mut(&id)
                && let Some(event) = stream.poll(id, buffer)
            {
                return Some(event);
            }
            if let Some(stream) = streams.get_mut(&id) {
                stream.news = News::default();
            }
            self.queue.pop_front();
        }
        None
    }
}

#[cfg(test)]
impl Events {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Stream {
    fn poll(&mut self, id: StreamId, buffer: usize) -> Option<StreamEvent> {
        if self.news.take(News::OPENED) {
            return Some(StreamEvent::Opened(id));
        }
        if self.news.take(News::RESET)
            && let Some(code) = self.receiving.reset_code()
        {
            return Some(StreamEvent::Reset(id, code));
        }
        if self.news.take(News::STOPPED)
            && let Some(code) = self.sending.stop_code()
        {
            return Some(StreamEvent::Stopped(id, code));
        }
        if self.news.take(News::READABLE) && self.receiving.is_readable() {
            return Some(StreamEvent::Readable(id));
        }
        if self.news.take(News::WRITABLE) && self.sending.is_writable(buffer) {
            return Some(StreamEvent::Writable(id));
        }
        None
    }
}
